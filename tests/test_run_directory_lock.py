"""One folder, one run: the second is refused in one line, and a run that was killed keeps nobody out."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import tinydistill
from tinydistill.errors import Problem, WrongUsage
from tinydistill.training import run_directory
from tinydistill.training.run_directory import RunDirectory


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run"


def opened(path, resume=True):
    return RunDirectory.create(path, {}, resume)


def refused(path):
    """The line with which a folder in use is refused."""
    with pytest.raises(Problem) as caught:
        opened(path)
    assert "\n" not in str(caught.value) and f"{path} is in use by " in str(caught.value)
    return str(caught.value)


HOLD = """
import sys, time
from tinydistill.training.run_directory import RunDirectory
directory = RunDirectory.create(sys.argv[1], {}, True)
print("held", flush=True)
time.sleep(60)
"""


def test_two_runs_in_one_folder_are_refused(path):
    environment = os.environ | {"PYTHONPATH": str(Path(tinydistill.__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, env=environment) as other:
        try:
            assert other.stdout.readline() == b"held\n"
            line = refused(path)
            assert f"{path} is in use by process {other.pid} on " in line and "choose another --output" in line
        finally:
            other.send_signal(signal.SIGKILL)
    assert (path / "run.lock").exists()             # and nobody holds it any more
    (path / "run.lock").write_text("process " + "9" * 100)
    with opened(path):
        assert (path / "run.lock").read_text() == f"process {os.getpid()} on {socket.gethostname()}"
    assert not (path / "run.lock").exists()


def test_two_in_one_process_are_refused(path):
    with opened(path) as directory:
        descriptors = len(os.listdir("/dev/fd"))
        assert f"in use by process {os.getpid()}" in refused(path)
        assert len(os.listdir("/dev/fd")) == descriptors
        directory.close()
        with opened(path):
            directory.close()                       # once more does nothing: neither to the lock of the other ...
            refused(path)
    opened(path).close()


def test_a_lock_that_went_while_we_came_is_taken_anew(path, monkeypatch):
    """Between open and flock its owner may remove the file: then the lock of a nameless file is worth nothing."""
    path.mkdir(parents=True)
    flock, rounds = run_directory.fcntl.flock, []

    def late(descriptor, how):
        rounds.append(descriptor)
        if len(rounds) == 1:
            (path / "run.lock").unlink()
        if len(rounds) == 2:
            (path / "run.lock").unlink()
            (path / "run.lock").write_text("of another")
        flock(descriptor, how)
    monkeypatch.setattr(run_directory.fcntl, "flock", late)
    with opened(path):
        assert len(rounds) == 3 and (path / "run.lock").read_text().startswith(f"process {os.getpid()} on ")


def test_an_exception_gives_the_folder_free(path):
    with pytest.raises(KeyError), opened(path):
        raise KeyError
    opened(path).close()
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        with pytest.raises(WrongUsage):
            opened(path, resume=False)
        opened(path).close()
    assert len(os.listdir("/dev/fd")) == before
