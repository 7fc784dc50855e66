"""The first signal asks, the second ends; outside the block everything is as it was."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import tinydistill
from tinydistill.training.signals import StopRequest

BOTH = [signal.SIGINT, signal.SIGTERM]
WORK = """
import hashlib, sys, time
from tinydistill.errors import Stopped
from tinydistill.training.signals import StopRequest
try:
    with StopRequest() as stop:
        print("working", flush=True)
        while not stop.requested:
            time.sleep(0.01)
        print("saved", flush=True)
        if "deaf" in sys.argv:
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)      # minutes within one C function
        raise Stopped("stopped, everything is saved", stop.requested)
except Stopped as stopped:
    print(stopped, file=sys.stderr)
    sys.exit(stopped.exit_code)
"""


@pytest.fixture(autouse=True)
def usual_handlers():
    """A shell may start the tests with SIGINT ignored; here they begin as in a terminal."""
    before = {number: signal.getsignal(number) for number in BOTH}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def handlers():
    return [signal.getsignal(number) for number in BOTH]


@pytest.mark.parametrize("number", BOTH)
def test_the_first_only_asks(number, capfd):
    before = handlers()
    with StopRequest() as stop:
        assert stop.requested is None
        os.kill(os.getpid(), number)
        assert stop.requested == number
        assert handlers() == [signal.SIG_DFL] * 2   # so that the second ends the process
    assert handlers() == before
    assert "once more to stop at once" in capfd.readouterr().err


def test_handlers_are_restored_after_an_exception_and_when_nested():
    before = handlers()
    with pytest.raises(KeyError), StopRequest() as outer:
        between = handlers()
        with StopRequest() as inner:
            os.kill(os.getpid(), signal.SIGINT)
        assert inner.requested and not outer.requested and handlers() == between
        raise KeyError
    assert handlers() == before


def test_ignored_signals_stay_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested == signal.SIGTERM and signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_nothing_happens_in_other_threads():
    before, seen = handlers(), []

    def work():
        with StopRequest() as stop:
            seen.extend([stop.requested, handlers()])
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None, before] and handlers() == before


def test_a_closed_stderr_does_not_matter(monkeypatch):
    def closed(*arguments):
        raise BrokenPipeError
    with monkeypatch.context() as patch, StopRequest() as stop:
        patch.setattr(os, "write", closed)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested == signal.SIGINT


@pytest.mark.parametrize("first, second, code", [
    (signal.SIGINT, None, 130), (signal.SIGTERM, None, 143), (signal.SIGINT, signal.SIGINT, -signal.SIGINT),
    (signal.SIGINT, signal.SIGTERM, -signal.SIGTERM), (signal.SIGTERM, signal.SIGTERM, -signal.SIGTERM)])
def test_exit_codes(first, second, code):
    """130 and 143 after saving; with a second signal the process dies of it, which a shell calls 130 and 143 too."""
    environment = os.environ | {"PYTHONPATH": str(Path(tinydistill.__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", WORK, "deaf" if second else "hears"], env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == "working\n"
            process.send_signal(first)
            assert process.stdout.readline() == "saved\n"
            if second:
                process.send_signal(second)
            assert process.wait(timeout=10) == code
            assert ("everything is saved" in process.stderr.read()) == (second is None)
        finally:
            process.kill()
