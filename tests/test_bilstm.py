"""The BiLSTM of Tang et al. 2019: PyTorch's packed LSTM in every gradient, pairs, features, sizes. A pass and its
training: test_bilstm_pass.py."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from gradcheck import assert_close32, assert_close64
from oracle import bilstm as oracle
from small_bilstm import (H, INNER, LABELS, LENGTHS, LOGITS, VOCABULARY, batch_of, build, config_of,
                          logits_and_gradients, texts, upstream_of)
from tinydistill import kernels, ops
from tinydistill.errors import Problem, WrongUsage
from tinydistill.features import PER_LAYER, PER_MODEL, Batch, Needs, Pass
from tinydistill.students.bilstm import (EMBEDDINGS, PUBLISHED, BiLstm, BiLstmConfig, forward_flops, parameter_count,
                                         sentences)
from tinydistill.tensor import no_grad

both_kinds = pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
both_kernels = pytest.mark.parametrize("choice", ["fused", "plain"])
EACH = [(embedding, pair) for embedding in EMBEDDINGS for pair in (False, True)]


# ---------------------------------------------------------------- PyTorch's

@both_kernels
@pytest.mark.parametrize("embedding, pair", EACH)
def test_logits_and_every_gradient_are_those_of_pytorchs_packed_lstm(embedding, pair, choice):
    model, rows, upstream = build(pair, embedding=embedding), texts(pair), upstream_of(len(LENGTHS))
    with kernels.use(choice):
        logits, found = logits_and_gradients(model, batch_of(rows), upstream)
    truth, expected = oracle.logits_and_gradients(model.arrays(), rows, upstream)
    assert_close64(logits, truth, "logits")
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert (gradient is None) == (expected[name] is None) == ("fixed" in name), name
        if gradient is not None:
            assert np.abs(expected[name]).max() > 1e-3, f"{name}: nothing is compared"
            assert_close64(gradient, expected[name], name)


@both_kinds
def test_in_float32(pair):
    """By the tolerance rule; kappa from PyTorch's own float32."""
    model, rows = build(pair, dtype=np.float32, embedding="multichannel"), texts(pair)
    upstream = upstream_of(len(LENGTHS)).astype(np.float32)
    logits, found = logits_and_gradients(model, batch_of(rows), upstream)
    wide = {name: array.astype(np.float64) for name, array in model.arrays().items()}
    truth, witness = (oracle.logits_and_gradients(arrays, rows, upstream, dtype)
                      for arrays, dtype in ((wide, "float64"), (model.arrays(), "float32")))
    for name, got in (found | {"logits": logits}).items():
        reference, narrow = (logits if name == "logits" else of.get(name) for logits, of in (truth, witness))
        if reference is not None:
            kappa = max(4 * np.abs(reference).max(), np.abs(narrow - reference).max() / 2.0 ** -24)
            assert_close32(got, reference, kappa, name)


@given(seed=st.integers(0, 2 ** 32 - 1), pair=st.booleans(), embedding=st.sampled_from(list(EMBEDDINGS)),
       hidden=st.integers(1, 4), inner=st.integers(1, 5), lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_any_small_model_has_the_counted_parameters_and_pytorchs_numbers(seed, pair, embedding, hidden, inner, lengths):
    model = build(pair, seed, hidden=hidden, feed_forward=inner, embedding=embedding)
    assert sum(p.array.size for p in model.parameters()) == parameter_count(model.config)["total"]
    rows, upstream = texts(pair, seed, lengths, lengths[::-1]), upstream_of(len(lengths), seed)
    logits, found = logits_and_gradients(model, batch_of(rows), upstream)
    truth, expected = oracle.logits_and_gradients(model.arrays(), rows, upstream)
    assert_close64(logits, truth)
    largest = max(np.abs(g).max() for g in expected.values() if g is not None)
    for name, gradient in found.items():
        if gradient is not None:                    # a unit that relu shut off has a gradient of rounding, or none
            np.testing.assert_allclose(gradient, expected[name], rtol=0, atol=1e-10 * largest, err_msg=name)


# ---------------------------------------------------------------- sentences of a pair

def test_a_pair_is_cut_into_its_words():
    """Without special tokens, whatever types stand in the padding; a sentence may be empty."""
    rows = texts(True, lengths=(3, 1, 0, 2), others=(1, 4, 2, 0))
    for more in (0, 3):
        batch = batch_of(rows, more)
        for words, own in zip(sentences(batch.mask, batch.token_types), rows, strict=True):
            assert words.shape == batch.mask.shape and words.dtype == bool
            for ids, of_row, truth in zip(batch.ids, words, own):
                np.testing.assert_array_equal(ids[of_row], truth)
    only_cls = np.ones((2, 1), bool), np.zeros((2, 1), int)
    assert [words.tolist() for words in sentences(*only_cls)] == [[[False], [False]]] * 2


def test_equal_sentences_are_equal_vectors_and_a_pair_is_what_its_sentences_are():
    model, single, (a, b) = build(True), build(), texts(True)
    for name, parameter in single.named_parameters().items():
        if not name.startswith("head."):
            parameter.array = model.arrays()[name]
    u, v, difference, product = np.split(model.summary(batch_of([a, b])).array, 4, axis=1)
    assert_close64(u, single.summary(batch_of([a])).array)
    assert_close64(v, single.summary(batch_of([b])).array)
    np.testing.assert_array_equal(difference, np.abs(u - v))
    np.testing.assert_array_equal(product, u * v)
    same = model.summary(batch_of([a, a])).array
    assert (np.abs(same[:, 4 * H:6 * H]) < 1e-15).all() and (same[:, :2 * H] != 0).all()


def test_an_empty_sentence_is_a_zero_vector():
    model = build(True)
    summary = model.summary(batch_of(texts(True, lengths=(0, 2), others=(3, 0)))).array
    assert not summary[0, :2 * H].any() and not summary[1, 2 * H:4 * H].any() and summary[0, 2 * H:4 * H].all()


def test_a_pair_without_token_types_is_one_line():
    batch = batch_of(texts(True))
    with pytest.raises(WrongUsage, match="^BiLSTM 1x3 for pairs needs token types, which say where the second"):
        build(True)(Batch(batch.ids, batch.mask), LOGITS)
    assert build(False)(Batch(batch.ids, batch.mask), LOGITS).logits is not None


# ---------------------------------------------------------------- needs

@pytest.mark.parametrize("name", sorted({*PER_LAYER, *PER_MODEL} - {"logits"}))
def test_what_a_bilstm_cannot_have_is_a_problem_that_names_it(name):
    model, batch = build(), batch_of(texts())
    needs = Needs.of(**{name: [0] if name in PER_LAYER else True}, logits=True)
    with pytest.raises(Problem, match=f"^need {name}, which BiLSTM 1x3 cannot have: of all features it has logits on"):
        model(batch, Pass(needs=needs))
    features = model(batch, LOGITS)
    if name in PER_LAYER:
        with pytest.raises(Problem, match=f"^need {name} of layer -1, which BiLSTM 1x3 did not compute"):
            getattr(features, name)[-1]
    else:
        assert getattr(features, name) is None
    assert (features.model, features.depth, features.mask is batch.mask) == ("BiLSTM 1x3", 1, True)


@pytest.mark.parametrize("name, reason", [("attention_mask", "no attention"), ("position_ids", "no positions"),
                                          ("decisions", "no layers or modules that can be left out")])
@both_kinds
def test_what_only_a_transformer_can_take_is_a_problem_that_names_it(pair, name, reason):
    """Whatever is needed of the pass, and even where it would change nothing in a Transformer."""
    model, batch = build(pair), batch_of(texts(pair))
    neutral = {"attention_mask": np.broadcast_to(batch.mask[:, None], batch.mask.shape + batch.mask.shape[1:]),
               "position_ids": np.broadcast_to(np.arange(batch.ids.shape[1]), batch.ids.shape), "decisions": (True,)}
    for run in (LOGITS, Pass()):
        with pytest.raises(Problem) as problem:
            if name == "decisions":
                model(batch, replace(run, decisions=neutral[name]))
            else:
                model(replace(batch, **{name: neutral[name]}), run)
        assert str(problem.value) == f"BiLSTM 1x3 cannot take {name}: it has {reason}"


def test_without_a_head_there_are_no_logits_and_without_a_need_nothing_runs(monkeypatch):
    model, batch = BiLstm(BiLstmConfig(H, INNER, vocabulary=VOCABULARY)), batch_of(texts())
    with pytest.raises(Problem, match="^need logits, which BiLSTM 1x3 without a head cannot have$"):
        model(batch, LOGITS)
    monkeypatch.setattr(ops, "lstm", None)
    monkeypatch.setattr(ops, "embedding", None)
    assert model(batch, Pass()).logits is None


def test_a_teacher_remembers_nothing():
    with no_grad():
        logits = build()(batch_of(texts()), LOGITS).logits
    assert not logits.requires_grad and not logits.inputs


# ---------------------------------------------------------------- sizes

COUNTS = [("bilstm-rand", {}, 603_002), ("bilstm", {}, 963_002), ("bilstm-large", {}, 2_406_002),
          ("bilstm", {"pair": True}, 1_143_002), ("bilstm", {"embedding": "static"}, 603_002),
          ("bilstm", {"embedding": "non-static"}, 603_002), ("bilstm-pair", {}, 2_645_402)]


@pytest.mark.parametrize("name, changes, count", COUNTS)
def test_published_sizes_have_the_published_parameters(name, changes, count):
    """Without embeddings, for two classes; 963,002 is the paper's 0.96 million."""
    config = PUBLISHED[name].but(head="sequence", labels=("no", "yes"), **changes)
    counts = parameter_count(config)
    assert counts["total"] - counts["word embeddings"] == counts["lstm"] + counts["head"] == count
    tables = 2 if config.embedding == "multichannel" else 1
    assert counts["word embeddings"] == tables * 30522 * 300 and config.dropout == 0.1
    assert parameter_count(PUBLISHED[name])["head"] == 0


@pytest.mark.parametrize("head", ["none", "sequence"])
@pytest.mark.parametrize("embedding, pair", EACH)
def test_the_counts_are_those_of_what_is_built(embedding, pair, head):
    config = config_of(pair, embedding=embedding, head=head, labels=LABELS if head == "sequence" else ())
    built = {name: p.array.size for name, p in BiLstm(config, None).named_parameters().items()}

    def total(prefix):
        return sum(size for name, size in built.items() if name.startswith(prefix))

    assert parameter_count(config) == {"word embeddings": total("embeddings."), "lstm": total("lstm."),
                                       "head": total("head."), "total": sum(built.values())}


@both_kinds
def test_flops_are_those_of_the_products(pair):
    """What `linear` and `lstm` multiply: two for each entry of a weight matrix, each time it is used."""
    model = build(pair, embedding="multichannel")
    arrays, T = model.arrays(), 11
    lstm, head = (sum(a.size for name, a in arrays.items() if name.startswith(part) and a.ndim == 2)
                  for part in ("lstm.", "head."))
    assert forward_flops(model.config, T) == 2 * (T * lstm + head)
    assert forward_flops(model.config.but(head="none", labels=()), T) == 2 * T * lstm


def test_a_config_says_what_it_is_and_refuses_what_cannot_be():
    config = config_of()
    assert (str(config), config.model_type) == ("BiLSTM 1x3", "bilstm")
    assert (config.layers, config.heads, config.pooler) == (1, 0, False)
    assert BiLstmConfig(**{**config.as_dict(), "labels": tuple(config.as_dict()["labels"])}) == config
    assert config.as_dict()["labels"] == list(LABELS)
    assert BiLstmConfig() == PUBLISHED["bilstm-rand"] and BiLstmConfig().pad_id == 0
    with pytest.raises(FrozenInstanceError):
        config.hidden = 4
    for changes, line in [
            ({"embedding": "glove"}, "need an embedding out of rand, non-static, static, multichannel; got 'glove'"),
            ({"head": "token"}, "need a head out of none, sequence for BiLSTM 1x3; got token"),
            ({"labels": ()}, "need the labels of a sequence head, got none")]:
        with pytest.raises(WrongUsage) as problem:
            config.but(**changes)
        assert str(problem.value) == line
