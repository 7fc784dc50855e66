"""Labels of words: how they have been got wrong."""

import numpy as np

from tinydistill_reference.conventions import IGNORED
from tinydistill_reference.mistakes import computes, derives, ignores_upstream, reads, scaled, sets
from tinydistill_reference.traps.soft_labels import (ISSUES, MODE_SEEKING, PADDING, WRONG_SHARE, factor, labelled,
                                                     log_softmax, reverse, softmax, teacher_times_T, without_zero)


def of_words(row, weight=lambda seen: seen / max(1, seen.sum())):
    """A forward with another loss of a row, or another weight of it."""
    def forward(student_logits, teacher_logits, labels, temperature):
        return (weight(labels != IGNORED) * row(student_logits, teacher_logits, temperature)).sum()
    return forward


def cross_entropy(student, teacher, temperature):
    return -(softmax(teacher, temperature) * log_softmax(student, temperature)).sum(axis=-1)


def each_sequence(seen):
    return seen / np.maximum(1, seen.sum(axis=1, keepdims=True)) / max(1, seen.any(axis=1).sum())


E = "sequence_labels"
TRAPS = (
    sets(E, "all_pieces", "every position counts, not only the first piece of a word",
         PADDING + ", and long words count more", ISSUES + "huggingface/transformers/issues/323", rows="all"),
    reads(E, "zero_ignored", "label 0 is taken for padding", "one label is never distilled",
          ISSUES + "codertimo/BERT-pytorch/issues/98", labels=without_zero),
    scaled(E, "divides_by_all", "the sum over words is divided by all positions",
           "the more padding, the smaller the loss",
           ISSUES + "ServiceNow/Fast-LLM/issues/344", **factor(lambda i, a: labelled(i) / i["labels"].size)),
    scaled(E, "batchmean_of_sequences", "divided by B", "the loss grows with the number of words",
           ISSUES + "huggingface/transformers/issues/1181", **factor(lambda i, a: labelled(i) / len(i["labels"]))),
    computes(E, "mean_of_means", "each sequence is averaged by itself", "words of short sequences count more",
             ISSUES + "huggingface/transformers/issues/34191", of_words(cross_entropy, each_sequence)),
    sets(E, "kl_not_ce", "a divergence in the place of the cross-entropy",
         "the same gradient; the loss is smaller by the teacher's entropy", ISSUES + "jongwooko/distillm/issues/7",
         constant="kl"),
    computes(E, "reverse_kl", "KL(q || p)", MODE_SEEKING, ISSUES + "paiml/aprender/pull/2153", of_words(reverse)),
    reads(E, "temperature_student_only", "T divides the student's logits alone",
          "the student's optimum has logits T times the teacher's",
          ISSUES + "huawei-noah/Pretrained-Language-Model/issues/11", teacher_logits=teacher_times_T(1.0)),
    derives(E, "bwd_missing_1_over_T", "a backward of q - p without 1/T", WRONG_SHARE, "Hinton et al. 2015, section 2",
            lambda g, i, a, u: {"dstudent_logits": g["dstudent_logits"] * a["temperature"]}),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above",
                     "weights of the loss have no effect", "constructed"),
)
