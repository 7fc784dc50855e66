"""MiniLM's two terms: against the printed sums, PyTorch, a complex step and what the paper says must not change them.

Candidates are functions of (student q, k, v, teacher q, k, v, mask), each array (B, A, T, K) with its own K.
"""

import functools
import re

import numpy as np
import pytest
from hypothesis import given, strategies as st

import loss_checks
from gradcheck import C, UNIT, assert_close64, assert_within, kappa
from loss_checks import (POISONS, UPSTREAM, assert_same, check_complex_step, check_device, check_padding_never_matters,
                         features, rows_of_padding)
from oracle import minilm as oracle
from oracle.torch_check import against_torch
from strategies import prefix_masks
from tinydistill import Tensor, gradients, kernels
from tinydistill.features import Batch, Needs
from tinydistill.losses import minilm
from tinydistill.losses.minilm import attention_transfer, value_relation_transfer
from tinydistill_reference import minilm as reference


def attention(sq, sk, sv, tq, tk, tv, mask):
    return attention_transfer(sq, sk, tq, tk, mask)


def value_relation(sq, sk, sv, tq, tk, tv, mask):
    return value_relation_transfer(sv, tv, mask)


def both(*arrays):
    return attention(*arrays) + value_relation(*arrays)


PRINTED = {attention: lambda sq, sk, sv, tq, tk, tv, mask: reference.attention_transfer(sq, sk, tq, tk, mask),
           value_relation: lambda sq, sk, sv, tq, tk, tv, mask: reference.value_relation_transfer(sv, tv, mask),
           both: reference.minilm}
IN_TORCH = {attention: oracle.attention, value_relation: oracle.value_relation, both: oracle.minilm}
READS = {attention: (0, 1), value_relation: (2,), both: (0, 1, 2)}          # of the student's q, k, v
each_loss = pytest.mark.parametrize("loss", PRINTED, ids=lambda loss: loss.__name__)


def example(seed=0, B=3, A=2, T=7, K=4, teacher_K=6, lengths=(7, 4, 2), dtype=np.float64):
    """(student's q, k, v; teacher's q, k, v; mask), with sizes that differ so that no axis is mistaken for another."""
    rng = np.random.default_rng(seed)
    student = [rng.standard_normal((B, A, T, K)).astype(dtype) for _ in "qkv"]
    teacher = [rng.standard_normal((B, A, T, teacher_K)).astype(dtype) for _ in "qkv"]
    return student, teacher, np.arange(T) < np.array(lengths)[:, None]


def differentiated(loss, student, teacher, mask):
    """(value, gradient of UPSTREAM * value for every array of student and teacher)."""
    value, found = loss_checks.differentiated(loss, [*student, *teacher, mask])
    return value, found[:6]


# ---------------------------------------------------------------- three witnesses

@each_loss
def test_value_is_the_printed_sum(loss):
    student, teacher, mask = example()
    assert_close64(loss(*student, *teacher, mask).array, PRINTED[loss](*student, *teacher, mask))


@each_loss
def test_pytorch_in_both_precisions_and_the_teacher_gets_no_gradient(loss):
    student, teacher, mask = example(1)
    unread = [i for i in range(3) if i not in READS[loss]]
    against_torch(loss, IN_TORCH[loss], [*student, *teacher, mask], without_gradient=(*unread, 3, 4, 5))


@each_loss
def test_derivative_of_the_printed_sums_by_complex_step(loss):
    student, teacher, mask = example(2)
    check_complex_step(loss, PRINTED[loss], [*student, *teacher, mask], READS[loss])


# ---------------------------------------------------------------- what must change nothing

@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
@pytest.mark.parametrize("mask", [example()[2], example()[2][:, ::-1], np.tile([1, 0, 1, 1, 0, 0, 1], (3, 1)) == 1],
                         ids=["right", "left", "holes"])
def test_padding_never_matters(poison, mask):
    student, teacher, _ = example(4)
    arrays = [*student, *teacher, mask]
    check_padding_never_matters(both, arrays, {i: rows_of_padding(arrays[i], mask) for i in range(6)}, poison)


def test_more_padding_changes_nothing():
    student, teacher, mask = example(5)
    longer = [[np.pad(x, ((0, 0), (0, 0), (0, 3), (0, 0)), constant_values=9.0) for x in side]
              for side in (student, teacher)]
    value, found = differentiated(both, *longer, np.pad(mask, ((0, 0), (0, 3))))
    assert_same((value, [g if g is None else g[:, :, :7] for g in found]),
                differentiated(both, student, teacher, mask))


def test_equal_relations_are_worth_nothing():
    _, teacher, mask = example(6)
    value, found = differentiated(both, teacher, teacher, mask)
    assert value == 0 and all((g == 0).all() for g in found[:3])


def orthogonal(rng, *shape):
    return np.linalg.qr(rng.standard_normal(shape))[0]


def test_a_rotation_within_a_head_leaves_the_relations_alone():
    student, teacher, mask = example(7)
    rng, (q, k, v) = np.random.default_rng(8), student
    rotation, stretch = orthogonal(rng, 2, 4, 4), np.diag([0.5, 0.8, 1.5, 2.0])
    m = rotation @ stretch @ orthogonal(rng, 2, 4, 4)                                   # (A, K, K)
    value, found = differentiated(both, student, teacher, mask)
    inverse = np.linalg.inv(m)
    moved = q @ m, k @ inverse.swapaxes(1, 2), v @ rotation                             # Q -> QM, K -> K M^-T, V -> VR
    moved_gradients = found[0] @ inverse.swapaxes(1, 2), found[1] @ m, found[2] @ rotation
    assert_same(differentiated(both, moved, teacher, mask), (value, [*moved_gradients, None, None, None]), 1e-12)


@each_loss
def test_heads_are_compared_pairwise(loss):
    student, teacher, mask = example(9, A=3)
    order = [2, 0, 1]
    value = loss(*student, *teacher, mask).item()
    student_moved, teacher_moved = ([x[:, order] for x in side] for side in (student, teacher))
    assert abs(loss(*student_moved, *teacher_moved, mask).item() - value) <= 1e-14 * value
    assert abs(loss(*student_moved, *teacher, mask).item() - value) > 1e-3 * value


def model(tensors, mask):
    """One layer whose queries, keys and values these are."""
    return features(mask, queries=tensors[:1], keys=tensors[1:2], values=tensors[2:])


def test_the_terms_read_the_last_layer_of_each_and_nothing_else():
    for term, fields in ((minilm.attention, ("queries", "keys")), (minilm.value_relation, ("values",))):
        assert term.student_needs == term.teacher_needs == Needs.of(**{field: [-1] for field in fields})


@pytest.mark.parametrize("term", [minilm.attention, minilm.value_relation], ids=lambda term: term.name)
@pytest.mark.parametrize("parts", [1, 2, 3, 4, 5, [[0], [1, 2, 3, 4]], [[0, 1, 2], [3], [4]]], ids=str)
def test_any_split_gives_the_whole_batchs_loss_and_gradient(term, parts):
    student, teacher, mask = example(10, B=5, lengths=(7, 1, 4, 2, 6))
    batch = Batch(ids=np.zeros(mask.shape, int), mask=mask)
    tensors, divisor = [Tensor(x, requires_grad=True) for x in student], term.divisor(batch)
    rows = [p.rows for p in batch.split(parts)] if isinstance(parts, int) else parts
    assert len(rows) == (parts if isinstance(parts, int) else len(parts)) and divisor == 5

    def shard(rows):
        return term(model([t[rows] for t in tensors], mask[rows]), model([x[rows] for x in teacher], mask[rows]),
                    Batch(ids=batch.ids[rows], mask=mask[rows]), divisor)

    total = functools.reduce(lambda a, b: a + b, map(shard, rows))
    whole = term(model(tensors, mask), model(teacher, mask), batch, divisor)
    assert_same((total.array, gradients(total, tensors)), (whole.array, gradients(whole, tensors)))


# ---------------------------------------------------------------- edges

def test_a_sequence_of_one_token_has_nothing_to_say():
    student, teacher, mask = example(11, lengths=(7, 1, 2))
    value, found = differentiated(both, student, teacher, mask)
    others = [[x[[0, 2]] for x in side] for side in (student, teacher)]
    assert_within(value, both(*others[0], *others[1], mask[[0, 2]]).array * 2 / 3, 1e-14)
    assert all((g[1] == 0).all() and g[0].any() for g in found[:3])


def test_a_sequence_without_tokens_is_named():
    student, teacher, mask = example(12, lengths=(7, 3, 0))
    for loss in (attention, value_relation):
        with pytest.raises(ValueError, match="real token in every sequence; sequence 2 of the mask has none"):
            loss(*student, *teacher, mask)


@pytest.mark.parametrize("places, shape, text", [
    ([0], (3, 2, 6, 4), "the same (B, A, T): student (3, 2, 6, 4), teacher (3, 2, 7, 6), mask (3, 7)"),     # lengths
    ([1], (3, 4, 7, 4), "the same (B, A, T): student (3, 4, 7, 4), teacher (3, 2, 7, 6), mask (3, 7)"),     # heads
    ([2], (2, 2, 7, 4), "the same (B, A, T): student (2, 2, 7, 4), teacher (3, 2, 7, 6), mask (3, 7)"),     # batches
    ([4], (3, 1, 7, 6), "the same (B, A, T): student (3, 2, 7, 4), teacher (3, 1, 7, 6), mask (3, 7)"),
    ([1, 4], (3, 1, 7, 4), "queries and keys of one shape: queries (3, 2, 7, 4), keys (3, 1, 7, 4)"),
    ([3], (3, 2, 7, 5), "queries and keys of one shape: queries (3, 2, 7, 5), keys (3, 2, 7, 6)"),
    ([6], (3, 6), "the same (B, A, T): student (3, 2, 7, 4), teacher (3, 2, 7, 6), mask (3, 6)"),
    ([6], (1, 7), "the same (B, A, T): student (3, 2, 7, 4), teacher (3, 2, 7, 6), mask (1, 7)")])
def test_shapes_that_do_not_fit_are_an_error_that_shows_them(places, shape, text):
    student, teacher, mask = example()
    arrays = [*student, *teacher, mask]
    for place in places:
        arrays[place] = np.ones(shape, arrays[place].dtype)
    with pytest.raises(ValueError, match=re.escape("need " + text)):
        both(*arrays)


@pytest.mark.parametrize("dtype", [int, np.float32])
def test_a_mask_of_numbers_is_refused(dtype):
    student, teacher, mask = example()
    for loss in (attention, value_relation):
        with pytest.raises(ValueError, match=f"need a mask of bool, True at real tokens; got {np.dtype(dtype)}"):
            loss(*student, *teacher, mask.astype(dtype))


def test_sharp_and_shifted_scores_stay_finite_and_right():
    student, teacher, mask = example(13)
    sharp = [40 * student[0], student[1], 6 * student[2]], [40 * teacher[0], teacher[1], 6 * teacher[2]]
    against_torch(both, oracle.minilm, [*sharp[0], *sharp[1], mask], without_gradient=(3, 4, 5))
    value = attention(*student, *teacher, mask).item()
    for offset in (300.0, -300.0):                  # a vector on every key moves a row of scores by one number
        keys = student[1] + offset * np.ones(4) / 2, teacher[1] - offset * np.ones(6) / 2
        shifted = attention(student[0], keys[0], student[2], teacher[0], keys[1], teacher[2], mask).item()
        assert abs(shifted - value) <= 1e-10 * value                            # 300 / 2^53 is lost of every score


@pytest.mark.parametrize("dtype, unit", [(np.float64, UNIT), (np.float32, 2.0 ** -24)], ids=["float64", "float32"])
def test_plain_and_fused_kernels_agree(dtype, unit):
    student, teacher, mask = example(15, dtype=dtype)

    def run(*arrays):
        value, found = differentiated(both, arrays[:3], arrays[3:], mask)
        return [np.asarray(value), *found[:3]]

    with kernels.use("plain"):
        plain = run(*student, *teacher)
    truth = [x.astype(np.float64) for x in plain]
    for got, want, k in zip(run(*student, *teacher), plain, kappa(run, [*student, *teacher], truth)):
        assert_within(got, want, C * unit * k)


@each_loss
def test_a_device_computes_the_same_and_the_host_never_waits(loss, strict_cupy):
    student, teacher, mask = example(16)
    check_device(loss, [*student, *teacher, mask], strict_cupy)


# ---------------------------------------------------------------- everything at once

@st.composite
def batches(draw):
    B, A, T, K, teacher_K = (draw(st.integers(1, most)) for most in (3, 3, 6, 5, 5))
    student, teacher, _ = example(draw(st.integers(0, 2 ** 32 - 1)), B, A, T, K, teacher_K, (1,) * B)
    scale = draw(st.sampled_from([1e-3, 1.0, 10.0]))
    mask = draw(prefix_masks(B, T))
    return [scale * x for x in student], [scale * x for x in teacher], mask[:, draw(st.permutations(range(T)))]


@given(batches())
def test_any_batch_equals_pytorch(batch):
    student, teacher, mask = batch
    value, found = differentiated(both, student, teacher, mask)
    at, vr, truth = oracle.batched_with_gradients(student, teacher, mask, UPSTREAM)
    # Scores s are right to UNIT * sum |x y| <= UNIT * K max|x|^2, so are log p and log q, and G = q - p.
    rounding = C * UNIT * (1 + max(x.shape[3] * np.abs(x).max() ** 2 for x in (*student, *teacher)))
    assert value >= -rounding
    assert_within(value, at + vr, rounding)
    for g, want, x in zip(found, truth, student):
        assert_within(g, want, 1e-10 * np.abs(want).max() + rounding * np.abs(x).max() * abs(UPSTREAM))
        assert (g[~np.broadcast_to(mask[:, None, :], g.shape[:3])] == 0).all()
