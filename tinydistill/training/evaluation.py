"""Running a model without learning: scores of its head, and losses over a whole held-out set."""

import numpy as np

from tinydistill.backend import to_host, xp_of
from tinydistill.errors import Problem
from tinydistill.features import Needs, Pass
from tinydistill.tensor import no_grad


def array_library(model):
    """The array library a model lives in."""
    return xp_of(model.parameters()[0].array)


def logits(model, batches):
    """The head's logits for every sequence of `batches`, in the order given there.

    Returns (N, C) for a sequence head; for a head that reads tokens a list of (n, C), n the sequence's own length.
    """
    answers = {}
    with no_grad():
        for indices, batch in batches.once():
            scores = to_host(model(batch.to(array_library(model)), Pass(Needs.of(logits=True))).logits.array)
            if model.config.head != "sequence":
                scores = scores.reshape(batch.ids.shape + (-1,))                        # (B, T, C)
                scores = [row[:length] for row, length in zip(scores, batch.mask.sum(axis=1))]
            answers.update(zip(map(int, indices), scores))
    ordered = [answers[i] for i in range(len(answers))]
    return np.stack(ordered) if model.config.head == "sequence" else ordered


def mean_terms(student, teacher, terms, batches, projections=None):
    """{term name: its value over all `batches` (an iterable of NumPy batches)}: sums over sums of divisors.

    The same as one batch that holds them all, since every term is a sum over a divisor.
    Raises: Problem where a term finds nothing to count, as masked_lm without a label.
    """
    xp, needs_student, needs_teacher = array_library(student), Needs(), Needs()
    for term in terms:
        needs_student, needs_teacher = needs_student | term.student_needs, needs_teacher | term.teacher_needs
    sums, divisors = dict.fromkeys((t.name for t in terms), 0.0), dict.fromkeys((t.name for t in terms), 0)
    with no_grad():
        for batch in batches:
            here = batch.to(xp)
            student_features = student(here, Pass(needs_student))
            teacher_features = teacher(here, Pass(needs_teacher)) if teacher is not None and needs_teacher.wanted else None
            for term in terms:
                sums[term.name] += term(student_features, teacher_features, here, 1, projections).item()
                divisors[term.name] += term.divisor(batch)
    for name, divisor in divisors.items():
        if divisor == 0:
            raise Problem(f"need rows on which {name} can be measured; there is nothing to count in them")
    return {name: sums[name] / divisors[name] for name in sums}


def probabilities(scores):
    """softmax of logits (..., C) on the host, for people and metrics."""
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
