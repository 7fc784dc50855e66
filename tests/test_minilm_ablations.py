"""MiniLM's ablations: the error of values through a learned map, and the relation of hidden states."""

import re

import numpy as np
import pytest

from gradcheck import assert_close64, assert_within
from loss_checks import (POISONS, UPSTREAM, assert_same, check_complex_step, check_device, check_padding_never_matters,
                         check_shards, differentiated, features, rows_of_padding)
from oracle import minilm_ablations as oracle
from oracle.torch_check import against_torch
from tinydistill import Tensor, gradients
from tinydistill.features import Batch, Needs
from tinydistill.losses import minilm_ablations
from tinydistill.losses.convention import PAPER
from tinydistill.losses.minilm import value_relation_transfer
from tinydistill.losses.minilm_ablations import hidden_relation_transfer, value_error
from tinydistill.nn import Linear
from tinydistill_reference import minilm_ablations as reference

ROW = PAPER.but(divisor="row")
ALL = PAPER.but(rows="all", divisor="row")


def example(loss, seed=0, B=3, T=7, lengths=(7, 4, 2)):
    """Inputs of a loss, all sizes different: values of 3 heads of size 4 and of 2 heads of size 5; hidden 6 and 9."""
    rng = np.random.default_rng(seed)
    mask = np.arange(T) < np.array(lengths)[:, None]
    if loss is value_error:
        return [rng.standard_normal((B, 3, T, 4)), rng.standard_normal((B, 2, T, 5)), mask,
                rng.standard_normal((10, 12))]
    return [rng.standard_normal((B, T, 6)), rng.standard_normal((B, T, 9)), mask]


LOSSES = {value_error: (reference.value_error, oracle.value_error, (0, 3)),
          hidden_relation_transfer: (reference.hidden_relation_transfer, oracle.hidden_relation_transfer, (0,))}
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)


# ---------------------------------------------------------------- witnesses

@each_loss
def test_printed_sums_pytorch_and_complex_step(loss):
    printed, in_torch, learned = LOSSES[loss]
    inputs = example(loss)
    assert_close64(loss(*inputs).array, printed(*inputs))
    against_torch(loss, in_torch, example(loss, 1), without_gradient=(1,))
    check_complex_step(loss, printed, example(loss, 2), learned)


def test_a_map_with_bias_equals_pytorchs_and_its_printed_gradient_is_ours():
    inputs = [*example(value_error, 3), np.arange(10.0)]
    against_torch(value_error, oracle.value_error, inputs, without_gradient=(1,))
    by_hand = reference.value_error_gradient(UPSTREAM, *inputs)
    dv, _, _, dweight, dbias = differentiated(value_error, inputs)[1]
    for found, name in ((dv, "student_values"), (dweight, "weight"), (dbias, "bias")):
        assert_close64(found, by_hand[name])


def test_values_are_rows_of_the_width_of_all_heads():
    """With the unit matrix as the map it is the mean square of (B, T, D), under any convention."""
    rng = np.random.default_rng(4)
    student, teacher = (rng.standard_normal((3, 7, 12)) for _ in "st")
    heads = [x.reshape(3, 7, 3, 4).transpose(0, 2, 1, 3) for x in (student, teacher)]
    mask = example(value_error)[2]
    for rule in (PAPER, ROW, ALL):
        got = value_error(*heads, mask, np.eye(12), convention=rule)
        want = (rule.row_weights(mask, None, float) * ((student - teacher) ** 2).mean(axis=2)).sum()
        assert_within(got.array, want, 1e-14)


def test_hidden_states_are_values_of_one_head():
    student, teacher, mask = example(hidden_relation_transfer, 5)
    for rule in (PAPER, ROW, ALL):
        want = value_relation_transfer(student[:, None], teacher[:, None], mask, convention=rule)
        assert hidden_relation_transfer(student, teacher, mask, convention=rule).item() == want.item()


# ---------------------------------------------------------------- invariants

@each_loss
@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
def test_padding_never_matters(loss, poison):
    inputs = example(loss, 6)
    check_padding_never_matters(loss, inputs, {i: rows_of_padding(inputs[i], inputs[2]) for i in (0, 1)}, poison)


@each_loss
def test_padding_matters_where_a_convention_counts_its_rows(loss):
    inputs = example(loss, 7)
    value, found = differentiated(lambda *x: loss(*x, convention=ALL), inputs)
    padding = rows_of_padding(inputs[0], inputs[2])
    assert (found[0][padding] != 0).all()
    inputs[0][padding] += 1.0
    assert abs(loss(*inputs, convention=ALL).item() - value) > 1e-2 * value


def test_the_square_scales_as_a_square():
    student, teacher, mask, weight = example(value_error, 8)
    value = value_error(student, teacher, mask, weight).item()
    assert_within(value_error(3 * student, 3 * teacher, mask, weight).array, 9 * value, 1e-14 * 9 * value)


def test_an_orthogonal_map_of_the_teacher_and_a_rotation_of_hidden_states_change_nothing():
    rng = np.random.default_rng(9)
    rotation = np.linalg.qr(rng.standard_normal((10, 10)))[0]
    student, teacher, mask, weight = example(value_error, 9)
    turned = np.split(teacher.transpose(0, 2, 1, 3).reshape(3, 7, 10) @ rotation.T, 2, axis=2)
    value = value_error(student, teacher, mask, weight).item()
    assert_within(value_error(student, np.stack(turned, 1), mask, rotation @ weight).array, value, 1e-14 * value)
    student, teacher, mask = example(hidden_relation_transfer, 10)
    value = hidden_relation_transfer(student, teacher, mask).item()
    turned = student @ np.linalg.qr(rng.standard_normal((6, 6)))[0]
    assert_within(hidden_relation_transfer(turned, teacher, mask).array, value, 1e-13 * value)


def test_what_is_equal_is_worth_nothing():
    _, teacher, mask, _ = example(value_error, 11)
    value, found = differentiated(value_error, [teacher, teacher, mask, np.eye(10)])
    assert value == 0 and (found[0] == 0).all() and (found[3] == 0).all()
    _, teacher, mask = example(hidden_relation_transfer, 11)
    value, found = differentiated(hidden_relation_transfer, [teacher, teacher, mask])
    assert value == 0 and (found[0] == 0).all()


@each_loss
@pytest.mark.parametrize("rule", [PAPER, ROW, ALL], ids=["paper", "row", "all"])
@pytest.mark.parametrize("parts", [[[0], [1, 2, 3, 4]], [[0, 1, 2], [3], [4]]], ids=str)
def test_any_split_gives_the_whole_batchs_loss_and_gradient(loss, rule, parts):
    inputs = example(loss, 12, B=5, lengths=(7, 1, 4, 2, 6))
    check_shards(lambda *x, divisor: loss(*x, convention=rule, divisor=divisor), rule.divides_by, inputs, parts,
                 range(3))


@each_loss
@pytest.mark.parametrize("rule", [PAPER, ROW, ALL], ids=["paper", "row", "all"])
def test_a_device_computes_the_same_and_the_host_never_waits(loss, rule, strict_cupy):
    inputs = example(loss, 13)
    divisor = rule.divides_by(inputs[2])
    check_device(lambda *x: loss(*x, convention=rule, divisor=divisor), inputs, strict_cupy)


@pytest.mark.parametrize("loss, place, shape, text", [
    (value_error, 0, (3, 3, 6, 4), "the same (B, A, T): student (3, 1, 6, 12), teacher (3, 1, 7, 10), mask (3, 7)"),
    (value_error, 2, (1, 7), "the same (B, A, T): student (3, 1, 7, 12), teacher (3, 1, 7, 10), mask (1, 7)"),
    (value_error, 3, (12, 10), "a map from student to teacher width: student 12, teacher 10, map (12, 10)"),
    (value_error, 3, (10, 11), "a map from student to teacher width: student 12, teacher 10, map (10, 11)"),
    (hidden_relation_transfer, 1, (2, 7, 9),
     "the same (B, A, T): student (3, 1, 7, 6), teacher (2, 1, 7, 9), mask (3, 7)"),
    (hidden_relation_transfer, 2, (3, 6),
     "the same (B, A, T): student (3, 1, 7, 6), teacher (3, 1, 7, 9), mask (3, 6)")])
def test_shapes_that_do_not_fit_are_an_error_that_shows_them(loss, place, shape, text):
    inputs = example(loss)
    inputs[place] = np.ones(shape, inputs[place].dtype)
    with pytest.raises(ValueError, match=re.escape("need " + text)):
        loss(*inputs)


@each_loss
def test_masks_of_numbers_and_empty_sequences_are_refused(loss):
    inputs = example(loss)
    with pytest.raises(ValueError, match="need a mask of bool"):
        loss(*inputs[:2], inputs[2].astype(int), *inputs[3:])
    with pytest.raises(ValueError, match="sequence 2 of the mask has none"):
        loss(*inputs[:2], inputs[2] & (np.arange(3) < 2)[:, None], *inputs[3:])


# ---------------------------------------------------------------- terms

@pytest.mark.parametrize("bias", [False, True], ids=["W", "W and bias"])
def test_the_term_of_values_is_computed_through_its_learned_map(bias):
    student, teacher, mask, weight = example(value_error, 14)
    other = example(value_error, 15)[0]
    term = minilm_ablations.value_mse.on([(0, 0), (1, 0)]).but(projection_bias=bias)
    assert term.student_needs == Needs.of(values=[0, 1]) and term.projection_names == ("minilm_values",) * 2
    learned = Linear(12, 10)
    learned.weight = Tensor(weight, requires_grad=True)
    learned.bias = Tensor(np.arange(10.0), requires_grad=True) if bias else None
    trained = [Tensor(x, requires_grad=True) for x in (student, other)]
    batch = Batch(ids=np.zeros(mask.shape, int), mask=mask)
    value = term(features(mask, values=trained), features(mask, values=[teacher]), batch, 3 * term.divisor(batch),
                 {"minilm_values": learned})
    parts = [differentiated(value_error, [x, teacher, mask, weight, *([np.arange(10.0)] if bias else [])])
             for x in (student, other)]
    assert_within(value.array, sum(v for v, _ in parts) / 3, 1e-12)
    found = gradients(value * UPSTREAM, [*trained, learned.weight])
    assert_same((value.array, found), (value.array, [parts[0][1][0] / 3, parts[1][1][0] / 3,
                                                     sum(g[3] for _, g in parts) / 3]))


def test_the_term_of_hidden_states_sums_over_its_pairs():
    student, teacher, mask = example(hidden_relation_transfer, 16)
    other = example(hidden_relation_transfer, 17)[0]
    term = minilm_ablations.hidden_relation.on([(0, 0), (1, 0)])
    assert term.student_needs == Needs.of(hidden=[0, 1]) and term.teacher_needs == Needs.of(hidden=[0])
    batch = Batch(ids=np.zeros(mask.shape, int), mask=mask)
    value = term(features(mask, hidden=[student, other]), features(mask, hidden=[teacher]), batch,
                 3 * term.divisor(batch))
    want = sum(reference.hidden_relation_transfer(x, teacher, mask) for x in (student, other)) / 3
    assert_close64(value.array, want)
