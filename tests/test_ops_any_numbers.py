"""Ops against PyTorch on any shapes and any numbers, the nasty ones included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle import torch_ops
from oracle.torch_check import against_torch
from strategies import arrays, broadcast_pairs, shapes
from test_ops import as_torch
from tinydistill import ops

SEEDS = st.integers(0, 2 ** 32 - 1)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
@given(shapes=broadcast_pairs(), seed=SEEDS)
def test_any_shapes_that_broadcast(name, shapes, seed):
    random = np.random.default_rng(seed)
    pair = [np.asarray(random.uniform(0.5, 2, shape) * random.choice([-1, 1], shape)) for shape in shapes]
    against_torch(getattr(ops, name), getattr(torch_ops, name), pair)


def beside_an_ordinary_row(x, random):
    """(N, D), and a row that gives the gradient its size: of saturated rows only the rounding of 1 - 1 is left."""
    return np.vstack([x.reshape(-1, x.shape[-1]), random.standard_normal(x.shape[-1])])


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@given(x=arrays(), masked=st.booleans(), seed=SEEDS)
def test_softmax_of_any_numbers_under_any_mask(name, x, masked, seed):
    random = np.random.default_rng(seed)
    x = beside_an_ordinary_row(x, random)
    mask = random.random(x.shape) < np.append(np.full(len(x) - 1, 0.7), 1.0)[:, None] if masked else None
    against_torch(getattr(ops, name), as_torch(getattr(torch_ops, name), {"mask": mask}), [x], mask=mask)


@given(x=arrays(), seed=SEEDS)
def test_gelu_of_any_numbers(x, seed):
    random = np.random.default_rng(seed)
    x, bias = beside_an_ordinary_row(x, random), random.standard_normal(x.shape[-1])
    against_torch(ops.bias_gelu, torch_ops.bias_gelu, [x, bias])


@given(logits=arrays(), seed=SEEDS)
def test_cross_entropy_of_any_numbers(logits, seed):
    random = np.random.default_rng(seed)
    logits = beside_an_ordinary_row(logits, random)
    labels = random.integers(0, logits.shape[1], len(logits))
    labels[:-1][random.random(len(logits) - 1) < 0.3] = -100
    against_torch(ops.cross_entropy, torch_ops.cross_entropy, [logits, labels])


@given(x=arrays(shape=shapes().map(lambda shape: shape[:-1] + (shape[-1] + 2,)), scales=(1.0, 1e2, 1e4)), seed=SEEDS)
def test_layer_norm_of_any_numbers(x, seed):
    """Smaller scales, one or two columns: too ill-conditioned for 1e-10; test_kernels.py has them, by the rule."""
    random, width = np.random.default_rng(seed), x.shape[-1:]
    gamma, beta = random.standard_normal((2, *width))
    against_torch(ops.layer_norm, as_torch(torch_ops.layer_norm, {"eps": 1e-3}),
                  [x, random.standard_normal(x.shape), gamma, beta], eps=1e-3)


@given(student=arrays(), temperature=st.sampled_from([0.5, 1.0, 4.0]), seed=SEEDS)
def test_kl_divergence_of_any_numbers(student, temperature, seed):
    random = np.random.default_rng(seed)
    student = beside_an_ordinary_row(student, random)
    teacher, mask = student + random.standard_normal(student.shape), random.random(student.shape) < 0.7
    mask[-1] = True
    settings = {"weight": np.append(random.random(len(student) - 1), 1.0), "mask": mask, "temperature": temperature}
    against_torch(ops.kl_divergence, as_torch(torch_ops.kl_divergence, settings), [student, teacher],
                  without_gradient=[1], **settings)


@given(x=arrays(scales=(1e-2, 1.0, 1e2, 1e4)), seed=SEEDS)
def test_squared_error_and_unit_norm_of_any_numbers(x, seed):
    random = np.random.default_rng(seed)
    x = beside_an_ordinary_row(x, random)
    settings = {"weight": random.choice([0.0, 0.3, 2.0], len(x))}
    settings["weight"][-1] = 1.0
    against_torch(ops.squared_error, as_torch(torch_ops.squared_error, settings), [x, random.standard_normal(x.shape)],
                  without_gradient=[1], **settings)
