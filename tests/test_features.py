"""What goes into a model, what it is told, and what comes out."""

import dataclasses

import numpy as np
import pytest

from tinydistill.backend import random_bits, to_host
from tinydistill.errors import Problem
from tinydistill.features import IGNORED, PER_LAYER, PER_MODEL, Batch, Features, Needs, Pass

rng = np.random.default_rng(0)


def batch(B=5, T=4, **fields):
    mask = np.arange(T) < rng.integers(1, T + 1, B)[:, None]
    return Batch(rng.integers(0, 30, (B, T)), mask, **fields)


# ---------------------------------------------------------------- Batch

def test_a_batch_moves_whole_but_its_row_numbers_stay(xp):
    whole = batch(labels=rng.integers(0, 3, 5), positions=np.array([1, 6]), rows=np.arange(10, 15),
                  next_sentence=rng.integers(0, 2, 5))
    moved = whole.to(xp)
    assert len(moved) == 5 and moved.token_types is None and moved.rows is whole.rows
    for name in ("ids", "mask", "labels", "positions", "next_sentence"):
        assert isinstance(getattr(moved, name), xp.ndarray)
        np.testing.assert_array_equal(to_host(getattr(moved, name)), getattr(whole, name))


@pytest.mark.parametrize("shards", [1, 2, 3, 5, 8])
def test_the_parts_of_a_split_are_the_batch(shards):
    B, T = 5, 4
    whole = batch(B, T, token_types=rng.integers(0, 2, (B, T)), labels=rng.integers(0, 30, (B, T)),
                  positions=np.array([0, 3, 4, 7, 13, 19]), rows=np.array([4, 9, 2, 7, 30]),
                  next_sentence=np.array([0, 1, 1, 0, 1]))
    parts = whole.split(shards)
    assert len(parts) == min(shards, B) and max(map(len, parts)) - min(map(len, parts)) <= 1
    for name in ("ids", "mask", "token_types", "labels", "rows", "next_sentence"):
        np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))
    read = [p.ids.reshape(-1)[p.positions] for p in parts]
    np.testing.assert_array_equal(np.concatenate(read), whole.ids.reshape(-1)[whole.positions])


def test_a_split_numbers_the_rows_of_a_batch_that_has_no_numbers():
    parts = batch(5).split(2)
    assert [p.rows.tolist() for p in parts] == [[0, 1, 2], [3, 4]]
    for name in ("labels", "positions", "token_types", "next_sentence"):
        assert all(getattr(part, name) is None for part in parts)


def test_a_batch_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        batch().ids = None
    assert IGNORED == -100                          # what PyTorch and published data use


# ---------------------------------------------------------------- Needs

def test_needs_of_several_losses_join():
    needs = Needs.of(queries=[-1], keys=[-1]) | Needs.of(queries=[0, -1], logits=True)
    assert needs == Needs.of(queries=[-1, 0], keys=[-1], logits=True)
    assert "logits" in needs and "queries" in needs and "values" not in needs and "pooled" not in needs
    assert repr(needs) == "Needs(keys[-1], logits, queries[-1], queries[0])"
    assert "logits" not in Needs.of(logits=False)


def test_needs_know_only_the_features_there_are():
    assert PER_LAYER + PER_MODEL == tuple(f.name for f in dataclasses.fields(Features))[3:-1]      # and observed
    with pytest.raises(ValueError, match="need a feature out of hidden, .*, logits, next_sentence; got attention"):
        Needs.of(attention=[0])


def test_layers_count_from_both_ends():
    needs = Needs.of(hidden=[0, -1, 2, -4], scores=[3])
    assert needs.layers("hidden", 4) == {0, 2, 3}
    assert needs.layers("scores", 4) == {3}
    assert needs.layers("values", 4) == set()


@pytest.mark.parametrize("layer", [4, -5])
def test_a_layer_the_model_does_not_have(layer):
    with pytest.raises(Problem, match=r"need hidden of layer (4|-1), but the model has 4 layers \(0 to 3\)"):
        Needs.of(hidden=[layer]).layers("hidden", 4)


@pytest.mark.parametrize("needs, extent", [
    (Needs(), (-1, True)), (Needs.of(embeddings=True), (-1, True)),
    (Needs.of(queries=[1]), (1, False)), (Needs.of(keys=[-1], values=[0]), (3, False)),
    (Needs.of(scores=[2]), (2, False)), (Needs.of(hidden=[2]), (2, True)),
    (Needs.of(hidden=[2], queries=[2]), (2, True)), (Needs.of(hidden=[1], queries=[2]), (2, False)),
    (Needs.of(logits=True), (3, True)), (Needs.of(next_sentence=True), (3, True)),
    (Needs.of(pooled=True, queries=[-1]), (3, True))])
def test_a_pass_goes_as_far_as_somebody_reads(needs, extent):
    assert needs.extent(4) == extent


# ---------------------------------------------------------------- Features

def test_features_by_layer_from_both_ends():
    features = Features("bert 4x8", 4, mask=np.ones((1, 2), bool))
    features.hidden[3], features.scores[1] = "last", "second"
    assert features.hidden[-1] == "last" and features.hidden[3] == "last" and features.scores[-3] == "second"


@pytest.mark.parametrize("layer", [0, -2, 4, -5])
def test_a_feature_nobody_computed_is_a_problem_that_names_it(layer):
    features = Features("bert 4x8", 4, mask=None)
    features.hidden[3] = "last"
    with pytest.raises(Problem, match=f"need hidden of layer {layer}, which bert 4x8 did not compute"):
        features.hidden[layer]


def test_has_fills_in_the_whole_model_and_keeps_the_layers():
    features = Features("bert", 2, mask="mask")
    features.values[1] = "values"
    filled = features.has(logits="logits", pooled="pooled")
    assert (filled.logits, filled.pooled, filled.embeddings, filled.mask) == ("logits", "pooled", None, "mask")
    assert filled.values[-1] == "values" and features.logits is None
    assert filled.has(embeddings="embeddings").values[1] == "values"


# ---------------------------------------------------------------- Pass

def test_a_row_drops_the_same_units_on_any_shard(xp):
    like, rows, shape = xp.zeros(1), np.array([3, 8, 5, 100]), (2, 3)
    run = Pass(seed=7, step=11, rows=rows)
    whole = run.bits(2, (4, *shape), like)
    assert isinstance(whole, xp.ndarray) and whole.dtype == np.uint16 and whole.shape == (4, 2, 3)
    for cut in (1, 2, 3):
        parts = [dataclasses.replace(run, rows=part).bits(2, (len(part), *shape), like)
                 for part in (rows[:cut], rows[cut:])]
        np.testing.assert_array_equal(np.concatenate([to_host(p) for p in parts]), to_host(whole))
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(to_host(whole)[i].reshape(-1), random_bits(6, 7, row, 2, 11))


def test_a_pass_without_rows_numbers_them():
    unnumbered, numbered = (Pass(seed=7, step=11, rows=rows).bits(2, (3, 4), np.zeros(1)) for rows in (None, [0, 1, 2]))
    np.testing.assert_array_equal(unnumbered, numbered)


def test_an_empty_batch_has_no_bits():
    assert Pass().bits(0, (0, 2, 3), np.zeros(1)).shape == (0, 2, 3)


def test_seed_step_site_and_row_each_change_the_bits():
    places = [(1, 1, 1, 1), (2, 1, 1, 1), (1, 2, 1, 1), (1, 1, 2, 1), (1, 1, 1, 2)]
    draws = [Pass(seed=seed, step=step, rows=[row]).bits(site, (1, 999), np.zeros(1))
             for seed, step, site, row in places]
    for i, a in enumerate(draws):
        for b in draws[:i]:
            assert (a == b).sum() <= 8              # 999 / 65536 by chance


def test_a_pass_by_default_computes_nothing_and_drops_nothing():
    run = Pass()
    assert run.needs == Needs() and run.training is False and run.decisions is None
