"""A disk that fails, or loses power, at every single operation of a save; and files read that nobody vouches for."""

import errno
import os
import shutil

import pytest
from failing_disk import (At, PowerCut, holds, in_memory, mends, operations, put, saved, state, two_steps, watched,
                          work)

from tinydistill.errors import Problem
from tinydistill.training import checkpoints, disk


@pytest.fixture
def tmp_path():
    with in_memory() as path:
        yield path


@pytest.fixture
def start(tmp_path):
    return two_steps(tmp_path / "start")


# ---------------------------------------------------------------- a disk that fails

@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS], ids=errno.errorcode.get)
def test_disk_that_fails_at_any_operation(start, tmp_path, number):
    names = operations(start)
    assert len(names) > 35 and {"create", "write", "fsync", "mkdir", "rename", "unlink", "rmdir"} < set(names)
    for place, name in enumerate(names):
        directory, acknowledged = shutil.copytree(start, tmp_path / f"{place}"), []
        with watched(At(place, number)), pytest.raises(Problem) as caught:
            work(directory, acknowledged.append)
        assert os.strerror(number) in str(caught.value) and "\n" not in str(caught.value)
        assert mends(directory, acknowledged), f"operation {place}, {name}: {caught.value}"


def test_failed_save_gives_its_room_back(start):
    names = operations(start)
    place = [place for place, name in enumerate(names) if name == "write"][1]
    with watched(At(place, errno.ENOSPC)), pytest.raises(Problem, match="step 3 .*No space left.* --resume"):
        work(start)
    assert not (start / "step-3.tmp").exists()


def test_short_writes_are_completed(start, tmp_path):
    places = [place for place, name in enumerate(operations(start)) if name == "write"]
    assert len(places) == 4
    for place in places:
        directory = shutil.copytree(start, tmp_path / f"{place}")
        with watched(At(place, "short write")):
            work(directory)
        assert holds(checkpoints.load(directory), 3)


def test_a_save_that_is_asked_for_again_waits_for_the_name(tmp_path):
    """The first may have failed just after its rename."""
    saved(tmp_path, 1)
    order = []
    with watched(lambda name, path, *rest: order.append((name, path))):
        checkpoints.save(tmp_path, 1, *state(1))
    assert order.index(("fsync", tmp_path)) < order.index(("create", tmp_path / "LATEST.tmp"))


def test_folders_without_fsync(tmp_path):
    """A file system that answers EINVAL to the fsync of a folder is used without it."""
    def refuse(name, path, *rest):
        if name == "fsync" and path.is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
    with watched(refuse):
        checkpoints.save(tmp_path, 1, *state(1))
    assert holds(checkpoints.load(tmp_path), 1)


# ---------------------------------------------------------------- a power cut

def lost_in_power_cuts(tmp_path, steps, forgotten="", only_after_saves=False, most=2000):
    """(number of states that a power cut may leave, those in which the newest acknowledged step is not found)."""
    live, lost, count, acknowledged = tmp_path / "live", [], 0, 0
    live.mkdir()
    machine, seen = PowerCut(live), set()

    def look():
        for tree in machine.states(most):
            key = acknowledged, tuple(tree.items())
            if key in seen:
                continue
            seen.add(key)
            directory = put(tree, tmp_path / "after")
            try:
                if checkpoints.newest(directory) is None:
                    right = acknowledged == 0
                else:
                    found = checkpoints.load(directory)
                    right = holds(found) and found[0] >= acknowledged
            except Problem:
                right = False
            if not right:
                lost.append(sorted(tree))

    def watch(name, path, *rest):
        if name != "fsync" or forgotten != ("folder" if path.is_dir() else "file"):
            machine(name, path, *rest)
        if not only_after_saves:
            look()

    with watched(watch):
        for step in steps:
            checkpoints.save(live, step, *state(step))
            acknowledged = step
            look()
            checkpoints.prune(live, keep=2)
    return len(seen), lost


def test_power_cut_at_any_time(tmp_path):
    count, lost = lost_in_power_cuts(tmp_path, [1, 2, 3, 4])
    print(f"{count} states after a power cut, {len(lost)} without the newest checkpoint")
    assert count > 100 and lost == []


@pytest.mark.parametrize("forgotten", ["file", "folder"])
def test_power_cuts_would_show_a_forgotten_fsync(tmp_path, forgotten):
    """The model is able to fail: without either kind of fsync acknowledged steps are lost."""
    count, lost = lost_in_power_cuts(tmp_path, [1, 2], forgotten, only_after_saves=True, most=300)
    assert count > 50 and lost


# ---------------------------------------------------------------- reading what nobody vouches for

def test_json_comes_back_equal():
    value = {"a": [1, -2**63, 2**64 - 1, 0.1, -0.0, 1e300, True, None], "ü\ud800": {"b": {}}, "c": "\u2028"}
    assert disk.decode_json(disk.encode_json(value)) == value


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, float("nan"), [float("inf")], 2**64, -2**63 - 1],
                         ids=["tuple", "number as key", "nan", "inf", "2^64", "-2^63-1"])
def test_what_would_not_come_back_equal_is_refused(value):
    with pytest.raises(ValueError):
        disk.encode_json({"a": value})


@pytest.mark.parametrize("depth, fine", [(64, True), (65, False), (900, False), (100_000, False)])
def test_depth_of_json(depth, fine):
    data = b"[" * depth + b"]" * depth
    if fine:
        assert disk._depth(disk.decode_json(data)) == depth
    else:
        with pytest.raises(ValueError, match="at most 64 deep"):
            disk.decode_json(data)


@pytest.mark.parametrize("data", [b"9" * 1_000_000, b"", b"\xff", b"{", b" " * (disk.LIMIT + 1)],
                         ids=["long", "empty", "utf-8", "torn", "big"])
def test_json_that_is_none(data):
    with pytest.raises(ValueError):
        disk.decode_json(data)


def test_only_regular_files_are_read(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    assert disk.read_file(tmp_path / "file", 3) == b"abc"
    for name, limit, reason in [("file", 2, "it has 3 bytes, and at most 2"), ("link", 3, "symbolic link"),
                                ("pipe", 3, "not a regular file")]:
        with pytest.raises(ValueError, match=reason):
            disk.read_file(tmp_path / name, limit)
    with pytest.raises(OSError):
        disk.read_file(tmp_path)


def test_remove_does_not_follow_links(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    disk.remove(tmp_path / "link")
    disk.remove(tmp_path / "link")
    assert os.listdir(tmp_path) == ["folder"] and (tmp_path / "folder" / "file").read_text() == "kept"
