"""Files that may come from anybody: read as safetensors and json read them, or refused in one line, quickly."""

import json
import time
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import save

from tinydistill.errors import Problem
from tinydistill.safe_files import read_json, read_safetensors


def file_of(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


GOOD = {"a": entry(), "b": entry("U8", (1, 3), (8, 11))}


@pytest.fixture
def refused(tmp_path):
    """refused(content, pattern): reading fails in one line that names the file and says why."""
    def check(content, pattern, name="x.safetensors", **limits):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(Problem, match=pattern) as caught:
            (read_json if name.endswith("json") else read_safetensors)(path, **limits)
        message = str(caught.value)
        assert message.startswith(f"cannot read {path}: ") and "\n" not in message and len(message) < 1000
    return check


# ---------------------------------------------------------------- what is read

def test_every_dtype_comes_back_as_it_was(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {f"{kind}{size}": rng.integers(0, 100, (3, size)).astype(f"{kind}{size}")
              for kind, sizes in {"f": (2, 4, 8), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8)}.items() for size in sizes}
    arrays |= {"scalar": np.array(2.5), "empty": np.zeros((0, 4), np.float32), "nan": np.array([np.nan, -0.0, np.inf])}
    (tmp_path / "x").write_bytes(save(arrays, metadata={"format": "pt"}))
    found = read_safetensors(tmp_path / "x")
    assert found.keys() == arrays.keys()
    for name, x in arrays.items():
        assert (found[name].dtype, found[name].shape, found[name].tobytes()) == (x.dtype, x.shape, x.tobytes())
        found[name][...] = 0                        # an array of its own, which may be written to


def test_bfloat16_arrives_as_the_same_number_in_float32(tmp_path):
    numbers = np.array([1.0, -2.5, 3.140625, 2.0 ** -120, np.inf], np.float32)      # all of them 8 significant bits
    bits = (numbers.view(np.uint32) >> 16).astype("<u2")
    (tmp_path / "x").write_bytes(file_of({"a": entry("BF16", (5,), (0, 10))}, bits.tobytes()))
    found = read_safetensors(tmp_path / "x")["a"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, numbers)


def test_tensors_may_stand_in_any_order(tmp_path):
    header = {"late": entry("U8", (2,), (3, 5)), "__metadata__": {"x": "y"}, "early": entry("U8", (3,), (0, 3))}
    (tmp_path / "x").write_bytes(file_of(header, bytes([1, 2, 3, 4, 5])))
    found = read_safetensors(tmp_path / "x")
    assert {name: x.tolist() for name, x in found.items()} == {"early": [1, 2, 3], "late": [4, 5]}


def test_json(tmp_path):
    (tmp_path / "x.json").write_text('{"a": [1, -2.5, "é", null, true], "b": {}}', encoding="utf-8")
    assert read_json(tmp_path / "x.json") == {"a": [1, -2.5, "é", None, True], "b": {}}


# ---------------------------------------------------------------- what is refused

def test_every_truncation_is_noticed(refused):
    whole = file_of(GOOD, bytes(11))
    for length in range(len(whole)):
        refused(whole[:length], "it is cut off|its tensors need 11 bytes of data, and it has")
    refused(whole + b"x", "its tensors need 11 bytes of data, and it has 12")


@pytest.mark.parametrize("header, data, reason", [
    (b"[1]", 0, "its header names no tensors"),
    (b"{]", 0, "Expecting property name"),
    (b'{"\xff": 1}', 0, "codec can't decode"),
    (b'{"a": {}, "a": {}}', 0, "a name stands there twice"),
    ({"a": 5}, 0, "tensor 'a' needs a dtype, a shape and two offsets"),
    ({"a": {"shape": [2], "data_offsets": [0, 8]}}, 8, "tensor 'a' needs a dtype"),
    ({"a": entry() | {"shape": {}}}, 8, "tensor 'a' needs a dtype"),
    ({"a": entry() | {"data_offsets": [0]}}, 8, "tensor 'a' needs a dtype"),
    ({"a": entry() | {"data_offsets": [0, 4, 8]}}, 8, "tensor 'a' needs a dtype"),
    ({"a": entry(shape=(2.0,))}, 8, "tensor 'a' needs a dtype"),
    ({"a": entry(shape=(True, 2))}, 8, "tensor 'a' needs a dtype"),
    ({"a": entry(shape=(-1, -2))}, 8, "tensor 'a' needs a dtype"),
    ({"a": entry(offsets=(-8, 0))}, 8, "tensor 'a' needs a dtype"),
    ({"a": entry(shape=(1,) * 33, offsets=(0, 4))}, 4, "tensor 'a' needs a dtype"),
    ({"a": entry("F8_E4M3", (8,))}, 8, "tensor 'a' is of dtype 'F8_E4M3'; need one of F64"),
    ({"a": entry(["F32"])}, 8, "tensor 'a' is of dtype"),
    ({"a": entry(shape=(3,))}, 8, r"tensor 'a' of shape \(3,\) and dtype F32 cannot have 8 bytes"),
    ({"a": entry(offsets=(8, 0))}, 8, "tensor 'a' of shape .* cannot have -8 bytes"),
    ({"a": entry(shape=(10 ** 17, 10 ** 17))}, 8, "cannot have 8 bytes"),
    ({"a": entry(), "b": entry(offsets=(4, 12))}, 12, "tensor 'b' begins at byte 4 of the data, but 8 comes next"),
    ({"a": entry(), "b": entry()}, 8, "tensor 'b' begins at byte 0 of the data, but 8 comes next"),
    ({"a": entry(), "b": entry(offsets=(12, 20))}, 20, "tensor 'b' begins at byte 12 of the data, but 8 comes next"),
    ({"a": entry(offsets=(1, 9))}, 9, "tensor 'a' begins at byte 1"),
    ({"a": entry(shape=(0, 10 ** 17, 10 ** 17), offsets=(0, 0))}, 0, "too big|too large|exceeded"),
    ({"x" * 500: 5}, 0, "tensor 'xxxx"),
    ({"two\nlines": 5}, 0, r"tensor 'two\\nlines'"),
], ids=str)
def test_a_header_that_makes_no_sense(refused, header, data, reason):
    refused(file_of(header, bytes(data)), reason)


def test_what_is_just_within_the_limits_is_read(tmp_path):
    header = json.dumps({"a": entry(shape=(1,) * 32, offsets=(0, 4))}).encode()
    (tmp_path / "x").write_bytes(file_of(header, bytes(4)))
    assert read_safetensors(tmp_path / "x", max_header=len(header))["a"].shape == (1,) * 32
    text = "[" + "9" * 18 + "]"
    (tmp_path / "x.json").write_text(text)
    assert read_json(tmp_path / "x.json", max_bytes=len(text)) == [10 ** 18 - 1]


def test_limits_come_before_the_parser(refused):
    refused(file_of(b"", length=2 ** 63), "end before its header does")
    refused(file_of(b" " * 101), "its header has 101 bytes, more than the 100 that are read", max_header=100)
    refused(b" " * 101, "it is longer than 100 bytes", name="x.json", max_bytes=100)
    refused(b"[" * 100_000, "its JSON is nested too deeply", name="x.json")
    refused(b'"' + b" " * (1 << 20), "it is longer than 1048576 bytes", name="x.json")
    refused(b"9" * 19, "a number has more than 18 digits", name="x.json")
    refused(b'{"a": 1, "a": 1}', "a name stands there twice", name="x.json")
    refused(b"", "Expecting value", name="x.json")


def test_a_bomb_of_a_header_is_refused_at_once(refused):
    """17 MiB of header, 16 MiB of nesting: under a second, and no more memory than a few copies of it."""
    tracemalloc.start()
    start = time.perf_counter()
    refused(file_of(b" " * (17 << 20)), "more than the 16777216 that are read")
    refused(file_of(b"[" * (16 << 20)), "its JSON is nested too deeply")
    assert time.perf_counter() - start < 5          # measured 0.1 s; a shared machine may be slow
    assert tracemalloc.get_traced_memory()[1] < 200 << 20
    tracemalloc.stop()


def test_what_is_no_file(tmp_path):
    with pytest.raises(Problem, match="No such file"):
        read_json(tmp_path / "none.json")
    with pytest.raises(Problem, match="Is a directory"):
        read_safetensors(tmp_path)


def test_damage_is_refused_or_read_but_nothing_else_happens(tmp_path):
    """1,000 files with one to three bytes changed: a Problem, or arrays of the sizes in the file."""
    rng = np.random.default_rng(0)
    whole = np.frombuffer(file_of(GOOD | {"c": entry("BF16", (2, 2), (11, 19))}, bytes(19)), np.uint8)
    path, outcomes = tmp_path / "x", {"refused": 0, "read": 0}
    for _ in range(1000):
        damaged = whole.copy()
        damaged[rng.integers(0, len(whole), rng.integers(1, 4))] = rng.integers(0, 256)
        path.write_bytes(damaged.tobytes())
        try:
            assert sum(x.size for x in read_safetensors(path).values()) <= 19
            outcomes["read"] += 1
        except Problem:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 20, outcomes   # both happen: the test is not a test of one of them
