"""Cross-entropy with the ground truth: masked tokens and next sentences in pre-training, classes in fine-tuning."""

from tinydistill import ops
from tinydistill.features import IGNORED
from tinydistill.losses.convention import PAPER
from tinydistill.losses.logit_rows import at_positions
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
    labels = at_positions(batch.labels, batch)                                          # (N,) or (B,)
    return ops.cross_entropy(student.logits, labels) / max(1, divisor)                  # none: 0 / 1, not 0 / 0


def next_sentence_loss(student, teacher, batch, divisor):
    """Cross-entropy with whether the second sentence follows the first.

    Equation: -1/divisor sum_b log softmax(next_sentence_b)[label_b], label 0 where it follows, in nats; the divisor is
    the number of sequences. Shapes: next_sentence (B, 2), labels (B,). Gradient: softmax - onehot over the divisor, for
    the student's next_sentence. Source: Devlin et al. 2019, section 3.1; MobileBERT's pre-training distillation adds it
    unweighted (google-research/google-research mobilebert/run_pretraining.py).

    >>> import numpy as np; from tinydistill import Tensor; from tinydistill.features import Batch, Features
    >>> student = Features("a pair", 0, None, next_sentence=Tensor(np.log([[3.0, 1.0]])))
    >>> batch = Batch(ids=np.zeros((1, 2), int), mask=np.ones((1, 2), bool), next_sentence=np.array([1]))
    >>> round(next_sentence_loss(student, None, batch, 1).item(), 6)            # log 4
    1.386294
    """
    return ops.cross_entropy(student.next_sentence, batch.next_sentence) / divisor


def labelled(batch):
    """The number of labels that count."""
    return int((batch.labels != IGNORED).sum())


CONVENTIONS = {"paper": PAPER.but(rows="labelled", divisor="row", source="Devlin et al. 2019: the mean over the labels")}


def _loss(term, student, teacher, batch, divisor, projections):
    return label_loss(student, teacher, batch, divisor)


def _count(term, batch):
    return labelled(batch)


def _next_sentence(term, student, teacher, batch, divisor, projections):
    return next_sentence_loss(student, teacher, batch, divisor)


def _sequences(term, batch):
    return len(batch)


masked_lm = Term("masked_lm", _loss, _count, ("logits",), paper="Devlin et al. 2019", equation="section 3.1, task 1",
                 conventions=CONVENTIONS)
classes = Term("cross_entropy", _loss, _count, ("logits",), paper="Devlin et al. 2019", equation="section 4",
               conventions=CONVENTIONS)
next_sentence = Term("next_sentence", _next_sentence, _sequences, ("next_sentence",), paper="Devlin et al. 2019",
                     equation="section 3.1, task 2",
                     conventions={"paper": PAPER.but(divisor="row", source="Devlin et al. 2019: the mean over the pairs")})
