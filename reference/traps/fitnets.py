"""FitNets: how hints and softened labels have been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, derives, ignores_upstream, reads, scaled, sets
from tinydistill_reference.traps.soft_labels import (ISSUES, PADDING, WRONG_SHARE, everywhere, factor, reverse,
                                                     teacher_times_T)

MSELOSS = "HobbitLong/RepDistiller distiller_zoo/FitNet.py: MSELoss"


def residual(student_hidden, teacher_hidden, mask, weight, bias):
    return (student_hidden @ weight.T + bias - teacher_hidden) * mask[..., None]


def unsquared(student_hidden, teacher_hidden, mask, weight, bias):
    e = residual(student_hidden, teacher_hidden, mask, weight, bias)
    squares = (e * e).sum(axis=-1)
    return (mask * np.sqrt(np.where(mask, squares, 1))).sum() / (2 * mask.sum())


def mean_of_means(student_hidden, teacher_hidden, mask, weight, bias):
    e = residual(student_hidden, teacher_hidden, mask, weight, bias)
    return ((e * e).sum(axis=(1, 2)) / mask.sum(axis=1)).mean() / 2


def without_bias(student_hidden, teacher_hidden, mask, weight, bias):
    e = residual(student_hidden, teacher_hidden, mask, weight, 0 * bias)
    return (e * e).sum() / (2 * mask.sum())


E = "fitnets.hint"
HINT = (
    scaled(E, "mean_over_width", "MSELoss: a mean over tokens and width, without 1/2",
           "the loss is D'/2 times too small",
           MSELOSS, **factor(lambda i, a: 2 / i["bias"].size)),
    scaled(E, "no_half", "the square without 1/2", "twice the loss", "constructed", **factor(lambda i, a: 2.0)),
    reads(E, "no_mask", "padded tokens count like real ones", PADDING, ISSUES + "peremartra/optipfair/issues/34",
          mask=everywhere),
    scaled(E, "batchmean_of_sequences", "the sum over tokens is divided by B", "the loss grows with the length",
           "constructed", **factor(lambda i, a: i["mask"].sum() / len(i["mask"]))),
    computes(E, "mean_of_means", "each sequence is averaged by itself", "tokens of short sequences count more",
             ISSUES + "huggingface/transformers/issues/34191", mean_of_means),
    computes(E, "unsquared", "the norm is not squared", "far tokens pull no harder than near ones", "constructed",
             unsquared),
    computes(E, "no_bias", "a regressor without its bias", "the teacher's mean cannot be reached", "constructed",
             without_bias),
    derives(E, "regressor_not_trained", "the regressor gets no gradient",
            "the student has to fit a random projection of the hint", "constructed",
            lambda g, i, a, u: {"dweight": 0 * g["dweight"], "dbias": 0 * g["dbias"]}),
    derives(E, "teacher_grad", "the teacher's states are not detached", "the teacher moves towards the student",
            "constructed", lambda g, i, a, u: {"dteacher_hidden": -u / i["mask"].sum() * residual(**i)}),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above",
                     "weights of the loss have no effect", "constructed"),
)

E = "fitnets.softened"
SOFTENED = (
    sets(E, "with_T2", "the factor tau^2 of soft labels", "the teacher's part counts nine times as much at tau = 3",
         "HobbitLong/RepDistiller distiller_zoo/KD.py", temperature_squared=True),
    sets(E, "kl_not_ce", "a divergence in the place of the cross-entropy",
         "the same gradient; the loss is smaller by the teacher's entropy", ISSUES + "jongwooko/distillm/issues/7",
         constant="kl"),
    sets(E, "mean_over_classes", "a mean over rows and classes", "the loss is C times too small",
         ISSUES + "GMvandeVen/continual-learning/issues/5", divisor="element"),
    reads(E, "temperature_student_only", "tau divides the student's logits alone",
          "the student's optimum has logits tau times the teacher's",
          ISSUES + "huawei-noah/Pretrained-Language-Model/issues/11", teacher_logits=teacher_times_T(3.0)),
    computes(E, "reverse_kl", "KL(q || p)", "mode-seeking: the student drops what the teacher thinks less likely",
             ISSUES + "paiml/aprender/pull/2153",
             lambda student_logits, teacher_logits, temperature:
                 reverse(student_logits, teacher_logits, temperature).mean()),
    derives(E, "bwd_missing_1_over_T", "a backward of q - p without 1/tau", WRONG_SHARE,
            "Hinton et al. 2015, section 2",
            lambda g, i, a, u: {"dstudent_logits": g["dstudent_logits"] * a["temperature"]}),
    sets(E, "sum_not_mean", "the sum over the batch", "the learning rate depends on the batch size", "constructed",
         divisor="none"),
)
TRAPS = HINT + SOFTENED
