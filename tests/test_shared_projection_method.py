"""Shared projections as a method: two stages, each against PyTorch, and from two tokenizers to an exported student."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from gradcheck import assert_within
from method_toys import copies
from oracle import bert
from oracle import shared_projection as oracle
from oracle import ten_steps
from small_mixed import ROWS, mixed_teacher, second_student, two_texts, whole
from tinydistill import hub
from tinydistill.architectures import parse
from tinydistill.commands.distill_vocabulary import TwoVocabularies
from tinydistill.data import tokenizer as tokenizers
from tinydistill.errors import WrongUsage
from tinydistill.features import Needs, Pass
from tinydistill.hub_names import FORMS
from tinydistill.losses import TERMS, hard_labels
from tinydistill.methods import METHODS
from tinydistill.methods.projections import Projections
from tinydistill.methods.shared_projection import parted, probability
from tinydistill.students.bert import Bert, parameter_count
from tinydistill.students.configs import BertConfig
from tinydistill.training.loop import Phase, train_phases
from toys import VOCABULARY, Memory, assert_all_within

METHOD = METHODS["shared-projection"]
LOGITS = Needs.of(logits=True)
DIRECTIONS = {"down": ("down",), "up": ("up",), "both": ("down", "up")}


def maps_of(plan, student, teacher):
    return Projections(plan, student.config, teacher.config, 2, std=0.3).to(np, np.float64)


def phases(teacher, at=two_texts, steps=10, **settings):
    student = second_student().config
    plan = METHOD.plan(student, teacher.config, **settings)
    return [Phase(stage, stage.recipes["paper"].but(steps=steps, learning_rate=0.01), at, teacher) for stage in plan]


# ---------------------------------------------------------------- counts

@pytest.mark.parametrize("hidden, total", [(48, 610_402), (96, 1_888_642), (192, 6_463_426)])
def test_a_student_of_4928_pieces_with_heads(hidden, total):
    """Our own counts: no shape is known that gives the published figures."""
    config = BertConfig(12, hidden, 12, 4 * hidden, METHOD.settings["vocabulary"], head="pretraining")
    assert parameter_count(config)["total"] == total
    large = parameter_count(parse("bert-base").but(head="pretraining"))["total"]
    assert (large, round(large / total)) == (110_106_428, {48: 180, 96: 58, 192: 17}[hidden])
    assert METHOD.plan(config.but(head="none"), parse("bert-base").but(vocabulary=4928))


# ---------------------------------------------------------------- stages

def test_first_the_teacher_then_both():
    mixed, dual = METHOD.stages()
    assert mixed.terms == ((1.0, TERMS["shared_projection.mixed_masked_lm"]),)
    assert dual.terms == ((1.0, hard_labels.masked_lm), *mixed.terms, (1e-4, TERMS["shared_projection.down"]))
    assert [term.name for _, term in METHOD.stages(direction="both", epsilon=2.0)[1].terms[2:]] == [
        "shared_projection.down", "shared_projection.up"]
    for stage in (mixed, dual):
        assert (stage.reads, stage.head, stage.teacher_inside) == ("masked text", "masked-lm", True)
    assert METHOD.settings == {"vocabulary": 4928, "p": 0.5, "ramp": 0.0, "epsilon": 1e-4, "direction": "down"}
    for settings in ({"p": 0.0}, {"p": 1.0}, {"ramp": 1.0}, {"vocabulary": 0}):
        assert len(METHOD.stages(**settings)) == 2
    assert mixed.trains("teacher.head.bias", None) and not mixed.trains("student.head.bias", None) and not dual.trains


@pytest.mark.parametrize("settings", [{"p": -0.1}, {"p": 1.1}, {"ramp": 1.5}, {"epsilon": 0.0}, {"vocabulary": -1}])
def test_settings_that_cannot_be_are_one_line(settings):
    (name, value), = settings.items()
    with pytest.raises(WrongUsage, match=f"^need p and ramp from 0 to 1, an epsilon above 0 .*; got .*{name} {value}"):
        METHOD.stages(**settings)
    with pytest.raises(WrongUsage, match="^need a direction of shared-projection out of down, up, both; got 'left'$"):
        METHOD.stages(direction="left")


@pytest.mark.parametrize("student, teacher, line", [
    ("2x48", "4x48", "as many of them: student 2, teacher 4; write the student as 4x48$"),
    ("tinybert-4x312", "4x768", "as many of them: student 1200 of 312, teacher 3072 of 768$"),
    ("4x312", "tinybert-4x312", "as many of them: student 1248 of 312, teacher 1200 of 312$"),
    ("distilbert", "6x768", "role by role, and needs a BERT as its student; got DistilBERT 6x768$"),
    ("6x768", "distilbert", "role by role, and needs a BERT as its teacher; got DistilBERT 6x768$")])
def test_a_pair_whose_weights_do_not_match_is_one_line(student, teacher, line):
    with pytest.raises(WrongUsage, match=f"^shared-projection .*{line}"):
        METHOD.plan(parse(student), parse(teacher))


@pytest.mark.parametrize("changes, line", [
    ({"positions": 64}, "equal positions: student 64, teacher 512"),
    ({"token_types": 0}, "equal token_types: student 0, teacher 2"),
    ({"vocabulary": 4928}, "knows the student's vocabulary of 4,928 word pieces; BERT 4x96 knows 30,522")])
def test_embeddings_are_compared_row_by_row(changes, line):
    with pytest.raises(WrongUsage, match=line):
        METHOD.plan(parse("4x48").but(**changes), parse("4x96"))
    assert METHOD.plan(parse("4x48"), parse("4x96")) and METHOD.plan(parse("4x96"), parse("4x48"))
    assert METHOD.plan(parse("tinybert-4x312"), parse("tinybert-4x312"))               # nothing to project
    with pytest.raises(WrongUsage, match="as many of them: student 300 of 100, teacher 1200 of 312$"):     # not 3 blocks
        METHOD.plan(parse("4x100").but(feed_forward=300), parse("tinybert-4x312"))


def test_a_probability_may_rise():
    assert [probability(s, 10, 0.5, 0.4) for s in (0, 1, 2, 3, 4, 9)] == [0, 0.125, 0.25, 0.375, 0.5, 0.5]
    assert {probability(s, 10, 0.3, 0.0) for s in range(10)} == {0.3}
    assert probability(9, 10, 0.8, 1.0) == 0.8 * 9 / 10


# ---------------------------------------------------------------- training

@pytest.mark.parametrize("clip", [1.0, 0.3])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_ten_steps_of_each_stage_are_pytorchs(direction, clip, tmp_path):
    student, teacher = second_student(), mixed_teacher()
    theirs, taught = bert.twin(student, tmp_path / "s"), bert.twin(whole(teacher), tmp_path / "t")
    both = phases(teacher, direction=direction, epsilon=0.05)
    maps, memory, seen = maps_of([phase.stage for phase in both], student, teacher), Memory(), []
    their_maps = ten_steps.maps_of(copies(maps))
    both[1] = replace(both[1], stage=replace(both[1].stage, after=lambda model: seen.append(model) or parted(model)))
    both = [replace(phase, recipe=phase.recipe.but(clip=clip)) for phase in both]
    trained, _ = train_phases(student, both, projections=maps, directory=memory, log_every=1, quiet=True)
    lines = iter(memory.lines)
    for alone in (True, False):
        for want in oracle.steps(theirs, taught, their_maps, map(two_texts, range(10)), both[0].recipe, VOCABULARY, ROWS,
                                 dict.fromkeys(DIRECTIONS[direction], 0.05), alone):
            line = next(lines)
            assert want.keys() == line.keys() - {"step", "learning_rate", "tokens_per_second", "seconds"}
            for label, value in want.items():
                assert abs(line[label] - value) <= 1e-9 * abs(value), (line["step"], label, line[label], value)
    assert trained is seen[0].student
    for ours, their in ((trained, theirs), (seen[0].teacher, taught)):
        wanted = ten_steps.arrays_of(dict(their.named_parameters()))
        for name, array in ours.arrays().items():
            want = wanted[FORMS["bert"].name(name)]
            assert_within(array, want, 1e-9 * np.abs(want).max() + 1e-10 * name.endswith("key.bias"), name)
    for name, array in ten_steps.arrays_of(their_maps).items():
        assert_within(maps.arrays()[name], array, 1e-9 * np.abs(array).max(), name)


@pytest.mark.parametrize("shards", [2, 5])
def test_any_split_of_the_batch_learns_the_same(shards):
    def run(shards):
        student, teacher = second_student(dropout=0.2), mixed_teacher(dropout=0.2)
        both = phases(teacher, steps=4)
        maps = maps_of([phase.stage for phase in both], student, teacher)
        trained, _ = train_phases(student, both, projections=maps, shards=shards, seed=5, quiet=True)
        return copies(trained) | copies(maps)
    one, some = run(1), run(shards)
    for name, array in one.items():
        assert_within(some[name], array, 1e-9 * np.abs(array).max() + 1e-8 * name.endswith("key.bias"), name)


# ---------------------------------------------------------------- from two tokenizers to an exported student

TEXTS = [f"{who} {does} the {what} {where}, {'and' if n % 2 else 'or'} {who} {does} it again."
         for n, (who, does, what, where) in enumerate(
             (who, does, what, where) for who in ("the reader", "a teacher", "its student", "nobody")
             for does in ("reads", "explains", "remembers") for what in ("sentence", "paragraph", "vocabulary")
             for where in ("at once", "in its own words", "piece by piece"))]
ARGS = SimpleNamespace(pairs=False, quiet=True, seed=0, mask_rate=0.25)


def test_a_word_piece_or_two_of_its_own_is_a_setting():
    first = tokenizers.train_wordpiece(TEXTS, 120)
    assert TwoVocabularies.of(ARGS, {"vocabulary": 0}, TEXTS, first, None) is None
    assert TwoVocabularies.of(ARGS, METHODS["minilm"].settings, TEXTS, first, None) is None
    with pytest.raises(WrongUsage, match="^a student with a vocabulary of its own reads rows of text: leave --pairs"):
        TwoVocabularies.of(SimpleNamespace(pairs=True, quiet=True), METHOD.settings, TEXTS, first, None)


def test_mixed_text_comes_gradually_in_the_first_stage_and_the_students_held_out_rows_are_its_own():
    first, (mixed, dual) = tokenizers.train_wordpiece(TEXTS, 120), METHOD.stages()
    two = TwoVocabularies.of(ARGS, METHOD.settings | {"vocabulary": 70, "ramp": 1.0}, TEXTS, first,
                             BertConfig(1, 4, 1, 4, first.get_vocab_size()))
    recipe = mixed.recipes["laptop"].but(steps=10, batch_size=8, max_length=24)
    for stage, none in ((mixed, True), (dual, False)):
        labels = two.batches_at(ARGS, stage, recipe, TEXTS, "bert")(0).mixed.labels
        assert (labels >= first.get_vocab_size()).any() != none
    unseen = list(two.unseen(ARGS, recipe, TEXTS[:20], "bert"))
    assert sum(map(len, unseen)) == 20 and max(batch.labels.max() for batch in unseen) < two.size


def test_teacher_student_and_projections_learn_together_and_the_student_is_a_plain_bert(tmp_path):
    first = tokenizers.train_wordpiece(TEXTS, 120)
    config = BertConfig(2, 24, 2, 96, first.get_vocab_size() + 3, 32, head="masked-lm", pooler=False, dropout=0.0)
    settings = METHOD.settings | {"vocabulary": 70, "ramp": 0.2}
    two = TwoVocabularies.of(ARGS, settings, TEXTS, first, config)      # a teacher with rows that no piece has, too
    second = two.second
    teacher = two.taught(Bert(config, 1), seed=2)
    student = Bert(two.of_student(config.but(hidden=12, feed_forward=48)), 3)
    assert teacher.config == two.of_teacher(config) and (teacher.config.second_rows == two.rows).all()
    before, plan = copies(teacher), METHOD.plan(student.config, teacher.config)
    recipe = plan[1].recipes["laptop"].but(steps=20, learning_rate=5e-3, warmup=2, batch_size=8, max_length=24)
    phases = [Phase(stage, recipe, two.batches_at(ARGS, stage, recipe, TEXTS, "bert"), teacher) for stage in plan]
    maps, memory = Projections(plan, student.config, teacher.config, 4), Memory()
    trained, _ = train_phases(student, phases, projections=maps, directory=memory, log_every=1, quiet=True)
    alone, dual = memory.lines[:20], memory.lines[20:]
    for lines, names in ((alone, ("shared_projection.mixed_masked_lm",)),
                         (dual, ("masked_lm", "shared_projection.mixed_masked_lm", "shared_projection.down", "loss"))):
        for name in names:
            values = [line[name] for line in lines]
            assert np.mean(values[-4:]) < 0.97 * np.mean(values[:4]), name
    assert_all_within(copies(teacher), before, 0.0)

    hub.write(trained, tmp_path, second)
    again, tokenizer = hub.read(tmp_path), tokenizers.load(tmp_path)
    assert type(again) is Bert and again.config == trained.config and tokenizer.get_vocab() == second.get_vocab()
    assert sum(array.size for array in again.arrays().values()) == parameter_count(student.config)["total"]
    batch = phases[1].batch_at(0).own
    assert_within(again(batch, Pass(LOGITS)).logits.array, trained(batch, Pass(LOGITS)).logits.array, 0.0)
    there = bert.opened(tmp_path, "BertForMaskedLM", "float32")         # transformers: nothing missing, nothing unknown
    want = bert.features(there, batch)["logits", None]
    assert_within(again(batch, Pass(LOGITS)).logits.array, want, 1e-5 * np.abs(want).max())
