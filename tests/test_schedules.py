"""Schedules: published lines, which of them are the same, and rates by layer."""

import numpy as np
import pytest

from oracle import optimizers as oracle
from tinydistill.errors import WrongUsage
from tinydistill.students.bert import Bert
from tinydistill.students.configs import BertConfig
from tinydistill.training.schedules import SCHEDULES, get, layer_of, layerwise_decay

every = pytest.mark.parametrize("name", SCHEDULES)
LENGTHS = [(8, 4), (10, 3), (7, 0), (100, 1), (5, 5), (1, 0)]


def factors(name, steps, warmup):
    return np.array([get(name)(step, steps, warmup) for step in range(steps)])


def test_the_rate_goes_up_from_0_and_down_to_0():
    assert factors("linear", 8, 4).tolist() == [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25]
    assert factors("linear", 4, 0).tolist() == [1, 0.75, 0.5, 0.25]
    assert factors("linear", 2, 2).tolist() == [0, 0.5]


@pytest.mark.parametrize("steps, warmup", LENGTHS)
@pytest.mark.parametrize("name, theirs", [("linear", "linear"), ("constant", "constant_with_warmup")])
def test_the_schedules_of_transformers(name, theirs, steps, warmup):
    np.testing.assert_allclose(factors(name, steps, warmup), oracle.schedule(theirs, steps, warmup), rtol=1e-15)


@pytest.mark.parametrize("steps, warmup", LENGTHS)
def test_of_three_linear_warm_ups_two_are_the_same_line(steps, warmup):
    np.testing.assert_allclose(factors("bert-adam", steps, warmup), factors("linear", steps, warmup), rtol=1e-13)
    different = np.abs(factors("bert", steps, warmup) - factors("linear", steps, warmup)) > 1e-15
    assert different.tolist() == [step >= warmup > 0 for step in range(steps)]


def test_googles_line_drops_where_the_warm_up_ends():
    assert factors("bert", 8, 4).tolist() == [0, 0.25, 0.5, 0.75, 0.5, 0.375, 0.25, 0.125]
    assert factors("bert", 4, 0).tolist() == factors("linear", 4, 0).tolist() == [1, 0.75, 0.5, 0.25]
    steps, warmup = 1000, 100                       # from almost 1 to 1 - w/S
    found = factors("bert", steps, warmup)
    assert found[warmup - 1] == 0.99 and found[warmup] == 0.9 == 1 - warmup / steps
    assert factors("linear", steps, warmup)[warmup] == 1


def test_mobileberts_line_ends_at_a_ten_thousandth():
    assert get("mobilebert")(8, 8, 4) == 1e-4 and get("mobilebert")(0, 8, 0) == 1
    bert, mobilebert = factors("bert", 8, 4), factors("mobilebert", 8, 4)
    assert (mobilebert[:4] == bert[:4]).all()
    np.testing.assert_allclose(mobilebert[4:] - bert[4:], 1e-4 * np.arange(4, 8) / 8, rtol=1e-10)


@every
def test_with_a_warm_up_the_first_update_has_rate_0_and_none_more_than_1(name):
    for steps, warmup in LENGTHS:
        found = factors(name, steps, warmup)
        assert found[0] == (0 if warmup else 1) and (found[1:] > 0).all() and found.max() <= 1
        np.testing.assert_allclose(found[:warmup], np.arange(warmup) / max(warmup, 1), rtol=1e-14)


def test_an_unknown_schedule_is_wrong_usage_that_names_those_there_are():
    with pytest.raises(WrongUsage, match="^need a schedule out of linear, bert-adam, bert, mobilebert, constant; "
                                         "got 'cosine'$"):
        get("cosine")


# ---------------------------------------------------------------- by layer

def parameter_names(layers):
    return Bert(BertConfig(layers, 8, heads=2, feed_forward=16, vocabulary=9, positions=8, head="masked-lm"),
                seed=0).named_parameters()


def test_the_layer_of_every_parameter_of_bert():
    names = parameter_names(11)
    layers = {name: layer_of(name) for name in names}
    for l in range(11):
        assert [n for n in names if layers[n] == l] == [n for n in names if n.startswith(f"layers.{l}.")]
        assert sum(found == l for found in layers.values()) == 16
    assert {name.split(".")[0] for name in names if layers[name] is None} == {"embeddings", "pooler", "head"}
    assert layer_of("head.layers.3.weight") is layer_of("layers.3") is layer_of("xlayers.3.weight") is None


def test_layerwise_rates_fall_by_a_factor_a_layer():
    found = layerwise_decay(parameter_names(3), depth=3, factor=0.5)
    assert found.keys() == parameter_names(3).keys()
    by_part = {"embeddings": 1 / 16, "layers.0": 1 / 8, "layers.1": 1 / 4, "layers.2": 1 / 2, "pooler": 1, "head": 1}
    for name, factor in found.items():
        part = next(part for part in by_part if name.startswith(part + "."))
        assert factor == by_part[part], name
    assert set(layerwise_decay(parameter_names(2), depth=2, factor=1).values()) == {1.0}
