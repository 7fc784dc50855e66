"""The mean square between the rows of student and teacher, with a learned map or without one. Several papers have it.

    L         = sum_bt w_bt 1/D sum_d e_btd^2,   e = W s + bias - t        w: `conventions.weights`
    dL/de     = 2 w_bt / D e
    dL/ds_bt  = W^T dL/de_bt,   dL/dW = sum_bt dL/de_bt s_bt^T,   dL/dbias = sum_bt dL/de_bt

1/D belongs to the mean square, so that the divisors "row" and "element" are one here. Shapes: s (B, T, D'),
t (B, T, D), W (D, D'), bias (D,), mask (B, T).
"""

import numpy as np

from tinydistill_reference.conventions import need, weights


def row_weights(student, teacher, mask, rows="real", divisor="sequence"):
    """w, after a look at the shapes."""
    need(student.shape == teacher.shape and mask.shape == student.shape[:2],
         f"the same (B, T, D): student {student.shape}, teacher {teacher.shape}, mask {mask.shape}")
    need(mask.any(axis=1).all(), "at least one real token in every sequence of the mask")
    return weights(mask, rows=rows, divisor=divisor)


def mean_squares(student, teacher, mask, **convention):
    """L without a map."""
    w, D = row_weights(student, teacher, mask, **convention), student.shape[2]
    return sum(w[n] / D * sum((s - t) ** 2 for s, t in zip(student[n], teacher[n])) for n in zip(*np.nonzero(w)))


def mean_squares_gradient(upstream, student, teacher, mask, **convention):
    """dL/ds = 2 w / D (s - t)."""
    w, D = row_weights(student, teacher, mask, **convention), student.shape[2]
    ds = np.zeros_like(student)
    for n in zip(*np.nonzero(w)):
        ds[n] = upstream * w[n] * 2 / D * (student[n] - teacher[n])
    return ds


def mapped(student, teacher, weight, bias):
    """W s + bias, row by row; s itself where there is no W. Shapes: (B, T, D') -> (B, T, D)."""
    if weight is None:
        return student + bias
    need(weight.shape == (teacher.shape[2], student.shape[2]),
         f"a weight of (teacher's width, student's width): {weight.shape}, student {student.shape}, "
         f"teacher {teacher.shape}")
    return student @ weight.T + bias


def mapped_squares(student, teacher, mask, weight, bias, **convention):
    """L."""
    return mean_squares(mapped(student, teacher, weight, bias), teacher, mask, **convention)


def mapped_squares_gradient(upstream, student, teacher, mask, weight, bias, **convention):
    """(dL/ds, dL/dW, dL/dbias); None for W where there is none."""
    de = mean_squares_gradient(upstream, mapped(student, teacher, weight, bias), teacher, mask, **convention)
    if weight is None:
        return de, None, de.sum(axis=(0, 1))
    D, width = weight.shape
    return de @ weight, de.reshape(-1, D).T @ student.reshape(-1, width), de.sum(axis=(0, 1))
