"""Loss terms that read something else than one layer of Features, as the kit calls them.

LOSSES: {equation: f(term, attrs, **inputs) -> Tensor}. Each goes through its registered term, as a method does.
"""

from types import SimpleNamespace

import numpy as np

from tinydistill import ops
from tinydistill.backend import xp_of
from tinydistill.features import Batch, Features
from tinydistill.losses import mobilebert


def _batch(mask, **more):
    return Batch(ids=np.zeros(mask.shape, np.int64), mask=mask, **more)


def _tokens(labels):
    """(a batch of one sequence whose tokens have these labels, its mask). Shapes: labels (N,) -> (1, N)."""
    labels = labels.reshape(1, -1)
    mask = xp_of(labels).ones(labels.shape, bool)
    return _batch(mask, labels=labels), mask


def _weights(arrays, side):
    return {name.removeprefix(side): x for name, x in arrays.items() if name.startswith(side)}


def projection(turned):
    """L_d or L_u of a model's weights. Maps of a term are (teacher width, student width): `turned` is the other."""
    def call(term, attrs, u, v, **arrays):
        maps = {"u": u, "v": v} | {turned: ops.transpose({"u": u, "v": v}[turned], axes=(1, 0))}
        learned = {name: SimpleNamespace(weight=maps[kind]) for name, kind in zip(term.projection_names, "uv")}
        batch = _batch(np.ones((3, 1), bool))       # of three sequences, which do not matter
        return term(_weights(arrays, "student_"), _weights(arrays, "teacher_"), batch, term.divisor(batch), learned)
    return call


def mixed_masked_lm(term, attrs, teacher_logits, labels, own):
    """Logits of the other vocabulary are -inf, as `students/mixed_vocabulary.py` has them."""
    batch, mask = _tokens(labels)
    logits = ops.masked(teacher_logits, mask=own, fill=-np.inf)
    return term(Features("mixed", 0, mask, logits=logits), None, batch, term.divisor(batch))


def next_sentence(term, attrs, student_logits, labels):
    """Of a head of its own."""
    mask = xp_of(labels).ones((len(labels), 1), bool)
    batch = _batch(mask, next_sentence=labels)
    return term(Features("student", 0, mask, next_sentence=student_logits), None, batch, term.divisor(batch))


def spans_positions(term, attrs, student_logits, labels, mask):
    """Logits (B, T, 2) as they are."""
    batch = _batch(mask, labels=labels)
    return term(Features("student", 0, mask, logits=student_logits), None, batch, term.divisor(batch))


def pretraining(term, attrs, student_logits, teacher_logits, labels):
    """The term has half of the truth; another share is the function's."""
    batch, mask = _tokens(labels)
    if attrs["ground_truth"] != 0.5:
        return mobilebert.pretraining_distillation(student_logits, teacher_logits, labels, attrs["ground_truth"],
                                                   convention=term.rule)
    sides = [Features("pretraining", 0, mask, logits=logits) for logits in (student_logits, teacher_logits)]
    return term(*sides, batch, term.divisor(batch))


LOSSES = {
    "shared_projection.down": projection("u"), "shared_projection.up": projection("v"),
    "shared_projection.mixed_masked_lm": mixed_masked_lm, "next_sentence": next_sentence,
    "spans.positions": spans_positions, "mobilebert.pretraining": pretraining,
}
