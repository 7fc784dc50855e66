"""The training loop: one for pre-training, distillation and fine-tuning, which differ in their stage only.

Everything that happens at step s is a function of (seed, s): which rows, which masks, which dropout. So a run that was
stopped, or killed, goes on to the same bits from the parameters, the moments and s.
"""

import contextlib
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Callable

from tinydistill.backend import to_host
from tinydistill.errors import Problem, Stopped
from tinydistill.nn.module import load_parameters
from tinydistill.training import optimizers, schedules
from tinydistill.training.step import batch_gradient

METHOD = "method."                                  # before the names of parameters that belong to the method


@dataclass(frozen=True)
class Phase:
    """A stage with all that it runs on. prepare(student): the student as this stage trains it, with the head it reads."""

    stage: object
    recipe: object
    batch_at: Callable
    teacher: object = None
    prepare: Callable = staticmethod(lambda student: student)


def train_phases(student, phases, **settings):
    """Train `student` through all phases, one after the other. Returns (the student at the end, the last metrics of each).

    settings: those of `train`. Steps are counted through; every phase begins with moments and a schedule of its own.
    """
    before, logged = 0, []
    for phase in phases:
        student = phase.prepare(student)
        logged.append(train(student, phase.stage, phase.recipe, phase.batch_at, teacher=phase.teacher, before=before,
                            **settings))
        before += phase.recipe.steps
    return student, logged


def train(student, stage, recipe, batch_at, *, teacher=None, projections=None, directory=None, before=0, seed=0, shards=1,
          threads=1, save_every=100, log_every=10, stop=None, quiet=False):
    """Train `student` through `stage` by `recipe`, from the newest checkpoint of `directory` if it holds one.

    batch_at(step) is the global batch of a step. projections: the method's learned maps, trained along. directory: a
    RunDirectory, or None to keep nothing. before: the steps of the stages before this one, so that a run counts on
    through its stages; a stage that a checkpoint shows to be done is not done again. stop: an object whose `requested`
    is the number of a signal that came. Returns the last logged metrics.
    Raises: Problem where a term is not finite; Stopped after a signal, with everything saved.
    """
    learned = projections.named_parameters() if projections else {}
    parameters = student.named_parameters() | {METHOD + name: p for name, p in learned.items()}
    optimizer = optimizers.make(parameters, recipe)
    schedule = schedules.get(recipe.schedule)
    multipliers = None if recipe.layer_decay == 1 else schedules.layerwise_decay(parameters, student.config.layers,
                                                                                 recipe.layer_decay)
    first = _restore(directory, parameters, optimizer, before, recipe.steps) if directory else 0
    metrics = {}
    with _workers(threads) as executor, _progress(stage.name, first, recipe.steps, quiet) as bar:
        tokens, since = 0, time.perf_counter()
        for step in range(first, recipe.steps):
            batch, weights, done = batch_at(step), stage.weights(step, recipe.steps), before + step + 1
            values, gradients = batch_gradient(student, teacher, stage, batch, parameters, seed=seed, step=before + step,
                                               shards=shards, executor=executor, weights=weights, projections=projections)
            norm = optimizers.global_norm(gradients)
            numbers = {name: float(value) for name, value in values.items()}
            _require_finite(done, numbers | {"gradient_norm": float(norm)}, directory)
            learning_rate = recipe.learning_rate * schedule(step, recipe.steps, recipe.warmup)
            if recipe.clip and not optimizer.clips_itself:
                gradients = optimizers.clipped(gradients, norm, recipe.clip)
            optimizer.update(gradients, learning_rate, multipliers)

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
                _save(directory, done, parameters, optimizer)
            if stopped and not last:
                raise Stopped(f"stopped at step {step + 1} of {recipe.steps}"
                              + (f", saved in {directory.path}: go on with --resume" if directory else ""), stopped)
    return metrics


def _save(directory, step, parameters, optimizer):
    moments, counts = optimizer.state()
    arrays = {f"model/{name}": to_host(parameter.array) for name, parameter in parameters.items()}
    directory.save(step, arrays | {f"optimizer/{name}": array for name, array in moments.items()},
                   {"optimizer_steps": counts})


def _restore(directory, parameters, optimizer, before, steps):
    """The number of this stage's steps that are done, with parameters and moments as they were after them.

    A checkpoint of an earlier stage's end leaves this one at its start. One of a later stage leaves this one done; its
    parameters are that stage's to restore.
    """
    found = directory.load_latest()
    if found is None or found[0] <= before:
        return 0
    step, arrays, meta = found
    if step > before + steps:
        return steps
    load_parameters(parameters, {n.removeprefix("model/"): a for n, a in arrays.items() if n.startswith("model/")})
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

