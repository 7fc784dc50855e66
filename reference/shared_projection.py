"""Shared projections (Zhao et al. 2019): a loss of weights. From memory of the paper, unverified; no code exists.

    L_d       = sum_W || U W^T V - W^S ||^2               the teacher's weights, projected down
    L_u       = sum_W || W^T - U' W^S V' ||^2             the student's weights, projected up
    L_MLM     = -1/N sum_n log softmax_own(n)(z_n)[label_n]      the teacher's, each label in its own vocabulary

W are all weights of matching roles, as (outputs, inputs). U and V' have the shape (student width, teacher width), V and
U' (teacher width, student width); they are learned, one pair for all weights. A vector is a matrix of one column. With
the difference E = L W R - W' of either loss, W the projected weight, L and R the maps along its axes:

    dL/dW = 2 L^T E R^T,   dL/dW' = -2 E,   dL/dL = 2 E (W R)^T,   dL/dR = 2 (L W)^T E,   dL/dz_n = w (softmax - onehot)

Traps
  - the norm is the sum of squares, not its mean, and not its root
  - a vector uses one side
  - an axis that has the right length already (a vocabulary) is left alone; one k times as wide as the model is taken in
    k blocks, each projected by the same matrix: our choice, of which we do not know what the paper does
"""

import numpy as np

from tinydistill_reference.conventions import IGNORED, need, weights
from tinydistill_reference.softmax import log_softmax_row, softmax_row


def axis_map(length, wanted, matrix):
    """The matrix that acts on an axis: I, or `matrix` k times along the diagonal. Shapes: (wanted, length)."""
    new, old = matrix.shape
    if length == wanted:
        return np.eye(length, dtype=matrix.dtype)
    need(length % old == 0 and length // old * new == wanted,
         f"shapes in blocks of {old} that become {new}: {length} cannot become {wanted}")
    whole = np.zeros((wanted, length), matrix.dtype)
    for k in range(length // old):
        whole[k * new:(k + 1) * new, k * old:(k + 1) * old] = matrix
    return whole


def axis_map_gradient(dwhole, matrix):
    """What comes to `matrix` of dL/d(axis_map): the sum of its blocks; nothing from an axis that was left alone."""
    (new, old), (wanted, length) = matrix.shape, dwhole.shape
    if length == wanted:
        return np.zeros_like(matrix)
    return sum(dwhole[k * new:(k + 1) * new, k * old:(k + 1) * old] for k in range(length // old))


def maps(w, shape, u, v):
    """(L, R), such that L W R has that shape."""
    return axis_map(w.shape[0], shape[0], u), axis_map(w.shape[1], shape[1], v.T).T


def projected(w, shape, u, v):
    """U W V of that shape."""
    left, right = maps(w, shape, u, v)
    return left @ w @ right


def matrix(w):
    return w.reshape(len(w), -1)


def by_role(sides):
    """{role: (student's, teacher's)}, of student_<role> and teacher_<role>."""
    student, teacher = ({name.removeprefix(side): w for name, w in sides.items() if name.startswith(side)}
                        for side in ("student_", "teacher_"))
    need(student and student.keys() == teacher.keys(), "the same weights of student and teacher, at least one")
    return {name: (w, teacher[name]) for name, w in student.items()}


def squares(moved, still, u, v):
    """|| U W V - W' ||^2, W moved and W' still."""
    return ((projected(matrix(moved), matrix(still).shape, u, v) - matrix(still)) ** 2).sum()


def squares_gradient(moved, still, u, v):
    """(dL/dW, dL/dW', dL/dU, dL/dV)."""
    w, (left, right) = matrix(moved), maps(matrix(moved), matrix(still).shape, u, v)
    de = 2 * (left @ w @ right - matrix(still))
    return ((left.T @ de @ right.T).reshape(moved.shape), -de.reshape(still.shape),
            axis_map_gradient(de @ (w @ right).T, u), axis_map_gradient(((left @ w).T @ de).T, v.T).T)


def summed(upstream, u, v, each):
    """The gradients of all roles: a weight has its own, the maps are shared. each: {role: (dL/dW^S, dL/dU, dL/dV)}."""
    found = {"u": np.zeros_like(u), "v": np.zeros_like(v)}
    for name, (dw, du, dv) in each.items():
        found |= {f"student_{name}": upstream * dw, "u": found["u"] + upstream * du, "v": found["v"] + upstream * dv}
    return found


def down(u, v, **sides):
    """L_d. Shapes: student_<role>, teacher_<role>: matrices or vectors, as many as there are roles."""
    return sum(squares(teacher, student, u, v) for student, teacher in by_role(sides).values())


def down_gradient(upstream, u, v, **sides):
    """dL/dW^S = -2 E, dL/dU = 2 E (W^T V)', dL/dV = 2 (U W^T)' E."""
    return summed(upstream, u, v, {name: squares_gradient(teacher, student, u, v)[1:]
                                   for name, (student, teacher) in by_role(sides).items()})


def up(u, v, **sides):
    """L_u."""
    return sum(squares(student, teacher, u, v) for student, teacher in by_role(sides).values())


def up_gradient(upstream, u, v, **sides):
    """With E = U' W^S V' - W^T: dL/dW^S = 2 U'^T E V'^T, dL/dU' = 2 E (W^S V')^T, dL/dV' = 2 (U' W^S)^T E."""
    each = {name: squares_gradient(student, teacher, u, v) for name, (student, teacher) in by_role(sides).items()}
    return summed(upstream, u, v, {name: (dw, du, dv) for name, (dw, _, du, dv) in each.items()})


def labelled_rows(teacher_logits, labels, own):
    """(n, w, the columns of its vocabulary, the label's place among them) of every row with a label."""
    need(labels.shape == teacher_logits.shape[:1] and own.shape == teacher_logits.shape,
         f"a label and a vocabulary for each row: logits {teacher_logits.shape}, labels {labels.shape}, "
         f"own {own.shape}")
    w = weights(labels != IGNORED, divisor="row")
    for n in np.flatnonzero(w):
        columns = np.flatnonzero(own[n])
        need(labels[n] in columns, f"labels out of their own vocabulary: {labels[n]}")
        yield n, w[n], columns, int(np.flatnonzero(columns == labels[n])[0])


def mixed_masked_lm(teacher_logits, labels, own):
    """L_MLM of the teacher, whose vocabulary is two. Shapes: logits (N, V); labels (N,); own (N, V), True at the words
    of the label's vocabulary."""
    return -sum(w * log_softmax_row(teacher_logits[n, columns])[label]
                for n, w, columns, label in labelled_rows(teacher_logits, labels, own))


def mixed_masked_lm_gradient(upstream, teacher_logits, labels, own):
    """dL/dz_n = w (softmax - onehot) in the label's vocabulary, 0 outside."""
    dz = np.zeros_like(teacher_logits)
    for n, w, columns, label in labelled_rows(teacher_logits, labels, own):
        q = softmax_row(teacher_logits[n, columns])
        q[label] = q[label] - 1
        dz[n, columns] = upstream * w * q
    return {"teacher_logits": dz}
