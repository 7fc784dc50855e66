"""Corrupting a batch: some tokens are hidden, and become the labels. Three rules say which.

A selected token becomes [MASK] (80 %), a random token (10 %), or stays (10 %). Random numbers are those of (seed, step,
row, place): they depend neither on padding nor on the shape of the batch.
"""

import math

import numpy as np

from tinydistill.backend import random_bits, stream
from tinydistill.errors import WrongUsage
from tinydistill.features import IGNORED

SITE = stream("masking")
TINYBERT_RATE = 0.0                                 # of `mask_counted_official`: no more than one token a row


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
    bits = _bits(ids, rows, 4, seed, step)
    selected = (bits[..., 0] < rate * 2 ** 16) & mask & ~np.isin(ids, specials)
    drawn = ordinary[((bits[..., 2] << 16 | bits[..., 3]) * len(ordinary)) >> 32]
    return _corrupted(ids, selected, bits[..., 1], drawn, special)


def mask_counted_official(ids, mask, rows, special, vocabulary_size, rate=0.15, most=20, seed=0, step=0):
    """(corrupted ids, labels): the published selection of BERT and TinyBERT, a fixed count in each row.

    Equation: min(most, max(1, round(rate n))) of the row's n real tokens ([CLS] and [SEP] count, and are not selected;
    round takes the even neighbour of a half), all sets of that size alike. Random tokens are uniform over the whole
    vocabulary, special tokens too.
    The maximum makes rate 0 mean one token: TinyBERT's general distillation, whose rate `TINYBERT_RATE` is to spare the
    corpus the [MASK] symbol, still reads one corrupted token in every row.
    Shapes: as for `mask_tokens`.
    Source: google-research/bert create_pretraining_data.py (rate 0.15); huawei-noah/Pretrained-Language-Model
    TinyBERT/pregenerate_training_data.py (rate 0.0 unless given).
    """
    if not 0 <= rate <= 1:
        raise WrongUsage(f"need a share of masked tokens from 0 to 1; got {rate}")
    bits = _bits(ids, rows, 7, seed, step)
    candidate = mask & ~np.isin(ids, (special.cls, special.sep))
    count = np.minimum(most, np.maximum(1, np.rint(rate * mask.sum(1))))                # (B,)
    order = np.argsort(np.where(candidate, _uniform(bits), 2.0), axis=1, kind="stable")
    rank = np.argsort(order, axis=1)                                                    # of each token in its row
    selected = (rank < count[:, None]) & candidate
    return _corrupted(ids, selected, bits[..., 4], _any_token(bits[..., 5:], vocabulary_size), special)


def frequency_weights(counts, special):
    """w (V,) of `mask_by_frequency`: max(count, 1)^-0.7, and 0 for special tokens.

    Shapes: counts (V,), how often the corpus has each token; special a `SpecialIds`.
    Source: huggingface/transformers-research-projects distillation/train.py.
    """
    weights = np.maximum(counts, 1.0) ** -0.7
    weights[list(vars(special).values())] = 0.0
    return weights


def mask_by_frequency(ids, mask, rows, special, weights, rate=0.15, seed=0, step=0):
    """(corrupted ids, labels): DistilBERT's masked language model, which hides rare tokens more often.

    Equation: ceil(rate sum_b n_b) tokens of the whole batch, n_b a row's length with [CLS] and [SEP], are drawn one
    after the other without replacement, each time with probabilities proportional to w of the tokens that are left.
    Tokens of weight 0 are never drawn; where too few others are there, all of them are. Random tokens are uniform over
    the whole vocabulary, special tokens too.
    How it is drawn: the smallest of -log(u) / w, u uniform in (0, 1). They are the first arrivals of processes of rates
    w, and the next to arrive is any of those that are left with chance w / sum w. The batch must be the global one,
    before it is split: what is drawn in a row depends on the others.
    Shapes: as for `mask_tokens`; weights (V,), see `frequency_weights`.
    Source: Sanh et al. 2019, "DistilBERT"; huggingface/transformers-research-projects distillation/distiller.py,
    prepare_batch_mlm (in half precision it rounds the count to a multiple of 8, which is not done here).
    """
    if not 0 < rate <= 1:
        raise WrongUsage(f"need a share of masked tokens above 0, at most 1; got {rate}")
    bits = _bits(ids, rows, 7, seed, step)
    weight = np.where(mask, weights[ids], 0.0)                                          # (B, T)
    arrival = np.full(ids.shape, np.inf)
    np.divide(-np.log(_uniform(bits)), weight, out=arrival, where=weight > 0)
    first = np.argsort(arrival, axis=None, kind="stable")[:math.ceil(rate * mask.sum())]
    selected = np.zeros(ids.shape, bool)
    selected.flat[first] = True
    return _corrupted(ids, selected & (weight > 0), bits[..., 4], _any_token(bits[..., 5:], len(weights)), special)


# ---------------------------------------------------------------- what the three share

def _bits(ids, rows, count, seed, step):
    """(B, T, count) 16-bit integers as uint64: `count` for every token, by its row and place."""
    B, T = ids.shape
    drawn = np.stack([random_bits(count * T, seed, row, SITE, step) for row in rows])
    return drawn.reshape(B, T, count).astype(np.uint64)


def _uniform(bits):
    """(B, T) in (0, 1), from the first four 16-bit integers of each token."""
    whole = bits[..., 0] << 48 | bits[..., 1] << 32 | bits[..., 2] << 16 | bits[..., 3]
    return ((whole >> 12) + 0.5) / 2 ** 52


def _any_token(bits, vocabulary_size):
    """(B, T) ids uniform over the vocabulary, from two 16-bit integers each."""
    return ((bits[..., 0] << 16 | bits[..., 1]) * vocabulary_size) >> 32


def _corrupted(ids, selected, kind, drawn, special):
    """(corrupted ids, labels) for the selected tokens; kind: 16 bits that say what becomes of each."""
    kind = kind / 2 ** 16                                                               # (B, T) in [0, 1)
    labels = np.where(selected, ids, IGNORED).astype(ids.dtype)
    corrupted = np.where(selected & (kind < 0.8), special.mask, ids)
    corrupted = np.where(selected & (kind >= 0.9), drawn, corrupted).astype(ids.dtype)
    return corrupted, labels
