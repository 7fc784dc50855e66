"""Shared projections as a method: two stages, each against PyTorch, and from two tokenizers to an exported student."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import strict_device
from gradcheck import assert_close64, assert_within
from method_toys import copies
from oracle import bert
from oracle import shared_projection as oracle
from oracle import ten_steps
from small_bert import dense
from small_mixed import ROWS, mixed_teacher, plain_teacher, second_student, two_texts, whole
from tinydistill import gradients, hub
from tinydistill.architectures import parse
from tinydistill.backend import to_host
from tinydistill.commands.distill_vocabulary import TwoVocabularies
from tinydistill.compress.shared_projection import Dual
from tinydistill.data import tokenizer as tokenizers
from tinydistill.errors import WrongUsage
from tinydistill.features import Needs, Pass
from tinydistill.hub_names import FORMS
from tinydistill.losses import TERMS, hard_labels
from tinydistill.losses.shared_projection import down_projection_loss, up_projection_loss
from tinydistill.methods import METHODS
from tinydistill.methods.projections import Projections
from tinydistill.methods.shared_projection import parted, probability
from tinydistill.nn.layers import Dropout
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
    assert dual.terms == ((1.0, hard_labels.masked_lm), *mixed.terms, (0.01, TERMS["shared_projection.down"]))
    assert [term.name for _, term in METHOD.stages(direction="both", epsilon=2.0)[1].terms[2:]] == [
        "shared_projection.down", "shared_projection.up"]
    for stage in (mixed, dual):
        assert (stage.reads, stage.head, stage.teacher_inside) == ("masked text", "masked-lm", True)
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
    ({"positions": 64}, "equal positions: student 64, teacher 512"), ({"token_types": 0}, "equal token_types: student 0, "),
    ({"vocabulary": 4928}, "need a teacher that knows the student's vocabulary of 4,928 word pieces; BERT 4x96 knows 30,522")])
def test_embeddings_are_compared_row_by_row(changes, line):
    with pytest.raises(WrongUsage, match=line):
        METHOD.plan(parse("4x48").but(**changes), parse("4x96"))
    assert METHOD.plan(parse("4x48"), parse("4x96")) and METHOD.plan(parse("4x96"), parse("4x48"))
    assert METHOD.plan(parse("tinybert-4x312"), parse("tinybert-4x312"))               # nothing to project
    with pytest.raises(WrongUsage, match="of 19 word pieces; mixed-vocabulary BERT 2x12 knows 9$"):
        Dual(plain_teacher(), mixed_teacher())


def test_a_probability_may_rise():
    assert [probability(s, 10, 0.5, 0.4) for s in (0, 1, 2, 3, 4, 9)] == [0, 0.125, 0.25, 0.375, 0.5, 0.5]
    assert {probability(s, 10, 0.3, 0.0) for s in range(10)} == {0.3}
    assert probability(9, 10, 0.8, 1.0) == 0.8 * 9 / 10


# ---------------------------------------------------------------- two models as one

def test_either_reads_its_own_text_and_the_weights_of_matching_roles_stand_beside_them():
    student, teacher, batch = second_student(), mixed_teacher(), two_texts(0)
    model = Dual(student, teacher)
    found = model(batch, Pass(Needs.of(logits=True, hidden=[0])))
    own, theirs = (each(part, Pass(Needs.of(logits=True, hidden=[0])))
                   for each, part in ((student, batch.own), (teacher, batch.mixed)))
    np.testing.assert_array_equal(found.logits.array, own.logits.array)
    np.testing.assert_array_equal(found.hidden[0].array, own.hidden[0].array)
    np.testing.assert_array_equal(found.mixed.logits.array, theirs.logits.array)
    weights, arrays = found.weights
    assert list(weights) == list(arrays) == list(student.named_parameters())
    assert all(weights[name] is p for name, p in student.named_parameters().items())
    for name, array in arrays.items():
        of_all = teacher.arrays()[name]
        np.testing.assert_array_equal(array, of_all[ROWS] if name in ("embeddings.word.weight", "head.bias") else of_all)


def test_the_teacher_is_copied_and_one_vocabulary_needs_no_second_text():
    student, teacher = second_student(), plain_teacher(vocabulary=9)
    model, batch = Dual(student, teacher), two_texts(0).own
    assert model.student is student and not {map(id, teacher.parameters())} & {map(id, model.teacher.parameters())}
    found = model(batch, Pass(LOGITS))
    np.testing.assert_array_equal(found.mixed.logits.array, teacher(batch, Pass(LOGITS)).logits.array)
    pooled = Dual(second_student(pooler=True), teacher).weights()       # a role that one has alone is not compared
    assert list(pooled[0]) == list(pooled[1]) == list(teacher.named_parameters())


def test_the_students_dropouts_are_as_before_and_no_two_drop_the_same_units():
    student, teacher = second_student(dropout=0.3, attention_dropout=0.2), mixed_teacher(dropout=0.3)
    batch = two_texts(0)
    run = Pass(LOGITS, training=True, seed=3, step=1, rows=batch.rows)
    before = student(batch.own, run).logits.array
    model = Dual(student, teacher)
    np.testing.assert_array_equal(model(batch, run).logits.array, before)
    sites = [module.site for _, module in model.named_modules() if isinstance(module, Dropout)]
    assert len(set(sites)) == len(sites) > 8


@pytest.mark.parametrize("name, loss", [("down", down_projection_loss), ("up", up_projection_loss)])
def test_the_gradient_of_the_weights_is_the_students_and_the_maps_alone(name, loss):
    student, teacher, batch, term = second_student(), mixed_teacher(), two_texts(1), TERMS[f"shared_projection.{name}"]
    model = Dual(student, teacher)
    plan = METHOD.plan(student.config, teacher.config, direction=name)
    maps = maps_of(plan, student, teacher)
    features = model(batch, Pass(LOGITS))
    value = term(features, None, batch, term.divisor(batch), maps)
    u, v = (maps[n].weight.array for n in term.projection_names)
    assert_close64(value.array, loss(*features.weights, *((u.T, v) if name == "down" else (u, v.T))).array)
    found = gradients(value, model.parameters() + maps.parameters())
    for label, gradient in zip([*model.named_parameters(), "maps.u", "maps.v"], found, strict=True):
        assert (gradient is None) == label.startswith("teacher."), label
        assert gradient is None or np.abs(dense(gradient)).max() > 0, label


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
    trained, _ = train_phases(student, [replace(p, recipe=replace(p.recipe, clip=clip)) for p in both], projections=maps,
                              directory=memory, log_every=1, quiet=True)
    lines = iter(memory.lines)
    for alone in (True, False):
        for want in oracle.steps(theirs, taught, their_maps, map(two_texts, range(10)), replace(both[0].recipe, clip=clip),
                                 VOCABULARY, ROWS, dict.fromkeys(DIRECTIONS[direction], 0.05), alone):
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


def test_a_device_learns_the_same_and_never_waits(strict_cupy):
    student, teacher, batch = second_student(), mixed_teacher(), two_texts(4)
    plan = METHOD.plan(student.config, teacher.config, direction="both")
    found = []
    for xp, here in ((np, batch), (strict_cupy, batch.to(strict_cupy))):
        maps = maps_of(plan, student, teacher).to(xp)
        model = Dual(student.to(xp), teacher.to(xp))
        with strict_device.no_sync():
            features = model(here, Pass(LOGITS))
            total = sum(weight * term(features, None, here, term.divisor(batch), maps) for weight, term in plan[1].terms)
            arrays = [total.array, *map(dense, gradients(total, model.parameters() + maps.parameters()))]
        found.append(np.concatenate([to_host(array).ravel() for array in arrays]))
    assert_close64(*found)


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
    with pytest.raises(WrongUsage, match="^a student with a vocabulary of its own reads rows of text: leave --pairs out, "):
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
    teacher, student = two.taught(Bert(config, 1), seed=2), Bert(two.of_student(config.but(hidden=12, feed_forward=48)), 3)
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
            assert np.mean([line[name] for line in lines[-4:]]) < 0.97 * np.mean([line[name] for line in lines[:4]]), name
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
