"""Labels of words: the teacher's distribution at each word's first piece (Tsai et al. 2019). As printed, sum by sum:
`reference/sequence_labels.py`.

    L = -sum_n m_n sum_c p_nc log q_nc / sum_n m_n          p, q of teacher and student, at temperature 1

over the tokens n of a batch, m_n = 1 at the first word piece of each word: where the token has a label.
"""

from tinydistill.backend import xp_of
from tinydistill.losses.convention import Convention
from tinydistill.losses.logit_rows import token_rows
from tinydistill.losses.soft_labels import count_tokens, soft_labels
from tinydistill.losses.term import Term

PAPER = Convention(rows="labelled", divisor="row", temperature_squared=False, constant="cross-entropy",
                   source="Tsai et al. 2019 (unverified; no published code is known)")


def sequence_labels(student, teacher, first, *, temperature=1.0, convention=PAPER, divisor=None):
    """Soft labels of words, read at their first pieces.

    Equation: -1/M sum_n m_n sum_c p_nc log q_nc over the M = sum_n m_n first pieces of the batch, M the divisor.
    Shapes: student, teacher logits (..., C); first (...,), m: True at the first piece of a word.
    Units: nats; of a cross-entropy, so never below the teacher's entropy.
    Gradient: the student alone, m_n / M (q - p): exactly 0 at other pieces, specials and padding.
    Raises: ValueError where shapes do not fit.
    Source: Tsai et al. 2019, unverified: the formula is from memory, and there is no published code to differ from.

    >>> import numpy as np
    >>> student, teacher = np.zeros((2, 4)), np.array([[5.0, 1.0, 0.0, 2.0], [9.0, 9.0, 9.0, 9.0]])
    >>> round(sequence_labels(student, teacher, np.array([True, False])).item(), 6)     # one word of two pieces: log 4
    1.386294
    """
    every = xp_of(first).ones_like(first)
    return soft_labels(student, teacher, every, labelled=first, temperature=temperature, convention=convention,
                       divisor=divisor)


def _loss(term, student, teacher, batch, divisor, projections):
    _, first = token_rows(batch)
    return sequence_labels(student.logits, teacher.logits, first, temperature=term.temperature, convention=term.rule,
                           divisor=divisor)


words = Term("sequence_labels", _loss, count_tokens, ("logits",), ("logits",), paper="Tsai et al. 2019",
             equation="section on distillation", conventions={"paper": PAPER},
             notes="unverified: the formula and its section")
