"""BERT-of-Theseus: which modules take part, the replaced model, its training against PyTorch's, what comes out of it."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strict_device
from gradcheck import assert_close64, assert_within
from method_toys import CASES, LABELS, batch_of, copies, models
from oracle import bert
from oracle import theseus as oracle
from small_bert import dense
from tinydistill import kernels
from tinydistill.architectures import parse
from tinydistill.backend import to_host
from tinydistill.compress.theseus import Theseus
from tinydistill.errors import WrongUsage
from tinydistill.features import Needs, Pass
from tinydistill.hub_names import FORMS
from tinydistill.methods import METHODS
from tinydistill.methods.theseus import decisions, probability
from tinydistill.nn.layers import Dropout
from tinydistill.ops import cross_entropy
from tinydistill.students.bert import Bert, parameter_count
from tinydistill.students.heads import with_head
from tinydistill.tensor import gradients
from tinydistill.training.loop import Phase, train_phases
from toys import Memory, assert_all_within, toy

METHOD = METHODS["theseus"]
LOGITS = Needs.of(logits=True)
TEACHER = parse("bert-base").but(head="sequence", labels=("0", "1"))


def pair(**changes):
    """(successor with the head, predecessor) of a toy task."""
    student, teacher = models(CASES["theseus"])
    if changes:
        teacher = toy(12, 4, 1, head="sequence", labels=LABELS, **changes)
        student = toy(12, 2, 0, **changes)
    return with_head(student, "sequence", LABELS, seed=7), teacher


def batch(step, teacher):
    return batch_of(CASES["theseus"], METHOD.stages()[0], teacher, step)


# ---------------------------------------------------------------- which modules

def test_the_published_example_replaces_all_from_update_1167_on():
    stage, = METHOD.stages()
    config = parse("6x768")
    assert probability(0, "linear", 0.3, 0.0006, 0) == 0.3              # the first forward has the base rate
    assert probability(1166, "linear", 0.3, 0.0006, 0) < 1 == probability(1167, "linear", 0.3, 0.0006, 0)
    assert probability(10**6, "linear", 0.3, 0.0006, 0) == 1
    assert all(all(stage.decisions(n, 1725, 3, config)) for n in range(1167, 1725))
    drawn = Counter(all(stage.decisions(n, 1725, 3, config)) for n in range(1166))
    assert drawn[False] > 900


def test_constant_replacement_ends_where_it_is_told_to():
    stage, = METHOD.stages(schedule="constant", base=0.5, replacing_steps=40)
    drawn = [stage.decisions(n, 100, 0, parse("6x768")) for n in range(60)]
    assert not any(map(all, drawn[:30])) and all(map(all, drawn[40:]))
    always, = METHOD.stages(base=1.0, growth=0.0)                       # the successor by itself
    assert all(all(always.decisions(n, 9, 0, parse("6x768"))) for n in range(9))


def test_modules_are_drawn_by_themselves_with_their_probability_and_again_at_each_step():
    drawn = np.array([decisions(n, 0, 5, parse("6x768"), schedule="constant", base=0.3, growth=0, replacing_steps=10**6)
                      for n in range(4000)])
    assert np.abs(drawn.mean(axis=0) - 0.3).max() < 4 * np.sqrt(0.21 / 4000)
    off_diagonal = np.corrcoef(drawn.T) - np.eye(6)
    assert np.abs(off_diagonal).max() < 0.07
    assert len({tuple(row) for row in drawn}) == 64
    one = dict(schedule="linear", base=0.5, growth=0.0, replacing_steps=0)
    assert decisions(3, 9, 5, parse("6x768"), **one) == decisions(3, 9, 5, parse("6x768"), **one)
    assert len({tuple(decisions(n, 9, seed, parse("6x768"), **one) for n in range(9)) for seed in range(9)}) == 9


@pytest.mark.parametrize("given, line", [
    ({"base": 0.0}, "^need a base above 0 and at most 1, for else no module is ever replaced.*got base 0.0"),
    ({"base": 1.5}, "^need a base above 0 and at most 1"), ({"growth": -0.1}, "growth -0.1"),
    ({"replacing_steps": -1}, "replacing_steps -1$"), ({"schedule": "cosine"}, "^need a schedule of theseus out of linear, "
                                                                               "constant; got 'cosine'$")])
def test_a_schedule_that_cannot_be_is_one_line(given, line):
    with pytest.raises(WrongUsage, match=line):
        METHOD.stages(**given)


@pytest.mark.parametrize("size, teacher, line", [
    ("5x768", TEACHER, "a depth that divides the teacher's: student 5x768, teacher 12x768; write the student as 4x768$"),
    ("24x768", TEACHER, "write the student as 12x768$"), ("6x384", TEACHER, "write the student as 6x768$"),
    ("6x768x6", TEACHER, "one architecture and number of heads: student bert with 6, teacher bert with 12$"),
    ("distilbert", TEACHER, "student distilbert with 12, teacher bert with 12$"),
    ("6x768", parse("bert-base"), "^theseus needs a teacher fine-tuned on the task.* this one has the head 'none'$")])
def test_a_pair_that_cannot_work_is_one_line(size, teacher, line):
    with pytest.raises(WrongUsage, match=line) as problem:
        METHOD.plan(parse(size), teacher)
    assert "\n" not in str(problem.value)
    assert METHOD.plan(parse("6x768"), TEACHER)


def test_a_model_of_modules_that_do_not_fit_is_one_line():
    student, teacher = pair()
    with pytest.raises(WrongUsage, match="depth divides the predecessor's: successor 4x12, predecessor 2x12$"):
        Theseus(student, teacher)
    with pytest.raises(WrongUsage, match="^need a successor of the predecessor's width.*: successor 2x8, predecessor 4x12$"):
        Theseus(teacher, toy(8, 2, 0))
    with pytest.raises(ValueError, match="^need a decision for each of 2 modules, got 3$"):
        Theseus(teacher, student)(batch(0, teacher), Pass(LOGITS, decisions=(True, False, True)))


# ---------------------------------------------------------------- the replaced model

@pytest.mark.parametrize("drawn", [(False, False), (True, False), (False, True), (True, True)])
def test_logits_and_every_gradient_are_those_of_the_composed_list_of_layers(drawn, tmp_path):
    student, teacher = pair()
    theirs, their_student = (bert.twin(model, tmp_path / part) for part, model in (("p", teacher), ("s", student)))
    model, one = Theseus(teacher, student), batch(1, teacher)
    logits = model(one, Pass(LOGITS, training=True, decisions=drawn)).logits
    want = oracle.run(theirs, their_student, one, drawn)
    assert_close64(logits.array, want.detach().numpy())
    upstream = np.random.default_rng(0).standard_normal(logits.shape)
    found = dict(zip(model.named_parameters(), gradients((logits * upstream).sum(), model.parameters())))
    (want * want.new_tensor(upstream)).sum().backward()
    for name, gradient in found.items():
        inside = name.startswith("layers.")
        ours = FORMS["bert"].name(name.removeprefix("predecessor."))
        source = dict((their_student if inside else theirs).named_parameters())
        their = source[ours if ours in source else f"bert.{ours}"].grad
        assert (gradient is None) == (their is None), name
        if gradient is not None:
            assert_within(dense(gradient), their.numpy(), 1e-10 * max(1e-3, np.abs(their.numpy()).max()), name)


@given(st.integers(1, 3), st.integers(1, 3), st.data())
@settings(max_examples=10, deadline=None)
def test_any_ratio_takes_the_layers_that_were_decided_on(modules, ratio, data):
    drawn = data.draw(st.lists(st.booleans(), min_size=modules, max_size=modules))
    student, teacher = toy(4, modules, 0), toy(4, modules * ratio, 1)
    model = Theseus(teacher, student)
    want = [layer for i, new in enumerate(drawn)
            for layer in ([student.layers[i]] if new else teacher.layers[i * ratio:(i + 1) * ratio])]
    assert model.chosen(drawn) == want and model.chosen(None) == student.layers
    found = model(batch_of(CASES["minilm"], METHODS["minilm"].stages()[0], teacher, 0),
                  Pass(Needs.of(hidden=[-1]), decisions=drawn))
    assert found.depth == len(want) and found.hidden[-1].shape[2] == 4


def test_in_evaluation_it_is_the_successor_to_the_bit():
    student, teacher = pair()
    model = Theseus(teacher, student)
    out, one = model.successor(), batch(0, teacher)
    assert type(out) is Bert and out.config == student.config
    for needs in (LOGITS, Needs.of(hidden=[0, 1], scores=[1], pooled=True)):
        ours, own = model(one, Pass(needs)), out(one, Pass(needs))
        assert ours.depth == own.depth == 2
        if "logits" in needs:
            assert (ours.logits.array == own.logits.array).all()
        else:
            assert (ours.hidden[1].array == own.hidden[1].array).all()
            assert (ours.scores[1].array == own.scores[1].array).all()
            assert (ours.pooled.array == own.pooled.array).all()
    for name, array in out.arrays().items():
        assert (array == (student if name.startswith("layers.") else teacher).arrays()[name]).all()
    for parameter in out.parameters():              # it is a copy
        parameter.array += 1
    assert not (out.arrays()["pooler.weight"] == teacher.arrays()["pooler.weight"]).any()


def test_no_two_dropouts_drop_the_same_units_and_the_predecessors_stay_as_they_were():
    student, teacher = pair(dropout=0.3)
    sites = [module.site for _, module in teacher.named_modules() if isinstance(module, Dropout)]
    model = Theseus(teacher, student)
    assert [module.site for _, module in teacher.named_modules() if isinstance(module, Dropout)] == sites
    every = [module.site for _, module in model.named_modules() if isinstance(module, Dropout)]
    assert len(set(every)) == len(every)
    own = [module.site for _, module in model.successor().named_modules() if isinstance(module, Dropout)]
    assert own == list(range(len(own)))


def test_what_is_trained_and_what_is_deployed_of_bert_base():
    counted = parameter_count(parse("6x768").but(pooler=True))
    assert counted["transformer"] == 42_527_232 and counted["total"] == 66_955_008


# ---------------------------------------------------------------- training

@pytest.mark.parametrize("clip", [1.0, 0.3])
@pytest.mark.parametrize("convention", ["paper", "official"])
def test_ten_steps_are_pytorchs(convention, clip, tmp_path):
    student, teacher = pair()
    theirs, their_student = (bert.twin(model, tmp_path / part) for part, model in (("p", teacher), ("s", student)))
    before = copies(teacher)
    stage, = METHOD.plan(student.config, teacher.config, convention=convention, growth=0.1)
    recipe = stage.recipes["paper"].but(steps=10, learning_rate=0.01, clip=clip)
    memory, drawn = Memory(), [stage.decisions(n, 10, 0, student.config) for n in range(10)]
    assert {True, False} == set(map(all, drawn)) and (False, False) in drawn and all(drawn[-1])
    out, _ = train_phases(student, [Phase(stage, recipe, lambda step: batch(step, teacher), teacher)], directory=memory,
                          log_every=1, quiet=True)
    values = oracle.steps(theirs, their_student, (batch(n, teacher) for n in range(10)), drawn, recipe,
                          clip_all=convention == "official")
    for line, want in zip(memory.lines, values, strict=True):
        for label, value in want.items():
            assert abs(line[label] - value) <= 1e-9 * value, (line["step"], label, line[label], value)
    want = dict(their_student.named_parameters())
    for name, array in out.arrays().items():
        if name.startswith("layers."):
            their = want["bert." + FORMS["bert"].name(name)].detach().numpy()
            assert_within(array, their, 1e-9 * np.abs(their).max() + 1e-10 * name.endswith("key.bias"), name)
        else:
            assert (array == before[name]).all(), name                  # the predecessor's, never updated
    assert {name for name in memory.saved[10][0] if name.startswith("optimizer/m/")} == {
        f"optimizer/m/{name}" for name in out.arrays() if name.startswith("layers.")}


@pytest.mark.parametrize("shards", [2, 5])
def test_every_shard_has_the_same_modules(shards):
    def trained(shards):
        student, teacher = pair(dropout=0.2, attention_dropout=0.1)
        seen = []
        stage, = METHOD.plan(student.config, teacher.config, growth=0.05)

        class Watched(Theseus):
            def chosen(self, decisions):
                seen.append(decisions)
                return super().chosen(decisions)

        stage = replace(stage, before=lambda student, teacher: Watched(teacher, student))
        phase = Phase(stage, stage.recipes["paper"].but(steps=6, learning_rate=0.01), lambda n: batch(n, teacher), teacher)
        out, _ = train_phases(student, [phase], shards=shards, seed=4, quiet=True)
        return [copies(out), seen]

    (whole, once), (sharded, often) = trained(1), trained(shards)
    assert often == [drawn for drawn in once for _ in range(shards)]
    for name, array in whole.items():
        assert_within(sharded[name], array, 1e-9 * np.abs(array).max() + 1e-8 * name.endswith("key.bias"), name)


def test_it_learns_and_the_successor_alone_keeps_it():
    student, teacher = pair()
    stage, = METHOD.plan(student.config, teacher.config, growth=0.05)
    phase = Phase(stage, stage.recipes["paper"].but(steps=30, learning_rate=0.01), lambda n: batch(0, teacher), teacher)
    one = batch(0, teacher)

    def loss(model):
        return cross_entropy(model(one, Pass(LOGITS)).logits, one.labels).item()
    before = loss(Theseus(teacher, student))
    out, _ = train_phases(student, [phase], quiet=True)
    assert loss(out) < 0.5 * before


# ---------------------------------------------------------------- another library

def test_the_device_never_waits_for_a_decision(strict_cupy):
    """Forward and backward through a mixed model on the stand-in for CuPy, and its successor there."""
    successor, predecessor = pair()
    read, run = batch(0, predecessor), Pass(LOGITS, decisions=(True, False))
    model = Theseus(predecessor, successor)
    with kernels.use("plain"):
        features = model(read, run)
        truth = gradients((features.logits * features.logits).sum(), model.parameters())
    model.to(strict_cupy)
    moved = read.to(strict_cupy)
    with strict_device.no_sync():
        there = model(moved, run)
        found = gradients((there.logits * there.logits).sum(), model.parameters())
    assert_close64(to_host(there.logits.array), features.logits.array, "logits")
    assert any(g is None for g in truth)                                # what takes no part
    names = model.named_parameters()                                    # the bias of keys has none but rounding
    assert_all_within({name: None if g is None else to_host(dense(g)) for name, g in zip(names, found)},
                      {name: None if g is None else dense(g) for name, g in zip(names, truth)}, 1e-12)
    replaced = model.successor()
    assert all(type(p.array) is type(model.parameters()[0].array) for p in replaced.parameters())
