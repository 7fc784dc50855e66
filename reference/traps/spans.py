"""Answer spans: how they have been got wrong."""

import numpy as np

from tinydistill_reference.conventions import IGNORED
from tinydistill_reference.mistakes import computes, ignores_upstream, reads, scaled, sets
from tinydistill_reference.traps.soft_labels import ISSUES, factor, log_softmax


def picked(student_logits, labels, mask, axis=1):
    """log P at the right tokens (B, 2), 0 where there is no label; and whether there is one."""
    seen = labels != IGNORED
    log_p = log_softmax(np.where(mask[..., None], student_logits, -1e4), axis=axis)
    right = np.take_along_axis(log_p, np.maximum(labels, 0)[:, None], axis=1)[:, 0]
    return np.where(seen, right, 0), seen


def start_only(student_logits, labels, mask):
    right, seen = picked(student_logits, labels, mask)
    return -right[:, 0].sum() / max(1, seen[:, 0].sum())


def each_side(student_logits, labels, mask):
    right, seen = picked(student_logits, labels, mask)
    return -(right.sum(axis=0) / np.maximum(1, seen.sum(axis=0))).mean()


def over_sides(student_logits, labels, mask):
    right, seen = picked(student_logits, labels, mask, axis=2)
    return -right.sum() / max(1, seen.sum())


def one_distribution(student_logits, labels, mask):
    flat = np.where(mask[..., None], student_logits, -1e4).reshape(len(mask), -1)       # (B, 2T)
    log_p, seen = log_softmax(flat), labels != IGNORED
    right = np.take_along_axis(log_p, 2 * np.maximum(labels, 0) + [0, 1], axis=1)
    return -np.where(seen, right, 0).sum() / max(1, seen.sum())


def first_for_missing(inputs, attrs):
    return np.maximum(inputs["labels"], inputs["mask"].argmax(axis=1)[:, None])


E = "spans.positions"
TRAPS = (
    sets(E, "padding_takes_part", "the softmax runs over padding, too", "part of the mass goes to padding",
         ISSUES + "huggingface/transformers/issues/214", keys="all"),
    sets(E, "divides_by_all", "labels that are missing are counted", "answers that were cut off make the loss smaller",
         "google-research/bert run_squad.py", rows="all"),
    reads(E, "missing_is_cls", "a missing label is clamped to 0: no answer",
          "cut-off answers are trained towards [CLS]",
          ISSUES + "huggingface/transformers/issues/6204", labels=first_for_missing),
    computes(E, "each_side", "starts and ends are averaged apart, then their mean is taken",
             "the rarer side counts more where labels are missing", ISSUES + "huggingface/transformers/issues/6204",
             each_side),
    computes(E, "start_only", "the start's loss, and not the end's", "ends are never learned", "constructed",
             start_only),
    scaled(E, "sum_not_half", "the sum of start and end, not their mean", "twice the loss",
           "Devlin et al. 2019, section 4.2: the sum of both log-likelihoods", **factor(lambda i, a: 2.0)),
    computes(E, "softmax_over_sides", "a softmax over the last axis of (B, T, 2)",
             "start competes with end at each token", "constructed", over_sides),
    computes(E, "one_distribution", "one softmax over starts and ends together",
             "a sure start makes every end unlikely", "constructed", one_distribution),
    reads(E, "sides_swapped", "ends are read as starts", "the answer ends before it starts", "constructed",
          labels=lambda i, a: i["labels"][:, ::-1].copy()),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above",
                     "weights of the loss have no effect", "constructed"),
)
