"""Internal representations: how their losses have been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, derives, ignores_upstream, scaled, sets
from tinydistill_reference.traps.distilbert import TEXTBREWER, cos, without_projection
from tinydistill_reference.traps.soft_labels import (ISSUES, MODE_SEEKING, PADDING, WRONG_SHARE, factor, kl,
                                                     log_softmax, softmax)

NOTHING = -1e4                                      # a score of padding


def seen(scores, mask):
    """Scores whose padded keys are out of the softmax."""
    return np.where(mask[:, None, None, :], scores, NOTHING)


def over(rows, mask):
    """1/B sum_b 1/(A n_b) sum_a sum_t of the real rows. Shape: rows (B, A, T)."""
    return ((rows * mask[:, None]).sum(axis=(1, 2)) / mask.sum(axis=1)).mean() / rows.shape[1]


def no_mask(student_scores, teacher_scores, mask):
    return kl(student_scores, teacher_scores).mean()


def padded_keys(student_scores, teacher_scores, mask):
    return over(kl(student_scores, teacher_scores), mask)


def padded_queries(student_scores, teacher_scores, mask):
    return kl(seen(student_scores, mask), seen(teacher_scores, mask)).mean()


def masked_after(student_scores, teacher_scores, mask):
    log_p, log_q = log_softmax(teacher_scores), log_softmax(student_scores)
    return over((np.exp(log_p) * (log_p - log_q) * mask[:, None, None, :]).sum(axis=-1), mask)


def reverse_kl(student_scores, teacher_scores, mask):
    return over(kl(seen(teacher_scores, mask), seen(student_scores, mask)), mask)


def double_softmax(student_scores, teacher_scores, mask):
    student, teacher = (seen(softmax(seen(x, mask)), mask) for x in (student_scores, teacher_scores))
    return over(kl(student, teacher), mask)


def cross_entropy(student_scores, teacher_scores, mask):
    p, log_q = softmax(seen(teacher_scores, mask)), log_softmax(seen(student_scores, mask))
    return over(-(p * log_q).sum(axis=-1), mask)


def batchmean(student_scores, teacher_scores, mask):
    return (kl(seen(student_scores, mask), seen(teacher_scores, mask)) * mask[:, None]).sum() / len(mask)


def over_queries(student_scores, teacher_scores, mask):
    """A softmax down the columns."""
    student, teacher = (np.where(mask[:, None, :, None], x, NOTHING) for x in (student_scores, teacher_scores))
    return over(kl(student, teacher, axis=2), mask)


E = "internal.attention"
ATTENTION = (
    computes(E, "no_mask", "no mask at all: padding is a key, and a query", PADDING,
             "aitsc/GLMKD distill/custom_loss.py kl_div: a sum over the keys, then a mean over all else", no_mask),
    computes(E, "padded_keys", "padding takes part in the softmax", "mass that goes to padding is distilled",
             "constructed", padded_keys),
    computes(E, "padded_queries", "rows of padding are averaged in", PADDING,
             "PaddlePaddle/PaddleNLP paddlenlp/transformers/distill_utils.py", padded_queries),
    computes(E, "masked_after", "the product is masked after a softmax over all keys",
             "distributions do not add up to 1, and the loss may be negative", TEXTBREWER + "att_ce_loss",
             masked_after),
    computes(E, "reverse_kl", "KL(q || p) in the place of KL(p || q)", MODE_SEEKING,
             ISSUES + "paiml/aprender/pull/2153", reverse_kl),
    computes(E, "double_softmax", "attention probabilities are softmaxed again", "both sides are nearly uniform",
             "aitsc/GLMKD distill/distill_model.py, its MiniLM", double_softmax),
    computes(E, "ce_not_kl", "a cross-entropy with the teacher in the place of the divergence",
             "the loss never ends at 0", ISSUES + "jongwooko/distillm/issues/7", cross_entropy),
    computes(E, "softmax_over_queries", "a softmax down the columns of the scores", "queries compete for a key",
             "constructed", over_queries),
    sets(E, "mean_of_rows", "one mean over all rows of the batch", "long sequences count more",
         TEXTBREWER + "att_ce_loss", divisor="row"),
    sets(E, "sum_over_queries", "a sum over queries and sequences", "the loss grows with length and batch",
         "constructed", divisor="none"),
    computes(E, "batchmean", "KLDivLoss with reduction batchmean: a sum over heads and queries, divided by B",
             "the loss grows with the length", ISSUES + "jongwooko/Pytorch-MiniLM/issues/2", batchmean),
    scaled(E, "sum_over_heads", "a sum over the heads", "A times the loss", "constructed",
           **factor(lambda i, a: i["student_scores"].shape[1])),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above",
                     "weights of the loss have no effect", "constructed"),
)


def pooled(x, mask):
    return (x * mask[..., None]).sum(axis=1) / mask.sum(axis=1)[:, None]


def mean_pooled(student_hidden, teacher_hidden, mask):
    return (1 - cos(pooled(student_hidden, mask), pooled(teacher_hidden, mask))).mean()


def all_tokens(student_hidden, teacher_hidden, mask):
    return (mask * (1 - cos(student_hidden, teacher_hidden))).sum() / mask.sum()


def last_token(student_hidden, teacher_hidden, mask):
    return (1 - cos(student_hidden[:, -1], teacher_hidden[:, -1])).mean()


def over_batch(student_hidden, teacher_hidden, mask):
    return (1 - cos(student_hidden[:, 0], teacher_hidden[:, 0], axis=0)).mean()


def only_cls(inputs):
    w = np.zeros(inputs["mask"].shape)
    w[:, 0] = 1 / len(w)
    return w


E = "internal.cosine"
COSINE = (
    computes(E, "all_tokens", "the cosine of every real token, not of [CLS]", "another loss: DistilBERT's",
             TEXTBREWER + "cos_loss", all_tokens),
    computes(E, "mean_pooled", "the mean of the tokens in the place of [CLS]", "[CLS] itself is hardly trained",
             "constructed", mean_pooled),
    computes(E, "last_token", "the last position in the place of the first", "padding is compared", "constructed",
             last_token),
    computes(E, "over_batch", "a cosine over axis 0", "coordinates are compared, not sequences", "constructed",
             over_batch),
    scaled(E, "squared_distance", "|u^S - u^T|^2, which is 2 (1 - cos)", WRONG_SHARE, TEXTBREWER + "pkd_loss",
           **factor(lambda i, a: 2.0)),
    scaled(E, "sum_not_mean", "the sum over the batch", "the learning rate depends on the batch size", "constructed",
           **factor(lambda i, a: len(i["mask"]))),
    derives(E, "bwd_no_projection", "a backward that takes |h^S| for a constant", "states grow without end",
            "constructed", without_projection(only_cls)),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above",
                     "weights of the loss have no effect", "constructed"),
)
TRAPS = ATTENTION + COSINE
