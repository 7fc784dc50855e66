"""MobileBERT, tiny, IB-BERT: equal to transformers in every feature and every gradient; sizes to the parameter."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import small_bert
import student_checks
from gradcheck import assert_close32, assert_close64
from oracle import bert as oracle
from oracle import students_mobilebert
from oracle.students_mobilebert import as_theirs, their_name, twin
from small_bert import dense, draw_batch, flat, inner
from small_mobilebert import build, everything, shape
from student_checks import labels_of_logits, random_upstream
from tinydistill import ops
from tinydistill.errors import WrongUsage
from tinydistill.features import IGNORED, Batch, Needs, Pass
from tinydistill.students import mobilebert_names as names
from tinydistill.students.configs import HEADS
from tinydistill.students.mobilebert import (CHOICES, PUBLISHED, MobileBert, MobileBertConfig, forward_flops,
                                             parameter_count)
from tinydistill.tensor import gradients

WITHOUT_POOLER = ("masked-lm", "token", "span")             # heads beside which transformers has none
MODELS = {**{name: {} for name in PUBLISHED},
          "unshared": {"attention_input": "block"}, "erf gelu": {"activation": "gelu"},
          "as transformers has it": {"norm": "layer_norm", "eps": 1e-3, "outer_eps": 1e-5},
          "one eps": {"norm": "layer_norm", "eps": 1e-3}}


def model_of(name, head="none", **changes):
    changes = MODELS[name] | changes | ({"pooler": False} if head in WITHOUT_POOLER else {})
    return build(name if name in PUBLISHED else "mobilebert", head, **changes)


def assert_equal_to_transformers(model, batch, made):
    """Every feature, and every parameter's gradient, padded positions included."""
    head = model.config.head
    needs = small_bert.everything(model.config) if head in WITHOUT_POOLER else everything(model.config)
    features, theirs = model(batch, Pass(needs=needs)), oracle.features(made, batch)
    found = flat(features)
    for l in range(model.config.layers):
        attention = ops.softmax(found["scores", l], mask=batch.mask[:, None, None, :]).array
        assert_close64(attention, theirs.pop(("attention", l)), f"attention of layer {l}")
    assert found.keys() == theirs.keys()
    for place, x in found.items():
        assert_close64(x.array, theirs[place], str(place))

    upstream, labels = random_upstream(features, 2), labels_of_logits(batch)
    loss = inner(features, upstream)
    if labels is not None:
        loss = loss + ops.cross_entropy(features.logits, labels) * (1 / (labels != IGNORED).sum())
    if head == "pretraining":
        loss = loss + ops.cross_entropy(features.next_sentence, batch.next_sentence) * (1 / len(batch))
    truth, their_gradients = oracle.gradients(made, batch, upstream, labels)
    assert_close64(loss.array, truth, "loss")
    parameters = model.named_parameters()
    assert {their_name(name) for name in parameters} == their_gradients.keys()
    for name, gradient in zip(parameters, gradients(loss, list(parameters.values())), strict=True):
        truth = their_gradients[their_name(name)]
        assert np.abs(truth).max() > 1e-3, f"{name}: nothing is compared"
        assert_close64(as_theirs(name, dense(gradient)), truth, name)


# ---------------------------------------------------------------- equal to transformers

@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", MODELS)
def test_every_feature_and_every_gradient_is_that_of_transformers(name, head):
    model = model_of(name, head)
    assert_equal_to_transformers(model, draw_batch(head), twin(model))


@pytest.mark.parametrize("head", ["masked-lm", "token"])
def test_the_same_at_all_positions_without_token_types(head):
    model, batch = model_of("mobilebert", head), draw_batch(head, positions=False)
    assert_equal_to_transformers(model, replace(batch, token_types=None), twin(model))


@pytest.mark.parametrize("name", ["mobilebert", "mobilebert-tiny", "ib-bert-large"])
def test_a_pooler_of_either_kind(name):
    for pooler in (True, False):
        model = model_of(name, pooler=pooler)
        assert_equal_to_transformers(model, draw_batch(), twin(model))
        assert ("pooler.weight" in model.named_parameters()) == pooler
        features = model(draw_batch(), Pass(needs=Needs.of(hidden=[-1], pooled=True)))
        as_it_is = np.array_equal(features.pooled.array, features.hidden[-1].array[:, 0])
        assert as_it_is == (not pooler)


def test_the_published_model_is_transformers_own_default_but_for_its_pooler():
    """So a config.json that leaves a setting out means what our table says it means."""
    config = MobileBertConfig(**PUBLISHED["mobilebert"])
    for ours, (theirs, default) in names.SETTINGS.items():
        assert students_mobilebert.default_setting(theirs) == default, theirs
        assert getattr(config, ours) == default or ours == "pooler"
    for name, value in (names.FIXED | names.ATTENTION_INPUT[config.attention_input]).items():
        assert students_mobilebert.default_setting(name) == value, name


@pytest.mark.parametrize("name", PUBLISHED)
def test_gradients_in_float32(name):
    """By the tolerance rule: kappa from transformers' own float32."""
    model, batch = model_of(name, "pretraining", dtype=np.float32), draw_batch("pretraining")
    batch = replace(batch, next_sentence=None)      # upstream gradients alone
    features = model(batch, Pass(needs=Needs.of(hidden=[-1], logits=True, next_sentence=True)))
    upstream, parameters = random_upstream(features, 8, np.float32), model.named_parameters()
    found = gradients(inner(features, upstream), list(parameters.values()))
    truth, witness = (oracle.gradients(twin(model, dtype), batch, upstream)[1] for dtype in ("float64", "float32"))
    for name, gradient in zip(parameters, found, strict=True):
        reference, narrow = truth[their_name(name)], witness[their_name(name)]
        kappa = max(4 * np.abs(reference).max(), np.abs(narrow - reference).max() / 2.0 ** -24)
        assert_close32(as_theirs(name, dense(gradient)), reference, kappa, name)


def test_relu6_is_bounded_where_relu_is_not():
    """Otherwise the comparison above would not see the bound."""
    batch, run = draw_batch(), Pass(needs=Needs.of(hidden=[0]))
    relu, relu6 = (model_of(name) for name in ("mobilebert", "mobilebert-relu6"))
    for model in (relu, relu6):
        model.layers[0].feed_forward.inner.bias.array += 8.0
        assert_equal_to_transformers(model, batch, twin(model))
    assert np.abs(relu(batch, run).hidden[0].array - relu6(batch, run).hidden[0].array).max() > 0.1


# ---------------------------------------------------------------- padding

def test_transformers_keeps_the_embedding_of_pad_as_it_is():
    """The same features, and the same gradients but for that row, which there has none but the decoder's."""
    model, batch = model_of("mobilebert"), draw_batch()
    batch = replace(batch, ids=np.where(batch.mask, batch.ids, model.config.pad_id).astype(np.int32))
    assert_equal_to_transformers(model, batch, twin(model))
    made = twin(model, pad_gradient=False)
    features = model(batch, Pass(needs=Needs.of(hidden=[-1])))
    upstream = {place: batch.mask[..., None] * np.ones(x.shape) for place, x in flat(features).items()}
    gradient = dense(gradients(inner(features, upstream), [model.embeddings.word.weight])[0])
    truth = oracle.gradients(made, batch, upstream)[1][their_name("embeddings.word.weight")]
    assert_close64(gradient[1:], truth[1:])
    assert not truth[0].any() and np.abs(gradient[0]).max() > 1e-3      # read by the last real token of each sequence


# ---------------------------------------------------------------- sizes

@pytest.mark.parametrize("name, changes, layer, body, with_pooler, with_heads", [
    ("mobilebert", {}, 842_240, 24_581_888, 24_844_544, 36_597_564),
    ("mobilebert-relu6", {}, 842_240, 24_581_888, 24_844_544, 36_597_564),
    ("mobilebert-tiny", {}, 463_232, 15_485_696, 15_748_352, 27_501_372),
    ("ib-bert-large", {}, 12_076_544, 294_205_184, 294_467_840, None),
    ("mobilebert", {"attention_input": "block"}, 874_624, 25_359_104, 25_621_760, None)])
def test_published_parameter_counts(name, changes, layer, body, with_pooler, with_heads):
    config = MobileBertConfig(**PUBLISHED[name] | changes).but(pooler=False)
    counts = parameter_count(config)
    assert counts["transformer"] == 24 * layer
    assert counts["word embeddings"] + counts["other embeddings"] == 4_368_128
    assert (counts["total"], parameter_count(config.but(pooler=True))["total"]) == (body, with_pooler)
    assert with_heads in (None, parameter_count(config.but(head="pretraining"))["total"])


def test_the_bottleneck_that_a_wrong_setting_leaves_dead():
    """What transformers' default key_query_shared_bottleneck costs a tiny model, and what it lacks here."""
    shared, tiny = (parameter_count(shape(name, feed_forwards=2)) for name in ("mobilebert", "mobilebert-tiny"))
    config = MobileBertConfig(**PUBLISHED["mobilebert"])
    dead = config.hidden * config.bottleneck + config.bottleneck + 2 * config.bottleneck
    assert dead == 65_920
    H, D = 12, 8
    assert (shared["transformer"] - tiny["transformer"]) / 3 == (H * D + 3 * D) + (H - D) * D   # values read x there


shapes = st.builds(
    dict, layers=st.integers(1, 2), hidden=st.integers(3, 7), feed_forward=st.integers(1, 5), pooler=st.booleans(),
    vocabulary=st.integers(2, 9), positions=st.integers(4, 6), token_types=st.integers(1, 2),
    embedding=st.integers(1, 2), feed_forwards=st.integers(1, 3), mask_value=st.sampled_from([None, -6.0]),
    **{name: st.sampled_from(known) for name, known in CHOICES.items()}, head=st.sampled_from(HEADS))


@given(shape=shapes, heads=st.integers(1, 3), head_size=st.integers(1, 3), seed=st.integers(0, 99))
def test_any_shape_is_counted_and_passed_through(shape, heads, head_size, seed):
    config = MobileBertConfig(**shape, heads=heads, bottleneck=heads * head_size, eps=1e-3,
                              labels=("a", "b") if shape["head"] in ("sequence", "token") else ())
    model, rng = MobileBert(config, seed), np.random.default_rng(seed)
    student_checks.check_counts(model, parameter_count)
    batch = Batch(rng.integers(0, config.vocabulary, (2, 4)), np.arange(4) < np.array([[4], [2]]))
    features = model(batch, Pass(needs=everything(config), training=True, rows=np.arange(2)))
    loss = sum((x * x).sum() for x in flat(features).values())
    found = gradients(loss, model.parameters())
    assert features.hidden[-1].shape == (2, 4, config.hidden)
    assert features.scores[0].shape == (2, heads, 4, 4) and features.values[0].shape == (2, heads, 4, head_size)
    assert all(g is not None and dense(g).shape == p.shape and np.isfinite(dense(g)).all()
               for g, p in zip(found, model.parameters(), strict=True))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_operations_of_a_forward_are_those_of_its_products(name, monkeypatch):
    student_checks.check_flops(monkeypatch, build(name, "masked-lm"), forward_flops, length=9)
    assert forward_flops(shape(name), 9) == forward_flops(shape(name), 9, predicted=0.0)


# ---------------------------------------------------------------- configurations

@pytest.mark.parametrize("name, own", [
    ("mobilebert", (128, 512, 4, "shared", "relu", "no_norm", 0.0, False)),
    ("mobilebert-tiny", (128, 512, 2, "bottleneck", "relu", "no_norm", 0.0, False)),
    ("mobilebert-relu6", (128, 512, 4, "shared", "relu6", "no_norm", 0.0, False)),
    ("ib-bert-large", (1024, 4096, 1, "block", "gelu_new", "layer_norm", 0.1, True))])
def test_published_shapes(name, own):
    c = MobileBertConfig(**PUBLISHED[name])
    assert (c.layers, c.hidden, c.heads, c.embedding, c.vocabulary, c.positions, c.token_types, c.attention_dropout,
            c.initial_std, c.outer_eps, c.mask_value) == (24, 512, 4, 128, 30522, 512, 2, 0.1, 0.02, None, None)
    assert (c.bottleneck, c.feed_forward, c.feed_forwards, c.attention_input, c.activation, c.norm, c.dropout,
            c.pooler) == own


@pytest.mark.parametrize("changes, message", [
    ({"attention_input": "x"}, "need attention_input out of shared, bottleneck, block; got x"),
    ({"activation": "tanh"}, "need activation out of relu, relu6, gelu_new, gelu; got tanh"),
    ({"norm": "rms"}, "need norm out of no_norm, layer_norm; got rms"),
    ({"head": "tags"}, "need a head out of none, .*, token, span for MobileBERT 3x12; got tags"),
    ({"bottleneck": 7}, "need a bottleneck that the heads divide: 7 wide, 2 heads"),
    ({"embedding": 12}, "need embeddings narrower than the hidden size: 12 of 12"),
    ({"embedding": 0}, "need embeddings narrower than the hidden size: 0 of 12"),
    ({"feed_forwards": 0}, "need at least one feed-forward a block, got 0"),
    ({"head": "sequence"}, "need the labels of a sequence head, got none"),
    ({"head": "token"}, "need the labels of a token head, got none")])
def test_a_shape_that_cannot_be_is_refused(changes, message):
    with pytest.raises(WrongUsage, match=message):
        shape("mobilebert").but(**changes)


def test_a_config_says_what_it_is_and_changes_by_copy():
    config = shape("mobilebert")
    other = config.but(head="sequence", labels=("a", "b"), hidden=13, embedding=1)      # the heads need not divide 13
    assert (str(other), config.model_type) == ("MobileBERT 3x13", "mobilebert")
    assert (str(config.but(bottleneck=12)), str(shape("ib-bert-large"))) == ("MobileBERT 3x12", "IB-BERT 3x12")
    assert other.as_dict()["labels"] == ["a", "b"]
    assert MobileBertConfig(**{**other.as_dict(), "labels": ("a", "b")}) == other


def test_initial_weights_are_drawn_by_name():
    student_checks.check_initialisation(MobileBert, shape("mobilebert", "masked-lm", pooler=True))
