"""Relations under every convention: rows, keys, divisor and constant against PyTorch, row by row."""

import itertools
import re

import numpy as np
import pytest

from loss_checks import POISONS, check_device, check_padding_never_matters, check_shards, differentiated
from oracle import relations as oracle
from oracle.torch_check import against_torch
from tinydistill import ops
from tinydistill.losses.convention import CONSTANTS, DIVISORS, PAPER, Convention
from tinydistill.losses.relations import check_relations, emptied, regrouped, relation_kl, relation_scores

RULES = [Convention(rows, keys, divisor, constant=constant)
         for rows, keys, divisor, constant in itertools.product(("real", "all"), ("real", "all"), DIVISORS, CONSTANTS)]
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda r: f"{r.rows} {r.keys} {r.divisor} {r.constant}")


def example(seed=0, B=3, A=2, T=5, lengths=(5, 3, 2)):
    rng = np.random.default_rng(seed)
    student, teacher = rng.standard_normal((2, B, A, T, T))
    return [student, teacher, np.arange(T) < np.array(lengths)[:, None]]


def under(rule, divisor=None):
    return lambda student, teacher, mask, divisor=divisor: relation_kl(student, teacher, mask, rule, divisor)


@each_rule
def test_every_convention_equals_pytorch(rule):
    ours = under(rule)
    ours.__name__ = "relation_kl"
    against_torch(ours, lambda s, t, mask: oracle.relation_kl(s, t, mask, rule), example(), without_gradient=(1,))


@each_rule
def test_what_does_not_count_may_hold_anything_and_gets_no_gradient(rule):
    inputs = example(1)
    mask = inputs[2]
    rows, keys = (np.ones_like(mask) if counts == "all" else mask for counts in (rule.rows, rule.keys))
    outside = np.broadcast_to(~(rows[:, None, :, None] & keys[:, None, None, :]), inputs[0].shape)
    if rule.constant == "kl" and not outside.any():
        assert (differentiated(under(rule), inputs)[1][0] != 0).all()
    for poison in POISONS.values():
        check_padding_never_matters(under(rule), inputs, {0: outside, 1: outside}, poison)


@each_rule
def test_shards_add_up_to_the_whole(rule):
    inputs = example(2, B=5, lengths=(5, 1, 4, 2, 3))
    check_shards(under(rule), rule.divides_by, inputs, [[0, 1, 2], [3], [4]], range(3))


@each_rule
def test_a_device_computes_the_same_and_the_host_never_waits(rule, strict_cupy):
    inputs = example(3)
    check_device(under(rule, rule.divides_by(inputs[2])), inputs, strict_cupy)


def test_the_papers_rule_is_what_is_taken_without_one():
    inputs = example(4)
    assert relation_kl(*inputs).item() == relation_kl(*inputs, PAPER).item()
    x = np.ones((3, 2, 5, 4))
    assert (relation_scores(x, x, inputs[2]).array == relation_scores(x, x, inputs[2], PAPER).array).all()


@pytest.mark.parametrize("rows", ["real", "all"])
@pytest.mark.parametrize("keys", ["real", "all"])
def test_scores_are_products_over_the_root_of_the_head_size(rows, keys):
    rng = np.random.default_rng(5)
    x, y = (rng.standard_normal((3, 2, 5, 4)) for _ in "xy")
    mask = example()[2]
    got = relation_scores(x, y, mask, PAPER.but(rows=rows, keys=keys)).array
    counted = (mask | (rows == "all"))[:, None, :, None] & (mask | (keys == "all"))[:, None, None, :]
    want = np.where(counted, np.einsum("batk,bask->bats", x, y) / 2, 0)
    np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-15)


def test_emptied_leaves_what_counts():
    x, mask = np.ones((3, 2, 5, 4)), example()[2]
    assert emptied(x, mask, "all") is x
    assert (emptied(x, mask, "real").array == np.broadcast_to(mask[:, None, :, None], x.shape)).all()


def test_regrouped_keeps_the_order_of_a_tokens_entries():
    x = np.arange(1 * 3 * 2 * 4).reshape(1, 3, 2, 4)                    # 3 heads of size 4, 2 tokens
    for heads in (1, 2, 3, 4, 6, 12):
        anew = regrouped(x, heads).array
        assert anew.shape == (1, heads, 2, 12 // heads)
        for t in range(2):
            assert (anew[0, :, t].ravel() == x[0, :, t].ravel()).all()


@pytest.mark.parametrize("student, teacher, mask, text", [
    ((3, 2, 5, 4), (3, 2, 5, 6), (3, 5), None),
    ((3, 2, 5, 4), (3, 1, 5, 6), (3, 5), "student (3, 2, 5, 4), teacher (3, 1, 5, 6), mask (3, 5)"),
    ((3, 2, 5, 4), (3, 2, 5, 4), (3, 4), "student (3, 2, 5, 4), teacher (3, 2, 5, 4), mask (3, 4)"),
    ((3, 2, 5, 4), (3, 2, 5, 4), (2, 5), "student (3, 2, 5, 4), teacher (3, 2, 5, 4), mask (2, 5)")])
def test_shapes_are_checked(student, teacher, mask, text):
    arrays = np.ones(student), np.ones(teacher), np.ones(mask, bool)
    if text is None:
        return check_relations(*arrays)
    with pytest.raises(ValueError, match=re.escape("need the same (B, A, T): " + text)):
        check_relations(*arrays)


def test_masks_of_numbers_and_keys_of_another_size_are_refused():
    x, mask = np.ones((3, 2, 5, 4)), example()[2]
    with pytest.raises(ValueError, match="need a mask of bool, True at real tokens; got float64"):
        check_relations(x, x, mask * 1.0)
    with pytest.raises(ValueError, match=re.escape("one shape: queries (3, 2, 5, 4), keys (3, 2, 5, 3)")):
        relation_scores(x, x[..., :3], mask)


def test_the_gradient_of_scores_is_the_difference_of_the_distributions():
    student, teacher, mask = example(6, B=1, lengths=(5,))
    _, (found, _, _) = differentiated(relation_kl, [student, teacher, mask])
    p, q = (ops.softmax(x).array for x in (teacher, student))
    np.testing.assert_allclose(found, -2.5 * (q - p) / (2 * 5), rtol=1e-12, atol=1e-16)
