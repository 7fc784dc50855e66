"""Label smoothing: some of the label's mass is given to the other classes. As printed, sum by sum:
`reference/label_smoothing.py`.

    L = 1/N sum_n -sum_c r_nc log q_nc          r_nc = (1 - eps) [c = y_n] + eps / V        (Szegedy et al. 2016)
    L = 1/N sum_n KL(r_n || q_n)                r_nc = 1 - eps at y_n, 0 at the pad, eps / (V - 2) elsewhere   (UniLM)

over the N rows that have a label y; q is the model's softmax. Both have the gradient q - r.
"""

from tinydistill import ops
from tinydistill.backend import xp_of
from tinydistill.features import IGNORED
from tinydistill.losses.convention import Convention
from tinydistill.losses.logit_rows import at_positions
from tinydistill.losses.term import Term

PAD = 0                                             # [PAD] of a BERT vocabulary; that of RoBERTa and XLM-R is 1
CODE = "microsoft/unilm s2s-ft and unilm-v1, LabelSmoothingLoss"
ROWS = Convention(rows="labelled", divisor="row")
CONVENTIONS = {"paper": ROWS.but(constant="cross-entropy", source="Szegedy et al. 2016, as torch's CrossEntropyLoss")}
UNILM = {"paper": ROWS.but(source=CODE), "official": ROWS.but(epsilon=1e-5, source=CODE + ", over N + 1e-5 labels")}


def label_smoothing(logits, labels, *, smoothing=0.1, convention=CONVENTIONS["paper"], divisor=None):
    """Cross-entropy with labels that leave eps / V to each of the V classes.

    Equation: 1/N sum_n -sum_c r_nc log q_nc, r = (1 - eps) onehot + eps / V, over the N rows whose label is not -100,
    N the divisor.
    Shapes: logits (..., V), labels (...,) integers. Units: nats; never below the entropy of r.
    Gradient: (q - r) / N, exactly 0 in rows without a label.
    Raises: ValueError where shapes do not fit, a label is no class (on NumPy), or smoothing is not within [0, 1).
    Source: Szegedy et al. 2016, section 7 (number unverified); torch's CrossEntropyLoss(label_smoothing) is the same.
    UniLM's is another one: `unilm_label_smoothing`.

    >>> import numpy as np
    >>> logits = np.log(np.array([[1.0, 3.0], [1.0, 1.0]]))         # q = (1/4, 3/4) and (1/2, 1/2)
    >>> loss = label_smoothing(logits, np.array([1, -100]), smoothing=0.5)
    >>> round(loss.item(), 6)       # r = (1/4, 3/4), which is q: its entropy, log 4 - 3/4 log 3
    0.562335
    """
    return _smoothed(logits, labels, smoothing, None, convention, divisor)


def unilm_label_smoothing(logits, labels, *, smoothing=0.1, pad=PAD, convention=UNILM["paper"], divisor=None):
    """UniLM's label smoothing: nothing for the pad, the rest of eps for the V - 2 classes beside it and the label.

    Equation: 1/N sum_n sum_c r_nc (log r_nc - log q_nc), r = 1 - eps at the label, 0 at the pad, eps / (V - 2)
    elsewhere, over the N rows whose label is neither -100 nor the pad, N the divisor; N + 1e-5 in `official`.
    Shapes: logits (..., V), labels (...,) integers. Units: nats; 0 where q is r.
    Gradient: (q - r) / N, exactly 0 in rows without a label.
    Raises: ValueError as `label_smoothing`, and where V < 3 or the pad is no class.
    Source: microsoft/unilm s2s-ft and unilm-v1, LabelSmoothingLoss, with eps 0.1, which has pad 0 written in: for
    RoBERTa and XLM-R, whose pad is 1, that leaves out <s> instead. The term's pad is 0 as well.

    >>> import numpy as np
    >>> q = np.array([[0.2, 0.3, 0.5], [0.2, 0.4, 0.4]])
    >>> loss = unilm_label_smoothing(np.log(q), np.array([2, -100]), smoothing=0.5)
    >>> round(loss.item(), 6)       # r = (0, 1/2, 1/2): 1/2 log(0.5/0.3) + 1/2 log(0.5/0.5)
    0.255413
    """
    return _smoothed(logits, labels, smoothing, pad, convention, divisor)


def _smoothed(logits, labels, smoothing, pad, convention, divisor):
    V = logits.shape[-1]
    flat, labels = logits.reshape(-1, V), labels.reshape(-1)                            # (N, V), (N,)
    total = ops.smoothed_cross_entropy(flat, labels, smoothing=smoothing, pad=pad, constant=convention.constant)
    divisor = _count(labels, pad, convention) if divisor is None else divisor
    return total / max(1, divisor)                                                      # none: 0 / 1, not 0 / 0


def _count(labels, pad, convention):
    """The labels that are neither -100 nor the pad, as the convention divides by them."""
    labelled = labels != IGNORED if pad is None else (labels != IGNORED) & (labels != pad)
    return convention.divides_by(xp_of(labels).ones(labels.shape, bool), labelled)


def _standard(term, student, teacher, batch, divisor, projections):
    return label_smoothing(student.logits, at_positions(batch.labels, batch), smoothing=term.smoothing,
                           convention=term.rule, divisor=divisor)


def _unilm(term, student, teacher, batch, divisor, projections):
    return unilm_label_smoothing(student.logits, at_positions(batch.labels, batch), smoothing=term.smoothing,
                                 convention=term.rule, divisor=divisor)


def _count_standard(term, batch):
    return _count(batch.labels, None, term.rule)


def _count_unilm(term, batch):
    return _count(batch.labels, PAD, term.rule)


standard = Term("label_smoothing", _standard, _count_standard, ("logits",), paper="Szegedy et al. 2016",
                equation="section 7", conventions=CONVENTIONS, notes="unverified: the section's number")
unilm = Term("label_smoothing.unilm", _unilm, _count_unilm, ("logits",), paper="Dong et al. 2019",
             equation="section on fine-tuning", conventions=UNILM, notes="unverified: the paper; read in its code")
