"""Several teachers as one: the mean of their softened distributions, or the largest probability that any of them gives.

    p = 1/n sum_i softmax(z_i / T)          logits z = T log p, so that softmax(z / T) = p
    p = max_i softmax(z_i / T)              the same, and softmax(z / T) is p over its sum: what is largest stays so

At another temperature than T these logits say something else: the loss that reads them has to have the same one.
The maximum is how BERTVision joins a BERT and the head on its hidden states (Jiang et al. 2022), to predict by argmax.
"""

import functools
import math

import numpy as np

from tinydistill import ops
from tinydistill.backend import xp_of
from tinydistill.errors import Problem, WrongUsage
from tinydistill.features import Features, Needs
from tinydistill.tensor import Tensor

SHARED = ("vocabulary", "head", "labels")           # of their configurations: what ids and the columns of logits mean
COMBINED = ("mean", "maximum")


class Ensemble:
    """`ensemble(batch, run) -> Features` with the logits of the mean distribution (or the maximum), and nothing else.

    teachers: models of any size, with one vocabulary and one head, its classes in the same order. temperature: T.
    A head of spans has its distributions over the tokens of a sequence; padding has the lowest
    logit there is.
    config, parameters: the first teacher's. Gradient: none goes through it.
    Raises: WrongUsage where the teachers differ; Problem for a pass that needs more than logits.
    """

    def __init__(self, teachers, temperature=1.0, combined="mean"):
        if not teachers or not temperature > 0:
            raise WrongUsage(f"need at least one teacher and a temperature above 0; "
                             f"got {len(teachers)} teachers and {temperature}")
        if combined not in COMBINED:
            raise WrongUsage(f"need teachers to be combined by their {' or '.join(COMBINED)}; got {combined!r}")
        self.teachers, self.temperature, self.combined = tuple(teachers), float(temperature), combined
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
        log_ps, xp = (self._log_softmax(teacher(batch, run)) for teacher in self.teachers), xp_of(batch.ids)
        if self.combined == "maximum":
            log_p = functools.reduce(xp.maximum, log_ps)
        else:                                       # log sum_i exp(log p_i): no p is ever 0
            log_p = functools.reduce(xp.logaddexp, log_ps) - math.log(len(self.teachers))
        logits = log_p * self.temperature
        if self.config.head == "span":              # (B, 2, T) -> (B, T, 2)
            logits = xp.where(batch.mask[..., None], logits.swapaxes(1, 2), float(np.finfo(logits.dtype).min))
        return features.has(logits=Tensor(logits))

    def _log_softmax(self, features):
        logits, mask = features.logits / self.temperature, None
        if self.config.head == "span":
            logits, mask = logits.transpose(0, 2, 1), features.mask[:, None, :]         # (B, T, 2) -> (B, 2, T)
        return ops.log_softmax(logits, mask=mask).array
