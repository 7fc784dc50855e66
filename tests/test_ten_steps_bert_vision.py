"""Ten steps of BERT-Vision, with and without a cache, and of adapters equal PyTorch's; the frozen keeps its bits."""

import numpy as np
import pytest

from gradcheck import assert_within
from method_toys import CASES, LABELS, copies, models, on_body, phases
from oracle import bertvision, houlsby, students, ten_steps
from teacher_caches import LENGTHS, build, data
from tinydistill.architectures import parse
from tinydistill.errors import Problem, WrongUsage
from tinydistill.features import Needs, Pass
from tinydistill.methods import METHODS
from tinydistill.methods.adapters import is_trained
from tinydistill.students.bert import BertEmbeddings
from tinydistill.students.bertvision import BertVisionConfig, padded
from tinydistill.students.heads import with_head
from tinydistill.training.loop import Phase, train_phases
from toys import Memory, toy

CONFIG = BertVisionConfig(1, 2, 1, 4, pooler_width=5, length=8)


def pair(**changes):
    """(student, teacher): a head on the body of a toy."""
    teacher = toy(12, 3, 1, head="sequence", labels=LABELS)
    return with_head(on_body(CONFIG, teacher, **changes), "sequence", LABELS, seed=7), teacher


def cache_of(student, teacher, directory, **settings):
    config = student.config
    return build(directory, teacher, config.frozen_needs, dtype="float64", length=config.padded_length, **settings)


def labelled(**settings):
    return data(labels=np.random.default_rng(3).integers(0, len(LABELS), len(LENGTHS)), **settings)


def phase_of(student, teacher, batches, **changes):
    (stage,) = METHODS["bert-vision"].plan(student.config, teacher.config, task=True)
    return Phase(stage, stage.recipes["paper"].but(steps=10, **changes), batches.at, teacher)


def assert_steps(lines, want):
    for line, values in zip(lines, want, strict=True):
        for label, value in values.items():
            assert abs(line[label] - value) <= 1e-9 * abs(value), (line["step"], label, line[label], value)


# ---------------------------------------------------------------- BERT-Vision

@pytest.mark.parametrize("changes", [{}, {"skip": True, "pooling": "learned"}], ids=["all layers", "learned pooling"])
@pytest.mark.parametrize("use_cache", [False, True], ids=["teacher", "cached teacher"])
def test_ten_steps_of_bert_vision_are_pytorchs(tmp_path, use_cache, changes):
    (student, teacher), batches, memory = pair(**changes), labelled(seed=2), Memory()
    source = cache_of(student, teacher, tmp_path / "cache") if use_cache else teacher
    phase, before = phase_of(student, source, batches, learning_rate=0.01), copies(student)
    want, head = bertvision.steps(bertvision.body(student), student, map(batches.at, range(10)), phase.recipe)
    trained, _ = train_phases(student, [phase], directory=memory, log_every=1, quiet=True)
    assert_steps(memory.lines, want)
    for name, array in trained.arrays().items():
        if name.startswith("head."):
            assert_within(array, head[name], 1e-9 * np.abs(head[name]).max(), name)
            assert (array != before[name]).any(), name
        else:
            assert (array == before[name]).all(), name
    assert trained.frozen is None and trained.named_parameters().keys() == before.keys()


def test_with_a_cache_no_row_goes_through_the_body(tmp_path, monkeypatch):
    student, teacher = pair()
    cached = cache_of(student, teacher, tmp_path / "cache")
    phase = phase_of(student, cached, labelled())

    def never(*arguments):
        raise AssertionError("a row went through a body")
    monkeypatch.setattr(BertEmbeddings, "__call__", never)
    train_phases(student, [phase], quiet=True)
    with pytest.raises(AssertionError, match="went through a body"):
        student(labelled().at(0), Pass(Needs.of(logits=True)))


@pytest.mark.parametrize("shards, threads", [(2, 1), (3, 2)])
def test_shards_of_a_cached_batch_add_up_to_the_whole(tmp_path, shards, threads):
    lines = []
    for settings in ({}, {"shards": shards, "threads": threads}):
        student, teacher = pair()
        memory = Memory()
        phase = phase_of(student, cache_of(student, teacher, tmp_path / "cache"), labelled())
        train_phases(student, [phase], directory=memory, log_every=1, quiet=True, **settings)
        lines.append(memory.lines)
    assert_steps(lines[1], [{name: line[name] for name in ("loss", "gradient_norm")} for line in lines[0]])


def test_a_teacher_with_another_body_is_refused():
    student, teacher = pair()
    other = toy(12, 3, 2, head="sequence", labels=LABELS)
    with pytest.raises(WrongUsage, match="^need a student on the body of its teacher, but embeddings.word.weight has "
                                         "other weights there"):
        student.reading(other)
    assert student.reading(teacher).named_parameters().keys() == student.named_parameters().keys()


# ---------------------------------------------------------------- what the cache keeps of padding

def test_the_cache_keeps_what_the_teacher_makes_of_padding(tmp_path):
    student, teacher = pair()
    needs, cached = student.config.frozen_needs, cache_of(student, teacher, tmp_path / "cache")
    for step in range(3):
        batch = padded(data(seed=4).at(step), 8, 0)
        got, want = (model(batch, Pass(needs)) for model in (cached, teacher))
        for l in range(3):
            assert_within(got.hidden[l].array, want.hidden[l].array, 1e-13 * np.abs(want.hidden[l].array).max())
        assert_within(got.embeddings.array, want.embeddings.array, 1e-13 * np.abs(want.embeddings.array).max())
        assert not batch.mask.all() and np.abs(got.hidden[2].array[~batch.mask]).min() > 0
    with pytest.raises(Problem, match="^need a batch padded to 8 tokens, as the teacher cache in .*cache is; got 5$"):
        cached(data().batch([3, 4]), Pass(needs))


def test_a_cache_of_another_length_is_another(tmp_path):
    student, teacher = pair()
    cache_of(student, teacher, tmp_path / "cache")
    for length, said in ((None, "length 8 (here none)"), (9, "length 8 (here 9)")):
        with pytest.raises(WrongUsage, match=f"is another, of {said}".replace("(", r"\(").replace(")", r"\)")):
            build(tmp_path / "cache", teacher, student.config.frozen_needs, dtype="float64", length=length)


def test_heads_of_spans_need_no_padding_in_the_cache(tmp_path):
    student, teacher = pair()
    student = with_head(student, "span", seed=3)
    assert student.config.padded_length is None
    cached, batch = cache_of(student, teacher, tmp_path / "cache"), data().at(0)
    own, read = (model(batch, Pass(Needs.of(logits=True))).logits.array for model in (student, student.reading(cached)))
    assert_within(read[batch.mask], own[batch.mask], 1e-12 * np.abs(own).max())


# ---------------------------------------------------------------- adapters

@pytest.mark.parametrize("clip", [1.0, 0.05])
def test_ten_steps_of_adapters_are_pytorchs(clip):
    case, memory = CASES["adapters"], Memory()
    student, teacher = models(case)
    whole = phases(case, student, teacher, one_batch=False, clip=clip)
    student = with_head(student, "sequence", LABELS, seed=7)
    before, names = copies(student), houlsby.names
    theirs = {name: students.their_name(name, names, "sequence") for name in before}
    trained = {name for name in before if is_trained(name, student.config)}
    twin = houlsby.frozen_but(students.twin(student, names), {theirs[name] for name in trained})
    (phase,) = whole
    want = ten_steps.steps(houlsby.objective, twin, twin, {}, map(phase.batch_at, range(10)), phase.recipe)
    model, _ = train_phases(student, whole, directory=memory, log_every=1, quiet=True)
    assert_steps(memory.lines, want)
    arrays = dict(twin.named_parameters())
    for name, array in model.arrays().items():
        truth = arrays[theirs[name]].detach().numpy()
        assert_within(array, truth, 1e-9 * np.abs(truth).max(), name)
        assert (array == before[name]).all() == (name not in trained), name


@pytest.mark.parametrize("method, student, line", [
    ("bert-vision", "2x128", "^bert-vision trains a head .*: need a student such as bertvision, got BERT 2x128$"),
    ("adapters", "2x128", "^adapters are trained inside a BERT: need a student such as adapterbert, got BERT 2x128$"),
    ("bert-vision", "bertvision-2x128", "^need BERT-Vision 2x128 on the body of its teacher, BERT 3x12: its layers is"),
    ("adapters", "adapterbert-2x128", "^need AdapterBERT 2x128 on the body of its teacher, BERT 3x12: its layers is")])
def test_a_student_of_another_kind_or_body_is_one_line(method, student, line):
    teacher = toy(12, 3, 1, head="sequence", labels=LABELS)
    with pytest.raises(WrongUsage, match=line):
        METHODS[method].plan(parse(student), teacher.config, task=True)


def test_spans_are_another_setting():
    (stage,) = METHODS["bert-vision"].stages(head="span")
    assert [term.name for _, term in stage.terms] == ["spans.positions"]
    with pytest.raises(WrongUsage, match="^need a head of bert-vision out of sequence, span; got 'token'$"):
        METHODS["bert-vision"].stages(head="token")
