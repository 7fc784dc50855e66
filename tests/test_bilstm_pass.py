"""The BiLSTM in use: deaf to padding, the same in any split and on any device, its start, and a run of training."""

import numpy as np
import pytest

import strict_device
from gradcheck import assert_close64
from small_bert import build as build_bert, dense
from small_bilstm import (LABELS, LENGTHS, LOGITS, VOCABULARY, WIDTH, batch_of, build, config_of, logits_and_gradients,
                          texts, upstream_of)
from tinydistill import kernels
from tinydistill.backend import to_host
from tinydistill.errors import WrongUsage
from tinydistill.features import Pass
from tinydistill.methods import METHODS
from tinydistill.nn import Dropout
from tinydistill.students.bilstm import EMBEDDINGS, BiLstm
from tinydistill.tensor import gradients
from tinydistill.training.loop import Phase, train_phases
from toys import Memory

both_kinds = pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
both_kernels = pytest.mark.parametrize("choice", ["fused", "plain"])


# ---------------------------------------------------------------- padding, shards, dropout, devices

@both_kernels
@both_kinds
def test_what_stands_in_the_padding_changes_no_bit(pair, choice):
    """Ids, token types, and how much of it there is; nor does it get a gradient."""
    model, rows, upstream = build(pair), texts(pair), upstream_of(len(LENGTHS))
    with kernels.use(choice):
        logits, found = logits_and_gradients(model, batch_of(rows), upstream)
        for more, seed in ((0, 3), (4, 4)):
            other = batch_of(rows, more, seed)
            assert other.ids.shape != batch_of(rows).ids.shape or (other.ids != batch_of(rows).ids).any()
            again, gradient = logits_and_gradients(model, other, upstream)
            compare = assert_close64 if more else np.testing.assert_array_equal
            compare(again, logits)
            for name in found:
                compare(gradient[name], found[name])
        read = np.zeros(VOCABULARY, bool)
        read[np.concatenate([ids for row in rows for ids in row])] = True
        words = found["embeddings.trained.weight"]
        assert (words[~read] == 0).all() and words[read].any(axis=1).all()


@both_kinds
def test_a_batch_in_shards_is_the_batch(pair):
    model, batch, upstream = build(pair, dropout=0.4), batch_of(texts(pair)), upstream_of(len(LENGTHS))

    def compute(batch, upstream):
        return logits_and_gradients(model, batch, upstream, Pass(LOGITS.needs, True, 7, 5, batch.rows))

    logits, found = compute(batch, upstream)
    parts = [compute(part, upstream[part.rows]) for part in batch.split(3)]
    assert_close64(np.concatenate([of_part for of_part, _ in parts]), logits)
    for name, gradient in found.items():
        assert_close64(sum(gradients[name] for _, gradients in parts), gradient, name)


def test_dropout_is_before_the_classes_of_a_single_sentence_and_nowhere_in_a_pair(monkeypatch):
    def logits(model, **told):
        return model(batch_of(texts(model.config.pair)), Pass(LOGITS.needs, rows=np.arange(4), **told)).logits.array

    single, pair = build(dropout=0.5), build(True, dropout=0.5)
    assert [m.site for _, m in single.named_modules() if isinstance(m, Dropout)] == [0]
    trained = [logits(single, training=True, seed=s, step=t) for s, t in ((0, 0), (1, 0), (0, 1))]
    assert min(np.abs(a - b).max() for i, a in enumerate(trained) for b in trained[:i]) > 0.01
    np.testing.assert_array_equal(logits(single), logits(build(dropout=0.0), training=True))
    np.testing.assert_array_equal(logits(pair), logits(pair, training=True))
    monkeypatch.setattr(Pass, "bits", lambda self, site, shape, like: np.zeros(shape, np.uint16))
    assert_close64(logits(single, training=True), np.broadcast_to(single.head.classifier.bias.array, (4, len(LABELS))))


@both_kinds
def test_the_device_computes_the_same_and_the_host_never_waits(pair, strict_cupy):
    model, batch = build(pair, embedding="multichannel"), batch_of(texts(pair))
    run, upstream = Pass(LOGITS.needs, True, rows=batch.rows), upstream_of(len(LENGTHS))
    with kernels.use("plain"):
        logits, found = logits_and_gradients(model, batch, upstream, run)
    model.to(strict_cupy)
    batch, upstream = batch.to(strict_cupy), strict_cupy.asarray(upstream)
    with strict_device.no_sync():
        there = model(batch, run).logits
        gradient = gradients(there, model.parameters(), upstream)
    assert_close64(to_host(there.array), logits)
    for (name, truth), got in zip(found.items(), gradient, strict=True):
        assert (got is None) == (truth is None)
        if got is not None:
            assert_close64(to_host(dense(got)), truth, name)


@both_kernels
@both_kinds
def test_float32_stays_float32_everywhere(pair, choice):
    model = build(pair, dtype=np.float32, embedding="multichannel")
    with kernels.use(choice):
        logits = model(batch_of(texts(pair)), Pass(LOGITS.needs, training=True)).logits
        found = gradients(logits.sum(), model.parameters())
    seen, stack = set(), [logits]
    while stack:
        tensor = stack.pop()
        if id(tensor) not in seen and hasattr(tensor, "inputs"):
            seen.add(id(tensor))
            stack.extend(tensor.inputs)
            assert tensor.array.dtype == np.float32, tensor
    assert len(seen) > 15 and all(g is None or dense(g).dtype == np.float32 for g in found)


# ---------------------------------------------------------------- trained

def distilled(memory, seed=0, steps=8):
    """A BiLSTM that learns the logits of a BERT from one batch of single sentences, by Tang's recipe."""
    teacher, batch = build_bert("sequence", pooler=True), batch_of(texts())
    student = build(seed=seed, embedding="multichannel", dropout=0.0)
    stage, = METHODS["tang"].plan(student.config, teacher.config)
    phase = Phase(stage, stage.recipes["paper"].but(steps=steps), lambda step: batch, teacher)
    return train_phases(student, [phase], directory=memory, save_every=1, log_every=1, quiet=True)[0]


def test_it_learns_the_logits_of_a_transformer_and_a_killed_run_goes_on_to_the_same_bits():
    whole, memory = Memory(), Memory()
    student = distilled(whole)
    losses = [line["soft_labels.logits_mse"] for line in whole.lines]
    assert all(b < a for a, b in zip(losses, losses[1:])) and losses[-1] < 0.9 * losses[0]
    np.testing.assert_array_equal(student.embeddings.fixed.weight.array,
                                  build(embedding="multichannel").embeddings.fixed.weight.array)
    memory.saved = {step: saved for step, saved in whole.saved.items() if step <= 5}
    resumed = distilled(memory, seed=1)
    for name, array in student.arrays().items():
        np.testing.assert_array_equal(resumed.arrays()[name], array)


# ---------------------------------------------------------------- the start

def test_every_parameter_starts_as_pytorchs_does_and_words_from_a_quarter():
    config = config_of(hidden=40, feed_forward=50, vocabulary=400, embedding="multichannel")
    model = BiLstm(config, seed=3)
    bounds = {"embeddings.": 0.25, "lstm.": 40 ** -0.5, "head.inner.": 80 ** -0.5, "head.classifier.": 50 ** -0.5}
    for name, array in model.arrays().items():
        bound, = [bound for prefix, bound in bounds.items() if name.startswith(prefix)]
        assert array.dtype == np.float32 and np.abs(array).max() <= bound
        if array.size > 100:                        # uniform: its largest, its mean and its variance
            assert np.abs(array).max() > 0.95 * bound and abs(array.mean()) < 5 * bound / (3 * array.size) ** 0.5
            assert abs(array.std() * 3 ** 0.5 / bound - 1) < 0.2
    assert len({a.ravel()[:5].tobytes() for name, a in model.arrays().items() if "fixed" not in name}) == 13
    by_default, of_seed_0 = (BiLstm(config, *seed).lstm.forward.input_weight.array for seed in ((), (0,)))
    np.testing.assert_array_equal(by_default, of_seed_0)
    same, other = BiLstm(config, seed=3).arrays(), BiLstm(config, seed=4).arrays()
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(array, same[name])
        assert (array != other[name]).any()
    large = BiLstm(config.but(labels=LABELS + ("f",)), seed=3).arrays()
    for name in model.arrays():                     # another head, the same body
        assert name.startswith("head.classifier.") or (large[name] == same[name]).all()
    assert not any(array.any() for array in BiLstm(config, seed=None).arrays().values())


def test_word_vectors_are_what_every_table_starts_from_and_words_without_one_are_drawn():
    vectors = np.random.default_rng(0).standard_normal((VOCABULARY, WIDTH))
    vectors[4, 1] = vectors[7] = np.nan
    before = vectors.copy()
    known = ~np.isnan(vectors).any(axis=1)
    drawn = BiLstm(config_of(), seed=5).arrays()["embeddings.trained.weight"]
    for embedding, tables in EMBEDDINGS.items():
        model = BiLstm(config_of(embedding=embedding), 5, vectors)
        assert list(vars(model.embeddings)) == list(tables)
        for name in tables:
            table = getattr(model.embeddings, name).weight
            np.testing.assert_array_equal(table.array[known], vectors[known].astype(np.float32))
            np.testing.assert_array_equal(table.array[~known], drawn[~known])
            assert table.requires_grad == (name == "trained") and table.dtype == np.float32
            table.array += 1                        # each has memory of its own
    np.testing.assert_array_equal(vectors, before)
    with pytest.raises(WrongUsage, match=r"^need word vectors of the shape \(23, 4\), one for each .* got \(23, 5\)$"):
        BiLstm(config_of(), vectors=np.zeros((VOCABULARY, WIDTH + 1)))


def test_a_fixed_table_is_kept_beside_what_is_trained():
    model = build(embedding="multichannel")
    assert "embeddings.fixed.weight" in model.arrays()
    other = build(seed=9, embedding="multichannel").load(model.arrays())
    assert not other.embeddings.fixed.weight.requires_grad and other.embeddings.trained.weight.requires_grad
    batch = batch_of(texts())
    np.testing.assert_array_equal(other(batch, LOGITS).logits.array, model(batch, LOGITS).logits.array)
