"""Term by itself: what it needs, which learned maps it takes, and how it is put on layers and under conventions."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from tinydistill.errors import WrongUsage
from tinydistill.features import Batch, Needs
from tinydistill.losses.convention import PAPER
from tinydistill.losses.term import Term

MASK = np.array([[True, True, True], [True, False, False]])
BATCH = Batch(ids=np.zeros((2, 3), int), mask=MASK)
RULES = {"paper": PAPER, "official": PAPER.but(divisor="row")}


def toy(**settings):
    return Term("toy", lambda *given: given, **settings)


def test_what_is_taken_where_nothing_is_said():
    """The last layers, the paper's convention, its temperature of 1, no learned map, and sequences counted."""
    term = toy()
    assert (term.pairs, term.rule, term.divisor(BATCH)) == (((-1, -1),), PAPER, 2)
    assert (term.temperature, term.relation_heads, term.smoothing) == (1, 0, 0.1)
    assert term.projection_names == () and not (term.projection_each or term.projection_bias or term.reads_parameters)
    assert term.student_needs == term.teacher_needs == Needs()


def test_the_loss_is_given_the_term_and_what_the_term_is_called_with():
    term = toy(reads=("logits",))
    assert term("student", "teacher", "batch", 3) == (term, "student", "teacher", "batch", 3, None)
    assert term("student", "teacher", "batch", 3, "maps")[-1] == "maps"


def test_what_is_read_of_layers_is_needed_on_the_pairs_and_the_rest_once():
    term = toy(reads=("queries", "logits"), teacher_reads=("hidden",)).on([(0, 1), (2, 5)])
    assert term.pairs == ((0, 1), (2, 5))
    assert term.student_needs == Needs.of(queries=[0, 2], logits=True) and term.teacher_needs == Needs.of(hidden=[1, 5])


@pytest.mark.parametrize("reads, teacher_reads, moves", [
    (("hidden",), ("hidden",), True), (("hidden",), ("logits",), True), (("logits",), ("hidden",), True),
    (("logits", "embeddings"), ("logits",), False), ((), (), False)])
def test_only_a_term_of_layers_is_put_on_others(reads, teacher_reads, moves):
    term = toy(reads=reads, teacher_reads=teacher_reads)
    assert (term.on([(0, 0)]).pairs == ((0, 0),)) == moves and (term.on([(0, 0)]) is term) != moves


@pytest.mark.parametrize("settings, names", [
    ({"projection": "map"}, ("map", "map")), ({"projection": "map", "projection_each": True}, ("map.0", "map.1")),
    ({"projection": ("inner", "outer")}, ("inner", "outer")), ({"projection": ()}, ()), ({}, ())], ids=str)
def test_learned_maps_are_named(settings, names):
    assert toy(reads=("hidden",), **settings).on([(0, 0), (1, 2)]).projection_names == names


def test_a_sum_over_pairs_hands_each_pair_its_map():
    maps = {name: SimpleNamespace(weight=10 * i, bias=i) for i, name in enumerate(("map.0", "map.1", "other"), 1)}
    term = toy(reads=("hidden",)).on([(3, 100), (5, 200)])
    assert term.over_pairs(lambda s, t: s * t) == 3 * 100 + 5 * 200
    term = term.but(projection="map", projection_each=True)
    assert term.over_pairs(lambda s, t, weight, bias: s * weight + bias, maps) == 3 * 10 + 1 + 5 * 20 + 2
    term = term.but(projection="other", projection_each=False)
    assert term.over_pairs(lambda s, t, weight, bias: s * weight + bias, maps) == 3 * 30 + 3 + 5 * 30 + 3


def test_a_convention_is_chosen_by_its_name():
    term = toy(conventions=RULES)
    official = term.under("official")
    assert term.rule is PAPER and official.rule is RULES["official"]
    assert (term.divisor(BATCH), official.divisor(BATCH)) == (2, 4)
    with pytest.raises(WrongUsage, match="^need a convention of toy out of paper, official; got 'published'$"):
        term.under("published")


def test_a_term_cannot_be_changed_in_passing_and_can_be_a_key():
    term = toy()
    with pytest.raises(dataclasses.FrozenInstanceError):
        term.temperature = 2.0
    assert {term: 1}[term.but(temperature=1.0)] == 1 and term.but(temperature=2.0).temperature == 2.0
