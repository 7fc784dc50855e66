"""Weighted squared error: the sum under every loss that compares vectors.

    L = sum_n w_n sum_j (s_nj - t_nj)^2         dL/ds = 2 w_n (s_n - t_n)

Shapes: student s, teacher t (..., D), weight w (...,).

Traps
  - it is a sum: what it is divided by stands in the weights
  - a row of weight 0 counts nothing, and its gradient is 0
  - the teacher is constant
"""

import numpy as np

from tinydistill_reference.conventions import need


def counted(student, teacher, weight):
    """The places of the rows that count."""
    need(student.shape == teacher.shape and weight.shape == student.shape[:-1],
         f"student and teacher of one shape and a weight of their rows: student {student.shape}, "
         f"teacher {teacher.shape}, weight {weight.shape}")
    return [n for n in np.ndindex(weight.shape) if weight[n] != 0]


def squared_error(student, teacher, weight):
    """L."""
    return sum(weight[n] * ((student[n] - teacher[n]) ** 2).sum() for n in counted(student, teacher, weight))


def squared_error_gradient(upstream, student, teacher, weight):
    """dL/ds = 2 w (s - t)."""
    dstudent = np.zeros_like(student)
    for n in counted(student, teacher, weight):
        dstudent[n] = upstream * 2 * weight[n] * (student[n] - teacher[n])
    return {"student": dstudent}
