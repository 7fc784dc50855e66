"""DistilBERT: soft labels, masked tokens and the direction of hidden states (Sanh et al. 2019). As printed, sum by sum:
`reference/distilbert.py`.

    L_ce  = T^2 1/n sum_n KL(softmax(z^T_n / T) || softmax(z^S_n / T))          T = 2
    L_cos = 1/n sum_n (1 - cos(h^S_n, h^T_n))                                   h of the last layer
    L_mse = 1/n sum_n sum_v (z^S_nv - z^T_nv)^2                                 an option of the code

over all n real tokens of the batch, [CLS] and [SEP] too. L = 5 L_ce + 2 L_mlm + 1 L_cos made the released weights;
L_mlm is the term `masked_lm`. Both models read the corrupted tokens, and the teacher no token types.
"""

from tinydistill import ops
from tinydistill.losses.convention import Convention
from tinydistill.losses.logit_rows import token_rows
from tinydistill.losses.soft_labels import count_tokens, logits_mse, soft_labels
from tinydistill.losses.term import Term
from tinydistill.tensor import Tensor

CODE = "huggingface/transformers-research-projects distillation/distiller.py"
PAPER = Convention(divisor="row", source="Sanh et al. 2019; the rows are those of " + CODE)
CONVENTIONS = {"paper": PAPER, "official": PAPER.but(source=CODE + ": as `paper`")}
LOGITS = CONVENTIONS | {"labelled": PAPER.but(rows="labelled", source=CODE + " --restrict_ce_to_mask")}


def cosine(student, teacher, mask, *, convention=PAPER, divisor=None):
    """L_cos: hidden states of one direction, whatever their lengths.

    Equation: 1/n sum_n (1 - <h^S_n, h^T_n> / (|h^S_n| |h^T_n|)) over the n real tokens of the batch, n the divisor.
    Shapes: student, teacher (B, T, D), of one width; mask (B, T), True at real tokens.
    Units: of a cosine (no nats), from 0 to 2.
    Gradient: the student alone, -1/n (h^T/|h^T| - cos h^S/|h^S|) / |h^S|; exactly 0 in padding. A zero vector has
    cosine 0.
    Raises: ValueError where shapes do not fit: there is no map between widths in it.
    Source: Sanh et al. 2019, L_cos; huggingface/transformers-research-projects distillation/distiller.py,
    CosineEmbeddingLoss with target 1 on the last hidden states of real tokens, computes the same.

    >>> import numpy as np
    >>> student, teacher = np.array([[[1.0, 0.0], [3.0, 4.0]]]), np.array([[[0.0, 2.0], [5.0, 0.0]]])
    >>> cosine(student, teacher, np.ones((1, 2), bool)).item()      # right angle: 1; (3, 4) and (5, 0): 1 - 3/5
    0.7
    """
    if mask.dtype != bool:
        raise ValueError(f"need a mask of bool, True at real tokens; got {mask.dtype}")
    if student.shape != teacher.shape or mask.shape != student.shape[:2]:
        raise ValueError(f"need the same (B, T, D), widths too: student {student.shape}, teacher {teacher.shape}, "
                         f"mask {mask.shape}")
    counted = convention.counted(mask)[..., None]                                       # (B, T, 1)
    u = ops.unit_norm(ops.masked(student, mask=counted))
    v = ops.unit_norm(ops.masked(teacher.array if isinstance(teacher, Tensor) else teacher, mask=counted))
    rows = 1.0 - (u * v).sum(axis=-1)                                                   # (B, T)
    return (rows * convention.row_weights(mask, divisor, student.dtype)).sum()


def _soft_labels(term, student, teacher, batch, divisor, projections):
    mask, labelled = token_rows(batch)
    return soft_labels(student.logits, teacher.logits, mask, labelled=labelled, temperature=term.temperature,
                       convention=term.rule, divisor=divisor)


def _cosine(term, student, teacher, batch, divisor, projections):
    return term.over_pairs(lambda s, t: cosine(
        student.hidden[s], teacher.hidden[t], batch.mask, convention=term.rule, divisor=divisor))


def _logits_mse(term, student, teacher, batch, divisor, projections):
    mask, labelled = token_rows(batch)
    return logits_mse(student.logits, teacher.logits, mask, labelled=labelled, convention=term.rule, divisor=divisor)


SANH = {"paper": "Sanh et al. 2019", "notes": "unverified: the section's number; the paper gives no weights"}
soft = Term("distilbert.soft_labels", _soft_labels, count_tokens, ("logits",), ("logits",), **SANH,
            equation="section 2, L_ce", conventions=LOGITS, temperature=2.0)
cos = Term("distilbert.cosine", _cosine, reads=("hidden",), teacher_reads=("hidden",), **SANH,
           equation="section 2, L_cos", conventions=CONVENTIONS)
mse = Term("distilbert.logits_mse", _logits_mse, count_tokens, ("logits",), ("logits",), paper="Sanh et al. 2019",
           equation="section 2, an option of its code", conventions=LOGITS, notes="unverified: not in the paper's text")
