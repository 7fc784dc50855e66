"""Weighted squared error: how it has been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, derives, ignores_upstream, scaled


def _scaled_by(factor):
    return {"value": factor, "gradient": factor}


E = "squared_error"
TRAPS = (
    scaled(E, "mean_over_features", "a mean over the features, MSELoss, where a sum is asked for",
           "the loss is D times too small", "huawei-noah/Pretrained-Language-Model TinyBERT/task_distill.py: MSELoss",
           **_scaled_by(lambda i, a: 1 / i["student"].shape[-1])),
    scaled(E, "mean_over_rows", "a mean over all rows, on top of the weights", "the loss is divided twice",
           "constructed", **_scaled_by(lambda i, a: 1 / i["weight"].size)),
    scaled(E, "half", "1/2 of the square", "the loss has half its weight",
           "https://github.com/davisking/dlib/issues/1169", **_scaled_by(lambda i, a: 0.5)),
    scaled(E, "bwd_without_2", "a backward of s - t, without the 2", "the gradient is that of half the loss",
           "https://github.com/ooples/AiDotNet/pull/481", gradient=lambda i, a: 0.5),
    scaled(E, "bwd_sign", "a backward of t - s", "the student runs away from the teacher", "constructed",
           gradient=lambda i, a: -1.0),
    computes(E, "weight_squared", "the weights are multiplied in before squaring", "a mean of n rows is divided by n^2",
             "constructed", lambda student, teacher, weight: ((weight[..., None] * (student - teacher)) ** 2).sum()),
    computes(E, "not_squared", "the distance of each row, not its square", "far rows pull no harder than near ones",
             "constructed", lambda student, teacher, weight: (weight * np.where(
                 (student == teacher).all(axis=-1), 0, np.sqrt(((student - teacher) ** 2).sum(axis=-1)))).sum()),
    computes(E, "weights_ignored", "every row counts alike", "padding counts", "constructed",
             lambda student, teacher, weight: ((student - teacher) ** 2).sum()),
    derives(E, "bwd_without_weights", "a backward that forgets the weights", "padding learns, too", "constructed",
            lambda g, i, a, u: {"dstudent": u * 2 * (i["student"] - i["teacher"])}),
    derives(E, "teacher_gradient", "the teacher gets a gradient", "the teacher learns from its student", "constructed",
            lambda g, i, a, u: {"dteacher": -g["dstudent"]}),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above",
                     "weights of the loss have no effect", "constructed"),
)
