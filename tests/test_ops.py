"""Every op against PyTorch, with a random upstream gradient: both sets of kernels, both libraries, any memory layout."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import strict_device
from gradcheck import value_and_gradients
from oracle.torch_check import against_torch, torch
from strategies import LAYOUTS, arrays, broadcast_pairs, shapes
from tinydistill import Tensor, gradients, kernels, ops
from tinydistill.ops.dropout import kept

F = torch.nn.functional
rng = np.random.default_rng(0)
B, A, T, K, D, V = 2, 3, 5, 4, 12, 7                # D = A K; otherwise all different, so that a wrong axis cannot fit


def n(*shape):
    return rng.standard_normal(shape)


def positive(*shape):
    return rng.uniform(0.2, 3.0, shape)


def bits(*shape):
    return rng.integers(0, 65536, shape, np.uint16)


padding = np.arange(T) < np.array([5, 2])[:, None]                                      # (B, T)
keys = padding[:, None, None, :]                                                        # (B, 1, 1, T)
holes = rng.random((B, A, T, T)) < 0.6                                                  # (B, A, T, T)
holes[1, 2, 3] = False                              # a row without any key


# ---------------------------------------------------------------- the same functions in PyTorch

def lowered(x, mask):
    """Scores that PyTorch's softmax can take: -inf at masked keys, 0 in a row without any."""
    return x if mask is None else torch.where(mask.any(-1, keepdim=True), torch.where(mask, x, -torch.inf), 0)


def softmax(x, mask=None):
    y = lowered(x, mask).softmax(-1)
    return y if mask is None else torch.where(mask, y, 0)


def log_softmax(x, mask=None):
    y = lowered(x, mask).log_softmax(-1)
    return y if mask is None else torch.where(mask, y, 0)


def dropped(x, bits, rate):
    threshold = round(rate * 65536)
    return x * (bits.int() >= threshold) / (1 - threshold / 65536)


def attention(q, k, v, mask=None, bits=None, rate=0.0):
    if bits is None and mask is None:
        return F.scaled_dot_product_attention(q, k, v)
    p = softmax(q @ k.mT / K ** 0.5, mask)
    return (p if bits is None else dropped(p, bits, rate)) @ v


def project_heads(x, *weights, heads):
    return tuple(F.linear(x, w, b).unflatten(-1, (heads, -1)).transpose(1, 2) for w, b in zip(weights[::2], weights[1::2]))


def kl_divergence(student, teacher, weight, mask=None, temperature=1.0):
    log_q, log_p = log_softmax(student / temperature, mask), log_softmax(teacher / temperature, mask)
    each = F.kl_div(log_q, log_p, reduction="none", log_target=True)
    return (weight * (each if mask is None else torch.where(mask, each, 0)).sum(-1)).sum()


def cross_entropy(logits, labels):
    return F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")


def same(function, *inputs):
    """What is written alike for our Tensors and PyTorch's."""
    return function, function, inputs, {}


projections = [w for _ in range(3) for w in (n(D, D), n(D))]
CASES = {                                           # name: (op, its twin, arrays, settings)
    "add: broadcast": (ops.add, torch.add, [n(B, 1, T), n(A, 1)], {}),
    "subtract: broadcast": (ops.subtract, torch.subtract, [n(1, T), n(B, A, T)], {}),
    "multiply: broadcast": (ops.multiply, torch.multiply, [n(B, A, 1), n(T)], {}),
    "divide: broadcast": (ops.divide, torch.divide, [n(B, 1, T), positive(A, 1)], {}),
    "operators with numbers": same(lambda x: (2.5 + x) * 3.0 - (x * 0.5 - 1.5) / 4.0 + 2.0 * x - (7.0 - x), n(A, T)),
    "a number over x": same(lambda x: 2.5 / x - 1.5, positive(A, T)),
    "negative": (ops.negative, torch.negative, [n(A, T)], {}),
    "minus": same(lambda x: -x, n(A, T)),
    "exp": (ops.exp, torch.exp, [n(A, T)], {}),
    "log": (ops.log, torch.log, [positive(A, T)], {}),
    "sqrt": (ops.sqrt, torch.sqrt, [positive(A, T)], {}),
    "tanh": (ops.tanh, torch.tanh, [n(A, T)], {}),
    "relu": (ops.relu, torch.relu, [n(A, T)], {}),
    "masked": (ops.masked, lambda x, mask: torch.where(mask, x, 0), [n(B, T, D)], {"mask": padding[..., None]}),
    "sum: all": same(lambda x: x.sum(), n(B, A, T)),
    "sum: an axis": (ops.sum, lambda x, axis: x.sum(axis), [n(B, A, T)], {"axis": 1}),
    "sum: axes kept": same(lambda x: x.sum(axis=(0, -1), keepdims=True), n(B, A, T)),
    "sum: axes": same(lambda x: x.sum(axis=(0, -1)), n(B, A, T)),
    "mean": (ops.mean, torch.mean, [n(B, A, T)], {}),
    "mean: an axis kept": same(lambda x: x.mean(axis=-1, keepdims=True), n(B, A, T)),
    "mean: an axis": same(lambda x: x.mean(axis=0), n(B, A, T)),
    "reshape": (ops.reshape, torch.reshape, [n(B, A, T)], {"shape": (A, B * T)}),
    "reshape: rest": same(lambda x: x.reshape(B * A, -1), n(B, A, T)),
    "transpose": (ops.transpose, lambda x, axes: x.permute(axes), [n(B, A, T, K)], {"axes": (2, 0, 3, 1)}),
    "transpose: method": (lambda x: x.transpose(1, 2, 0), lambda x: x.permute(1, 2, 0), [n(B, A, T)], {}),
    "take: repeated": (ops.take, lambda x, index: x[index.long()], [n(T, D)], {"index": np.array([[0, 4, 4], [4, 1, 0]])}),
    "take: a pair": (ops.take, lambda x, index: x[index[0].long(), index[1].long()], [n(T, D)],
                     {"index": (np.array([1, 1, 3]), np.array([2, 2, 0]))}),
    "take: slices": same(lambda x: x[1:, ..., 2], n(T, A, D)),
    "concatenate": (ops.concatenate, lambda *parts: torch.cat(parts), [n(2, T), n(1, T), n(3, T)], {}),
    "concatenate: an axis": (ops.concatenate, lambda *parts, axis: torch.cat(parts, axis), [n(B, 2, T), n(B, 3, T)], {"axis": -2}),
    "matmul": (ops.matmul, torch.matmul, [n(A, T), n(T, K)], {}),
    "matmul: broadcast": (ops.matmul, torch.matmul, [n(B, 1, A, T), n(3, T, K)], {}),
    "operator @": same(lambda x, y: x @ y, n(B, A, T), n(T, K)),
    "linear": (ops.linear, F.linear, [n(B, T, D), n(V, D), n(V)], {}),
    "linear: no bias": (lambda x, w: ops.linear(x, w, None), F.linear, [n(B, T, D), n(V, D)], {}),
    "embedding": (ops.embedding, lambda table, ids: F.embedding(ids, table), [n(V, D), rng.integers(0, 3, (B, T))], {}),
    "softmax": (ops.softmax, softmax, [n(B, A, T)], {}),
    "softmax: keys": (ops.softmax, softmax, [n(B, A, T, T)], {"mask": keys}),
    "softmax: holes": (ops.softmax, softmax, [n(B, A, T, T)], {"mask": holes}),
    "log_softmax": (ops.log_softmax, log_softmax, [n(B, A, T)], {}),
    "log_softmax: keys": (ops.log_softmax, log_softmax, [n(B, A, T, T)], {"mask": keys}),
    "log_softmax: holes": (ops.log_softmax, log_softmax, [n(B, A, T, T)], {"mask": holes}),
    "layer_norm": (ops.layer_norm, lambda x, r, g, b, eps: F.layer_norm(x + r, (D,), g, b, eps),
                   [n(B, T, D), n(B, T, D), n(D), n(D)], {"eps": 1e-5}),
    "layer_norm: no residual": (lambda x, g, b: ops.layer_norm(x, None, g, b, eps=0.1),
                                lambda x, g, b: F.layer_norm(x, (D,), g, b, 0.1), [n(B, D), n(D), n(D)], {}),
    "bias_gelu": (ops.bias_gelu, lambda x, bias: F.gelu(x + bias), [3 * n(B, T, D), n(D)], {}),
    "gelu": (ops.gelu, F.gelu, [3 * n(B, T, D)], {}),
    "dropout": (ops.dropout, dropped, [n(B, T, D)], {"bits": bits(B, T, D), "rate": 0.3}),
    "project_heads": (ops.project_heads, project_heads, [n(B, T, D), *projections], {"heads": A}),
    "scaled_product": (ops.scaled_product, lambda x, y: x @ y.mT / K ** 0.5, [n(B, A, T, K), n(B, A, T, K)], {}),
    "attention": (ops.attention, attention, [n(B, A, T, K) for _ in range(3)], {}),
    "attention: keys": (ops.attention, attention, [n(B, A, T, K) for _ in range(3)], {"mask": keys}),
    "attention: one causal mask": (ops.attention, attention, [n(B, A, T, K) for _ in range(3)],
                                   {"mask": np.tril(np.ones((T, T), bool))}),
    "attention: holes, dropout": (ops.attention, attention, [n(B, A, T, K) for _ in range(3)],
                                  {"mask": holes, "bits": bits(B, A, T, T), "rate": 0.4}),
    "cross_entropy": (ops.cross_entropy, cross_entropy, [n(6, V), np.array([3, -100, 0, 6, -100, 3])], {}),
    "cross_entropy: all": (ops.cross_entropy, cross_entropy, [n(4, V), np.array([3, 0, 6, 3])], {}),
    "cross_entropy: none": (ops.cross_entropy, cross_entropy, [n(2, V), np.array([-100, -100])], {}),
    "kl_divergence": (ops.kl_divergence, kl_divergence, [n(B, A, T), n(B, A, T)], {"weight": positive(B, A)}),
    "kl_divergence: holes": (ops.kl_divergence, kl_divergence, [n(B, A, T, T), n(B, A, T, T)],
                             {"weight": positive(B, 1, T) * padding[:, None], "mask": holes, "temperature": 2.5}),
}
TEACHER_LIKE = {"kl_divergence": [1], "kl_divergence: holes": [1]}      # inputs that get no gradient by declaration
every_case = pytest.mark.parametrize("name", CASES)


def converted(settings, convert):
    """The settings with their arrays converted, those in a tuple too."""
    def each(value):
        if isinstance(value, tuple):
            return tuple(map(each, value))
        return convert(value) if isinstance(value, np.ndarray) else value
    return {name: each(value) for name, value in settings.items()}


def reference(name):
    """(outputs, gradients, upstream) of a case in float64, by the kernels in use."""
    op, _, inputs, settings = CASES[name]
    return value_and_gradients(op, inputs, np.random.default_rng(1), **settings)


def test_every_op_has_a_case():
    assert {name.partition(":")[0] for name in CASES} >= set(ops.__all__)


@pytest.mark.parametrize("choice", ["plain", "fused"])
@every_case
def test_value_and_gradients_are_pytorchs(name, choice):
    op, twin, inputs, settings = CASES[name]
    as_torch = converted(settings, torch.tensor)
    with kernels.use(choice):
        against_torch(op, lambda *tensors: twin(*tensors, **as_torch), inputs,
                      without_gradient=TEACHER_LIKE.get(name, ()), **settings)


@every_case
def test_on_the_device_the_host_never_waits(name, strict_cupy):
    op, _, inputs, settings = CASES[name]
    with kernels.use("plain"):
        outputs, found, upstream = reference(name)
    move = strict_cupy.asarray
    settings, inputs, upstream = converted(settings, move), list(map(move, inputs)), list(map(move, upstream))
    with strict_device.no_sync():
        device_outputs, device_found, _ = value_and_gradients(op, inputs, upstream, **settings)
    for got, expected in zip(device_outputs + device_found, outputs + found, strict=True):
        if expected is not None:
            assert isinstance(got, strict_cupy.ndarray)
            np.testing.assert_allclose(got.get(), expected, rtol=1e-10, atol=1e-13)
        else:
            assert got is None


@pytest.mark.parametrize("layout", LAYOUTS)
@every_case
def test_any_memory_layout_gives_the_same_and_is_left_as_it_was(name, layout):
    op, _, inputs, settings = CASES[name]
    outputs, found, upstream = reference(name)

    def move(x):
        return LAYOUTS[layout](x) if x.ndim else x

    inputs, settings, upstream = list(map(move, inputs)), converted(settings, move), [move(np.asarray(u)) for u in upstream]
    before = [hashlib.sha256(x.tobytes()).digest() for x in inputs + upstream]
    again_outputs, again_found, _ = value_and_gradients(op, inputs, upstream, **settings)
    assert [hashlib.sha256(x.tobytes()).digest() for x in inputs + upstream] == before
    for got, expected in zip(again_outputs + again_found, outputs + found, strict=True):
        if expected is not None:
            np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-13)


EMPTY = {
    "softmax": (ops.softmax, [n(0, 3)], {}), "log_softmax": (ops.log_softmax, [n(0, 3)], {"mask": np.ones((0, 3), bool)}),
    "layer_norm": (ops.layer_norm, [n(0, T, D), n(0, T, D), n(D), n(D)], {"eps": 1e-12}),
    "bias_gelu": (ops.bias_gelu, [n(0, D), n(D)], {}), "linear": (ops.linear, [n(0, T, D), n(V, D), n(V)], {}),
    "embedding": (ops.embedding, [n(V, D), np.zeros((0, T), int)], {}), "sum": (ops.sum, [n(0, T)], {"axis": 0}),
    "project_heads": (ops.project_heads, [n(0, T, D), *projections], {"heads": A}), "add": (ops.add, [n(0, T), n(T)], {}),
    "attention": (ops.attention, [n(0, A, T, K)] * 3, {"mask": np.ones((0, 1, 1, T), bool)}),
    "cross_entropy": (ops.cross_entropy, [n(0, V), np.zeros(0, int)], {}), "concatenate": (ops.concatenate, [n(0, T), n(2, T)], {}),
    "kl_divergence": (ops.kl_divergence, [n(0, T), n(0, T)], {"weight": n(0)}), "matmul": (ops.matmul, [n(0, T), n(T, K)], {}),
}


@pytest.mark.parametrize("choice", ["plain", "fused"])
@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_batch_has_empty_or_zero_gradients(name, choice):
    op, inputs, settings = EMPTY[name]
    with kernels.use(choice):
        outputs, found, upstream = value_and_gradients(op, inputs, rng, **settings)
    floating = [x for x in inputs if x.dtype == float]
    for x, dx in zip(floating, found):
        if dx is not None:
            assert dx.shape == x.shape
            np.testing.assert_array_equal(dx, upstream[0] if name == "concatenate" and len(x) else 0 * x)
    assert all(y.size == 0 or not y.any() or name == "concatenate" for y in outputs)


# ---------------------------------------------------------------- any shape, any numbers

SEEDS = st.integers(0, 2 ** 32 - 1)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
@given(shapes=broadcast_pairs(), seed=SEEDS)
def test_any_shapes_that_broadcast(name, shapes, seed):
    random = np.random.default_rng(seed)
    pair = [np.asarray(random.uniform(0.5, 2, shape) * random.choice([-1, 1], shape)) for shape in shapes]
    against_torch(getattr(ops, name), getattr(torch, name), pair)


@pytest.mark.parametrize("op, twin", [(ops.softmax, softmax), (ops.log_softmax, log_softmax)])
@given(x=arrays(), masked=st.booleans(), seed=SEEDS)
def test_softmax_of_any_numbers_under_any_mask(op, twin, x, masked, seed):
    mask = np.random.default_rng(seed).random(x.shape) < 0.7 if masked else None
    against_torch(op, lambda scores: twin(scores, torch.tensor(mask) if masked else None), [x], mask=mask)


@given(x=arrays(), seed=SEEDS)
def test_gelu_of_any_numbers(x, seed):
    bias = np.random.default_rng(seed).standard_normal(x.shape[-1])
    against_torch(ops.bias_gelu, lambda x, bias: F.gelu(x + bias), [x, bias])


@given(logits=arrays(shape=shapes(min_dims=2, max_dims=2)), seed=SEEDS)
def test_cross_entropy_of_any_numbers(logits, seed):
    random = np.random.default_rng(seed)
    labels = np.where(random.random(len(logits)) < 0.3, -100, random.integers(0, logits.shape[1], len(logits)))
    against_torch(ops.cross_entropy, cross_entropy, [logits, labels])


@given(x=arrays(shape=shapes().map(lambda shape: shape[:-1] + (shape[-1] + 2,)), scales=(1.0, 1e2, 1e4)), seed=SEEDS)
def test_layer_norm_of_any_numbers(x, seed):
    """Smaller scales and one or two columns are too ill-conditioned for 1e-10: test_kernels.py has them, by the rule."""
    random, width = np.random.default_rng(seed), x.shape[-1:]
    gamma, beta = random.standard_normal((2, *width))
    against_torch(ops.layer_norm, lambda x, r, g, b: F.layer_norm(x + r, width, g, b, 1e-3),
                  [x, random.standard_normal(x.shape), gamma, beta], eps=1e-3)


@given(student=arrays(), temperature=st.sampled_from([0.5, 1.0, 4.0]), seed=SEEDS)
def test_kl_divergence_of_any_numbers(student, temperature, seed):
    random = np.random.default_rng(seed)
    teacher = student + random.standard_normal(student.shape)
    mask, weight = random.random(student.shape) < 0.7, np.asarray(random.random(student.shape[:-1]))
    against_torch(ops.kl_divergence,
                  lambda s, t: kl_divergence(s, t, torch.tensor(weight), torch.tensor(mask), temperature),
                  [student, teacher], without_gradient=[1], weight=weight, mask=mask, temperature=temperature)
