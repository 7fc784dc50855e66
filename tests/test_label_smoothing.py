"""Label smoothing, the standard one and UniLM's: kernel, op and terms."""

import functools
import re

import numpy as np
import pytest

from gradcheck import assert_close64, assert_within
from loss_checks import (POISONS, assert_same, check_complex_step, check_device, check_padding_never_matters,
                         differentiated)
from oracle import label_smoothing as oracle, torch_ops
from oracle.torch_check import against_torch
from test_ops import as_torch
from test_soft_labels import det
from tinydistill import kernels, ops
from tinydistill.features import Batch, Features
from tinydistill.losses import label_smoothing as ours
from tinydistill.losses.label_smoothing import label_smoothing, unilm_label_smoothing
from tinydistill_reference import label_smoothing as reference

LABELS = np.array([1, -100, 6, 2, 3, 0, 5])
CANDIDATES = {                                      # eps 0.2: ours, the printed sum, PyTorch
    "standard": (lambda x, y: label_smoothing(x, y, smoothing=0.2),
                 lambda x, y: reference.label_smoothing(x, y, smoothing=0.2), lambda x, y: oracle.standard(x, y, 0.2)),
    "unilm": (lambda x, y: unilm_label_smoothing(x, y, smoothing=0.2),
              lambda x, y: reference.unilm(x, y, smoothing=0.2), lambda x, y: oracle.unilm(x, y, 0.2)),
    "unilm, another pad": (lambda x, y: unilm_label_smoothing(x, y, smoothing=0.2, pad=2),
                           lambda x, y: reference.unilm(x, y, smoothing=0.2, pad=2),
                           lambda x, y: oracle.unilm(x, y, 0.2, pad=2)),
    "unilm, official": (lambda x, y: unilm_label_smoothing(x, y, smoothing=0.2, convention=ours.UNILM["official"]),
                        lambda x, y: reference.unilm(x, y, smoothing=0.2, epsilon=1e-5),
                        lambda x, y: oracle.unilm(x, y, 0.2, added=1e-5)),
}
each = pytest.mark.parametrize("name", CANDIDATES)


def example(seed=0):
    return [2 * np.random.default_rng(seed).standard_normal((7, 7)), LABELS]


# ---------------------------------------------------------------- three witnesses, golden values

@each
def test_value_is_the_printed_sum_and_the_gradient_its_derivative(name):
    loss, printed, twin = CANDIDATES[name]
    assert_close64(loss(*example()).array, printed(*example()))
    check_complex_step(loss, printed, example(), [0])
    against_torch(loss, twin, example(1))


GOLDEN, TARGETS = det((6, 7), 0.51, 0.2, 2), np.array([1, 4, 6, 2, 3, 0])
PUBLISHED = [1.50456100005504, 2.05153611705108, 4.07716245428787, 3.27604669908571, 2.67776431274678, 0]


def test_golden_values_of_unilm_which_has_its_targets_and_their_entropy_in_float32():
    for x, y, golden in zip(GOLDEN, TARGETS, PUBLISHED):
        ours_alone = unilm_label_smoothing(x[None], y[None]).item()
        if y == 0:
            assert ours_alone == golden == 0
            continue
        r = np.where(np.arange(1, 7) == y, 0.9, 0.1 / 5).astype(np.float32)             # of all but the pad
        log_q = x[1:] - np.log(np.exp(x).sum())
        assert_within((r * np.log(r)).astype(np.float64).sum() - r @ log_q, golden, 1e-13)
        rounding = 2.0 ** -24 * (r * (3 * np.abs(np.log(r)) + np.abs(log_q))).sum()
        assert_within(ours_alone, golden, rounding)
    official = unilm_label_smoothing(GOLDEN, TARGETS, convention=ours.UNILM["official"]).item()
    exact = sum(unilm_label_smoothing(x[None], y[None]).item() for x, y in zip(GOLDEN, TARGETS))
    assert_within(official, exact / (5 + 1e-5), 1e-13)


def test_the_golden_value_of_the_standard():
    standard = label_smoothing(GOLDEN.reshape(2, 3, 7), np.where(TARGETS == 0, -100, TARGETS).reshape(2, 3))
    assert_within(standard.array, 3.21449957159818, 1e-13)


# ---------------------------------------------------------------- the op

@pytest.mark.parametrize("constant", ["kl", "cross-entropy"])
@pytest.mark.parametrize("pad", [None, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("choice", ["plain", "fused"])
def test_every_kind_of_target_is_pytorchs(choice, smoothing, pad, constant):
    settings = {"smoothing": smoothing, "pad": pad, "constant": constant}
    with kernels.use(choice):
        twin = as_torch(torch_ops.smoothed_cross_entropy, settings)
        against_torch(ops.smoothed_cross_entropy, twin, example(2), **settings)


def test_without_smoothing_it_is_the_cross_entropy():
    want = differentiated(ops.cross_entropy, example(3))
    for settings in ({}, {"constant": "kl"}, {"pad": 4}):
        def loss(*arrays):
            return ops.smoothed_cross_entropy(*arrays, smoothing=0.0, **settings)
        assert_same(differentiated(loss, example(3)), want)


def test_a_model_that_is_as_smooth_as_the_labels_loses_nothing():
    r = np.full(7, 0.3 / 5)
    r[0], r[4] = 1e-300, 0.7                        # the pad's logit is far below, not -inf

    def loss(*arrays):
        return ops.smoothed_cross_entropy(*arrays, smoothing=0.3, pad=0, constant="kl")

    value, (gradient, _) = differentiated(loss, [np.log(r)[None], np.array([4])])
    assert abs(value) < 1e-15 and np.abs(gradient).max() < 1e-15


@pytest.mark.parametrize("settings, text", [
    ({"smoothing": 1.0}, "need a smoothing of at least 0 and below 1, got 1.0"),
    ({"smoothing": -0.1}, "need a smoothing of at least 0 and below 1, got -0.1"),
    ({"smoothing": 0.1, "pad": 7}, "need a pad out of 0 to V-1 and V of at least 3; got pad 7 and V 7"),
    ({"smoothing": 0.1, "pad": -1}, "need a pad out of 0 to V-1 and V of at least 3; got pad -1 and V 7"),
    ({"smoothing": 0.1, "constant": "ce"}, "need a constant kl or cross-entropy, got 'ce'")])
def test_settings_that_cannot_be_are_named(settings, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        ops.smoothed_cross_entropy(*example(), **settings)


def test_labels_that_cannot_be_are_named():
    x, y = example()
    with pytest.raises(ValueError, match="got pad 0 and V 2"):
        ops.smoothed_cross_entropy(x[:, :2], y * 0, smoothing=0.1, pad=0)
    with pytest.raises(ValueError, match=re.escape("need logits (N, V) and labels (N,): logits (7, 7), labels (6,)")):
        ops.smoothed_cross_entropy(x, y[:6], smoothing=0.1)
    with pytest.raises(ValueError, match=re.escape("need logits (N, V) and labels (N,): logits (7,), labels (7,)")):
        ops.smoothed_cross_entropy(x[0], y, smoothing=0.1)
    with pytest.raises(ValueError, match="need labels from 0 to 4 or -100; got 6 in row 2"):
        ops.smoothed_cross_entropy(x[:, :5], y, smoothing=0.1)


def test_three_classes_with_a_pad_leave_one_for_the_smoothing():
    x = example(4)[0][:1, :3]
    q = np.exp(x[0]) / np.exp(x[0]).sum()
    value = ops.smoothed_cross_entropy(x, np.array([1]), smoothing=0.2, pad=0).item()
    assert_within(value, -0.8 * np.log(q[1]) - 0.2 * np.log(q[2]), 1e-14)


# ---------------------------------------------------------------- rows without a label, shards, devices

@pytest.mark.parametrize("choice", ["plain", "fused"])
@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
@pytest.mark.parametrize("name, without", [("standard", [-100]), ("unilm", [-100, 0]),
                                           ("unilm, another pad", [-100, 2])])
def test_rows_without_a_label_never_matter(name, without, poison, choice):
    with kernels.use(choice):
        check_padding_never_matters(CANDIDATES[name][0], example(5), {0: np.isin(LABELS, without)}, poison)


@each
def test_without_labels_the_loss_and_its_gradient_are_zero(name):
    x, _ = example(6)
    value, (gradient, _) = differentiated(CANDIDATES[name][0], [x, np.full(7, -100)])
    assert value == 0 and gradient.shape == (7, 7) and (gradient == 0).all()


@pytest.mark.parametrize("term, printed", [
    (ours.standard, reference.label_smoothing), (ours.unilm, reference.unilm),
    (ours.unilm.under("official"), functools.partial(reference.unilm, epsilon=1e-5))],
    ids=["standard", "unilm", "unilm official"])
@pytest.mark.parametrize("positions", [None, np.array([0, 1, 2, 4, 5, 7])], ids=["every token", "positions"])
def test_terms_of_shards_add_up_to_the_printed_sum_of_the_whole(term, printed, positions):
    labels = np.array([[1, 0, 4], [-100, 3, 6], [-100, -100, -100]])
    batch = Batch(ids=labels, mask=np.ones((3, 3), bool), labels=labels, positions=positions)
    read = np.arange(9) if positions is None else positions
    x, term = 2 * np.random.default_rng(7).standard_normal((len(read), 7)), term.but(smoothing=0.3)
    divisor, total, begin = term.divisor(batch), 0.0, 0
    for shard in batch.split(3):
        end = begin + (3 if positions is None else len(shard.positions))
        total += term(Features("toy", 1, None, logits=x[begin:end]), None, shard, divisor).item()
        begin = end
    assert_within(total, printed(x, labels.ravel()[read], smoothing=0.3), 1e-13)


def test_the_standard_smoothing_is_that_of_all_terms():
    assert ours.standard.smoothing == ours.unilm.smoothing == 0.1


@each
def test_a_device_computes_the_same_and_the_host_never_waits(name, strict_cupy):
    losses = {"standard": lambda x, y: label_smoothing(x, y, divisor=3),
              "unilm": lambda x, y: unilm_label_smoothing(x, y, divisor=3)}
    check_device(losses.get(name, losses["unilm"]), example(8), strict_cupy)
