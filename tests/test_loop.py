"""The training loop: ten steps against PyTorch's, going down, being stopped, resumed and broken."""

import functools
import gc
import hashlib
import signal
import threading
import tracemalloc
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from gradcheck import assert_within
from oracle import bert
from oracle import ten_steps as oracle
from tinydistill.hub_names import FORMS
from tinydistill.errors import Problem, Stopped
from tinydistill.tensor import Tensor
from tinydistill.training import loop
from tinydistill.training.loop import train
from tinydistill.training.schedules import linear
from toys import MINILM, RECIPE, Memory, batch_at, toy

# ---------------------------------------------------------------- against PyTorch, and against itself

def test_ten_steps_of_minilm_equal_pytorchs(tmp_path):
    student, teacher = (toy(*size, dropout=0.0, attention_dropout=0.0) for size in ((8, 2, 0), (12, 3, 1)))
    theirs, taught = (bert.twin(model, tmp_path / part) for part, model in (("student", student), ("teacher", teacher)))
    memory, objective = Memory(), oracle.OBJECTIVES["minilm"][0]
    train(student, MINILM, RECIPE, batch_at, teacher=teacher, directory=memory, log_every=1, quiet=True)
    values = oracle.steps(objective, theirs, taught, {}, map(batch_at, range(10)), RECIPE)
    for line, want in zip(memory.lines, values, strict=True):
        assert_within([line[name] for name in want], list(want.values()), 1e-9 * want["loss"])
    assert {line["gradient_norm"] > RECIPE.clip for line in memory.lines} == {True, False}      # clipped, and not
    want = oracle.arrays_of(dict(theirs.named_parameters()))
    for name, array in student.arrays().items():
        their = want[FORMS["bert"].name(name)]
        # A key bias has derivative 0, so it is rounding over Adam's eps of 1e-6, times the rate.
        assert_within(array, their, 1e-9 * np.abs(their).max() + 1e-10 * name.endswith("key.bias"), name)


def fingerprint(model):
    digest = hashlib.sha256()
    for name, array in model.arrays().items():
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()


def test_every_term_goes_down_and_the_teacher_stays_as_it_was():
    student, teacher = toy(8, 2, 0), toy(12, 3, 1)
    before, memory = fingerprint(teacher), Memory()
    recipe = RECIPE.but(steps=40, warmup=4, learning_rate=0.02)
    last = train(student, MINILM, recipe, lambda step: batch_at(step % 2), teacher=teacher, directory=memory,
                 log_every=1, quiet=True)
    assert fingerprint(teacher) == before and all(p.grad is None for p in teacher.parameters())
    for name in ("minilm.attention", "minilm.value_relation", "loss"):
        assert last[name] < 0.5 * memory.lines[0][name]


# ---------------------------------------------------------------- stopped, resumed, broken

def run(memory, seed=0, batches=batch_at, teacher=None, **settings):
    """Eight steps of float32 on a fresh student, which `seed` draws; one that resumes must forget what it was."""
    student = toy(8, 2, seed, np.float32)
    return train(student, MINILM, RECIPE.but(steps=8), batches, teacher=teacher or toy(12, 3, 1, np.float32),
                 directory=memory, seed=5, **{"shards": 2, "save_every": 3, "quiet": True} | settings)


@functools.cache
def uninterrupted():
    memory = Memory()
    run(memory, log_every=3)
    return memory


def assert_same_bits(saved, other):
    assert saved[1] == other[1] and saved[0].keys() == other[0].keys()
    for name, array in saved[0].items():
        assert array.dtype == other[0][name].dtype and (array == other[0][name]).all(), name


def test_what_is_logged_and_when_it_is_saved():
    memory = uninterrupted()
    assert list(memory.saved) == [3, 6, 8] and [line["step"] for line in memory.lines] == [3, 6, 8]
    for line in memory.lines:
        assert line["loss"] == line["minilm.attention"] + line["minilm.value_relation"] > 0
        assert line["learning_rate"] == RECIPE.learning_rate * linear(line["step"] - 1, 8, 2)
        assert line["gradient_norm"] > 0 and line["tokens_per_second"] > 0 and line["seconds"] >= 0
        assert all(type(value) in (int, float) for value in line.values())              # JSON takes no array


def test_the_logged_loss_is_weighted():
    stage = replace(MINILM, terms=tuple(zip((2.0, 0.5), (term for _, term in MINILM.terms))))
    last = train(toy(8, 2, 0), stage, RECIPE.but(steps=1), batch_at, teacher=toy(12, 3, 1), quiet=True)
    assert last["loss"] == 2.0 * last["minilm.attention"] + 0.5 * last["minilm.value_relation"]


def test_a_finished_run_has_nothing_left_to_do():
    asked, before = [], {8: uninterrupted().saved[8]}
    memory = Memory()
    memory.saved = dict(before)
    assert run(memory, batches=asked.append) == {} and asked == [] and memory.saved == before and memory.lines == []


def test_what_is_left_out_has_its_default(capsys):
    seen, memories = set(), (Memory(), Memory())
    for memory, settings in zip(memories, ({}, {"seed": 0, "shards": 1, "save_every": 1000, "quiet": True})):
        student, teacher = toy(4, 1, 0, np.float32), toy(4, 1, 1, np.float32)

        def teach(batch, pass_):
            seen.add(threading.current_thread())
            return teacher(batch, pass_)

        train(student, MINILM, RECIPE.but(steps=101), batch_at, teacher=teach, directory=memory, **settings)
    assert list(memories[0].saved) == [100, 101] and seen == {threading.main_thread()}
    assert [line["step"] for line in memories[0].lines] == [*range(10, 101, 10), 101]
    assert_same_bits(memories[0].saved[101], memories[1].saved[101])
    assert capsys.readouterr().err.startswith("\rdistil:")


def test_speed_counts_real_tokens_since_the_last_line(monkeypatch):
    memory, clock = Memory(), iter([10.0, 14.0, 14.5, 16.8127])         # at the start, and at each line
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    run(memory, log_every=3)
    tokens = [int(batch_at(step).mask.sum()) for step in range(8)]
    assert [(line["seconds"], line["tokens_per_second"]) for line in memory.lines] == [
        (4.0, round(sum(tokens[:3]) / 4, 1)), (0.5, sum(tokens[3:6]) / 0.5),
        (2.313, round(sum(tokens[6:]) / 2.3127, 1))]


def test_progress_goes_to_stderr_unless_quiet(capsys):
    memory = Memory()
    memory.saved[3] = uninterrupted().saved[3]
    run(memory, quiet=False, log_every=1)
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("\rdistil:") and "3/8" in err.split("\r")[1] and "8/8" in err.split("\r")[-1]
    assert f"minilm.attention={memory.lines[-1]['minilm.attention']:.4f}" in err
    run(Memory())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("threads", [1, 2])
def test_shards_are_the_work_of_as_many_threads_as_were_asked_for(threads):
    teacher, seen = toy(12, 3, 1, np.float32), set()
    meeting = threading.Barrier(threads)            # passed only when so many are at work at once

    def who(batch, pass_):
        seen.add(threading.current_thread())
        meeting.wait(timeout=60)
        return teacher(batch, pass_)

    run(None, teacher=who, threads=threads, shards=2)
    assert len(seen) == threads and (threading.main_thread() in seen) == (threads == 1)


@pytest.mark.parametrize("signal_number, exit_code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_is_saved_and_goes_on_to_the_same_bits(signal_number, exit_code):
    memory, stop = Memory(), SimpleNamespace(requested=None)

    def batches(step):
        stop.requested = signal_number if step == 4 else None           # the signal comes during step 5
        return batch_at(step)

    with pytest.raises(Stopped, match="^stopped at step 5 of 8, saved in memory: go on with --resume$") as stopped:
        run(memory, batches=batches, stop=stop)
    assert stopped.value.exit_code == exit_code and max(memory.saved) == 5
    run(memory, seed=1, threads=2)
    assert_same_bits(memory.saved[8], uninterrupted().saved[8])


def test_a_killed_run_goes_on_from_its_last_checkpoint_to_the_same_bits():
    memory, steps = Memory(), []
    memory.saved[3] = uninterrupted().saved[3]
    run(memory, seed=1, batches=lambda step: steps.append(step) or batch_at(step))
    assert steps == [3, 4, 5, 6, 7]
    assert_same_bits(memory.saved[8], uninterrupted().saved[8])


def test_a_signal_during_the_last_step_finds_the_run_finished():
    memory = Memory()
    memory.saved[6] = uninterrupted().saved[6]
    assert run(memory, stop=SimpleNamespace(requested=None))["loss"] > 0
    memory.saved.pop(8)
    stop = SimpleNamespace(requested=None)

    def batches(step):
        stop.requested = signal.SIGINT if step == 7 else None
        return batch_at(step)

    assert run(memory, batches=batches, stop=stop)["loss"] == uninterrupted().lines[-1]["loss"]
    assert max(memory.saved) == 8


def test_without_a_directory_nothing_is_kept_and_nothing_promised():
    stop = SimpleNamespace(requested=signal.SIGINT)
    with pytest.raises(Stopped, match="^stopped at step 1 of 8$"):
        run(None, stop=stop)


def test_a_term_that_is_nan_ends_the_run_and_is_never_saved():
    teacher, memory = toy(12, 3, 1, np.float32), Memory()

    def breaks_at_step_5(batch, pass_):
        features = teacher(batch, pass_)
        if (batch.ids[0] == batch_at(4).ids[0]).all():
            features.values[2] = Tensor(features.values[2].array * np.nan)
        return features

    needed = "step 5: minilm.value_relation is nan; the last good checkpoint is kept in memory. Lower --lr"
    with pytest.raises(Problem, match=needed) as problem:
        run(memory, teacher=breaks_at_step_5, save_every=1, shards=1)
    assert problem.value.exit_code == 1 and list(memory.saved) == [1, 2, 3, 4]
    assert all(np.isfinite(array).all() for arrays, _ in memory.saved.values() for array in arrays.values())


def test_a_gradient_that_overflows_ends_the_run_too():
    student = toy(8, 2, 0, np.float32)
    student.named_parameters()["layers.1.attention.query.weight"].array[:] = 0          # scores 0, and a vast slope
    student.named_parameters()["layers.1.attention.key.weight"].array *= np.float32(1e30)
    with np.errstate(over="ignore", invalid="ignore"):
        with pytest.raises(Problem, match="step 1: gradient_norm is (inf|nan). Lower --lr or lengthen --warmup"):
            train(student, MINILM, RECIPE, batch_at, teacher=toy(12, 3, 1, np.float32), quiet=True)


def test_two_hundred_steps_leave_no_memory_behind():
    held, cycles = {}, []

    def batches(step):
        if step in (100, 300):                      # NumPy and Python fill their caches of small blocks for a while
            cycles.append(gc.collect())
            held[step], held["peak"] = tracemalloc.get_traced_memory()
        return batch_at(step % 4)

    gc.collect()
    gc.disable()                                    # a graph frees itself: nothing of it waits for the collector
    tracemalloc.start()
    try:
        student, teacher = toy(4, 1, 0, np.float32), toy(4, 1, 1, np.float32)
        train(student, MINILM, RECIPE.but(steps=301), batches, teacher=teacher, quiet=True)
    finally:
        tracemalloc.stop()
        gc.enable()
    assert cycles == [0, 0]
    one_step = held["peak"] - held[300]
    assert held[300] - held[100] < one_step / 2, held
