"""BERT's corruption: how much of what is hidden, and that a token's fate is its own."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinydistill.data.masking import (
    TINYBERT_RATE, _any_token, _uniform, frequency_weights, mask_by_frequency, mask_counted_official, mask_tokens)
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
    for rate in (0, -0.1, 1.1, 15):
        with pytest.raises(WrongUsage, match=f"need a share of masked tokens above 0, at most 1; got {rate}$"):
            mask_tokens(ids, mask, rows, SPECIAL, 1000, rate=rate)
    with pytest.raises(WrongUsage, match="need a vocabulary with more than special tokens; got 5 tokens$"):
        mask_tokens(ids, mask, rows, SPECIAL, 5)


# ---------------------------------------------------------------- a fixed count in each row

def counted(ids, mask, rows, **settings):
    return mask_counted_official(ids, mask, rows, SPECIAL, 1000, **settings)


@pytest.mark.parametrize("rate, most", [(0.15, 20), (0.5, 7), (0.05, 20), (0.0, 20)])
def test_every_row_has_its_count(rate, most):
    ids, mask, rows = batch(B=64, T=60)
    corrupted, labels = counted(ids, mask, rows, rate=rate, most=most)
    selected = labels != IGNORED
    for row, real in zip(selected, mask):
        n = int(real.sum())
        assert row.sum() == min(most, max(1, round(rate * n)), n - 2)       # round: Python's, to even
    assert (labels[selected] == ids[selected]).all() and (corrupted[~selected] == ids[~selected]).all()
    assert not selected[~mask].any() and not np.isin(ids[selected], [SPECIAL.cls, SPECIAL.sep]).any()


def test_rate_0_is_one_token_and_mostly_a_literal_mask():
    """TinyBERT's corpus without [MASK]: a row in five has none (five standard deviations of the binomial)."""
    ids, mask = np.tile(np.arange(10, 30), (5000, 1)), np.ones((5000, 20), bool)
    corrupted, labels = counted(ids, mask, np.arange(5000), rate=TINYBERT_RATE)
    assert ((labels != IGNORED).sum(1) == 1).all() and TINYBERT_RATE == 0
    with_mask = (corrupted == SPECIAL.mask).any(1).sum()
    assert abs(with_mask - 4000) < 5 * math.sqrt(5000 * 0.8 * 0.2)
    places = np.flatnonzero(labels != IGNORED) % 20
    assert np.abs(np.bincount(places, minlength=20) - 250).max() < 5 * math.sqrt(250)               # any place


def test_a_row_without_words_has_nothing_to_count():
    ids = np.array([[2, 3, 0]])
    corrupted, labels = counted(ids, ids != 0, np.arange(1))
    assert (corrupted == ids).all() and (labels == IGNORED).all()
    for rate in (-0.1, 1.1):
        with pytest.raises(WrongUsage, match=f"need a share of masked tokens from 0 to 1; got {rate}$"):
            counted(ids, ids != 0, np.arange(1), rate=rate)


# ---------------------------------------------------------------- DistilBERT's

def test_weights_by_hand():
    weights = frequency_weights(np.array([9, 9, 9, 9, 9, 0, 1, 1024]), SPECIAL)
    assert weights.tolist() == [0, 0, 0, 0, 0, 1, 1, pytest.approx(2 ** -7)]


WEIGHTS = frequency_weights(np.arange(1000) ** 2, SPECIAL)


@given(st.integers(0, 2**32), st.integers(0, 2**32), st.sampled_from([0.05, 0.15, 0.5]))
def test_the_count_is_that_of_the_whole_batch(seed, step, rate):
    ids, mask, rows = batch()
    corrupted, labels = mask_by_frequency(ids, mask, rows, SPECIAL, WEIGHTS, rate, seed, step)
    selected = labels != IGNORED
    assert selected.sum() == math.ceil(rate * mask.sum())
    assert (labels[selected] == ids[selected]).all() and (corrupted[~selected] == ids[~selected]).all()
    assert not selected[~mask].any() and not np.isin(ids[selected], range(5)).any()
    assert corrupted.dtype == labels.dtype == ids.dtype


def test_tokens_of_weight_0_are_never_drawn_and_too_few_are_all_drawn():
    ids = np.array([[2, 1, 7, 8, 3, 0], [2, 9, 1, 1, 1, 3]])
    _, labels = mask_by_frequency(ids, ids != 0, np.arange(2), SPECIAL, WEIGHTS, rate=1.0)
    assert (labels != IGNORED).tolist() == np.isin(ids, [7, 8, 9]).tolist()
    for rate in (0, 1.1):
        with pytest.raises(WrongUsage, match=f"need a share of masked tokens above 0, at most 1; got {rate}$"):
            mask_by_frequency(ids, ids != 0, np.arange(2), SPECIAL, WEIGHTS, rate=rate)


def test_draws_without_replacement_are_as_likely_as_the_weights_say():
    """Two of three tokens: P(i, j in either order) = w_i w_j (1 / (1 - w_i) + 1 / (1 - w_j)) for weights of sum 1."""
    weights = np.zeros(8)
    weights[5:] = 0.6, 0.3, 0.1
    ids, n = np.array([[5, 6, 7]]), 4000
    count = np.zeros(8)
    for step in range(n):
        _, labels = mask_by_frequency(ids, ids != 0, np.arange(1), SPECIAL, weights, rate=0.5, step=step)
        assert (labels == IGNORED).sum() == 1                               # ceil(1.5) = 2 are drawn
        count[ids[labels == IGNORED]] += 1
    w = weights[5:]
    for left_out in range(3):
        i, j = (k for k in range(3) if k != left_out)
        p = w[i] * w[j] * (1 / (1 - w[i]) + 1 / (1 - w[j]))
        assert abs(count[5 + left_out] - n * p) < 5 * math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize("rule", [lambda *batch, **at: mask_by_frequency(*batch, SPECIAL, WEIGHTS, 1.0, **at),
                                  lambda *batch, **at: counted(*batch, rate=1.0, most=10**6, **at)])
def test_what_becomes_of_the_selected(rule):
    """80 % [MASK], 10 % the same, 10 % uniform over the whole vocabulary, special tokens too (five deviations)."""
    ids, rows = np.full((100, 500), 10), np.arange(100)
    corrupted, labels = rule(ids, np.ones(ids.shape, bool), rows, seed=3)
    n = (labels != IGNORED).sum()
    assert n == ids.size
    for count, p in (((corrupted == SPECIAL.mask).sum(), 0.8 + 1e-4), ((corrupted == 10).sum(), 0.1 + 1e-4),
                     ((corrupted < 500).sum(), 0.8 + 0.1 + 0.05), (np.isin(corrupted, [0, 1, 2, 3]).sum(), 4e-4)):
        assert abs(count - n * p) <= 5 * math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize("rule", [lambda *batch, **at: mask_by_frequency(*batch, SPECIAL, WEIGHTS, **at), counted])
def test_padding_and_order_change_nothing_and_seed_and_step_do(rule):
    ids, mask, rows = batch()
    whole = rule(ids, mask, rows)
    wide = rule(np.pad(ids, ((0, 0), (0, 7))), np.pad(mask, ((0, 0), (0, 7))), rows)
    turned = rule(ids[::-1], mask[::-1], rows[::-1])
    for one, padded, other in zip(whole, wide, turned):
        assert np.array_equal(one, padded[:, :40]) and np.array_equal(one, other[::-1])
    for at in ({"seed": 1}, {"step": 1}):
        assert not np.array_equal(rule(ids, mask, rows, **at)[1], whole[1])


words = st.lists(st.integers(0, 2**16 - 1), min_size=4, max_size=4)


@given(words, st.integers(1, 2**32 - 1))
def test_sixteen_bits_at_a_time_are_put_together(bits, vocabulary):
    """u is the middle of the interval that its first 52 bits name; a token is floor(V x) of a 32-bit fraction x."""
    a, b, c, d = bits
    array = np.array(bits, np.uint64)
    u = _uniform(array)
    assert 0 < u < 1 and u == ((a * 2**48 + b * 2**32 + c * 2**16 + d) // 2**12 + 0.5) / 2**52
    assert _any_token(array[:2], vocabulary) == vocabulary * (a * 2**16 + b) // 2**32


def test_what_is_left_out_means():
    ids, mask, rows = np.tile(np.arange(10, 210), (3, 1)), np.ones((3, 200), bool), np.arange(3)
    for one, other in ((mask_tokens(ids, mask, rows, SPECIAL, 1000),
                        mask_tokens(ids, mask, rows, SPECIAL, 1000, rate=0.15, seed=0, step=0)),
                       (counted(ids, mask, rows), counted(ids, mask, rows, rate=0.15, most=20, seed=0, step=0)),
                       (mask_by_frequency(ids, mask, rows, SPECIAL, WEIGHTS),
                        mask_by_frequency(ids, mask, rows, SPECIAL, WEIGHTS, rate=0.15, seed=0, step=0))):
        assert np.array_equal(one, other)
