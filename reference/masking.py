"""Corrupting tokens for a masked language model: what is hidden, as a function of uniform draws.

    selected    becomes the label; all other labels are -100
    becomes     [MASK] where kind < 0.8 · itself where 0.8 <= kind < 0.9 · a random token where kind >= 0.9

    bert        each token for itself: selected where selection < rate                   Devlin et al. 2019
    counted     min(most, max(1, round(rate n))) of a row's n real tokens, those of the smallest draws; round takes the
                even neighbour of a half                                                 google-research/bert, TinyBERT
    frequency   ceil(rate sum_b n_b) of the whole batch, those of the smallest -log(selection) / weight: so they are
                drawn without replacement, each with a chance like its weight            Sanh et al. 2019, DistilBERT

A random token is number floor(word V) of the V of its vocabulary; words "ordinary": of those that are not special.
Shapes: ids (B, T), mask (B, T), special (V,), True at tokens that are never selected, weights (V,); the draws
selection, kind and word (B, T) in [0, 1). Two draws where one is taken here make the same rule with other bits.

Traps
  - special tokens and padding are never selected, but [CLS] and [SEP] count among the n
  - a token that stays itself, or becomes another, has a label like one that becomes [MASK]
  - a random token may be the old one
"""

import math

import numpy as np

from tinydistill_reference.conventions import IGNORED, need


def corrupted(ids, selected, kind, word, words, mask_id, last="random"):
    """{ids, labels}; words: the tokens that a random one is of; last: what becomes of the last tenth of kinds."""
    found, labels = ids.copy(), np.full(ids.shape, IGNORED)
    for place in zip(*np.nonzero(selected)):
        labels[place] = ids[place]
        if kind[place] < 0.8:
            found[place] = mask_id
        elif (kind[place] >= 0.9) == (last == "random"):
            found[place] = words[int(float(word[place]) * len(words))]
    return {"ids": found, "labels": labels}


def of_one_shape(ids, mask, selection, kind, word, rate):
    need(ids.shape == mask.shape == selection.shape == kind.shape == word.shape,
         f"ids, mask and draws of one shape: {[x.shape for x in (ids, mask, selection, kind, word)]}")
    need(0 <= rate <= 1, f"a share of selected tokens, a rate from 0 to 1: {rate}")


def bert(ids, mask, special, selection, kind, word, *, rate=0.15, mask_id, words="ordinary", last="random"):
    of_one_shape(ids, mask, selection, kind, word, rate)
    tokens = np.flatnonzero(~special) if words == "ordinary" else np.arange(len(special))
    need(len(tokens) > 0, "a vocabulary with more than special tokens")
    selected = mask & ~special[ids] & (selection < rate)
    return corrupted(ids, selected, kind, word, tokens, mask_id, last)


def counted(ids, mask, special, selection, kind, word, *, rate=0.15, most=20, mask_id):
    of_one_shape(ids, mask, selection, kind, word, rate)
    selected = np.zeros(ids.shape, bool)
    for b, real in enumerate(mask):
        count = min(most, max(1, round(rate * int(real.sum()))))
        candidates = np.flatnonzero(real & ~special[ids[b]])
        selected[b, sorted(candidates, key=lambda t: selection[b, t])[:count]] = True
    return corrupted(ids, selected, kind, word, np.arange(len(special)), mask_id)


def frequency(ids, mask, weights, selection, kind, word, *, rate=0.15, mask_id):
    of_one_shape(ids, mask, selection, kind, word, rate)
    selected = np.zeros(ids.shape, bool)
    candidates = [place for place in zip(*np.nonzero(mask)) if weights[ids[place]] > 0]
    arrivals = {place: -np.log(selection[place]) / weights[ids[place]] for place in candidates}
    for place in sorted(candidates, key=arrivals.get)[:math.ceil(rate * int(mask.sum()))]:
        selected[place] = True
    return corrupted(ids, selected, kind, word, np.arange(len(weights)), mask_id)
