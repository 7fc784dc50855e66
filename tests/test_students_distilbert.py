"""DistilBERT: equal to transformers' in what it computes and in every gradient, and exact to the parameter."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import student_checks as check
from gradcheck import assert_close64
from small_bert import VOCABULARY, draw_batch, everything, flat
from tinydistill import kernels, ops
from tinydistill.errors import Problem, WrongUsage
from tinydistill.features import Needs, Pass
from tinydistill.nn.layers import Dropout
from tinydistill.students import distilbert_names as names
from tinydistill.students.bert import forward_flops, parameter_count
from tinydistill.students.distilbert import PUBLISHED, DistilBert, DistilBertConfig

SMALL = DistilBertConfig(layers=3, hidden=12, heads=3, feed_forward=20, vocabulary=VOCABULARY, positions=11,
                         initial_std=0.4)
HEADS = ("none", "masked-lm", "sequence", "token")
every_head = pytest.mark.parametrize("head", HEADS)
both_kernels = pytest.mark.parametrize("choice", ["fused", "plain"])


def build(head="none", **changes):
    return check.build(DistilBert, SMALL, head, **changes)


# ---------------------------------------------------------------- transformers

@both_kernels
@pytest.mark.parametrize("positions", [True, False], ids=["at positions", "everywhere"])
@every_head
def test_every_feature_and_every_gradient_is_that_of_transformers(head, positions, choice):
    batch = draw_batch(head, positions=positions)
    with kernels.use(choice):
        ours, attentions = check.check_against_transformers(build(head), names, batch)
    for l, p in attentions.items():
        assert_close64(ops.softmax(ours.scores[l], mask=batch.mask[:, None, None, :]).array, p, f"attention {l}")


@pytest.mark.parametrize("head", HEADS[1:])
def test_the_loss_of_each_head_is_that_of_transformers(head):
    check.check_own_loss(build(head), names, draw_batch(head))


@every_head
def test_float32_by_the_tolerance_rule(head):
    check.check_float32(build(head, dtype=np.float32), names, draw_batch(head))


@given(st.integers(1, 3), st.integers(1, 3), st.integers(2, 5), st.integers(1, 9), st.sampled_from(HEADS),
       st.integers(0, 99))
def test_any_small_shape(layers, heads, K, feed_forward, head, seed):
    model = build(head, seed=seed, layers=layers, heads=heads, hidden=heads * K, feed_forward=feed_forward)
    check.check_any_shape(model, names, draw_batch(head, seed), parameter_count)


# ---------------------------------------------------------------- configurations

@pytest.mark.parametrize("name, body", [("distilbert", 66_362_880), ("distilbert-cased", 65_190_912),
                                        ("distilbert-multilingual", 134_734_080)])
def test_parameter_counts_of_the_published_sizes(name, body):
    config = DistilBertConfig(*PUBLISHED[name][:5])
    assert (config.layers, config.hidden, config.heads, config.feed_forward) == (6, 768, 12, 3072)
    counts = parameter_count(config)
    assert (counts["transformer"], counts["pooler"], counts["total"]) == (42_527_232, 0, body)
    assert parameter_count(config.but(head="masked-lm"))["total"] == body + 768 * 769 + 2 * 768 + config.vocabulary
    sequence = parameter_count(config.but(head="sequence", labels=("a", "b")))
    assert sequence["total"] - body == sequence["head"] == 768 * 769 + 2 * 769
    assert parameter_count(config.but(layers=4))["total"] == body - 2 * 7_087_872


def test_four_layers_in_its_style_are_52_2_million():
    counts = parameter_count(DistilBertConfig(*PUBLISHED["distilbert"][:5]).but(layers=4))
    assert (counts["transformer"], counts["total"]) == (28_351_488, 52_187_136)


@every_head
def test_the_counts_are_those_of_what_is_built(head):
    check.check_counts(build(head), parameter_count)


def test_flops_are_those_of_the_matrix_products(monkeypatch):
    check.check_flops(monkeypatch, build("masked-lm"), forward_flops, 7)
    assert round(forward_flops(DistilBertConfig(*PUBLISHED["distilbert"][:5]), 128) / 1e9, 2) == 11.17


def test_a_config_says_what_it_is():
    assert (str(SMALL), SMALL.model_type) == ("DistilBERT 3x12", "distilbert")
    assert (SMALL.sequence_dropout, SMALL.eps, SMALL.token_types, SMALL.pooler) == (0.2, 1e-12, 0, False)
    assert SMALL.but(layers=2).as_dict() == SMALL.as_dict() | {"layers": 2}
    assert DistilBertConfig(**{**SMALL.as_dict(), "labels": ()}) == SMALL


@pytest.mark.parametrize("changes, text", [
    ({"heads": 5}, "need a hidden size that the heads divide: 12 hidden, 5 heads"),
    ({"pooler": True}, "need a DistilBERT without token types and pooler: token_types 0, pooler True"),
    ({"token_types": 2}, "need a DistilBERT without token types and pooler: token_types 2, pooler False"),
    ({"head": "pretraining"}, "need a head out of none, masked-lm, sequence, token, span for DistilBERT 3x12; got pretraining"),
    ({"head": "token"}, "need the labels of a token head, got none")])
def test_a_shape_that_cannot_be_is_refused(changes, text):
    with pytest.raises(WrongUsage, match=text):
        SMALL.but(**changes)


def test_initial_weights_are_drawn_by_name():
    check.check_initialisation(DistilBert, SMALL.but(head="masked-lm"))


# ---------------------------------------------------------------- one pass

ALL_LAYERS = {"project_heads": 3, "attention": 3, "linear": 9, "bias_gelu": 3, "layer_norm": 7}


@pytest.mark.parametrize("head, needs, calls", [
    ("none", {"queries": [-1], "keys": [-1], "values": [-1]},
     {"project_heads": 3, "attention": 2, "linear": 6, "bias_gelu": 2, "layer_norm": 5}),
    ("none", {"scores": [0, 1]}, {"project_heads": 2, "attention": 1, "linear": 3, "bias_gelu": 1, "layer_norm": 3,
                                  "scaled_product": 2}),
    ("none", {"hidden": [1], "values": [0]}, {"project_heads": 2, "attention": 2, "linear": 6, "bias_gelu": 2,
                                              "layer_norm": 5}),
    ("none", {"embeddings": True}, {"layer_norm": 1}),
    ("none", {}, {"layer_norm": 1}),
    ("masked-lm", {"hidden": [-1]}, ALL_LAYERS),
    ("masked-lm", {"logits": True}, ALL_LAYERS | {"linear": 11, "bias_gelu": 4, "layer_norm": 8}),
    ("sequence", {"logits": True}, ALL_LAYERS | {"linear": 11, "relu": 1}),
    ("token", {"logits": True}, ALL_LAYERS | {"linear": 10})], ids=str)
def test_a_pass_computes_what_is_needed_and_stops_there(monkeypatch, head, needs, calls):
    check.check_stops(monkeypatch, build(head), draw_batch(head), needs, calls)


def test_what_a_loss_never_reached_has_no_gradient_and_a_teacher_no_graph():
    behind = ("layers.2.attention.output", "layers.2.attention_norm", "layers.2.feed_forward", "head")
    check.check_what_losses_never_reached(build("masked-lm"), draw_batch("masked-lm"), behind)
    check.check_teacher_remembers_nothing(build("masked-lm"), draw_batch("masked-lm"))


@pytest.mark.parametrize("needs, text", [
    ({"pooled": True}, "need pooled, which DistilBERT 3x12 without a pooler cannot have"),
    ({"next_sentence": True}, "need next_sentence, which DistilBERT 3x12 without a pretraining head cannot have"),
    ({"logits": True}, "need logits, which DistilBERT 3x12 without a head cannot have"),
    ({"hidden": [3]}, r"need hidden of layer 3, but the model has 3 layers \(0 to 2\)")])
def test_what_it_cannot_have_is_named(needs, text):
    with pytest.raises(Problem, match=text):
        build()(draw_batch(), Pass(needs=Needs.of(**needs)))


def test_a_sequence_head_does_not_make_a_pooler():
    features = build("sequence")(draw_batch("sequence"), Pass(needs=Needs.of(logits=True)))
    assert features.pooled is None
    with pytest.raises(Problem, match="need pooled"):
        build("sequence")(draw_batch("sequence"), Pass(needs=Needs.of(logits=True, pooled=True)))


def test_too_long_a_sequence_is_refused():
    with pytest.raises(WrongUsage, match="need at most 11 tokens a sequence, got 12"):
        build()(draw_batch(length=12), Pass(needs=Needs.of(hidden=[0])))
    assert build()(draw_batch(length=11), Pass(needs=Needs.of(hidden=[0]))).hidden[0].shape == (4, 11, 12)


def test_token_types_are_not_read():
    model, batch = build("sequence"), draw_batch("sequence")
    run = Pass(needs=everything(model.config))
    for types in (None, 1 - batch.token_types):
        for place, x in flat(model(replace(batch, token_types=types), run)).items():
            np.testing.assert_array_equal(x.array, flat(model(batch, run))[place].array)


@both_kernels
@every_head
def test_padding_never_matters(head, choice):
    with kernels.use(choice):
        check.check_padding(build(head), head)


# ---------------------------------------------------------------- dropout

@pytest.mark.parametrize("shards", [2, 3])
@every_head
def test_a_row_drops_the_same_units_in_any_split(head, shards):
    model = build(head, dropout=0.3, attention_dropout=0.2, sequence_dropout=0.4)
    check.check_shards(model, head, shards)
    check.check_sites(model)


@pytest.fixture
def all_dropped(monkeypatch):
    check.drop_everything(monkeypatch)


def test_dropout_is_where_distilbert_has_it(all_dropped):
    """On the embeddings, and on what feed-forward gives to the residual sum; what attention gives is not dropped."""
    model, batch = build(layers=1, dropout=0.5, attention_dropout=0.0), draw_batch()
    features = model(batch, Pass(needs=Needs.of(hidden=[0], queries=[0]), training=True))
    layer, nothing = model.layers[0], features.embeddings * 0.0
    assert np.abs(features.embeddings.array).max() > 0.1                # what a loss reads is not dropped
    queries, keys, values = layer.attention.project(nothing)
    assert_close64(features.queries[0].array, queries.array)
    attended = layer.attention.attend(queries, keys, values, batch.mask[:, None, None, :], Pass())
    assert np.abs(attended.array).max() > 0.1
    assert_close64(features.hidden[0].array, layer.feed_forward_norm(layer.attention_norm(attended)).array)


def test_attention_dropout_is_on_the_probabilities(all_dropped):
    model, batch = build(layers=1, dropout=0.0, attention_dropout=0.5), draw_batch()
    features, layer = model(batch, Pass(needs=Needs.of(hidden=[0]), training=True)), model.layers[0]
    h = layer.attention_norm(features.embeddings + layer.attention.output.bias)
    assert_close64(features.hidden[0].array, layer.feed_forward_norm(layer.feed_forward(h), h).array)


@pytest.mark.parametrize("head, rates", [("sequence", {"sequence_dropout": 0.5, "dropout": 0.0}),
                                         ("token", {"sequence_dropout": 0.0, "dropout": 0.5})])
def test_dropout_of_the_heads(all_dropped, head, rates):
    """Behind the ReLU, on the tokens: logits are the biases, in training alone."""
    model, batch = build(head, **rates), draw_batch(head)
    trained, used = (model(batch, Pass(needs=Needs.of(logits=True), training=t)).logits.array for t in (True, False))
    bias = model.head.classifier.bias.array
    assert_close64(trained, np.broadcast_to(bias, trained.shape))
    assert np.abs(used - bias).max() > 0.1


def test_rates_are_those_of_the_configuration():
    model = build("sequence", dropout=0.3, attention_dropout=0.2, sequence_dropout=0.4)
    rates = [module.rate for _, module in model.named_modules() if isinstance(module, Dropout)]
    assert rates == [0.3] + 3 * [0.2, 0.0, 0.3] + [0.4]
    assert DistilBertConfig(1, 4, 1, 4).dropout == DistilBertConfig(1, 4, 1, 4).attention_dropout == 0.1


# ---------------------------------------------------------------- dtypes and devices

@every_head
def test_float32_stays_float32_everywhere(head):
    check.check_float32_stays(build(head, dtype=np.float32), draw_batch(head))


@every_head
def test_the_device_computes_the_same_and_the_host_never_waits(strict_cupy, head):
    check.check_device(build(head), draw_batch(head), strict_cupy)
