"""A disk that fails, a machine that stops, a power cut: what tinydistill.training.disk meets instead of `os`."""

import contextlib
import itertools
import math
import os
import random
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tinydistill.training import checkpoints, disk


class Disk:
    """`os` and `shutil` as tinydistill.training.disk uses them: `watch` is told of each change before it is made.

    watch(name, path, ...) may raise, may end the process, and may return how many bytes of a write get through.
    """

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
        return os.write(descriptor, data[:self.watch("write", self.paths[descriptor], bytes(data))])

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

    def rmtree(self, path):
        for inside in sorted(Path(path).iterdir()):
            self.unlink(inside)
        self.watch("rmdir", Path(path))
        os.rmdir(path)


@contextlib.contextmanager
def watched(watch):
    """Within this block tinydistill.training.disk works on a Disk."""
    before = disk.os, disk.shutil
    disk.os = disk.shutil = Disk(watch)
    try:
        yield
    finally:
        disk.os, disk.shutil = before


class At:
    """What happens at one operation: an errno, "kill", "short write", or "torn write", half a write and then kill.

    `seen` holds the names of all operations so far.
    """

    def __init__(self, place, event):
        self.place, self.event, self.seen = place, event, []

    def __call__(self, name, path, *rest):
        self.seen.append(name)
        if len(self.seen) - 1 != self.place:
            return None
        if isinstance(self.event, int):
            raise OSError(self.event, os.strerror(self.event))
        half = len(rest[0]) // 2 if name == "write" else None
        if self.event == "torn write" and half:
            path.write_bytes(rest[0][:half])
        if self.event != "short write":
            os._exit(9)
        return half


class PowerCut:
    """What a power cut may leave of the operations so far: all that was waited for by fsync, and any part of the rest.

    A simplified model of a file system. Operations become effects, each on one folder (a name comes, goes or changes)
    or one file (its bytes), which are numbered, since a rename changes what they are called. An effect is `pending`
    until fsync of its folder or file. Of pending effects any subset may have reached the disk, of bytes also half.
    """

    def __init__(self, root):
        self.numbers, self.fresh = {root: 0}, itertools.count(1)
        self.folders, self.durable, self.pending = {0}, [], []

    def __call__(self, name, path, *rest):
        folder = self.numbers.get(path.parent)
        if name in ("create", "mkdir"):
            self.numbers[path] = number = next(self.fresh)
            self.folders |= {number} if name == "mkdir" else set()
            self.pending.append((folder, {path.name: number}))
        elif name == "write":
            self.pending.append((self.numbers[path], rest[0]))
        elif name == "rename":
            self.numbers = {rest[0] / p.relative_to(path) if path in (p, *p.parents) else p: n
                            for p, n in self.numbers.items() if p != rest[0]}
            self.pending.append((folder, {path.name: None, rest[0].name: self.numbers[rest[0]]}))
        elif name in ("unlink", "rmdir"):
            del self.numbers[path]
            self.pending.append((folder, {path.name: None}))
        elif name == "fsync":
            self.durable += [effect for effect in self.pending if effect[0] == self.numbers[path]]
            self.pending = [effect for effect in self.pending if effect[0] != self.numbers[path]]
            if self.numbers[path] == 0:             # what was removed cannot be seen any more
                self.pending = [effect for effect in self.pending if effect[0] in self.numbers.values()]

    def states(self, most=2000):
        """The states, {relative path: bytes, or None for a folder}; where they are too many, `most` of them."""
        choices = [(0, 0.5, 1) if isinstance(change, bytes) else (0, 1) for _, change in self.pending]
        chance = random.Random(0)
        picks = (itertools.product(*choices) if math.prod(map(len, choices)) <= most else
                 (list(map(chance.choice, choices)) for _ in range(most)))
        return {tuple(sorted(tree.items())): tree for tree in map(self._tree, picks)}.values()

    def _tree(self, pick):
        contents = {}
        for share, (number, change) in [*((1, effect) for effect in self.durable), *zip(pick, self.pending)]:
            if isinstance(change, bytes):
                contents[number] = contents.get(number, b"") + change[:int(len(change) * share)]
            elif share:
                names = contents.get(number, {}) | change
                contents[number] = {name: inside for name, inside in names.items() if inside is not None}

        def walk(number, prefix):
            for name, inside in contents.get(number, {}).items():
                yield prefix + name, None if inside in self.folders else contents.get(inside, b"")
                if inside in self.folders:
                    yield from walk(inside, f"{prefix}{name}/")
        return dict(walk(0, ""))


def put(tree, directory):
    """A state of PowerCut as real files."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for name, data in tree.items():                 # a folder comes before what is in it
        (directory / name).mkdir() if data is None else (directory / name).write_bytes(data)
    return directory


@contextlib.contextmanager
def in_memory():
    """A folder in memory, where there is such a place: for thousands of small files of which none has to last."""
    roomy = os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free > 2**28
    with tempfile.TemporaryDirectory(dir="/dev/shm" if roomy else None) as name:
        yield Path(name)


# ---------------------------------------------------------------- a run that saves

def state(step):
    """What is saved at a step: every kind of array, and different at each step."""
    draw = np.random.default_rng(step)
    arrays = {"model/w": draw.standard_normal((7, 5), np.float32), "m": draw.standard_normal((4, 3)).T,
              "count": np.array(step), "flags": draw.random(5) < 0.5, "empty": np.zeros((0, 3))}
    return arrays, {"step": step, "rate": float(draw.random()), "names": ["a", "ü"]}


def holds(found, step=None):
    """Whether `load` returned exactly what was saved at its step."""
    arrays, meta = state(found[0])
    return step in (None, found[0]) and found[2] == meta and found[1].keys() == arrays.keys() and all(
        found[1][name].dtype == array.dtype and found[1][name].shape == array.shape
        and found[1][name].tobytes() == array.tobytes() for name, array in arrays.items())


def saved(directory, *steps):
    """The directory, with these steps saved; it does not wait for the disk."""
    with watched(At(None, None)):
        for step in steps:
            checkpoints.save(directory, step, *state(step))
    return directory


def refused(directory, *parts, **how):
    """The line of a load that has to fail because of damage, and has to have these parts."""
    with pytest.raises(checkpoints.CheckpointDamaged) as caught:
        checkpoints.load(directory, **how)
    line = str(caught.value)
    assert all(part in line for part in parts) and "\n" not in line, line
    return line


def work(directory, acknowledge=lambda step: None):
    """What a run does with its checkpoints: here step 3 comes after steps 1 and 2, and 1 goes."""
    checkpoints.clean(directory)
    checkpoints.save(directory, 3, *state(3))
    acknowledge(3)
    checkpoints.prune(directory, keep=2)


def two_steps(directory):
    """A directory with steps 1 and 2, and what a killed save and a killed prune left."""
    saved(directory, 1, 2)
    for name in ("step-3.tmp", "step-0.tmp"):
        shutil.copytree(directory / "step-1", directory / name)
    (directory / "LATEST.tmp").write_text("step-")
    return directory


def operations(start):
    """The names of the operations of `work`, in order."""
    nothing = At(None, None)
    with watched(nothing):
        work(shutil.copytree(start, start.with_name("counted")))
    return nothing.seen


def mends(directory, acknowledged):
    """Whether the newest checkpoint is right after a failure, and the work can be done again to its end."""
    found = checkpoints.load(directory)
    right = holds(found) and found[0] >= (3 if acknowledged else 2)
    with watched(At(None, None)):                   # which does not wait for the disk
        work(directory)
    return (right and holds(checkpoints.load(directory), 3) and holds(checkpoints.load(directory, 2), 2)
            and sorted(os.listdir(directory)) == ["LATEST", "step-2", "step-3"])
