"""DistilBERT: how its terms have been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, derives, ignores_upstream, reads, scaled, sets
from tinydistill_reference.traps.soft_labels import (ISSUES, PADDING, TORCHDISTILL, WRONG_SHARE, everywhere, factor, kl,
                                                     log_softmax, of_tokens, real_over_sequences, softmax,
                                                     teacher_gradient)

CODE = "huggingface/transformers-research-projects distillation/distiller.py"
TEXTBREWER = "airaria/TextBrewer src/textbrewer/losses.py "


def no_minus(student, teacher, temperature):
    return (softmax(teacher, temperature) * log_softmax(student, temperature)).sum(axis=-1)


E = "distilbert.soft_labels"
SOFT = (
    sets(E, "no_T2", "the factor T^2 is left out", WRONG_SHARE, ISSUES + "huggingface/transformers/issues/12299",
         temperature_squared=False),
    sets(E, "labels_only", "only masked tokens count", "most of what the teacher says is thrown away",
         CODE + " --restrict_ce_to_mask", rows="labelled"),
    reads(E, "no_mask", "padded tokens count like real ones", PADDING, ISSUES + "peremartra/optipfair/issues/34",
          mask=everywhere),
    scaled(E, "batchmean_of_sequences", "batchmean of logits that were not flattened: divided by B",
           "the loss grows with the length of the sequences", ISSUES + "huggingface/transformers/issues/1181",
           **factor(real_over_sequences)),
    sets(E, "mean_over_vocabulary", "a mean over tokens and vocabulary", "the loss is 30,522 times too small",
         ISSUES + "HikariTJU/LD/issues/74", divisor="element"),
    computes(E, "no_minus", "sum t log s, as it is printed: the minus sign is missing",
             "the student flees from the teacher", "Sanh et al. 2019, section 2, L_ce", of_tokens(no_minus)),
    computes(E, "softmax_over_positions", "a softmax over axis 1 of (B, T, V)",
             "tokens compete for a class, in the place of classes for a token", TORCHDISTILL,
             lambda student_logits, teacher_logits, mask, labels, temperature:
                 temperature ** 2 * kl(student_logits, teacher_logits, temperature, axis=1).sum() / mask.sum()),
    sets(E, "no_temperature", "T = 1 in the place of 2", "the teacher's small probabilities hardly count",
         "constructed", temperature=1.0),
    derives(E, "teacher_grad", "the teacher's logits are not detached",
            "the teacher is trained to agree with the student", "constructed", teacher_gradient),
)


def lengths(x, axis=-1):
    """|x|, 1 where x is 0."""
    squares = (x * x).sum(axis=axis)
    return np.sqrt(np.where(squares == 0, 1, squares))


def cos(student, teacher, axis=-1):
    return (student * teacher).sum(axis=axis) / (lengths(student, axis) * lengths(teacher, axis))


def over_positions(student_hidden, teacher_hidden, mask):
    return (1 - cos(student_hidden, teacher_hidden, axis=1)).mean()


def whole_sequences(student_hidden, teacher_hidden, mask):
    student, teacher = ((x * mask[..., None]).reshape(len(mask), -1)                    # (B, T*D)
                        for x in (student_hidden, teacher_hidden))
    return (1 - cos(student, teacher)).mean()


def sum_all_div_valid(student_hidden, teacher_hidden, mask):
    return (1 - cos(student_hidden, teacher_hidden)).sum() / mask.sum()


def times_mask(student_hidden, teacher_hidden, mask):
    """Padding is made 0 and counted: its cosine is 0, its loss 1."""
    return 1 - (mask * cos(student_hidden, teacher_hidden)).mean()


def teacher_as_it_is(student_hidden, teacher_hidden, mask):
    """The teacher's vectors are not divided by their lengths."""
    dots = (student_hidden * teacher_hidden).sum(axis=-1) / lengths(student_hidden)
    return (mask * (1 - dots)).sum() / mask.sum()


def without_projection(rows):
    """-w u^T / |h^S|: the normalisation is taken for a constant. rows(inputs) -> w."""
    def gradient(gradients, inputs, attrs, upstream):
        s, t = inputs["student_hidden"], inputs["teacher_hidden"]
        scale = -upstream * rows(inputs) / (lengths(s) * lengths(t))
        return {"dstudent_hidden": scale[..., None] * t}
    return gradient


E = "distilbert.cosine"
COSINE = (
    reads(E, "no_mask", "padded tokens count like real ones", PADDING, ISSUES + "NVIDIA/Model-Optimizer/pull/892",
          mask=everywhere),
    computes(E, "sum_all_div_valid", "the sum over all tokens is divided by the real ones",
             PADDING + ", and the loss grows", ISSUES + "linkedin/Liger-Kernel/pull/1478", sum_all_div_valid),
    computes(E, "over_positions", "cosine_similarity with its default dim=1, which of (B, T, D) is the sequence",
             "coordinates are compared, not tokens", "pytorch/pytorch torch/nn/functional.py cosine_similarity: dim=1",
             over_positions),
    computes(E, "whole_sequences", "one cosine for a flattened sequence", "long vectors outweigh the others",
             "constructed", whole_sequences),
    computes(E, "times_mask", "hidden states are multiplied by the mask, and all positions averaged",
             "each padded token costs 1: the loss measures padding", "constructed", times_mask),
    computes(E, "teacher_as_it_is", "the teacher's vectors are not normalised", "the loss is not bounded, and never 0",
             "constructed", teacher_as_it_is),
    scaled(E, "squared_distance", "|u^S - u^T|^2, which is 2 (1 - cos)", WRONG_SHARE, TEXTBREWER + "pkd_loss",
           **factor(lambda i, a: 2.0)),
    sets(E, "mean_of_means", "each sequence is averaged by itself", "tokens of short sequences count more",
         ISSUES + "huggingface/transformers/issues/34191", divisor="sequence"),
    derives(E, "bwd_no_projection", "a backward that takes |h^S| for a constant", "states grow without end",
            "constructed", without_projection(lambda i: i["mask"] / i["mask"].sum())),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above",
                     "weights of the loss have no effect", "constructed"),
)


def of_probabilities(student_logits, teacher_logits, mask, labels):
    rows = ((softmax(student_logits) - softmax(teacher_logits)) ** 2).sum(axis=-1)
    return (mask * rows).sum() / mask.sum()


E = "distilbert.logits_mse"
MSE = (
    sets(E, "mean_over_vocabulary", "MSELoss: a mean over tokens and vocabulary", "the loss is 30,522 times too small",
         TEXTBREWER + "kd_mse_loss", divisor="element"),
    sets(E, "sum_not_mean", "reduction sum, without the division by the number of tokens",
         "the loss grows with the batch", CODE + ": mse_loss_fct is a sum, divided by hand", divisor="none"),
    sets(E, "labels_only", "only masked tokens count", "most of what the teacher says is thrown away",
         CODE + " --restrict_ce_to_mask", rows="labelled"),
    reads(E, "no_mask", "padded tokens count like real ones", PADDING, ISSUES + "peremartra/optipfair/issues/34",
          mask=everywhere),
    computes(E, "of_probabilities", "squares of softmax probabilities", "no gradient where the student is sure",
             "constructed", of_probabilities),
    scaled(E, "bwd_missing_2", "a backward without the 2 of the square", WRONG_SHARE, "constructed",
           gradient=lambda i, a: 0.5),
)
TRAPS = SOFT + COSINE + MSE
