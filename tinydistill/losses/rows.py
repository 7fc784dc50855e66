"""Rows of hidden states (B, T, D) of a student beside those of its teacher: what losses on them check, and sum up.

    sum_b sum_t w_bt 1/D sum_d (student_btd - teacher_btd)^2        w = convention.row_weights
"""

import numpy as np

from tinydistill import ops
from tinydistill.losses.convention import PAPER


def mean_squares(student, teacher, mask, convention=PAPER, divisor=None):
    """The mean squared difference of each row, summed over rows as the convention says.

    Equation: sum_bt w_bt 1/D sum_d (student - teacher)^2, w = 1/(n_b B) for real tokens in the `paper` convention. 1/D
    belongs to the mean square, so that the divisors "row" and "element" are one here.
    Shapes: student, teacher (B, T, D); mask (B, T), True at real tokens.
    Gradient: the student alone, 2 w/D (student - teacher); exactly 0 in rows that do not count, whatever they hold.
    """
    check_rows(student, teacher, mask)
    weight = convention.row_weights(mask, divisor, student.dtype) / student.shape[2]    # (B, T)
    return ops.squared_error(student, teacher, weight=weight)


def only_counted(x, mask, convention=PAPER):
    """x (B, T, D) with the rows that do not count emptied: 0 * NaN would be NaN in the pullback of what comes next."""
    return ops.masked(x, mask=convention.counted(mask)[..., None])


def cls_mask(mask):
    """[CLS] as a sequence of one token. Shapes: (B, T) -> (B, 1).

    Raises: ValueError where position 0 is padding. (Looked at on the host only: a GPU is not asked to wait.)
    """
    first = mask[:, :1]                                                                 # (B, 1)
    if isinstance(first, np.ndarray) and not first.all():
        raise ValueError(f"need [CLS] at position 0 of every sequence; "
                         f"sequence {int(first.argmin())} has padding there")
    return first


def check_tokens(student, teacher, mask):
    """Raises: ValueError where mask (B, T) is not bool, or the (B, T) of student and teacher differ; widths may."""
    if mask.dtype != bool:
        raise ValueError(f"need a mask of bool, True at real tokens; got {mask.dtype}")
    if not student.shape[:2] == teacher.shape[:2] == mask.shape:
        raise ValueError(f"need the same (B, T): student {student.shape}, teacher {teacher.shape}, mask {mask.shape}")


def check_map(student, teacher, weight, bias):
    """Raises: ValueError where a learned map (D', D) or its bias does not lead from student (B, T, D) to teacher (B, T, D')."""
    if weight.shape != teacher.shape[2:] + student.shape[2:] or bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"need a learned map (D', D), with a bias (D',) or none: "
                         f"weight {weight.shape}, bias {None if bias is None else bias.shape}, "
                         f"student {student.shape}, teacher {teacher.shape}")


def check_rows(student, teacher, mask):
    """Raises: ValueError where mask (B, T) is not bool, or student and teacher are not both (B, T, D)."""
    if mask.dtype != bool:
        raise ValueError(f"need a mask of bool, True at real tokens; got {mask.dtype}")
    if student.shape != teacher.shape or mask.shape != student.shape[:-1]:
        raise ValueError(f"need the same (B, T, D): student {student.shape}, teacher {teacher.shape}, "
                         f"mask {mask.shape}")
