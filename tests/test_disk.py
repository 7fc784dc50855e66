"""A machine that stops, and a disk that fails, at every single operation of a save: nothing acknowledged is lost.

Run as a script this file is the machine: it forks a process that saves, kills it, and looks at what is left.
"""

import contextlib
import errno
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tinydistill
from tinydistill.errors import Problem
from tinydistill.training import checkpoints, disk

KILLS = 200


def state(step):
    """What is saved at a step: every dtype and shape that matters, and different at each step."""
    draw = np.random.default_rng(step)
    arrays = {"model/w": draw.standard_normal((7, 5), np.float32), "m": draw.standard_normal((4, 3)).T,
              "count": np.array(step), "flags": draw.random(5) < 0.5, "empty": np.zeros((0, 3))}
    return arrays, {"step": step, "rate": float(draw.random()), "names": ["a", "ü"]}


def holds(found, step=None):
    """Whether `load` returned exactly what was saved at its step."""
    arrays, meta = state(found[0])
    return (step in (None, found[0]) and found[2] == meta and found[1].keys() == arrays.keys() and all(
        found[1][name].dtype == array.dtype and found[1][name].shape == array.shape
        and found[1][name].tobytes() == array.tobytes() for name, array in arrays.items()))


# ---------------------------------------------------------------- the disk

class Disk:
    """`os` and `shutil` for tinydistill.training.disk: `watch` sees each change before it is made, and may prevent it."""

    def __init__(self, watch):
        self.watch, self.paths = watch, {}

    def __getattr__(self, name):
        return getattr(os, name)

    def open(self, path, flags, mode=0o777):
        if flags & os.O_CREAT:
            self.watch("create", Path(path))
        descriptor = os.open(path, flags, mode)
        self.paths[descriptor] = Path(path)
        return descriptor

    def write(self, descriptor, data):
        allowed = self.watch("write", self.paths[descriptor], bytes(data))
        return os.write(descriptor, data[:allowed])

    def fsync(self, descriptor):
        self.watch("fsync", self.paths[descriptor])

    def close(self, descriptor):
        os.close(descriptor)
        self.watch("close", self.paths.pop(descriptor))

    def mkdir(self, path):
        self.watch("mkdir", Path(path))
        os.mkdir(path)

    def rename(self, path, to):
        self.watch("rename", Path(path), Path(to))
        os.rename(path, to)

    def unlink(self, path):
        if os.path.lexists(path):
            self.watch("unlink", Path(path))
        os.unlink(path)

    def rmdir(self, path):
        self.watch("rmdir", Path(path))
        os.rmdir(path)

    def rmtree(self, path):
        for inside in sorted(Path(path).iterdir()):
            self.unlink(inside)
        self.rmdir(path)


@contextlib.contextmanager
def watched(watch):
    """Within this block, tinydistill.training.disk writes to a Disk."""
    disk.os = disk.shutil = Disk(watch)
    try:
        yield
    finally:
        disk.os, disk.shutil = os, shutil


class At:
    """Something that happens at the operation of this number: an OSError, a write cut in half, or the end."""

    def __init__(self, number, event):
        self.number, self.event, self.seen = number, event, []

    def __call__(self, name, *arguments):
        self.seen.append(name)
        half = len(arguments[-1]) // 2 if name == "write" else None
        if len(self.seen) - 1 != self.number:
            return None
        if self.event == "kill":
            os._exit(9)
        elif self.event == "short write":
            return half
        elif self.event == "torn write":
            if name == "write":
                arguments[0].write_bytes(arguments[1][:half])
            os._exit(9)
        else:
            raise OSError(self.event, os.strerror(self.event))


def work(directory, acknowledge=lambda step: None):
    """What a run does with its checkpoints: here step 3 comes after steps 1 and 2, and 1 goes."""
    checkpoints.clean(directory)
    checkpoints.save(directory, 3, *state(3))
    acknowledge(3)
    checkpoints.prune(directory, 2)


def two_steps(directory):
    """A directory with steps 1 and 2, and what a killed save and a killed prune left."""
    for step in (1, 2):
        checkpoints.save(directory, step, *state(step))
    for name in ("step-3.tmp", "step-0.tmp"):
        shutil.copytree(directory / "step-1", directory / name)
    (directory / "LATEST.tmp").write_text("step-")
    return directory


def operations(directory):
    nothing = At(-1, None)
    with watched(nothing):
        work(directory)
    return nothing.seen


def mends(directory, acknowledged):
    """Whether the newest checkpoint is right after a failure, and the work can be done again to its end."""
    found = checkpoints.load(directory)
    right = holds(found) and found[0] >= (3 if acknowledged else 2)
    work(directory)
    return (right and holds(checkpoints.load(directory), 3) and holds(checkpoints.load(directory, 2), 2)
            and sorted(os.listdir(directory)) == ["LATEST", "step-2", "step-3"])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS], ids=errno.errorcode.get)
def test_disk_that_fails_at_any_operation(tmp_path, number):
    start = two_steps(tmp_path / "start")
    names = operations(shutil.copytree(start, tmp_path / "counted"))
    assert len(names) > 35 and {"create", "write", "fsync", "mkdir", "rename", "unlink", "rmdir"} < set(names)
    for place, name in enumerate(names):
        directory = shutil.copytree(start, tmp_path / f"{place}")
        acknowledged = []
        with watched(At(place, number)), pytest.raises(Problem) as caught:
            work(directory, acknowledged.append)
        assert os.strerror(number) in str(caught.value) and "\n" not in str(caught.value)
        assert mends(directory, acknowledged), f"{name}, operation {place}: {caught.value}"


def test_short_writes_are_completed(tmp_path):
    start = two_steps(tmp_path / "start")
    names = operations(shutil.copytree(start, tmp_path / "counted"))
    for place in [place for place, name in enumerate(names) if name == "write"]:
        directory = shutil.copytree(start, tmp_path / f"{place}")
        with watched(At(place, "short write")):
            work(directory)
        assert holds(checkpoints.load(directory), 3)
    assert names.count("write") == 4


def test_folders_without_fsync(tmp_path):
    """A file system that answers EINVAL to fsync of a folder is used without it."""
    def refuse(name, path, *rest):
        if name == "fsync" and path.is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
    with watched(refuse):
        checkpoints.save(tmp_path, 1, *state(1))
    assert holds(checkpoints.load(tmp_path), 1)


# ---------------------------------------------------------------- kill -9

def machine(*arguments):
    """What this file prints when it is run as a script."""
    environment = os.environ | {"PYTHONPATH": str(Path(tinydistill.__file__).parents[1]), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-W", "ignore", __file__, *map(str, arguments)], env=environment,
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_kill_at_any_operation(tmp_path):
    results = machine("operations", tmp_path)
    assert len(results) > 70
    assert [place for place, (code, mended) in results.items() if code != 9 or not mended] == []


def kill_at_operations(tmp_path):
    """{operation and event: (exit code of the killed, whether all is well after it)}."""
    start, results = two_steps(tmp_path / "start"), {}
    for place, name in enumerate(operations(shutil.copytree(start, tmp_path / "counted"))):
        for event in ("kill", "torn write"):
            directory = shutil.copytree(start, tmp_path / f"{place} {event}")
            note = tmp_path / f"{place} {event}.acknowledged"
            child = os.fork()
            if child == 0:
                with watched(At(place, event)):
                    work(directory, lambda step: note.touch())
                os._exit(0)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            results[f"{place} {name} {event}"] = code, mends(directory, note.exists())
    return results


def test_kill_at_random_times(tmp_path):
    """kill -9 in the middle of saves, again and again in one folder: each time the newest is right."""
    result = machine("random", tmp_path, KILLS)
    print(f"{result['kills']} kills, {result['inside']} inside a save, {result['step']} steps: "
          f"{result['lost']} acknowledged lost, {result['unreadable']} unreadable")
    assert result["kills"] == KILLS and result["lost"] == result["unreadable"] == 0
    assert result["inside"] > KILLS / 10 and result["step"] > KILLS / 4


def kill_at_random(directory, kills):
    chance, lost, unreadable, inside, last = random.Random(0), 0, 0, 0, 0
    since = time.perf_counter()
    checkpoints.save(directory, 0, *state(0))
    duration = time.perf_counter() - since
    for _ in range(kills):
        listen, tell = os.pipe()
        child = os.fork()
        if child == 0:
            checkpoints.clean(directory)
            for step in itertools.count(checkpoints.load(directory)[0] + 1):
                checkpoints.save(directory, step, *state(step))
                os.write(tell, b"%d\n" % step)
                checkpoints.prune(directory)
        time.sleep(chance.uniform(0, 8 * duration))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(tell)
        with open(listen) as acknowledged:
            last = max([last, *map(int, acknowledged)])
        inside += any(path.suffix == ".tmp" for path in directory.iterdir())
        try:
            found = checkpoints.load(directory)
            lost, unreadable = lost + (found[0] < last), unreadable + (not holds(found))
        except Problem:
            unreadable += 1
    return {"kills": kills, "lost": lost, "unreadable": unreadable, "inside": inside, "step": last}


# ---------------------------------------------------------------- power cuts

class Crashes:
    """What a power cut may leave of a log of operations: all that was fsynced, and any part of the rest.

    A simplified model: a name is in a folder, and bytes are in a file, independently of each other, until fsync of that
    folder or file returns. Of unsynced bytes all, half or none are there.
    """

    def __init__(self, root):
        self.root, self.numbers = root, {root: 0}           # a path now, and the file or folder it names
        self.durable, self.pending = [], []

    def __call__(self, name, path, *rest):
        """The log, one operation longer."""
        parent = self.numbers.get(path.parent)
        if name in ("create", "mkdir"):
            self.numbers[path] = sum(1 for _ in self.all_numbers())
            self.pending.append((parent, "link", path.name, self.numbers[path], name == "mkdir"))
        elif name == "write":
            self.pending.append((self.numbers[path], "data", rest[0]))
        elif name == "rename":
            moved = {p: n for p, n in self.numbers.items() if path in (p, *p.parents)}
            for old in moved:
                del self.numbers[old]
            for old, number in moved.items():
                self.numbers[rest[0] / old.relative_to(path)] = number
            self.pending.append((parent, "rename", path.name, rest[0].name, self.numbers[rest[0]]))
        elif name in ("unlink", "rmdir"):
            self.gone = getattr(self, "gone", []) + [self.numbers.pop(path)]
            self.pending.append((parent, "unlink", path.name))
        elif name == "fsync":
            synced = self.numbers[path]
            self.durable += [effect for effect in self.pending if effect[0] == synced]
            self.pending = [effect for effect in self.pending if effect[0] != synced]

    def all_numbers(self):
        yield from self.numbers
        yield from getattr(self, "gone", [])

    def states(self, most=3000):
        """Every different state as {relative path: bytes, or None for a folder}."""
        choices = [(0, 0.5, 1) if effect[1] == "data" else (0, 1) for effect in self.pending]
        count = int(np.prod([len(c) for c in choices]))
        chance = random.Random(0)
        picks = (itertools.product(*choices) if count <= most else
                 ([chance.choice(c) for c in choices] for _ in range(most)))
        seen = set()
        for pick in picks:
            tree = self.tree(pick)
            if (key := tuple(sorted(tree.items(), key=lambda item: item[0]))) not in seen:
                seen.add(key)
                yield tree

    def tree(self, pick):
        folders, files = {0: {}}, {}
        for share, effect in [*((1, e) for e in self.durable), *zip(pick, self.pending)]:
            number, kind, *rest = effect
            if kind == "data":
                files[number] = files.get(number, b"") + rest[0][:int(len(rest[0]) * share)]
            elif share and kind == "link":
                folders.setdefault(number, {})[rest[0]] = rest[1]
            elif share and kind == "rename":
                folders.setdefault(number, {}).pop(rest[0], None)
                folders[number][rest[1]] = rest[2]
            elif share:
                folders.setdefault(number, {}).pop(rest[0], None)
        is_folder = {0} | {e[3] for e in self.durable + self.pending if e[1] == "link" and e[4]}

        def walk(number, prefix):
            for name, inside in folders.get(number, {}).items():
                yield prefix + name, None if inside in is_folder else files.get(inside, b"")
                if inside in is_folder:
                    yield from walk(inside, f"{prefix}{name}/")
        return dict(walk(0, ""))
