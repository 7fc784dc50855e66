"""Batches: every row once an epoch, little padding, and a step that is the same whoever asks and whenever."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinydistill.data import batches as module
from tinydistill.data.batches import Batches
from tinydistill.errors import WrongUsage
from tinydistill.features import IGNORED


def rows_of(count, seed=0, longest=64):
    """Sequences that say which row they are: their first id is the row's number."""
    random = np.random.default_rng(seed)
    return [np.concatenate([[i], random.integers(1000, 2000, random.integers(0, longest))]).astype(np.int32)
            for i in range(count)]


def same(one, two):
    return all(np.array_equal(a, b) and a.dtype == b.dtype if a is not None else b is None
               for a, b in zip(vars(one).values(), vars(two).values()))


@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 2**40), st.booleans(), st.booleans())
def test_every_row_comes_once_an_epoch(count, batch_size, seed, bucket, shuffle):
    sequences = rows_of(count)
    batches = Batches(sequences, batch_size, seed, bucket=bucket, shuffle=shuffle)
    assert len(batches) == -(-count // batch_size)
    for epoch in (0, 3):
        parts = [batches.at(epoch * len(batches) + i) for i in range(len(batches))]
        assert sorted(i for part in parts for i in part.ids[:, 0]) == list(range(count))
        assert sorted(map(len, parts), reverse=True)[:-1] == [batch_size] * (len(batches) - 1)
        for part in parts:
            for row, real, i in zip(part.ids, part.mask, part.ids[:, 0]):
                assert np.array_equal(row[real], sequences[i]) and not row[~real].any()
            assert part.mask.any(0).all() and part.rows.tolist() == list(range(len(part)))


@given(st.lists(st.integers(0, 60), max_size=12), st.integers(0, 2**40))
def test_a_step_is_the_same_whatever_was_asked_before(steps, seed):
    sequences = rows_of(100)
    used = Batches(sequences, 16, seed)
    for step in steps:
        assert same(used.at(step), Batches(sequences, 16, seed).at(step))


def test_threads_share_batches():
    sequences = rows_of(200)
    shared, steps = Batches(sequences, 8, 1), [0, 130, 1, 26, 131, 60] * 10
    with ThreadPoolExecutor(4) as pool:
        for step, batch in zip(steps, pool.map(shared.at, steps)):
            assert same(batch, Batches(sequences, 8, 1).at(step))


def test_seeds_and_epochs_shuffle_differently():
    sequences = [np.concatenate([[i], np.arange(i)]) for i in range(300)]                       # no two of one length

    def composition(seed, epoch):
        return [tuple(batch) for batch in Batches(sequences, 32, seed).plan(epoch)]
    plans = [composition(0, 0), composition(1, 0), composition(0, 1)]
    assert plans[0] == composition(0, 0)
    for one in range(3):
        for two in range(one):                                  # not only the order: other rows stand together
            assert len({frozenset(b) for b in plans[one]} & {frozenset(b) for b in plans[two]}) <= 1


def test_the_shuffle_is_uniform():
    """Each of six rows is first in a sixth of the epochs (five standard deviations)."""
    first = [Batches(rows_of(6), 1, 0, bucket=False).plan(epoch)[0][0] for epoch in range(3000)]
    assert np.abs(np.bincount(first, minlength=6) - 500).max() < 5 * (3000 * 5 / 36) ** 0.5


@pytest.mark.parametrize("shuffle", [True, False])
def test_buckets_leave_little_padding(shuffle):
    sequences = rows_of(6400)
    def real_share(**settings):
        batches = Batches(sequences, 32, 0, shuffle=shuffle, **settings)
        masks = [batches.at(step).mask for step in range(len(batches))]
        return sum(mask.sum() for mask in masks) / sum(mask.size for mask in masks)
    assert real_share(bucket=False) < 0.6 and real_share() > 0.97


def test_batches_do_not_come_by_length():
    batches = Batches(rows_of(6400), 32, 0)
    lengths = [batches.at(step).ids.shape[1] for step in range(200)]
    longer = np.mean(np.diff(lengths) > 0)                      # 0.5 when shuffled, 0.7 when sorted within each pool
    assert abs(longer - 0.5) < 0.1


def test_at_most_so_many_batches_are_sorted_together(monkeypatch):
    monkeypatch.setattr(module, "POOL", 2)
    batches = Batches(rows_of(160), 8, 0, shuffle=False)
    assert [sorted(np.concatenate(pair)) for pair in zip(batches.plan(0)[::2], batches.plan(0)[1::2])] == [
        list(range(first, first + 16)) for first in range(0, 160, 16)]
    lengths = [batches.lengths[i] for batch in batches.plan(0)[:2] for i in batch]
    assert lengths == sorted(lengths)


def test_rows_of_one_length_keep_their_order():
    batches = Batches(rows_of(500, longest=3), 100, 0)
    visited = [i for indices, _ in batches.once() for i in indices]
    assert visited == sorted(range(500), key=lambda i: batches.lengths[i])


def test_without_shuffle_and_buckets_the_order_is_the_given_one():
    batches = Batches(rows_of(10), 4, 0, bucket=False, shuffle=False)
    assert [batch.tolist() for batch in batches.plan(0)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [indices.tolist() for indices, _ in batches.once()] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@given(st.integers(1, 100), st.integers(1, 16))
def test_once_visits_every_row_by_length(count, batch_size):
    sequences = rows_of(count)
    visited = list(Batches(sequences, batch_size, 0).once())
    assert sorted(i for indices, _ in visited for i in indices) == list(range(count))
    lengths = [len(sequences[i]) for indices, _ in visited for i in indices]
    assert lengths == sorted(lengths)
    for indices, batch in visited:
        assert batch.ids[:, 0].tolist() == indices.tolist() and len(batch) <= batch_size


def test_token_types_and_labels_of_tokens():
    sequences = [np.array([5, 6, 7]), np.array([8])]
    batch = Batches(sequences, 2, 0, token_types=[np.array([0, 1, 1]), np.array([1])],
                    labels=[np.array([1, IGNORED, 0]), np.array([2])], shuffle=False, bucket=False, pad_id=9).at(0)
    assert batch.ids.tolist() == [[5, 6, 7], [8, 9, 9]] and batch.mask.tolist() == [[True] * 3, [True, False, False]]
    assert batch.token_types.tolist() == [[0, 1, 1], [1, 0, 0]]
    assert batch.labels.tolist() == [[1, IGNORED, 0], [2, IGNORED, IGNORED]]
    assert {a.dtype for a in (batch.ids, batch.token_types, batch.labels)} == {np.dtype(np.int64)}


@pytest.mark.parametrize("labels", [np.arange(50), list(range(50)), np.arange(50) / 2])
def test_labels_of_sequences_stay_with_their_rows(labels):
    batches = Batches(rows_of(50), 8, 0, labels=labels)
    for step in range(2 * len(batches)):
        batch = batches.at(step)
        assert batch.labels.tolist() == [labels[i] for i in batch.ids[:, 0]] and batch.token_types is None
        assert batch.labels.dtype == np.asarray(labels).dtype


def test_a_batch_can_be_split_and_keeps_its_rows():
    whole = Batches(rows_of(50), 8, 0).at(2)
    assert np.concatenate([part.rows for part in whole.split(3)]).tolist() == list(range(8))


def test_what_cannot_be_batched():
    sequences = rows_of(3, longest=2)
    for count, size in ((0, 4), (3, 0)):
        with pytest.raises(WrongUsage, match=f"need at least one row and batches of at least one; got {count} rows, "
                                             f"batch size {size}$"):
            Batches(sequences[:count], size, 0)
    with pytest.raises(WrongUsage, match="need at least one token in every row; row 1 is empty$"):
        Batches([np.array([1]), np.array([], int)], 1, 0)
    for labels in ([0, 1], []):
        with pytest.raises(WrongUsage, match=f"need labels for each of the 3 rows; got {len(labels)}$"):
            Batches(sequences, 1, 0, labels=labels)
    with pytest.raises(WrongUsage, match="need token types for each of the 3 rows; got 1$"):
        Batches(sequences, 1, 0, token_types=sequences[:1])
    wrong = [*sequences[:2], np.arange(7)]
    with pytest.raises(WrongUsage, match=rf"need labels for each of the {len(sequences[2])} tokens of row 2; "
                                         r"got the shape \(7,\)$"):
        Batches(sequences, 1, 0, labels=wrong)
    with pytest.raises(WrongUsage, match=r"need token types for each of the .* tokens of row 0; got the shape \(\)$"):
        Batches(sequences, 1, 0, token_types=[1, 2, 3])
