"""The learned maps of a method: which there are, of what shape, how they are drawn, named and moved."""

import numpy as np
import pytest

from gradcheck import assert_within
from method_toys import CASES, models
from tinydistill.backend import xp_of
from tinydistill.losses import TERMS
from tinydistill.methods.projections import Projections
from tinydistill.methods.stage import Stage
from tinydistill.architectures import parse
from tinydistill.training.loop import METHOD

NAMES = {                                           # of every case that learns maps
    "minilm, value-mse": {"minilm_values.weight"},
    "fitnets": {"fitnets.regressor.0.weight", "fitnets.regressor.0.bias"},
    "tinybert": {"tinybert.W_e.weight", "tinybert.W_h.weight"},                 # no bias, as printed
    "tinybert, official": {"tinybert.fit_dense.weight", "tinybert.fit_dense.bias"},     # one for all, with a bias
    "tinybert on a task": {"tinybert.W_e.weight", "tinybert.W_h.weight"},
    "tinybert on a task, official": {"tinybert.fit_dense.weight", "tinybert.fit_dense.bias"},
    "shared-projection": {"shared_projection.U_down.weight", "shared_projection.V_down.weight"},
    "shared-projection, up": {"shared_projection.U_up.weight", "shared_projection.V_up.weight"},
    "shared-projection, both": {f"shared_projection.{map}_{way}.weight" for map in "UV" for way in ("down", "up")},
}


@pytest.mark.parametrize("name", CASES)
def test_a_method_has_the_maps_that_its_terms_name_from_student_to_teacher_width(name):
    student, teacher = models(CASES[name])
    maps = Projections(CASES[name].plan(student, teacher), student.config, teacher.config)
    shapes = {label: parameter.shape for label, parameter in maps.named_parameters().items()}
    assert shapes == {label: (12, 8) if label.endswith("weight") else (12,) for label in NAMES.get(name, ())}
    assert bool(maps) == (name in NAMES) and len(maps) == len({label.rpartition(".")[0] for label in shapes})
    for label in NAMES.get(name, ()):
        term_name, _, kind = label.rpartition(".")
        assert getattr(maps[term_name], kind) is maps.named_parameters()[label]


def test_released_weights_of_tinybert_have_a_map_for_each_hidden_state():
    hidden = TERMS["tinybert.hidden"].on(((0, 0), (1, 2))).but(projection_each=True, projection_bias=True)
    maps = Projections((Stage("each", ((1.0, hidden),), {}),), parse("2x8"), parse("3x12"))
    assert maps.named_parameters().keys() == {f"tinybert.W_h.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")}
    assert not (maps["tinybert.W_h.0"].weight.array == maps["tinybert.W_h.1"].weight.array).any()


def drawn(*seed, **settings):
    case = CASES["tinybert, official"]
    student, teacher = parse("2x300x2"), parse("2x200x2")
    return Projections(case.of.plan(student, teacher, convention="official"), student, teacher, *seed, **settings)


def test_weights_are_drawn_by_the_seed_and_biases_begin_at_zero():
    weight = drawn(3)["tinybert.fit_dense"].weight.array
    assert (weight == drawn(3)["tinybert.fit_dense"].weight.array).all()
    assert not (weight == drawn(4)["tinybert.fit_dense"].weight.array).any()
    assert (drawn()["tinybert.fit_dense"].weight.array == drawn(0, std=0.02)["tinybert.fit_dense"].weight.array).all()
    assert not drawn(3)["tinybert.fit_dense"].bias.array.any()
    for std, maps in ((0.02, drawn(5)), (0.3, drawn(5, std=0.3))):
        array = maps["tinybert.fit_dense"].weight.array
        assert array.dtype == np.float32 and array.shape == (200, 300)
        # 60,000 numbers: their mean is std/245 from 0, and their deviation std/346 from std; five times that.
        assert_within(array.mean(), 0.0, 5 * std / 245)
        assert_within(array.std(), std, 5 * std / 346)


def test_they_move_like_any_module_and_load_what_they_saved(xp):
    maps = drawn(1).to(xp, np.float64)
    array = maps["tinybert.fit_dense"].weight.array
    assert xp_of(array) is xp and array.dtype == np.float64 and maps["tinybert.fit_dense"].weight.requires_grad
    other = drawn(2).to(xp, np.float64).load(maps.arrays())
    assert all((array == maps.arrays()[name]).all() for name, array in other.arrays().items())


def test_their_names_in_a_checkpoint_are_no_names_of_a_student():
    for name in NAMES:
        student, teacher = models(CASES[name])
        maps = Projections(CASES[name].plan(student, teacher), student.config, teacher.config)
        labels = {METHOD + label for label in maps.named_parameters()}
        assert not labels & student.named_parameters().keys()
