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
