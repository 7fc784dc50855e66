"""The batched forms in which frameworks compute losses of rows and of relations, with room for one mistake; and those
mistakes that any loss can have. The files of this folder share them."""

import numpy as np

from tinydistill_reference.mistakes import computes, derives, ignores_upstream, scaled
from tinydistill_reference.witnesses import complex_step, total

NO_DISTILLATION = "nothing is distilled: the loss is 0 from the first step"
TEACHER_MOVES = "the teacher is pulled towards the student, and both can meet in a model that knows nothing"
NO_WEIGHT = "the weight of the loss, loss scaling and gradient accumulation have no effect"
PADDING_COUNTS = "the loss depends on how much padding the batch happens to have"
TOKENS = "a long sequence weighs more than a short one, and a batch is not the sum of its parts"
TEXTBREWER = "airaria/TextBrewer src/textbrewer/losses.py"


# ---------------------------------------------------------------- relations

def log_softmax(z, axis=-1):
    shifted = z - z.real.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def kl(log_p, log_q):
    return np.exp(log_p) * (log_p - log_q)


def reverse_kl(log_p, log_q):
    return np.exp(log_q) * (log_q - log_p)


def cross_entropy(log_p, log_q):
    return -np.exp(log_p) * log_q


def without_log(log_p, log_q):
    """F.kl_div(q, p): q where its logarithm belongs."""
    return np.exp(log_p) * (log_p - np.exp(log_q))


def squares(log_p, log_q):
    return (np.exp(log_p) - np.exp(log_q)) ** 2


def twice(z):
    """A softmax of probabilities."""
    return log_softmax(np.exp(log_softmax(z)))


def product(x, y, size):
    """x y^T / sqrt(size). Shapes: (B, A, T, K) twice -> (B, A, T, T)."""
    return x @ y.swapaxes(2, 3) / np.sqrt(size)


def per_sequence(mask, A):
    """A n_b B, (B, 1)."""
    return A * mask.sum(axis=1, keepdims=True) * len(mask)


def divergence(student, teacher, mask, each=kl, keys=None, rows=None, divisor=per_sequence, log_softmax=log_softmax):
    """The loss of scores (B, A, T, T), with nothing wrong: sum_bt rows_bt / divisor_b sum_a sum_s each(p, q)_bats.

    keys, rows: f(mask) -> what counts as one.
    """
    hidden = np.where(keys(mask) if keys else mask, 0.0, -1e30)[:, None, None, :]
    log_p, log_q = log_softmax(teacher + hidden), log_softmax(student + hidden)
    of_rows = each(log_p, log_q).sum(axis=3).sum(axis=1)                                # (B, T)
    return (np.where(rows(mask) if rows else mask, of_rows, 0.0) / divisor(mask, student.shape[1])).sum()


def all_entries(mask, A):
    """B A T T, what a mean divides by."""
    return mask.size * A * mask.shape[1]


def averaged(z):
    """The logarithm of the heads' mean distribution, as of one head. Shapes: (B, A, T, T) -> (B, 1, T, T)."""
    return np.log(np.exp(log_softmax(z)).mean(axis=1, keepdims=True) + 1e-300)


def over_queries(z):
    return log_softmax(z, axis=2)


# ---------------------------------------------------------------- rows

def token_mean(mask):
    return mask / mask.sum()


def padded_mean(mask):
    """Rows of padding count as 0."""
    return mask / mask.size


def per_token(mask):
    """1/(n_b B) of the real rows, (B, T)."""
    return mask / mask.sum(axis=1, keepdims=True) / len(mask)


def rows(of_rows, mask, weight=per_token):
    """sum_bt weight_bt of_rows_bt, nothing from a row of weight 0."""
    w = weight(mask)
    return (np.where(w > 0, of_rows, 0.0) * w).sum()


def of_rows(E, form, width=None):
    """Mistakes of a mean over rows, each with a value of its own. form(weight=...) makes a forward; width(inputs): of
    the mean within a row, where there is one."""
    def widths(inputs, attrs):
        return width(inputs)

    def sequences(inputs, attrs):
        return len(inputs["mask"])

    return (
        computes(E, "token_mean", "one mean over the real tokens of the batch", TOKENS, TEXTBREWER + " hid_mse_loss",
                 form(weight=token_mean)),
        computes(E, "mean_incl_pad", "rows of padding count as 0: a division by T in the place of |x|", "short "
                 "sequences hardly count, the less the longer the batch is padded",
                 "aitsc/GLMKD distill/custom_loss.py loss_handling", form(weight=padded_mean)),
        scaled(E, "sum_over_batch", "a sum over the batch", "the learning rate grows with the batch", "constructed",
               value=sequences, gradient=sequences),
    ) + ((scaled(E, "sum_over_width", "a sum over the width, a mean over rows", "as many times too large as the width: "
                 "another weight is needed for each model", "constructed", value=widths, gradient=widths),)
         if width else ())


# ---------------------------------------------------------------- any loss

def general(E, teacher=None):
    """Mistakes that any loss can have. teacher: forward(**inputs, **attrs) of a fast form that is right, or
    {"d" + input: f(gradients, inputs, attrs, upstream)} of the teacher's gradient."""
    found = (
        scaled(E, "student_is_teacher", "the teacher's output is passed for both", NO_DISTILLATION,
               "https://github.com/labmlai/annotated_deep_learning_paper_implementations/issues/66",
               value=lambda i, a: 0.0, gradient=lambda i, a: 0.0),
        upstream_forgotten(E))
    return found + ((teacher_grad(E, teacher),) if teacher else ())


def upstream_forgotten(E):
    return ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above", NO_WEIGHT,
                            "https://github.com/pytorch/pytorch/issues/21961")


def teacher_grad(E, teacher):
    """The teacher's output is not detached."""
    def change(right, inputs, attrs, upstream):
        def loss(moved):
            return total(upstream, {"value": teacher(**moved, **attrs)})

        if not callable(teacher):
            return {name: f(right, inputs, attrs, upstream) for name, f in teacher.items()}
        return {f"d{name}": complex_step(loss, inputs, name) for name in inputs if name.startswith("teacher_")}
    return derives(E, "teacher_grad", "the teacher's output is not detached", TEACHER_MOVES,
                   "https://github.com/pytorch/translate/pull/391", change)
