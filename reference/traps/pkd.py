"""Patient knowledge distillation: how it has been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, derives, scaled, sets
from tinydistill_reference.pkd import EPS
from tinydistill_reference.traps.batched import TEXTBREWER, general

CODE = "intersun/PKD-for-BERT-Model-Compression src/KD_loss.py"


def norm(x, axis=-1):
    n = np.sqrt((x * x).sum(axis=axis, keepdims=True))
    return np.where(n.real > EPS, n, EPS)


def unit(x):
    return x / norm(x)


def cls(student=unit, teacher=unit, of=lambda s, t: ((s - t) ** 2).sum(axis=1).mean(), vector=lambda h: h[:, 0]):
    """1/B sum_b |u^S_b - u^T_b|^2, with room for another vector, another length, another distance."""
    def forward(student_hidden, teacher_hidden, mask):
        return of(student(vector(student_hidden)), teacher(vector(teacher_hidden)))
    return forward


def over_batch(h):
    """F.normalize with dim 0."""
    return h / norm(h, axis=0)


def mean_vector(student_hidden, teacher_hidden, mask):
    """The mean of the real tokens in the place of [CLS]."""
    def average(h):
        return np.where(mask[:, :, None], h, 0).sum(axis=1) / mask.sum(axis=1)[:, None]

    return ((unit(average(student_hidden)) - unit(average(teacher_hidden))) ** 2).sum(axis=1).mean()


def all_tokens(student_hidden, teacher_hidden, mask):
    return ((unit(student_hidden) - unit(teacher_hidden)) ** 2).mean()


def pair(inputs):
    return inputs["student_hidden"][:, 0], inputs["teacher_hidden"][:, 0]


def at_cls(g, inputs):
    dh = np.zeros(inputs["student_hidden"].shape)
    dh[:, 0] = g
    return dh


def length_detached(right, inputs, attrs, upstream):
    """2/B (u - u^T) / |h|: the length is a constant."""
    s, t = pair(inputs)
    return {"dstudent_hidden": at_cls(upstream * 2 / len(s) * (unit(s) - unit(t)) / norm(s), inputs)}


def not_by_length(right, inputs, attrs, upstream):
    """2/B (e - u <u, e>), without 1/|h|."""
    return {"dstudent_hidden": right["dstudent_hidden"] * norm(inputs["student_hidden"])}


def teachers(right, inputs, attrs, upstream):
    s, t = pair(inputs)
    e = upstream * 2 / len(s) * (unit(t) - unit(s))
    return at_cls((e - unit(t) * (unit(t) * e).sum(axis=1, keepdims=True)) / norm(t), inputs)


E = "pkd.patience"
TRAPS = general(E, teacher={"dteacher_hidden": teachers}) + (
    sets(E, "not_normalised", "h itself is compared: normalising is a flag, and off by default", "the loss is one of "
         "lengths, which a smaller model need not have", CODE, normalise=False),
    computes(E, "all_tokens", "every position is compared, padding too, in a mean over everything", "the loss is D "
             "times smaller, and mostly not of [CLS]", "aitsc/GLMKD distill/distill_model.py PKD", all_tokens),
    computes(E, "cosine", "1 - cos in the place of the squared distance", "half of the loss",
             TEXTBREWER + " cos_loss", cls(of=lambda s, t: (1 - (s * t).sum(axis=1)).mean())),
    computes(E, "distance", "the distance, not its square", "a gradient of the same size however near the two are",
             "Sun et al. 2019, equation of L_PT",
             cls(of=lambda s, t: np.sqrt(((s - t) ** 2).sum(axis=1) + 1e-300).mean())),
    computes(E, "last_token", "the last position in the place of the first", "padding is compared, of all sequences "
             "but the longest", "constructed", cls(vector=lambda h: h[:, -1])),
    computes(E, "mean_of_tokens", "the mean of the real tokens in the place of [CLS]", "another vector than the one "
             "that the classifier reads", "Sun et al. 2019, equation of L_PT", mean_vector),
    computes(E, "normalised_over_batch", "a normalisation along the batch axis", "a sequence's loss depends on the "
             "others", "constructed", cls(student=over_batch, teacher=over_batch)),
    computes(E, "teacher_not_normalised", "only the student's vector is normalised", "the loss has a floor, the "
             "teacher's length", "constructed", cls(teacher=lambda h: h)),
    computes(E, "by_squared_length", "h / |h|^2", "long vectors count less", "constructed",
             cls(student=lambda h: h / norm(h) ** 2, teacher=lambda h: h / norm(h) ** 2)),
    scaled(E, "sum_over_batch", "the paper's sum over the examples", "the loss grows with the batch; a beta that was "
           "found for the mean is wrong", "Sun et al. 2019, equation of L_PT", value=lambda i, a: len(i["mask"]),
           gradient=lambda i, a: len(i["mask"])),
    derives(E, "length_detached", "a backward that takes the length for a constant", "the length of [CLS] drifts, "
            "though the loss does not depend on it", "constructed", length_detached),
    derives(E, "no_1_over_length", "a backward without 1 / |h|", "layers with long vectors learn too fast",
            "constructed", not_by_length),
)
