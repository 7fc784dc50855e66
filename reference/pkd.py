"""Patient knowledge distillation for BERT (Sun, Cheng, Gan and Liu 2019), as printed.

    L_PT      = sum_{i=1}^N sum_{j=1}^M || h^S_ij / ||h^S_ij||_2 - h^T_i,I_pt(j) / ||h^T_i,I_pt(j)||_2 ||_2^2

N examples, M the student's layers that take part, I_pt(j) the teacher's layer beside the student's j-th; h the vector
of [CLS], position 0. Here is one pair of layers; a batch is the mean over its examples, or with the divisor "none" the
paper's sum.

    dL/dh^S   = 2 w (e - u <u, e>) / ||h^S||,   u = h^S / ||h^S||,  e = u - u^T

Shapes: student, teacher (B, T, D), mask (B, T).

Traps
  - a sum over the examples in the paper, a mean over examples, layers and width in the published code: they differ by
    N M D, and the weight beta that goes with one is useless with the other
  - the published code normalises only where it is told to
  - the last layer of the student does not take part, only those below it
  - a vector of zeros has no direction: h / max(||h||, 1e-12), as torch's normalize has it
"""

import numpy as np

from tinydistill_reference.conventions import need, weights

EPS = 1e-12


def length(h):
    """max(||h||_2, 1e-12) of one vector."""
    norm = np.sqrt(sum(x * x for x in h))
    return norm if norm.real > EPS else EPS


def pairs_of_cls(student, teacher, mask, normalise, divisor):
    """(b, w, h^S, the student's vector and the teacher's as they are compared) of every example."""
    need(student.shape == teacher.shape and mask.shape == student.shape[:2],
         f"the same (B, T, D): student {student.shape}, teacher {teacher.shape}, mask {mask.shape}")
    need(mask[:, 0].all(), "[CLS] at position 0 of every sequence of the mask")
    w = weights(mask[:, :1], divisor=divisor, entries=student.shape[2])                 # (B, 1)
    for b in range(len(mask)):
        s, t = student[b, 0], teacher[b, 0]
        yield b, w[b, 0], s, *((s / length(s), t / length(t)) if normalise else (s, t))


def patient_loss(student_hidden, teacher_hidden, mask, *, normalise=True, divisor="sequence"):
    """L_PT of one pair of layers."""
    return sum(w * sum((a - b) ** 2 for a, b in zip(s, t)) for _, w, _, s, t in
               pairs_of_cls(student_hidden, teacher_hidden, mask, normalise, divisor))


def patient_loss_gradient(upstream, student_hidden, teacher_hidden, mask, *, normalise=True, divisor="sequence"):
    """dL/dh^S = 2 w (e - u <u, e>) / ||h^S||; 2 w e / 1e-12 at zero; 2 w (h^S - h^T) where nothing is normalised."""
    dh = np.zeros_like(student_hidden)
    for b, w, h, u, t in pairs_of_cls(student_hidden, teacher_hidden, mask, normalise, divisor):
        e, norm = upstream * 2 * w * (u - t), length(h)
        along = u * sum(u * e) if norm > EPS else 0
        dh[b, 0] = (e - along) / norm if normalise else e
    return {"student_hidden": dh}
