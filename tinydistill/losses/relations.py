"""Relations: rows of softmax(x y^T / sqrt K) of a student beside those of its teacher, what MiniLM and others sum up.

    1/divisor sum_b 1/(A n_b) sum_a sum_{t <= n_b} KL(softmax(teacher scores_bat) || softmax(student scores_bat))
"""

from tinydistill import ops
from tinydistill.losses.convention import PAPER


def relation_kl(student_scores, teacher_scores, mask, convention=PAPER, divisor=None):
    """KL(teacher || student) of each row of two sets of scores, mean over heads; rows and keys by the convention.

    Equation: sum_b sum_t w_bt 1/A sum_a KL(p_bat || q_bat), w = convention.row_weights: 1/(n_b B) for real tokens in
    the `paper` one. A divisor "element" divides by the T keys of a row too; a constant "cross-entropy" has
    -sum p log q in the place of KL.
    Shapes: scores (B, A, T, T), scaled, before mask and softmax; mask (B, T), True at real tokens.
    Units: nats. Gradient: the student alone, w/A (q - p); exactly 0 in rows and at keys that do not count, which may
    hold anything.
    """
    A, T = student_scores.shape[1:3]
    weight = convention.row_weights(mask, divisor, student_scores.dtype) / A            # (B, T)
    if convention.divisor == "element":
        weight = weight / T
    seen = mask[:, None, None, :] if convention.keys == "real" else None                # (B, 1, 1, T)
    return ops.kl_divergence(student_scores, teacher_scores, weight=weight[:, None, :], mask=seen,
                             constant=convention.constant)


def relation_scores(x, y, mask, convention=PAPER):
    """x y^T / sqrt(K), where rows of x and keys of y that do not count are 0. (B, A, T, K) twice -> (B, A, T, T)."""
    if x.shape != y.shape:
        raise ValueError(f"need queries and keys of one shape: queries {x.shape}, keys {y.shape}")
    return ops.scaled_product(emptied(x, mask, convention.rows), emptied(y, mask, convention.keys))


def emptied(x, mask, counts):
    """x (B, A, T, K) with its padding 0, because 0 * NaN is NaN; as it is where the convention counts "all"."""
    return x if counts == "all" else ops.masked(x, mask=mask[:, None, :, None])


def regrouped(x, heads):
    """The heads of each token side by side, cut anew into `heads` of one size: (B, A, T, K) -> (B, R, T, A*K/R)."""
    B, A, T, K = x.shape
    by_token = ops.transpose(x, axes=(0, 2, 1, 3))                                      # (B, T, A, K)
    anew = ops.reshape(by_token, shape=(B, T, heads, A * K // heads))                   # (B, T, R, A*K/R)
    return ops.transpose(anew, axes=(0, 2, 1, 3))


def check_relations(student, teacher, mask):
    """Raises: ValueError where mask (B, T) is not bool, or the (B, A, T) of student and teacher (B, A, T, K) differ."""
    if mask.dtype != bool:
        raise ValueError(f"need a mask of bool, True at real tokens; got {mask.dtype}")
    if student.shape[:3] != teacher.shape[:3] or mask.shape != student.shape[:1] + student.shape[2:3]:
        raise ValueError(f"need the same (B, A, T): student {student.shape}, teacher {teacher.shape}, "
                         f"mask {mask.shape}")
