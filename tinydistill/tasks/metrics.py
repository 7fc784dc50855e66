"""How good a model is, and how sure that is.

Shapes: logits (N, C), one row a sequence or token · scores, labels (N,).
"""

import math
from typing import NamedTuple

import numpy as np


def accuracy(logits, labels):
    """The share of rows whose largest logit is that of their label; of equal logits the first counts."""
    return float(np.mean(np.argmax(logits, -1) == labels))


def auc(scores, labels):
    """Area under the ROC curve: the chance that a row of label 1 scores above a row of label 0, ties counting half.

    Equation: AUC = (sum of the ranks of label 1 - P (P + 1) / 2) / (P N), for P rows of label 1 and N of label 0; ranks
    count from 1 over all rows, equal scores share the average of theirs. This is Mann and Whitney's U / (P N).
    Raises: ValueError where one of the two labels is missing.

    >>> auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 1, 0, 1]))
    0.875
    """
    positive = np.asarray(labels) == 1
    P, N = int(positive.sum()), int((~positive).sum())
    if P == 0 or N == 0:
        raise ValueError(f"AUC compares rows of label 1 with rows of label 0: got {P} and {N}")
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count - 1) / 2       # of each distinct score, averaged over its ties
    return float((rank[place][positive].sum() - P * (P + 1) / 2) / (P * N))


def matthews(logits, labels):
    """Matthews' correlation of predicted and true class, for any number of classes: 1 perfect, 0 no better than chance.

    Equation: with predictions and labels one-hot, x and y (N, C): cov(x, y) / sqrt(cov(x, x) cov(y, y)), where
    cov(x, y) = sum over rows and classes of (x - mean x) (y - mean y). 0 where either side has only one class.
    Source: Matthews 1975 for two classes; Gorodkin 2004, R_K, for more.
    """
    one_hot = np.eye(logits.shape[1])
    x, y = one_hot[np.argmax(logits, -1)], one_hot[labels]
    x, y = x - x.mean(0), y - y.mean(0)
    variances = (x * x).sum() * (y * y).sum()
    return float((x * y).sum() / math.sqrt(variances)) if variances > 0 else 0.0


def f1(logits, labels):
    """F1 of class 1: the harmonic mean of its precision and recall.

    Equation: 2 TP / (2 TP + FP + FN); 0 where no row is of class 1 and none is taken for it.
    """
    predicted, true = np.argmax(logits, -1) == 1, np.asarray(labels) == 1
    both, either = (predicted & true).sum(), predicted.sum() + true.sum()
    return float(2 * both / either) if either else 0.0


# ---------------------------------------------------------------- spans

def spans(tags):
    """{(first, last, type)} of a sentence's tags: B-type begins a span, I-type goes on with one of its type.

    An I-type after anything else begins a span, too.

    >>> sorted(spans(["B-a", "I-a", "I-b", "O", "B-b", "B-b"]))
    [(0, 1, 'a'), (2, 2, 'b'), (4, 4, 'b'), (5, 5, 'b')]
    """
    found, inside = set(), None                     # inside: the type of the span that is open, since `first`
    for i, tag in enumerate([*tags, "O"]):
        prefix, _, kind = tag.partition("-")
        goes_on = prefix == "I" and kind == inside
        if inside is not None and not goes_on:
            found.add((first, i - 1, inside))
        if not goes_on:
            first = i
        inside = kind if prefix in ("B", "I") else None
    return found


def span_f1(names, logits, labels, sequence):
    """F1 of spans: one counts when its first word, its last word and its type are right.

    Equation: 2 right / (spans predicted + spans true), over all sequences together; 0 where there is no span at all.
    Shapes: names, the tag of each class · logits (N, C) · labels, sequence (N,): the sequence that each word is of.
    """
    right = total = 0
    predicted = np.argmax(logits, -1)
    for rows in np.split(np.arange(len(labels)), np.flatnonzero(np.diff(sequence)) + 1):
        ours, true = (spans([names[i] for i in classes[rows]]) for classes in (predicted, labels))
        right, total = right + len(ours & true), total + len(ours) + len(true)
    return 2 * right / total if total else 0.0


# ---------------------------------------------------------------- over several seeds

class Interval(NamedTuple):
    """A mean with the ends of its confidence interval."""

    mean: float
    low: float
    high: float


def mean_and_error(values):
    """Mean and standard error over n runs.

    Equation: s / sqrt(n), where s^2 = sum (x - mean)^2 / (n - 1). One run has no standard error: nan.
    """
    values = np.asarray(values, np.float64)
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(values.mean()), float(error)


def paired_difference(ours, theirs, confidence=0.95):
    """Mean of ours - theirs over n paired runs (the same seed, hence the same data order), with Student's interval.

    Equation: d +- t s_d / sqrt(n), where d are the n differences and t is the (1 + confidence) / 2 quantile of
    Student's distribution with n - 1 degrees of freedom: 2.776 for five runs. What was the same in all runs (one
    teacher, one set of test rows) varies in none of them, so the interval does not cover it.
    Raises: ValueError where the runs do not pair up, or are fewer than two.
    """
    from scipy.special import stdtrit               # quantiles of Student's t
    if len(ours) != len(theirs) or len(ours) < 2:
        raise ValueError(f"need at least two pairs of runs: got {len(ours)} and {len(theirs)}")
    mean, error = mean_and_error(np.subtract(ours, theirs))
    half = float(stdtrit(len(ours) - 1, (1 + confidence) / 2)) * error
    return Interval(mean, mean - half, mean + half)
