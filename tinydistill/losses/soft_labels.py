"""Soft labels: the teacher's prediction as target (Hinton et al. 2015). As printed: `reference/soft_labels.py`.

    p = softmax(z^T / T)        q = softmax(z^S / T)        L = T^2 1/N sum_n sum_c p_nc (log p_nc - log q_nc)

over N rows of logits z: classes of a sequence, or tokens; or 1/2 (L_start + L_end) of a span, with rows over positions.
With T^2 the gradient keeps its size when T grows: for T -> infinity, L -> 1/(2 C) sum_c (z^S - z^T)^2 of centred rows.
"""

import math

from tinydistill import ops
from tinydistill.backend import xp_of
from tinydistill.losses import hard_labels
from tinydistill.losses.convention import Convention, sequences
from tinydistill.losses.logit_rows import row_weights, sequence_rows, token_rows
from tinydistill.losses.term import Term

PAPER = Convention(divisor="row", source="Hinton et al. 2015")
DISTILBERT = "huggingface/transformers-research-projects distillation/"
CONVENTIONS = {
    "paper": PAPER,
    "distilbert": PAPER.but(source=DISTILBERT + "distiller.py: KLDivLoss of flattened rows, batchmean, times T^2"),
    "textbrewer": Convention(divisor="row", temperature_squared=False, constant="cross-entropy",
                             source="airaria/TextBrewer losses.py kd_ce_loss"),
    "tinybert": Convention(divisor="element", temperature_squared=False, constant="cross-entropy",
                           source="huawei-noah/Pretrained-Language-Model TinyBERT/task_distill.py soft_cross_entropy"),
    "pkd": Convention(divisor="element",
                      source="intersun/PKD-for-BERT-Model-Compression src/KD_loss.py: KLDivLoss, mean"),
    "torchdistill": Convention(divisor="row", temperature_squared=False,
                               source="torchdistill KDLoss without hard labels; beside them its T^2 is there: `paper`"),
}
TOKENS = CONVENTIONS | {
    "labelled": PAPER.but(rows="labelled", source=DISTILBERT + "distiller.py --restrict_ce_to_mask")}
MASKED = {"paper": PAPER.but(rows="labelled", source="Wang et al. 2020, section 4.3, the MLM-KD baseline"),
          "distilbert": CONVENTIONS["distilbert"]}
SQUARED_NORM = Convention(divisor="row", temperature_squared=False, source="Tang et al. 2019 (unverified)")
LOGITS = {"paper": SQUARED_NORM,
          "official": SQUARED_NORM.but(divisor="element", source="castorini/d-bert: MSELoss, a mean over B C"),
          "textbrewer": SQUARED_NORM.but(divisor="element",
                                         source="airaria/TextBrewer losses.py kd_mse_loss: of logits over T")}
SPAN = {"paper": Convention(source="Sanh et al. 2019, with padding left out"),
        "official": Convention(keys="all", source=DISTILBERT + "run_squad_w_distillation.py: softmax over padding too")}


def soft_labels(student, teacher, mask, *, labelled=None, temperature=1.0, convention=PAPER, divisor=None):
    """The teacher's softened distribution, matched row by row.

    Equation: T^2 1/N sum_n sum_c p_nc (log p_nc - log q_nc) over the N rows that count, N the divisor, T the
    temperature, on both sides. Other conventions leave T^2 out, divide by N C, or have -p log q for p (log p - log q).
    Shapes: student, teacher logits (..., C); mask (...,), True at rows that are real; labelled (...,), True at rows
    with a label, where the convention counts only those. Units: nats; T^2 is in.
    Gradient: the student alone, T/N (q - p): the same for both constants, and exactly 0 in rows that do not count.
    Raises: ValueError where shapes do not fit, or labelled rows are to be counted and nobody says which they are.
    Source: Hinton et al. 2015, section 2. Traps of published code: torch's KLDivLoss divides "mean" by N C
    (intersun/PKD-for-BERT-Model-Compression src/KD_loss.py), and "batchmean" by the first axis, which is N only for
    flattened rows; torchdistill softmaxes over axis 1, which of logits (B, T, V) is the sequence.

    >>> import numpy as np; from tinydistill import Tensor
    >>> student = Tensor(np.zeros((2, 2)), requires_grad=True)          # two tokens, two classes, q = (1/2, 1/2)
    >>> teacher = np.array([[0.0, 2.0], [0.0, 4.0]])
    >>> loss = soft_labels(student, teacher, np.array([True, True]), temperature=2.0)
    >>> round(loss.item(), 6)       # KL(softmax(0, x) || (1/2, 1/2)) = log 2 - H for x = 1 and 2: their mean, times 4
    0.877515
    """
    weight = row_weights(student, teacher, mask, labelled, convention, divisor)
    return ops.kl_divergence(student, teacher, weight=weight * convention.temperature_factor(temperature),
                             temperature=temperature, constant=convention.constant)


def logits_mse(student, teacher, mask, *, labelled=None, temperature=1.0, convention=LOGITS["paper"], divisor=None):
    """The squared distance of logits over T: what soft labels become when T is large and rows are centred.

    Equation: 1/N sum_n |(z^S_n - z^T_n) / T|^2 over the N rows that count, N the divisor: |.|^2 is a sum over the
    classes, which other conventions divide by C.
    Shapes: as `soft_labels`. Units: squared logits (no nats).
    Gradient: the student alone, 2 (z^S - z^T) / (N T^2), exactly 0 in rows that do not count.
    Raises: ValueError as `soft_labels`.
    Source: Tang et al. 2019 (unverified), at T = 1; for the limit Hinton et al. 2015, section 2 (unverified). Published
    code has torch's MSELoss, C times smaller: castorini/d-bert, and airaria/TextBrewer losses.py `kd_mse_loss`; not so
    huggingface/transformers-research-projects distillation/distiller.py: `distilbert.logits_mse`.

    >>> import numpy as np
    >>> teacher, both = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([True, True])
    >>> logits_mse(np.zeros((2, 2)), teacher, both).item()          # ((1 + 4) + (9 + 16)) / 2
    15.0
    >>> logits_mse(np.zeros((2, 2)), teacher, both, convention=LOGITS["official"]).item()           # over C = 2, too
    7.5
    >>> logits_mse(np.zeros((2, 2)), teacher, both, temperature=2.0).item()
    3.75
    """
    weight = row_weights(student, teacher, mask, labelled, convention, divisor)
    factor = convention.temperature_factor(temperature) / temperature ** 2
    return ops.squared_error(student, teacher, weight=weight * factor)


def span(student, teacher, mask, *, temperature=2.0, convention=SPAN["paper"], divisor=None):
    """Where an answer starts and where it ends: two distributions over the positions of a sequence.

    Equation: 1/B sum_b 1/2 (T^2 KL(p_start || q_start) + T^2 KL(p_end || q_end)), each a softmax over the n_b real
    positions, B the divisor; over all T positions in `official`.
    Shapes: student, teacher logits (B, T, 2), start and end; mask (B, T), True at real tokens. Units: nats; T^2 is in.
    Gradient: the student alone, T/(2 B) (q - p), exactly 0 in padding.
    Raises: ValueError where shapes do not fit, or a sequence has no real token.
    Source: Sanh et al. 2019, the second distillation on SQuAD; published code lets padding take part in the softmax
    (huggingface/transformers-research-projects distillation/run_squad_w_distillation.py), where its weight beside
    0.5 of the labels' loss is 0.5.

    >>> import numpy as np
    >>> teacher = np.array([[[0.0, 0.0], [2.0, 4.0]]])              # one sequence of two tokens, start beside end
    >>> round(span(np.zeros((1, 2, 2)), teacher, np.ones((1, 2), bool)).item(), 6)      # as in `soft_labels`
    0.877515
    """
    if mask.dtype != bool:
        raise ValueError(f"need a mask of bool, True at real tokens; got {mask.dtype}")
    if not student.shape == teacher.shape == (*mask.shape, 2):
        raise ValueError(f"need logits (B, T, 2): student {student.shape}, teacher {teacher.shape}, mask {mask.shape}")
    divisor = sequences(mask) if divisor is None else divisor
    student, teacher = (ops.transpose(logits, axes=(0, 2, 1)) for logits in (student, teacher))     # (B, 2, T)
    weight = xp_of(mask).full(student.shape[:2], convention.temperature_factor(temperature) / (2 * divisor))
    return ops.kl_divergence(student, teacher, weight=weight, temperature=temperature, constant=convention.constant,
                             mask=mask[:, None, :] if convention.keys == "real" else None)


def _classes(term, student, teacher, batch, divisor, projections):
    mask, labelled = sequence_rows(batch)
    return soft_labels(student.logits, teacher.logits, mask, labelled=labelled, temperature=term.temperature,
                       convention=term.rule, divisor=divisor)


def _tokens(term, student, teacher, batch, divisor, projections):
    mask, labelled = token_rows(batch)
    return soft_labels(student.logits, teacher.logits, mask, labelled=labelled, temperature=term.temperature,
                       convention=term.rule, divisor=divisor)


def _logits_mse(term, student, teacher, batch, divisor, projections):
    mask, labelled = sequence_rows(batch)
    return logits_mse(student.logits, teacher.logits, mask, labelled=labelled, temperature=term.temperature,
                      convention=term.rule, divisor=divisor)


def _span(term, student, teacher, batch, divisor, projections):
    if batch.positions is not None:
        raise ValueError(f"need logits at every position, to choose one; the batch reads {len(batch.positions)}")
    if any(math.prod(logits.shape[:-1]) != batch.mask.size for logits in (student.logits, teacher.logits)):
        raise ValueError(f"need a row of logits for each token: student {student.logits.shape}, "
                         f"teacher {teacher.logits.shape}, mask {batch.mask.shape}")
    start_end = [logits.reshape(*batch.mask.shape, -1) for logits in (student.logits, teacher.logits)]  # (B, T, 2)
    return span(*start_end, batch.mask, temperature=term.temperature, convention=term.rule, divisor=divisor)


def count_sequences(term, batch):
    """The divisor of a term on a sequence head's logits."""
    return term.rule.divides_by(*sequence_rows(batch))


def count_tokens(term, batch):
    """The divisor of a term on a token head's logits."""
    return term.rule.divides_by(*token_rows(batch))


def _count_spans(term, batch):
    return sequences(batch.mask)


READS = {"reads": ("logits",), "teacher_reads": ("logits",)}
HINTON = {"paper": "Hinton et al. 2015", "equation": "section 2"}
classes = Term("soft_labels.classes", _classes, count_sequences, **READS, **HINTON, conventions=CONVENTIONS)
tokens = Term("soft_labels.tokens", _tokens, count_tokens, **READS, **HINTON, conventions=TOKENS)
masked = Term("soft_labels.masked", _tokens, count_tokens, **READS, paper="Wang et al. 2020",
              equation="section 4.3, MLM-KD", conventions=MASKED)
mse = Term("soft_labels.logits_mse", _logits_mse, count_sequences, **READS, paper="Tang et al. 2019",
           equation="section on the distillation objective", conventions=LOGITS,
           notes="unverified: as the paper prints it")
answer_span = Term("soft_labels.span", _span, _count_spans, **READS, paper="Sanh et al. 2019",
                   equation="section on SQuAD", conventions=SPAN, temperature=2.0,
                   notes="unverified: the section's number")


def with_hard_labels(student, teacher, batch, *, alpha, soft=classes, hard=hard_labels.classes, divisors=None):
    """alpha L_hard + (1 - alpha) L_soft of two terms: Hinton's objective; `soft.but(temperature=T)` sets T.

    T^2 is in the soft term, and in it alone: the labels' cross-entropy is taken at T = 1. Each term is divided by what
    it counts itself, in the global batch: divisors (of hard, of soft), or None to count this one.
    Source: torchdistill `KDLoss`; a stage has the same as terms ((alpha, hard), (1 - alpha, soft)).
    """
    hard_divisor, soft_divisor = divisors or (hard.divisor(batch), soft.divisor(batch))
    return (alpha * hard(student, teacher, batch, hard_divisor)
            + (1 - alpha) * soft(student, teacher, batch, soft_divisor))
