"""UniLM's masks: as published, as transformers computes with them; pseudo-masked passes as token-by-token writing."""

from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import strict_device
from gradcheck import assert_close64, assert_within
from oracle import bert as oracle
from small_bert import VOCABULARY, at_real_tokens, build, dense, everything, flat, inner
from strategies import prefix_masks
from tinydistill import kernels, losses
from tinydistill.backend import to_host
from tinydistill.errors import WrongUsage
from tinydistill.features import IGNORED, Batch, Needs, Pass
from tinydistill.students import unilm
from tinydistill.students.unilm import bidirectional, left_to_right, position_ids, pseudo_masked, seq2seq
from tinydistill.tensor import gradients

SOURCE = np.array([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]], bool)
TARGET = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1]], bool)
MASK_ID = 5


def draw(seed=0, source=SOURCE, target=TARGET):
    """(source ids, mask, target ids, mask), random in the padding, too."""
    rng = np.random.default_rng(seed)
    return rng.integers(6, VOCABULARY, source.shape), source, rng.integers(6, VOCABULARY, target.shape), target


def pseudo_batch(seed=0, source=SOURCE, target=TARGET, **more):
    return unilm.pseudo_masked_batch(*draw(seed, source, target), MASK_ID, rows=np.arange(len(source)), **more)


# ---------------------------------------------------------------- masks

GOLDEN = """
    1110 000 000
    1110 000 000
    1110 000 000
    1110 000 000
    1110 100 000
    1110 110 000
    1110 000 000
    1110 000 100
    1110 100 010
    1110 000 000
""".replace(" ", "").split()


def test_the_published_mask_of_three_source_and_two_target_tokens(xp):
    source, target = xp.asarray(SOURCE[:1]), xp.asarray(TARGET[:1])
    found = to_host(pseudo_masked(source, target))[0]
    assert ["".join(map(str, row.astype(int))) for row in found] == GOLDEN
    np.testing.assert_array_equal(to_host(seq2seq(source, target))[0], found[:7, :7])
    places = [to_host(x)[0].tolist() for x in position_ids(source, target)]
    assert places == [[0, 1, 2, 0], [3, 4, 0]]


def by_weights(source, target):
    """As published code builds it: a weight for each token, 0 for sources, +- the place for target and pseudo ones."""
    S, N = len(source), len(target)
    weights = [0] * S + [i + 1 for i in range(N)] + [-i - 1 for i in range(N)]
    real = [*source, *target, *target]
    seen = np.zeros((S + 2 * N, S + 2 * N), bool)
    for i, r in enumerate(weights):
        for j, c in enumerate(weights):
            if r >= 0:
                seen[i, j] = 0 <= c <= r and real[j]
            else:
                seen[i, j] = (0 <= c < -r and real[j]) or r == c
            if not real[i] and j >= S:
                seen[i, j] = False                  # a padded row sees the source alone
    return seen


@given(st.data())
def test_the_mask_is_the_published_construction(data):
    S, N, B = (data.draw(st.integers(1, 5)) for _ in range(3))
    source, target = data.draw(prefix_masks(B, S)), data.draw(prefix_masks(B, N))
    found = pseudo_masked(source, target)
    assert found.dtype == bool and found.shape == (B, S + 2 * N, S + 2 * N)
    for b in range(B):
        np.testing.assert_array_equal(found[b], by_weights(source[b], target[b]))
    np.testing.assert_array_equal(seq2seq(source, target), found[:, :S + N, :S + N])
    of_source, of_target = position_ids(source, target)
    for b in range(B):
        n, m = source[b].sum(), target[b].sum()
        assert of_source[b].tolist() == [*range(n)] + [0] * (S - n)
        assert of_target[b].tolist() == [*range(n, n + m)] + [0] * (N - m)


def test_a_hole_in_the_target_is_seen_by_nobody():
    source, target = np.array([[True]]), np.array([[True, False, True]])
    found = pseudo_masked(source, target)
    np.testing.assert_array_equal(found[0], by_weights(source[0], target[0]))
    assert not found[:, :, 2].any() and found[0, 3].tolist() == [True, True, False, True, False, False, False]


@given(prefix_masks(3, 5, shortest=0))
def test_the_masks_of_one_sequence(mask):
    T = mask.shape[1]
    everywhere, left = bidirectional(mask), left_to_right(mask)
    for b, i, j in np.ndindex(*everywhere.shape):
        assert everywhere[b, i, j] == mask[b, j]
        assert left[b, i, j] == (mask[b, j] and j <= i)
    assert everywhere.shape == left.shape == (3, T, T)


def test_seq2seq_without_a_source_is_left_to_right():
    np.testing.assert_array_equal(seq2seq(np.zeros((3, 0), bool), TARGET) | ~TARGET[:, :, None],
                                  left_to_right(TARGET) | ~TARGET[:, :, None])


# ---------------------------------------------------------------- through a model

def batches():
    """One batch for each kind of mask."""
    rng = np.random.default_rng(3)
    ids, mask = rng.integers(1, VOCABULARY, (3, 6)), np.arange(6) < np.array([6, 4, 1])[:, None]
    labels = np.where(mask & (rng.random(ids.shape) < 0.6), rng.integers(0, VOCABULARY, ids.shape), IGNORED)
    one = Batch(ids, mask, rng.integers(0, 2, ids.shape), labels, np.flatnonzero(labels != IGNORED))
    some = rng.random((3, 6, 6)) < 0.5
    return {"bidirectional": replace(one, attention_mask=bidirectional(mask)),
            "left to right": replace(one, attention_mask=left_to_right(mask)),
            "any mask, any positions": replace(one, attention_mask=some | np.eye(6, dtype=bool),
                                               position_ids=rng.integers(0, 11, (3, 6))),
            "pseudo-masked": pseudo_batch()}


@pytest.mark.parametrize("kind", batches())
def test_features_and_gradients_are_those_of_transformers(tmp_path, kind):
    model, batch = build("masked-lm", pooler=False), batches()[kind]
    twin = oracle.twin(model, tmp_path)
    ours, theirs = model(batch, Pass(everything(model.config))), oracle.features(twin, batch)
    for place, x in flat(ours).items():
        assert_close64(x.array, theirs[place], str(place))
    rng = np.random.default_rng(1)
    upstream = {place: rng.standard_normal(x.shape) for place, x in flat(ours).items()}
    labels = batch.labels.ravel()[batch.positions]
    loss = inner(ours, upstream) + losses.TERMS["masked_lm"](ours, None, batch, len(labels))
    truth = oracle.gradients(twin, batch, upstream, labels)[1]
    found = dict(zip(model.named_parameters(), gradients(loss, model.parameters())))
    for ours_name, theirs_name in (("embeddings.word.weight", "embeddings.word_embeddings.weight"),
                                   ("embeddings.position.weight", "embeddings.position_embeddings.weight"),
                                   ("layers.0.attention.query.weight", "encoder.layer.0.attention.self.query.weight"),
                                   ("layers.2.attention.value.bias", "encoder.layer.2.attention.self.value.bias"),
                                   ("layers.1.feed_forward.inner.weight", "encoder.layer.1.intermediate.dense.weight")):
        assert_close64(dense(found[ours_name]), truth[theirs_name], ours_name)


def test_a_bidirectional_mask_is_none():
    model, batch = build(), batches()["bidirectional"]
    run, plain = Pass(everything(model.config)), replace(batch, attention_mask=None)
    with_mask, without = flat(model(batch, run)), flat(model(plain, run))
    for place, x in with_mask.items():
        np.testing.assert_array_equal(x.array, without[place].array, err_msg=str(place))


def test_pseudo_tokens_know_what_token_by_token_writing_knows():
    """At each pseudo token of one pass: what a pass over the source, the target so far and one [MASK] has there."""
    model = build("masked-lm")
    needs = Needs.of(hidden=range(3), queries=range(3), keys=range(3), values=range(3), logits=True)
    batch, (source_ids, source, target_ids, target) = pseudo_batch(), draw()
    whole, S, N = model(replace(batch, positions=None), Pass(needs)), SOURCE.shape[1], TARGET.shape[1]
    logits = whole.logits.array.reshape(3, S + 2 * N, -1)
    compared = 0
    for b in range(3):
        n = source[b].sum()
        for i in range(target[b].sum()):
            prefix = np.append(target_ids[b, :i], MASK_ID)[None]
            again = model(unilm.seq2seq_batch(source_ids[b:b + 1, :n], source[b:b + 1, :n], prefix,
                                              np.ones_like(prefix, bool)), Pass(needs))
            for l in range(3):
                assert_same(again.hidden[l].array[0, -1], whole.hidden[l].array[b, S + N + i])
                assert_same(again.hidden[l].array[0, :-1][n:], whole.hidden[l].array[b, S:S + i])     # what is cached
                for name in ("queries", "keys", "values"):
                    assert_same(getattr(again, name)[l].array[0, :, -1], getattr(whole, name)[l].array[b, :, S + N + i])
            assert_same(again.logits.array[-1], logits[b, S + N + i])
            compared += 1
    assert compared == TARGET.sum()


def assert_same(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * max(1.0, np.abs(b).max(initial=0)))


def test_a_longer_source_padding_and_what_stands_in_it_change_nothing():
    model, run = build("masked-lm"), Pass(Needs.of(hidden=range(3)))
    batch, other = pseudo_batch(), pseudo_batch(seed=9)
    poisoned = replace(batch, ids=np.where(batch.mask, batch.ids, other.ids))
    wide = [np.pad(mask, ((0, 0), (0, 2))) for mask in (SOURCE, TARGET)]
    ids = [np.pad(x, ((0, 0), (0, 2)), constant_values=7) for x in (draw()[0], draw()[2])]
    wider = unilm.pseudo_masked_batch(ids[0], wide[0], ids[1], wide[1], MASK_ID)
    a, b, c = (model(x, run) for x in (batch, poisoned, wider))
    assert (a.hidden[0].array != b.hidden[0].array).any()
    for l in range(3):
        rows = [at_real_tokens(("hidden", l), f.hidden[l].array, x.mask)
                for f, x in ((a, batch), (b, poisoned), (c, wider))]
        np.testing.assert_array_equal(rows[0], rows[1])
        assert_close64(rows[2], rows[0])


def test_nobody_sees_a_pseudo_token_and_none_sees_what_comes_after_it():
    model, run, (S, N) = build(), Pass(Needs.of(hidden=[-1])), (4, 3)
    full = np.ones((3, S), bool), np.ones((3, N), bool)
    source_ids, _, target_ids, _ = draw(0, *full)

    def hidden(target_ids, pseudo):
        return model(unilm.pseudo_masked_batch(source_ids, full[0], target_ids, full[1], pseudo), run).hidden[-1].array
    usual, pseudo = hidden(target_ids, MASK_ID), np.full((3, N), MASK_ID)
    pseudo[:, 1] = 7
    changed = np.abs(hidden(target_ids, pseudo) - usual).max(axis=(0, 2)) > 0
    assert np.flatnonzero(changed).tolist() == [S + N + 1]
    other = target_ids.copy()
    other[:, 1] = 6 + (other[:, 1] - 5) % 20
    changed = np.abs(hidden(other, MASK_ID) - usual).max(axis=(0, 2)) > 0
    assert np.flatnonzero(changed).tolist() == [S + 1, S + 2, S + N + 2]


def test_gradients_of_a_pass_split_in_shards_add_up_and_the_device_agrees(strict_cupy):
    model, batch, term = build("masked-lm"), pseudo_batch(), losses.TERMS["masked_lm"]
    divisor = term.divisor(batch)
    assert divisor == TARGET.sum()

    def differentiated(batch):
        features = model(batch, Pass(term.student_needs, training=True, rows=batch.rows))
        loss = term(features, None, batch, divisor)
        return loss.array, [0.0 if g is None else dense(g) for g in gradients(loss, model.parameters())]
    with kernels.use("plain"):
        whole, parts = differentiated(batch), [differentiated(part) for part in batch.split(2)]
    assert [part.attention_mask.shape for part in batch.split(2)] == [(2, 10, 10), (1, 10, 10)]
    assert [part.position_ids.shape for part in batch.split(2)] == [(2, 10), (1, 10)]
    largest = max(np.abs(gradient).max() for gradient in whole[1])
    for i, gradient in enumerate(whole[1]):
        assert_within(parts[0][1][i] + parts[1][1][i], gradient, 1e-10 * largest)
    model.to(strict_cupy)
    moved = batch.to(strict_cupy)
    with strict_device.no_sync():
        there = differentiated(moved)
    assert_close64(to_host(there[0]), whole[0])
    for ours, truth in zip(there[1], whole[1]):
        assert_within(ours if isinstance(ours, float) else to_host(ours), truth, 1e-10 * largest)


def test_positions_count_not_the_length_of_the_row():
    """Eleven positions are enough for 4 + 2 x 5 tokens; one that is not in the table is refused by it."""
    model, target = build(), np.ones((1, 5), bool)
    batch = pseudo_batch(source=SOURCE[:1], target=target)
    assert batch.ids.shape == (1, 14)
    model(batch, Pass(Needs.of(hidden=[-1])))
    with pytest.raises(WrongUsage, match="need at most 11 tokens a sequence, got 14"):
        model(replace(batch, position_ids=None), Pass(Needs.of(hidden=[-1])))
    with pytest.raises(ValueError, match="need ids from 0 to 10; got ids from 5 to 12"):
        model(replace(batch, position_ids=batch.position_ids + 5), Pass(Needs.of(hidden=[-1])))


def test_a_pseudo_masked_batch():
    source_ids, source, target_ids, target = draw()
    batch = unilm.pseudo_masked_batch(source_ids, source, target_ids, target, MASK_ID, visible_ids=target_ids + 1,
                                      types=(4, 5), rows=np.arange(7, 10), indices=np.arange(3, 6))
    np.testing.assert_array_equal(batch.ids, np.hstack([source_ids, target_ids + 1, np.full((3, 3), MASK_ID)]))
    np.testing.assert_array_equal(batch.mask, np.hstack([source, target, target]))
    np.testing.assert_array_equal(batch.token_types, np.hstack([np.full((3, 4), 4), np.full((3, 6), 5)]))
    np.testing.assert_array_equal(batch.labels[:, :7], IGNORED)
    np.testing.assert_array_equal(batch.labels[:, 7:], np.where(target, target_ids, IGNORED))
    np.testing.assert_array_equal(batch.positions, np.flatnonzero(np.hstack([np.zeros((3, 7)), target])))
    np.testing.assert_array_equal(batch.position_ids[:, 4:7], batch.position_ids[:, 7:])
    assert batch.rows.tolist() == [7, 8, 9] and batch.indices.tolist() == [3, 4, 5]
    written = unilm.seq2seq_batch(source_ids, source, target_ids, target, rows=np.arange(3))
    np.testing.assert_array_equal(written.attention_mask, batch.attention_mask[:, :7, :7])
    np.testing.assert_array_equal(written.position_ids, batch.position_ids[:, :7])
    np.testing.assert_array_equal(written.token_types, np.hstack([np.zeros((3, 4)), np.ones((3, 3))]))
    assert written.labels is None and written.rows.tolist() == [0, 1, 2]
