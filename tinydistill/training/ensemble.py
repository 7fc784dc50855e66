"""Several teachers as one: the mean of their softened distributions.

    p = 1/n sum_i softmax(z_i / T)          logits z = T log p, so that softmax(z / T) = p

At another temperature than T these logits say something else: the loss that reads them has to have the same one.
"""

import functools
import math

from tinydistill import ops
from tinydistill.backend import xp_of
from tinydistill.errors import Problem, WrongUsage
from tinydistill.features import Features, Needs
from tinydistill.tensor import Tensor

SHARED = ("vocabulary", "head", "labels")           # of their configurations: what ids and the columns of logits mean


class Ensemble:
    """`ensemble(batch, run) -> Features` with the logits of the mean distribution, and nothing else.

    teachers: models of any size, with one vocabulary and one head, its classes in the same order. temperature: T.
    config, parameters: the first teacher's. Gradient: none goes through it.
    Raises: WrongUsage where the teachers differ; Problem for a pass that needs more than logits.
    """

    def __init__(self, teachers, temperature=1.0):
        if not teachers or not temperature > 0:
            raise WrongUsage(f"need at least one teacher and a temperature above 0; "
                             f"got {len(teachers)} teachers and {temperature}")
        self.teachers, self.temperature = tuple(teachers), float(temperature)
        self.config, self.parameters = teachers[0].config, teachers[0].parameters
        for i, teacher in enumerate(self.teachers):
            for name in SHARED:
                here, first = getattr(teacher.config, name), getattr(self.config, name)
                if here != first:
                    raise WrongUsage(f"need teachers with the same {name}, or there is no mean of them: "
                                     f"teacher 1 has {first!r:.80}, teacher {i + 1} has {here!r:.80}")

    def __call__(self, batch, run):
        if run.needs != Needs.of(logits=True):
            raise Problem(f"need {run.needs}, but several teachers together have logits alone: give one teacher")
        features = Features(f"an ensemble of {len(self.teachers)}", self.config.layers, batch.mask)
        log_ps = (self._log_softmax(teacher(batch, run)) for teacher in self.teachers)
        log_sum = functools.reduce(xp_of(batch.ids).logaddexp, log_ps)      # log sum_i exp(log p_i): no p is ever 0
        return features.has(logits=Tensor((log_sum - math.log(len(self.teachers))) * self.temperature))

    def _log_softmax(self, features):
        return ops.log_softmax(features.logits / self.temperature).array
