"""BERT-Vision: a head on all hidden states of a frozen BERT, against PyTorch; exact to the parameter."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import strict_device
import student_checks as check
from gradcheck import assert_close32, assert_close64, assert_within
from oracle import bertvision as oracle
from small_bert import LABELS, VOCABULARY, draw_batch, everything, flat
from tinydistill import architectures, hub, kernels, ops
from tinydistill.architectures import SIZES, parse
from tinydistill.backend import to_host
from tinydistill.errors import Problem, WrongUsage
from tinydistill.features import Needs, Pass
from tinydistill.methods.bert_vision import is_trained
from tinydistill.students.architecture import counted
from tinydistill.students.bertvision import (CHOICES, LARGE, TRUNCATED_STD, BertVision, BertVisionConfig, forward_flops,
                                             parameter_count)
from tinydistill.students.bodies import on_body
from tinydistill.tensor import gradients

SMALL = BertVisionConfig(layers=3, hidden=12, heads=3, feed_forward=20, vocabulary=VOCABULARY, positions=11,
                         initial_std=0.4, pooler_width=5, length=10)
SHAPES = {                                          # of heads; the batches of these tests are 9 tokens long
    "sequence": ("sequence", {}), "span": ("span", {}), "span with a skip": ("span", {"skip": True}),
    "sequence with a skip, tanh": ("sequence", {"skip": True, "pooler_activation": "gelu_new"}),
    "mean of [CLS] with a skip": ("sequence", {"pooling": "mean", "reads": "first", "skip": True}),
    "learned pooling of [CLS]": ("sequence", {"pooling": "learned", "reads": "first", "skip": True}),
    "learned pooling, all tokens": ("sequence", {"pooling": "learned"}), "mean, spans": ("span", {"pooling": "mean"})}
each_shape = pytest.mark.parametrize("shape", SHAPES)
LOGITS = Pass(needs=Needs.of(logits=True))


def build(shape="sequence", **changes):
    head, settings = SHAPES[shape]
    return check.build(BertVision, SMALL.but(labels=LABELS if head == "sequence" else ()), head, **settings | changes)


def upstream_of(logits, seed=3):
    return np.random.default_rng(seed).standard_normal(logits.shape)


# ---------------------------------------------------------------- PyTorch

@pytest.mark.parametrize("choice", ["fused", "plain"])
@each_shape
def test_logits_and_the_gradients_of_the_head_are_pytorchs_and_the_body_has_none(shape, choice):
    model, batch = build(shape), draw_batch("span")
    with kernels.use(choice):
        logits = model(batch, LOGITS).logits
        upstream = upstream_of(logits)
        found = dict(zip(model.named_parameters(), gradients((logits * upstream).sum(), model.parameters())))
    want, truth = oracle.differentiated(model, batch, upstream)
    assert_close64(logits.array, want)
    assert {f"head.{name}" for name in truth} == {name for name, g in found.items() if g is not None}
    for name, gradient in truth.items():
        assert np.abs(gradient).max() > 1e-5, name
        assert_close64(found[f"head.{name}"], gradient, name)
    assert {name for name, g in found.items() if g is None} == {n for n in found if not is_trained(n, model.config)}


@each_shape
def test_float32_by_the_tolerance_rule(shape):
    model, batch = build(shape, dtype=np.float32), draw_batch("span")
    logits = model(batch, LOGITS).logits
    upstream = upstream_of(logits).astype(np.float32)
    found = dict(zip(model.named_parameters(), gradients((logits * upstream).sum(), model.parameters())))
    (want, truth), (narrow, witness) = (oracle.differentiated(model, batch, upstream, dtype)
                                        for dtype in ("float64", "float32"))
    for name in ("logits", *truth):
        got = logits.array if name == "logits" else found[f"head.{name}"]
        reference, other = (want, narrow) if name == "logits" else (truth[name], witness[name])
        kappa = max(4 * np.abs(reference).max(), np.abs(other - reference).max() / 2.0 ** -24)
        assert_close32(got, reference, kappa, name)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(9, 11), st.sampled_from(["sequence", "span"]),
       st.sampled_from(CHOICES["pooling"]), st.sampled_from(CHOICES["reads"]), st.booleans(), st.integers(0, 99))
def test_any_small_shape(layers, width, length, head, pooling, reads, skip, seed):
    model = check.build(BertVision, SMALL, head, seed=seed, layers=layers, pooler_width=width, length=length,
                        pooling=pooling, reads=reads, skip=skip)
    batch = draw_batch("span", seed)
    logits = model(batch, LOGITS).logits
    upstream = upstream_of(logits, seed)
    want, truth = oracle.differentiated(model, batch, upstream)
    assert_close64(logits.array, want)
    head = [p for name, p in model.named_parameters().items() if name.startswith("head.")]
    largest = max(np.abs(g).max() for g in truth.values())
    for name, gradient in zip(truth, gradients((logits * upstream).sum(), head), strict=True):
        assert_within(gradient, truth[name], 1e-10 * largest, name)
    check_counts(model)


def test_the_flat_index_of_a_head_of_a_sequence_is_position_then_width_then_layer():
    model, batch = build(), draw_batch(length=10)
    features, head = model(batch, Pass(needs=everything(model.config))), model.head
    W, c, (d, L) = head.pooler.dense.weight.array, head.pooler.dense.bias.array, (5, 4)
    states = [features.embeddings, *(features.hidden[l] for l in range(3))]
    for b, t, k, l in ((0, 0, 0, 0), (1, 9, 4, 3), (2, 3, 2, 1), (3, 8, 1, 2)):         # padded positions, too
        weight = head.classifier.weight.array[:, t * d * L + k * L + l]
        one = ops.gelu(states[l].array[b, t] @ W[k] + c[k]).array
        moved = head.classifier.weight.array.copy()
        head.classifier.weight.array = moved
        before = model(batch, LOGITS).logits.array[b]
        moved[:, t * d * L + k * L + l] += 1.0
        assert_within(model(batch, LOGITS).logits.array[b] - before, np.full(len(weight), one), 1e-12)


# ---------------------------------------------------------------- padding

@pytest.mark.parametrize("shape", ["sequence", "sequence with a skip, tanh", "learned pooling, all tokens"])
def test_rows_are_padded_to_the_length_of_the_head_whatever_the_batch(shape):
    model, batch = build(shape), draw_batch(length=9, lengths=(3, 2))
    batch = replace(batch, ids=np.where(batch.mask, batch.ids, 0), token_types=batch.token_types * batch.mask)
    short = replace(batch, ids=batch.ids[:, :3], mask=batch.mask[:, :3], token_types=batch.token_types[:, :3])
    assert_close64(model(short, LOGITS).logits.array, model(batch, LOGITS).logits.array)
    other = replace(batch, ids=np.where(batch.mask, batch.ids, 1))      # padded positions are read
    assert np.abs(model(other, LOGITS).logits.array - model(batch, LOGITS).logits.array).max() > 0.01
    without = replace(batch, token_types=None)
    assert_close64(model(without, LOGITS).logits.array,
                   model(replace(batch, token_types=0 * batch.ids), LOGITS).logits.array)


@pytest.mark.parametrize("shape", ["span", "mean of [CLS] with a skip"])
def test_other_heads_read_no_padding(shape):
    model, batch = build(shape), draw_batch()
    poisoned = replace(batch, ids=np.where(batch.mask, batch.ids, 1))
    a, b = (model(x, LOGITS).logits.array for x in (batch, poisoned))
    np.testing.assert_array_equal(*((x[batch.mask] if shape == "span" else x for x in (a, b))))


def test_a_row_longer_than_the_head_is_refused():
    with pytest.raises(WrongUsage, match="^need at most 8 tokens a sequence, got 9: give --max-length 8$"):
        build(length=8)(draw_batch(), LOGITS)
    assert (build(length=8).config.longest, build("span", length=8).config.longest) == (8, 11)


# ---------------------------------------------------------------- counts

@pytest.mark.parametrize("name, head, C, count", [
    ("bertvision", "sequence", 2, 524_418), ("bertvision", "sequence", 3, 737_411),
    ("bertvision", "sequence", 1, 311_425),
    ("bertvision-qnli", "sequence", 2, 125_282), ("bertvision-rte", "sequence", 2, 58_154),
    ("bertvision-sst", "sequence", 2, 131_106), ("bertvision-mrpc", "sequence", 2, 65_554),
    ("bertvision-squad", "span", 0, 305_282), ("bertvision-squad-large", "span", 0, 414_952)])
def test_what_is_trained_of_the_published_sizes(name, head, C, count):
    config = parse(name).but(head=head, labels=tuple("abc"[:C]))
    assert parameter_count(config)["trained head"] == count
    if C == 2:
        assert counted(parameter_count, SIZES[name].config, SIZES[name].counted) == count


def test_the_209_times_of_the_paper_count_the_head_alone():
    config = parse("bertvision").but(head="sequence", labels=("0", "1"))
    whole = architectures.parameter_count(parse("bert-base").but(head="sequence", labels=("0", "1")))["total"]
    assert (whole, round(whole / 524_418, 2)) == (109_483_778, 208.77)
    assert parameter_count(config)["total"] == 524_418 + 109_482_240 - 768 * 769       # a BERT without its pooler


def test_pooling_by_mean_and_by_26_learned_weights_has_the_published_totals():
    of_26 = BertVisionConfig(**LARGE | {"layers": 25}, pooler_width=386, reads="first", skip=True, head="sequence",
                             labels=("0", "1"))
    totals = [parameter_count(of_26.but(pooling=pooling))["trained head"] for pooling in ("mean", "learned")]
    assert totals == [398_472, 398_499] and 1024 * 386 + 386 == 395_650


def check_counts(model):
    built = {name: p.array.size for name, p in model.named_parameters().items()}
    parts = parameter_count(model.config)
    assert parts["total"] == sum(built.values()) and parts["pooler"] == 0
    assert parts["trained head"] == sum(n for name, n in built.items() if name.startswith("head."))
    assert parts["transformer"] == sum(n for name, n in built.items() if name.startswith("layers."))


@each_shape
def test_flops_are_those_of_the_matrix_products(monkeypatch, shape):
    model, counted = build(shape), []

    def watch(name, cost):
        original = getattr(ops, name)

        def counting(*arguments, **settings):
            counted.append(2 * cost(*arguments))
            return original(*arguments, **settings)
        monkeypatch.setattr(ops, name, counting)

    def rows(x):
        return int(np.prod(x.shape[:-1]))
    watch("linear", lambda x, w, b: rows(x) * w.array.size)
    watch("project_heads", lambda x, *w: sum(rows(x) * a.array.size for a in w[::2]))
    watch("attention", lambda q, k, v: 2 * rows(q) * k.shape[2] * q.shape[-1])
    watch("matmul", lambda a, b: rows(a) * b.array.size)
    model(draw_batch(length=7, lengths=[7]), LOGITS)
    assert sum(counted) == forward_flops(model.config, 7)


# ---------------------------------------------------------------- weights

def test_the_head_is_drawn_as_published_code_draws_it():
    wide = {"hidden": 48, "pooler_width": 50, "seed": 2}
    arrays = {initial: BertVision(build(pooler_initial=initial, **wide).config, 2).arrays()
              for initial in CHOICES["pooler_initial"]}
    for name, inputs in (("head.pooler.dense.weight", 48), ("head.classifier.weight", 10 * 50 * 4)):
        drawn, bound = arrays["uniform"][name], inputs ** -0.5
        assert 0.99 * bound < np.abs(drawn).max() <= bound and abs(drawn.std() / (bound / 3 ** 0.5) - 1) < 0.05
    drawn = arrays["truncated"]["head.pooler.dense.weight"]
    assert np.abs(drawn).max() <= 2 * TRUNCATED_STD and abs(drawn.std() / (0.88 * TRUNCATED_STD) - 1) < 0.05
    for name, array in arrays["uniform"].items():
        assert (array == arrays["truncated"][name]).all() or name == "head.pooler.dense.weight", name
    learned = BertVision(build("learned pooling of [CLS]").config, 2).arrays()
    assert (learned["head.mix.weight"] == 0).all() and (learned["head.mix.scale"] == 1).all()
    assert not any(x.any() for x in BertVision(SMALL, None).arrays().values() if x.ndim > 1)


@each_shape
def test_what_is_written_is_read_again(tmp_path, shape):
    model = build(shape, dtype=np.float32)
    hub.write(model, tmp_path)
    again = hub.read(tmp_path)
    assert type(again) is BertVision and again.config == model.config
    np.testing.assert_array_equal(again(draw_batch(), LOGITS).logits.array, model(draw_batch(), LOGITS).logits.array)


# ---------------------------------------------------------------- one pass

def test_the_body_never_drops_out_and_remembers_nothing():
    model, batch = build(dropout=0.5, attention_dropout=0.5), draw_batch(length=10)
    needs = everything(model.config)
    trained, used = (flat(model(batch, Pass(needs=needs, training=t))) for t in (True, False))
    for place, x in used.items():
        np.testing.assert_array_equal(trained[place].array, x.array, err_msg=str(place))
        assert x.requires_grad == (place == ("logits", None))


def test_without_logits_it_is_its_body():
    model, batch = build(), draw_batch()
    for wanted in ({"hidden": [1]}, {"queries": [0], "scores": [2]}, {"embeddings": True}):
        features = model(batch, Pass(needs=Needs.of(**wanted)))
        assert {place for place in flat(features)} - {("embeddings", None)} == Needs.of(**wanted).wanted - {
            ("embeddings", None)}
    with pytest.raises(Problem, match="need logits, which BERT-Vision 3x12 without a head cannot have"):
        BertVision(SMALL)(batch, LOGITS)


@each_shape
def test_on_a_device_it_computes_the_same_and_the_host_never_waits(strict_cupy, shape):
    model, batch = build(shape), draw_batch("span")
    with kernels.use("plain"):
        want = model(batch, LOGITS).logits
        upstream = upstream_of(want)
        truth = gradients((want * upstream).sum(), model.parameters())
    model.to(strict_cupy)
    moved, upstream = batch.to(strict_cupy), strict_cupy.asarray(upstream)
    with strict_device.no_sync():
        logits = model(moved, LOGITS).logits
        found = gradients((logits * upstream).sum(), model.parameters())
    assert_close64(to_host(logits.array), want.array)
    for ours, theirs in zip(found, truth, strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            assert_close64(to_host(ours), theirs)


def test_a_head_reads_no_more_tokens_than_its_body_takes():
    body = parse("4x320").but(positions=64, dropout=0.2)
    config = on_body(parse("bertvision"), body)
    assert (config.length, config.layers, config.heads, config.dropout) == (64, 4, 5, 0.2)
    assert on_body(parse("bertvision"), parse("bert-base")) == parse("bertvision")


@pytest.mark.parametrize("changes, text", [
    ({"pooling": "max"}, "need pooling out of none, mean, learned; got 'max'"),
    ({"reads": "last"}, "need reads out of all, first; got 'last'"),
    ({"pooler": True}, "need a BERT-Vision without BERT's pooler"),
    ({"length": 12}, "a length from 1 to the body's 11 positions: pooler_width 5, length 12"),
    ({"pooler_width": 0}, "need a pooler at least 1 wide .*pooler_width 0, length 10"),
    ({"head": "token", "labels": ("a",)}, "need a head out of none, sequence, span for BERT-Vision 3x12; got token")])
def test_a_shape_that_cannot_be_is_refused(changes, text):
    with pytest.raises(WrongUsage, match=text):
        SMALL.but(**changes)
