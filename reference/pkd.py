"""Patient knowledge distillation for BERT (Sun, Cheng, Gan and Liu 2019), as printed.

    L_PT = sum_{i=1}^N sum_{j=1}^M || h^S_ij / ||h^S_ij||_2 - h^T_i,I_pt(j) / ||h^T_i,I_pt(j)||_2 ||_2^2

N examples, M the student's layers that take part, I_pt(j) the teacher's layer beside the student's j-th; h the vector
of [CLS], position 0. Shapes: student, teacher (M, N, T, D): M pairs of layers, already put side by side.

Traps
  - a sum over the examples in the paper, a mean over examples, layers and width in the published code: they differ by
    N M D, and the weight beta that goes with one is useless with the other
  - the published code normalises only where it is told to
  - the last layer of the student does not take part, only those below it
"""

import numpy as np


def unit(h):
    """h / ||h||_2 of one vector."""
    return h / np.sqrt(sum(x * x for x in h))


def patient_loss(student, teacher, normalise=True):
    """L_PT: the sum over examples, layers and width."""
    M, N = student.shape[:2]
    total = 0
    for i in range(N):
        for j in range(M):
            s, t = student[j, i, 0], teacher[j, i, 0]
            if normalise:
                s, t = unit(s), unit(t)
            total = total + sum((a - b) ** 2 for a, b in zip(s, t))
    return total


def patient_loss_batch_mean(student, teacher, normalise=True):
    """L_PT / N: a mean over the batch of the paper's sum for each example."""
    return patient_loss(student, teacher, normalise) / student.shape[1]


def patient_loss_official(student, teacher, normalise=True):
    """L_PT / (N M D): the mean of the published code. There normalising is off unless asked for."""
    M, N, T, D = student.shape
    return patient_loss(student, teacher, normalise) / (N * M * D)
