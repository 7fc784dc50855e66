"""Shared projections (Zhao et al. 2019): the weights of student and teacher beside each other, not what they compute.

    L_MLM                                           of both, the teacher's in words of two vocabularies
    L_d = sum_W || U W^T V - W^S ||^2               the teacher's weights, projected down to the student's size
    L_u = sum_W || W^T - U' W^S V' ||^2             the student's weights, projected up to the teacher's

over all weights W of matching roles, of two models with as many layers, whatever vocabulary each has: their logits
could not be compared. One pair of learned maps serves all weights and layers; U and V' are (student width, teacher
width), V and U' (teacher width, student width). Sum by sum: `reference/shared_projection.py`. No code was published,
and the formulas are unverified, written from memory of the paper. So is how they meet a weight that is not width x
width, where we take: an axis on which the two models agree (a vocabulary, the 1 of a vector) is left alone, so that a
vector uses one side; an axis k times as wide as the model (feed-forward: 4) is projected in k blocks by the same map.

The teacher learns beside the student, so that its features and the batch have a part of its own, `mixed`, and its
weights come with the student's in `weights`: `compress/shared_projection.py`.
"""

from tinydistill import ops
from tinydistill.losses.hard_labels import CONVENTIONS, label_loss, labelled
from tinydistill.losses.term import Term
from tinydistill.tensor import Tensor


def mixed_label_loss(student, teacher, batch, divisor):
    """The teacher's masked language model, each place in the vocabulary by which its word was cut.

    Equation: -1/divisor sum_n log softmax(logits_n)[label_n] over the labels n of the batch's `mixed` rows, in nats;
    each softmax is over the label's vocabulary, the logits of the other being -inf; the divisor is the number of these
    labels in the global batch. Shapes: logits (N, rows of both vocabularies) at the positions of the mixed rows.
    A model by itself, without a `mixed` part, is its own teacher. Gradient: softmax - onehot over the divisor, for the
    logits of the teacher, which this loss trains. Source: Zhao et al. 2019; US patent 11,797,862, claim 8: two separate
    softmax layers. No published code.

    >>> import numpy as np; from tinydistill import Tensor; from tinydistill.features import Batch, Features
    >>> logits = Tensor(np.array([[0.0, 0.0, 0.0, -np.inf], [-np.inf, -np.inf, 0.0, 0.0]]))     # 0 1 2, and 2 3
    >>> batch = Batch(ids=np.zeros((1, 2), int), mask=np.ones((1, 2), bool), labels=np.array([[1, 3]]))
    >>> round(mixed_label_loss(Features("two tokens", 0, None, logits=logits), None, batch, 2).item(), 6)   # log(6) / 2
    0.89588
    """
    return label_loss(_mixed(student), None, _mixed(batch), divisor)


def _mixed(part):
    return getattr(part, "mixed", part)


def down_projection_loss(student_weights, teacher_weights, u, v, divisor=1.0):
    """L_d: the teacher's weights, projected down, beside the student's. Takes parameters in the place of Features.

    Equation: 1/divisor sum_W || U W^T V - W^S ||^2, squares summed over all entries; the divisor is 1.
    Shapes: weights {name: array}, the same names and roles on both sides, each (rows, columns) or (rows,) as in a
    Linear y = x W^T; u (student width, teacher width) works on rows, v (teacher width, student width) on columns.
    Units: squared weights (no nats); a sum, larger for larger models.
    Gradient: the student's weights, by -2 (U W^T V - W^S), and u and v; the teacher's weights get none.
    Raises: ValueError where names or shapes do not fit.
    Source: Zhao et al. 2019, shared projections (unverified, from memory, as is whether this loss trains the teacher,
    which in the paper learns beside the student; here it does not). No published code.

    >>> import numpy as np
    >>> student, teacher = {"w": np.array([[1.0]])}, {"w": np.array([[1.0, 2.0], [3.0, 4.0]])}      # widths 1 and 2
    >>> u, v = np.array([[1.0, 0.0]]), np.array([[0.0], [1.0]])                     # first row, second column
    >>> down_projection_loss(student, teacher, u, v).item()                         # (2 - 1)^2
    1.0
    """
    return _sum_of_squares(student_weights, teacher_weights, divisor, lambda student, teacher: ops.subtract(
        _projected(teacher, student.shape, u, v), student))


def up_projection_loss(student_weights, teacher_weights, u, v, divisor=1.0):
    """L_u: the teacher's weights beside the student's, projected up. Takes parameters in the place of Features.

    Equation: 1/divisor sum_W || W^T - U' W^S V' ||^2, squares summed over all entries; the divisor is 1.
    Shapes: weights as in `down_projection_loss`; u (teacher width, student width) works on rows, v (student width,
    teacher width) on columns.
    Units: squared weights (no nats); a sum, larger for larger models.
    Gradient: the student's weights, u and v; the teacher's weights get none.
    Raises: ValueError where names or shapes do not fit.
    Source: Zhao et al. 2019, as `down_projection_loss`, and unverified like it. No published code.

    >>> import numpy as np
    >>> student, teacher = {"w": np.array([[1.0]])}, {"w": np.array([[1.0, 2.0], [3.0, 4.0]])}      # widths 1 and 2
    >>> u, v = np.array([[1.0], [2.0]]), np.array([[1.0, 1.0]])                     # U' W V' = ((1, 1), (2, 2))
    >>> up_projection_loss(student, teacher, u, v).item()                           # 0 + 1 + 1 + 4
    6.0
    """
    return _sum_of_squares(student_weights, teacher_weights, divisor, lambda student, teacher: ops.subtract(
        _projected(student, teacher.shape, u, v), teacher))


def _sum_of_squares(student_weights, teacher_weights, divisor, difference):
    """1/divisor sum_W |difference(W^S, W^T)|^2, every W a matrix: a vector is one of a single column."""
    if not student_weights or student_weights.keys() != teacher_weights.keys():
        raise ValueError(f"need the same weights on both sides, at least one; on one side alone: "
                         f"{sorted(student_weights.keys() ^ teacher_weights.keys())[:3]}")

    def squares(name, student, teacher):
        teacher = teacher.array if isinstance(teacher, Tensor) else teacher
        try:
            error = difference(ops.reshape(student, shape=_matrix(student)), teacher.reshape(_matrix(teacher)))
        except ValueError as problem:
            raise ValueError(f"{name}: {problem}") from None
        return (error * error).sum()

    return sum(squares(name, student, teacher_weights[name]) for name, student in student_weights.items()) / divisor


def _matrix(weight):
    return weight.shape if weight.ndim == 2 else (weight.shape[0], 1)


def _projected(weight, shape, u, v):
    """U W V, block by block, of that shape."""
    return _columns(_rows(weight, shape[0], u), shape[1], v)


def _rows(weight, wanted, u):
    """u times each block of rows: (k old, columns) -> (k new, columns); nothing where there are as many as wanted."""
    (new, old), (rows, columns) = u.shape, weight.shape
    if rows == wanted:
        return weight
    _check_blocks("rows", rows, old, wanted, new)
    blocks = ops.reshape(weight, shape=(rows // old, old, columns))                     # (k, old, columns)
    return ops.reshape(ops.matmul(u, blocks), shape=(wanted, columns))


def _columns(weight, wanted, v):
    """Each block of columns times v: (rows, k old) -> (rows, k new); nothing where there are as many as wanted."""
    (old, new), (rows, columns) = v.shape, weight.shape
    if columns == wanted:
        return weight
    _check_blocks("columns", columns, old, wanted, new)
    blocks = ops.reshape(weight, shape=(rows, columns // old, old))                     # (rows, k, old)
    return ops.reshape(ops.matmul(blocks, v), shape=(rows, wanted))


def _check_blocks(axis, length, old, wanted, new):
    if length % old or length // old * new != wanted:
        raise ValueError(f"need {axis} in blocks of {old} that become {new}: {length} cannot become {wanted}; "
                         f"leave this weight out")


def _teacher(term, student, teacher, batch, divisor, projections):
    return mixed_label_loss(student, teacher, batch, divisor)


def _labels(term, batch):
    return labelled(_mixed(batch))


def _down(term, student, teacher, batch, divisor, projections):
    student, teacher = getattr(student, "weights", (student, teacher))
    u, v = _maps(term, projections)
    return down_projection_loss(student, teacher, ops.transpose(u, axes=(1, 0)), v, divisor / len(batch))


def _up(term, student, teacher, batch, divisor, projections):
    student, teacher = getattr(student, "weights", (student, teacher))
    u, v = _maps(term, projections)
    return up_projection_loss(student, teacher, u, ops.transpose(v, axes=(1, 0)), divisor / len(batch))


def _maps(term, projections):
    """The weights of its two maps, both (teacher width, student width)."""
    return [projections[name].weight for name in term.projection_names]


def _count(term, batch):
    """Sequences: the loss knows of no batch, so that a shard bears the share of it that its sequences are."""
    return len(batch)


UNVERIFIED = "unverified: the formula is from memory, and no code was published"
mixed = Term("shared_projection.mixed_masked_lm", _teacher, _labels, ("logits",), paper="Zhao et al. 2019",
             equation="section on mixed vocabularies", conventions=CONVENTIONS)
down = Term("shared_projection.down", _down, _count, paper="Zhao et al. 2019", equation="eq. of L_d", notes=UNVERIFIED,
            projection=("shared_projection.U_down", "shared_projection.V_down"), reads_parameters=True)
up = Term("shared_projection.up", _up, _count, paper="Zhao et al. 2019", equation="eq. of L_u", notes=UNVERIFIED,
          projection=("shared_projection.U_up", "shared_projection.V_up"), reads_parameters=True)
