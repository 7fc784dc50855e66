"""Linear and loss in one, some rows at a time: the same whatever the size of a chunk, and never all logits at once."""

import re
import tracemalloc

import numpy as np
import pytest

from gradcheck import assert_close64, check
from loss_checks import POISONS, assert_same, check_device, check_padding_never_matters, differentiated
from tinydistill import kernels, ops

N, D, TEACHER_D, V = 11, 4, 6, 9
LABELS = np.array([3, -100, 0, 8, 3, 2, -100, 7, 1, 0, 5])
WEIGHTS = np.array([0.5, 0.0, 2.0, 1.0, 0.1, 0.3, 0.0, 1.0, 0.7, 0.2, 3.0])


def entropy_arrays(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in ((N, D), (V, D), (V,))] + [LABELS]


def divergence_arrays(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed + 100)
    shapes = (N, TEACHER_D), (V, TEACHER_D), (V,)
    return entropy_arrays(seed, dtype)[:3] + [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def cross_entropy(*arrays, **settings):
    return ops.linear_cross_entropy(*arrays, **settings)


def divergence(*arrays, **settings):
    return ops.linear_kl_divergence(*arrays, row_weights=WEIGHTS.astype(arrays[0].dtype), temperature=2.5, **settings)


def whole_divergence(*arrays):
    return ops.kl_divergence(ops.linear(*arrays[:3]), ops.linear(*arrays[3:]), weight=WEIGHTS, temperature=2.5)


def whole_entropy(hidden, weight, bias, labels):
    return ops.cross_entropy(ops.linear(hidden, weight, bias), labels)


BOTH = {"cross-entropy": (cross_entropy, whole_entropy, entropy_arrays),
        "divergence": (divergence, whole_divergence, divergence_arrays)}
both = pytest.mark.parametrize("name", BOTH)


@pytest.mark.parametrize("choice", ["plain", "fused"])
@pytest.mark.parametrize("rows_per_chunk", [1, 2, 3, 5, 10, 11, 12, 1000])
@both
def test_every_size_of_a_chunk_gives_what_all_logits_at_once_give(name, rows_per_chunk, choice):
    chunked, whole, arrays = BOTH[name]
    with kernels.use(choice):
        got = differentiated(lambda *x: chunked(*x, rows_per_chunk=rows_per_chunk), arrays())
        want = differentiated(whole, arrays())
    assert_same((got[0], got[1][:3]), (want[0], want[1][:3]), 1e-13)
    assert all(g is None for g in got[1][3:])


@both
def test_the_pullback_is_the_derivative_of_the_forward(name):
    chunked, _, arrays = BOTH[name]
    check(lambda *x: chunked(*x, rows_per_chunk=4), arrays(1), np.random.default_rng(2),
          without_gradient=(3, 4, 5) if name == "divergence" else ())


@both
def test_float32_stays_float32(name):
    chunked, _, arrays = BOTH[name]
    value, found = differentiated(lambda *x: chunked(*x, rows_per_chunk=3), arrays(3, np.float32))
    assert value.dtype == np.float32 and all(g.dtype == np.float32 for g in found[:3])


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
def test_rows_that_do_not_count_never_matter(poison):
    outside = {0: LABELS == -100}
    check_padding_never_matters(lambda *x: cross_entropy(*x, rows_per_chunk=3), entropy_arrays(4), outside, poison)
    outside = {0: WEIGHTS == 0, 3: WEIGHTS == 0}
    arrays = divergence_arrays(4)

    def loss(hidden, weight, bias, teacher_hidden):
        return divergence(hidden, weight, bias, getattr(teacher_hidden, "array", teacher_hidden), *arrays[4:],
                          rows_per_chunk=3)
    clean = differentiated(loss, arrays[:4])
    for x, place in ((arrays[0], 0), (arrays[3], 3)):
        x[outside[place]] = poison(x[outside[place]])
    dirty = differentiated(loss, arrays[:4])
    assert dirty[0] == clean[0] and (dirty[1][0][WEIGHTS == 0] == 0).all()
    assert all((g == was).all() and g.any() for g, was in zip(dirty[1][:3], clean[1][:3]))


@both
def test_a_device_computes_the_same_and_the_host_never_waits(name, strict_cupy):
    chunked, _, arrays = BOTH[name]

    def loss(*x):
        if name == "cross-entropy":
            return chunked(*x, rows_per_chunk=4)
        like = x[0].array
        weights = strict_cupy.asarray(WEIGHTS) if isinstance(like, strict_cupy.ndarray) else WEIGHTS
        return ops.linear_kl_divergence(*x, row_weights=weights, temperature=2.5, rows_per_chunk=4)

    check_device(loss, arrays(5), strict_cupy)


def test_the_defaults_are_temperature_one_and_a_chunk_that_holds_many_rows():
    arrays = divergence_arrays(6)
    got = ops.linear_kl_divergence(*arrays, row_weights=WEIGHTS).array
    assert_close64(got, ops.kl_divergence(ops.linear(*arrays[:3]), ops.linear(*arrays[3:]), weight=WEIGHTS).array)


def test_all_logits_are_never_there_at_once():
    rows, classes = 2048, 4096                      # 64 MiB of logits in float64; 32 rows of them are 1 MiB
    rng = np.random.default_rng(7)
    hidden, weight, bias = rng.standard_normal((rows, 8)), rng.standard_normal((classes, 8)), np.zeros(classes)
    labels, row_weights = rng.integers(0, classes, rows), np.full(rows, 1 / rows)
    for run in (lambda: ops.linear_cross_entropy(hidden, weight, bias, labels, rows_per_chunk=32),
                lambda: ops.linear_kl_divergence(hidden, weight, bias, hidden, weight, bias, row_weights=row_weights,
                                                 rows_per_chunk=32)):
        tracemalloc.start()
        run()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < rows * classes * 8 / 4


@pytest.mark.parametrize("rows_per_chunk", [0, -3])
def test_a_chunk_has_a_row(rows_per_chunk):
    for chunked, _, arrays in BOTH.values():
        with pytest.raises(ValueError, match=f"need at least 1 row a chunk, got {rows_per_chunk}"):
            chunked(*arrays(), rows_per_chunk=rows_per_chunk)


def test_shapes_that_do_not_fit_are_named():
    hidden, weight, bias, *teacher = divergence_arrays()
    for student, text in [((hidden[:3], weight, bias), "student (3, 4) by (9, 4), teacher (11, 6) by (9, 6)"),
                          ((hidden, weight[:5], bias[:5]), "student (11, 4) by (5, 4), teacher (11, 6) by (9, 6)"),
                          ((hidden[:, None], weight, bias), "student (11, 1, 4) by (9, 4), teacher (11, 6) by (9, 6)")]:
        with pytest.raises(ValueError, match=re.escape("need hidden (N, D) and weight (V, D) of one N and V: " + text)):
            ops.linear_kl_divergence(*student, *teacher, row_weights=np.ones(1))
    for labels, states in [(LABELS[:3], hidden), (LABELS, hidden[:, 0])]:
        with pytest.raises(ValueError, match=re.escape("need hidden (N, D) and labels (N,): hidden ")):
            ops.linear_cross_entropy(states, weight, bias, labels)
    with pytest.raises(ValueError, match="need labels from 0 to 6 or -100; got 8 in row 3"):
        ops.linear_cross_entropy(hidden, weight[:7], bias[:7], LABELS)
