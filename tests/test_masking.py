"""BERT's corruption: how much of what is hidden, and that a token's fate is its own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinydistill.data.masking import mask_tokens
from tinydistill.data.tokenizer import SpecialIds
from tinydistill.errors import WrongUsage
from tinydistill.features import IGNORED

SPECIAL = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)
SPREAD = SpecialIds(pad=3, unk=0, cls=7, sep=9, mask=5)                 # special tokens in the middle of a vocabulary


def batch(B=8, T=40, vocabulary=1000, seed=0):
    """Ordinary ids between [CLS] and [SEP], rows of several lengths."""
    random = np.random.default_rng(seed)
    ids = random.integers(5, vocabulary, (B, T))
    mask = np.arange(T) < random.integers(3, T + 1, (B, 1))
    ids[:, 0] = SPECIAL.cls
    ids[np.arange(B), mask.sum(1) - 1] = SPECIAL.sep
    ids[~mask] = SPECIAL.pad
    return ids, mask, np.arange(B)


def test_what_is_selected_is_the_label_and_nothing_else_changes():
    ids, mask, rows = batch()
    before = ids.copy()
    corrupted, labels = mask_tokens(ids, mask, rows, SPECIAL, 1000, rate=0.5)
    selected = labels != IGNORED
    assert (ids == before).all()
    assert (labels[selected] == ids[selected]).all()
    assert (corrupted[~selected] == ids[~selected]).all()
    assert corrupted.dtype == labels.dtype == ids.dtype and corrupted.shape == labels.shape == ids.shape
    assert selected.any(1).all() and not selected[~mask].any() and not selected[:, 0].any()


@pytest.mark.parametrize("rate", [0.15, 0.2, 1.0])
def test_how_many_are_selected_and_what_becomes_of_them(rate):
    """Bounds of five standard deviations of the binomial, each true for about 99.9999 % of seeds."""
    B, T, V = 200, 500, 50
    ids = np.full((B, T), 10)
    corrupted, labels = mask_tokens(ids, np.ones((B, T), bool), np.arange(B), SPECIAL, V, rate, seed=3, step=5)
    selected = labels != IGNORED

    def near(count, n, p):
        return abs(count - n * p) <= 5 * (n * p * (1 - p)) ** 0.5

    n = selected.sum()
    assert near(n, B * T, rate)
    assert near((corrupted[selected] == SPECIAL.mask).sum(), n, 0.8)
    assert near((corrupted[selected] == 10).sum(), n, 0.1 + 0.1 / (V - 5))                      # kept, or drawn again
    others = np.bincount(corrupted[selected & (corrupted != SPECIAL.mask) & (corrupted != 10)], minlength=V)
    assert (others[:5] == 0).all() and others[10] == 0
    assert near(others.sum(), n, 0.1 * (V - 6) / (V - 5))
    for count in np.delete(others[5:], 5):
        assert near(count, n, 0.1 / (V - 5))


def test_neighbours_are_drawn_independently():
    """Selections of adjacent places, adjacent rows and adjacent steps agree as often as independent ones do."""
    shape, rate = (300, 400), 0.3
    one, two = ((mask_tokens(np.full(shape, 9), np.ones(shape, bool), np.arange(300), SPECIAL, 50, rate, step=step)[1]
                 != IGNORED) for step in (0, 1))
    for a, b in ((one[:, 1:], one[:, :-1]), (one[1:], one[:-1]), (one, two)):
        both, n, p = (a & b).sum(), a.size, rate ** 2
        assert abs(both - n * p) <= 6 * (2 * n * p * (1 - p)) ** 0.5                            # pairs overlap: twice


def test_special_tokens_are_neither_selected_nor_drawn():
    ids = np.tile(np.arange(12), (300, 1))
    corrupted, labels = mask_tokens(ids, np.ones(ids.shape, bool), np.arange(300), SPREAD, 12, rate=1.0)
    special = np.isin(ids, [0, 3, 5, 7, 9])
    assert (labels[special] == IGNORED).all() and (corrupted[special] == ids[special]).all()
    assert (labels[~special] == ids[~special]).all()
    drawn = corrupted[~special & (corrupted != ids) & (corrupted != SPREAD.mask)]
    assert set(drawn) == {1, 2, 4, 6, 8, 10, 11}


def test_large_vocabularies_are_reached_to_the_end():
    shape = (200, 300)
    corrupted, _ = mask_tokens(np.full(shape, 9), np.ones(shape, bool), np.arange(200), SPECIAL, 250_002, rate=1.0)
    drawn = corrupted[(corrupted != 9) & (corrupted != SPECIAL.mask)]
    assert len(np.unique(drawn)) > 0.97 * len(drawn)            # 6,000 draws out of 250,000: 1.2 % meet by chance
    assert drawn.min() < 1000 and drawn.max() > 249_000         # missed with probability e^-24


@given(st.integers(0, 2**32), st.integers(0, 2**32), st.permutations(range(6)), st.integers(1, 5))
def test_a_row_is_corrupted_alike_in_any_part_of_the_batch(seed, step, order, cut):
    ids, mask, rows = batch(B=6)
    whole = mask_tokens(ids, mask, rows, SPECIAL, 1000, seed=seed, step=step)
    for part in (order[:cut], order[cut:]):
        alone = mask_tokens(ids[part], mask[part], rows[part], SPECIAL, 1000, seed=seed, step=step)
        for all_rows, some_rows in zip(whole, alone):
            assert np.array_equal(all_rows[part], some_rows)


@given(st.integers(1, 40))
def test_padding_changes_nothing(more):
    ids, mask, rows = batch()
    wide = [np.pad(array, ((0, 0), (0, more))) for array in (ids, mask)]
    for narrow, padded in zip(mask_tokens(ids, mask, rows, SPECIAL, 1000),
                              mask_tokens(*wide, rows, SPECIAL, 1000)):
        assert np.array_equal(narrow, padded[:, :ids.shape[1]])


def test_seed_step_and_row_each_matter():
    ids = np.tile(np.arange(5, 105), (2, 1))
    mask = np.ones(ids.shape, bool)
    drawn = [mask_tokens(ids, mask, np.array(rows), SPECIAL, 1000, seed=seed, step=step)[0].tobytes()
             for rows, seed, step in (((0, 1), 0, 0), ((0, 1), 1, 0), ((0, 1), 0, 1), ((2, 3), 0, 0))]
    assert len(set(drawn)) == 4
    first, second = mask_tokens(ids, mask, np.array([0, 1]), SPECIAL, 1000)[1]
    assert (first != second).any()


def test_padding_is_never_selected_whatever_stands_there():
    ids, mask = np.full((20, 50), 9), np.arange(50) < np.arange(1, 21)[:, None]
    corrupted, labels = mask_tokens(ids, mask, np.arange(20), SPECIAL, 1000, rate=1.0)
    assert np.array_equal(labels != IGNORED, mask) and (corrupted[~mask] == 9).all()


def test_a_row_may_have_nothing_to_predict():
    ids = np.array([[2, 3, 0], [2, 1, 3]])
    corrupted, labels = mask_tokens(ids, ids != 0, np.arange(2), SPECIAL, 10, rate=1.0)
    assert (corrupted == ids).all() and (labels == IGNORED).all()


def test_wrong_shares_and_vocabularies():
    ids, mask, rows = batch()
    for rate in (0, -0.1, 15):
        with pytest.raises(WrongUsage, match=f"need a share of masked tokens above 0, at most 1; got {rate}$"):
            mask_tokens(ids, mask, rows, SPECIAL, 1000, rate=rate)
    with pytest.raises(WrongUsage, match="need a vocabulary with more than special tokens; got 5 tokens$"):
        mask_tokens(ids, mask, rows, SPECIAL, 5)
