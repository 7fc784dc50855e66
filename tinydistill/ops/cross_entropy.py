"""Cross-entropy with class labels. Equations: `kernels/cross_entropy.py`."""

import numpy as np

from tinydistill import kernels
from tinydistill.features import IGNORED
from tinydistill.tensor import op


@op
def cross_entropy(logits, labels):
    """The sum (not the mean) of -log softmax(logits)_label over the rows whose label is not -100, in nats.

    Shapes: logits (N, V), labels (N,) integers. Gradient: softmax - onehot for the logits.
    Raises: ValueError where shapes do not fit, or a label is no class (on NumPy: see `check_labels`).
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"need logits (N, V) and labels (N,): logits {logits.shape}, labels {labels.shape}")
    check_labels(labels, logits.shape[1])
    value, gradient = kernels.of(logits).cross_entropy(logits, labels, IGNORED)
    return value, lambda dy: (dy * gradient, None)


def check_labels(labels, classes):
    """Raise where a label is neither a class nor -100.

    Labels on a GPU are not looked at, or the host would have to wait: there a row with such a label adds nothing to the
    value, and its softmax to the gradient.
    """
    if isinstance(labels, np.ndarray):
        outside = (labels != IGNORED) & ((labels < 0) | (labels >= classes))
        if outside.any():
            row = int(outside.argmax())
            raise ValueError(f"need labels from 0 to {classes - 1} or {IGNORED}; got {labels[row]} in row {row}")
