"""Layer maps: the papers' own examples, what every map promises, and pairs that a map has no answer for."""

import pytest

from tinydistill.errors import WrongUsage
from tinydistill.methods import layer_maps
from tinydistill.methods.layer_maps import bottom, last, middle, one_to_one, patient_last, skip, top, uniform

ALL = {f.__name__: f for f in (last, uniform, top, bottom, one_to_one, skip, patient_last, middle)}
each_map = pytest.mark.parametrize("name", ALL)
DEPTHS = [(M, L) for L in range(1, 25) for M in range(1, L + 1)]


def from_one(pairs):
    """The teacher's layers, counted from 1 as papers do, of student layers 1, 2, 3 ..."""
    assert [student for student, _ in pairs] == list(range(len(pairs)))
    return [teacher + 1 for _, teacher in pairs]


def test_they_are_all_here():
    public = {name for name, value in vars(layer_maps).items()
              if callable(value) and value.__module__ == layer_maps.__name__ and not name.startswith("_")}
    assert public == ALL.keys()


@pytest.mark.parametrize("layer_map, student, teacher, layers", [
    (uniform, 4, 12, [3, 6, 9, 12]),                # TinyBERT4: g(m) = m L/M
    (uniform, 6, 12, [2, 4, 6, 8, 10, 12]),         # TinyBERT6, Aguilar
    (top, 4, 12, [9, 10, 11, 12]),                  # TinyBERT's ablation: g(m) = m + L - M
    (bottom, 4, 12, [1, 2, 3, 4]),                  # g(m) = m
    (skip, 6, 12, [2, 4, 6, 8, 10]),                # BERT-PKD, section 3
    (skip, 3, 12, [4, 8]),
    (skip, 6, 24, [4, 8, 12, 16, 20]),
    (skip, 3, 24, [8, 16]),
    (patient_last, 6, 12, [7, 8, 9, 10, 11]),
    (patient_last, 3, 12, [10, 11]),
    (one_to_one, 3, 3, [1, 2, 3]),                  # MobileBERT
])
def test_published_maps(layer_map, student, teacher, layers):
    assert from_one(layer_map(student, teacher)) == layers


def test_one_pair_of_layers_is_the_last_or_the_middle():
    assert last(6, 12) == ((5, 11),) and last(1, 1) == ((0, 0),) and last(12, 3) == ((11, 2),)
    assert middle(4, 12) == ((1, 5),) and middle(5, 11) == ((2, 5),) and middle(2, 4) == ((0, 1),)
    assert middle(1, 2) == ((0, 0),) and middle(12, 4) == ((5, 1),)


def pairs_or_none(name, student, teacher):
    try:
        return ALL[name](student, teacher)
    except WrongUsage:
        return None


@each_map
def test_a_map_stays_inside_both_models_and_never_goes_back(name):
    found = [(M, L, pairs) for M, L in DEPTHS if (pairs := pairs_or_none(name, M, L)) is not None]
    assert len(found) >= 24
    for M, L, pairs in found:
        assert isinstance(pairs, tuple)
        for side, depth in ((0, M), (1, L)):
            layers = [pair[side] for pair in pairs]
            assert layers == sorted(set(layers)) and 0 <= layers[0] and layers[-1] < depth


def test_which_pairs_of_depths_have_a_map():
    for M, L in DEPTHS:
        expected = {"uniform", "skip"} if L % M else set()
        expected |= {"skip", "patient_last"} if M == 1 else set()
        expected |= {"one_to_one"} if M != L else set()
        assert {name for name in ALL if pairs_or_none(name, M, L) is None} == expected


@pytest.mark.parametrize("layer_map, student, teacher, needed", [
    (uniform, 5, 12, "the uniform layer map needs a teacher's depth that is a multiple of the student's: "
                     "student 5 layers, teacher 12"),
    (skip, 5, 12, "the uniform layer map needs a teacher's depth .*: student 5 layers, teacher 12"),
    (skip, 1, 12, "PKD compares all layers but the last: need a student of at least 2 layers, got 1"),
    (patient_last, 1, 12, "PKD compares all layers but the last: need a student of at least 2 layers, got 1"),
    (uniform, 6, 3, "the uniform layer map needs .*: student 6 layers, teacher 3"),
    (top, 4, 3, "this layer map needs a teacher at least as deep as the student: student 4 layers, teacher 3"),
    (bottom, 4, 3, "this layer map needs a teacher at least as deep as the student: student 4 layers, teacher 3"),
    (patient_last, 4, 3, "this layer map needs a teacher at least as deep as the student: student 4 layers, teacher 3"),
    (one_to_one, 3, 4, "need a student as deep as its teacher: student 3 layers, teacher 4"),
])
def test_depths_that_do_not_fit_are_one_line(layer_map, student, teacher, needed):
    with pytest.raises(WrongUsage, match=f"^{needed}$") as problem:
        layer_map(student, teacher)
    assert problem.value.exit_code == 2
