"""Where answers start and end: against PyTorch and the printed sums."""

import numpy as np
import pytest

from gradcheck import assert_close64, assert_within
from loss_checks import (POISONS, assert_same, check_complex_step, check_device, check_padding_never_matters,
                         differentiated)
from oracle import spans as oracle
from oracle.torch_check import against_torch
from tinydistill import ops
from tinydistill.features import IGNORED, Batch, Features
from tinydistill.losses.spans import CONVENTIONS, ends, positions
from tinydistill_reference import spans as printed

MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 0]], bool)
WHOLE = np.array([[1, 4], [0, 0], [0, 0], [2, 3]])                      # the second has no answer
LABELS = np.array([[1, 4], [0, IGNORED], [IGNORED, IGNORED], [2, 3]])
OFFICIAL = {"rows": "all", "keys": "all"}           # of the printed sums
both = pytest.mark.parametrize("convention", CONVENTIONS)


def logits(seed=0, scale=2.0):
    return scale * np.random.default_rng(seed).standard_normal((4, 5, 2))


def count(labels, convention):
    return 8 if convention == "official" else (labels != IGNORED).sum()


@pytest.mark.parametrize("labels", [WHOLE, LABELS], ids=["all labelled", "some cut off"])
@both
def test_by_three_witnesses_and_on_a_device(convention, labels, strict_cupy):
    official, rule = convention == "official", CONVENTIONS[convention]
    arrays = [logits(), labels, MASK]

    def ours(*arrays):
        return positions(*arrays, convention=rule)

    def sums(*arrays):
        return printed.positions(*arrays, **OFFICIAL if official else {})

    assert_close64(ours(*arrays).array, sums(*arrays))
    check_complex_step(ours, sums, arrays, [0])
    against_torch(ours, lambda *x: oracle.positions(*x, count(labels, convention), official), arrays)
    check_device(lambda *x: positions(*x, convention=rule, divisor=7), arrays, strict_cupy)


def test_it_is_half_the_sum_of_two_choices_of_a_token():
    z = logits(1)
    one_by_one = [(ops.cross_entropy(z[b, n, 0][None], WHOLE[b, :1]).item()
                   + ops.cross_entropy(z[b, n, 1][None], WHOLE[b, 1:]).item()) / 2 for b, n in enumerate(MASK)]
    assert_within(positions(z, WHOLE, MASK).array, np.mean(one_by_one), 1e-14)


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
def test_padding_never_matters(poison):
    check_padding_never_matters(positions, [logits(2), LABELS, MASK], {0: ~MASK}, poison)


def test_padding_takes_part_in_published_code():
    z = logits(3)
    values = [positions(np.where(MASK[..., None], z, x), WHOLE, MASK, convention=CONVENTIONS["official"]).item()
              for x in (0.0, 9.0)]
    assert values[1] > values[0] + 1 > positions(z, WHOLE, MASK).item()


@pytest.mark.parametrize("parts", [1, 2, 4])
@both
def test_shards_add_up_to_the_whole(parts, convention):
    batch, term = Batch(ids=np.zeros((4, 5), int), mask=MASK, labels=LABELS), ends.under(convention)
    divisor = term.divisor(batch)
    assert divisor == count(LABELS, convention)

    def in_shards(z):
        total, begin = 0.0, 0
        for shard in batch.split(parts):
            student = Features("toy", 1, shard.mask, logits=z[begin:begin + len(shard)])
            total, begin = term(student, None, shard, divisor) + total, begin + len(shard)
        return total

    whole = differentiated(lambda z: positions(z, LABELS, MASK, convention=CONVENTIONS[convention]), [logits(4)])
    assert_same(differentiated(in_shards, [logits(4)]), whole)


def test_one_label_is_divided_by_one():
    labels = np.full((4, 2), IGNORED)
    labels[3, 1] = 2
    want = ops.cross_entropy(logits(7)[3, :4, 1][None], np.array([2])).array
    assert_within(positions(logits(7), labels, MASK).array, want, 1e-15)


def test_without_a_label_there_is_nothing_to_learn():
    value, (gradient,) = differentiated(lambda z: positions(z, np.full((4, 2), IGNORED), MASK), [logits(5)])
    assert value == 0 and not gradient.any()


def test_a_sure_answer_costs_nothing_and_a_start_is_no_end():
    z = np.zeros((1, 3, 2))
    z[0, 1, 0] = z[0, 2, 1] = 800.0                                     # starts at 1, ends at 2
    mask = np.ones((1, 3), bool)
    assert positions(z, np.array([[1, 2]]), mask).item() == 0
    assert positions(z, np.array([[2, 1]]), mask).item() == 800


@pytest.mark.parametrize("labels, mask, text", [
    (WHOLE[:, :1], MASK, r"need logits \(B, T, 2\), labels \(B, 2\) and a mask .*labels \(4, 1\)"),
    (WHOLE, MASK[:, :4], r"need logits .*mask \(4, 4\) of bool"),
    (WHOLE, MASK.astype(float), "need logits .*of float64"),
    (np.array([[1, 4], [0, 2], [0, 0], [2, 3]]), MASK, r"need labels at real tokens; got \[0, 2\] in sequence 1 of 2"),
    (np.array([[1, 5], [0, 0], [0, 0], [2, 3]]), MASK, r"need labels at real tokens; got \[1, 5\] in sequence 0 of 5"),
    (np.array([[-1, 4], [0, 0], [0, 0], [2, 3]]), MASK, "need labels from 0 to 4 or -100; got -1 in row 0")])
def test_what_cannot_be_is_one_line(labels, mask, text):
    with pytest.raises(ValueError, match=text):
        positions(logits(), labels, mask)


def test_a_label_in_padding_is_a_label_in_published_code():
    value = positions(logits(6), np.full((4, 2), 4), MASK, convention=CONVENTIONS["official"])
    assert_within(value.array, printed.positions(logits(6), np.full((4, 2), 4), MASK, **OFFICIAL), 1e-14)
