"""Optimisers: PyTorch's and the printed equations, published traces, and what each leaves alone."""

import math
from dataclasses import replace

import numpy as np
import pytest

import strict_device
from gradcheck import assert_close32, assert_close64, assert_within, kappa
from oracle import optimizers as oracle
from tinydistill import kernels
from tinydistill.errors import WrongUsage
from tinydistill.methods.stage import Recipe
from tinydistill.students.bert import Bert
from tinydistill.students.configs import BertConfig
from tinydistill.tensor import Tensor
from tinydistill.training import schedules
from tinydistill.training.optimizers import OPTIMIZERS, decays, make
from tinydistill_reference import optimizers as printed

RECIPE = Recipe(steps=10, batch_size=4, learning_rate=0.02, warmup=3, clip=0.5, decay=0.1, beta1=0.8, beta2=0.95,
                eps=1e-3)
SHAPES = {"inner.weight": (4, 3), "inner.bias": (3,), "norm.weight": (3,), "w": (5,)}
DECAYING = {"inner.weight", "w"}
every = pytest.mark.parametrize("name", OPTIMIZERS)
both_sets = pytest.mark.parametrize("chosen", ["plain", "fused"])


def numbers(steps=10, seed=0, shapes=SHAPES):
    """(arrays, a list of gradients of each step) by name, the gradients over ten decades."""
    rng = np.random.default_rng(seed)
    arrays = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    return arrays, [{name: rng.standard_normal(shape) * 10.0 ** -step for name, shape in shapes.items()}
                    for step in range(steps)]


def started(name, arrays, recipe=RECIPE, xp=np):
    """(the optimiser, its parameters) on copies of the arrays, which keep their memory order."""
    parameters = {label: Tensor(xp.asarray(a.copy(order="K")), requires_grad=True) for label, a in arrays.items()}
    return make(parameters, replace(recipe, optimizer=name)), parameters


def trained(name, arrays, gradients, rates, recipe=RECIPE, **settings):
    """{name: array} after a step for each of the gradients."""
    optimizer, parameters = started(name, arrays, recipe)
    for g, rate in zip(gradients, rates, strict=True):
        optimizer.update(g, rate, **settings)
    return {label: p.array for label, p in parameters.items()}


def assert_same_bits(got, want):
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_array_equal(got[name], want[name], err_msg=name)


# ---------------------------------------------------------------- oracles

@every
@both_sets
@pytest.mark.parametrize("orders", ["CF", "FC"])
def test_ten_steps_are_pytorchs(name, chosen, orders):
    """orders: in memory, of the parameters and of the gradients."""
    arrays, gradients = numbers()
    arrays = {label: np.asarray(a, order=orders[0]) for label, a in arrays.items()}
    gradients = [{label: np.asarray(a, order=orders[1]) for label, a in each.items()} for each in gradients]
    for step in (0, 1, 5):
        gradients[step]["w"] = None
    peak = 1.0 if name == "adadelta" else RECIPE.learning_rate
    rates = [peak * schedules.linear(step, 10, 3) for step in range(10)]
    with kernels.use(chosen):
        got = trained(name, arrays, gradients, rates)
    want = oracle.steps(name, arrays, gradients, rates, RECIPE, DECAYING.__contains__)
    for label in SHAPES:
        assert_within(got[label], want[label], 1e-13, label)
        assert np.abs(arrays[label] - want[label]).max() > 0.01


def as_printed(name, w, gradients, rates, recipe, decaying):
    """What reference/optimizers.py makes of one parameter."""
    settings = dict(eps=recipe.eps, decay=recipe.decay if decaying else 0.0)
    adam = settings | dict(beta1=recipe.beta1, beta2=recipe.beta2)
    without_ratio = {"lamb": "adam-weight-decay", "lamb-bias-corrected": "adamw"}
    name = name if decaying else without_ratio.get(name, name)
    return {"adamw": lambda: printed.adamw(w, gradients, rates, **adam),
            "adam-weight-decay": lambda: printed.adam_weight_decay(w, gradients, rates, **adam),
            "bert-adam": lambda: printed.bert_adam(w, gradients, rates, clip=recipe.clip, **adam),
            "lamb": lambda: printed.lamb(w, gradients, rates, **adam),
            "lamb-bias-corrected": lambda: printed.lamb(w, gradients, rates, bias_correction=True, **adam),
            "adadelta": lambda: printed.adadelta(w, gradients, rates, **settings)}[name]()[-1]


@every
@both_sets
def test_steps_are_those_of_the_printed_equations_in_both_precisions(name, chosen):
    arrays, gradients = numbers(steps=3, seed=1)
    rates = [0.0, 0.1, 0.03]
    for label, w in arrays.items():
        inputs = [x.astype(np.float32).astype(np.float64) for x in (w, *(g[label] for g in gradients))]
        want = as_printed(name, inputs[0], inputs[1:], rates, RECIPE, label in DECAYING)

        def run(w, *gradients):
            return [trained(name, {label: w}, [{label: g} for g in gradients], rates)[label]]

        with kernels.use(chosen):
            assert_close64(run(*inputs)[0], want, label)
            unit, = kappa(run, inputs, [want])
            assert_close32(run(*[x.astype(np.float32) for x in inputs])[0], want, unit, label)


# ---------------------------------------------------------------- published numbers

def g(a, b, scale=1.0):
    return scale * np.sin(a * np.arange(6.0) + b).reshape(3, 2)


W, GRADIENTS = g(0.5, 0.3), [g(0.9, 0.1, 0.2), g(1.1, 0.4, 0.2)]
GOLDEN = Recipe(steps=2, batch_size=1, learning_rate=0.1, eps=1e-6, decay=0.01, clip=1.0)


@both_sets
@pytest.mark.parametrize("name, scale, first, last", [
    ("lamb", 1, 0.1517771346, 0.4787561305), ("lamb-bias-corrected", 1, 0.151625559, 0.4780932616),
    ("adam-weight-decay", 1, -0.3973449218, None), ("adamw", 1, 0.1063191217, 0.523143421181),
    ("bert-adam", 20, -0.3964027387, None), ("adam-weight-decay", 20, -0.3979602624, None)])
def test_two_steps_never_change(name, scale, first, last, chosen):
    with kernels.use(chosen):
        found = trained(name, {"w": W}, [{"w": scale * each} for each in GRADIENTS], [0.1, 0.1], GOLDEN)["w"]
    assert abs(found[0, 0] - first) <= 1e-10 and (last is None or abs(found[2, 1] - last) <= 1e-10)


def test_the_old_adamw_of_transformers_is_another_and_only_documented():
    old = printed.adamw(W, GRADIENTS, [0.1, 0.1], eps=1e-6, decay=0.01, eps_joins="uncorrected", decays="after")[-1]
    assert abs(old[0, 0] - 0.106693832) <= 1e-9 and abs(old[0, 0] - 0.1063191217) > 1e-4


@both_sets
def test_bert_adam_takes_the_trace_of_the_published_class(chosen):
    gradients = [(3, 4), (0.1, -0.2), (-0.3, 0.05), (0.2, 0.2)]
    trace = [(0.5, -0.25), (0.483331758292, -0.259962356607), (0.470405244158, -0.279782769717),
             (0.45279754731, -0.301474280742)]
    optimizer, parameters = started("bert-adam", {"w": np.array([0.5, -0.25])}, replace(GOLDEN, steps=10, warmup=2))
    with kernels.use(chosen):
        for step, (gradient, after) in enumerate(zip(gradients, trace)):
            optimizer.update({"w": np.array(gradient, float)}, 1e-2 * schedules.get("bert-adam")(step, 10, 2))
            assert_within(parameters["w"].array, np.array(after), 1e-12)


def test_the_first_step_without_bias_correction_is_3_162_times_as_long():
    recipe, slope = replace(GOLDEN, decay=0.0, eps=0.0), np.array([1e-3, -2.0, 5.0])
    for name, length in {"adamw": 1, "adam-weight-decay": 0.1 / math.sqrt(0.001)}.items():
        step = trained(name, {"w": np.zeros(3)}, [{"w": slope}], [1.0], recipe)["w"]
        np.testing.assert_allclose(step, -length * np.sign(slope), rtol=1e-12)


# ---------------------------------------------------------------- what holds for every optimiser

@every
@both_sets
def test_the_other_sign_goes_the_other_way_to_the_bit(name, chosen):
    arrays, gradients = numbers(steps=4, seed=2)
    with kernels.use(chosen):
        there = trained(name, arrays, gradients, [0.1] * 4)
        back = trained(name, {label: -a for label, a in arrays.items()},
                       [{label: -a for label, a in each.items()} for each in gradients], [0.1] * 4)
    assert_same_bits(back, {label: -a for label, a in there.items()})


@pytest.mark.parametrize("name, how", [(name, how) for name in OPTIMIZERS for how in ("no gradient", "factor 0")
                                       if (name, how) != ("lamb", "factor 0")])         # test_mobilebert_steps.py
def test_what_has_no_gradient_or_rate_keeps_weights_moments_and_count(name, how):
    arrays, gradients = numbers(steps=3, seed=3)
    skipped = [each | ({"w": None} if how == "no gradient" else {}) for each in gradients]
    factors = {"w": 0} if how == "factor 0" else None
    optimizer, parameters = started(name, arrays)
    optimizer.update(skipped[0], 0.1, factors)
    assert "w" not in optimizer.moments and "w" not in optimizer.steps and "inner.bias" in optimizer.moments
    assert (parameters["w"].array == arrays["w"]).all() and (parameters["norm.weight"].array != 0).all()
    optimizer.update(gradients[1], 0.1)
    before, kept = parameters["w"].array.copy(), [m.copy() for m in optimizer.moments["w"]]
    optimizer.update(skipped[2], 0.1, factors)
    assert_same_bits({"w": parameters["w"].array}, {"w": before})
    np.testing.assert_array_equal(optimizer.moments["w"], kept)
    assert optimizer.steps == {"w": 1} | dict.fromkeys(arrays.keys() - {"w"}, 3)
    assert_same_bits({"w": before}, {"w": trained(name, arrays, gradients[1:2], [0.1])["w"]})


@every
def test_a_multiplier_is_a_factor_of_the_rate_of_its_parameter(name):
    arrays, gradients = numbers(steps=3, seed=4)
    got = trained(name, arrays, gradients, [0.1, 0.2, 0.3], multipliers={"w": 0.5, "norm.weight": 2.0})
    for label, factor in {"w": 0.5, "norm.weight": 2.0, "inner.weight": 1.0, "inner.bias": 1.0}.items():
        alone = trained(name, {label: arrays[label]}, [{label: each[label]} for each in gradients],
                        [0.1 * factor, 0.2 * factor, 0.3 * factor])
        assert_same_bits({label: got[label]}, alone)


@every
def test_a_run_goes_on_from_its_state_to_the_same_bits(name):
    arrays, gradients = numbers(steps=6, seed=5)
    gradients[0]["w"] = gradients[4]["w"] = None
    want = trained(name, arrays, gradients, [0.1] * 6)
    first, parameters = started(name, arrays)
    for each in gradients[:3]:
        first.update(each, 0.1)
    moments, counts = first.state()
    assert moments.keys() == {f"{kind}/{label}" for kind in ("vu" if name == "adadelta" else "mv") for label in arrays}
    assert counts == {"inner.weight": 3, "inner.bias": 3, "norm.weight": 3, "w": 2}
    saved = {label: a.copy() for label, a in moments.items()}
    second, parameters = started(name, {label: p.array for label, p in parameters.items()})
    second.moments["gone"] = ()                     # a state replaces whatever there was
    second.load(saved, counts)
    for each in gradients[3:]:
        second.update(each, 0.1)
    assert_same_bits({label: p.array for label, p in parameters.items()}, want)
    assert_same_bits(saved, moments)                # the loaded arrays stay the caller's
    assert "gone" not in second.moments


@every
def test_steps_on_a_device_are_numpys_and_the_host_never_waits(name, strict_cupy):
    arrays, gradients = numbers(steps=3, seed=6)
    gradients[1]["w"] = None
    optimizer, parameters = started(name, arrays, xp=strict_cupy)
    moved = [{label: None if a is None else strict_cupy.asarray(a) for label, a in each.items()} for each in gradients]
    with strict_device.no_sync():
        for each in moved:
            optimizer.update(each, 0.1, {"inner.bias": 0.5})
    want = trained(name, arrays, gradients, [0.1] * 3, multipliers={"inner.bias": 0.5})
    for label, p in parameters.items():
        assert_within(p.array.get(), want[label], 1e-14, label)
    again, _ = started(name, arrays, xp=strict_cupy)
    again.load(*optimizer.state())
    assert all(type(moment) is type(parameters["w"].array) for moments in again.moments.values() for moment in moments)


@every
def test_biases_and_norms_take_no_decay_and_no_ratio(name):
    arrays, gradients = numbers(steps=2, seed=7)
    plainer = {"lamb": "adam-weight-decay", "lamb-bias-corrected": "adamw"}.get(name, name)
    without, with_decay, without_ratio = (trained(which, arrays, gradients, [0.1] * 2, replace(RECIPE, decay=decay))
                                          for which, decay in ((name, 0.0), (name, 9.0), (plainer, 0.0)))

    def differing(other):
        return {label for label in arrays if (other[label] != without[label]).any()}

    assert differing(with_decay) == DECAYING
    assert differing(without_ratio) == (set() if plainer == name else DECAYING)


def test_the_parameters_that_decay():
    model = Bert(BertConfig(1, 8, heads=2, feed_forward=16, vocabulary=9, positions=8, head="masked-lm"), seed=0)
    layer = {f"layers.0.{part}.weight" for part in ("attention.query", "attention.key", "attention.value",
                                                    "attention.output", "feed_forward.inner", "feed_forward.outer")}
    assert {name for name in model.named_parameters() if decays(name)} == layer | {
        "embeddings.word.weight", "embeddings.position.weight", "embeddings.token_type.weight", "pooler.weight",
        "head.dense.weight"}


def test_bert_adam_alone_clips_by_itself_and_not_at_all_where_the_recipe_does_not():
    assert [name for name in OPTIMIZERS if started(name, {})[0].clips_itself] == ["bert-adam"]
    arrays, gradients = numbers(steps=2)
    not_clipping = replace(RECIPE, clip=0.0)
    assert_same_bits(trained("bert-adam", arrays, gradients, [0.1] * 2, not_clipping),
                     trained("adam-weight-decay", arrays, gradients, [0.1] * 2, not_clipping))


def test_an_unknown_optimiser_is_wrong_usage_that_names_those_there_are():
    with pytest.raises(WrongUsage, match="^need an optimizer out of adamw, adam-weight-decay, bert-adam, lamb, "
                                         "lamb-bias-corrected, adadelta; got 'sgd'$"):
        make({}, replace(RECIPE, optimizer="sgd"))


# ---------------------------------------------------------------- LAMB and Adadelta by hand

@both_sets
@pytest.mark.parametrize("name", ["lamb", "lamb-bias-corrected"])
def test_lamb_goes_a_share_of_the_parameters_own_length(name, chosen):
    w, slope = np.array([[3.0, 0.0], [0.0, 4.0]]), np.array([[1.0, -2.0], [0.5, 1e-3]])
    with kernels.use(chosen):
        step = trained(name, {"w": w}, [{"w": slope}], [0.01])["w"] - w
        assert abs(np.linalg.norm(step) - 0.01 * 5) <= 1e-14               # of the whole tensor, not row by row
        still = trained(name, {"w": w}, [{"w": 0 * slope}], [0.1], replace(RECIPE, decay=0.0))["w"]
        grown = trained(name, {"w": 0 * w}, [{"w": slope}], [0.1])["w"]
    assert_same_bits({"w": still}, {"w": w})        # a ratio of 1 where a norm is 0: nothing divides by it
    plainer = "adam-weight-decay" if name == "lamb" else "adamw"
    assert_within(grown, trained(plainer, {"w": 0 * w}, [{"w": slope}], [0.1])["w"], 1e-15)


@both_sets
def test_the_first_step_of_adadelta_by_hand(chosen):
    """v = 0.05 (2 + 0.1)^2 for a gradient of 2 and a decay of 0.1 of 1; d = sqrt(eps / (v + eps)) 2.1."""
    v = 0.05 * 2.1 ** 2
    d = math.sqrt(1e-3 / (v + 1e-3)) * 2.1
    optimizer, parameters = started("adadelta", {"w": np.ones(1)})
    with kernels.use(chosen):
        optimizer.update({"w": np.full(1, 2.0)}, 0.5)
    np.testing.assert_allclose([parameters["w"].array, *optimizer.moments["w"]],
                               [[1 - 0.5 * d], [v], [0.05 * d * d]], rtol=1e-14)
