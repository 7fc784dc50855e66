"""Attention transfer: how it has been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, derives, ignores_upstream, reads, scaled
from tinydistill_reference.traps.soft_labels import ISSUES, PADDING, WRONG_SHARE, everywhere, factor

CODE = "szagoruyko/attention-transfer utils.py"


def maps_of(hidden, mask, power=2, normalised=True, axis=(1,)):
    """(B, T), 0 in padding."""
    q = ((hidden * hidden if power == 2 else hidden * np.sign(hidden.real)) * mask[..., None]).sum(axis=-1)
    squares = (q * q).sum(axis=axis, keepdims=True)
    return q / np.sqrt(np.where(squares == 0, 1, squares)) if normalised else q


def differences(student_hidden, teacher_hidden, mask, **how):
    return maps_of(student_hidden, mask, **how) - maps_of(teacher_hidden, mask, **how)


def norms(d):
    """1/B sum_b |d_b|, 0 where d is 0."""
    squares = (d * d).sum(axis=1)
    return np.where(squares == 0, 0, np.sqrt(np.where(squares == 0, 1, squares))).mean()


def norms_of(**how):
    def forward(student_hidden, teacher_hidden, mask):
        return norms(differences(student_hidden, teacher_hidden, mask, **how))
    return forward


def squares_of(mean, **how):
    """All positions count. mean: of d * d (B, T)."""
    def forward(student_hidden, teacher_hidden, mask):
        d = differences(student_hidden, teacher_hidden, np.ones_like(mask), **how)
        return mean(d * d)
    return forward


def l1(student_hidden, teacher_hidden, mask):
    d = differences(student_hidden, teacher_hidden, mask)
    return (d * np.sign(d.real)).sum(axis=1).mean()


def direct(mask, pull):
    """A backward that takes |Q^S| for a constant: dL/dh = 2 h pull(d) / |Q^S|."""
    def gradient(gradients, inputs, attrs, upstream):
        h, seen = inputs["student_hidden"], mask(inputs)
        d = differences(h, inputs["teacher_hidden"], seen)
        q = (h * h * seen[..., None]).sum(axis=-1)
        length = np.sqrt((q * q).sum(axis=1, keepdims=True))
        dq = upstream * pull(d) / np.where(length == 0, 1, length)
        return {"dstudent_hidden": 2 * h * (dq * seen)[..., None]}
    return gradient


def direction(d):
    length = np.sqrt((d * d).sum(axis=1, keepdims=True))
    return d / np.where(length == 0, 1, length) / len(d)


E = "attention_transfer.maps"
MAPS = (
    computes(E, "mean_of_squares", "the mean of the squared difference, as in the authors' code",
             "pairs that are nearly equal get no gradient, and beta is another one",
             ISSUES + "szagoruyko/attention-transfer/issues/34", squares_of(lambda squares: squares.mean())),
    computes(E, "squared", "the norm is squared", "pairs that are nearly equal get no gradient", "constructed",
             lambda student_hidden, teacher_hidden, mask:
                 (differences(student_hidden, teacher_hidden, mask) ** 2).sum(axis=1).mean()),
    computes(E, "not_normalised", "maps that are not divided by their length",
             "the student copies how large the states are", "constructed", norms_of(normalised=False)),
    computes(E, "power_1", "sums of |h| in the place of squares", "another map: F_sum",
             "Zagoruyko and Komodakis 2017, section 3.1", norms_of(power=1)),
    computes(E, "batch_normalised", "one length for the maps of the whole batch", "sequences share one budget",
             "constructed", norms_of(axis=(0, 1))),
    computes(E, "l1", "the sum of |d| in the place of the length", "positions pull alike, near or far", "constructed",
             l1),
    scaled(E, "with_half", "1/2 of beta/2 is left in", "half of the loss", "Zagoruyko and Komodakis 2017, eq. of L_AT",
           **factor(lambda i, a: 0.5)),
    reads(E, "no_mask", "padding is part of the map", PADDING, ISSUES + "peremartra/optipfair/issues/34",
          mask=everywhere),
    derives(E, "bwd_no_projection", "a backward that takes |Q^S| for a constant", "states grow without end",
            "constructed", direct(lambda i: i["mask"], direction)),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above",
                     "weights of the loss have no effect", "constructed"),
)

E = "attention_transfer.maps_official"
OFFICIAL = (
    computes(E, "unsquared", "the length of the difference, as the paper prints it",
             "the code's beta is far too large for it", "Zagoruyko and Komodakis 2017, eq. of L_AT",
             lambda student_hidden, teacher_hidden, mask:
                 norms(differences(student_hidden, teacher_hidden, np.ones_like(mask)))),
    computes(E, "sum_over_positions", "a sum over positions, a mean over the batch", "T times the loss", "constructed",
             squares_of(lambda squares: squares.sum(axis=1).mean())),
    computes(E, "not_normalised", "maps that are not divided by their length",
             "the student copies how large the states are",
             "constructed", squares_of(lambda squares: squares.mean(), normalised=False)),
    computes(E, "power_1", "sums of |h| in the place of squares", "another map: F_sum",
             "Zagoruyko and Komodakis 2017, section 3.1", squares_of(lambda squares: squares.mean(), power=1)),
    computes(E, "batch_normalised", "one length for the maps of the whole batch", "sequences share one budget",
             "constructed", squares_of(lambda squares: squares.mean(), axis=(0, 1))),
    scaled(E, "with_half", "beta/2 of the paper", "half of the loss", CODE + ": beta, not beta/2",
           **factor(lambda i, a: 0.5)),
    scaled(E, "bwd_missing_2", "a backward without the 2 of the square", WRONG_SHARE, "constructed",
           gradient=lambda i, a: 0.5),
    derives(E, "bwd_no_projection", "a backward that takes |Q^S| for a constant", "states grow without end",
            "constructed", direct(lambda i: np.ones_like(i["mask"]), lambda d: 2 * d / d.size)),
)
TRAPS = MAPS + OFFICIAL
