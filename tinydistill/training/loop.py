"""The training loop: one for pre-training, distillation and fine-tuning, which differ in their stage only.

Everything that happens at step s is a function of (seed, s): which rows, which masks, which dropout, which modules. So
a run that was stopped, or killed, goes on to the same bits from the parameters, the moments, what the model has learned
besides, and s.
"""

import contextlib
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Callable

from tinydistill.backend import asarray, to_host, xp_of
from tinydistill.errors import Problem, Stopped
from tinydistill.nn.module import load_parameters
from tinydistill.training import optimizers, schedules
from tinydistill.training.step import batch_gradient, frozen

METHOD = "method."                                  # before the names of parameters that belong to the method
STATE = "state."                                    # before the names of what a model has learned, but not by a gradient


@dataclass(frozen=True)
class Phase:
    """A stage with all that it runs on. prepare(student): the student as this stage trains it, with the head it reads."""

    stage: object
    recipe: object
    batch_at: Callable
    teacher: object = None
    prepare: Callable = staticmethod(lambda student: student)

    def begin(self, student):
        """The model that this stage trains."""
        student = self.prepare(student)
        return self.stage.before(student, self.teacher) if self.stage.before else student

    def end(self, model):
        """The student that comes out of the model that this stage has trained."""
        return self.stage.after(model) if self.stage.after else model


def train_phases(student, phases, **settings):
    """Train `student` through all phases, one after the other. Returns (the student at the end, the last metrics of each).

    settings: those of `train`. Steps are counted through; every phase begins with moments and a schedule of its own.
    """
    before, logged = 0, []
    for phase in phases:
        model = phase.begin(student)
        logged.append(train(model, phase.stage, phase.recipe, phase.batch_at, teacher=phase.teacher, before=before,
                            **settings))
        student, before = phase.end(model), before + phase.recipe.steps
    return student, logged


def train(student, stage, recipe, batch_at, *, teacher=None, projections=None, directory=None, before=0, seed=0, shards=1,
          threads=1, save_every=100, log_every=10, stop=None, quiet=False):
    """Train `student` through `stage` by `recipe`, from the newest checkpoint of `directory` if it holds one.

    batch_at(step) is the global batch of a step. projections: the method's learned maps, trained along. directory: a
    RunDirectory, or None to keep nothing. before: the steps of the stages before this one, so that a run counts on
    through its stages; a stage that a checkpoint shows to be done is not done again. stop: an object whose `requested`
    is the number of a signal that came. Returns the last logged metrics.

    Learned maps are always trained; of the student, what the stage trains. A checkpoint holds all of it. What a pass
    observes goes to the student's `learn(observed)`, once a step, and what it makes of that, its `state` {name: array},
    is kept in checkpoints too; models that learn by gradients alone have neither.
    Raises: Problem where a term is not finite; Stopped after a signal, with everything saved.
    """
    own, config = student.named_parameters(), student.config
    maps = {METHOD + name: p for name, p in (projections.named_parameters() if projections else {}).items()}
    trained = stage.trained(own, config)
    parameters, kept = trained | maps, _Kept(own | maps, student)
    optimizer = optimizers.make(parameters, recipe)
    schedule = schedules.get(recipe.schedule)
    decay = {} if recipe.layer_decay == 1 else schedules.layerwise_decay(trained, config.layers, recipe.layer_decay)
    first = _restore(directory, kept, optimizer, before, recipe.steps) if directory else 0
    metrics = {}
    with _workers(threads) as executor, _progress(stage.name, first, recipe.steps, quiet) as bar, \
            frozen([p for name, p in own.items() if name not in trained]):
        tokens, since = 0, time.perf_counter()
        for step in range(first, recipe.steps):
            batch, weights, done = batch_at(step), stage.weights(step, recipe.steps), before + step + 1
            decisions = stage.decisions(step, recipe.steps, seed, config) if stage.decisions else None
            values, gradients, observed = batch_gradient(
                student, teacher, stage, batch, parameters, seed=seed, step=before + step, shards=shards,
                executor=executor, weights=weights, projections=projections, decisions=decisions)
            norm = optimizers.global_norm(gradients)
            numbers = {name: float(value) for name, value in values.items()}
            _require_finite(done, numbers | {"gradient_norm": float(norm)}, directory)
            learning_rate = recipe.learning_rate * schedule(step, recipe.steps, recipe.warmup)
            if recipe.clip and not optimizer.clips_itself:
                gradients = optimizers.clipped(gradients, norm, recipe.clip)
            factors = stage.factors(step, recipe.steps, trained, config)
            optimizer.update(gradients, learning_rate, {name: f * decay.get(name, 1.0) for name, f in factors.items()})
            if hasattr(student, "learn"):
                student.learn(observed)

            tokens += int(batch.mask.sum())
            bar.update()
            last = step + 1 == recipe.steps
            if last or (step + 1) % log_every == 0:
                now = time.perf_counter()
                weighted = sum(weight * numbers[term.name] for weight, (_, term) in zip(weights, stage.terms))
                metrics = {**numbers, "loss": weighted,
                           "learning_rate": learning_rate, "gradient_norm": float(norm),
                           "tokens_per_second": round(tokens / (now - since), 1), "seconds": round(now - since, 3)}
                tokens, since = 0, now
                bar.set_postfix({name: f"{value:.4f}" for name, value in numbers.items()})
                if directory:
                    directory.log(done, **metrics)
            stopped = stop is not None and stop.requested
            if directory and (last or stopped or (step + 1) % save_every == 0):
                _save(directory, done, kept, optimizer)
            if stopped and not last:
                raise Stopped(f"stopped at step {step + 1} of {recipe.steps}"
                              + (f", saved in {directory.path}: go on with --resume" if directory else ""), stopped)
    return metrics


class _Kept:
    """What a checkpoint holds besides moments: every parameter, trained or not, and the model's state."""

    def __init__(self, parameters, model):
        self.parameters, self.model = parameters, model

    def arrays(self):
        state = getattr(self.model, "state", {})
        return {name: to_host(p.array) for name, p in self.parameters.items()} | {
            STATE + name: to_host(xp_of(array).asarray(array)) for name, array in state.items()}    # scalars, too

    def load(self, arrays):
        state = {name: array for name, array in arrays.items() if name.startswith(STATE)}
        load_parameters(self.parameters, {name: array for name, array in arrays.items() if name not in state})
        if state:
            like = next(iter(self.parameters.values())).array
            self.model.state = {name.removeprefix(STATE): asarray(array.copy(), like) for name, array in state.items()}


def _save(directory, step, kept, optimizer):
    moments, counts = optimizer.state()
    arrays = {f"model/{name}": array for name, array in kept.arrays().items()}
    directory.save(step, arrays | {f"optimizer/{name}": array for name, array in moments.items()},
                   {"optimizer_steps": counts})


def _restore(directory, kept, optimizer, before, steps):
    """The number of this stage's steps that are done, with parameters, state and moments as they were after them.

    A checkpoint of an earlier stage's end leaves this one at its start. One of a later stage leaves this one done; its
    parameters are that stage's to restore.
    """
    found = directory.load_latest()
    if found is None or found[0] <= before:
        return 0
    step, arrays, meta = found
    if step > before + steps:
        return steps
    kept.load({name.removeprefix("model/"): array for name, array in arrays.items() if name.startswith("model/")})
    optimizer.load({name.removeprefix("optimizer/"): a for name, a in arrays.items() if name.startswith("optimizer/")},
                   meta["optimizer_steps"])
    return step - before


def _require_finite(step, numbers, directory):
    for name, number in numbers.items():
        if not math.isfinite(number):
            kept = f"; the last good checkpoint is kept in {directory.path}" if directory else ""
            raise Problem(f"step {step}: {name} is {number}{kept}. Lower --lr or lengthen --warmup")


def _workers(threads):
    return ThreadPoolExecutor(threads) if threads > 1 else contextlib.nullcontext()


def _progress(name, first, steps, quiet):
    from tqdm import tqdm
    return tqdm(total=steps, initial=first, desc=name, unit="step", disable=quiet)

