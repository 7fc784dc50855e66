"""Modules: their equations against PyTorch's, their names, and dropout that belongs to the row."""

import dataclasses

import numpy as np
import pytest

import strict_device
from oracle import torch_modules
from tinydistill import RowSparse, Tensor, gradients, no_grad
from tinydistill.backend import generator, stream, to_host
from tinydistill.errors import Problem
from tinydistill.features import Pass
from tinydistill.nn import Dropout, Embedding, EncoderLayer, FeedForward, LayerNorm, Linear, Module, SelfAttention
from tinydistill.nn.layers import number_dropouts, parameter

rng = np.random.default_rng(0)
B, T, D, A, F = 2, 5, 12, 3, 7
padding = np.arange(T) < np.array([5, 3])[:, None]
keys = padding[:, None, None, :]                    # (B, 1, 1, T)


class Block(Module):
    """Names of every kind: a parameter, a module, a list of modules, and things that are none of these."""

    def __init__(self):
        self.scale = parameter((3,), fill=2.0)
        self.first = Linear(3, 4)
        self.parts = [LayerNorm(4, 1e-5), Dropout(0.5), Linear(4, 2)]
        self.rate = 0.5
        self.sizes = [1, 2]


def encoder_layer(dropout=0.0, attention_dropout=0.0):
    layer = EncoderLayer(D, A, F, 1e-5, dropout, attention_dropout)
    number_dropouts(layer)
    for name, p in layer.named_parameters().items():
        p.array = np.random.default_rng(stream(name)).standard_normal(p.shape) * 0.4
    return layer


def through(layer, x, run, mask=keys):
    return layer(x, *layer.attention.project(x), mask, run)


# ---------------------------------------------------------------- equations

def test_an_encoder_layer_is_pytorchs():
    """torch.nn.TransformerEncoderLayer, post-norm with exact GELU: values at real tokens and every gradient."""
    layer, x, upstream = encoder_layer(), rng.standard_normal((B, T, D)), rng.standard_normal((B, T, D))
    upstream *= padding[..., None]                  # what PyTorch computes at padded positions is its own affair
    tensor = Tensor(x, requires_grad=True)
    y = through(layer, tensor, Pass())
    found = gradients(y, [tensor, *layer.parameters()], upstream)
    theirs, expected = torch_modules.encoder_layer(layer.arrays(), A, 1e-5, x, padding, upstream)
    np.testing.assert_allclose(y.array[padding], theirs[padding], rtol=1e-10, atol=1e-12)
    largest = np.abs(expected["x"]).max()           # the key's bias has gradient 0 but for rounding
    for name, gradient in zip(["x", *layer.named_parameters()], found, strict=True):
        np.testing.assert_allclose(gradient, expected[name], rtol=0, atol=1e-10 * largest, err_msg=name)


def test_an_encoder_layer_runs_on_the_device_without_making_the_host_wait(strict_cupy):
    layer, x, upstream = encoder_layer(0.3, 0.3), rng.standard_normal((B, T, D)), rng.standard_normal((B, T, D))
    run = Pass(training=True, seed=3, step=5)
    y = through(layer, Tensor(x), run)
    expected = [y.array, *gradients(y, layer.parameters(), upstream)]
    layer.to(strict_cupy)
    x, upstream, mask = (strict_cupy.asarray(a) for a in (x, upstream, keys))
    with strict_device.no_sync():
        y = through(layer, Tensor(x), run, mask)
        found = [y.array, *gradients(y, layer.parameters(), upstream)]
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(b.get(), a, rtol=1e-9, atol=1e-11)


def test_padded_tokens_change_nothing_and_get_gradient_zero():
    layer, x, upstream = encoder_layer(), rng.standard_normal((B, T, D)), rng.standard_normal((B, T, D))
    upstream *= padding[..., None]
    results = []
    for poison in (0.0, 7.5):
        tensor = Tensor(np.where(padding[..., None], x, poison), requires_grad=True)
        y = through(layer, tensor, Pass())
        results.append([y.array[padding], *gradients(y, [tensor, *layer.parameters()], upstream)])
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    assert not results[0][1][~padding].any() and results[0][1][padding].all()


def test_small_modules_are_their_equations():
    x, r = rng.standard_normal((B, T, D)), rng.standard_normal((B, T, D))
    linear, norm, table, forward = Linear(D, F), LayerNorm(D, 1e-3), Embedding(9, D), FeedForward(D, F)
    for module in (linear, norm, table, forward):
        for p in module.parameters():
            p.array = rng.standard_normal(p.shape)
    np.testing.assert_allclose(linear(Tensor(x)).array, x @ linear.weight.array.T + linear.bias.array)
    z = x + r
    normal = (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-3)
    np.testing.assert_allclose(norm(Tensor(x), Tensor(r)).array, norm.weight.array * normal + norm.bias.array)
    ids = np.array([[0, 8], [8, 8]])
    np.testing.assert_array_equal(table(ids).array, table.weight.array[ids])
    assert isinstance(gradients(table(ids).sum(), table.parameters())[0], RowSparse)
    np.testing.assert_allclose(forward(Tensor(x)).array, torch_modules.feed_forward(forward.arrays(), x))


def test_new_layers_start_as_they_should():
    norm, linear = LayerNorm(3, 1e-12), Linear(2, 3)
    assert norm.weight.array.tolist() == [1, 1, 1] and norm.bias.array.tolist() == [0, 0, 0] and norm.eps == 1e-12
    assert linear.weight.shape == (3, 2) and linear.bias.shape == (3,)
    for p in [*norm.parameters(), *linear.parameters(), *Embedding(4, 2).parameters()]:
        assert p.requires_grad and p.dtype == np.float32


# ---------------------------------------------------------------- dropout

def test_without_training_nothing_drops():
    layer, x = encoder_layer(0.5, 0.5), Tensor(rng.standard_normal((B, T, D)))
    quiet = through(encoder_layer(), x, Pass()).array
    np.testing.assert_array_equal(through(layer, x, Pass(training=False)).array, quiet)
    np.testing.assert_array_equal(through(encoder_layer(), x, Pass(training=True)).array, quiet)
    trained = through(layer, x, Pass(training=True)).array
    assert (np.abs(trained - quiet) > 1e-3).mean() > 0.9
    rate_zero = Dropout(0.0)
    assert rate_zero(x, Pass(training=True)) is x and Dropout(0.5)(x, Pass()) is x


def test_a_row_drops_the_same_units_wherever_it_is_computed():
    layer, x = encoder_layer(0.3, 0.3), rng.standard_normal((4, T, D))
    run, mask = Pass(training=True, seed=3, step=5, rows=np.array([7, 2, 9, 4])), np.ones((4, 1, 1, T), bool)
    whole = through(layer, Tensor(x), run, mask).array
    parts = [through(layer, Tensor(x[part]), dataclasses.replace(run, rows=run.rows[part]), mask[part]).array
             for part in (slice(0, 1), slice(1, 4))]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-12)
    for other in (dataclasses.replace(run, step=6), dataclasses.replace(run, seed=4)):
        assert (np.abs(through(layer, Tensor(x), other, mask).array - whole) > 1e-3).mean() > 0.9


def test_every_dropout_has_its_own_site_and_rate():
    layer = encoder_layer(0.25, 0.5)
    dropouts = [m for _, m in layer.named_modules() if isinstance(m, Dropout)]
    assert [d.site for d in dropouts] == [0, 1, 2]
    assert [d.rate for d in dropouts] == [0.5, 0.25, 0.25]
    x, run = np.ones((1, 4000)), Pass(training=True)
    kept = [d(Tensor(x), run).array for d in dropouts]
    for d, y in zip(dropouts, kept):
        assert set(np.unique(y)) == {0.0, 1 / (1 - d.rate)}
        assert abs((y == 0).mean() - d.rate) < 6 * np.sqrt(d.rate * (1 - d.rate) / 4000)       # six standard deviations
    assert 1000 < ((kept[1] == 0) != (kept[2] == 0)).sum() < 2000       # independent: 2 * 0.25 * 0.75 * 4000 = 1500


# ---------------------------------------------------------------- Module

def test_parameters_have_dotted_names_in_the_order_of_definition():
    names = ["scale", "first.weight", "first.bias", "parts.0.weight", "parts.0.bias", "parts.2.weight", "parts.2.bias"]
    block = Block()
    assert list(block.named_parameters()) == names
    assert [p.shape for p in block.parameters()] == [(3,), (4, 3), (4,), (4,), (4,), (2, 4), (2,)]
    assert [name for name, _ in block.named_modules()] == ["", "first", "parts.0", "parts.1", "parts.2"]
    nested = Block()
    nested.first = Block()
    assert "first.parts.2.bias" in nested.named_parameters()


def test_matrices_are_drawn_by_name_and_vectors_keep_what_they_are():
    block = Block().initialise(seed=5, std=0.02)
    arrays = block.arrays()
    for name in ("first.weight", "parts.2.weight"):
        drawn = generator(5, stream(name)).standard_normal(arrays[name].shape)
        np.testing.assert_allclose(arrays[name], 0.02 * drawn, rtol=1e-6)
        assert arrays[name].dtype == np.float32
    assert arrays["scale"].tolist() == [2, 2, 2] and arrays["parts.0.weight"].tolist() == [1] * 4
    assert not np.array_equal(Block().initialise(6, 0.02).arrays()["first.weight"], arrays["first.weight"])
    wide = Embedding(300, 200).initialise(1, 0.02).weight.array
    assert abs(wide.std() / 0.02 - 1) < 0.02 and abs(wide.mean()) < 5 * 0.02 / np.sqrt(wide.size)


def test_parameters_move_between_libraries_and_dtypes(xp):
    block = Block().initialise(5, 0.02)
    before = {name: a.copy() for name, a in block.arrays().items()}
    assert block.to(xp) is block
    for name, p in block.named_parameters().items():
        assert isinstance(p.array, xp.ndarray) and p.dtype == np.float32
    block.to(xp, "float64")
    for name, p in block.named_parameters().items():
        assert isinstance(p.array, xp.ndarray) and p.dtype == np.float64
        np.testing.assert_array_equal(to_host(p.array), before[name])
        assert isinstance(block.arrays()[name], np.ndarray)


def test_what_was_saved_is_what_is_loaded(xp):
    source, target = Block().initialise(5, 0.02), Block().to(xp, np.float64)
    saved = source.arrays()
    assert target.load(saved) is target
    for name, p in target.named_parameters().items():
        assert isinstance(p.array, xp.ndarray) and p.dtype == np.float64, "the model keeps its dtype and its library"
        np.testing.assert_array_equal(to_host(p.array), saved[name])
    again = Block().load(saved)
    again.scale.array += 1
    assert saved["scale"].tolist() == [2, 2, 2], "a loaded parameter has memory of its own"


def test_weights_that_do_not_fit_are_a_problem_that_names_them_and_loads_nothing():
    block, arrays = Block(), Block().initialise(5, 0.02).arrays()
    before = {name: a.copy() for name, a in block.arrays().items()}
    renamed = {("first.kernel" if name == "first.weight" else name): a for name, a in arrays.items()}
    with pytest.raises(Problem, match=r"missing \['first.weight'\], unexpected \['first.kernel'\]"):
        block.load(renamed)
    with pytest.raises(Problem, match=r"missing none, unexpected \['extra'\]"):
        block.load(arrays | {"extra": np.zeros(1)})
    with pytest.raises(Problem, match=r"parts.2.bias needs shape \(2,\), got \(3,\)"):
        block.load(arrays | {"parts.2.bias": np.zeros(3, np.float32)})
    for name, array in block.arrays().items():
        np.testing.assert_array_equal(array, before[name])


def test_attention_stops_after_its_projections_and_no_grad_holds_for_modules():
    attention = SelfAttention(D, A, 0.0).initialise(1, 0.3)
    x = Tensor(rng.standard_normal((B, T, D)).astype(np.float32))
    queries, keys, values = attention.project(x)
    assert queries.shape == keys.shape == values.shape == (B, A, T, D // A) and queries.dtype == np.float32
    found = gradients((queries * keys).sum(), attention.parameters())
    reached = [name for name, g in zip(attention.named_parameters(), found) if g is not None]
    assert "output.weight" not in reached and "query.weight" in reached and "key.bias" in reached
    with no_grad():
        assert not attention.project(x)[0].requires_grad
