"""MiniLM under other conventions than the paper's, where padding matters; and on several pairs of layers."""

import numpy as np
import pytest

from gradcheck import assert_close64, assert_within
from loss_checks import (POISONS, assert_same, check_complex_step, check_device, check_padding_never_matters,
                         check_shards, differentiated, features, rows_of_padding)
from oracle import minilm as oracle
from oracle.torch_check import against_torch
from test_minilm import example
from test_minilm_golden import GOLDEN_MASK, GOLDEN_STUDENT, GOLDEN_TEACHER
from tinydistill import Tensor
from tinydistill.errors import WrongUsage
from tinydistill.features import Batch
from tinydistill.losses import minilm
from tinydistill.losses.minilm import CONVENTIONS, attention_transfer, value_relation_transfer
from tinydistill_reference import minilm as reference
from tinydistill_reference.specs import minilm as spec

SETTINGS = {name: convention.settings for name, convention in spec.CONVENTIONS.items()}
GOLDEN = {"paper": 0.192633174505666, "paddlenlp": 0.201978812041288, "token": 0.186472987385091}      # of L_AT
each_convention = pytest.mark.parametrize("convention", CONVENTIONS)


def losses(convention, divisor=None):
    """(our loss, the printed sums, PyTorch's) of (student q, k, v, teacher q, k, v, mask), both terms together."""
    def ours(sq, sk, sv, tq, tk, tv, mask, divisor=divisor):
        rule = CONVENTIONS[convention]
        return (attention_transfer(sq, sk, tq, tk, mask, divisor, convention=rule)
                + value_relation_transfer(sv, tv, mask, divisor, convention=rule))

    def printed(sq, sk, sv, tq, tk, tv, mask):
        return (reference.attention_transfer(sq, sk, tq, tk, mask, **SETTINGS[convention])
                + reference.value_relation_transfer(sv, tv, mask, **SETTINGS[convention]))

    def in_torch(sq, sk, sv, tq, tk, tv, mask):
        return (oracle.transfer(sq, sk, tq, tk, mask, convention) + oracle.transfer(sv, sv, tv, tv, mask, convention))

    return ours, printed, in_torch


def arrays(seed, **sizes):
    student, teacher, mask = example(seed, **sizes)
    return [*student, *teacher, mask]


def test_the_conventions_are_those_that_golden_values_exist_for():
    assert CONVENTIONS.keys() == GOLDEN.keys() == SETTINGS.keys()
    assert all(rule.source for rule in CONVENTIONS.values())
    assert minilm.attention.conventions is minilm.value_relation.conventions is CONVENTIONS
    with pytest.raises(WrongUsage, match="need a convention of minilm.attention out of paper, paddlenlp, token; got"):
        minilm.attention.under("official")


@each_convention
def test_golden_values(convention):
    (sq, sk, _), (tq, tk, _) = GOLDEN_STUDENT, GOLDEN_TEACHER
    value = attention_transfer(sq, sk, tq, tk, GOLDEN_MASK, convention=CONVENTIONS[convention]).item()
    assert abs(value - GOLDEN[convention]) <= 1e-14
    assert abs(reference.attention_transfer(sq, sk, tq, tk, GOLDEN_MASK, **SETTINGS[convention]) - value) <= 1e-15


@each_convention
def test_printed_sums_pytorch_and_complex_step(convention):
    ours, printed, in_torch = losses(convention)
    inputs = arrays(20)
    assert_close64(ours(*inputs).array, printed(*inputs))
    against_torch(ours, in_torch, inputs, without_gradient=(3, 4, 5))
    check_complex_step(ours, printed, inputs, (0, 1, 2))


@each_convention
def test_without_padding_all_conventions_are_one(convention):
    inputs = arrays(21, lengths=(7, 7, 7))
    assert_same(differentiated(losses(convention)[0], inputs), differentiated(losses("paper")[0], inputs))


def test_a_longer_sequence_weighs_more_in_the_mean_over_tokens():
    """`paper` is the mean of the values of sequences, `token` their mean by length, here 7, 4 and 2."""
    inputs = arrays(22)
    alone = np.array([losses("paper")[0](*[x[b:b + 1] for x in inputs]).item() for b in range(3)])
    lengths = inputs[-1].sum(axis=1)
    assert_within(losses("paper")[0](*inputs).array, alone.mean(), 1e-14)
    assert_within(losses("token")[0](*inputs).array, (lengths * alone).sum() / lengths.sum(), 1e-14)


# ---------------------------------------------------------------- padding

def outside(inputs, places=range(6)):
    return {i: rows_of_padding(inputs[i], inputs[-1]) for i in places}


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
def test_padding_never_matters_in_a_mean_over_real_tokens(poison):
    inputs = arrays(23)
    check_padding_never_matters(losses("token")[0], inputs, outside(inputs), poison)


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
def test_paddlenlp_leaves_padded_keys_out(poison):
    inputs = arrays(24)

    def attention(sq, sk, sv, tq, tk, tv, mask):
        return attention_transfer(sq, sk, tq, tk, mask, convention=CONVENTIONS["paddlenlp"])

    check_padding_never_matters(attention, inputs, outside(inputs, places=(1, 4)), poison)


@pytest.mark.parametrize("place", [0, 2, 3, 5], ids=["student queries", "student values", "teacher queries",
                                                     "teacher values"])
def test_paddlenlp_counts_padded_rows(place):
    """What stands in the padding changes the loss, and there the student gets a gradient; NaN makes the loss NaN."""
    inputs, (ours, printed, _) = arrays(25), losses("paddlenlp")
    padding = outside(inputs)[place]
    value, found = differentiated(ours, inputs)
    moved = [x.copy() for x in inputs]
    moved[place][padding] = moved[place][padding] * 2 + 1
    changed = ours(*moved).item()
    assert abs(changed - value) > 1e-2 * value
    assert_close64(changed, printed(*moved))
    if place < 3:
        assert (found[place][padding] != 0).all()
    moved[place][padding] = np.nan
    assert np.isnan(ours(*moved).item())


def test_under_paddlenlp_more_padding_is_another_loss():
    inputs = arrays(26)
    longer = [np.pad(x, ((0, 0), (0, 0), (0, 3), (0, 0)), constant_values=0.5) for x in inputs[:6]]
    longer.append(np.pad(inputs[-1], ((0, 0), (0, 3))))
    for convention, changes in (("paper", False), ("token", False), ("paddlenlp", True)):
        was, now = (losses(convention)[0](*x).item() for x in (inputs, longer))
        assert (abs(now - was) > 1e-3 * was) == changes


# ---------------------------------------------------------------- batches, devices, layers

@each_convention
@pytest.mark.parametrize("parts", [[[0, 1, 2, 3, 4]], [[0], [1, 2, 3, 4]], [[0, 1, 2], [3], [4]]], ids=str)
def test_any_split_gives_the_whole_batchs_loss_and_gradient(convention, parts):
    inputs = arrays(27, B=5, lengths=(7, 1, 4, 2, 6))
    check_shards(losses(convention)[0], CONVENTIONS[convention].divides_by, inputs, parts, range(7))


@each_convention
def test_a_device_computes_the_same_and_the_host_never_waits(convention, strict_cupy):
    inputs = arrays(28)
    divisor = CONVENTIONS[convention].divides_by(inputs[-1])            # counted on the host, as training does
    check_device(losses(convention, divisor)[0], inputs, strict_cupy)


PAIRS = ((0, 1), (1, 3), (1, 2))


@each_convention
@pytest.mark.parametrize("term", [minilm.attention, minilm.value_relation], ids=lambda term: term.name)
def test_layer_to_layer_is_the_sum_over_pairs_under_the_terms_convention(term, convention):
    """The ablation of section 4: the same terms with more pairs of layers."""
    mask, on = example()[2], [example(seed) for seed in range(30, 36)]
    names = ("queries", "keys", "values")
    student, teacher = ({name: [layer[side][i] for layer in layers] for i, name in enumerate(names)}
                        for side, layers in ((0, on[:2]), (1, on[2:])))
    trained = {name: [Tensor(x, requires_grad=True) for x in of_layers] for name, of_layers in student.items()}
    batch = Batch(ids=np.zeros(mask.shape, int), mask=mask)
    term, rule = term.on(PAIRS).under(convention), CONVENTIONS[convention]
    value = term(features(mask, **trained), features(mask, **teacher), batch, term.divisor(batch))
    want = 0
    for s, t in PAIRS:
        sq, sk, sv, tq, tk, tv = (side[name][layer] for side, layer in ((student, s), (teacher, t))
                                  for name in names)
        want += (attention_transfer(sq, sk, tq, tk, mask, convention=rule) if term.name == "minilm.attention" else
                 value_relation_transfer(sv, tv, mask, convention=rule)).item()
    assert_within(value.array, want, 1e-14)
    value.backward()
    assert all((x.grad is not None) == (name in term.reads) for name in names for x in trained[name])
