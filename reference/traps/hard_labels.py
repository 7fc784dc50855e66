"""Labels: how their cross-entropy has been got wrong."""

import numpy as np

from tinydistill_reference.conventions import IGNORED
from tinydistill_reference.mistakes import computes, derives, ignores_upstream, reads, scaled
from tinydistill_reference.traps.soft_labels import ISSUES, factor, labelled, log_softmax, softmax, without_zero

NO_LABEL_0 = "one class is never learned, and its rows are not counted"
SOFT = "a right answer still costs something: gradients vanish where the student is wrong"


def picked(rows, labels):
    """rows[n, y_n], 0 where there is no label."""
    found = np.take_along_axis(rows, np.maximum(labels, 0)[..., None], axis=-1)[..., 0]
    return np.where(labels == IGNORED, 0.0, found)


def mean(rows, labels):
    return rows.sum() / max(1, (labels != IGNORED).sum())


def double_softmax(student_logits, labels):
    return -mean(picked(log_softmax(softmax(student_logits)), labels), labels)


def no_log(student_logits, labels):
    return -mean(picked(softmax(student_logits), labels), labels)


def mean_of_means(student_logits, labels):
    seen = labels != IGNORED
    each = -picked(log_softmax(student_logits), labels).sum(axis=1) / np.maximum(1, seen.sum(axis=1))
    return each.sum() / max(1, seen.any(axis=1).sum())


def softmax_over_batch(student_logits, labels):
    return -mean(picked(log_softmax(student_logits, axis=0), labels), labels)


def sigmoids(student_logits, labels):
    """BCEWithLogits of each class against one of the one-hot label: log(1 + e^z) - z y."""
    onehot, positive = np.arange(2) == labels[:, None], student_logits.real > 0
    flipped = np.where(positive, -student_logits, student_logits)
    return (np.log(1 + np.exp(flipped)) + np.where(positive, student_logits, 0) - student_logits * onehot).mean()


def shifted(inputs, attrs):
    """The label of the next token."""
    labels = inputs["labels"]
    return np.concatenate([labels[:, 1:], np.full_like(labels[:, :1], IGNORED)], axis=1)


def without_onehot(gradients, inputs, attrs, upstream):
    seen = inputs["labels"] != IGNORED
    return {"dstudent_logits": upstream * softmax(inputs["student_logits"]) * seen[..., None] / max(1, seen.sum())}


E = "masked_lm"
MASKED_LM = (
    reads(E, "unmasked_as_0", "tokens without a label are trained towards class 0",
          "nearly all of the loss is about nothing",
          ISSUES + "codertimo/BERT-pytorch/issues/29", labels=lambda i, a: np.maximum(i["labels"], 0)),
    reads(E, "zero_ignored", "label 0 is taken for padding", NO_LABEL_0, ISSUES + "codertimo/BERT-pytorch/issues/98",
          labels=without_zero),
    scaled(E, "mean_incl_unlabelled", "the sum over labels is divided by all positions",
           "the loss is smaller by the share of masked tokens", ISSUES + "ServiceNow/Fast-LLM/issues/344",
           **factor(lambda i, a: labelled(i) / i["labels"].size)),
    computes(E, "mean_of_means", "each sequence (or micro-batch) is averaged by itself",
             "labels of short sequences count more", ISSUES + "huggingface/transformers/issues/34191", mean_of_means),
    computes(E, "double_softmax", "a cross-entropy that softmaxes gets probabilities", SOFT,
             ISSUES + "Lightning-Universe/lightning-bolts/issues/654", double_softmax),
    reads(E, "shifted", "the label of the next token, as of a causal model", "the student predicts what it sees",
          "huggingface/transformers-research-projects distillation/distiller.py, the branch of --clm", labels=shifted),
    scaled(E, "sum_not_mean", "the sum over the labels", "the learning rate depends on how many tokens are masked",
           ISSUES + "ml-explore/mlx-lm/issues/1413", **factor(lambda i, a: labelled(i))),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above",
                     "weights of the loss have no effect", "constructed"),
)

E = "cross_entropy"
CLASSES = (
    computes(E, "double_softmax", "a cross-entropy that softmaxes gets probabilities", SOFT,
             ISSUES + "tflearn/tflearn/pull/562", double_softmax),
    computes(E, "no_log", "NLLLoss of probabilities, not of their logarithms",
             "the loss is -q: no gradient where q is small", "constructed", no_log),
    scaled(E, "mean_over_classes", "a mean over rows and classes", "the loss is C times too small", "constructed",
           **factor(lambda i, a: 1 / i["student_logits"].shape[1])),
    scaled(E, "divides_by_batch", "rows without a label are counted", "the loss is smaller by their share",
           ISSUES + "eladhoffer/utils.pytorch/issues/4", **factor(lambda i, a: labelled(i) / len(i["labels"]))),
    reads(E, "zero_ignored", "label 0 is taken for padding", NO_LABEL_0, ISSUES + "codertimo/BERT-pytorch/issues/98",
          labels=without_zero),
    computes(E, "softmax_over_batch", "a softmax over axis 0", "rows compete for a class", "constructed",
             softmax_over_batch),
    derives(E, "bwd_without_onehot", "a backward of the softmax alone", "every logit falls, the right one too",
            "constructed", without_onehot),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above",
                     "weights of the loss have no effect", "constructed"),
)

E = "next_sentence"
NEXT = (
    reads(E, "inverted", "label 1 is taken for: it follows", "a checkpoint's head answers the opposite question",
          ISSUES + "huggingface/transformers/issues/836", labels=lambda i, a: 1 - i["labels"]),
    reads(E, "zero_ignored", "the criterion of masked tokens, which ignores 0, is used for pairs as well",
          "half of the pairs are never learned: accuracy stays at 50 %", ISSUES + "codertimo/BERT-pytorch/issues/49",
          labels=without_zero),
    computes(E, "double_softmax", "a cross-entropy that softmaxes gets probabilities", SOFT,
             ISSUES + "runame/laplace-redux/pull/1", double_softmax),
    computes(E, "sigmoids", "two binary cross-entropies of sigmoids", "a constant on both logits costs something",
             "constructed", sigmoids),
    scaled(E, "sum_not_mean", "the sum over the pairs", "the learning rate depends on the batch size", "constructed",
           **factor(lambda i, a: len(i["labels"]))),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above",
                     "weights of the loss have no effect", "constructed"),
)
TRAPS = MASKED_LM + CLASSES + NEXT
