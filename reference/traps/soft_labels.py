"""Soft labels: how they have been got wrong."""

import numpy as np

from tinydistill_reference.conventions import IGNORED
from tinydistill_reference.mistakes import computes, derives, ignores_upstream, reads, scaled, sets

ISSUES = "https://github.com/"
WRONG_SHARE = "gradients of soft and hard loss are mixed in the wrong proportion"
MODE_SEEKING = "mode-seeking: the student drops what the teacher thinks less likely"
BATCH_SIZE = "the learning rate depends on the batch size"
PADDING = "the student learns to copy the teacher's answers to padding"
TORCHDISTILL = "yoshitomo-matsubara/torchdistill KDLoss: log_softmax over dim=1, which of (B, T, V) is the sequence"


def log_softmax(z, temperature=1.0, axis=-1):
    shifted = (z - z.real.max(axis=axis, keepdims=True)) / temperature
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def softmax(z, temperature=1.0, axis=-1):
    return np.exp(log_softmax(z, temperature, axis))


def kl(student, teacher, temperature=1.0, axis=-1):
    """Row by row."""
    log_p, log_q = log_softmax(teacher, temperature, axis), log_softmax(student, temperature, axis)
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=axis)


def of_classes(row):
    """A forward with another loss of a row: row(student, teacher, temperature)."""
    def forward(student_logits, teacher_logits, temperature):
        return temperature ** 2 * row(student_logits, teacher_logits, temperature).sum() / len(student_logits)
    return forward


def of_tokens(row, weight=lambda mask, labels: mask / mask.sum()):
    """A forward with another loss of a row, or another weight of it."""
    def forward(student_logits, teacher_logits, mask, labels, temperature=1.0):
        return temperature ** 2 * (weight(mask, labels) * row(student_logits, teacher_logits, temperature)).sum()
    return forward


def factor(f):
    """Of a value and of its gradient."""
    return {"value": f, "gradient": f}


def no_log(student, teacher, temperature):
    p, q = softmax(teacher, temperature), softmax(student, temperature)
    return (p * (np.log(np.maximum(p, 1e-30)) - q)).sum(axis=-1)


def double_softmax(student, teacher, temperature):
    return kl(softmax(student, temperature), softmax(teacher, temperature))


def eps_in_log(student, teacher, temperature):
    p, q, eps = softmax(teacher, temperature), softmax(student, temperature), 1e-5
    return (p * np.log((p + eps) / (q + eps) + eps)).sum(axis=-1)


def reverse(student, teacher, temperature):
    return kl(teacher, student, temperature)


def teacher_gradient(gradients, inputs, attrs, upstream):
    """dL/dz^T = w p/T ((log p - log q) - KL), of the N real rows."""
    student, teacher, T = inputs["student_logits"], inputs["teacher_logits"], attrs["temperature"]
    log_p, log_q = log_softmax(teacher, T), log_softmax(student, T)
    w = inputs["mask"] / inputs["mask"].sum() if "mask" in inputs else np.full(len(student), 1 / len(student))
    beyond = log_p - log_q - kl(student, teacher, T)[..., None]
    return {"dteacher_logits": upstream * T * w[..., None] * np.exp(log_p) * beyond}


def everywhere(inputs, attrs):
    return np.ones_like(inputs["mask"])


def teacher_times_T(default):
    """What a teacher's logits are where T divides the student's alone."""
    return lambda inputs, attrs: inputs["teacher_logits"] * np.float32(attrs.get("temperature", default))


def without_zero(inputs, attrs):
    """Labels of which 0 is taken for padding."""
    return np.where(inputs["labels"] == 0, IGNORED, inputs["labels"])


def real_over_sequences(inputs, attrs):
    return inputs["mask"].sum() / len(inputs["mask"])


def labelled(inputs):
    return max(1, (inputs["labels"] != IGNORED).sum())


E = "soft_labels.classes"
CLASSES = (
    sets(E, "no_T2", "the factor T^2 is left out", WRONG_SHARE + " once T is not 1",
         ISSUES + "TropComplique/knowledge-distillation-keras/issues/2", temperature_squared=False),
    scaled(E, "T_not_T2", "T in the place of T^2", WRONG_SHARE, ISSUES + "SforAiDl/KD_Lib/issues/59",
           **factor(lambda i, a: 1 / a.get("temperature", 1.0))),
    sets(E, "mean_over_vocabulary", "a mean over rows and classes (KLDivLoss, reduction mean)",
         "the loss is C times too small: the soft term hardly counts",
         ISSUES + "haitongli/knowledge-distillation-pytorch/issues/2", divisor="element"),
    computes(E, "reverse_kl", "KL(q || p) in the place of KL(p || q)", MODE_SEEKING,
             ISSUES + "paiml/aprender/pull/2153", of_classes(reverse)),
    computes(E, "no_log", "KLDivLoss of the student's probabilities, not of their logarithms",
             "the gradient is that of -p q: the loss is negative, and falls without end",
             ISSUES + "microsoft/ProDA/issues/20", of_classes(no_log)),
    reads(E, "student_is_teacher", "the teacher's logits on both sides", "the loss is 0: nothing is distilled",
          ISSUES + "labmlai/annotated_deep_learning_paper_implementations/issues/66",
          student_logits=lambda i, a: i["teacher_logits"]),
    reads(E, "temperature_student_only", "T divides the student's logits alone",
          "the student's optimum has logits T times the teacher's",
          ISSUES + "huawei-noah/Pretrained-Language-Model/issues/11", teacher_logits=teacher_times_T(1.0)),
    sets(E, "ce_not_kl", "a cross-entropy with the teacher in the place of the divergence",
         "the same gradient, but the loss never ends at 0 and depends on the teacher",
         ISSUES + "jongwooko/distillm/issues/7", constant="cross-entropy"),
    computes(E, "double_softmax", "probabilities are softmaxed again",
             "both sides are nearly uniform: hardly any signal",
             ISSUES + "2018cx/Multi-Level-OT/issues/4", of_classes(double_softmax)),
    computes(E, "eps_in_log", "1e-5 is added to both probabilities and to their ratio",
             "classes below 1e-5 are not distilled, and equal distributions cost something",
             ISSUES + "PaddlePaddle/PaddleOCR/issues/6747", of_classes(eps_in_log)),
    derives(E, "bwd_missing_1_over_T", "a backward of q - p without 1/T", WRONG_SHARE, "Hinton et al. 2015, section 2",
            lambda g, i, a, u: {"dstudent_logits": g["dstudent_logits"] * a["temperature"]}),
    derives(E, "teacher_grad", "the teacher's logits are not detached",
            "the teacher is trained to agree with the student", "constructed", teacher_gradient),
    sets(E, "sum_not_mean", "the sum over the batch", BATCH_SIZE, "constructed", divisor="none"),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above",
                     "weights of the loss have no effect", "constructed"),
)

E = "soft_labels.tokens"
TOKENS = (
    reads(E, "no_mask", "padded tokens count like real ones", PADDING, ISSUES + "peremartra/optipfair/issues/34",
          mask=everywhere),
    scaled(E, "batchmean_of_sequences", "batchmean of logits that were not flattened: divided by B",
           "the loss grows with the length of the sequences", ISSUES + "huggingface/transformers/issues/1181",
           **factor(real_over_sequences)),
    scaled(E, "mean_incl_pad", "the sum over real tokens is divided by all", "the more padding, the smaller the loss",
           ISSUES + "ServiceNow/Fast-LLM/issues/344", **factor(lambda i, a: i["mask"].mean())),
    computes(E, "sum_all_div_valid", "the sum over all tokens is divided by the real ones",
             PADDING + ", and the loss grows with it", ISSUES + "linkedin/Liger-Kernel/pull/1478",
             of_tokens(kl, lambda mask, labels: 1 / mask.sum())),
    sets(E, "mean_of_means", "each sequence is averaged by itself", "tokens of short sequences count more",
         ISSUES + "huggingface/transformers/issues/34191", divisor="sequence"),
    computes(E, "softmax_over_positions", "a softmax over axis 1 of (B, T, V)",
             "tokens compete for a class, in the place of classes for a token", TORCHDISTILL,
             lambda student_logits, teacher_logits, mask, labels, temperature:
                 temperature ** 2 * kl(student_logits, teacher_logits, temperature, axis=1).sum() / mask.sum()),
    sets(E, "no_T2", "the factor T^2 is left out", WRONG_SHARE + " once T is not 1",
         "linkedin/Liger-Kernel src/liger_kernel/chunked_loss/fused_linear_distillation.py", temperature_squared=False),
    sets(E, "mean_over_vocabulary", "a mean over tokens and vocabulary", "the loss is V times too small",
         ISSUES + "facebookresearch/deit/issues/61", divisor="element"),
    computes(E, "reverse_kl", "KL(q || p) in the place of KL(p || q)", MODE_SEEKING,
             ISSUES + "paiml/aprender/pull/2153", of_tokens(reverse)),
    derives(E, "teacher_grad", "the teacher's logits are not detached",
            "the teacher is trained to agree with the student", "constructed", teacher_gradient),
)

E = "soft_labels.masked"
MASKED = (
    sets(E, "all_tokens", "every real token counts, not only those that were masked",
         "most of the loss comes from tokens that the student can see",
         "huggingface/transformers-research-projects distillation/distiller.py without --restrict_ce_to_mask",
         rows="real"),
    sets(E, "no_mask", "every position counts, padding too", PADDING, ISSUES + "peremartra/optipfair/issues/34",
         rows="all"),
    reads(E, "zero_ignored", "label 0 is taken for padding", "one token of the vocabulary is never distilled",
          ISSUES + "codertimo/BERT-pytorch/issues/98", labels=without_zero),
    scaled(E, "divides_by_tokens", "the sum over labelled tokens is divided by all real ones",
           "the loss is smaller by the share of masked tokens", ISSUES + "ServiceNow/Fast-LLM/issues/344",
           **factor(lambda i, a: labelled(i) / i["mask"].sum())),
    scaled(E, "batchmean_of_sequences", "divided by B", "the loss grows with the number of masked tokens",
           ISSUES + "neuralmagic/sparseml/pull/592", **factor(lambda i, a: labelled(i) / len(i["mask"]))),
    sets(E, "mean_of_means", "each sequence is averaged by itself", "labels of short sequences count more",
         ISSUES + "huggingface/trl/issues/6006", divisor="sequence"),
    sets(E, "ce_not_kl", "a cross-entropy in the place of the divergence", "the loss never ends at 0",
         ISSUES + "jongwooko/distillm/issues/7", constant="cross-entropy"),
)

E = "soft_labels.logits_mse"
MSE = (
    sets(E, "mean_over_classes", "MSELoss: a mean over rows and classes", "the loss is C times too small",
         "castorini/d-bert: MSELoss, a mean over B C", divisor="element"),
    sets(E, "no_temperature", "logits that are not divided by T", "the loss is T^2 times too large", "constructed",
         temperature=1.0),
    scaled(E, "T_not_T2", "the square of the difference is divided by T", "the loss is T times too large",
           "constructed",
           **factor(lambda i, a: a.get("temperature", 1.0))),
    computes(E, "of_probabilities", "squares of softmax probabilities",
             "no gradient where the student is sure, be it right or wrong", "constructed",
             lambda student_logits, teacher_logits, temperature:
                 ((softmax(student_logits, temperature) - softmax(teacher_logits, temperature)) ** 2).sum()
                 / len(student_logits)),
    computes(E, "centred", "rows are centred first: what soft labels become when T is large",
             "a constant on a row costs nothing", "Hinton et al. 2015, section 2 (unverified)",
             lambda student_logits, teacher_logits, temperature: (((
                 d := student_logits - teacher_logits) - d.mean(axis=1, keepdims=True)) ** 2).sum()
             / (len(student_logits) * temperature ** 2)),
    scaled(E, "half", "1/2 of the square", WRONG_SHARE, "constructed", **factor(lambda i, a: 0.5)),
    scaled(E, "bwd_missing_2", "a backward without the 2 of the square", WRONG_SHARE, "constructed",
           gradient=lambda i, a: 0.5),
)


def of_sides(student, teacher, mask, temperature, axis=1):
    """KL of start and end (B, 2), over the real positions."""
    student, teacher = (np.where(mask[..., None], z, -1e4) for z in (student, teacher))
    return kl(student, teacher, temperature, axis)


def over_sides(student_logits, teacher_logits, mask, temperature):
    return temperature ** 2 * (mask * kl(student_logits, teacher_logits, temperature)).sum() / (2 * len(mask))


def one_distribution(student_logits, teacher_logits, mask, temperature):
    student, teacher = (np.where(mask[..., None], z, -1e4).reshape(len(mask), -1)       # (B, 2T)
                        for z in (student_logits, teacher_logits))
    return temperature ** 2 * kl(student, teacher, temperature).mean()


E = "soft_labels.span"
SPANS = (
    sets(E, "padding_takes_part", "the softmax runs over padding, too", "part of the mass goes to padding",
         "huggingface/transformers-research-projects distillation/run_squad_w_distillation.py", keys="all"),
    computes(E, "start_only", "the start's divergence, and not the end's", "ends are never distilled", "constructed",
             lambda student_logits, teacher_logits, mask, temperature: temperature ** 2 * of_sides(
                 student_logits, teacher_logits, mask, temperature)[:, 0].mean()),
    scaled(E, "sum_not_half", "the sum of start and end, not their mean", "twice the loss, beside 0.5 of the labels'",
           "constructed", **factor(lambda i, a: 2.0)),
    scaled(E, "no_T2", "the factor T^2 is left out", WRONG_SHARE + " once T is not 1",
           ISSUES + "TropComplique/knowledge-distillation-keras/issues/2",
           **factor(lambda i, a: 1 / a.get("temperature", 2.0) ** 2)),
    scaled(E, "mean_over_positions", "KLDivLoss with reduction mean: divided by T as well",
           "the loss shrinks with the length",
           ISSUES + "haitongli/knowledge-distillation-pytorch/issues/48", **factor(lambda i,
                                                                                   a: 1 / i["mask"].shape[1])),
    computes(E, "softmax_over_sides", "a softmax over the last axis of (B, T, 2)",
             "start competes with end at each token", "constructed", over_sides),
    computes(E, "one_distribution", "one softmax over starts and ends together",
             "a sure start makes every end unlikely", "constructed", one_distribution),
)
TRAPS = CLASSES + TOKENS + MASKED + MSE + SPANS
