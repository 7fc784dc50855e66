"""Cross-entropy with class labels. Equations: `kernels/cross_entropy.py`."""

from tinydistill import kernels
from tinydistill.features import IGNORED
from tinydistill.tensor import op


@op
def cross_entropy(logits, labels):
    """The sum (not the mean) of -log softmax(logits)_label over the rows whose label is not -100, in nats.

    Shapes: logits (N, V), labels (N,) integers. Gradient: softmax - onehot for the logits.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"need logits (N, V) and labels (N,): logits {logits.shape}, labels {labels.shape}")
    value, gradient = kernels.of(logits).cross_entropy(logits, labels, IGNORED)
    return value, lambda dy: (dy * gradient, None)
