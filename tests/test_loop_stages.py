"""What a stage does to the model that it trains: frozen parameters, rates, decisions, wrappers, and what is observed."""

import json
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from gradcheck import assert_within
from tinydistill.backend import xp_of
from tinydistill.errors import Stopped
from tinydistill.features import Pass
from tinydistill.methods.stage import Stage
from tinydistill.nn import Module
from tinydistill.tensor import gradients
from tinydistill.training import loop
from tinydistill.training.loop import Phase, train, train_phases
from tinydistill.training.schedules import layerwise_decay
from tinydistill.training.step import batch_gradient, frozen
from toys import MINILM, RECIPE, Memory, batch_at, toy

STEPS = 3


class Watched(Module):
    """A model that says what it was told, and keeps the largest hidden state that it has seen as its state."""

    def __init__(self, inner):
        self.inner, self.config = inner, inner.config
        self.state = {"largest": np.zeros((), inner.parameters()[0].dtype)}
        self.passes, self.learned = [], []

    def __call__(self, batch, run):
        self.passes.append(run)
        features = self.inner(batch, replace(run, decisions=None))
        largest = abs(features.queries[1].array).max()
        return features.has(observed={"largest": largest, "rows": xp_of(largest).asarray(float(len(batch)))})

    def learn(self, observed):
        self.learned.append({name: value.item() for name, value in observed.items()})
        self.state["largest"] = 0.5 * self.state["largest"] + 0.5 * observed["largest"]

    def named_parameters(self):
        return self.inner.named_parameters()


def run(stage, student=None, memory=None, **settings):
    student = student or toy(8, 2, 0)
    before = {name: array.copy() for name, array in student.arrays().items()}
    recipe = RECIPE.but(steps=STEPS, warmup=0, **settings.pop("recipe", {}))
    train(student, stage, recipe, batch_at, teacher=toy(12, 3, 1), directory=memory, quiet=True, **settings)
    return student, before


# ---------------------------------------------------------------- frozen

def of_layer_0(name, config):
    assert config.layers == 2
    return name.startswith("layers.0.")


def test_only_what_a_stage_trains_is_changed_clipped_and_in_the_optimizer_but_all_is_kept():
    memory = Memory()
    student, before = run(replace(MINILM, trains=of_layer_0), memory=memory, log_every=1)
    for name, array in student.arrays().items():
        same = (array == before[name]).all()
        assert same == (not name.startswith("layers.0.")) or name.endswith("key.bias"), name
    arrays, meta = memory.saved[STEPS]
    trained = {name for name in before if name.startswith("layers.0.")}
    assert json.loads(meta)["optimizer_steps"].keys() == trained
    assert {name for name in arrays if name.startswith("model/")} == {f"model/{name}" for name in before}
    model, teacher = toy(8, 2, 0), toy(12, 3, 1)    # the norm is that of what is trained
    _, found, _ = batch_gradient(model, teacher, MINILM, batch_at(0), model.named_parameters(), seed=0, step=0, shards=1)
    norm = np.sqrt(sum((found[name] ** 2).sum() for name in trained))
    assert abs(memory.lines[0]["gradient_norm"] - norm) < 1e-12 * norm


def test_no_gradient_is_computed_for_what_is_frozen_and_afterwards_all_is_as_before(monkeypatch):
    wanted = []

    def watched(student, *arguments, **settings):
        wanted.append({name for name, p in student.named_parameters().items() if p.requires_grad})
        return batch_gradient(student, *arguments, **settings)

    monkeypatch.setattr(loop, "batch_gradient", watched)
    student, _ = run(replace(MINILM, trains=of_layer_0))
    assert wanted == [{name for name in student.named_parameters() if name.startswith("layers.0.")}] * STEPS
    assert all(parameter.requires_grad for parameter in student.parameters())
    with pytest.raises(ZeroDivisionError):
        run(replace(MINILM, trains=of_layer_0, decisions=lambda *_: 1 / 0), student)
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_published_code_may_train_something_else():
    stage = replace(MINILM, trains=of_layer_0, official_trains=lambda name, config: True, official_drops=False)
    model = toy(8, 2, 0)
    for convention, trained in (("paper", 16), ("official", len(model.parameters()))):
        assert len(stage.under(convention).trained(model.named_parameters(), model.config)) == trained
    assert stage.under("paper").drops and not stage.under("official").drops
    assert replace(MINILM, trains=of_layer_0).under("official").trains is of_layer_0


def test_a_stage_may_leave_dropout_out():
    without, _ = run(replace(MINILM, drops=False))
    never, _ = run(MINILM, toy(8, 2, 0, dropout=0.0, attention_dropout=0.0))
    dropped, _ = run(MINILM)
    for name, array in without.arrays().items():
        assert (array == never.arrays()[name]).all()
    assert not (without.arrays()["layers.0.feed_forward.inner.weight"]
                == dropped.arrays()["layers.0.feed_forward.inner.weight"]).all()


# ---------------------------------------------------------------- rates

def test_rates_are_those_of_the_step_and_the_name_times_the_decay_by_layer(monkeypatch):
    asked, taken = [], []

    def rates(step, steps, config):
        asked.append((step, steps, config.layers))
        return lambda name: 0.0 if "embeddings" in name else 1.0 + step

    original = loop.optimizers.Optimizer.update

    def update(self, gradients, learning_rate, multipliers=None):
        taken.append(multipliers)
        original(self, gradients, learning_rate, multipliers)

    monkeypatch.setattr(loop.optimizers.Optimizer, "update", update)
    student, before = run(replace(MINILM, rates=rates), recipe={"layer_decay": 0.5})
    assert asked == [(step, STEPS, 2) for step in range(STEPS)]
    decay = layerwise_decay(before, 2, 0.5)
    assert taken == [{name: decay[name] * (0.0 if "embeddings" in name else 1.0 + step) for name in before}
                     for step in range(STEPS)]
    assert (student.arrays()["embeddings.word.weight"] == before["embeddings.word.weight"]).all()
    taken.clear()
    run(MINILM)
    assert taken == [dict.fromkeys(before, 1.0)] * STEPS


def test_a_stage_of_each_layer_tells_its_rates_which():
    stage = Stage("layer", MINILM.terms, {}, each_layer="up to", layer_map=lambda M, L: tuple((m, m) for m in range(M)),
                  rates=lambda step, steps, config, layer: lambda name: (step, layer, name))
    assert [one.factors(4, 9, ["x"], None) for one in stage.bound(3, 3)] == [{"x": (4, layer, "x")} for layer in range(3)]


# ---------------------------------------------------------------- decisions

@pytest.mark.parametrize("shards, threads", [(1, 1), (3, 1), (5, 2)])
def test_decisions_are_drawn_once_a_step_for_all_shards(shards, threads):
    model = Watched(toy(8, 2, 0))
    run(replace(MINILM, decisions=lambda step, steps, seed, config: (step, steps, seed, config.layers)), model,
        shards=shards, threads=threads, seed=7, before=10)
    assert [one.decisions for one in model.passes] == [(step, STEPS, 7, 2) for step in range(STEPS) for _ in range(shards)]
    assert all(one.training for one in model.passes)
    plain = Watched(toy(8, 2, 0))
    run(MINILM, plain)
    assert {one.decisions for one in plain.passes} == {None}


# ---------------------------------------------------------------- observed

@pytest.mark.parametrize("shards", [1, 2, 5])
def test_a_model_learns_the_largest_of_what_the_shards_observe_once_a_step(shards):
    model, whole = Watched(toy(8, 2, 0)), Watched(toy(8, 2, 0))
    run(MINILM, model, shards=shards)
    run(MINILM, whole)
    assert len(model.learned) == STEPS and len(model.passes) == STEPS * shards
    for one, other in zip(model.learned, whole.learned):
        assert abs(one["largest"] - other["largest"]) < 1e-8 * other["largest"]
        assert one["rows"] == np.ceil(5 / shards) and other["rows"] == 5
    smoothed = 0.0
    for one in model.learned:
        smoothed = 0.5 * smoothed + 0.5 * one["largest"]
    assert model.state["largest"] == smoothed


def test_what_is_observed_on_a_device_stays_there(strict_cupy):
    model = Watched(toy(8, 2, 0).to(strict_cupy))
    model.state["largest"] = strict_cupy.zeros(())
    _, _, observed = batch_gradient(model, toy(12, 3, 1).to(strict_cupy), MINILM, batch_at(0), model.named_parameters(),
                                    seed=0, step=0, shards=3)
    assert all(xp_of(value) is strict_cupy for value in observed.values())


def test_a_killed_run_goes_on_with_what_the_model_had_learned_to_the_same_bits():
    whole = Memory()
    run(MINILM, Watched(toy(8, 2, 0)), whole, save_every=1)
    assert whole.saved[1][0]["model/state.largest"].shape == ()
    memory = Memory()
    memory.saved[1] = whole.saved[1]
    model = Watched(toy(8, 2, 3))
    run(MINILM, model, memory, save_every=1)
    assert_same_bits(memory.saved[STEPS], whole.saved[STEPS])
    assert model.state["largest"] == memory.saved[STEPS][0]["model/state.largest"] > 0


# ---------------------------------------------------------------- before and after

class Scaled(Module):
    """A wrapper of other names, with a parameter and a state of its own."""

    def __init__(self, student, teacher):
        self.inner, self.outer, self.config = student, teacher, student.config
        self.state = {"steps": np.zeros(())}

    def __call__(self, batch, run):
        return self.inner(batch, run)

    def learn(self, observed):
        self.state["steps"] = self.state["steps"] + 1


def ended(model):
    """The student, which remembers in a bias how long it was wrapped."""
    bias = model.inner.named_parameters()["pooler.bias"]
    bias.array = bias.array + model.state["steps"]
    return model.inner


def phases(seen=None):
    teacher = toy(12, 3, 1)
    wrapped = replace(MINILM, name="wrapped", before=Scaled, after=ended,
                      trains=lambda name, config: name.startswith("inner."))

    def prepare(student):
        if seen is not None:
            seen.append(type(student).__name__)
        return student
    return [Phase(stage, RECIPE.but(steps=STEPS, warmup=0), batch_at, teacher, prepare)
            for stage in (wrapped, replace(MINILM, name="plain"), replace(wrapped, name="again"))]


def assert_same_bits(saved, other):
    assert saved[1] == other[1] and saved[0].keys() == other[0].keys()
    for name, array in saved[0].items():
        assert (array == other[0][name]).all(), name


def test_a_model_is_wrapped_before_its_stage_and_unwrapped_after_it():
    seen, memory = [], Memory()
    student = toy(8, 2, 0)
    before = student.arrays()["pooler.bias"].copy()
    out, logged = train_phases(student, phases(seen), directory=memory, save_every=1, quiet=True)
    assert out is student and seen == ["Bert"] * 3 and len(logged) == 3
    assert_within(out.arrays()["pooler.bias"], before + 2 * STEPS, 1e-12)              # two stages of three steps
    names = [{name.split("/")[1].split(".")[0] for name in arrays if name.startswith("model/")}
             for arrays, _ in (memory.saved[step] for step in (3, 6, 9))]
    assert names == [{"inner", "outer", "state"}, {"embeddings", "layers", "pooler"},
                     {"inner", "outer", "state"}]


def test_a_run_killed_in_any_stage_goes_on_to_the_same_bits():
    whole = Memory()
    end, _ = train_phases(toy(8, 2, 0), phases(), directory=whole, save_every=1, seed=5, quiet=True)
    assert max(whole.saved) == 3 * STEPS
    for last in range(1, 3 * STEPS + 1):
        memory = Memory()
        memory.saved = {step: saved for step, saved in whole.saved.items() if step <= last}
        again, _ = train_phases(toy(8, 2, 4), phases(), directory=memory, save_every=1, seed=5, quiet=True)
        assert_same_bits(memory.saved[3 * STEPS], whole.saved[3 * STEPS])
        for name, array in end.arrays().items():
            assert (array == again.arrays()[name]).all(), (last, name)


@pytest.mark.parametrize("when", [1, 3, 5, 8])
def test_a_run_stopped_in_any_stage_goes_on_to_the_same_bits(when):
    whole, memory, stop = Memory(), Memory(), SimpleNamespace(requested=None)
    train_phases(toy(8, 2, 0), phases(), directory=whole, save_every=100, seed=5, quiet=True)
    memory.log = lambda step, **metrics: setattr(stop, "requested", signal.SIGTERM if step == when else stop.requested)
    with pytest.raises(Stopped):
        train_phases(toy(8, 2, 0), phases(), directory=memory, save_every=100, log_every=1, seed=5, stop=stop, quiet=True)
    del memory.log
    train_phases(toy(8, 2, 4), phases(), directory=memory, save_every=100, seed=5, quiet=True)
    assert_same_bits(memory.saved[3 * STEPS], whole.saved[3 * STEPS])


def test_what_leads_to_frozen_parameters_alone_is_not_remembered():
    student = toy(8, 2, 0)
    below = [p for name, p in student.named_parameters().items() if not name.startswith("layers.1.")]
    with frozen(below):
        features = student(batch_at(0), Pass(MINILM.student_needs))
        loss = (features.queries[1] * features.keys[1]).sum()
        assert all(g is None for g in gradients(loss, below))
        assert gradients(loss, [student.layers[1].attention.query.weight])[0].any()
        embeddings = student(batch_at(0), Pass(MINILM.student_needs)).embeddings
        assert not embeddings.requires_grad and embeddings.inputs == ()
