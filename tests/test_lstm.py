"""The LSTM as op and modules: its equations step by step, states that padding passes through, sequences as vectors.

Against PyTorch: test_ops.py; fused against plain: test_kernels.py.
"""

import numpy as np
import pytest
from hypothesis import given, strategies as st

import gradcheck
import strict_device
from gradcheck import assert_close64
from strategies import prefix_masks
from tinydistill import Tensor, gradients, kernels, ops
from tinydistill.nn import BidirectionalLstm, Lstm

both_kernels = pytest.mark.parametrize("choice", ["plain", "fused"])
B, T, D, H = 4, 6, 5, 3
MASK = np.arange(T) < np.array([6, 2, 1, 5])[:, None]


def drawn(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def arrays(seed=0, batch=B, length=T):
    return drawn((batch, length, D), (4 * H, D), (4 * H, H), (4 * H,), (4 * H,), seed=seed)


def build(module, seed=3):
    for i, parameter in enumerate(module.parameters()):
        parameter.array, = drawn(parameter.shape, seed=seed + i)
    return module


@both_kernels
def test_one_unit_by_hand(choice):
    """H = D = 1, every number written out: a wrong gate, order or sign shows."""
    w, u, b, b2 = np.array([[1, 2, 3, 4], [5, -6, 7, -8], [1, 2, 3, 4], [10, 10, 10, 10]]) / 10
    x, h, c, want = [2.0, -3.0, 0.5], 0.0, 0.0, []
    for x_t in x:
        i, f, g, o = w * x_t + u * h + b + b2
        i, f, o = (1 / (1 + np.exp(-a)) for a in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
        want.append(h)
    with kernels.use(choice):
        states = ops.lstm(np.reshape(x, (1, 3, 1)), w[:, None], u[:, None], b, b2)
    np.testing.assert_allclose(states.array.ravel(), want, rtol=1e-14)


@given(mask=prefix_masks(3, 4, shortest=0), seed=st.integers(0, 2 ** 32 - 1), reverse=st.booleans())
def test_backward_through_time_is_the_derivative(mask, seed, reverse):
    for choice in ("plain", "fused"):
        with kernels.use(choice):
            gradcheck.check(ops.lstm, arrays(seed, *mask.shape), np.random.default_rng(seed), mask=mask,
                            reverse=reverse)


@both_kernels
@pytest.mark.parametrize("reverse", [False, True])
def test_masked_tokens_are_passed_over_wherever_they_are(choice, reverse):
    """Tokens in between, before and after, as if they were not there."""
    x, *weights = arrays()
    mask = np.random.default_rng(1).random((B, T)) < 0.5
    mask[0], mask[1] = False, True
    with kernels.use(choice):
        states = ops.lstm(x, *weights, mask=mask, reverse=reverse).array
        for sequence, read, state in zip(x, mask, states):
            if read.any():
                assert_close64(state[read], ops.lstm(sequence[read][None], *weights, reverse=reverse).array[0])
            h = np.zeros(H)
            for t in range(T)[::-1 if reverse else 1]:
                h = state[t] if read[t] else h
                assert (state[t] == h).all()


@both_kernels
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e4])
def test_what_stands_in_the_padding_changes_no_bit_and_gets_no_gradient(choice, reverse, poison):
    x, *weights = arrays()
    upstream, = drawn((B, T, H), seed=9)            # on the states of the padding, too: they are that of the last token
    results = []
    with kernels.use(choice):
        for filled in (x, np.where(MASK[..., None], x, poison)):
            tensors = [Tensor(a, requires_grad=True) for a in (filled, *weights)]
            states = ops.lstm(*tensors, mask=MASK, reverse=reverse)
            results.append([states.array, *gradients(states, tensors, upstream)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
    dx = results[0][1]
    assert (dx[~MASK] == 0).all() and (dx[MASK] != 0).all()


@both_kernels
def test_the_gates_of_a_masked_token_are_zero(choice):
    """Not what its emptied x would open: by them the pullback passes it over."""
    x, *weights = arrays()
    with kernels.use(choice):
        gates = kernels.of(x).lstm(x, *weights, MASK)[2]
    assert (gates[~MASK] == 0).all() and (gates[MASK] != 0).all()


@both_kernels
def test_one_token_starts_from_nothing(choice):
    x, *weights = arrays(length=1)
    with kernels.use(choice):
        gradcheck.check(ops.lstm, [x, *weights], np.random.default_rng(0))
        tensors = [Tensor(a, requires_grad=True) for a in (x, *weights)]
        by_hidden_weight = gradients(ops.lstm(*tensors).sum(), tensors)[2]
    assert by_hidden_weight.shape == (4 * H, H) and not by_hidden_weight.any()


@both_kernels
def test_gates_that_are_all_but_shut_or_open_stay_finite(choice):
    """Without a warning, and with the gradient 0 that float64 has there."""
    x, *weights = arrays()
    tensors = [Tensor(a, requires_grad=True) for a in (1e4 * x, *weights)]
    with kernels.use(choice):
        states = ops.lstm(*tensors)
        found = gradients(states.sum(), tensors)
    assert np.isfinite(states.array).all() and all(np.isfinite(g).all() for g in found)


def test_a_mask_of_another_shape_is_an_error_that_shows_both():
    x, *weights = arrays()
    with pytest.raises(ValueError, match=r"need a mask \(B, T\): x \(4, 6, 5\), mask \(4, 5\)"):
        ops.lstm(x, *weights, mask=MASK[:, :5])


# ---------------------------------------------------------------- modules

def test_the_vector_of_a_sequence_is_its_last_state_in_either_direction():
    """In reverse the last real token is read first, and padding never."""
    module, (x, *_) = build(BidirectionalLstm(D, H)), arrays()
    assert list(module.named_parameters()) == [
        f"{direction}.{name}" for direction in ("forward", "backward")
        for name in ("input_weight", "hidden_weight", "input_bias", "hidden_bias")]
    assert [p.shape for p in module.forward.parameters()] == [(12, 5), (12, 3), (12,), (12,)]
    found = module(Tensor(x), MASK).array
    assert found.shape == (B, 2 * H)
    forward, backward = module.forward, module.backward
    for b, n in enumerate(MASK.sum(1)):
        alone, every = Tensor(x[b:b + 1, :n]), np.ones((1, n), bool)
        turned = Tensor(x[b:b + 1, :n][:, ::-1])
        onward = Lstm(D, H)
        for p, q in zip(onward.parameters(), backward.parameters()):
            p.array = q.array
        both = forward(alone, every).array[0, -1], onward(turned, every).array[0, -1]
        assert_close64(found[b], np.concatenate(both))
    assert not module(Tensor(x), np.zeros((B, T), bool)).array.any()


def test_on_the_device_the_host_never_waits(strict_cupy):
    module, (x, *_), upstream = build(BidirectionalLstm(D, H)), arrays(), drawn((B, 2 * H), seed=8)[0]

    def both(module, x, mask, upstream):
        leaf = Tensor(x, requires_grad=True)
        y = module(leaf, mask)
        return [y.array, *gradients(y, [leaf, *module.parameters()], upstream)]

    want = both(module, x, MASK, upstream)
    module.to(strict_cupy)
    moved = [strict_cupy.asarray(a) for a in (x, MASK, upstream)]
    with strict_device.no_sync():
        found = both(module, *moved)
    for a, b in zip(found, want, strict=True):
        assert_close64(a.get(), b)
