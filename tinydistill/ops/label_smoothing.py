"""Cross-entropy with smoothed labels. Equations: `kernels/label_smoothing.py`."""

import math

from tinydistill import kernels
from tinydistill.backend import xp_of
from tinydistill.features import IGNORED
from tinydistill.ops.cross_entropy import check_labels
from tinydistill.tensor import op


@op
def smoothed_cross_entropy(logits, labels, *, smoothing, pad=None, constant="cross-entropy"):
    """The sum of -sum_c r_c log softmax(logits)_c over the rows whose label is not -100, in nats.

    r gives the label 1 - smoothing, and smoothing / V more to each of the V classes, the label too. With a `pad`, a
    class that is never a label: the label has 1 - smoothing, the pad 0, and the other V - 2 share the smoothing; rows
    whose label is the pad add nothing.
    constant: "kl" is KL(r || softmax), smaller by the entropy of r, with the same gradient.
    Shapes: logits (N, V), labels (N,) integers. Gradient: softmax - r for the logits.
    """
    xp, V = xp_of(logits), logits.shape[-1]
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"need logits (N, V) and labels (N,): logits {logits.shape}, labels {labels.shape}")
    check_labels(labels, V)
    if constant not in ("kl", "cross-entropy"):
        raise ValueError(f"need a constant kl or cross-entropy, got {constant!r}")
    if not 0 <= smoothing < 1:
        raise ValueError(f"need a smoothing of at least 0 and below 1, got {smoothing}")
    if pad is None:
        low, others = smoothing / V, V - 1
    elif V > 2 and 0 <= pad < V:
        low, others = smoothing / (V - 2), V - 2
        labels = xp.where(labels == pad, IGNORED, labels)
    else:
        raise ValueError(f"need a pad out of 0 to V-1 and V of at least 3; got pad {pad} and V {V}")
    high = 1 - others * low
    value, gradient = kernels.of(logits).smoothed_cross_entropy(logits, labels, IGNORED, high, low, pad)
    if constant == "kl":
        negative_entropy = high * math.log(high) + (others * low * math.log(low) if low else 0.0)   # of every row's r
        value = value + (labels != IGNORED).sum().astype(logits.dtype) * negative_entropy
    return value, lambda dy: (dy * gradient, None)
