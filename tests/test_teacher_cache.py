"""A teacher computed before: the bits of the build, the training that the teacher gives, or one line why not."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import strict_device
from gradcheck import assert_close32, assert_within, kappa
from teacher_caches import EVERYTHING, LABELS, LENGTHS, build, data, fields_of, rows_of, standing_in, teacher_of
from tinydistill.data.batches import Batches
from tinydistill.errors import Problem, WrongUsage
from tinydistill.features import Needs, Pass
from tinydistill.losses import TERMS
from tinydistill.methods.stage import MASKED, MASKED_EVERYWHERE, TASK, TEXT, Stage
from tinydistill.tensor import no_grad
from tinydistill.training.ensemble import Ensemble
from tinydistill.training.evaluation import array_library
from tinydistill.training.loop import train
from tinydistill.training.step import batch_gradient
from tinydistill.training.teacher_cache import require_cachable
from toys import MINILM, RECIPE, VOCABULARY, Memory, toy

# ---------------------------------------------------------------- what is read back

@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("head", ["sequence", "token", "masked-lm", "pretraining"])
def test_what_is_read_back_is_what_was_written_to_the_bit(tmp_path, head, dtype):
    teacher, written = teacher_of(head), {}
    everything = EVERYTHING | Needs.of(next_sentence=head == "pretraining")

    def noted(batch, run):
        features = teacher(batch, run)
        written.update(rows_of(features, run.needs, batch, head))
        return features

    build(tmp_path / "cache", standing_in(teacher, noted), everything, dtype=dtype)
    assert len(written) == len(everything.wanted) * len(LENGTHS)
    cached, other, seen = build(tmp_path / "cache", teacher, everything, dtype=dtype), data(batch_size=3, seed=9), set()
    for step in range(len(other)):
        batch = other.at(step)
        features, alike = (model(batch, Pass(everything)) for model in (cached, teacher))
        assert features.mask is batch.mask and features.depth == 3
        for key, values in fields_of(features, everything).items():
            assert (values.shape, values.dtype) == (fields_of(alike, everything)[key].shape, np.float32)
        for key, got in rows_of(features, everything, batch, head).items():
            assert np.array_equal(got, written[key].astype(dtype).astype(np.float32)), key
            got[...] = 0
            seen.add(key)
        assert not any(values.any() for values in fields_of(features, everything).values()), "something in padding"
    assert seen == written.keys()


@pytest.mark.parametrize("head", ["token", "masked-lm"])
def test_logits_of_tokens_come_where_the_batch_reads_them(tmp_path, head):
    teacher, run = teacher_of(head, np.float64), Pass(Needs.of(logits=True))
    cached = build(tmp_path / "cache", teacher, run.needs, dtype="float64")
    for step in range(3):
        batch = data().at(step)
        places = np.flatnonzero(batch.mask)
        chosen = replace(batch, positions=places[::2])
        got, want = (model(chosen, run).logits.array for model in (cached, teacher))
        assert_within(got, want, 1e-13 * np.abs(want).max())
        assert np.array_equal(cached(batch, run).logits.array[places[::2]], got)


def test_logits_of_a_sequence_are_read_at_no_position(tmp_path):
    cached, run, batch = build(tmp_path / "cache"), Pass(Needs.of(logits=True)), data().at(0)
    got = cached(replace(batch, positions=np.array([0])), run).logits.array
    assert got.shape == (4, 3) and np.array_equal(got, cached(batch, run).logits.array)


def test_the_parts_of_a_split_batch_get_their_own_rows(tmp_path):
    cached, batch = build(tmp_path / "cache"), data(batch_size=5, seed=2).at(1)
    parts = batch.split(3)
    assert [part.indices.tolist() for part in parts] == [p.tolist() for p in np.array_split(batch.indices, 3)]
    whole = fields_of(cached(batch, Pass(EVERYTHING)), EVERYTHING)
    with ThreadPoolExecutor(3) as pool:
        pieces = [fields_of(f, EVERYTHING) for f in pool.map(lambda part: cached(part, Pass(EVERYTHING)), parts)]
    for key, values in whole.items():
        assert np.array_equal(np.concatenate([piece[key] for piece in pieces]), values)


def test_numbers_come_in_the_teachers_dtype(tmp_path):
    wide = build(tmp_path / "narrow", teacher_of(dtype=np.float64), Needs.of(hidden=[1]), dtype="float32")
    got = wide(data().at(0), Pass(Needs.of(hidden=[1]))).hidden[1].array
    assert got.dtype == np.float64 and (got == got.astype(np.float32)).all()
    narrow = build(tmp_path / "narrow", teacher_of(), Needs.of(hidden=[1]), dtype="float32")
    assert narrow(data().at(0), Pass(Needs.of(hidden=[-2]))).hidden[1].dtype == np.float32


def test_it_has_the_teachers_configuration_and_library(tmp_path, xp):
    teacher = teacher_of().to(xp)
    cached = build(tmp_path / "cache", teacher)
    assert cached.config is teacher.config and array_library(cached) is xp


@pytest.mark.parametrize("head", ["sequence", "token"])
def test_on_a_device_it_says_the_same_and_the_host_never_waits(tmp_path, strict_cupy, head):
    batch = replace(data().at(0), positions=np.array([0, 1]) if head == "token" else None)
    want = fields_of(build(tmp_path / "numpy", teacher_of(head))(batch, Pass(EVERYTHING)), EVERYTHING)
    cached = build(tmp_path / "cupy", teacher_of(head).to(strict_cupy))
    moved = batch.to(strict_cupy)
    with strict_device.no_sync(), no_grad():
        features = cached(moved, Pass(EVERYTHING))
    for key, values in fields_of(features, EVERYTHING).items():
        assert_within(values, want[key], 1e-5 * np.abs(want[key]).max(), key)
    beyond = replace(batch, indices=batch.indices + len(LENGTHS))
    longer = replace(data().batch([0]), indices=np.array([1]))
    for other in (beyond, longer):
        with pytest.raises(Problem, match="need the rows that the teacher cache in .* was built of"):
            cached(other.to(strict_cupy), Pass(EVERYTHING))


def test_an_ensemble_is_cached_as_any_teacher(tmp_path):
    ensemble = Ensemble([teacher_of(), toy(8, 1, 2, np.float32, head="sequence", labels=LABELS)], 2.0)
    needs, batch = Needs.of(logits=True), data().at(0)
    got = build(tmp_path / "cache", ensemble, needs)(batch, Pass(needs)).logits.array
    want = ensemble(batch, Pass(needs)).logits.array
    assert_within(got, want, 1e-5 * np.abs(want).max())


# ---------------------------------------------------------------- training with it

def stages():
    tinybert = [TERMS[f"tinybert.{name}"].but(projection="") for name in ("embedding", "hidden", "attention")]
    pairs = ((0, 1), (1, 2))
    return {"minilm": MINILM,
            "tinybert": Stage("general", tuple((1.0, term.on(pairs)) for term in tinybert), {}),
            "classes": Stage("distil", ((1.0, TERMS["soft_labels.classes"].but(temperature=2.0)),), {}, reads=TASK)}


def pair_for(name, dtype):
    """(student, teacher); TinyBERT's without learned maps are of one width."""
    head = {"head": "sequence", "labels": LABELS} if name == "classes" else {}
    return toy(12 if name == "tinybert" else 8, 2, 0, dtype, **head), toy(12, 3, 1, dtype, **head)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("name", ["minilm", "tinybert", "classes"])
def test_a_training_run_with_it_follows_the_run_without(tmp_path, name, shards):
    stage, runs, batches = stages()[name], [], data(seed=4)
    for use_cache in (False, True):
        (student, teacher), memory = pair_for(name, np.float64), Memory()
        if use_cache:
            teacher = build(tmp_path / "cache", teacher, stage.teacher_needs, dtype="float64")
        train(student, stage, RECIPE, batches.at, teacher=teacher, directory=memory, seed=3, shards=shards, log_every=1,
              quiet=True)
        runs.append((student.arrays(), memory.lines))
    (want, lines), (got, cached_lines) = runs
    for line, cached_line in zip(lines, cached_lines, strict=True):
        assert_within([cached_line["loss"], cached_line["gradient_norm"]], [line["loss"], line["gradient_norm"]],
                      1e-9 * max(line["loss"], line["gradient_norm"]))
    query = "layers.0.attention.query.weight"
    assert len(lines) == 10 and np.abs(want[query] - pair_for(name, np.float64)[0].arrays()[query]).max() > 0.05
    for parameter, array in want.items():
        # A key bias has derivative 0, so it is rounding over Adam's eps of 1e-6, times the rate.
        rounding = 1e-9 * np.abs(array).max() + 1e-9 * parameter.endswith("key.bias")
        assert_within(got[parameter], array, rounding, parameter)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("name", ["minilm", "tinybert", "classes"])
def test_a_step_in_float32_is_as_near_the_truth_as_float32_is(tmp_path, name, shards):
    """The values and gradients of one step, with dropout in the student, by the tolerance rule."""
    stage, batch = stages()[name], data(seed=4).at(1)
    cached = build(tmp_path / "cache", pair_for(name, np.float32)[1], stage.teacher_needs)

    def step(*arrays, teacher=None):
        student, own = pair_for(name, arrays[0].dtype)
        both = [*student.parameters(), *own.parameters()]
        for parameter, array in zip(both, arrays, strict=True):
            parameter.array = array
        values, gradients, _ = batch_gradient(student, teacher or own, stage, batch, student.named_parameters(), seed=3,
                                              step=1, shards=shards)
        return [np.asarray(x) for x in [*values.values(), *gradients.values()] if x is not None]

    arrays = [p.array for model in pair_for(name, np.float32) for p in model.parameters()]
    reference = step(*(a.astype(np.float64) for a in arrays))
    for got, want, unit in zip(step(*arrays, teacher=cached), reference, kappa(step, arrays, reference), strict=True):
        assert_close32(got, want, unit)


# ---------------------------------------------------------------- what no cache has

def test_other_rows_are_noticed(tmp_path):
    cached, run = build(tmp_path / "cache"), Pass(Needs.of(logits=True))
    batch = data().at(0)
    cached(batch, run)
    masked, longer = batch.ids.copy(), batch.mask.copy()
    masked[1, 0] = 1 + masked[1, 0] % (VOCABULARY - 1)
    longer[batch.mask.sum(axis=1).argmin()] = True
    for other in (replace(batch, ids=masked), replace(batch, mask=longer), replace(batch, indices=batch.indices[::-1]),
                  Batches(data().sequences[::-1], 4, 0).at(0), data(lengths=(*LENGTHS, 4)).batch([11]),
                  replace(data().batch([2]), indices=np.array([1]))):
        with pytest.raises(Problem, match=r"need the rows that the teacher cache in .*cache was built of: row \d+ of "
                                          "this batch has other tokens, is of another data set or masked"):
            cached(other, run)
    with pytest.raises(Problem, match="need a batch that names its rows in the data set"):
        cached(replace(batch, indices=None), run)


def test_features_that_are_not_in_it_are_named(tmp_path):
    cached = build(tmp_path / "cache", needs=Needs.of(hidden=[0], logits=True))
    with pytest.raises(Problem, match="need values.2, but the teacher cache in .*cache has hidden.0, logits$"):
        cached(data().at(0), Pass(Needs.of(hidden=[0], values=[-1])))
    assert cached(data().at(0), Pass(Needs.of(hidden=[0]))).logits is None


def test_stages_that_no_cache_serves():
    for stage in stages().values():
        require_cachable(stage)
    for reads in (MASKED, MASKED_EVERYWHERE):
        with pytest.raises(WrongUsage, match="^a teacher cache needs the same tokens in every epoch, and distil reads "
                                             f"{reads}, masked anew each time: leave --cache-teacher out$"):
            require_cachable(replace(MINILM, reads=reads))
    padded = TERMS["tinybert.hidden"].under("official")
    with pytest.raises(WrongUsage, match="need terms that leave padding out for a teacher cache, which has none: "
                                         "tinybert.hidden counts it in the convention official"):
        require_cachable(Stage("general", ((1.0, padded),), {}))
    keys = TERMS["soft_labels.span"].under("official")
    with pytest.raises(WrongUsage, match="soft_labels.span counts it in the convention official"):
        require_cachable(Stage("distil", ((1.0, keys),), {}, reads=TASK))
    without_teacher = replace(padded, teacher_reads=())                 # a student's padding is there
    require_cachable(Stage("hard", ((1.0, without_teacher),), {}, reads=TEXT))
