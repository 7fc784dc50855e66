"""AdapterBERT: transformers' BERT with adapters written in PyTorch; which parameters are trained, to the last one."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import student_checks as check
from gradcheck import assert_close64, assert_within
from oracle.houlsby import names
from small_bert import VOCABULARY, draw_batch, everything, flat
from tinydistill import hub, kernels, ops
from tinydistill.architectures import parse
from tinydistill.errors import WrongUsage
from tinydistill.features import Needs, Pass
from tinydistill.methods.adapters import is_trained
from tinydistill.methods.start import copied
from tinydistill.students.architecture import counted
from tinydistill.students.bert import Bert
from tinydistill.students.bodies import on_body, require_body
from tinydistill.students.configs import BertConfig
from tinydistill.students.houlsby import (ADAPTER_STD, Adapter, AdapterBert, AdapterBertConfig, forward_flops,
                                          parameter_count)

SMALL = AdapterBertConfig(layers=3, hidden=12, heads=3, feed_forward=20, vocabulary=VOCABULARY, positions=11,
                          initial_std=0.4, bottleneck=5)
HEADS = ("none", "masked-lm", "sequence", "token", "span")
every_head = pytest.mark.parametrize("head", HEADS)
both_kernels = pytest.mark.parametrize("choice", ["fused", "plain"])


def build(head="none", **changes):
    """With a pooler where transformers' model has one."""
    return check.build(AdapterBert, SMALL, head, **{"pooler": head in ("none", "sequence")} | changes)


# ---------------------------------------------------------------- PyTorch

@both_kernels
@every_head
def test_every_feature_and_every_gradient_is_that_of_adapters_in_transformers(head, choice):
    with kernels.use(choice):
        check.check_against_transformers(build(head), names, draw_batch(head))


@pytest.mark.parametrize("head", ["none", "sequence"])
def test_float32_by_the_tolerance_rule(head):
    check.check_float32(build(head, dtype=np.float32), names, draw_batch(head))


@given(st.integers(1, 3), st.integers(1, 3), st.integers(2, 5), st.integers(1, 9), st.integers(1, 7),
       st.sampled_from(HEADS), st.integers(0, 99))
def test_any_small_shape(layers, heads, K, feed_forward, bottleneck, head, seed):
    model = build(head, seed=seed, layers=layers, heads=heads, hidden=heads * K, feed_forward=feed_forward,
                  bottleneck=bottleneck)
    check.check_any_shape(model, names, draw_batch(head, seed), as_of_a_bert)


def as_of_a_bert(config):
    """The parts of a BERT's count, out of those of ours."""
    parts = parameter_count(config)
    norms = {"other embeddings": 2 * config.hidden, "transformer": 4 * config.hidden * config.layers}
    assert parts["trained norms"] == sum(norms.values())
    found = {part: count + norms.get(part, 0) for part, count in parts.items() if not part.startswith("trained")}
    found["transformer"] += parts["trained adapters"]
    return found | {"head": parts["trained head"]}


def test_the_adapter_stands_behind_the_dropout_and_before_the_sum_and_the_norm(monkeypatch):
    """Where all is dropped, what is left of either half is the adapter of 0."""
    check.drop_everything(monkeypatch)
    model, batch = build(layers=1, dropout=0.5, attention_dropout=0.0), draw_batch()
    features, layer = model(batch, Pass(needs=Needs.of(hidden=[0]), training=True)), model.layers[0]
    x = features.embeddings * 0.0

    def of_nothing(adapter):
        return adapter.up.bias.array + ops.gelu_new(adapter.down.bias).array @ adapter.up.weight.array.T
    h = layer.attention_norm(x + of_nothing(layer.attention_adapter))
    assert_close64(features.hidden[0].array, layer.feed_forward_norm(h + of_nothing(layer.feed_forward_adapter)).array)


@pytest.mark.parametrize("head", ["none", "sequence"])
def test_padding_shards_devices_and_dtypes(head, strict_cupy):
    check.check_padding(build(head), head)
    dropping = build(head, dropout=0.3, attention_dropout=0.2)
    check.check_shards(dropping, head, 3)
    check.check_sites(dropping)
    check.check_float32_stays(build(head, dtype=np.float32), draw_batch(head))
    check.check_device(build(head), draw_batch(head), strict_cupy)


def test_a_pass_stops_where_nobody_asks_for_more(monkeypatch):
    calls = {"project_heads": 3, "attention": 2, "linear": 14, "bias_gelu": 2, "layer_norm": 5}     # 4 more a layer
    check.check_stops(monkeypatch, build(), draw_batch(), {"queries": [-1]}, calls)


# ---------------------------------------------------------------- counts

@pytest.mark.parametrize("name, m, adapters, norms, head, total", [
    ("adapterbert", 64, 2_379_264, 38_400, 1_538, 2_419_202), ("adapterbert", 8, None, 38_400, 1_538, 353_474),
    ("adapterbert", 256, None, 38_400, 1_538, 9_501_698),
    ("adapterbert-large", 64, 6_343_680, 100_352, 2_050, 6_446_082),
    ("adapterbert-large", 8, None, 100_352, 2_050, 938_370),
    ("adapterbert-large", 256, None, 100_352, 2_050, 25_329_666)])
def test_what_is_trained_of_the_published_sizes(name, m, adapters, norms, head, total):
    config = parse(name).but(bottleneck=m)
    parts = parameter_count(config.but(head="sequence", labels=("0", "1")))
    assert (parts["trained norms"], parts["trained head"]) == (norms, head)
    assert parts["trained adapters"] == (adapters or total - norms - head)
    assert counted(parameter_count, config, "trained") == total
    assert parse(name).bottleneck == 64 and parse("adapterbert-2x128").bottleneck == 64


@pytest.mark.parametrize("head", [*HEADS, "pretraining"])
def test_what_is_trained_is_what_is_counted_as_trained_and_a_bert_is_left(head):
    model = build(head, pooler=True)
    parts, built = parameter_count(model.config), {name: p.array.size for name, p in model.named_parameters().items()}
    trained = sum(size for name, size in built.items() if is_trained(name, model.config))
    assert trained == sum(count for part, count in parts.items() if part.startswith("trained"))
    assert sum(built.values()) == parts["total"]
    frozen = {name for name in built if not is_trained(name, model.config)}
    assert {name for name in frozen if name.startswith(("embeddings", "pooler"))} == {
        "embeddings.word.weight", "embeddings.position.weight", "embeddings.token_type.weight", "pooler.weight",
        "pooler.bias"}
    assert len(frozen) == 5 + 3 * 12                # of a layer: weight and bias of six maps


def test_flops_are_those_of_the_matrix_products(monkeypatch):
    check.check_flops(monkeypatch, build("masked-lm"), forward_flops, 7)


# ---------------------------------------------------------------- the body

def test_adapters_begin_near_the_identity():
    model = AdapterBert(SMALL.but(hidden=48, bottleneck=40), seed=2)
    bert = Bert(BertConfig(**{field.name: getattr(model.config, field.name) for field in fields(BertConfig)}), seed=2)
    for name, array in bert.arrays().items():                           # what BERT has is drawn as in a BERT
        np.testing.assert_array_equal(model.arrays()[name], array, err_msg=name)
    drawn = np.concatenate([array.ravel() for name, array in model.arrays().items()
                            if "adapter." in name and name.endswith("weight")])
    assert len(drawn) == 3 * 2 * 2 * 48 * 40 and 1.9 * ADAPTER_STD < np.abs(drawn).max() <= 2 * ADAPTER_STD
    assert abs(drawn.std() / (0.88 * ADAPTER_STD) - 1) < 0.02 and abs(drawn.mean()) < 0.03 * ADAPTER_STD
    assert not any(a.any() for name, a in model.arrays().items() if "adapter." in name and name.endswith("bias"))
    z = np.random.default_rng(0).standard_normal((2, 3, 48))
    adapter = [module for _, module in model.named_modules() if isinstance(module, Adapter)][0].to(np, np.float64)
    assert 0 < np.abs(adapter(z).array - z).max() < 1e-3
    assert not any(a.any() for n, a in AdapterBert(SMALL, seed=None).arrays().items() if n.endswith("up.weight"))


def test_a_student_on_a_body_computes_almost_what_the_body_does():
    teacher = check.build(Bert, parse("2x12x3").but(vocabulary=VOCABULARY, positions=11, initial_std=0.4), "none")
    config = on_body(AdapterBertConfig(1, 2, 1, 4, bottleneck=5), teacher.config)
    assert config.but(bottleneck=64) == AdapterBertConfig(**teacher.config.but(initial_std=0.02).as_dict())
    require_body(config, teacher.config)
    student = copied(AdapterBert(config).to(np, np.float64), teacher, "first-layers")
    needs = Pass(needs=everything(teacher.config))
    ours, theirs = flat(student(draw_batch(), needs)), flat(teacher(draw_batch(), needs))
    for place, x in theirs.items():
        assert_within(ours[place].array, x.array, 1e-3 * np.abs(x.array).max(), str(place))
    assert np.abs(ours["hidden", 1].array - theirs["hidden", 1].array).max() > 1e-9
    with pytest.raises(WrongUsage, match="^need AdapterBERT 2x12 on the body of its teacher, BERT 2x12: its heads "
                                         "is 3, the teacher's 1$"):
        require_body(config, teacher.config.but(heads=1))


def test_a_bottleneck_has_a_width():
    with pytest.raises(WrongUsage, match="^need a bottleneck of at least 1, got 0$"):
        SMALL.but(bottleneck=0)
    assert str(SMALL) == "AdapterBERT 3x12" and AdapterBertConfig(**SMALL.as_dict()) == SMALL


def test_what_is_written_is_read_again(tmp_path):
    model = build("sequence", dtype=np.float32)
    hub.write(model, tmp_path)
    again = hub.read(tmp_path)
    assert type(again) is AdapterBert and again.config == model.config
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(array, again.arrays()[name], err_msg=name)
