"""A run directory: everything that is kept of a run, and the right to write there.

    RUN/run.json         everything needed to repeat the run, as it was first asked for; never rewritten
        metrics.jsonl    a JSON line per logged step
        checkpoints/     what --resume needs: checkpoints.py
        run.lock         while the run lives: which process it is
"""

import contextlib
import fcntl
import json
import math
import os
import socket
from pathlib import Path

from tinydistill.errors import Problem, WrongUsage
from tinydistill.training import checkpoints
from tinydistill.training.disk import (decode_json, encode_json, fsync_directory, in_one_line, make_directory,
                                       read_file, write_atomically)

# What a resumed run may do otherwise than run.json says: it changes no bit of what is learned. max_steps is not among
# these, since the learning rate of every step depends on it: a longer run is another run.
MAY_DIFFER = frozenset({"threads", "save_every", "keep", "quiet", "json", "versions"})

RUN, METRICS, CHECKPOINTS, LOCK = "run.json", "metrics.jsonl", "checkpoints", "run.lock"


class RunDirectory:
    """The folder of one run, locked while it is open.

        with RunDirectory.create("runs/minilm", run={"method": "minilm", "seed": 1}, resume=True) as directory:
            found = directory.load_latest()                 # None, or (step, arrays, meta)
            directory.log(10, loss=2.5)                     # log a step before it is saved
            directory.save(10, arrays, meta)
    """

    def __init__(self, path, run, lock, keep, fall_back, say):
        self.path, self.run = path, run
        self.checkpoints = path / CHECKPOINTS
        self._lock, self._keep, self._fall_back, self._say = lock, keep, fall_back, say
        self._metrics = _appending(path / METRICS)

    @classmethod
    def create(cls, path, run, resume=False, keep=2, say=checkpoints.to_stderr):
        """Open the folder of a run for writing, and make it where it is missing.

        resume: False needs an empty folder or none. True goes on with the same run, and starts it where the folder is
        empty or missing, so that a script can always say --resume. "auto" also goes on from an earlier checkpoint
        where the newest is damaged. keep: how many checkpoints to keep.
        Raises: WrongUsage for a folder that holds something else; Problem where another process has it.
        """
        path, run = Path(path), json.loads(json.dumps(run))                 # tuples become lists, as they will be read
        with in_one_line(f"write in {path}"), contextlib.ExitStack() as undo:
            if path.exists() and not path.is_dir():
                raise WrongUsage(f"need a folder for the run, and {path} is a file")
            make_directory(path)
            lock = _locked(path)
            undo.callback(_unlock, lock, path)
            _require_own(path)
            if (path / RUN).exists():
                if not resume:
                    raise WrongUsage(f"{path} holds a run already: go on with --resume, or choose another --output")
                run = _require_same(path / RUN, run, say)
            else:
                write_atomically(path / RUN, encode_json(run))
            make_directory(path / CHECKPOINTS)
            checkpoints.clean(path / CHECKPOINTS)
            directory = cls(path, run, lock, keep, resume == "auto", say)
            fsync_directory(path)
            undo.pop_all()
        return directory

    def load_latest(self):
        """(step, arrays, meta) to go on from, or None at the start; metrics of later steps are forgotten.

        Raises: CheckpointDamaged, which names the intact checkpoint that resume="auto" goes on from.
        """
        found = None
        if checkpoints.newest(self.checkpoints) is not None:
            found = checkpoints.load(self.checkpoints, fall_back=self._fall_back, say=self._say)
        with in_one_line(f"repair {self.path / METRICS}"):
            self._forget_after(found[0] if found else -1)
        return found

    def log(self, step, **values):
        """Append the numbers of a step to metrics.jsonl; what is not finite becomes null."""
        line = {"step": step} | {name: _plain(value) for name, value in values.items()}
        data = (json.dumps(line, allow_nan=False) + "\n").encode()
        with in_one_line(f"write {self.path / METRICS}"):
            while data:
                data = data[os.write(self._metrics, data):]

    def save(self, step, arrays, meta):
        """Keep what `load_latest` is to return; the metrics up to here reach the disk before it."""
        with in_one_line(f"write {self.path / METRICS}"):
            os.fsync(self._metrics)
        checkpoints.save(self.checkpoints, step, arrays, meta)
        checkpoints.prune(self.checkpoints, self._keep)

    def close(self):
        """Give the folder free; a second time does nothing."""
        if self._lock is not None:
            os.close(self._metrics)
            _unlock(self._lock, self.path)
            self._lock = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _forget_after(self, last):
        """Cut metrics.jsonl to the whole lines of steps up to `last`: a line may be torn, or of a step done again."""
        with open(self.path / METRICS, "rb") as file:
            before = file.read()
        lines = before.splitlines(keepends=True)
        after = b"".join(line for line in lines if line.endswith(b"\n") and 0 <= _step_of(line) <= last)
        if after != before:
            write_atomically(self.path / METRICS, after)
            self._metrics, replaced = _appending(self.path / METRICS), self._metrics
            os.close(replaced)


def _appending(file):
    return os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)


def _plain(value):
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _step_of(line):
    """The step of a line of metrics.jsonl; -1 for what is none."""
    try:
        step = decode_json(line)["step"]
        return step if type(step) is int else -1
    except (ValueError, KeyError, TypeError):
        return -1


# ---------------------------------------------------------------- whose folder it is

def _require_own(path):
    """A run lives here, or nothing does; nothing in it points elsewhere."""
    names = sorted(set(os.listdir(path)) - {LOCK, RUN + ".tmp"})
    for name in (RUN, METRICS, CHECKPOINTS):
        if (path / name).is_symlink():
            raise WrongUsage(f"{path / name} is a symbolic link, which a run never follows: choose another --output")
    if names and RUN not in names:
        raise WrongUsage(f"need an empty folder for the run, and {path} holds {_some(names)}: choose another --output")


def _require_same(file, asked, say):
    """The run of run.json, which has to be the one that is asked for."""
    try:
        first = decode_json(read_file(file))
    except (ValueError, OSError) as error:
        raise Problem(f"{file} cannot be used: {error}: choose another --output") from error
    allowed, refused = [], []
    for name, (old, new) in sorted(_differences(first, asked).items()):
        (allowed if name.partition(".")[0] in MAY_DIFFER else refused).append(f"{name} {old} (now {new})")
    if refused:
        raise WrongUsage(f"--resume needs the arguments of the run in {file.parent}, which had {_some(refused)}: "
                         "give these, or choose another --output")
    if allowed:
        say(f"resuming a run that had {_some(allowed)}")
    return first


def _differences(first, asked, prefix=""):
    """{dotted name: (there, here)} of what is not the same in two dicts, as JSON."""
    if isinstance(first, dict) and isinstance(asked, dict):
        found = {}
        for name in first.keys() | asked.keys():
            found |= _differences(first.get(name), asked.get(name), f"{prefix}.{name}" if prefix else name)
        return found
    return {} if first == asked else {prefix: (json.dumps(first), json.dumps(asked))}


def _some(texts, most=4):
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


# ---------------------------------------------------------------- the lock

def _locked(path):
    """The lock of a folder as a file descriptor. The kernel lets go of it when the process ends, however it ends."""
    file = path / LOCK
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(file)):
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
                    return descriptor
        except BlockingIOError:
            owner = os.read(descriptor, 200).decode("utf-8", "replace") or "another process"
            os.close(descriptor)
            raise Problem(f"{path} is in use by {owner}: wait for it, stop it, or choose another --output") from None
        os.close(descriptor)                        # its owner went, and took the file away, while we came: once more


def _unlock(descriptor, path):
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path / LOCK)
    os.close(descriptor)
