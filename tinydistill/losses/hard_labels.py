"""Cross-entropy with the ground truth: masked tokens in pre-training, classes in fine-tuning."""

from tinydistill import ops
from tinydistill.features import IGNORED
from tinydistill.losses.term import Term


def label_loss(student, teacher, batch, divisor):
    """Cross-entropy with the batch's labels.

    Equation: -1/divisor sum_n log softmax(logits_n)[label_n] over the rows n that have a label, in nats; the divisor is
    the number of labels of the global batch. Shapes: logits (N, V) at the batch's positions, or (B, C).
    Gradient: softmax - onehot over the divisor, for the student's logits. Source: Devlin et al. 2019, section 3.1.

    >>> import numpy as np; from tinydistill import Tensor; from tinydistill.features import Batch, Features
    >>> student = Features("two tokens", 0, None, logits=Tensor(np.zeros((2, 4))))
    >>> batch = Batch(ids=np.zeros((1, 2), int), mask=np.ones((1, 2), bool), labels=np.array([[3, -100]]))
    >>> round(label_loss(student, None, batch, labelled(batch)).item(), 6)      # log 4
    1.386294
    """
    labels = batch.labels.reshape(-1)                                                   # (B*T,) or (B,)
    if batch.positions is not None:
        labels = labels[batch.positions]                                                # (N,)
    return ops.cross_entropy(student.logits, labels) / max(1, divisor)                  # none: 0 / 1, not 0 / 0


def labelled(batch):
    """The number of labels that count."""
    return int((batch.labels != IGNORED).sum())


def _loss(term, student, teacher, batch, divisor, projections):
    return label_loss(student, teacher, batch, divisor)


def _count(term, batch):
    return labelled(batch)


masked_lm = Term("masked_lm", _loss, _count, ("logits",), paper="Devlin et al. 2019", equation="section 3.1, task 1")
classes = Term("cross_entropy", _loss, _count, ("logits",), paper="Devlin et al. 2019", equation="section 4")
