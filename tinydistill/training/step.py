"""One optimisation step's gradient: a global batch in fixed shards, summed in shard order.

Divisors are counted on the global batch, dropout bits are named by global row, and the sum runs in shard order
whatever worker was first. So the number of threads changes no bit, and the number of shards changes rounding only.
"""

import contextlib
from dataclasses import replace

from tinydistill.backend import xp_of
from tinydistill.features import Pass
from tinydistill.tensor import add_gradients, gradients, no_grad
from tinydistill.training.optimizers import dense


def batch_gradient(student, teacher, stage, batch, parameters, *, seed, step, shards, executor=None, weights=None,
                   projections=None, decisions=None):
    """(value of each term by name, gradient of each parameter by name, what was observed by name) of the whole batch.

    batch: NumPy, global. parameters: {name: Tensor}. weights: of the stage's terms at this step; None takes those of its
    first step. projections: the method's learned maps. executor: a concurrent.futures executor, or None for this thread.
    decisions: which modules of the student take part. Of what shards observe, the largest is kept.
    """
    divisors = {term.name: term.divisor(batch) for _, term in stage.terms}
    run = Pass(stage.student_needs, training=stage.drops, seed=seed, step=step, decisions=decisions)
    xp = xp_of(next(iter(parameters.values())).array)
    objective = list(zip(weights or stage.weights(0, 1), (term for _, term in stage.terms)))

    def work(shard):
        return _shard_gradient(student, teacher, stage, objective, shard.to(xp), divisors, run,
                               list(parameters.values()), projections)

    parts = list((executor.map if executor else map)(work, batch.split(shards)))
    values, total, observed = parts[0]
    for more_values, more, more_observed in parts[1:]:
        values = {name: value + more_values[name] for name, value in values.items()}
        total = [add_gradients(a, b) for a, b in zip(total, more)]
        observed = {name: xp.maximum(value, more_observed[name]) for name, value in observed.items()}
    return values, dict(zip(parameters, map(dense, total))), observed


def _shard_gradient(student, teacher, stage, objective, batch, divisors, run, parameters, projections):
    """The same of one shard: its terms are sums over its rows, divided by the global batch's divisors."""
    taught = None
    if teacher is not None and stage.teacher_needs.wanted:
        with no_grad():
            taught = teacher(batch, Pass(stage.teacher_needs))
    features = student(batch, replace(run, rows=batch.rows))
    values = {term.name: term(features, taught, batch, divisors[term.name], projections) for _, term in objective}
    total = None
    for weight, term in objective:
        weighted = values[term.name] * weight
        total = weighted if total is None else total + weighted
    return {name: value.array for name, value in values.items()}, gradients(total, parameters), features.observed


@contextlib.contextmanager
def frozen(parameters):
    """Within this block no gradient is computed for these Tensors, nor for what leads to them alone."""
    before = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad = False
    try:
        yield
    finally:
        for parameter, requires_grad in zip(parameters, before):
            parameter.requires_grad = requires_grad
