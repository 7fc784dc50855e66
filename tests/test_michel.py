"""Head importance by gates, by products and as printed; which heads go."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import strict_device
from gradcheck import C, UNIT, assert_close32, assert_close64, assert_within
from oracle import bert as bert_oracle
from oracle import michel as oracle
from small_bert import DEPTH, build, draw_batch
from tinydistill import kernels
from tinydistill.backend import to_host
from tinydistill.compress import michel
from tinydistill.compress.pruned_bert import pruned
from tinydistill.errors import WrongUsage
from tinydistill.features import Batch, Needs, Pass
from tinydistill.methods import bert, michel as method
from tinydistill.nn import SelfAttention
from tinydistill.tensor import Tensor, gradients
from tinydistill_reference import michel as printed

BY = {"gates": michel.head_products, "contexts": michel.head_products_by_context}


def g(shape, a, b, s=1.0):
    return s * np.sin(a * np.arange(np.prod(shape)) + b).reshape(shape)


def measured(model, batch, by="gates"):
    return [to_host(layer) for layer in BY[by](model, batch, method.loss, method.needs)]


# ---------------------------------------------------------------- as printed

GOLDEN = {"example": (1.5743, 1.3880), "token": (4.6785, 4.7482), "batch": (1.3601, 1.4616)}


@pytest.mark.parametrize("version", michel.VERSIONS)
def test_the_published_numbers_of_two_heads(version):
    context, gradient = g((2, 2, 3, 2), 0.4, 0.1), g((2, 2, 3, 2), 0.6, 0.9)
    found = michel.head_scores((context * gradient).sum(-1), version)
    np.testing.assert_allclose(found, GOLDEN[version], atol=5e-5)
    assert_close64(found, printed.importance(context, gradient, version))


def test_the_version_by_token_turns_the_order_of_these_heads_round():
    scores = {version: np.array(two) for version, two in GOLDEN.items()}
    assert michel.ranking([scores["example"]]) == [(0, 1), (0, 0)]
    assert michel.ranking([scores["token"]]) == michel.ranking([scores["batch"]]) == [(0, 0), (0, 1)]


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(0, 999), st.sampled_from(michel.VERSIONS))
def test_scores_are_the_printed_sums(B, A, T, seed, version):
    context, gradient = np.random.default_rng(seed).standard_normal((2, B, A, T, 3))
    products, truth = (context * gradient).sum(-1), printed.importance(context, gradient, version)
    size = np.abs(context * gradient).sum()
    assert_within(michel.head_scores(products, version), truth, C * UNIT * size)


def test_a_gate_is_that_of_the_printed_attention():
    """xi_h stands before Att_h, and dL/dxi is the complex step of the printed sum with respect to it."""
    rng, (A, T, K, D) = np.random.default_rng(0), (3, 5, 2, 6)
    x, upstream, gate = rng.standard_normal((T, D)), rng.standard_normal((T, D)), rng.uniform(0.5, 2, A)
    layer = SelfAttention(D, A, 0.0).to(np, np.float64)
    for parameter in layer.parameters():
        parameter.array = rng.standard_normal(parameter.shape) * (parameter.ndim == 2)
    maps = [getattr(layer, name).weight.array.reshape(A, K, D) for name in ("query", "key", "value")]
    maps.append(layer.output.weight.array.reshape(D, A, K).transpose(1, 0, 2))
    layer.note, note = None, Tensor(gate.reshape(A, 1, 1), requires_grad=True)
    layer.__class__, layer.note = michel.GatedAttention, note
    y = layer.attend(*layer.project(Tensor(x[None])), None, Pass())
    assert_close64(y.array[0], printed.attention(x, *maps, gate))
    found, = gradients((y[0] * upstream).sum(), [note])
    for h in range(A):
        moved = gate + 1e-40j * (np.arange(A) == h)
        exact = (upstream * printed.attention(x, *maps, moved)).sum().imag / 1e-40
        assert abs(found[h, 0, 0] - exact) <= 1e-12 * np.abs(found).max() and abs(exact) > 1e-3


# ---------------------------------------------------------------- of a model

@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("choice", ["fused", "plain"])
def test_products_are_the_gradients_of_transformers_gates(tmp_path, by, choice):
    model, batch = build("sequence"), draw_batch("sequence")
    B, T = batch.ids.shape
    with oracle.Gated(bert_oracle.twin(model, tmp_path), [np.ones((B, 3, T, 1))] * DEPTH) as twin:
        truth = twin.of_gates(batch)
    with kernels.use(choice):
        found = measured(model, batch, by)
    assert [layer.shape for layer in found] == [(B, 3, T)] * DEPTH
    for ours, theirs in zip(found, truth):
        assert_close64(ours, theirs[..., 0])
        padding = ~np.broadcast_to(batch.mask[:, None], ours.shape)
        assert (ours[padding] == 0).all()
    only_first = found[-1][:, :, 1:]                # of the last layer, [CLS] alone is read
    assert (only_first == 0).all() and (found[0][:, :, 1] != 0).any()


def test_importance_of_several_batches_is_that_of_one_but_in_the_version_that_lets_them_cancel():
    model, batch = build("sequence"), draw_batch("sequence")
    parts, products = batch.split(3), measured(model, batch)
    for version in michel.VERSIONS:
        raw = michel.importance(model, parts, method.loss, method.needs, version, normalised=False)
        by_context = michel.importance(model, [batch], method.loss, method.needs, version, normalised=False,
                                       products=michel.head_products_by_context)
        scaled = michel.importance(model, iter(parts), method.loss, method.needs, version)
        for l in range(DEPTH):
            assert_close64(raw[l], michel.head_scores(products[l], version))
            assert_close64(by_context[l], raw[l])
            assert_close64(scaled[l], printed.normalised(raw[l]))
            assert_close64(np.linalg.norm(scaled[l]), 1.0)
    with pytest.raises(WrongUsage, match="need at least one batch"):
        michel.importance(model, [], method.loss, method.needs)
    with pytest.raises(WrongUsage, match="need a version of head importance out of example, token, batch; got 'head'"):
        michel.importance(model, parts, method.loss, method.needs, "head")


def test_dropout_is_off_and_what_stands_in_the_padding_counts_nothing():
    model = build("sequence", dropout=0.4, attention_dropout=0.4)
    quiet = build("sequence", dropout=0.0, attention_dropout=0.0)
    batch, other = draw_batch("sequence"), draw_batch(seed=99)
    poisoned = Batch(np.where(batch.mask, batch.ids, other.ids), batch.mask, batch.token_types, batch.labels)
    for ours, without, dirty in zip(measured(model, batch), measured(quiet, batch), measured(model, poisoned)):
        np.testing.assert_array_equal(ours, without)
        np.testing.assert_array_equal(ours, dirty)


def test_the_order_of_examples_and_the_size_of_batches_change_nothing():
    model, batch = build("sequence"), draw_batch("sequence")
    turned = Batch(*(getattr(batch, name)[::-1] for name in ("ids", "mask", "token_types", "labels")))
    for ours, other in zip(measured(model, batch), measured(model, turned)):
        assert_close64(other[::-1], ours)


def test_a_loss_that_stops_early_leaves_the_layers_behind_it_without_importance():
    model, batch = build(), draw_batch()
    needs = Needs.of(hidden=[1])
    for products in BY.values():
        found = products(model, batch, lambda features, batch: (features.hidden[1] * features.hidden[1]).sum(), needs)
        assert [bool((layer != 0).any()) for layer in found] == [True, True, False]
        assert [layer.shape for layer in found] == [(4, 3, 9)] * 3
    for needs, loss in (                            # losses that do not read all that their pass computes
            (Needs.of(hidden=[0], queries=[1]), lambda features, batch: features.queries[1][:, :, 0].sum()),
            (Needs.of(hidden=[0, 2]), lambda features, batch: (features.hidden[0] * features.hidden[0]).sum())):
        for products in BY.values():
            found = products(model, batch, loss, needs)
            assert [bool((layer != 0).any()) for layer in found] == [True, False, False]
        first, *others = michel.importance(model, [batch], loss, needs)
        assert np.linalg.norm(first) > 0.99 and not any(layer.any() for layer in others)       # nor NaN


def test_there_is_a_gate_for_every_layer():
    with pytest.raises(ValueError):
        michel.gated(build(), [1.0, 1.0])


def test_the_model_stays_as_it_was():
    model, batch = build("sequence"), draw_batch("sequence")
    before, layers = {name: array.copy() for name, array in model.arrays().items()}, list(model.layers)
    for by in BY:
        measured(model, batch, by)
    assert model.layers == layers and all(type(layer.attention) is SelfAttention for layer in layers)
    assert not any(hasattr(layer.attention, "note") for layer in layers)
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(array, before[name])
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_layer_without_heads_has_none_to_measure():
    model, batch = pruned(build("sequence"), {1: (0, 1, 2), 0: (1,)}), draw_batch("sequence")
    for products in BY.values():
        found = products(model, batch, method.loss, method.needs)
        assert [layer.shape[1] for layer in found] == [2, 0, 3]
    scores = michel.importance(model, [batch], method.loss, method.needs)
    assert [len(layer) for layer in scores] == [2, 0, 3] and len(michel.ranking(scores)) == 5


@pytest.mark.parametrize("by", BY)
def test_on_the_device_and_in_float32(strict_cupy, by):
    model, narrow, batch = build("sequence"), build("sequence", dtype=np.float32), draw_batch("sequence")
    with kernels.use("plain"):
        truth = measured(model, batch, by)
    found = measured(narrow, batch, by)
    for ours, exact in zip(found, truth):
        assert_close32(ours, exact, 4 * max(np.abs(layer).max() for layer in truth))
    model.to(strict_cupy)
    moved = batch.to(strict_cupy)
    with strict_device.no_sync():
        there = BY[by](model, moved, method.loss, method.needs)
    for ours, exact in zip(there, truth):
        assert_close64(to_host(ours), exact)
    scores = michel.importance(model, [batch], method.loss, method.needs)
    assert all(isinstance(layer, np.ndarray) for layer in scores)


# ---------------------------------------------------------------- which heads go

SCORES = [np.array([0.9, 0.1, 0.4]), np.array([0.2, 0.3, 0.25]), np.array([0.8, 0.7, 0.6])]


def test_the_least_important_heads_go_first():
    assert michel.ranking(SCORES)[:4] == [(0, 1), (1, 0), (1, 2), (1, 1)]
    assert michel.least(SCORES, 4) == {0: (1,), 1: (0, 1, 2)}
    assert michel.least(SCORES, 4, one_a_layer=True) == {0: (1, 2), 1: (0, 2)}
    assert michel.least(SCORES, 0) == {} and michel.least(SCORES, 9) == {0: (0, 1, 2), 1: (0, 1, 2), 2: (0, 1, 2)}
    assert michel.least([np.zeros(2), np.zeros(2)], 3) == {0: (0, 1), 1: (0,)}
    assert michel.least(SCORES, 6, one_a_layer=True) == {0: (1, 2), 1: (0, 2), 2: (1, 2)}
    for count, one in ((10, False), (7, True)):
        with pytest.raises(WrongUsage, match="need 1 more heads to take out than can go"):
            michel.least(SCORES, count, one)


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 99), st.floats(0, 1), st.floats(0.01, 1), st.booleans())
def test_steps_take_out_what_one_step_would(layers, heads, seed, keep, step, one_a_layer):
    scores = list(np.random.default_rng(seed).random((layers, heads)))
    most = layers * heads - round(keep * layers * heads)
    if one_a_layer and most > layers * (heads - 1):
        with pytest.raises(WrongUsage):
            michel.steps(scores, keep, step, one_a_layer)
        return
    left = [list(range(heads)) for _ in range(layers)]
    found = michel.steps(scores, keep, step, one_a_layer)
    for gone in found:
        assert 1 <= sum(map(len, gone.values())) <= max(1, np.ceil(step * layers * heads))
        for l, numbers in gone.items():
            left[l] = [head for i, head in enumerate(left[l]) if i not in numbers]
    at_once = michel.least(scores, most, one_a_layer)
    assert left == [[h for h in range(heads) if h not in at_once.get(l, ())] for l in range(layers)]


def test_the_steps_of_bert_base():
    scores = list(np.random.default_rng(0).random((12, 12)))
    assert [sum(map(len, gone.values())) for gone in michel.steps(scores, 0.5)] == [14, 15, 14, 15, 14]
    assert [sum(map(len, gone.values())) for gone in michel.steps(scores, 0.85)] == [14, 8]
    assert len(michel.steps(scores, 0.5, 1.0)) == 1
    assert michel.steps(scores, 1.0) == [] and sum(map(len, michel.steps(scores, 0.0)[0].values())) == 14
    for keep, step in ((-0.1, 0.1), (1.1, 0.1), (0.5, 0.0), (0.5, 1.1)):
        with pytest.raises(WrongUsage, match="need a share of heads to keep from 0 to 1 and steps above 0"):
            michel.steps(scores, keep, step)


def test_fine_tuning_between_is_that_of_bert():
    first, second = method.stages(2)
    assert (first.name, second.name) == ("prune 1", "prune 2") and first.terms == bert.finetune.terms
    assert all(recipe.epochs == 1 for recipe in first.recipes.values()) and first.recipes.keys() == {"paper", "laptop"}
