"""BERT's corruption of a batch: some tokens are hidden, and become the labels."""

import numpy as np

from tinydistill.backend import random_bits, stream
from tinydistill.errors import WrongUsage
from tinydistill.features import IGNORED

SITE = stream("masking")


def mask_tokens(ids, mask, rows, special, vocabulary_size, rate=0.15, seed=0, step=0):
    """(corrupted ids, labels): BERT's masked language model, each token drawn for itself.

    A real token that is not special is selected with probability `rate`; then it becomes [MASK] (80 %), a random
    token (10 %), or stays (10 %). Labels are the selected tokens' ids, and `IGNORED` elsewhere. A row may have none:
    it adds nothing to the loss (and a batch without any has the divisor 0). Random tokens are uniform over the
    vocabulary without its special tokens, and may be the old token again.
    The draw of a token depends on (seed, step, its row, its place) alone: not on padding, not on the other rows.
    Shapes: NumPy; ids (B, T) integers, mask (B, T), rows (B,) from the batch, special a `SpecialIds`.
    Source: Devlin et al. 2019, "BERT", section 3.1 and appendix A.1. google-research/bert selects exactly
    max(1, round(0.15 n)) of n tokens (at most 20), transformers draws each for itself as here; both take the random
    token from the whole vocabulary, special tokens too.
    """
    if not 0 < rate <= 1:
        raise WrongUsage(f"need a share of masked tokens above 0, at most 1; got {rate}")
    specials = sorted(set(vars(special).values()))
    ordinary = np.setdiff1d(np.arange(vocabulary_size), specials)
    if len(ordinary) == 0:
        raise WrongUsage(f"need a vocabulary with more than special tokens; got {vocabulary_size} tokens")
    B, T = ids.shape
    bits = np.stack([random_bits(4 * T, seed, row, SITE, step) for row in rows]).reshape(B, T, 4).astype(np.uint64)
    selected = (bits[..., 0] < rate * 2 ** 16) & mask & ~np.isin(ids, specials)
    kind = bits[..., 1] / 2 ** 16                                                              # (B, T) in [0, 1)
    drawn = ordinary[((bits[..., 2] << 16 | bits[..., 3]) * len(ordinary)) >> 32]
    labels = np.where(selected, ids, IGNORED).astype(ids.dtype)
    corrupted = np.where(selected & (kind < 0.8), special.mask, ids)
    corrupted = np.where(selected & (kind >= 0.9), drawn, corrupted).astype(ids.dtype)
    return corrupted, labels
