"""Term: one summand of a training objective, and how it says what it divides by."""

from dataclasses import dataclass
from typing import Callable

import numpy as np

from tinydistill.features import Needs


@dataclass(frozen=True)
class Term:
    """`term(student, teacher, batch, divisor)` is the sum over what this shard holds, over the whole batch's divisor.

    student_needs, teacher_needs: the features it reads · divisor(batch): counted from masks and labels of the global
    batch before it is split, so that any split adds up to the loss of the whole · paper, equation: where it is printed.
    """

    name: str
    loss: Callable
    divisor: Callable
    student_needs: Needs
    teacher_needs: Needs = Needs()
    paper: str = ""
    equation: str = ""

    def __call__(self, student, teacher, batch, divisor):
        return self.loss(student, teacher, batch, divisor)


def sequences(mask):
    """B, the number of sequences: what "mean over the batch" divides by.

    Raises: ValueError where a sequence has no real token. (Looked at on the host only: a GPU is not asked to wait.)
    """
    if isinstance(mask, np.ndarray) and not mask.any(axis=1).all():
        empty = int(mask.any(axis=1).argmin())
        raise ValueError(f"need at least one real token in every sequence; sequence {empty} of the mask has none")
    return len(mask)
