"""SqueezeBERT: equal to transformers' in what it computes and in every gradient, and exact to the parameter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import student_checks as check
from gradcheck import assert_close64
from small_bert import VOCABULARY, dense, draw_batch, everything, flat, inner
from tinydistill import Tensor, gradients, kernels
from tinydistill.errors import Problem, WrongUsage
from tinydistill.features import Needs, Pass
from tinydistill.nn import GroupedLinear
from tinydistill.nn.layers import Dropout
from tinydistill.students import bert, squeezebert_names as names
from tinydistill.students.bert import Bert
from tinydistill.students.configs import HEADS, BertConfig
from tinydistill.students.squeezebert import (PUBLISHED, SqueezeBert, SqueezeBertConfig, forward_flops, parameter_count)

SMALL = SqueezeBertConfig(layers=3, hidden=12, heads=3, feed_forward=20, vocabulary=VOCABULARY, positions=11,
                          initial_std=0.4)
UNEQUAL = dict(query_groups=2, key_groups=3, value_groups=6, attention_output_groups=4, inner_groups=1, outer_groups=2)
every_head = pytest.mark.parametrize("head", HEADS)
both_kernels = pytest.mark.parametrize("choice", ["fused", "plain"])


def build(head="none", **changes):
    return check.build(SqueezeBert, SMALL, head, **changes)


# ---------------------------------------------------------------- transformers

@both_kernels
@pytest.mark.parametrize("groups", [{}, UNEQUAL], ids=["published groups", "unequal groups"])
@every_head
def test_every_feature_and_every_gradient_is_that_of_transformers(head, groups, choice):
    """Its attentions are scores before the softmax, with the mask added."""
    batch = draw_batch(head)
    with kernels.use(choice):
        ours, attentions = check.check_against_transformers(build(head, **groups), names, batch)
    seen = np.broadcast_to(batch.mask[:, None, None, :], ours.scores[0].shape)
    for l, scores in attentions.items():
        assert_close64(ours.scores[l].array[seen], scores[seen], f"scores {l}")
        assert (scores[~seen] < -1e30).all()


@pytest.mark.parametrize("head", ["masked-lm", "sequence", "token"])
def test_everywhere_and_with_the_loss_of_transformers(head):
    check.check_against_transformers(build(head), names, draw_batch(head, positions=False))
    check.check_own_loss(build(head), names, draw_batch(head))


@every_head
def test_float32_by_the_tolerance_rule(head):
    check.check_float32(build(head, dtype=np.float32), names, draw_batch(head))


@given(st.integers(1, 2), st.sampled_from([1, 2, 3, 4, 6]), st.integers(1, 3), st.integers(1, 3),
       st.lists(st.sampled_from([1, 2, 3, 6]), min_size=6, max_size=6), st.booleans(), st.sampled_from(HEADS),
       st.integers(0, 99))
def test_any_small_shape(layers, heads, K, F, groups, pooler, head, seed):
    pooler = pooler or head in ("sequence", "pretraining")
    model = build(head, seed=seed, layers=layers, heads=heads, hidden=12 * K, feed_forward=6 * F, pooler=pooler,
                  **dict(zip(UNEQUAL, groups)))
    check.check_any_shape(model, names, draw_batch(head, seed), parameter_count)


# ---------------------------------------------------------------- groups

def test_it_is_a_bert_whose_matrices_are_block_diagonal():
    """Zeros outside the blocks: every feature, and inside the blocks every gradient."""
    model, batch = build("masked-lm", **UNEQUAL), draw_batch("masked-lm")
    config = BertConfig(**{name: getattr(model.config, name) for name in BertConfig.__dataclass_fields__})
    groups = {name: module.groups for name, module in model.named_modules() if isinstance(module, GroupedLinear)}
    assert len(groups) == 18 and sorted(groups.values())[:3] == [1, 1, 1]

    def block_diagonal(name, weight):
        blocks = np.split(weight, groups.get(name.removesuffix(".weight"), 1)) if name.endswith("weight") else [weight]
        if len(blocks) == 1:
            return weight
        F, inputs = weight.shape
        whole, height = np.zeros((F, len(blocks) * inputs)), F // len(blocks)
        for g, block in enumerate(blocks):
            whole[g * height:(g + 1) * height, g * inputs:(g + 1) * inputs] = block
        return whole

    twin = Bert(config).to(np, np.float64).load({name: block_diagonal(name, x) for name, x in model.arrays().items()})
    ours, theirs = (m(batch, Pass(needs=everything(config))) for m in (model, twin))
    for place, x in flat(ours).items():
        assert_close64(x.array, flat(theirs)[place].array, str(place))
    upstream = check.random_upstream(ours, 9)
    pairs = zip(*(gradients(inner(f, upstream), m.parameters()) for f, m in ((ours, model), (theirs, twin))))
    for (name, weight), (found, truth) in zip(model.arrays().items(), pairs, strict=True):
        inside = block_diagonal(name, np.ones_like(weight)) != 0
        assert_close64(dense(found).ravel(), dense(truth)[inside], name)


def test_groups_mix_in_the_attentions_output_alone():
    """A change of one input reaches its own group in every other map, and every output there."""
    model, x = build(), np.random.default_rng(0).standard_normal((1, 1, 12))
    layer, moved = model.layers[0], x + np.eye(12)[5]                   # channel 5 is in the second of 4 groups

    def reached(part):
        return np.flatnonzero((part(Tensor(moved)).array != part(Tensor(x)).array).ravel()).tolist()
    for part in (layer.attention.query, layer.attention.key, layer.attention.value):
        assert reached(part) == [3, 4, 5]
    assert reached(layer.attention.output) == list(range(12))
    assert reached(layer.feed_forward.inner) == [5, 6, 7, 8, 9] and reached(layer.feed_forward) == [3, 4, 5]
    queries = layer.attention.project(Tensor(moved))[0].array - layer.attention.project(Tensor(x))[0].array
    assert np.argwhere(queries)[:, [1, 3]].tolist() == [[0, 3], [1, 0], [1, 1]]         # heads have 4 channels, groups 3


# ---------------------------------------------------------------- configurations

def test_parameter_counts_of_the_published_size():
    config = SqueezeBertConfig(*PUBLISHED["squeezebert"][:5])
    counts = parameter_count(config)
    assert (counts["transformer"], counts["total"]) == (12 * 2_221_824, 51_089_664)
    assert counts["word embeddings"] + counts["other embeddings"] == 23_837_184
    assert parameter_count(config.but(pooler=False))["total"] == 50_499_072
    assert parameter_count(config.but(head="masked-lm"))["total"] == 51_712_314
    parts = [inputs * outputs // groups + outputs for inputs, outputs, groups in config.maps().values()]
    assert (sum(parts[:3]), parts[3] + 2 * 768, parts[4], parts[5] + 2 * 768) == (444_672, 592_128, 592_896, 592_128)
    assert round(bert.parameter_count(config)["total"] / counts["total"], 2) == 2.14


@pytest.mark.parametrize("changes", [{}, UNEQUAL, {"pooler": False}], ids=str)
@every_head
def test_the_counts_are_those_of_what_is_built(head, changes):
    check.check_counts(build(head, **changes), parameter_count)


def test_flops_are_those_of_the_matrix_products(monkeypatch):
    check.check_flops(monkeypatch, build("masked-lm", **UNEQUAL), forward_flops, 7)
    one = SMALL.but(**dict.fromkeys(UNEQUAL, 1))
    assert forward_flops(one, 9, 0.2) == bert.forward_flops(one, 9, 0.2) > forward_flops(one, 9)


def test_a_config_says_what_it_is():
    config = SqueezeBertConfig(*PUBLISHED["squeezebert"][:5])
    assert (str(SMALL), SMALL.model_type, config.eps, config.pooler) == ("SqueezeBERT 3x12", "squeezebert", 1e-12, True)
    assert [groups for *_, groups in config.maps().values()] == [4, 4, 4, 1, 4, 4]
    assert (config.layers, config.hidden, config.heads, config.feed_forward) == (12, 768, 12, 3072)
    assert SMALL.but(key_groups=2).as_dict() == SMALL.as_dict() | {"key_groups": 2}
    assert SqueezeBertConfig(**{**SMALL.as_dict(), "labels": ()}) == SMALL


@pytest.mark.parametrize("changes, text", [
    ({"heads": 5}, "need a hidden size that the heads divide: 12 hidden, 5 heads"),
    ({"key_groups": 5}, "need widths that the groups of a map divide: key 12 to 12 in 5"),
    ({"inner_groups": 5}, "need widths that the groups of a map divide: inner 12 to 20 in 5"),
    ({"inner_groups": 3}, "need widths that the groups of a map divide: inner 12 to 20 in 3"),
    ({"outer_groups": 5}, "need widths that the groups of a map divide: outer 20 to 12 in 5"),
    ({"attention_output_groups": 0}, "need widths that the groups of a map divide: attention output 12 to 12 in 0"),
    ({"head": "tags"}, "need a head out of none, .*, token, span for SqueezeBERT 3x12; got tags")])
def test_a_shape_that_cannot_be_is_refused(changes, text):
    with pytest.raises(WrongUsage, match=text):
        SMALL.but(**changes)


def test_initial_weights_are_drawn_by_name():
    check.check_initialisation(SqueezeBert, SMALL.but(head="pretraining"))


# ---------------------------------------------------------------- one pass

ALL_LAYERS = {"grouped_linear": 18, "attention": 3, "bias_gelu": 3, "layer_norm": 7}


@pytest.mark.parametrize("head, needs, calls, also", [
    ("none", {"queries": [-1], "keys": [-1], "values": [-1]},
     {"grouped_linear": 15, "attention": 2, "bias_gelu": 2, "layer_norm": 5}, []),
    ("none", {"scores": [0]}, {"grouped_linear": 3, "layer_norm": 1, "scaled_product": 1}, []),
    ("none", {"embeddings": True}, {"layer_norm": 1}, []),
    ("masked-lm", {"hidden": [-1]}, ALL_LAYERS, []),
    ("none", {"pooled": True}, ALL_LAYERS | {"linear": 1, "tanh": 1}, []),
    ("masked-lm", {"logits": True}, ALL_LAYERS | {"linear": 2, "bias_gelu": 4, "layer_norm": 8}, []),
    ("pretraining", {"next_sentence": True}, ALL_LAYERS | {"linear": 2, "tanh": 1}, []),
    ("sequence", {"logits": True}, ALL_LAYERS | {"linear": 2, "tanh": 1}, [])], ids=str)
def test_a_pass_computes_what_is_needed_and_stops_there(monkeypatch, head, needs, calls, also):
    check.check_stops(monkeypatch, build(head), draw_batch(head), needs, calls, also)


def test_what_a_loss_never_reached_has_no_gradient_and_a_teacher_no_graph():
    behind = ("layers.2.attention.output", "layers.2.attention_norm", "layers.2.feed_forward", "pooler", "head")
    check.check_what_losses_never_reached(build("masked-lm"), draw_batch("masked-lm"), behind)
    check.check_teacher_remembers_nothing(build("pretraining"), draw_batch("pretraining"))


@pytest.mark.parametrize("needs, text", [
    ({"pooled": True}, "need pooled, which SqueezeBERT 3x12 without a pooler cannot have"),
    ({"next_sentence": True}, "need next_sentence, which SqueezeBERT 3x12 without a pretraining head cannot have"),
    ({"logits": True}, "need logits, which SqueezeBERT 3x12 without a head cannot have"),
    ({"hidden": [3]}, r"need hidden of layer 3, but the model has 3 layers \(0 to 2\)")])
def test_what_it_cannot_have_is_named(needs, text):
    with pytest.raises(Problem, match=text):
        build(pooler=False)(draw_batch(), Pass(needs=Needs.of(**needs)))


@both_kernels
@every_head
def test_padding_never_matters(head, choice):
    with kernels.use(choice):
        check.check_padding(build(head), head)


# ---------------------------------------------------------------- dropout

@pytest.mark.parametrize("shards", [2, 3])
@every_head
def test_a_row_drops_the_same_units_in_any_split(head, shards):
    model = build(head, dropout=0.3, attention_dropout=0.2)
    check.check_shards(model, head, shards)
    check.check_sites(model)


def test_rates_are_those_of_the_configuration():
    model = build("sequence", dropout=0.3, attention_dropout=0.2)
    rates = [module.rate for _, module in model.named_modules() if isinstance(module, Dropout)]
    assert rates == [0.3] + 3 * [0.2, 0.3, 0.3] + [0.3]


def test_dropout_is_where_bert_has_it(monkeypatch):
    """On the embeddings, and on what attention and feed-forward give to the residual sum: only biases get through."""
    check.drop_everything(monkeypatch)
    model, batch = build(layers=1, dropout=0.5, attention_dropout=0.0), draw_batch()
    features = model(batch, Pass(needs=Needs.of(hidden=[0], queries=[0]), training=True))
    layer, nothing = model.layers[0], features.embeddings * 0.0
    assert_close64(features.queries[0].array, layer.attention.project(nothing)[0].array)
    assert_close64(features.hidden[0].array, layer.feed_forward_norm(layer.attention_norm(nothing)).array)


def test_attention_dropout_is_on_the_probabilities(monkeypatch):
    check.drop_everything(monkeypatch)
    model, batch = build(layers=1, dropout=0.0, attention_dropout=0.5), draw_batch()
    features, layer = model(batch, Pass(needs=Needs.of(hidden=[0]), training=True)), model.layers[0]
    h = layer.attention_norm(features.embeddings + layer.attention.output.bias)
    assert_close64(features.hidden[0].array, layer.feed_forward_norm(layer.feed_forward(h), h).array)


# ---------------------------------------------------------------- dtypes and devices

@every_head
def test_float32_stays_float32_everywhere(head):
    check.check_float32_stays(build(head, dtype=np.float32), draw_batch(head))


@every_head
def test_the_device_computes_the_same_and_the_host_never_waits(strict_cupy, head):
    check.check_device(build(head), draw_batch(head), strict_cupy)
