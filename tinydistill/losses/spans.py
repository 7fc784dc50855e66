"""Where an answer starts and where it ends (Devlin et al. 2019, section 4.2). As printed: `reference/spans.py`.

    P_t = softmax over the tokens t of z_t,start        L = -1/2 (log P_start + log P_end)        end likewise
"""

import numpy as np

from tinydistill import ops
from tinydistill.backend import xp_of
from tinydistill.features import IGNORED
from tinydistill.losses.convention import PAPER as EACH_SEQUENCE
from tinydistill.losses.term import Term

PAPER = EACH_SEQUENCE.but(rows="labelled", divisor="row", source="Devlin et al. 2019, with padding left out")
CONVENTIONS = {
    "paper": PAPER,
    "official": PAPER.but(rows="all", keys="all", source="google-research/bert run_squad.py: softmax over padding too")}


def positions(student, labels, mask, *, convention=PAPER, divisor=None):
    """Cross-entropy of the start and of the end of an answer, each with one token out of all.

    Equation: -1/divisor sum over the labels n, a start and an end of each sequence, of log softmax(logits_n)[label_n],
    the softmax over the real tokens of the sequence, or over all T positions in `official`. The divisor is the number
    of labels of the global batch: 2B where every sequence has both, so that L is 1/B sum_b (start + end)/2; in
    `official` it is 2B in any case. No answer is the answer [CLS], position 0; a label of -100 (an answer that was cut
    off) adds nothing. Shapes: student logits (B, T, 2), start and end; labels (B, 2); mask (B, T), True at real tokens.
    Units: nats. Gradient: the student alone, softmax - onehot over the divisor, exactly 0 in padding.
    Raises: ValueError where shapes do not fit, or a label lies in padding that is left out (on NumPy).
    Source: Devlin et al. 2019, section 4.2: the sum of both log-likelihoods is maximised; their mean is
    google-research/bert run_squad.py, where padding takes part in the softmax.

    >>> from tinydistill import Tensor
    >>> logits = np.zeros((1, 2, 2))                                    # one sequence of two tokens, start beside end
    >>> round(positions(Tensor(logits), np.array([[0, 1]]), np.ones((1, 2), bool)).item(), 6)       # log 2
    0.693147
    >>> positions(Tensor(logits), np.array([[0, 0]]), np.array([[True, False]])).item()             # no choice
    0.0
    """
    if mask.dtype != bool or student.shape != (*mask.shape, 2) or labels.shape != (len(mask), 2):
        raise ValueError(f"need logits (B, T, 2), labels (B, 2) and a mask (B, T) of bool: student {student.shape}, "
                         f"labels {labels.shape}, mask {mask.shape} of {mask.dtype}")
    logits = ops.transpose(student, axes=(0, 2, 1))                                     # (B, 2, T)
    if convention.keys == "real":
        _require_real(labels, mask)
        logits = ops.masked(logits, mask=mask[:, None, :], fill=-xp_of(mask).inf)
    divisor = convention.divides_by(*_counted(labels)) if divisor is None else divisor
    rows = ops.reshape(logits, shape=(labels.size, mask.shape[1]))                      # (2B, T)
    return ops.cross_entropy(rows, labels.ravel()) / max(1, divisor)                    # no label: 0 / 1, not 0 / 0


def _counted(labels):
    """(every start and end, those that have a label), both (B, 2)."""
    return xp_of(labels).ones(labels.shape, bool), labels != IGNORED


def _require_real(labels, mask):
    """On a GPU nobody looks, or the host would have to wait: there the loss is infinite."""
    if isinstance(labels, np.ndarray):
        lengths = mask.shape[1] - mask[:, ::-1].argmax(axis=1)                          # (B,): after the last real one
        if (labels >= lengths[:, None]).any():
            row = int((labels >= lengths[:, None]).any(axis=1).argmax())
            raise ValueError(f"need labels at real tokens; got {labels[row].tolist()} in sequence {row} "
                             f"of {lengths[row]} tokens")


def _loss(term, student, teacher, batch, divisor, projections):
    return positions(student.logits, batch.labels, batch.mask, convention=term.rule, divisor=divisor)


def _count(term, batch):
    return term.rule.divides_by(*_counted(batch.labels))


ends = Term("spans.positions", _loss, _count, ("logits",), paper="Devlin et al. 2019", equation="section 4.2",
            conventions=CONVENTIONS)
