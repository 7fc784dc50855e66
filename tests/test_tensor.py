"""The engine: what every other derivative in the house relies on."""

import gc
import weakref

import numpy as np
import pytest

from tinydistill import RowSparse, Tensor, gradients, no_grad, ops
from tinydistill.tensor import grad_enabled, op, topological_order

rng = np.random.default_rng(0)
u = rng.standard_normal((3, 3))                     # the upstream gradient: never ones


def leaf(*shape):
    return Tensor(rng.standard_normal(shape), requires_grad=True)


@op
def halves(x, *, spy=None):
    """Two outputs; `spy` keeps the gradients that arrive at them."""
    def pullback(da, db):
        if spy is not None:
            spy.append((da, db))
        parts = [0 * y if dy is None else c * dy for c, dy, y in zip((2, 3), (da, db), np.split(x, 2, axis=-1))]
        return (np.concatenate(parts, axis=-1),)
    half = x.shape[-1] // 2
    return (2 * x[..., :half], 3 * x[..., half:]), pullback


@op
def failing(x):
    def pullback(dy):
        raise ZeroDivisionError("in the pullback")
    return x, pullback


# ---------------------------------------------------------------- what other engines got wrong

def test_the_same_input_twice():
    x = leaf(3, 3)
    a = x.array
    for y, dx in [(x * x, 2 * a * u), (x * x + x, (2 * a + 1) * u), (x - x, 0 * u), (x + x, 2 * u),
                  (x @ x, u @ a.T + a.T @ u), (x / x, 0 * u)]:
        np.testing.assert_allclose(gradients(y, [x], u)[0], dx, rtol=1e-12, atol=1e-13)


def test_no_gradient_is_added_up_in_place_into_a_shared_array():
    a, b = leaf(3, 3), leaf(3, 3)
    before = u.copy()
    da, db = gradients(3.0 * a + (a + b), [a, b], u)
    np.testing.assert_allclose([da, db, u], [4 * u, u, before])


def test_a_diamond_is_walked_once():
    calls = []

    @op
    def counted(x):
        return x * x, lambda dy: calls.append(dy) or (2 * x * dy,)

    x = leaf(3, 3)
    middle = counted(x)
    loss = ops.exp(middle) * middle + middle / 2.0
    dx, = gradients(loss, [x], u)
    m = middle.array
    assert len(calls) == 1
    np.testing.assert_allclose(dx, u * (np.exp(m) * (m + 1) + 0.5) * 2 * x.array, rtol=1e-12)


def test_a_long_chain_is_built_differentiated_and_deleted_without_recursion():
    x = leaf(3)
    y = x
    for i in range(100_000):
        y = y * 1.00001 if i % 2 else -y
    np.testing.assert_allclose(gradients(y, [x], u[0])[0], u[0] * 1.00001 ** 50_000, rtol=1e-9)
    gone = weakref.ref(y)
    del y
    gc.collect()
    assert gone() is None


def test_repeated_indices_all_count():
    table, ids = leaf(4, 3), np.array([[1, 3, 1], [1, 0, 3]])
    upstream = rng.standard_normal((2, 3, 3))
    expected = np.zeros((4, 3))
    for i, row in np.ndenumerate(ids):
        expected[row] += upstream[i]
    sparse, = gradients(ops.embedding(table, ids), [table], upstream)
    np.testing.assert_allclose(sparse.dense(), expected, rtol=1e-12)
    np.testing.assert_allclose(gradients(table[ids], [table], upstream)[0], expected, rtol=1e-12)


# ---------------------------------------------------------------- gradients: what it returns and what it leaves alone

def test_gradients_touches_nothing_and_says_the_same_again():
    x, y = leaf(3, 3), leaf(3, 3)
    loss = ops.softmax(x @ y) * x
    first = gradients(loss, [x, y], u)
    second = gradients(loss, [x, y], u)
    assert x.grad is None and y.grad is None
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a, b)


def test_a_scalar_loss_starts_with_one_and_others_need_dy():
    x = leaf(3)
    np.testing.assert_allclose(gradients((x * x).sum(), [x])[0], 2 * x.array)
    np.testing.assert_allclose(gradients((x * x).sum(), [x], 5.0)[0], 10 * x.array)
    with pytest.raises(ValueError, match=r"need a scalar loss, or dy of its shape; got a loss of shape \(3,\)"):
        gradients(x * x, [x])


def test_what_the_loss_never_reached_has_gradient_none():
    x, unused, constant = leaf(3), leaf(3), Tensor(rng.standard_normal(3))
    dx, dunused, dconstant = gradients(x * constant, [x, unused, constant], u[0])
    np.testing.assert_allclose(dx, u[0] * constant.array)
    assert dunused is None and dconstant is None
    assert gradients(constant * constant, [constant, x], u[0]) == [None, None]


def test_gradients_of_what_lies_on_the_way_and_of_the_loss_itself():
    x = leaf(3)
    y = x * x
    dx, dy, dx_again = gradients(y * 3.0, [x, y, x], u[0])
    np.testing.assert_allclose(dy, 3 * u[0])
    np.testing.assert_allclose(dx, 6 * x.array * u[0])
    np.testing.assert_array_equal(dx, dx_again)
    np.testing.assert_array_equal(gradients(x, [x], u[0])[0], u[0])


def test_a_thunk_is_called_only_if_somebody_asked():
    called = []

    @op
    def product(a, b):
        def first():
            called.append("a")
            return dy_seen[0] * b

        def second():
            called.append("b")
            return dy_seen[0] * a

        dy_seen = []
        return a * b, lambda dy: dy_seen.append(dy) or (first, second)

    x, constant = leaf(3), rng.standard_normal(3)
    np.testing.assert_allclose(gradients(product(x, constant), [x], u[0])[0], u[0] * constant)
    assert called == ["a"]
    gradients(product(Tensor(constant), x), [x], u[0])
    assert called == ["a", "b"]


def test_a_pullback_owes_one_gradient_for_each_input():
    @op
    def forgetful(a, b):
        return a + b, lambda dy: (dy,)
    x = leaf(3)
    with pytest.raises(ValueError, match="shorter"):
        gradients(forgetful(x, x), [x], u[0])


def test_an_input_that_an_op_gives_no_gradient_passes_none_on():
    @op
    def first(a, b):
        return a * b, lambda dy: (dy * b, None)
    x, y, z = leaf(3), leaf(3), leaf(3)
    dx, dy, dz = gradients(first(x, y * z) + z, [x, y, z], u[0])
    np.testing.assert_allclose(dx, u[0] * y.array * z.array)
    np.testing.assert_array_equal(dz, u[0])
    assert dy is None


def test_an_exception_in_a_pullback_leaves_no_state():
    x = leaf(3)
    shared = x * x
    right = gradients(shared, [x], u[0])[0]
    with pytest.raises(ZeroDivisionError):
        gradients(failing(shared) + shared, [x], u[0])
    with pytest.raises(ZeroDivisionError):
        (failing(shared) + shared).sum().backward()
    assert x.grad is None and grad_enabled()
    np.testing.assert_array_equal(gradients(shared, [x], u[0])[0], right)


def test_backward_adds_to_the_grad_of_every_leaf():
    x, table = leaf(3), leaf(4, 3)
    loss = (x * ops.embedding(table, np.array([1, 1, 3]))).sum()
    dx, dtable = gradients(loss, [x, table])
    loss.backward()
    np.testing.assert_allclose(x.grad, dx)
    np.testing.assert_allclose(table.grad.dense(), dtable.dense())
    loss.backward()
    (x * 2.0).sum().backward()
    np.testing.assert_allclose(x.grad, 2 * dx + 2)
    np.testing.assert_allclose(table.grad.dense(), 2 * dtable.dense())
    assert loss.grad is None


# ---------------------------------------------------------------- several outputs, sparse rows, no_grad

def test_unused_outputs_are_none_to_the_pullback():
    x, seen = leaf(3, 4), []
    _, b = halves(x, spy=seen)
    upstream = rng.standard_normal((3, 2))
    dx, = gradients(b, [x], upstream)
    assert seen[0][0] is None
    np.testing.assert_array_equal(seen[0][1], upstream)
    np.testing.assert_allclose(dx, np.concatenate([0 * upstream, 9 * upstream / 3], axis=-1))


def test_outputs_used_together_and_twice():
    x, seen = leaf(3, 4), []
    a, b = halves(x, spy=seen)
    upstream = rng.standard_normal((3, 2))
    dx, = gradients(a * b + a, [x], upstream)
    np.testing.assert_allclose(dx, np.concatenate([2 * upstream * (b.array + 1), 3 * upstream * a.array], axis=-1))
    assert len(seen) == 1, "the op with two outputs is differentiated once"


def test_sums_of_sparse_gradients_stay_sparse():
    table, ids = leaf(5, 3), np.array([0, 4, 4])
    upstream = rng.standard_normal((3, 3))
    read = np.zeros((5, 3))
    np.add.at(read, ids, upstream)
    twice, = gradients(ops.embedding(table, ids) + ops.embedding(table, ids[::-1]), [table], upstream)
    assert isinstance(twice, RowSparse) and twice.shape == (5, 3)
    np.testing.assert_allclose(twice.dense(), read + np.eye(5)[ids[::-1]].T @ upstream)


def test_no_grad_nests_and_ends_with_an_exception():
    x = leaf(3)
    with no_grad():
        with no_grad():
            assert not grad_enabled()
        assert not grad_enabled(), "the inner block does not end the outer one"
        inside = x * x
        parts = halves(leaf(3, 4))
    assert not inside.requires_grad and inside.inputs == () and inside.pullback is None
    assert isinstance(parts, tuple) and not parts[0].requires_grad
    with pytest.raises(RuntimeError), no_grad():
        raise RuntimeError
    assert grad_enabled() and (x * x).requires_grad


# ---------------------------------------------------------------- Tensor and op

def test_a_tensor_shows_its_array():
    x = Tensor(np.array([[1.0, 2.0]], np.float32), requires_grad=True)
    assert (x.shape, x.dtype, x.ndim) == ((1, 2), np.float32, 2)
    assert (repr(x), repr(Tensor(np.array(1.5)))) == \
        ("Tensor(array([[1., 2.]], dtype=float32), requires_grad=True)", "Tensor(array(1.5))")
    assert (x.sum()).item() == 3.0 and isinstance(x.sum().item(), float)
    with pytest.raises(AttributeError):
        x.requires_gard = False                     # a slip of the pen is an error


def test_an_array_on_the_left_leaves_the_work_to_the_tensor():
    x, c = leaf(3, 3), rng.standard_normal((3, 3))
    for y, dx in [(c - x, -u), (c * x, c * u), (c / x, -c / x.array ** 2 * u), (c @ x, c.T @ u)]:
        assert isinstance(y, Tensor)
        np.testing.assert_allclose(gradients(y, [x], u)[0], dx, rtol=1e-12)


def test_an_op_remembers_its_inputs_only_where_a_gradient_can_arrive():
    x, constant = leaf(3), Tensor(rng.standard_normal(3))
    y = x * constant
    assert y.requires_grad and y.inputs == (x, constant)
    z = constant * constant.array
    assert not z.requires_grad and z.inputs == () and z.pullback is None
    assert ops.multiply.__name__ == "multiply" and ops.softmax.__doc__


def test_the_order_has_every_tensor_once_and_before_its_inputs():
    x, constant = leaf(3), Tensor(rng.standard_normal(3))
    a = x * constant
    b = a + x
    loss = a * b
    order = topological_order(loss)
    assert order[0] is loss and {id(t) for t in order} == {id(t) for t in (loss, b, a, x)} and len(order) == 4
    place = {id(t): i for i, t in enumerate(order)}
    assert all(place[id(t)] < place[id(i)] for t in order for i in t.inputs if id(i) in place)


def test_arrays_of_two_libraries_are_an_error_that_names_the_op(strict_cupy):
    x, y = Tensor(np.ones(3), requires_grad=True), Tensor(strict_cupy.asarray(np.ones(3)))
    with pytest.raises(TypeError, match=r"multiply needs all arrays in one library, got numpy\.ndarray, cupy\.ndarray"):
        x * y
    with pytest.raises(TypeError, match=r"layer_norm needs all .* cupy\.ndarray, builtins\.NoneType, numpy\.ndarray"):
        ops.layer_norm(y, None, x, x, eps=1e-12)


def test_an_empty_batch_has_zero_gradients():
    weight, x = leaf(4, 3), Tensor(np.zeros((0, 3)), requires_grad=True)
    loss = (ops.linear(x, weight, None) * 2.0).sum()
    dweight, dx = gradients(loss, [weight, x])
    assert loss.item() == 0.0 and dx.shape == (0, 3)
    np.testing.assert_array_equal(dweight, np.zeros((4, 3)))
