"""Shared projections (Zhao et al. 2019): a loss of weights. From memory of the paper, unverified; no code exists.

    L_d = sum_W || U W^T V - W^S ||^2               the teacher's weights, projected down
    L_u = sum_W || W^T - U' W^S V' ||^2             the student's weights, projected up

W are all weights of matching roles, as (outputs, inputs). U and V' have the shape (student width, teacher width), V and
U' (teacher width, student width); they are learned, one pair for all weights. A vector is a matrix of one column.

Traps
  - the norm is the sum of squares, not its mean, and not its root
  - a vector uses one side
  - an axis that has the right length already (a vocabulary) is left alone; one k times as wide as the model is taken in
    k blocks, each projected by the same matrix: our choice, of which we do not know what the paper does
"""

import numpy as np


def axis_map(length, wanted, matrix):
    """The matrix that acts on an axis: I, or `matrix` k times along the diagonal. Shapes: (wanted, length)."""
    new, old = matrix.shape
    if length == wanted:
        return np.eye(length)
    whole = np.zeros((wanted, length), matrix.dtype)
    for k in range(length // old):
        whole[k * new:(k + 1) * new, k * old:(k + 1) * old] = matrix
    return whole


def projected(w, shape, u, v):
    """U W V of that shape."""
    rows, columns = axis_map(w.shape[0], shape[0], u), axis_map(w.shape[1], shape[1], v.T).T
    return rows @ w @ columns


def matrix(w):
    return w.reshape(len(w), -1)


def down(student, teacher, u, v):
    """L_d. Shapes: student, teacher {name: weight}."""
    return sum(((projected(matrix(teacher[name]), matrix(w).shape, u, v) - matrix(w)) ** 2).sum()
               for name, w in student.items())


def up(student, teacher, u, v):
    """L_u."""
    return sum(((matrix(w) - projected(matrix(student[name]), matrix(w).shape, u, v)) ** 2).sum()
               for name, w in teacher.items())


def mixed_masked_lm(logits, labels, columns):
    """L_MLM of the teacher: each label's softmax over its own vocabulary.

    Shapes: logits (N, rows of both vocabularies); labels (N,); columns (N, ...), those of the label's vocabulary.
    """
    total = 0.0
    for row, label, own in zip(logits, labels, columns):
        total = total - np.log(np.exp(row[label]) / np.exp(row[own]).sum())
    return total / len(labels)
