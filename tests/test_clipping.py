"""What happens to gradients before an optimiser sees them: one form, and their norms clipped."""

import numpy as np
import pytest

from gradcheck import assert_within
from oracle import optimizers as oracle
from tinydistill.tensor import RowSparse
from tinydistill.training.optimizers import clipped, clipped_alone, dense, global_norm


@pytest.mark.parametrize("size, largest", [(1.0, 0.5), (0.01, 0.005), (1.0, 100.0)])
def test_the_joint_norm_is_clipped_as_by_pytorch(size, largest):
    rng = np.random.default_rng(1)
    gradients = {"a": size * rng.standard_normal((3, 4)), "unreached": None, "b": size * rng.standard_normal(5)}
    norm = global_norm(gradients)
    got = clipped(gradients, norm, largest)
    want_norm, (a, b) = oracle.clipped([gradients["a"], gradients["b"]], largest)
    assert abs(norm - want_norm) <= 1e-14 * want_norm and got["unreached"] is None
    assert abs(global_norm(got) - min(norm, largest)) <= 1e-14 * largest
    for ours, theirs in ((got["a"], a), (got["b"], b)):
        assert_within(ours, theirs, 1e-6 / norm)                        # PyTorch divides by norm + 1e-6
    zeros = {"a": np.zeros((3, 4))}
    assert (clipped(zeros, global_norm(zeros), largest)["a"] == 0).all()


@pytest.mark.parametrize("largest", [0.5, 100.0], ids=["clipped", "left alone"])
def test_one_norm_is_clipped_as_by_pytorch_to_the_last_digit(largest):
    gradient = np.random.default_rng(2).standard_normal((3, 4))
    assert_within(clipped_alone(gradient, largest), oracle.clipped([gradient], largest)[1][0], 1e-16)
    assert clipped_alone(gradient.astype(np.float32), largest).dtype == np.float32
    assert (clipped_alone(0 * gradient, largest) == 0).all()


def test_a_row_sparse_gradient_is_dense_for_the_optimiser():
    sparse = RowSparse(np.array([2, 0, 2]), np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), (4, 2))
    assert (dense(sparse) == [[3, 4], [0, 0], [6, 8], [0, 0]]).all() and dense(None) is None
