"""Gradients of tables of which few rows were read."""

import dataclasses

import numpy as np
import pytest

import strict_device
from tinydistill import RowSparse, Tensor, gradients, ops
from tinydistill.tensor import add_gradients

rng = np.random.default_rng(0)


def leaf(*shape):
    return Tensor(rng.standard_normal(shape), requires_grad=True)


def test_a_tied_table_gets_the_sum_of_its_sparse_and_its_dense_gradient():
    table, ids = leaf(5, 3), np.array([0, 4, 4])
    upstream = rng.standard_normal((3, 5))

    def decoded(read, decoder):
        return read @ ops.transpose(decoder, axes=(1, 0))

    read, constant = ops.embedding(table, ids), Tensor(table.array)
    whole, = gradients(decoded(read, table), [table], upstream)
    reading, = gradients(decoded(read, constant), [table], upstream)
    decoding, = gradients(decoded(Tensor(read.array), table), [table], upstream)
    assert isinstance(reading, RowSparse) and isinstance(decoding, np.ndarray)
    np.testing.assert_allclose(whole, reading.dense() + decoding, rtol=1e-12)
    np.testing.assert_allclose(add_gradients(decoding, reading), whole, rtol=1e-12)
    np.testing.assert_allclose(add_gradients(reading, decoding), whole, rtol=1e-12)


def test_a_sparse_gradient_of_something_computed_becomes_dense_on_its_way():
    weight = leaf(5, 3)
    upstream = rng.standard_normal((2, 3))
    dweight, = gradients(ops.embedding(weight * 3.0, np.array([2, 2])), [weight], upstream)
    expected = np.zeros((5, 3))
    expected[2] = 3 * upstream.sum(axis=0)
    np.testing.assert_allclose(dweight, expected)


def test_dense_keeps_the_dtype_and_counts_repeated_rows():
    sparse = RowSparse(np.array([2, 0, 2]), np.array([[1.5], [2.0], [4.0]], np.float32), (4, 1))
    dense = sparse.dense()
    assert dense.dtype == np.float32
    np.testing.assert_array_equal(dense, [[2.0], [0.0], [5.5], [0.0]])


def test_adding_gradients_where_one_is_missing():
    a = rng.standard_normal(3)
    assert add_gradients(None, a) is a and add_gradients(a, None) is a and add_gradients(None, None) is None
    pair = add_gradients((a, None), (a, a))
    np.testing.assert_array_equal(pair[0], 2 * a)
    assert pair[1] is a


def test_a_gradient_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RowSparse(np.zeros(1, int), np.zeros((1, 2)), (4, 2)).rows = None


def test_a_tied_table_on_the_device_does_not_make_the_host_wait(strict_cupy):
    array, ids, upstream = rng.standard_normal((5, 3)), np.array([0, 4, 4]), rng.standard_normal((3, 5))

    def differentiate(asarray):
        table = Tensor(asarray(array), requires_grad=True)
        read = ops.embedding(table, asarray(ids)) + ops.embedding(table, asarray(ids))
        sparse, = gradients(read, [table], asarray(upstream[:, :3]))
        return sparse.dense(), gradients(read @ table.transpose(1, 0), [table], asarray(upstream))[0]

    expected = differentiate(np.asarray)
    with strict_device.no_sync():
        found = differentiate(strict_cupy.asarray)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(b.get(), a, rtol=1e-12)
