"""What is saved comes back, the newest first; what is damaged is gone back behind when asked; the old ones go.

Damage of every kind is in test_checkpoints_damaged.py, and a machine that stops in the middle of a save in
test_checkpoints_killed.py and test_disk.py.
"""

import hashlib
import json
import os
import resource
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from failing_disk import At, holds, refused, saved, state, watched
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from tinydistill.errors import Problem
from tinydistill.training import checkpoints, disk


@pytest.fixture
def directory(tmp_path):
    return saved(tmp_path / "checkpoints", 10, 20, 30)


def damage(folder):
    (folder / "meta.json").write_text("{}")


# ---------------------------------------------------------------- what is saved comes back

DTYPES = ["?", "i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8", "<c8", ">f4", ">i8"]


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
ARRAYS = st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=4), st.binary(max_size=8))
LEAVES = (st.none() | st.booleans() | st.integers(-2**63, 2**64 - 1) | st.text(max_size=5)
          | st.floats(allow_nan=False, allow_infinity=False))
JSON = st.recursive(LEAVES, lambda inside: (st.lists(inside, max_size=3)
                                            | st.dictionaries(st.text(max_size=3), inside, max_size=3)), max_leaves=8)


@given(st.dictionaries(NAMES, ARRAYS, max_size=5), JSON)
def test_what_is_saved_comes_back(described, meta):
    arrays = {}
    for name, (dtype, shape, seed) in described.items():
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        data = (hashlib.sha256(seed).digest() * (count // 32 + 1))[:count]
        data = bytes(b & 1 for b in data) if dtype == "?" else data
        arrays[name] = np.frombuffer(data, dtype).reshape(shape).T              # neither C order nor writeable
    with tempfile.TemporaryDirectory() as directory, watched(At(None, None)):
        folder = checkpoints.save(directory, 7, arrays, {"meta": meta})
        assert folder == Path(directory, "step-7")
        step, found, found_meta = checkpoints.load(directory)
    assert step == 7 and found_meta == {"meta": meta} and json.dumps(found_meta) == json.dumps({"meta": meta})
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].shape == array.shape and found[name].dtype == array.dtype.newbyteorder("=")
        assert found[name].tobytes() == array.astype(found[name].dtype).tobytes() and found[name].flags.writeable


@pytest.mark.parametrize("arrays, meta, step", [
    ({"a": np.array([None])}, {}, 1), ({"a": np.zeros(2, "c16")}, {}, 1), ({"a": np.zeros(2, "U3")}, {}, 1),
    ({"__metadata__": np.zeros(2)}, {}, 1), ({"\ud800": np.zeros(2)}, {}, 1), ({}, {"a": (1, 2)}, 1),
    ({}, {"a": float("nan")}, 1), ({}, {}, -1), ({}, {}, 10**18), ({}, {}, True), ({}, {}, "1"), ({}, {"a": "x" * disk.LIMIT}, 1),
    ({str(i): np.zeros(1, "?") for i in range(30_000)}, {}, 1)],
    ids=["objects", "complex128", "text", "__metadata__", "surrogate", "tuple", "nan", "negative", "vast", "bool", "name",
         "big meta", "many"])
def test_what_could_not_come_back_is_refused_before_anything_is_written(tmp_path, arrays, meta, step):
    with pytest.raises((ValueError, TypeError, SafetensorError)):
        checkpoints.save(tmp_path, step, arrays, meta)
    assert os.listdir(tmp_path) == []


def test_the_newest_is_loaded_and_any_step_on_request(directory):
    assert holds(checkpoints.load(directory), 30) and holds(checkpoints.load(directory, 10), 10)
    assert checkpoints.newest(directory) == 30 and (directory / "LATEST").read_text() == "step-30\n"
    checkpoints.save(directory, 100, *state(100))                               # 100 is more than 30, "100" is less
    assert holds(checkpoints.load(directory), 100)


def test_nothing_to_load(tmp_path):
    assert checkpoints.newest(tmp_path / "missing") is None is checkpoints.newest(tmp_path)
    with pytest.raises(Problem, match="need a checkpoint, and .* holds none"):
        checkpoints.load(tmp_path)
    refused(tmp_path, "step-3/manifest.json", "take another step", step=3)


def test_a_step_is_never_overwritten(directory):
    before = (directory / "step-20" / "meta.json").read_bytes()
    arrays, meta = state(20)
    checkpoints.save(directory, 20, arrays, meta | {"rate": 7})
    assert (directory / "step-20" / "meta.json").read_bytes() == before
    with pytest.raises(Problem, match="step-20 is there, damaged or another run's: move it away"):
        checkpoints.save(directory, 20, *state(21))
    assert holds(checkpoints.load(directory, 20), 20)
    damage(directory / "step-20")
    with pytest.raises(Problem, match="step-20 is there, damaged or another run's: move it away"):
        checkpoints.save(directory, 20, *state(20))


def test_the_tensor_names_are_no_paths(tmp_path):
    arrays = {name: np.ones(2) for name in ("../../outside", "/outside", "a\0b", "C:\\x", "..", "")}
    checkpoints.save(tmp_path / "inside" / "checkpoints", 1, arrays, {})
    assert checkpoints.load(tmp_path / "inside" / "checkpoints")[1].keys() == arrays.keys()
    assert {path.name for path in tmp_path.rglob("*")} == {"inside", "checkpoints", "step-1", "LATEST",
                                                           "arrays.safetensors", "manifest.json", "meta.json"}


# ---------------------------------------------------------------- going on from an earlier one

def test_fall_back_only_when_asked(directory):
    damage(directory / "step-30")
    line = refused(directory, "step-30/meta.json", "step-20 is intact: --resume auto goes on from there")
    assert checkpoints.newest(directory) == 30
    said = []
    assert holds(checkpoints.load(directory, fall_back=True, say=said.append), 20)
    assert said == [line.partition(";")[0] + "; going on from step-20"]
    assert sorted(os.listdir(directory)) == ["LATEST", "step-10", "step-20", "step-30.damaged"]
    checkpoints.save(directory, 30, *state(30))
    assert holds(checkpoints.load(directory), 30)
    damage(directory / "step-30")
    damage(directory / "step-20")
    assert holds(checkpoints.load(directory, fall_back=True, say=said.append), 10)
    assert [line.rpartition(";")[2] for line in said[1:]] == [" going on from step-10"] * 2
    assert holds(checkpoints.load(directory), 10)


def test_fall_back_says_so_on_stderr(directory, capsys):
    damage(directory / "step-30")
    checkpoints.load(directory, fall_back=True)
    assert "going on from step-20" in capsys.readouterr().err


def test_nothing_is_set_aside_where_nothing_is_intact(directory):
    for step in (10, 20, 30):
        damage(directory / f"step-{step}")
    for fall_back in (False, True):
        refused(directory, "step-30/meta.json", "no intact checkpoint is left: start again", fall_back=fall_back)
    assert sorted(os.listdir(directory)) == ["LATEST", "step-10", "step-20", "step-30"]


def test_a_lost_checkpoint_is_noticed(directory):
    shutil.rmtree(directory / "step-30")
    refused(directory, "step-30/manifest.json", "No such file", "step-20 is intact")
    assert holds(checkpoints.load(directory, fall_back=True, say=lambda line: None), 20)
    assert holds(checkpoints.load(directory), 20)


def test_only_the_intact_count_when_old_ones_are_deleted(directory):
    checkpoints.prune(directory, keep=3)
    damage(directory / "step-30")
    checkpoints.prune(directory)
    assert sorted(os.listdir(directory)) == ["LATEST", "step-10", "step-20", "step-30"]
    checkpoints.prune(directory, keep=1)
    assert sorted(os.listdir(directory)) == ["LATEST", "step-20", "step-30"]
    with pytest.raises(ValueError, match="at least 1"):
        checkpoints.prune(directory, keep=0)


@given(st.lists(st.tuples(st.sampled_from(["save", "damage", "delete", "prune", "clean", "killed save"]),
                          st.integers(1, 6)), max_size=12))
def test_retention_keeps_the_newest_intact_ones(history):
    """Over any history of saves, damage and deletions, a prune leaves the newest intact ones there were."""
    intact = set()
    with tempfile.TemporaryDirectory() as name, watched(At(None, None)):
        directory = Path(name)
        for event, number in [*history, ("prune", 2)]:
            folder = directory / f"step-{number}"
            if event == "save" and not folder.exists():
                checkpoints.save(directory, number, *state(number))
                intact.add(number)
            elif event == "damage" and folder.exists():
                damage(folder)
                intact.discard(number)
            elif event == "delete":
                shutil.rmtree(folder, ignore_errors=True)
                intact.discard(number)
            elif event == "killed save":
                folder.with_suffix(".tmp").mkdir(exist_ok=True)
            elif event == "clean":
                checkpoints.clean(directory)
                assert not list(directory.glob("*.tmp"))
            elif event == "prune":
                checkpoints.prune(directory, keep=number)
                intact = set(sorted(intact)[-number:])
            for step in intact:
                assert holds(checkpoints.load(directory, step), step)


# ---------------------------------------------------------------- a full disk

def test_a_full_disk_keeps_the_last_good_one(tmp_path):
    """With a real limit on the size of files, as a full disk has it: the same save succeeds once there is room."""
    checkpoints.save(tmp_path, 1, *state(1))
    big, limits = {"a": np.ones(10**6)}, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, limits[1]))
    try:
        for _ in range(3):
            with pytest.raises(Problem, match="cannot save step 2 .*File too large; the checkpoints before it are"):
                checkpoints.save(tmp_path, 2, big, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(os.listdir(tmp_path)) == ["LATEST", "step-1"] and holds(checkpoints.load(tmp_path), 1)
    checkpoints.save(tmp_path, 2, big, {})
    assert np.array_equal(checkpoints.load(tmp_path)[1]["a"], big["a"])


def test_a_place_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Problem, match="cannot save step 1 in .*: (File exists|Not a directory)"):
        checkpoints.save(tmp_path / "file" / "checkpoints", 1, *state(1))
    with pytest.raises(Problem, match="cannot clean .*: No such file"):
        checkpoints.clean(tmp_path / "missing")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write there; test_disk.py fails each operation with EROFS")
def test_a_read_only_folder(tmp_path):
    (tmp_path / "folder").mkdir(mode=0o555)
    with pytest.raises(Problem, match="cannot save step 1 in .*: Permission denied"):
        checkpoints.save(tmp_path / "folder", 1, *state(1))
