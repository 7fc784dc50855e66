"""Convention: what a formula on paper leaves open, and published codes decide each in their own way.

A formula is written for one sequence without padding. A batch of padded ones needs to be told which rows count, what the
sum is divided by, whether the factor T^2 stands before a softened loss, and whether the teacher's entropy is part of it.
Nearly every disagreement between two implementations of one loss is one of these, so each loss names its conventions:
`paper` is the formula with padding left out; `official`, and others by project, are what published code computes.
"""

from dataclasses import dataclass, replace

import numpy as np

from tinydistill.backend import xp_of
from tinydistill.errors import WrongUsage

ROWS = ("real", "all", "labelled")
DIVISORS = ("sequence", "row", "element", "none")
CONSTANTS = ("kl", "cross-entropy")


@dataclass(frozen=True)
class Convention:
    """rows: which tokens count: "real" ones, "all" of the padded square, or "labelled" ones only.
    keys: which entries of a row of scores count: "real" or "all".
    divisor: "sequence": each sequence by its own number of rows, then the batch by B; "row": the batch by all rows that
    count; "element": by all rows that count times the entries of a row; "none": a sum.
    temperature_squared: whether a loss softened by T is multiplied by T^2.
    epsilon: what published code adds to the divisor lest it be 0.
    constant: "kl" is KL(p || q), "cross-entropy" adds the teacher's entropy: the same gradient, another value.
    source: who computes it so.
    """

    rows: str = "real"
    keys: str = "real"
    divisor: str = "sequence"
    temperature_squared: bool = True
    constant: str = "kl"
    epsilon: float = 0
    source: str = ""

    def __post_init__(self):
        for name, allowed in (("rows", ROWS), ("keys", ROWS[:2]), ("divisor", DIVISORS), ("constant", CONSTANTS)):
            if getattr(self, name) not in allowed:
                raise WrongUsage(f"need {name} out of {', '.join(allowed)}; got {getattr(self, name)!r}")

    def but(self, **changes):
        return replace(self, **changes)

    def counted(self, mask, labelled=None):
        """The rows that count, bool, of the shape of mask (B, T), True at real tokens; labelled (B, T), where it matters."""
        if self.rows == "labelled" and labelled is None:
            raise ValueError("need labels: only rows that have one count in this convention")
        if self.rows == "labelled":
            return labelled
        return mask if self.rows == "real" else xp_of(mask).ones_like(mask)

    def divides_by(self, mask, labelled=None):
        """What a term counts on the global batch before it is split: sequences, rows that count, or 1.

        Raises: ValueError where no token is real. (Looked at on the host only: a GPU is not asked to wait.)
        """
        if isinstance(mask, np.ndarray) and not mask.any():
            raise ValueError(f"need at least one real token in the mask {mask.shape}; it has none")
        if self.divisor == "none":
            return 1
        counted = sequences(mask) if self.divisor == "sequence" else int(self.counted(mask, labelled).sum())
        return counted + self.epsilon

    def row_weights(self, mask, divisor, dtype, labelled=None):
        """(B, T): what the value of each row is multiplied by, so that their sum is the loss. 0 where a row is out.

        divisor: of the global batch, by `divides_by`; None counts this one.
        """
        xp, counted = xp_of(mask), self.counted(mask, labelled)
        divisor = self.divides_by(mask, labelled) if divisor is None else divisor
        weights = counted.astype(dtype)
        if self.divisor == "sequence":
            lengths = xp.maximum(counted.sum(axis=1), 1).astype(dtype)                  # (B,): n_b
            return weights / (lengths * divisor)[:, None]
        return weights / max(1, divisor)

    def temperature_factor(self, temperature):
        """T^2, or 1 where a convention has it not. Raises: ValueError where T is no temperature."""
        if not temperature > 0:
            raise ValueError(f"need a temperature above 0; got {temperature}")
        return temperature ** 2 if self.temperature_squared else 1.0


def sequences(mask):
    """B, the number of sequences: what "mean over the batch" divides by.

    Raises: ValueError where a sequence has no real token. (Looked at on the host only: a GPU is not asked to wait.)
    """
    if isinstance(mask, np.ndarray) and not mask.any(axis=1).all():
        empty = int(mask.any(axis=1).argmin())
        raise ValueError(f"need at least one real token in every sequence; sequence {empty} of the mask has none")
    return len(mask)


PAPER = Convention()
