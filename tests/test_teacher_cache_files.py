"""The folder of a teacher cache: what lies in it, whose it is, and what becomes of a damaged or half-built one."""

import errno
import json
import os

import numpy as np
import pytest

from failing_disk import watched
from gradcheck import assert_within
from teacher_caches import EVERYTHING, IDENTITY, LENGTHS, build, data, fields_of, standing_in, teacher_of
from tinydistill.errors import Problem, WrongUsage
from tinydistill.features import Needs, Pass
from tinydistill.training import disk, teacher_cache
from tinydistill.training.teacher_cache import open_or_build
from toys import VOCABULARY

# ---------------------------------------------------------------- the folder

def test_the_files_are_rows_without_padding_and_an_index(tmp_path):
    teacher, needs = teacher_of("token"), Needs.of(hidden=[-1], scores=[0], logits=True, pooled=True)
    build(tmp_path / "cache", teacher, needs)
    assert sorted(os.listdir(tmp_path)) == ["cache"]
    names = ["hidden.2", "logits", "pooled", "scores.0"]
    assert sorted(os.listdir(tmp_path / "cache")) == ["cache.json", *(f"{name}.npy" for name in names)]
    index = json.loads((tmp_path / "cache" / "cache.json").read_text())
    assert {name: file["shape"] for name, file in index["files"].items()} == {
        "hidden.2": ["n", 12], "scores.0": [2, "n", "n"], "pooled": [12], "logits": ["n", 3]}
    assert index["of"] | IDENTITY == index["of"] and (index["of"]["dtype"], index["of"]["format"]) == ("float32", 1)

    n, before = LENGTHS[3], np.array(LENGTHS[:3])
    alone = data().batch([3])
    features = fields_of(teacher(alone, Pass(needs)), needs)
    for file, start, want in (("hidden.2", 12 * before.sum(), features["hidden", -1]),
                              ("scores.0", 2 * (before ** 2).sum(), features["scores", 0]),
                              ("pooled", 12 * 3, features["pooled", None]),
                              ("logits", 3 * before.sum(), features["logits", None])):
        numbers = np.load(tmp_path / "cache" / f"{file}.npy", allow_pickle=False)
        assert numbers.dtype == np.float32 and numbers.ndim == 1 and alone.ids.shape == (1, n)
        assert_within(numbers[start:start + want.size], want.reshape(-1), 1e-5 * np.abs(want).max(), file)


def test_one_line_says_what_is_built_and_how_large_it_will_be(tmp_path, capsys):
    lines, needs = [], Needs.of(scores=[-1], pooled=True)
    build(tmp_path / "cache", needs=needs, say=lines.append)
    size = sum(2 * n * n for n in LENGTHS) * 4 + 12 * len(LENGTHS) * 4
    assert lines == [f"caching 11 rows of scores.2, pooled: {size / 1e6:.1f} MB in {tmp_path / 'cache'}"]
    assert capsys.readouterr() == ("", "")
    build(tmp_path / "cache", needs=needs, say=lines.append)
    assert len(lines) == 1
    open_or_build(tmp_path / "more", teacher_of(), data(lengths=LENGTHS * 100), EVERYTHING, {}, "float64")
    out, err = capsys.readouterr()
    floats = sum(n * n * 2 * 3 + n * 12 * 13 + 15 for n in LENGTHS) * 100
    assert out == "" and "caching 1,100 rows of hidden.0, hidden.1" in err
    assert f"{floats * 8 / 1e6:,.1f} MB in {tmp_path / 'more'}\n" in err and "teacher" in err and "275/275" in err


def test_a_whole_cache_is_opened_without_a_pass_through_the_teacher(tmp_path):
    build(tmp_path / "cache")

    def never(batch, run):
        raise AssertionError("the teacher was asked")

    batch = data().at(0)
    for needs in (EVERYTHING, Needs.of(hidden=[-1]), Needs.of(values=[0], logits=True)):
        got = fields_of(build(tmp_path / "cache", standing_in(teacher_of(), never), needs)(batch, Pass(needs)), needs)
        assert got.keys() == needs.wanted


def test_a_cache_of_something_else_names_every_difference(tmp_path):
    needs = Needs.of(hidden=[0, 1])
    build(tmp_path / "cache", needs=needs)

    def refused(**changes):
        with pytest.raises(WrongUsage) as caught:
            build(tmp_path / "cache", **{"needs": needs} | changes)
        line = str(caught.value)
        start, end = f"the teacher cache in {tmp_path / 'cache'} is another, of ", \
            ": choose another folder, or delete it to build it anew"
        assert line.startswith(start) and line.endswith(end) and "\n" not in line
        return line[len(start):-len(end)]

    other = {"teacher": "def", "max_length": 9}
    assert refused(identity=other) == "max_length 8 (here 9); teacher abc (here def)"
    assert refused(identity={"teacher": "abc", "corpus": "x"}) == "corpus none (here x); max_length 8 (here none)"
    assert refused(dtype="float16") == "dtype float32 (here float16)"
    more = Needs.of(hidden=[1, 2], logits=True)
    assert refused(needs=more) == "features hidden.0, hidden.1 (here hidden.2, logits too)"
    rows, types = data().sequences, data().token_types
    changed = [row.copy() for row in rows]
    changed[4][2] = 1 + changed[4][2] % (VOCABULARY - 1)
    for other in (data(sequences=changed), data(token_types=[1 - t for t in types]), data(token_types=None),
                  data(lengths=LENGTHS[:-1]), data(sequences=rows[::-1], token_types=types[::-1]),
                  data(sequences=[np.concatenate(rows)[:20], np.concatenate(rows)[20:]], token_types=None)):
        line = refused(batches=other)
        assert line.startswith("tokens ") and line.count("(here ") == 1
    unread = {"batch_size": 3, "seed": 5, "labels": [1] * len(LENGTHS), "pad_id": 2}
    build(tmp_path / "cache", needs=needs, batches=data(**unread))


def test_arguments_that_cannot_be(tmp_path):
    with pytest.raises(WrongUsage, match="of the teacher cache out of float16, float32, float64; got .int8.$"):
        build(tmp_path / "cache", dtype="int8")
    with pytest.raises(ValueError, match="need what JSON can hold"):
        build(tmp_path / "cache", identity={"size": (1, 2)})
    with pytest.raises(Problem, match="need hidden of layer 3, but the model has 3 layers"):
        build(tmp_path / "cache", needs=Needs.of(hidden=[3]))
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").write_text("")
    for name in ("file", "full"):
        with pytest.raises(WrongUsage, match=f"need an empty folder for the teacher cache.*{name} is neither$"):
            build(tmp_path / name)
    assert (tmp_path / "full" / "letter").exists() and len(os.listdir(tmp_path)) == 2
    (tmp_path / "empty").mkdir()
    build(tmp_path / "empty")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    build(tmp_path / "link" / ".." / "link")
    assert (tmp_path / "elsewhere" / "cache.json").exists()


# ---------------------------------------------------------------- damaged, interrupted, in use

def test_a_damaged_file_is_named(tmp_path):
    needs = Needs.of(hidden=[0], pooled=True)
    build(tmp_path / "cache", needs=needs)
    for name in ("cache.json", "hidden.0.npy", "pooled.npy"):
        path = tmp_path / "cache" / name
        whole = path.read_bytes()

        def refused(reason):
            with pytest.raises(Problem) as caught:
                build(tmp_path / "cache", needs=needs)
            line = str(caught.value)
            assert line.startswith(f"{path} cannot be used: ") and reason in line and "\n" not in line
            assert line.endswith(f": delete {tmp_path / 'cache'} to build it anew")

        for place in {0, 1, len(whole) // 3, len(whole) - 2} - {whole.rfind(b"}") + 1}:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1:])
            refused("")
            path.write_bytes(whole[:place])
            refused("")
        path.write_bytes(whole[:-4] + bytes(4))
        refused("")
        if name != "cache.json":
            path.unlink()
            refused("No such file or directory")
        path.write_bytes(whole)
        build(tmp_path / "cache", needs=needs)
    path = tmp_path / "cache" / "cache.json"
    for text in ("[]", "{}", json.dumps(json.loads(path.read_text()) | {"files": {}})):
        path.write_text(text)
        refused("its sha256 is not that of what was written")


def interrupts(place, error):
    """A teacher that is interrupted at its pass of this number."""
    teacher, passes = teacher_of(), []

    def interrupted(batch, run):
        passes.append(batch)
        if len(passes) > place:
            raise error
        return teacher(batch, run)

    return standing_in(teacher, interrupted)


def test_an_interrupted_build_leaves_nothing_that_looks_whole(tmp_path):
    build(tmp_path / "undisturbed")
    want = {path.name: path.read_bytes() for path in (tmp_path / "undisturbed").iterdir()}
    for place in range(4):
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path / "cache", interrupts(place, KeyboardInterrupt()))
        assert not (tmp_path / "cache").exists() and (tmp_path / "cache.partial").exists() == (place > 0)
        if place:
            (tmp_path / "cache.partial" / "hidden.7.npy").write_bytes(b"of another build")
    build(tmp_path / "cache")
    assert {path.name: path.read_bytes() for path in (tmp_path / "cache").iterdir()} == want
    assert not (tmp_path / "cache.partial").exists()


class Killed(BaseException):
    """The end of the process, but for this test."""


class Ends:
    """A disk whose operation of this number raises `error` instead."""

    def __init__(self, place, error):
        self.place, self.error, self.seen = place, error, []

    def __call__(self, name, *paths):
        self.seen.append(name)
        if len(self.seen) - 1 == self.place:
            raise self.error


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("error", [Killed(), FULL], ids=["kill", "full disk"])
def test_a_build_that_ends_at_any_operation_is_built_anew(tmp_path, error):
    batch, needs, counted = data().at(0), Needs.of(hidden=[0]), Ends(-1, None)
    with watched(counted):
        want = build(tmp_path / "undisturbed", needs=needs)(batch, Pass(needs)).hidden[0].array
    renamed = counted.seen.index("rename")
    index, folder = ["create", "write", "fsync", "close"], ["fsync", "close"]
    assert counted.seen[0] == "mkdir" and counted.seen[renamed - 6:] == [*index, *folder, "rename", *folder]
    for place, operation in enumerate(counted.seen):
        directory = tmp_path / f"{place}"
        with watched(Ends(place, error)), pytest.raises((Killed, Problem)) as caught:
            build(directory, needs=needs)
        if isinstance(error, OSError):
            assert str(caught.value) == f"cannot build the teacher cache {directory}: No space left on device"
        assert directory.exists() == (place > renamed), operation
        got = build(directory, needs=needs)(batch, Pass(needs)).hidden[0].array
        assert np.array_equal(got, want) and not (tmp_path / f"{place}.partial").exists()


def test_a_full_disk_gets_its_room_back(tmp_path, monkeypatch):
    def full(*arguments):
        raise FULL

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(Problem, match="^cannot build the teacher cache .*: No space left on device$"):
        build(tmp_path / "cache")
    assert os.listdir(tmp_path) == []


def test_numbers_that_a_dtype_cannot_hold_are_named(tmp_path):
    teacher = teacher_of("masked-lm")
    teacher.head.bias.array[3] = 1e6
    with pytest.raises(Problem, match=r"^cannot cache logits: row \d+ has a number that is not finite in float16"):
        build(tmp_path / "cache", teacher, Needs.of(logits=True), dtype="float16")
    assert os.listdir(tmp_path) == []
    build(tmp_path / "cache", teacher, Needs.of(logits=True))


def test_two_processes_do_not_build_the_same(tmp_path, monkeypatch):
    partial, flock = tmp_path / "cache.partial", teacher_cache.fcntl.flock

    def refused():
        with pytest.raises(Problem) as caught:
            build(tmp_path / "cache")
        assert str(caught.value) == (f"another process builds the teacher cache {partial}: wait for it, or choose "
                                     "another folder")

    with teacher_cache._locked(partial):
        refused()
        assert partial.exists()

    def finished_meanwhile(descriptor, operation):
        disk.rename(partial, tmp_path / "finished")
        flock(descriptor, operation)

    monkeypatch.setattr(teacher_cache.fcntl, "flock", finished_meanwhile)
    refused()
    partial.mkdir()
    monkeypatch.setattr(teacher_cache.fcntl, "flock", lambda *arguments: (disk.rename(partial, tmp_path / "aside"),
                                                                          partial.mkdir(), flock(*arguments)))
    refused()                                       # and the next began, in a folder of this name
    monkeypatch.undo()
    build(tmp_path / "cache")
