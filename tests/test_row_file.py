"""Rows of different lengths in one file: what is written is read, each row where it belongs, and nothing else."""

import hashlib
import os
import resource

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinydistill.training.row_file import RowFile

SHAPES = [("n",), ("n", 3), (2, "n", "n"), (2, "n", 4), (5,)]


def written(path, shape, lengths, dtype, rows):
    file = RowFile(path, shape, np.array(lengths), dtype).create()
    for i in np.random.default_rng(1).permutation(len(lengths)):        # in any order
        file.write(i, rows[i])
    return file, file.finish()


def sides(shape, n):
    return [n if side == "n" else side for side in shape]


@given(st.sampled_from(SHAPES), st.lists(st.integers(1, 7), min_size=1, max_size=6), st.integers(0, 3),
       st.sampled_from(["float16", "float32", "float64"]), st.integers(0, 2**32 - 1))
def test_what_is_read_is_what_was_written(tmp_path_factory, shape, lengths, padding, dtype, seed):
    path, random = tmp_path_factory.mktemp("rows") / "x.npy", np.random.default_rng(seed)
    rows = [random.standard_normal(sides(shape, n)).astype(dtype) for n in lengths]
    longest = max(lengths) + padding
    garbage = [np.full(sides(shape, longest), np.nan) for _ in lengths]
    for row, full in zip(rows, garbage):
        full[tuple(map(slice, row.shape))] = row
    file, sha256 = written(path, shape, lengths, dtype, garbage)

    flat = np.load(path, allow_pickle=False)
    assert flat.dtype == dtype and np.array_equal(flat, np.concatenate([row.reshape(-1) for row in rows]))
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest() and file.bytes == flat.nbytes
    again = RowFile(path, list(shape), np.array(lengths), dtype).open(sha256)
    asked = random.integers(0, len(lengths), 5)
    got = again.padded(asked, longest, np.float64)
    assert got.shape == (5, *sides(shape, longest)) and got.dtype == np.float64
    for line, i in zip(got, asked):
        real = tuple(map(slice, rows[i].shape))
        assert np.array_equal(line[real], rows[i].astype(np.float64))
        line[real] = 0
    assert not got.any()


def test_numbers_are_rounded_once(tmp_path):
    row = np.array([1 / 3, 1e-8, 2049.0, 65504.0])
    file, sha256 = written(tmp_path / "x.npy", ("n",), [4], "float16", [row])
    got, = RowFile(file.path, ("n",), np.array([4]), "float16").open(sha256).padded([0], 4, np.float32)
    assert got.tolist() == [1365 / 4096, 0.0, 2048.0, 65504.0]


@pytest.mark.parametrize("dtype, number, largest", [
    ("float16", 65520.0, "6.55e+04"), ("float32", 1e39, "3.4e+38"), ("float64", np.inf, "1.8e+308"),
    ("float32", np.nan, "3.4e+38")])
def test_what_would_not_be_finite_is_refused(tmp_path, dtype, number, largest):
    file = RowFile(tmp_path / "x.npy", ("n",), np.array([2, 3]), dtype).create()
    with pytest.raises(ValueError) as caught:
        file.write(1, np.array([0.0, 0.0, number]))
    assert str(caught.value) == f"row 1 has a number that is not finite in {dtype}, which ends at {largest}"
    file.write(0, np.array([0.0, 0.0, number]))                         # it is padding there


def test_another_file_is_refused(tmp_path):
    rows = [np.ones((n, 3)) for n in (2, 5)]
    file, sha256 = written(tmp_path / "x.npy", ("n", 3), [2, 5], "float32", rows)
    data = file.path.read_bytes()

    def refused(shape=("n", 3), dtype="float32"):
        with pytest.raises(ValueError) as caught:
            RowFile(file.path, shape, np.array([2, 5]), dtype).open(sha256)
        return str(caught.value)

    assert refused(shape=("n", 4)) == "need 28 numbers of float32; got the shape (21,) of float32"
    assert refused(dtype="float16") == "need 21 numbers of float16; got the shape (21,) of float32"
    for place in range(len(data)):
        file.path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1:])
        assert refused() == "its sha256 is not that of what was written"
        if place:
            file.path.write_bytes(data[:place])
            assert refused() == "its sha256 is not that of what was written"
    file.path.write_bytes(b"")
    assert "empty file" in refused()


def test_all_the_room_is_taken_at_once(tmp_path):
    """A map grows into room that the disk may not have by then: the process would end without a word."""
    file = RowFile(tmp_path / "x.npy", ("n", 1000), np.array([100]), "float64").create()
    status, header = os.stat(file.path), 128
    assert status.st_blocks * 512 >= status.st_size == header + file.bytes == header + 800_000
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            RowFile(tmp_path / "y.npy", ("n", 1000), np.array([100]), "float64").create()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_finished_file_is_on_the_disk(tmp_path, monkeypatch):
    waited, file = [], RowFile(tmp_path / "x.npy", ("n",), np.array([2]), "float32").create()
    file.write(0, np.ones(2))
    monkeypatch.setattr(np.memmap, "flush", lambda numbers: waited.append(numbers is file.numbers))
    monkeypatch.setattr(os, "fsync", lambda descriptor: waited.append(os.path.sameopenfile(descriptor, opened.fileno())))
    with open(file.path, "rb") as opened:
        file.finish()
    assert waited == [True, True]
