"""project_heads where a loss reads only some of queries, keys and values: those gradients, and None for the others."""

import itertools

import numpy as np
import pytest

from tinydistill import Tensor, gradients, ops


@pytest.mark.parametrize("read", [c for n in (1, 2, 3) for c in itertools.combinations(range(3), n)])
def test_what_is_not_read_has_no_gradient(read):
    rng = np.random.default_rng(0)
    x = Tensor(rng.standard_normal((2, 5, 6)), requires_grad=True)
    shapes = [(8, 6), (8,)] * 3
    parameters = [Tensor(rng.standard_normal(shape), requires_grad=True) for shape in shapes]
    heads = ops.project_heads(x, *parameters, heads=2)
    upstream = [rng.standard_normal((2, 2, 5, 4)) for _ in range(3)]
    loss = sum((heads[i] * upstream[i]).sum() for i in read)
    dx, *found = gradients(loss, [x, *parameters])

    expected_dx = np.zeros(x.shape)
    for i in range(3):
        dweight, dbias = found[2 * i:2 * i + 2]
        if i not in read:
            assert dweight is None and dbias is None
            continue
        dy = upstream[i].transpose(0, 2, 1, 3).reshape(10, 8)           # one linear map for each, written out
        np.testing.assert_allclose(dweight, dy.T @ x.array.reshape(10, 6), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(dbias, dy.sum(axis=0), rtol=1e-12, atol=1e-13)
        expected_dx += (dy @ parameters[2 * i].array).reshape(x.shape)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-12, atol=1e-12)
