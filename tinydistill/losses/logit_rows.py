"""Rows of logits: one for each token that a token head read, or one for each sequence. Which of them count.

A token head's logits are (N, V), at the batch's N positions of the flattened (B*T,) or at all B*T; those of a sequence
head are (B, C).
"""

from tinydistill.backend import xp_of
from tinydistill.features import IGNORED


def at_positions(x, batch):
    """What belongs to the rows of a token head. Shapes: x (B, T) -> (N,)."""
    flat = x.reshape(-1)                                                                # (B*T,)
    return flat if batch.positions is None else flat[batch.positions]


def token_rows(batch):
    """(mask, labelled) of a token head's rows, each (N,): True at real tokens; True at those with a label.

    labelled is None where the batch has no labels of tokens: only a convention that counts them needs it.
    """
    has_labels = batch.labels is not None and batch.labels.shape == batch.mask.shape
    return at_positions(batch.mask, batch), at_positions(batch.labels, batch) != IGNORED if has_labels else None


def sequence_rows(batch):
    """The same of a sequence head's rows, each (B,): every sequence counts; those with a label are labelled."""
    has_labels = batch.labels is not None and batch.labels.ndim == 1
    return xp_of(batch.mask).ones(len(batch.mask), bool), batch.labels != IGNORED if has_labels else None


def row_weights(student, teacher, mask, labelled, convention, divisor):
    """(...,): what the value of each row of logits is multiplied by, so that their sum is the loss; 0 where it is out.

    Shapes: student, teacher (..., C), mask and labelled (...,). Raises: ValueError where they are not.
    """
    if mask.dtype != bool:
        raise ValueError(f"need a mask of bool, True at rows that count; got {mask.dtype}")
    if student.shape != teacher.shape or mask.shape != student.shape[:-1]:
        raise ValueError(f"need logits of one shape and a mask of their rows: student {student.shape}, "
                         f"teacher {teacher.shape}, mask {mask.shape}")
    if convention.divisor == "sequence" and mask.ndim != 2:
        raise ValueError(f"need rows (B, T) to divide each sequence by its own; got a mask {mask.shape}")
    weights = convention.row_weights(mask, divisor, student.dtype, labelled)
    return weights / student.shape[-1] if convention.divisor == "element" else weights
