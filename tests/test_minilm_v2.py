"""MiniLMv2's relations: printed sums, PyTorch, a complex step, golden values; and what regrouping must be."""

import re

import numpy as np
import pytest

from gradcheck import assert_close64, assert_within
from loss_checks import (POISONS, assert_same, check_complex_step, check_device, check_padding_never_matters,
                         check_shards, differentiated, features, rows_of_padding)
from oracle import minilm_v2 as oracle
from oracle.torch_check import against_torch
from test_minilm_golden import GOLDEN_MASK, GOLDEN_STUDENT, GOLDEN_TEACHER, det
from tinydistill import Tensor
from tinydistill.features import Batch, Needs
from tinydistill.losses import TERMS, minilm_v2
from tinydistill.losses.minilm import value_relation_transfer
from tinydistill.losses.minilm_v2 import CONVENTIONS, relation_transfer
from tinydistill_reference import minilm_v2 as reference
from tinydistill_reference.specs import minilm_v2 as spec

GOLDEN = {"queries": 0.109806775247498, "keys": 0.203750818538817}
GOLDEN_SUM = 0.54726024297044                       # QQ + KK + VV
GOLDEN_REGROUPED = 0.0853236647423257               # 3 heads of size 2 beside 2 heads of size 3, 3 relation heads
FIELDS = ("queries", "keys", "values")
each_convention = pytest.mark.parametrize("convention", CONVENTIONS)
each_field = pytest.mark.parametrize("field", FIELDS)
each_R = pytest.mark.parametrize("R", [1, 2, 3, 4, 6, 12])


def example(seed=0, B=3, T=7, lengths=(7, 4, 2)):
    """[student x, teacher x, mask]: 3 heads of size 4 and 4 heads of size 6, so widths 12 and 24."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((B, 3, T, 4)), rng.standard_normal((B, 4, T, 6)),
            np.arange(T) < np.array(lengths)[:, None]]


def losses(R, convention="paper", divisor=None):
    """(our loss, the printed sums, PyTorch's) of (student x, teacher x, mask)."""
    def ours(student, teacher, mask, divisor=divisor):
        return relation_transfer(student, teacher, mask, R, convention=CONVENTIONS[convention], divisor=divisor)

    settings = spec.CONVENTIONS[convention].settings
    return (ours, lambda s, t, mask: reference.relation_transfer(s, t, mask, R, **settings),
            lambda s, t, mask: oracle.relation_transfer(s, t, mask, R, convention))


# ---------------------------------------------------------------- witnesses

@each_R
@each_convention
def test_value_is_the_printed_sum_and_pytorch_agrees(R, convention):
    ours, printed, in_torch = losses(R, convention)
    assert_close64(ours(*example()).array, printed(*example()))
    against_torch(ours, in_torch, example(1), without_gradient=(1,))


@each_convention
@pytest.mark.parametrize("R", [2, 6])
def test_derivative_of_the_printed_sums_by_complex_step(R, convention):
    ours, printed, _ = losses(R, convention)
    check_complex_step(ours, printed, example(2), (0,))


def test_golden_values():
    found = [relation_transfer(s, t, GOLDEN_MASK, 2).item() for s, t in zip(GOLDEN_STUDENT, GOLDEN_TEACHER)]
    assert_within(found[0], GOLDEN["queries"], 1e-14)
    assert_within(found[1], GOLDEN["keys"], 1e-14)
    assert_within(sum(found), GOLDEN_SUM, 1e-14)
    assert_within(reference.minilm_v2(*GOLDEN_STUDENT, *GOLDEN_TEACHER, GOLDEN_MASK, 2), GOLDEN_SUM, 1e-14)


def test_golden_value_of_heads_that_differ():
    student, teacher = det((2, 3, 4, 2), 0.29, 0.0), det((2, 2, 4, 3), 0.31, 0.0)
    assert_within(relation_transfer(student, teacher, GOLDEN_MASK, 3).array, GOLDEN_REGROUPED, 1e-14)


# ---------------------------------------------------------------- regrouping

def test_cutting_heads_without_joining_tokens_first_scrambles_them():
    """The trap: (B, A, T, K) reshaped straight to (B, R, T, D/R) puts parts of several tokens into one."""
    student, teacher, mask = example(3)
    right = relation_transfer(student, teacher, mask, 6).item()
    scrambled = [x.reshape(3, 6, 7, x.shape[1] * x.shape[3] // 6) for x in (student, teacher)]
    assert abs(relation_transfer(*scrambled, mask, 6).item() - right) > 1e-2 * right
    tokens = np.arange(7.0)[:, None] * np.ones((1, 3, 1, 4))            # every entry is its token's number
    assert (reference.relation_heads(tokens, 6) == np.arange(7)[:, None]).all()
    assert not (tokens.reshape(1, 6, 7, 2) == np.arange(7)[:, None]).all()


def test_as_many_relation_heads_as_heads_is_minilms_value_relation():
    rng = np.random.default_rng(4)
    inputs = [rng.standard_normal((3, 4, 7, K)) for K in (3, 5)] + [example()[2]]
    assert_same(differentiated(losses(4)[0], inputs), differentiated(value_relation_transfer, inputs))


def test_the_models_own_heads_do_not_matter():
    """Only the width that they make together: regrouping (B, T, D) of other heads gives the same loss and gradient."""
    student, teacher, mask = example(5)
    other = reference.relation_heads(student, 2)                        # the same tokens in 2 heads of size 6
    value, (gradient, *_) = differentiated(losses(4)[0], [student, teacher, mask])
    other_value, (other_gradient, *_) = differentiated(losses(4)[0], [other, teacher, mask])
    assert other_value == value and (reference.relation_heads(gradient, 2) == other_gradient).all()


def test_a_rotation_within_a_relation_head_changes_nothing():
    student, teacher, mask = example(6)
    rotation = np.linalg.qr(np.random.default_rng(7).standard_normal((2, 6, 6)))[0]     # of two relation heads
    turned = reference.relation_heads(student, 2) @ rotation
    value = relation_transfer(student, teacher, mask, 2).item()
    assert_within(relation_transfer(turned, teacher, mask, 2).array, value, 1e-13 * value)
    assert abs(relation_transfer(turned, teacher, mask, 3).item() - value) > 1e-3 * value


def test_equal_relations_are_worth_nothing():
    _, teacher, mask = example(8)
    value, found = differentiated(losses(6)[0], [teacher, teacher, mask])
    assert value == 0 and (found[0] == 0).all() and found[1] is None


@pytest.mark.parametrize("R", [5, 8, 0, -1])
def test_a_number_that_does_not_divide_both_widths_is_named(R):
    text = f"need a number of relation heads that divides both widths: {R} relation heads, student 12, teacher 24"
    with pytest.raises(ValueError, match=re.escape(text)):
        relation_transfer(*example(), R)


def test_shapes_and_masks_that_do_not_fit_are_an_error():
    student, teacher, mask = example()
    text = "need the same (B, A, T): student (3, 2, 7, 6), teacher (2, 2, 7, 12), mask (3, 7)"
    with pytest.raises(ValueError, match=re.escape(text)):
        relation_transfer(student, teacher[:2], mask, 2)
    with pytest.raises(ValueError, match="need a mask of bool"):
        relation_transfer(student, teacher, mask.astype(int), 2)
    with pytest.raises(ValueError, match="sequence 1 of the mask has none"):
        relation_transfer(student, teacher, mask & [[1], [0], [1]] == 1, 2)


# ---------------------------------------------------------------- padding

def outside(inputs):
    return {i: rows_of_padding(inputs[i], inputs[2]) for i in (0, 1)}


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
def test_padding_never_matters(poison):
    inputs = example(9)
    check_padding_never_matters(losses(6)[0], inputs, outside(inputs), poison)


@pytest.mark.parametrize("place", [0, 1], ids=["student", "teacher"])
def test_paddlenlp_counts_padded_rows(place):
    inputs, (ours, printed, _) = example(10), losses(6, "paddlenlp")
    value, found = differentiated(ours, inputs)
    assert (found[0][outside(inputs)[0]] != 0).all()
    inputs[place][outside(inputs)[place]] += 1.0
    assert abs(ours(*inputs).item() - value) > 1e-2 * value
    assert_close64(ours(*inputs).array, printed(*inputs))


# ---------------------------------------------------------------- terms

@each_convention
@pytest.mark.parametrize("parts", [[[0], [1, 2, 3, 4]], [[0, 1, 2], [3], [4]]], ids=str)
def test_any_split_gives_the_whole_batchs_loss_and_gradient(convention, parts):
    inputs = example(11, B=5, lengths=(7, 1, 4, 2, 6))
    check_shards(losses(3, convention)[0], CONVENTIONS[convention].divides_by, inputs, parts, range(3))


@each_convention
def test_a_device_computes_the_same_and_the_host_never_waits(convention, strict_cupy):
    inputs = example(12)
    check_device(losses(6, convention, CONVENTIONS[convention].divides_by(inputs[2]))[0], inputs, strict_cupy)


@each_field
def test_a_term_reads_one_field_of_its_pairs_and_nothing_else(field):
    term = getattr(minilm_v2, field)
    assert TERMS[f"minilm_v2.{field}"] is term and term.conventions is CONVENTIONS
    assert term.student_needs == term.teacher_needs == Needs.of(**{field: [-1]})
    moved = term.on([(5, 20)])                      # the method says which layer of the teacher
    assert moved.student_needs == Needs.of(**{field: [5]}) and moved.teacher_needs == Needs.of(**{field: [20]})


@each_field
@each_convention
@pytest.mark.parametrize("R", [0, 2, 6], ids=["as many as the teacher", "2", "6"])
def test_a_term_is_the_loss_of_its_pairs_in_its_relation_heads(field, convention, R):
    student, teacher, mask = example(13, B=2, lengths=(7, 3))
    other, _, _ = example(14, B=2, lengths=(7, 3))
    tensors = [Tensor(x, requires_grad=True) for x in (student, other)]
    batch = Batch(ids=np.zeros(mask.shape, int), mask=mask)
    term = getattr(minilm_v2, field).on([(0, 0), (1, 0)]).under(convention).but(relation_heads=R)
    divisor = 3 * term.divisor(batch)               # as if this were a third of the batch
    value = term(features(mask, **{field: tensors}), features(mask, **{field: [teacher]}), batch, divisor)
    want = sum(losses(R or 4, convention)[1](x, teacher, mask) for x in (student, other)) / 3
    assert_close64(value.array, want)
