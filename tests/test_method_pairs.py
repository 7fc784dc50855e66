"""What a method cannot work with is one line, which says what was needed, what came, and where it can, what works."""

import re

import pytest

from tinydistill.errors import WrongUsage
from tinydistill.features import Needs
from tinydistill.methods import METHODS
from tinydistill.students.bilstm import BiLstmConfig
from tinydistill.architectures import parse

TEACHER = parse("bert-base")
each_method = pytest.mark.parametrize("name", METHODS)


def described(stages):
    """Stages without their layer maps, which are functions."""
    return [(stage.name, stage.terms, stage.official, stage.recipes) for stage in stages]


# ---------------------------------------------------------------- settings

@each_method
def test_a_setting_that_a_method_does_not_have_is_one_line_with_those_it_has(name):
    method = METHODS[name]
    has = ", ".join(method.settings) or "none"
    for ask in (method.stages, lambda **settings: method.plan(parse("6x768"), TEACHER, **settings)):
        with pytest.raises(WrongUsage, match=f"^need a setting of {name} out of {has}; got colour$") as problem:
            ask(colour=1.0, **method.settings)
        assert problem.value.exit_code == 2
    assert described(method.stages(**method.settings)) == described(method.stages())


@each_method
def test_a_method_that_does_not_know_tasks_or_corpora_says_so(name):
    method = METHODS[name]
    for task, build, advice in ((True, method.on_task, "a corpus: leave --task out"),
                                (False, method.on_text, "a task: name it with --task")):
        if build is None:
            with pytest.raises(WrongUsage, match=f"^{name} learns on {advice}$"):
                method.stages(task)
        else:
            assert described(method.stages(task)) == described(build(**method.settings))


# ---------------------------------------------------------------- pairs

WRONG_PAIRS = [                                     # method, student, what the line says, and what works in its place
    ("minilm", "3x384x6", "same number of .* heads.*: student 6, teacher 12; write .* as 3x384x12, or without heads"),
    ("minilm", "2x128x2", "same number of .* heads.*: student 2, teacher 12; write .* as 2x132x12, or without heads"),
    ("minilm", "1x4x2", "same number of .* heads.*: student 2, teacher 12; write .* as 1x12x12, or without heads"),
    ("tinybert", "4x312x6", "same number of .* heads.*: student 6, teacher 12; write .* as 4x312x12"),
    ("internal", "6x768x6", "same number of .* heads.*: student 6, teacher 12; write .* as 6x768x12"),
    ("internal", "6x384", "internal .* needs equal widths: student 384, teacher 768; write the student as 6x768"),
    ("internal-pid", "3x312", "internal .* needs equal widths: student 312, teacher 768; write the student as 3x768"),
    ("internal-sid", "3x312", "internal .* needs equal widths: student 312, teacher 768; write the student as 3x768"),
    ("pkd-skip", "3x384", "pkd .* needs equal widths: student 384, teacher 768; write the student as 3x768"),
    ("pkd-last", "3x384", "pkd .* needs equal widths: student 384, teacher 768; write the student as 3x768"),
    ("distilbert", "6x312", "distilbert .* needs equal widths: student 312, teacher 768; write the student as 6x768"),
]


@pytest.mark.parametrize("name, size, line", WRONG_PAIRS, ids=[f"{name} {size}" for name, size, _ in WRONG_PAIRS])
def test_a_pair_that_cannot_work_is_one_line_with_a_size_that_does(name, size, line):
    with pytest.raises(WrongUsage, match=line) as problem:
        METHODS[name].plan(parse(size), TEACHER)
    assert problem.value.exit_code == 2 and "\n" not in str(problem.value)
    advice = re.search(r"write the student as ([\dx]+\d)", str(problem.value))[1]
    assert METHODS[name].plan(parse(advice), TEACHER)
    heads = TEACHER.heads if METHODS[name].equal_heads else None
    assert METHODS[name].plan(parse(advice.rpartition("x")[0] if advice.count("x") == 2 else advice, heads), TEACHER)


@pytest.mark.parametrize("name", ["tinybert", "internal", "internal-pid", "internal-sid", "attention-transfer",
                                  "pkd-skip"])
def test_a_depth_that_does_not_divide_the_teachers_is_one_line(name):
    with pytest.raises(WrongUsage, match="a multiple of the student's: student 5 layers, teacher 12$"):
        METHODS[name].plan(parse("5x768"), TEACHER)
    with pytest.raises(WrongUsage, match="a multiple of the student's: student 5 layers, teacher 12$"):
        METHODS["minilm"].plan(parse("5x384"), TEACHER, variant="layer-to-layer")
    assert METHODS["minilm"].plan(parse("5x384"), TEACHER)


def test_depth_width_and_head_size_are_free_for_minilm():
    for size in ("6x384", "3x384", "6x768", "4x312", "2x120x12"):
        assert METHODS["minilm"].plan(parse(size), TEACHER)


@pytest.mark.parametrize("settings, heads", [({}, 12), ({"relation_heads": 48}, 48), ({"relation_heads": -2}, -2)])
def test_relation_heads_that_do_not_divide_both_widths_are_one_line_with_a_number_that_does(settings, heads):
    student = parse("2x128")
    line = (f"^need a number of relation heads that divides both widths: {heads} relation heads, student 128, "
            f"teacher 768; say --set relation_heads=128, or a divisor of it$")
    with pytest.raises(WrongUsage, match=line):
        METHODS["minilm-v2"].plan(student, TEACHER, **settings)
    for relation_heads in (128, 64, 1):
        (stage,) = METHODS["minilm-v2"].plan(student, TEACHER, relation_heads=relation_heads)
        assert {term.relation_heads for _, term in stage.terms} == {relation_heads}
    with pytest.raises(WrongUsage, match="relation_heads=8, or a divisor of it$"):      # of 24 and 16, both do
        METHODS["minilm-v2"].plan(parse("2x24"), parse("2x16"), relation_heads=3)


@pytest.mark.parametrize("settings, line", [
    ({"teacher_layer": 13}, "^need a teacher_layer from 1 to 12, or 0 for the last; got 13$"),
    ({"teacher_layer": -1}, "^need a teacher_layer from 1 to 12, or 0 for the last; got -1$")])
def test_a_teacher_layer_that_is_not_there_is_one_line(settings, line):
    with pytest.raises(WrongUsage, match=line):
        METHODS["minilm-v2"].plan(parse("6x384"), TEACHER, **settings)


def test_a_variant_of_minilm_that_is_not_in_the_paper_is_one_line():
    with pytest.raises(WrongUsage, match="^need a variant of minilm out of paper, attention-only, value-mse, "
                                         "hidden-relation, layer-to-layer; got 'reversed'$"):
        METHODS["minilm"].stages(variant="reversed")


def test_a_teacher_without_classes_of_sequences_cannot_teach_tang():
    for head in ("none", "token", "masked-lm"):
        teacher = TEACHER.but(head=head, labels=("a", "b") if head == "token" else ())
        with pytest.raises(WrongUsage, match=f"^tang needs a teacher fine-tuned on classes .* the head '{head}'$"):
            METHODS["tang"].plan(parse("3x256"), teacher)
    fitting = TEACHER.but(head="sequence", labels=("a", "b"))
    for student in (BiLstmConfig(), parse("3x256")):
        assert METHODS["tang"].plan(student, fitting)[0].student_needs == Needs.of(logits=True)


def test_a_teacher_that_tags_no_words_cannot_teach_tagging():
    tagger = TEACHER.but(head="token", labels=("noun", "verb"))
    with pytest.raises(WrongUsage, match="^sequence-labels needs a teacher fine-tuned on tagging.* head 'none'$"):
        METHODS["sequence-labels"].plan(parse("3x256"), TEACHER)
    assert METHODS["sequence-labels"].plan(parse("3x256"), tagger)
