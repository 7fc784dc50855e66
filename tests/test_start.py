"""How a student's weights begin: the right layers of its teacher, to the bit, or as they were drawn."""

import numpy as np
import pytest

import small_mobilebert
from tinydistill.errors import WrongUsage
from tinydistill.methods import METHODS
from tinydistill.methods.start import OUTSIDE_ENCODER, STARTS, alternate, copied, first, spread
from toys import toy

LABELS = ("a", "b", "c")


def arrays(model):
    return {name: array.copy() for name, array in model.arrays().items()}


@pytest.mark.parametrize("choose, student, teacher, layers", [
    (spread, 6, 12, [0, 2, 4, 7, 9, 11]),           # what extract_distilbert.py takes, first and last included
    (alternate, 6, 12, [0, 2, 4, 6, 8, 10]),        # "one layer out of two", as the paper says
    (first, 6, 12, [0, 1, 2, 3, 4, 5]),             # BERT-PKD: the first k layers
    (first, 3, 12, [0, 1, 2]),
    (alternate, 3, 12, [0, 4, 8]),
    (alternate, 5, 12, [0, 2, 4, 6, 8]),
    (spread, 3, 12, [0, 6, 11]),
    (spread, 1, 12, [0]),
])
def test_published_choices_of_layers(choose, student, teacher, layers):
    assert choose(student, teacher) == layers


@pytest.mark.parametrize("choose", [first, alternate, spread])
def test_a_student_as_deep_as_its_teacher_takes_all_and_no_layer_is_taken_twice(choose):
    for L in range(1, 25):
        assert choose(L, L) == list(range(L))
        for M in range(1, L + 1):
            layers = choose(M, L)
            assert len(layers) == M and layers == sorted(set(layers)) and 0 == layers[0] and layers[-1] < L


def test_methods_start_as_their_papers_say():
    assert all(method.start in STARTS for method in METHODS.values())
    starts = {name: method.start for name, method in METHODS.items()}
    assert starts["minilm"] == starts["tinybert"] == starts["fitnets"] == "random"
    assert starts["distilbert"] == "spread-layers" and starts["pkd-skip"] == starts["pkd-last"] == "first-layers"


@pytest.mark.parametrize("start", [start for start in STARTS if start != OUTSIDE_ENCODER])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_layers_are_the_right_ones_of_the_teacher_to_the_bit(start, dtype, xp):
    student, teacher = toy(12, 2, 0, dtype), toy(12, 4, 1, dtype)
    drawn, theirs = arrays(student), arrays(teacher)
    student = student.to(xp)
    assert copied(student, teacher.to(xp), start) is student
    layers = {"random": None, "first-layers": [0, 1], "alternate-layers": [0, 2], "spread-layers": [0, 3]}[start]
    for name, array in student.arrays().items():
        source = name
        if name.startswith("layers."):
            _, own, rest = name.split(".", 2)
            source = f"layers.{layers[int(own)]}.{rest}" if layers else name
        want = theirs[source] if layers else drawn[name]
        assert array.dtype == dtype and (array == want).all(), name
    assert {"layers.1.feed_forward_norm.bias", "embeddings.token_type.weight", "pooler.weight"} <= drawn.keys()
    for name, array in teacher.arrays().items():
        assert (array == theirs[name]).all()


def test_the_copy_is_the_students_own():
    student, teacher = toy(12, 2, 0), toy(12, 4, 1)
    before = arrays(copied(student, teacher, "first-layers"))
    for parameter in teacher.parameters():
        parameter.array += 1
    assert all((array == before[name]).all() for name, array in student.arrays().items())


def test_heads_begin_fresh_but_for_the_bias_of_a_masked_lm_decoder():
    for head, labels, copied_names in (("sequence", LABELS, set()), ("masked-lm", (), {"head.bias"})):
        student, teacher = (toy(12, layers, seed, head=head, labels=labels) for layers, seed in ((2, 0), (4, 1)))
        for name, parameter in teacher.named_parameters().items():
            parameter.array = parameter.array + 0.1 * len(name)
        drawn = student.arrays()
        copied(student, teacher, "first-layers")
        for name in (name for name in drawn if name.startswith("head.")):
            want = teacher.arrays() if name in copied_names else drawn
            assert (student.arrays()[name] == want[name]).all(), name


def test_embeddings_of_another_vocabulary_or_length_stay_as_drawn():
    student, teacher = toy(12, 2, 0, vocabulary=23, positions=9), toy(12, 4, 1)
    drawn, theirs = arrays(student), arrays(teacher)
    after = copied(student, teacher, "first-layers").arrays()
    for name in ("embeddings.word.weight", "embeddings.position.weight"):
        assert (after[name] == drawn[name]).all()
    assert (after["embeddings.norm.weight"] == theirs["embeddings.norm.weight"]).all()
    assert (after["embeddings.token_type.weight"] == theirs["embeddings.token_type.weight"]).all()


@pytest.mark.parametrize("start", [start for start in STARTS if start not in ("random", OUTSIDE_ENCODER)])
@pytest.mark.parametrize("changes, student", [
    ({"hidden": 8}, "2x8x2"), ({"heads": 4}, "2x12x4"), ({"feed_forward": 20}, "2x12x2"), ({"layers": 5}, "5x12x2")])
def test_shapes_that_differ_are_one_line_that_says_what_to_do(start, changes, student):
    settings = {"hidden": 12, "layers": 2} | changes
    model, teacher = toy(settings.pop("hidden"), settings.pop("layers"), 0, **settings), toy(12, 4, 1)
    before = arrays(model)
    line = (f"^--start {start} copies layers and needs a teacher of the student's width and heads, at least as deep: "
            f"student {student}, teacher 4x12x2; or say --start random$")
    with pytest.raises(WrongUsage, match=line):
        copied(model, teacher, start)
    assert all((array == before[name]).all() for name, array in model.arrays().items())
    assert copied(model, teacher, "random") is model


def test_mobilebert_takes_all_but_the_layers_and_a_norm_of_another_kind(xp):
    student, teacher = (small_mobilebert.build(name, "pretraining", seed) for seed, name in
                        enumerate(("mobilebert", "ib-bert-large")))
    drawn, theirs = arrays(student), arrays(teacher)
    assert copied(student.to(xp), teacher.to(xp), OUTSIDE_ENCODER) is student
    for name, array in student.arrays().items():
        own = name.startswith(("layers.", "embeddings.norm."))          # a NoNorm is not copied from a layer norm
        assert (array == (drawn if own else theirs)[name]).all(), name
    assert {"head.extra.weight", "head.next_sentence.bias", "head.norm.weight", "embeddings.widening.bias"} <= drawn.keys()


def test_of_two_berts_the_norm_of_the_embeddings_and_the_whole_head_are_copied_too():
    student, teacher = (toy(12, layers, seed, head="masked-lm") for layers, seed in ((2, 0), (4, 1)))
    for parameter in teacher.parameters():
        parameter.array = parameter.array + 0.1
    drawn, theirs = arrays(student), arrays(teacher)
    for name, array in copied(student, teacher, OUTSIDE_ENCODER).arrays().items():
        assert (array == (drawn if name.startswith("layers.") else theirs)[name]).all(), name
    with pytest.raises(WrongUsage, match="^--start outside-encoder copies embeddings and heads and needs a teacher of the "
                                         "student's width: student 8, teacher 12; or say --start random$"):
        copied(toy(8, 2, 0), teacher, OUTSIDE_ENCODER)
