"""A run directory: who may write there, what a resumed run may change, and metrics as if nothing had happened."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
from failing_disk import At, holds, in_memory, state, watched

from tinydistill.errors import Problem, WrongUsage
from tinydistill.training import checkpoints, run_directory
from tinydistill.training.checkpoints import CheckpointDamaged
from tinydistill.training.run_directory import RunDirectory

RUN = {"command": "distill", "seed": 1, "threads": 1, "recipe": {"steps": 300, "lr": 2e-3, "betas": (0.9, 0.999)}}


@pytest.fixture
def tmp_path():
    with in_memory() as path:
        yield path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "one"


def opened(path, resume=False, run=RUN, **how):
    return RunDirectory.create(path, run, resume, **how)


def refused(kind, path, resume=False, run=RUN):
    """The line with which create refuses; it leaves the folder as it was."""
    before = sorted(path.rglob("*")) if os.path.isdir(path) else []
    with pytest.raises(kind) as caught:
        opened(path, resume, run)
    assert before == (sorted(path.rglob("*")) if os.path.isdir(path) else [])
    assert type(caught.value) is kind and "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


def lines(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


# ---------------------------------------------------------------- a new run, and a resumed one

def test_a_run(path):
    with opened(path) as directory:
        assert directory.path == path and directory.run["recipe"]["betas"] == [0.9, 0.999]
        assert directory.load_latest() is None
        directory.log(10, loss=np.float32(2.5), term=np.float64(0.1), done=np.int64(3), name="a", rate=1e-3)
        directory.log(20, loss=float("nan"), term=np.float32("inf"))
        directory.save(20, *state(20))
        assert holds(directory.load_latest(), 20)
    assert json.loads((path / "run.json").read_text()) == json.loads(json.dumps(RUN))
    assert lines(path) == [{"step": 10, "loss": 2.5, "term": 0.1, "done": 3, "name": "a", "rate": 1e-3},
                           {"step": 20, "loss": None, "term": None}]
    assert sorted(os.listdir(path)) == ["checkpoints", "metrics.jsonl", "run.json"]
    assert all((path / name).stat().st_mode & 0o111 == 0 for name in ("metrics.jsonl", "run.json"))


@pytest.mark.parametrize("resume", [False, True, "auto"])
def test_an_empty_or_missing_folder_starts_a_run(path, resume):
    opened(path, resume).close()
    shutil.rmtree(path)
    path.mkdir()
    (path / "run.json.tmp").write_text("{")         # of a run that was killed before it began
    (path / "run.lock").write_text("")
    with opened(path, resume) as directory:
        assert directory.load_latest() is None


def test_a_folder_with_something_else_is_refused(path):
    path.mkdir(parents=True)
    for name in "fedcba":
        (path / name).write_text("")
    for resume in (False, True):
        assert "need an empty folder for the run" in refused(WrongUsage, path, resume)
    assert "holds a, b, c, d and 2 more: choose another --output" in refused(WrongUsage, path)
    (path / "e").unlink()
    (path / "f").unlink()
    assert "holds a, b, c, d: choose another --output" in refused(WrongUsage, path)
    assert "is a file" in refused(WrongUsage, path / "a")
    assert "cannot write in" in refused(Problem, path / "a" / "b")
    assert "File name too long" in refused(Problem, path / ("x" * 300))


def test_a_run_is_not_overwritten(path):
    RunDirectory.create(path, RUN).close()
    with pytest.raises(WrongUsage):
        RunDirectory.create(path, RUN)
    assert "holds a run already: go on with --resume, or choose another --output" in refused(WrongUsage, path)
    opened(path, resume=True).close()


def test_a_resumed_run_is_the_same_run(path):
    opened(path).close()
    recipe = RUN["recipe"]
    for changed, parts in [({"seed": 2}, ["seed 1 (now 2)"]),
                           ({"recipe": recipe | {"steps": 500}}, ["recipe.steps 300 (now 500)"]),
                           ({"recipe": recipe | {"betas": [1, 2]}}, ["recipe.betas [0.9, 0.999] (now [1, 2])"]),
                           ({"recipe": None}, ["recipe {"]),
                           ({"seed": 2, "corpus": "stdlib"}, ["corpus null (now \"stdlib\")", "seed 1 (now 2)"]),
                           ({"seed": 2, "threads": 2}, ["which had seed 1 (now 2): give"])]:
        line = refused(WrongUsage, path, True, RUN | changed)
        assert "--resume needs the arguments of the run" in line and all(part in line for part in parts)
    without_seed = {name: value for name, value in RUN.items() if name != "seed"}
    assert "seed 1 (now null)" in refused(WrongUsage, path, True, without_seed)


def test_what_may_differ_is_said(path):
    opened(path, run=RUN | {"versions": {"numpy": "2.0"}}).close()
    before, said = (path / "run.json").read_bytes(), []
    with opened(path, True, RUN | {"threads": 2, "versions": {"numpy": "2.1"}}, say=said.append) as directory:
        assert directory.run["threads"] == 1
    assert said == ['resuming a run that had threads 1 (now 2), versions.numpy "2.0" (now "2.1")']
    with opened(path, True, RUN | {"versions": {"numpy": "2.0"}}, say=said.append):
        assert len(said) == 1 and (path / "run.json").read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "[" * 10**5, "9" * 10**5, "\xff", " " * 5_000_000])
def test_a_run_json_that_is_none(path, text):
    opened(path).close()
    (path / "run.json").write_text(text, encoding="latin-1")
    assert "run.json cannot be used" in refused(Problem, path, True)


def test_links_are_refused(path, tmp_path):
    opened(path).close()
    for name in ("run.json", "metrics.jsonl", "checkpoints"):
        (path / name).rename(tmp_path / "elsewhere")
        (path / name).symlink_to(tmp_path / "elsewhere")
        assert f"{name} is a symbolic link" in refused(WrongUsage, path, True)
        (path / name).unlink()
        (tmp_path / "elsewhere").rename(path / name)
    (path / "run.lock").symlink_to(tmp_path / "elsewhere")
    assert "cannot write in" in refused(Problem, path, True)
    assert not (tmp_path / "elsewhere").exists()


def test_leftovers_are_cleaned_and_old_checkpoints_go(path):
    with opened(path, keep=3) as directory:
        for step in range(1, 6):
            directory.save(step, *state(step))
    assert sorted(os.listdir(path / "checkpoints")) == ["LATEST", "step-3", "step-4", "step-5"]
    (path / "checkpoints" / "step-6.tmp").mkdir()
    with opened(path, resume=True) as directory:
        assert not (path / "checkpoints" / "step-6.tmp").exists()
        directory.save(6, *state(6))
    assert sorted(os.listdir(path / "checkpoints")) == ["LATEST", "step-5", "step-6"]


def test_a_damaged_checkpoint(path, capsys):
    with opened(path) as directory:
        for step in (10, 20):
            directory.log(step, loss=1.0)
            directory.save(step, *state(step))
    (path / "checkpoints" / "step-20" / "meta.json").write_text("{}")
    with opened(path, resume=True) as directory, pytest.raises(CheckpointDamaged, match="step-10 is intact: --resume"):
        directory.load_latest()
    assert [line["step"] for line in lines(path)] == [10, 20]
    with opened(path, resume="auto") as directory:
        assert holds(directory.load_latest(), 10)
        assert [line["step"] for line in lines(path)] == [10]
        directory.save(20, *state(20))
    assert "going on from step-10" in capsys.readouterr().err
    with opened(path, resume=True) as directory:
        assert holds(directory.load_latest(), 20)


# ---------------------------------------------------------------- metrics

def metrics(path, stop_at=None, resume=False):
    """Ten steps that log each and save every third; killed after `stop_at`, where the lock is all that is let go."""
    with opened(path, resume) as directory:
        found = directory.load_latest()
        for step in range(found[0] + 1 if found else 1, 11):
            directory.log(step, loss=step / 3, rate=0.1 * step)
            if step % 3 == 0:
                directory.save(step, *state(step))
            if step == stop_at:
                return None
    return (path / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("stop_at", range(1, 10))
@pytest.mark.parametrize("torn", [b"", b'{"step": 4, "lo', b"{}\n", b"[4]\n", b"\xff\0\n", b'{"step": 1}',
                                  b"9" * 5000 + b"\n", b'{"step": "1"}\n', b"\r\n\n"],
                         ids=["whole", "torn", "no step", "list", "binary", "no newline", "number", "text", "blank"])
def test_metrics_equal_those_of_an_uninterrupted_run(tmp_path, stop_at, torn):
    with watched(At(None, None)):
        whole = metrics(tmp_path / "whole")
        metrics(tmp_path / "run", stop_at)
        with open(tmp_path / "run" / "metrics.jsonl", "ab") as file:
            file.write(torn)
        assert metrics(tmp_path / "run", resume=True) == whole
    assert len(whole.splitlines()) == 10


def test_metrics_of_step_0(path):
    with opened(path) as directory:
        directory.log(0, loss=2.0)
        directory.save(0, *state(0))
        directory.log(1, loss=2.0)
        descriptors = len(os.listdir("/dev/fd"))
        assert holds(directory.load_latest(), 0)
        assert len(os.listdir("/dev/fd")) == descriptors
    assert [line["step"] for line in lines(path)] == [0]


def test_metrics_that_are_whole_are_not_rewritten(path):
    with opened(path) as directory:
        directory.log(1, loss=2.0)
        directory.save(1, *state(1))
    before = os.stat(path / "metrics.jsonl").st_ino
    with opened(path, resume=True) as directory:
        directory.load_latest()
    assert os.stat(path / "metrics.jsonl").st_ino == before


def test_metrics_reach_the_disk_before_the_checkpoint(path, monkeypatch):
    """So that after a power cut no line is missing up to the step that is resumed."""
    order = []
    with opened(path) as directory:
        directory.log(1, loss=2.0)
        monkeypatch.setattr(run_directory.os, "fsync", lambda descriptor: order.append(
            os.path.samestat(os.fstat(descriptor), os.stat(path / "metrics.jsonl"))))
        directory.save(1, *state(1))
    assert order[0] and not any(order[1:]) and len(order) > 5


def test_a_disk_that_is_full_is_one_line(path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")
    with opened(path) as directory:
        with monkeypatch.context() as patch, pytest.raises(Problem, match="cannot write .*metrics.jsonl: No space"):
            patch.setattr(run_directory.os, "write", full)
            directory.log(1, loss=2.0)
        with monkeypatch.context() as patch, pytest.raises(Problem, match="cannot write .*metrics.jsonl: No space"):
            patch.setattr(run_directory.os, "fsync", full)
            directory.save(1, *state(1))
        assert directory.load_latest() is None


# ---------------------------------------------------------------- failures while a run is opened

def test_create_waits_for_the_names_in_the_folder(path):
    order = []
    with watched(lambda name, *paths: order.append((name, paths[0]))):
        opened(path).close()
    assert order[-2:] == [("fsync", path), ("close", path)]


def test_failures_at_any_operation_of_create(tmp_path):
    """After any of them the folder is free, and the run can be started: a killed create left no more than this does."""
    def create(path):
        with opened(path, resume=True) as directory:
            directory.load_latest()
    counted = At(None, None)
    with watched(counted):
        create(tmp_path / "counted" / "run")
    assert len(counted.seen) > 15
    for place in range(len(counted.seen)):
        path = tmp_path / f"{place}" / "run"
        with watched(At(place, errno.EIO)), pytest.raises(Problem, match=f"cannot write in {path}: Input/output error"):
            create(path)
        create(path)
        assert sorted(os.listdir(path)) == ["checkpoints", "metrics.jsonl", "run.json"]


def test_failure_while_metrics_are_repaired(path):
    with opened(path) as directory:
        directory.log(1, loss=2.0)
        directory.save(1, *state(1))
        directory.log(2, loss=2.0)
    with opened(path, resume=True) as directory:
        with watched(At(1, errno.ENOSPC)), pytest.raises(Problem, match="cannot repair .*metrics.jsonl: No space"):
            directory.load_latest()
        assert [line["step"] for line in lines(path)] == [1, 2]
        directory.load_latest()
        directory.log(2, loss=3.0)
    assert [line["step"] for line in lines(path)] == [1, 2] and lines(path)[1]["loss"] == 3.0


def test_a_lost_checkpoint_is_no_new_start(path):
    with opened(path) as directory:
        directory.save(5, *state(5))
    shutil.rmtree(path / "checkpoints" / "step-5")
    with opened(path, resume=True) as directory, pytest.raises(CheckpointDamaged, match="step-5"):
        directory.load_latest()
    assert checkpoints.newest(path / "checkpoints") == 5
