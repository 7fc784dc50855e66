"""What belongs to one thread, and what several may share."""

import threading

import numpy as np

from tinydistill import Tensor, gradients, no_grad, ops
from tinydistill.tensor import grad_enabled

rng = np.random.default_rng(0)


def leaf(*shape):
    return Tensor(rng.standard_normal(shape), requires_grad=True)


def test_no_grad_belongs_to_its_thread():
    seen = []
    with no_grad():
        thread = threading.Thread(target=lambda: seen.append((grad_enabled(), (leaf(2) * 2.0).requires_grad)))
        thread.start()
        thread.join()
        assert not grad_enabled()
    assert seen == [(True, True)]


def test_four_threads_differentiate_the_same_parameters_at_once():
    weight, table = leaf(6, 6), leaf(5, 6)
    batches = [rng.integers(0, 5, 4) for _ in range(4)]
    upstream = rng.standard_normal((4, 6))

    def work(ids):
        x = ops.embedding(table, ids)
        for _ in range(20):
            x = ops.tanh(x @ weight) + x
        dweight, dtable = gradients(x, [weight, table], upstream)
        return dweight, dtable.dense()

    alone = [work(ids) for ids in batches]
    together, start = [None] * 4, threading.Barrier(4)

    def worker(i):
        start.wait()
        together[i] = [work(batches[i]) for _ in range(5)]

    threads = [threading.Thread(target=worker, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for expected, runs in zip(alone, together):
        for run in runs:
            for a, b in zip(expected, run):
                np.testing.assert_array_equal(a, b)
    assert weight.grad is None and table.grad is None
