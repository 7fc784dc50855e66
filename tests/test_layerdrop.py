"""LayerDrop: a dropped layer is none, what is drawn, what is left for inference, and training under it."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import strict_device
from gradcheck import assert_close64, assert_within
from oracle import bert as bert_oracle
from oracle import layerdrop as oracle
from small_bert import DEPTH, build, dense, draw_batch, everything, flat
from small_mobilebert import build as build_mobilebert
from tinydistill import kernels, losses, ops
from tinydistill.architectures import parse
from tinydistill.backend import to_host
from tinydistill.compress import layerdrop
from tinydistill.compress.pruned_bert import pruned
from tinydistill.errors import WrongUsage
from tinydistill.features import PER_LAYER, Needs, Pass
from tinydistill.hub_names import form_of
from tinydistill.methods import METHODS
from tinydistill.methods.stage import Recipe
from tinydistill.students.bert import Bert
from tinydistill.tensor import gradients
from tinydistill.training.loop import Phase, train_phases
from tinydistill.training.step import batch_gradient
from toys import batch_at, toy

DECISIONS = [(True, False, True), (False, True, True), (True, True, False), (False, False, True)]
ENDS = Needs.of(pooled=True, logits=True, embeddings=True)
AMONG = {"layers.#.attention.query": "encoder.layer.#.attention.self.query",
         "layers.#.attention.output": "encoder.layer.#.attention.output.dense",
         "layers.#.feed_forward.inner": "encoder.layer.#.intermediate.dense",
         "layers.#.feed_forward_norm": "encoder.layer.#.output.LayerNorm"}


def chosen(decisions):
    return [l for l, kept in enumerate(decisions) if kept]


# ---------------------------------------------------------------- a layer that is left out

@pytest.mark.parametrize("decisions", DECISIONS, ids=str)
def test_a_pass_is_that_of_transformers_without_the_layers(tmp_path, decisions):
    model, batch, kept = build("masked-lm"), draw_batch("masked-lm"), chosen(decisions)
    ours = model(batch, Pass(everything(model.config), decisions=decisions))
    twin = oracle.without(bert_oracle.twin(model, tmp_path), kept)
    theirs = oracle.features(twin, batch)
    assert_close64(ours.logits.array, theirs["logits", None])
    for i, l in enumerate(kept):
        for name in PER_LAYER:
            assert_close64(getattr(ours, name)[l].array, theirs[name, i], f"{name} {l}")
    found = flat(ours)
    for l in set(range(DEPTH)) - set(kept):         # the identity: its output is its input
        before = found["hidden", l - 1] if l else ours.embeddings
        assert found["hidden", l] is before or l == 0
        np.testing.assert_array_equal(found["hidden", l].array, before.array)

    rng = np.random.default_rng(2)
    read = {("hidden", l): i for i, l in enumerate(kept)} | {("logits", None): None}
    upstream = {place: rng.standard_normal(found[place].shape) for place in read}
    loss = sum((found[place] * u).sum() for place, u in upstream.items())
    gradient = dict(zip(model.named_parameters(), gradients(loss, model.parameters())))
    truth = oracle.gradients(twin, batch, {("hidden", i) if i is not None else place: upstream[place]
                                           for place, i in read.items()})
    compared = 0
    for ours_name, theirs_name in AMONG.items():
        for part in ("weight", "bias"):
            for i, l in enumerate(kept):
                assert_close64(gradient[f"{ours_name.replace('#', str(l))}.{part}"],
                               truth[f"{theirs_name.replace('#', str(i))}.{part}"], ours_name)
                compared += 1
    assert compared == 8 * len(kept)
    assert_close64(dense(gradient["embeddings.word.weight"]), truth["embeddings.word_embeddings.weight"])
    for l in set(range(DEPTH)) - set(kept):
        assert all(g is None for name, g in gradient.items() if name.startswith(f"layers.{l}."))


def test_all_layers_may_be_dropped():
    """The head reads the embeddings then, after their dropout."""
    model, batch = build("masked-lm", dropout=0.3), draw_batch("masked-lm")
    run = Pass(ENDS | Needs.of(hidden=range(DEPTH)), training=True, rows=batch.rows, decisions=(False,) * DEPTH)
    features = model(batch, run)
    x = model.embedding_dropout(features.embeddings, run)
    for l in range(DEPTH):
        np.testing.assert_array_equal(features.hidden[l].array, x.array)
    assert_close64(features.logits.array, model.logits(x, batch, run).array)
    loss = (features.logits * features.logits).sum()
    found = dict(zip(model.named_parameters(), gradients(loss, model.parameters())))
    assert {name for name, g in found.items() if g is None} == {
        name for name in found if name.startswith(("layers.", "pooler."))}


def test_a_dropped_layer_costs_nothing_but_what_is_asked_of_its_projections(monkeypatch):
    model, batch, calls = build(), draw_batch(), Counter()
    for name in ("project_heads", "attention", "layer_norm"):
        def counting(*arguments, name=name, op=getattr(ops, name), **settings):
            calls[name] += 1
            return op(*arguments, **settings)
        monkeypatch.setattr(ops, name, counting)
    model(batch, Pass(Needs.of(hidden=[-1]), decisions=(True, False, False)))
    assert calls == {"project_heads": 1, "attention": 1, "layer_norm": 3}
    calls.clear()
    run = Pass(Needs.of(queries=[1], scores=[1], hidden=[0, 1]), decisions=(True, False, True))
    features = model(batch, run)
    assert calls == {"project_heads": 2, "attention": 1, "layer_norm": 3}
    own = model.layers[1].attention.project(features.hidden[0])[0]
    assert_close64(features.queries[1].array, own.array)
    loss = (features.queries[1] * features.queries[1]).sum()
    found = dict(zip(model.named_parameters(), gradients(loss, model.parameters())))
    assert {name for name, g in found.items() if g is not None and name.startswith("layers.1")} == {
        "layers.1.attention.query.weight", "layers.1.attention.query.bias"}


def test_every_layer_takes_part_in_evaluation_and_where_all_are_kept():
    model, batch = build("sequence"), draw_batch("sequence")
    usual, kept = (flat(model(batch, Pass(everything(model.config), decisions=d))) for d in (None, (True,) * DEPTH))
    for place, x in usual.items():
        np.testing.assert_array_equal(x.array, kept[place].array)
    for wrong in ((True,) * (DEPTH + 1), ()):
        with pytest.raises(ValueError, match=f"need one decision for each of 3 layers, got {len(wrong)}"):
            model(batch, Pass(ENDS, decisions=wrong))


def test_the_device_never_waits_for_a_decision(strict_cupy):
    model, batch = build("masked-lm"), draw_batch("masked-lm")
    run = Pass(everything(model.config), training=True, rows=batch.rows, decisions=(True, False, True))
    with kernels.use("plain"):
        truth = flat(model(batch, run))
    model.to(strict_cupy)
    moved = batch.to(strict_cupy)
    with strict_device.no_sync():
        there = flat(model(moved, run))
    for place, x in truth.items():
        assert_close64(to_host(there[place].array), x.array, str(place))


# ---------------------------------------------------------------- what is drawn

def test_layers_are_dropped_independently_at_the_rate():
    steps = np.array([layerdrop.drawn(0.2, 12, 5, step) for step in range(4000)])
    assert np.abs(steps.mean(0) - 0.8).max() < 0.03
    pairs = (steps.T.astype(float) @ steps) / len(steps)
    assert np.abs(pairs[~np.eye(12, dtype=bool)] - 0.64).max() < 0.04
    assert any(not layerdrop.drawn(0.9, 2, 0, step)[0] and not layerdrop.drawn(0.9, 2, 0, step)[1] for step in range(9))
    assert all(all(layerdrop.drawn(0.0, 12, 0, step)) for step in range(50))


def test_a_draw_is_a_function_of_seed_and_step():
    def draws(**changes):
        return [layerdrop.drawn(0.5, 16, **{"seed": 1, "step": step} | changes) for step in range(4)]
    assert draws() == draws() and draws() != draws(seed=2) and len(set(draws())) == 4
    assert layerdrop.drawn(0.5, 8, 1, 0) == layerdrop.drawn(0.5, 16, 1, 0)[:8]
    assert all(type(one) is bool for one in layerdrop.drawn(0.5, 16, 1, 0))
    for rate in (-0.1, 1.0, 1.5):
        with pytest.raises(WrongUsage, match="need a rate of dropped layers of at least 0 and below 1"):
            layerdrop.drawn(rate, 3, 0, 0)


# ---------------------------------------------------------------- what is left

def test_every_other_layer():
    assert layerdrop.every_other(12, 1 / 3) == (0, 1, 3, 4, 6, 7, 9, 10)
    assert layerdrop.every_other(12, 0.25) == (0, 1, 2, 4, 5, 6, 8, 9, 10)
    assert layerdrop.every_other(1, 0.5) == (0,)
    for rate in (-0.1, 0.51):
        with pytest.raises(WrongUsage, match="share of layers to take out from 0 to 0.5"):
            layerdrop.every_other(12, rate)


@given(st.lists(st.booleans(), min_size=4, max_size=4).filter(any), st.integers(0, 99))
def test_a_subset_is_a_smaller_bert_that_computes_what_the_decisions_left(decisions, seed):
    model, batch, kept = build("masked-lm", seed, layers=4), draw_batch("masked-lm", seed), chosen(decisions)
    small = layerdrop.subset(model, kept[::-1])
    assert type(small) is Bert and small.config == model.config.but(layers=len(kept))
    whole = model(batch, Pass(everything(model.config), decisions=decisions))
    part = small(batch, Pass(everything(small.config)))
    for name in ("logits", "pooled", "embeddings"):
        np.testing.assert_array_equal(getattr(part, name).array, getattr(whole, name).array)
    for i, l in enumerate(kept):
        for name in PER_LAYER:
            np.testing.assert_array_equal(getattr(part, name)[i].array, getattr(whole, name)[l].array)


def test_a_subset_of_another_architecture_and_device(strict_cupy):
    model = build_mobilebert(dtype=np.float32).to(strict_cupy)
    small = layerdrop.subset(model, (2,))
    assert type(small) is type(model) and form_of(small.config) is form_of(model.config)
    assert all(isinstance(p.array, strict_cupy.ndarray) and p.dtype == np.float32 for p in small.parameters())
    for name, array in small.arrays().items():
        np.testing.assert_array_equal(array, model.arrays()[name.replace("layers.0.", "layers.2.")], err_msg=name)


def test_a_subset_of_a_model_whose_heads_were_pruned():
    model, batch = pruned(build("masked-lm"), {0: (0,), 2: (1, 2)}), draw_batch("masked-lm")
    small, run = layerdrop.subset(model, (1, 2)), Pass(Needs.of(logits=True))
    assert small.config.heads_kept == (3, 1)
    np.testing.assert_array_equal(small(batch, run).logits.array,
                                  model(batch, replace(run, decisions=(False, True, True))).logits.array)


@pytest.mark.parametrize("layers", [(), (0, 0), (3,), (-1, 0)])
def test_a_subset_that_cannot_be(layers):
    with pytest.raises(WrongUsage, match="need some of the layers 0 to 2, each once"):
        layerdrop.subset(build(), layers)


# ---------------------------------------------------------------- training

RECIPE = Recipe(steps=6, batch_size=4, learning_rate=0.01)


def phase(rate, prune=0.0):
    (stage,) = METHODS["layerdrop"].stages(task=False, rate=rate, prune=prune)
    return Phase(stage, RECIPE, lambda step: labelled(batch_at(step)))


def labelled(batch):
    return replace(batch, labels=np.where(batch.mask, batch.ids, -100), positions=np.flatnonzero(batch.mask))


def test_training_leaves_out_what_was_drawn_and_the_pruned_student_is_shallower():
    model = toy(8, 4, 3, head="masked-lm", dropout=0.0, attention_dropout=0.0)
    stage, config = phase(0.5).stage, model.config
    for step in range(4):
        decisions = stage.decisions(step, 6, 0, config)
        assert decisions == layerdrop.drawn(0.5, 4, 0, step)
        _, found, _ = batch_gradient(model, None, stage, labelled(batch_at(step)), model.named_parameters(), seed=0,
                                     step=step, shards=1, decisions=decisions)
        for l, kept in enumerate(decisions):
            assert kept == (found[f"layers.{l}.attention.value.weight"] is not None)
    trained, _ = train_phases(model, [phase(0.5, prune=0.5)], quiet=True)
    assert trained.config.layers == 2 and type(trained) is Bert
    for name, array in trained.arrays().items():
        np.testing.assert_array_equal(array, model.arrays()[name.replace("layers.1.", "layers.2.")])


def test_shards_leave_out_the_same_layers():
    model, batch = toy(8, 4, 3, head="masked-lm"), labelled(batch_at(0))
    stage = phase(0.5).stage
    decisions = next(d for d in (stage.decisions(s, 6, 0, model.config) for s in range(9)) if len(set(d)) == 2)
    whole, parts = (batch_gradient(model, None, stage, batch, model.named_parameters(), seed=0, step=0, shards=n,
                                   decisions=decisions)[1] for n in (1, 3))
    largest = max(np.abs(g).max() for g in whole.values() if g is not None)
    for name, gradient in whole.items():
        assert (gradient is None) == (parts[name] is None)
        if gradient is not None:
            assert_within(parts[name], gradient, 1e-10 * largest, name)


def test_the_method():
    method, config = METHODS["layerdrop"], build().config
    for task, name in ((False, "pretrain"), (True, "finetune")):
        (stage,) = method.plan(config, config, task=task)
        assert stage.name == name and stage.after is None and stage.teacher_needs == Needs()
        assert {term.name for _, term in stage.terms} <= set(losses.TERMS)
        assert stage.decisions(3, 9, 7, config) == layerdrop.drawn(0.2, DEPTH, 7, 3)
    for settings in ({"rate": 1.0}, {"prune": 0.6}):
        with pytest.raises(WrongUsage):
            method.plan(config, config, task=True, **settings)
    with pytest.raises(WrongUsage, match="layerdrop needs a student of Transformer layers"):
        method.plan(parse("bilstm"), config, task=True)
