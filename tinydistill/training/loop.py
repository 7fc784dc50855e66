"""The training loop: one for pre-training, distillation and fine-tuning, which differ in their stage only.

Everything that happens at step s is a function of (seed, s): which rows, which masks, which dropout. So a run that was
stopped, or killed, goes on to the same bits from the parameters, the moments and s.
"""

import contextlib
import math
import time
from concurrent.futures import ThreadPoolExecutor

from tinydistill.errors import Problem, Stopped
from tinydistill.training.optimizers import AdamW, clipped, global_norm
from tinydistill.training.schedules import linear
from tinydistill.training.step import batch_gradient


def train(student, stage, recipe, batch_at, *, teacher=None, directory=None, seed=0, shards=1, threads=1, save_every=100,
          log_every=10, stop=None, quiet=False):
    """Train `student` through `stage` by `recipe`, from the newest checkpoint of `directory` if it holds one.

    batch_at(step) is the global batch of a step. directory: a RunDirectory, or None to keep nothing. stop: an object
    whose `requested` is the number of a signal that came. Returns the last logged metrics.
    Raises: Problem where a term is not finite; Stopped after a signal, with everything saved.
    """
    parameters = student.named_parameters()
    optimizer = AdamW(parameters, recipe)
    first = _restore(directory, student, optimizer) if directory else 0
    metrics = {}
    with _workers(threads) as executor, _progress(stage.name, first, recipe.steps, quiet) as bar:
        tokens, since = 0, time.perf_counter()
        for step in range(first, recipe.steps):
            batch = batch_at(step)
            values, gradients = batch_gradient(student, teacher, stage, batch, parameters,
                                               seed=seed, step=step, shards=shards, executor=executor)
            norm = global_norm(gradients)
            numbers = {name: float(value) for name, value in values.items()}
            _require_finite(step + 1, numbers | {"gradient_norm": float(norm)}, directory)
            learning_rate = recipe.learning_rate * linear(step, recipe.steps, recipe.warmup)
            optimizer.update(clipped(gradients, norm, recipe.clip) if recipe.clip else gradients, learning_rate)

            tokens += int(batch.mask.sum())
            bar.update()
            last = step + 1 == recipe.steps
            if last or (step + 1) % log_every == 0:
                now = time.perf_counter()
                metrics = {**numbers, "loss": sum(weight * numbers[term.name] for weight, term in stage.terms),
                           "learning_rate": learning_rate, "gradient_norm": float(norm),
                           "tokens_per_second": round(tokens / (now - since), 1), "seconds": round(now - since, 3)}
                tokens, since = 0, now
                bar.set_postfix({name: f"{value:.4f}" for name, value in numbers.items()})
                if directory:
                    directory.log(step + 1, **metrics)
            stopped = stop is not None and stop.requested
            if directory and (last or stopped or (step + 1) % save_every == 0):
                _save(directory, step + 1, student, optimizer)
            if stopped and not last:
                raise Stopped(f"stopped at step {step + 1} of {recipe.steps}"
                              + (f", saved in {directory.path}: go on with --resume" if directory else ""), stopped)
    return metrics


def _save(directory, step, student, optimizer):
    moments, counts = optimizer.state()
    arrays = {f"model/{name}": array for name, array in student.arrays().items()}
    directory.save(step, arrays | {f"optimizer/{name}": array for name, array in moments.items()},
                   {"optimizer_steps": counts})


def _restore(directory, student, optimizer):
    """The number of steps that are done, with parameters and moments as they were after them."""
    found = directory.load_latest()
    if found is None:
        return 0
    step, arrays, meta = found
    student.load({name.removeprefix("model/"): a for name, a in arrays.items() if name.startswith("model/")})
    optimizer.load({name.removeprefix("optimizer/"): a for name, a in arrays.items() if name.startswith("optimizer/")},
                   meta["optimizer_steps"])
    return step


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

