"""Every op against PyTorch, with a random upstream gradient: both kernels, both libraries, any memory layout."""

import functools

import numpy as np
import pytest

import strict_device
from gradcheck import value_and_gradients
from oracle import torch_ops
from oracle.torch_check import against_torch
from strategies import LAYOUTS
from tinydistill import Tensor, kernels, ops
from tinydistill.ops.dropout import kept

rng = np.random.default_rng(0)
B, A, T, K, D, V = 2, 3, 5, 4, 12, 7                # D = A K; otherwise all different, so that a wrong axis cannot fit


def n(*shape):
    return rng.standard_normal(shape)


padding = np.arange(T) < np.array([5, 2])[:, None]                                      # (B, T)
bits = rng.integers(0, 65536, (B, A, T, T), np.uint16)
keys = padding[:, None, None, :]                                                        # (B, 1, 1, T)
holes = rng.random((B, A, T, T)) < 0.6                                                  # (B, A, T, T)
holes[1, 2, 3] = False                              # a row without any key
qkv = [n(B, A, T, K) for _ in range(3)]
projections = [w for _ in range(3) for w in (n(D, D), n(D))]
lstm = [n(B, T, D), n(4 * K, D), n(4 * K, K), n(4 * K), n(4 * K)]

CASES = {                                           # op, or op: what is special -> (arrays, settings)
    "add": ([n(B, 1, T), n(A, 1)], {}),
    "subtract": ([n(1, T), n(B, A, T)], {}),
    "multiply": ([n(B, A, 1), n(T)], {}),
    "divide": ([n(B, 1, T), n(A, 1) ** 2 + 0.2], {}),
    "negative": ([n(A, T)], {}),
    "exp": ([n(A, T)], {}),
    "log": ([n(A, T) ** 2 + 0.2], {}),
    "sqrt": ([n(A, T) ** 2 + 0.2], {}),
    "tanh": ([n(A, T)], {}),
    "absolute": ([n(A, T)], {}),
    "absolute: zero": ([np.array([-1.5, 0.0, 0.5])], {}),
    "relu": ([np.array([-np.inf, -1.5, 0.0, 0.5])], {}),
    "relu6": ([np.array([-np.inf, -1.5, 0.0, 0.5, 5.5, 6.0, 6.5])], {}),
    "masked": ([n(B, T, D)], {"mask": padding[..., None]}),
    "masked: a fill": ([n(B, T, D)], {"mask": padding[..., None], "fill": -6.0}),
    "sum": ([n(B, A, T)], {}),
    "sum: an axis": ([n(B, A, T)], {"axis": 1}),
    "sum: axes": ([n(B, A, T)], {"axis": (0, -1)}),
    "sum: axes kept": ([n(B, A, T)], {"axis": (0, -1), "keepdims": True}),
    "mean": ([n(B, A, T)], {}),
    "mean: an axis": ([n(B, A, T)], {"axis": 0}),
    "mean: an axis kept": ([n(B, A, T)], {"axis": -1, "keepdims": True}),
    "reshape": ([n(B, A, T)], {"shape": (A, B * T)}),
    "transpose": ([n(B, A, T, K)], {"axes": (2, 0, 3, 1)}),
    "take": ([n(T, D)], {"index": np.array([[0, 4, 4], [4, 1, 0]])}),
    "take: pairs": ([n(T, D)], {"index": (np.array([1, 1, 3]), np.array([2, 2, 0]))}),
    "take: slices": ([n(T, A, D)], {"index": (slice(1, None), ..., 2)}),
    "concatenate": ([n(2, T), n(1, T), n(3, T)], {}),
    "concatenate: one part": ([n(2, T)], {}),
    "concatenate: an axis": ([n(B, 2, T), n(B, 3, T)], {"axis": -2}),
    "matmul": ([n(A, T), n(T, K)], {}),
    "matmul: broadcast": ([n(B, 1, A, T), n(3, T, K)], {}),
    "linear": ([n(B, T, D), n(V, D), n(V)], {}),
    "linear: no bias": ([n(B, T, D), n(V, D), None], {}),
    "grouped_linear": ([n(B, T, D), n(9, D // 3), n(9)], {"groups": 3}),
    "grouped_linear: no bias": ([n(B, T, D), n(8, D // 2), None], {"groups": 2}),
    "grouped_linear: one group": ([n(B, T, D), n(V, D), n(V)], {"groups": 1}),
    "embedding": ([n(V, D), rng.integers(0, 3, (B, T))], {}),
    "embedding: one id": ([n(V, D), np.array([2])], {}),
    "softmax": ([n(B, A, T)], {}),
    "softmax: keys": ([n(B, A, T, T)], {"mask": keys}),
    "softmax: holes": ([n(B, A, T, T)], {"mask": holes}),
    "log_softmax": ([n(B, A, T)], {}),
    "log_softmax: keys": ([n(B, A, T, T)], {"mask": keys}),
    "log_softmax: holes": ([n(B, A, T, T)], {"mask": holes}),
    "layer_norm": ([n(B, T, D), n(B, T, D), n(D), n(D)], {"eps": 1e-5}),
    "layer_norm: no residual": ([n(B, D), None, n(D), n(D)], {"eps": 0.1}),
    "bias_gelu": ([3 * n(B, T, D), n(D)], {}),
    "gelu": ([3 * n(B, T, D)], {}),
    "gelu_new": ([3 * n(B, T, D)], {}),
    "no_norm": ([n(B, T, D), n(B, T, D), n(D), n(D)], {}),
    "no_norm: no residual": ([n(B, D), None, n(D), n(D)], {}),
    "trigram": ([n(B, T, D)], {}),
    "trigram: one token": ([n(B, 1, D)], {}),
    "fake_quantise": ([n(B, T, D)], {"largest": np.array(127 / 64, np.float32), "bits": 8}),
    "fake_quantise: seven levels": ([n(B, T, D)], {"largest": np.array(0.75, np.float32), "bits": 3}),
    "fake_quantise_groups": ([n(6, D)], {"groups": 3, "bits": 4}),
    "fake_quantise_groups: one group": ([n(5, D)], {"groups": 1, "bits": 8}),
    "dropout": ([n(B, A, T, T)], {"bits": bits, "rate": 0.3}),
    "project_heads": ([n(B, T, D), *projections], {"heads": A}),
    "scaled_product": ([n(B, A, T, K), n(B, A, T, K)], {}),
    "scaled_product: one head": ([n(B, T, K), n(B, T, K)], {}),
    "attention": (qkv, {}),
    "attention: keys": (qkv, {"mask": keys}),
    "attention: bits alone": (qkv, {"bits": bits}),
    "attention: causal": (qkv, {"mask": np.tril(np.ones((T, T), bool))}),
    "attention: holes, dropout": (qkv, {"mask": holes, "bits": bits, "rate": 0.4}),
    "lstm": (lstm, {}),
    "lstm: reverse": (lstm, {"reverse": True}),
    "lstm: padding": (lstm, {"mask": padding}),
    "lstm: padding, reverse": (lstm, {"mask": padding, "reverse": True}),
    "lstm: holes": (lstm, {"mask": np.array([[False, True, False, False, True], [False] * 5])}),
    "cross_entropy": ([n(6, V), np.array([3, -100, 0, 6, -100, 3])], {}),
    "cross_entropy: all": ([n(4, V), np.array([3, 0, 6, 3])], {}),
    "cross_entropy: none": ([n(2, V), np.array([-100, -100])], {}),
    "smoothed_cross_entropy": ([n(6, V), np.array([3, -100, 0, 6, -100, 3])], {"smoothing": 0.2}),
    "smoothed_cross_entropy: pad": ([n(6, V), np.array([3, -100, 2, 6, 1, 3])], {"smoothing": 0.2, "pad": 2}),
    "smoothed_cross_entropy: kl": ([n(4, V), np.array([3, 0, -100, 6])], {"smoothing": 0.2, "constant": "kl"}),
    "linear_cross_entropy": ([n(5, D), n(V, D), n(V), np.array([3, -100, 0, 6, 3])], {"rows_per_chunk": 2}),
    "linear_cross_entropy: no bias": ([n(5, D), n(V, D), None, np.array([3, 1, 0, 6, -100])], {}),
    "linear_kl_divergence": ([n(5, D), n(V, D), n(V), n(5, K), n(V, K), n(V)],
                             {"row_weights": np.array([0.5, 0, 2, 1, 0.1]), "temperature": 2.5, "rows_per_chunk": 2}),
    "linear_kl_divergence: no bias": ([n(5, D), n(V, D), None, n(5, K), n(V, K), None],
                                      {"row_weights": np.array([0.3])}),
    "kl_divergence": ([n(B, A, T), n(B, A, T)], {"weight": n(B, A) ** 2 + 0.2}),
    "kl_divergence: holes": ([n(B, A, T, T), n(B, A, T, T)],
                             {"weight": padding[:, None] * n(B, 1, T) ** 2, "mask": holes, "temperature": 2.5}),
    "kl_divergence: cross-entropy": ([n(B, A, T, T), n(B, A, T, T)],
                                     {"weight": padding[:, None] * n(B, 1, T) ** 2, "mask": holes, "temperature": 2.5,
                                      "constant": "cross-entropy"}),
    "squared_error": ([n(B, A, T), n(B, A, T)], {"weight": n(B, A)}),
    "squared_error: padding": ([n(B, A, T), n(B, A, T)], {"weight": np.array([[1.5], [0.0]])}),
    "unit_norm": ([n(B, A, T)], {}),
    "unit_norm: short": ([np.concatenate([n(2, T), 1e-3 * n(2, T)])], {"eps": 0.1}),
}
EMPTY = {                                           # the same with no sequence in the batch
    "softmax": ([n(0, 3)], {}),
    "log_softmax": ([n(0, 3)], {"mask": np.ones((0, 3), bool)}),
    "layer_norm": ([n(0, T, D), n(0, T, D), n(D), n(D)], {"eps": 1e-12}),
    "bias_gelu": ([n(0, D), n(D)], {}),
    "gelu_new": ([n(0, D)], {}),
    "no_norm": ([n(0, T, D), n(0, T, D), n(D), n(D)], {}),
    "trigram": ([n(0, T, D)], {}),
    "fake_quantise": ([n(0, T, D)], {"largest": np.array(1.0, np.float32), "bits": 8}),
    "linear": ([n(0, T, D), n(V, D), n(V)], {}),
    "grouped_linear": ([n(0, T, D), n(9, D // 3), n(9)], {"groups": 3}),
    "embedding": ([n(V, D), np.zeros((0, T), int)], {}),
    "project_heads": ([n(0, T, D), *projections], {"heads": A}),
    "attention": ([n(0, A, T, K)] * 3, {"mask": np.ones((0, 1, 1, T), bool)}),
    "lstm": ([n(0, T, D), *lstm[1:]], {"mask": np.ones((0, T), bool)}),
    "cross_entropy": ([n(0, V), np.zeros(0, int)], {}),
    "smoothed_cross_entropy": ([n(0, V), np.zeros(0, int)], {"smoothing": 0.2, "constant": "kl"}),
    "linear_cross_entropy": ([n(0, D), n(V, D), n(V), np.zeros(0, int)], {}),
    "linear_kl_divergence": ([n(0, D), n(V, D), n(V), n(0, K), n(V, K), n(V)], {"row_weights": n(0)}),
    "kl_divergence": ([n(0, T), n(0, T)], {"weight": n(0)}),
    "squared_error": ([n(0, T), n(0, T)], {"weight": n(0)}),
    "unit_norm": ([n(0, T)], {}),
    "add": ([n(0, T), n(T)], {}),
    "matmul": ([n(0, T), n(T, K)], {}),
    "sum": ([n(0, T)], {"axis": 0}),
}
TEACHERS = {"kl_divergence": [1], "squared_error": [1], "linear_kl_divergence": [3, 4, 5]}        # they get no gradient
OPERATORS = [                                       # (written alike for our Tensors and PyTorch's, arrays)
    (lambda x: (2.5 + x) * 3.0 - (x * 0.5 - 1.5) / 4.0 + 2.0 * x - (7.0 - x) + 2.5 / x, [n(A, T) ** 2 + 0.2]),
    (lambda x, y: x + y - x * y / (x - y), [n(B, A, T), n(A, 1)]),
    (lambda x, y: x @ y, [n(B, A, T), n(T, K)]),
    (lambda x: x.transpose(0, 2, 1) if isinstance(x, Tensor) else x.permute(0, 2, 1), [n(B, A, T)]),
    (lambda x: -x[1:, ..., 2], [n(T, A, D)]),
    (lambda x: x.reshape(B * A, -1) * x.sum() * x.mean(), [n(B, A, T)]),
    (lambda x: x.sum(axis=1) * x.mean(axis=(0, 1)) + x.mean(axis=1, keepdims=True).sum(axis=0), [n(1, A, T)]),
]
every_case = pytest.mark.parametrize("name", CASES)
both_kernels = pytest.mark.parametrize("choice", ["plain", "fused"])


def case(name, table=CASES):
    """(op, its twin in PyTorch, arrays, settings); what stands as None is bound and no longer among the arrays."""
    inputs, settings = table[name]
    op, twin = (getattr(functions, name.partition(":")[0]) for functions in (ops, torch_ops))
    if any(x is None for x in inputs):
        op, twin = with_none(op, inputs), with_none(twin, inputs)
    return op, twin, [x for x in inputs if x is not None], settings


def with_none(function, inputs):
    def called(*given, **settings):
        given = iter(given)
        return function(*[None if x is None else next(given) for x in inputs], **settings)
    return called


def converted(settings, convert):
    """The settings with their arrays converted, those in a tuple too."""
    def each(value):
        if isinstance(value, tuple):
            return tuple(map(each, value))
        return convert(value) if isinstance(value, np.ndarray) else value
    return {name: each(value) for name, value in settings.items()}


def as_torch(twin, settings):
    """The twin with its settings bound."""
    return functools.partial(twin, **converted(settings, torch_ops.torch.tensor))


def test_every_op_has_a_case():
    assert {name.partition(":")[0] for name in CASES} == set(ops.__all__)


@both_kernels
@every_case
def test_value_and_gradients_are_pytorchs(name, choice):
    op, twin, inputs, settings = case(name)
    given = [i for i, x in enumerate(CASES[name][0]) if x is not None]
    teacher = [given.index(i) for i in TEACHERS.get(name.partition(":")[0], []) if i in given]
    with kernels.use(choice):
        against_torch(op, as_torch(twin, settings), inputs, without_gradient=teacher, **settings)


@pytest.mark.parametrize("function, inputs", OPERATORS)
def test_operators_and_methods(function, inputs):
    against_torch(function, function, inputs)


@every_case
def test_on_the_device_the_host_never_waits(name, strict_cupy):
    op, _, inputs, settings = case(name)
    with kernels.use("plain"):
        outputs, found, upstream = value_and_gradients(op, inputs, np.random.default_rng(1), **settings)
    move = strict_cupy.asarray
    settings, inputs, upstream = converted(settings, move), list(map(move, inputs)), list(map(move, upstream))
    with strict_device.no_sync():
        device_outputs, device_found, _ = value_and_gradients(op, inputs, upstream, **settings)
    for got, expected in zip(device_outputs + device_found, outputs + found, strict=True):
        assert (got is None) if expected is None else isinstance(got, strict_cupy.ndarray)
        if got is not None:
            np.testing.assert_allclose(got.get(), expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("layout", LAYOUTS)
@every_case
def test_any_memory_layout_gives_the_same_and_is_left_as_it_was(name, layout):
    op, _, inputs, settings = case(name)
    outputs, found, upstream = value_and_gradients(op, inputs, np.random.default_rng(1), **settings)

    def move(x):
        return LAYOUTS[layout](x) if np.ndim(x) else x
    inputs, upstream, settings = list(map(move, inputs)), list(map(move, upstream)), converted(settings, move)
    before = [np.asarray(x).tobytes() for x in inputs + upstream]
    again_outputs, again_found, _ = value_and_gradients(op, inputs, upstream, **settings)
    assert [np.asarray(x).tobytes() for x in inputs + upstream] == before
    for got, expected in zip(again_outputs + again_found, outputs + found, strict=True):
        if expected is not None:
            np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-13)


@both_kernels
@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_batch_has_empty_or_zero_gradients(name, choice):
    op, _, inputs, settings = case(name, EMPTY)
    with kernels.use(choice):
        outputs, found, _ = value_and_gradients(op, inputs, rng, **settings)
    shapes = [x.shape for x in inputs if x.dtype == float]
    assert not any(y.any() for y in outputs)
    assert all(dx is None or dx.shape == shape and not dx.any() for dx, shape in zip(found, shapes, strict=True))


# ---------------------------------------------------------------- dropout, errors

def test_dropout_keeps_the_mean_over_all_bits_exactly():
    """Every 16-bit integer once: the mean of y is x, whatever the rate was rounded to."""
    everything, x = np.arange(65536).astype(np.uint16), np.full(65536, 3.0)
    for rate in (0.0, 1e-5, 0.1, 1 / 3, 0.9999):
        y = ops.dropout(x, bits=everything, rate=rate).array
        assert abs(y.mean() - 3.0) < 1e-12 and abs((y == 0).mean() - rate) <= 0.5 / 65536
    keep, probability = kept(everything, 0.25)
    assert probability == 0.75 and keep[16384] and not keep[16383]


@pytest.mark.parametrize("rate", [1.0, -0.1, 0.999999])
def test_a_dropout_rate_is_below_one(rate):
    with pytest.raises(ValueError, match=f"need a dropout rate of at least 0 and below 1, got {rate}"):
        ops.dropout(n(B, A, T, T), bits=bits, rate=rate)


@pytest.mark.parametrize("wrong, message", [
    (lambda: ops.matmul(n(3), n(3, 2)), r"need two arrays of at least two axes, got shapes \(3,\) and \(3, 2\)"),
    (lambda: ops.matmul(n(2, 3), n(3)), r"need two arrays of at least two axes, got shapes \(2, 3\) and \(3,\)"),
    (lambda: ops.cross_entropy(n(2, 3, 4), np.zeros(2, int)), r"need logits \(N, V\) .* \(N,\): logits \(2, 3, 4\)"),
    (lambda: ops.cross_entropy(n(2, 3), np.zeros(3, int)), r"logits \(2, 3\), labels \(3,\)"),
    (lambda: ops.kl_divergence(n(2, 3), n(2, 4), weight=n(2)), r"same shape: student \(2, 3\), teacher \(2, 4\)"),
    (lambda: ops.kl_divergence(n(2, 3), n(2, 3), weight=n(2), constant="ce"), "constant kl or cross-entropy, got 'ce'"),
    (lambda: ops.squared_error(n(2, 3), n(2, 4), weight=n(2)), r"same shape: student \(2, 3\), teacher \(2, 4\)"),
    (lambda: ops.cross_entropy(n(2, 3), np.array([-100, 3])), "labels from 0 to 2 or -100; got 3 in row 1"),
    (lambda: ops.cross_entropy(n(2, 3), np.array([-1, 2])), "labels from 0 to 2 or -100; got -1 in row 0"),
    (lambda: ops.embedding(n(4, 3), np.array([[0, 4]])), "ids from 0 to 3; got ids from 0 to 4"),
    (lambda: ops.embedding(n(4, 3), np.array([-1, 3])), "ids from 0 to 3; got ids from -1 to 3"),
    (lambda: ops.no_norm(n(2, 3), n(3), n(3), n(3)), r"one shape: x \(2, 3\), residual \(3,\)"),
    (lambda: ops.layer_norm(n(2, 3), n(3), n(3), n(3), eps=0.1), r"one shape: x \(2, 3\), residual \(3,\)"),
    (lambda: ops.grouped_linear(n(2, 6), n(4, 2), n(4), groups=2), r"weight \(F, D/2\) .* x \(2, 6\), weight \(4, 2\)"),
    (lambda: ops.grouped_linear(n(2, 6), n(5, 3), n(5), groups=2), r"an F that 2 groups divide: .*weight \(5, 3\)")])
def test_shapes_that_do_not_fit_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
