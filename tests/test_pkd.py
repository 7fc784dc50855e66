"""The patient loss: against the printed sums, PyTorch, a complex step, golden values and what must not change it.

Candidates are functions of (student, teacher, mask): hidden states (B, T, D) of which only [CLS] counts.
"""

import functools
import re

import numpy as np
import pytest

from gradcheck import assert_close64, assert_within
from loss_checks import (POISONS, assert_same, check_complex_step, check_device, check_padding_never_matters,
                         check_shards, differentiated, features)
from oracle import pkd as oracle
from oracle.torch_check import against_torch
from tinydistill import Tensor, gradients
from tinydistill.features import Batch
from tinydistill.losses import pkd
from tinydistill.losses.convention import PAPER
from tinydistill.losses.pkd import CONVENTIONS, patient_loss
from tinydistill_reference import pkd as reference


def under(convention, **settings):
    def loss(student, teacher, mask, divisor=None):
        return patient_loss(student, teacher, mask, convention=convention, divisor=divisor, **settings)
    return loss


def printed(**settings):
    return functools.partial(reference.patient_loss, **settings)


paper, official = under(CONVENTIONS["paper"]), under(CONVENTIONS["official"])
summed, unnormalised = under(PAPER.but(divisor="none")), under(CONVENTIONS["official"], normalise=False)
PRINTED = {
    "paper": (paper, printed(), oracle.paper),
    "paper, unnormalised": (under(PAPER, normalise=False), printed(normalise=False),
                            lambda s, t, mask: oracle.paper(s, t, mask, normalised=False)),
    "paper's sum": (summed, printed(divisor="none"), oracle.summed),
    "official": (official, printed(divisor="element"), oracle.official),
    "official, unnormalised": (unnormalised, printed(divisor="element", normalise=False),
                               lambda s, t, mask: oracle.official(s, t, mask, normalised=False)),
    "textbrewer": (under(CONVENTIONS["textbrewer"]), printed(divisor="row"), oracle.textbrewer),
}
each_loss = pytest.mark.parametrize("loss, printed, in_torch", PRINTED.values(), ids=PRINTED)


def example(seed=0, B=3, T=5, D=4, lengths=(5, 4, 2)):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((B, T, D)) for _ in "st"] + [np.arange(T) < np.array(lengths)[:, None]]


# ---------------------------------------------------------------- three witnesses

@each_loss
def test_value_is_the_printed_sum(loss, printed, in_torch):
    assert_close64(loss(*example()).array, printed(*example()))


@each_loss
def test_pytorch_in_both_precisions_and_the_teacher_gets_no_gradient(loss, printed, in_torch):
    against_torch(loss, in_torch, example(1), without_gradient=(1,))


@each_loss
def test_derivative_of_the_printed_sums_by_complex_step(loss, printed, in_torch):
    check_complex_step(loss, printed, example(2), [0])


def det(shape, a, b):
    """sin(a k + b), k the row-major index."""
    return np.sin(a * np.arange(np.prod(shape)) + b).reshape(shape)


def golden():
    """Two sequences of which [CLS] is given in five layers: features of student and teacher, and the batch."""
    mask = np.ones((2, 1), bool)
    layers = [[x[:, l:l + 1] for l in range(5)] for x in (det((2, 5, 8), 0.3, 0.2), det((2, 5, 8), 0.5, 0.7))]
    return *(features(mask, hidden=hidden) for hidden in layers), Batch(ids=np.zeros((2, 1), int), mask=mask)


@pytest.mark.parametrize("convention, value", [
    ("official", 0.27064492476), ("summed", 21.6515939808), ("paper", 21.6515939808 / 2),
    ("textbrewer", 21.6515939808 / 2)])
def test_golden_values_of_five_layers(convention, value):
    conventions = CONVENTIONS | {"summed": PAPER.but(divisor="none")}
    term = pkd.patience.on([(l, l) for l in range(5)]).but(conventions=conventions).under(convention)
    student, teacher, batch = golden()
    assert_within(term(student, teacher, batch, term.divisor(batch)).array, value, 1e-11 * value)


def test_the_official_divisor_counts_the_layers():
    batch = golden()[2]
    official = pkd.patience.under("official")
    assert [official.on([(0, 0)] * layers).divisor(batch) for layers in (1, 3)] == [2, 6]
    assert [pkd.patience.on([(0, 0)] * layers).divisor(batch) for layers in (1, 3)] == [2, 2]


# ---------------------------------------------------------------- what must change nothing

@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
@each_loss
def test_only_cls_matters(loss, printed, in_torch, poison):
    arrays = example(3)
    outside = np.ones((3, 5), bool)
    outside[:, 0] = False
    check_padding_never_matters(loss, arrays, {0: outside, 1: outside}, poison)


@pytest.mark.parametrize("parts", [[[0], [1, 2, 3]], [[3, 1], [0, 2]]], ids=str)
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_any_split_gives_the_whole_batchs_loss_and_gradient(convention, parts):
    def count(mask):
        return pkd.patience.under(convention).divisor(Batch(ids=np.zeros(mask.shape, int), mask=mask))

    check_shards(under(CONVENTIONS[convention]), count, example(4, B=4, lengths=(5, 1, 3, 2)), parts, (0, 1, 2))


def test_the_term_reads_the_pairs_that_it_is_told():
    mask = np.ones((2, 3), bool)
    rng = np.random.default_rng(5)
    student, teacher = ([Tensor(rng.standard_normal((2, 3, 4)), requires_grad=True) for _ in range(n)] for n in (3, 6))
    term, batch = pkd.patience.on([(0, 1), (1, 3)]), Batch(ids=np.zeros((2, 3), int), mask=mask)
    value = term(features(mask, hidden=student), features(mask, hidden=teacher), batch, 2)
    pairs = [paper(student[s].array, teacher[t].array, mask).item() for s, t in ((0, 1), (1, 3))]
    assert_within(value.array, sum(pairs), 1e-14 * sum(pairs))
    found = gradients(value, [*student, *teacher])
    assert [g is None for g in found] == [False, False] + [True] * 7


def test_a_direction_has_no_length_and_no_gradient_along_itself():
    student, teacher, mask = example(6)
    value, found = differentiated(paper, [student, teacher, mask])
    scaled = differentiated(paper, [3 * student, 0.2 * teacher, mask])
    assert_same((scaled[0], [3 * scaled[1][0], None, None]), (value, found))
    assert np.abs((found[0] * student).sum(axis=2)).max() < 1e-14 < np.abs(found[0]).max()
    rotation = np.linalg.qr(np.random.default_rng(7).standard_normal((4, 4)))[0]
    assert_same(differentiated(paper, [student @ rotation, teacher @ rotation, mask]),
                (value, [found[0] @ rotation, None, None]))
    assert differentiated(unnormalised, [3 * student, 3 * teacher, mask])[0] == pytest.approx(
        9 * unnormalised(student, teacher, mask).item(), rel=1e-14)


@each_loss
def test_equal_vectors_are_worth_nothing(loss, printed, in_torch):
    _, teacher, mask = example(8)
    value, found = differentiated(loss, [teacher, teacher, mask])
    assert value == 0 and (found[0] == 0).all()


def test_a_vector_of_length_0_has_a_value_and_a_finite_gradient():
    student, teacher, mask = example(9)
    student[0] = 0
    value, found = differentiated(paper, [student, teacher, mask])
    rest = paper(student[1:], teacher[1:], mask[1:]).item()
    assert_within(value, (1 + 2 * rest) / 3, 1e-14)                     # |0 - u|^2 = 1
    assert np.isfinite(found[0]).all()


# ---------------------------------------------------------------- edges

@pytest.mark.parametrize("place, shape, text", [
    (0, (3, 5, 6), "the same (B, T, D): student (3, 5, 6), teacher (3, 5, 4), mask (3, 5)"),            # widths
    (1, (3, 6, 4), "the same (B, T, D): student (3, 5, 4), teacher (3, 6, 4), mask (3, 5)"),
    (2, (1, 5), "the same (B, T, D): student (3, 5, 4), teacher (3, 5, 4), mask (1, 5)")])
def test_shapes_that_do_not_fit_are_an_error_that_shows_them(place, shape, text):
    arrays = example()
    arrays[place] = np.ones(shape, arrays[place].dtype)
    with pytest.raises(ValueError, match=re.escape("need " + text)):
        paper(*arrays)


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=CONVENTIONS)
def test_padding_in_the_place_of_cls_is_named(convention):
    student, teacher, mask = example()
    mask[1, 0] = False
    text = re.escape("need [CLS] at position 0 of every sequence; sequence 1 has padding there")
    with pytest.raises(ValueError, match=text):
        under(convention)(student, teacher, mask)
    with pytest.raises(ValueError, match=text):
        pkd.patience.divisor(Batch(ids=np.zeros(mask.shape, int), mask=mask))


def test_a_mask_of_numbers_is_refused():
    student, teacher, mask = example()
    with pytest.raises(ValueError, match="need a mask of bool, True at real tokens; got int64"):
        paper(student, teacher, mask.astype(int))


@each_loss
def test_a_device_computes_the_same_and_the_host_never_waits(loss, printed, in_torch, strict_cupy):
    check_device(functools.partial(loss, divisor=3), example(10), strict_cupy)
