"""A damaged checkpoint is refused, in one line that names the file and the tensor; bombs are refused at once."""

import hashlib
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from failing_disk import holds, in_memory, refused, saved, state

import tinydistill
from tinydistill.training import checkpoints, disk
from tinydistill.training.checkpoints import CheckpointDamaged

FILES = ("manifest.json", "meta.json", "arrays.safetensors")
FUZZED = 3000


@pytest.fixture
def tmp_path():
    with in_memory() as path:
        yield path


@pytest.fixture
def directory(tmp_path):
    return saved(tmp_path / "checkpoints", 10, 20, 30)


def mutations(data, chance):
    """Endless damage to bytes, of the kinds that disks and people do."""
    while True:
        place, length = chance.randrange(len(data)), chance.randrange(1, 40)
        byte, inserted = bytes([data[place] ^ 1 << chance.randrange(8)]), chance.randbytes(length)
        yield from (data[:place] + byte + data[place + 1:], data[:place], data[:place] + inserted + data[place:],
                    data[:place] + data[place + length:], data[:place] + inserted + data[place + length:],
                    data[:place] + bytes(length) + data[place + length:], data + inserted,
                    data[:place] + data[-place:] + data[place:], data[:place] + b"9" + data[place + 1:])


def test_fuzzed_files_are_refused_or_do_not_matter(directory):
    chance, refusals = random.Random(0), 0
    for name in FILES:
        file = directory / "step-30" / name
        data = file.read_bytes()
        for _, damaged in zip(range(FUZZED // len(FILES)), mutations(data, chance)):
            file.write_bytes(damaged)
            try:
                assert holds(checkpoints.load(directory, 30), 30), f"silently different: {name} as {damaged!r}"
            except CheckpointDamaged as error:
                assert f"step-30/{name} cannot be used: " in str(error) and "take another step" in str(error)
                refusals += 1
        file.write_bytes(data)
    print(f"{FUZZED} fuzzed files: {refusals} refused, 0 silently different")
    assert refusals > FUZZED * 0.9 and holds(checkpoints.load(directory), 30)


def test_latest_is_a_hint(directory):
    for text in ("", "step-", "step-5", "step-30", "x" * 100_000, "step-٣", "../step-3", "step-030", "\0", "step--3"):
        (directory / "LATEST").write_text(text)
        assert holds(checkpoints.load(directory), 30)
    (directory / "LATEST").unlink()
    assert holds(checkpoints.load(directory), 30)
    (directory / "LATEST").symlink_to("/dev/zero")
    assert holds(checkpoints.load(directory), 30)


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_and_every_flipped_bit(directory, name):
    file = directory / "step-30" / name
    data = file.read_bytes()
    damaged = [data[:length] for length in range(0, len(data) - 1, max(1, len(data) // 150))]
    for percent in range(100):
        place = len(data) * percent // 100
        damaged.append(data[:place] + bytes([data[place] ^ 1 << percent % 8]) + data[place + 1:])
    for bad in damaged:
        file.write_bytes(bad)
        if name == "manifest.json" and bad.split() == data.split():             # one space for another
            assert holds(checkpoints.load(directory), 30)
        else:
            refused(directory, f"step-30/{name} cannot be used: ", "--resume auto")


def rewrite(folder, **changes):
    """Another manifest for a folder, and its arrays or meta where these are among the changes; sizes and sums fit."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    if (arrays := changes.pop("arrays", None)) is not None:
        (folder / "arrays.safetensors").write_bytes(arrays)
        manifest["bytes"] = len(arrays)
    if (meta := changes.pop("meta", None)) is not None:
        (folder / "meta.json").write_bytes(meta)
        manifest["meta"] = hashlib.sha256(meta).hexdigest()
    manifest = {name: value for name, value in (manifest | changes).items() if name != "seal"}
    seal = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest | {"seal": seal}))


def test_the_line_says_what_is_wrong(directory):
    folder = directory / "step-30"
    good = json.loads((folder / "manifest.json").read_bytes())
    tensors = good["tensors"]
    wrong = {"sha256": "0" * 64, "shape": [5, 7], "dtype": "int32"}
    for part, value in wrong.items():
        rewrite(folder, tensors=tensors | {"model/w": tensors["model/w"] | {part: value}})
        refused(directory, "step-30/arrays.safetensors", f"tensor 'model/w' is not what was saved: other {part};")
    rewrite(folder, tensors=tensors | {"model/w": wrong})
    refused(directory, "tensor 'model/w' is not what was saved: other dtype, shape, sha256")
    rewrite(folder, tensors=tensors | {"more": tensors["m"]})
    refused(directory, "tensor 'more' is missing")
    rewrite(folder, tensors={name: entry for name, entry in tensors.items() if name != "m"})
    refused(directory, "tensor 'm' was never saved")
    rewrite(folder, tensors=tensors, format=2)
    refused(directory, "step-30/manifest.json", "need format 1, got 2")
    rewrite(folder, format=1, step=31)
    refused(directory, "step-30/manifest.json", "belongs to step 31")
    for changes in ({"bytes": "9"}, {"bytes": None}, {"bytes": True}, {"tensors": []}, {"tensors": None}):
        rewrite(folder, **(good | changes | {"meta": None}))
        refused(directory, "step-30/manifest.json", "it is no manifest")
    for text in ("[]", "7", "null", '"format"'):
        (folder / "manifest.json").write_text(text)
        refused(directory, "step-30/manifest.json", "it is no manifest")
    (folder / "manifest.json").write_text(json.dumps(good))
    assert holds(checkpoints.load(directory), 30)
    data = (folder / "arrays.safetensors").read_bytes()
    (folder / "arrays.safetensors").write_bytes(data[:-5])
    refused(directory, "step-30/arrays.safetensors", f"it has {len(data) - 5} bytes, and {len(data)} were saved")
    (folder / "arrays.safetensors").write_bytes(data + b"more")
    refused(directory, f"it has {len(data) + 4} bytes, and at most {len(data)} belong there")
    (folder / "arrays.safetensors").unlink()
    refused(directory, "step-30/arrays.safetensors", "No such file")


def test_links_are_not_followed(directory, tmp_path):
    for name in FILES:
        file = directory / "step-30" / name
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
        refused(directory, f"step-30/{name}", "symbolic link")
        file.unlink()
        (tmp_path / "elsewhere").rename(file)
    (directory / "step-30").rename(tmp_path / "elsewhere")
    (directory / "step-30").symlink_to(tmp_path / "elsewhere")
    refused(directory, "step-30", "symbolic link")
    for name in ("step-40.tmp", "LATEST.tmp"):
        (directory / name).symlink_to(tmp_path / "elsewhere")
    (directory / "step-5").symlink_to(tmp_path / "elsewhere")
    checkpoints.save(directory, 40, *state(40))
    checkpoints.prune(directory)
    assert sorted(os.listdir(directory)) == ["LATEST", "step-20", "step-30", "step-40"]
    assert sorted(os.listdir(tmp_path / "elsewhere")) == sorted(FILES)


# ---------------------------------------------------------------- bombs

class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def test_nothing_is_unpickled(directory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Bomb()))
    assert Path("exploded").exists()
    Path("exploded").unlink()
    np.savez("bomb.npz", bomb=np.array([Bomb()], object))
    for data in (pickle.dumps(Bomb()), pickle.dumps(Bomb(), 0), Path("bomb.npz").read_bytes()):
        rewrite(directory / "step-30", arrays=data)
        refused(directory, "step-30/arrays.safetensors")
        rewrite(directory / "step-20", meta=data)
        refused(directory, "step-20/meta.json", step=20)
    assert not Path("exploded").exists()


def header(text, length=None, data=b""):
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def many_tensors(count):
    entries = (b'"%x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % i for i in range(count))
    return header(b"{" + b",".join(entries) + b"}")


def one_tensor(shape, end):
    return header(json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}).encode())


BOMBS = {
    "longest header": lambda f: rewrite(f, arrays=header(b"{}", 2**64 - 1)),
    "long header": lambda f: rewrite(f, arrays=header(b"{}", 2**27)),
    "header of 18 MiB": lambda f: rewrite(f, arrays=many_tensors(320_000)),
    "header of 4 MiB": lambda f: rewrite(f, arrays=many_tensors(74_000)),
    "deep header": lambda f: rewrite(f, arrays=header(b"[" * 10**6)),
    "vast shape": lambda f: rewrite(f, arrays=one_tensor([2**40], 2**42)),
    "shape that overflows": lambda f: rewrite(f, arrays=one_tensor([2**32, 2**32, 2**32], 0)),
    "dtype of another library": lambda f: rewrite(f, arrays=header(
        b'{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}', data=b"ab")),
    "deep meta": lambda f: rewrite(f, meta=b"[" * 10**5 + b"]" * 10**5),
    "wide meta": lambda f: rewrite(f, meta=b"[" + b"[]," * (disk.LIMIT // 3 - 9) + b"9" * 30 + b"]"),
    "long number": lambda f: rewrite(f, meta=b"9" * 10**6),
    "big meta": lambda f: os.truncate(f / "meta.json", 10**12),
    "big manifest": lambda f: os.truncate(f / "manifest.json", 10**12),
    "deep manifest": lambda f: (f / "manifest.json").write_bytes(b'{"a":' * 10**5),
    "big arrays": lambda f: os.truncate(f / "arrays.safetensors", 10**12),
    "pipe": lambda f: ((f / "meta.json").unlink(), os.mkfifo(f / "meta.json")),
    "folder": lambda f: ((f / "meta.json").unlink(), (f / "meta.json").mkdir()),
}
LOAD_EACH = """
import json, sys, time
from tinydistill.training import checkpoints

def peak():
    with open("/proc/self/status") as file:
        return int(file.read().partition("VmHWM:")[2].split()[0]) / 1024

checkpoints.load(sys.argv[1], 20)
before, seconds = peak(), {}
for directory in sys.argv[1:]:
    since = time.process_time()
    try:
        checkpoints.load(directory, 30)
    except checkpoints.CheckpointDamaged:
        seconds[directory.rpartition("/")[2]] = time.process_time() - since
print(json.dumps([seconds, peak() - before]))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the memory of a process is read from /proc")
def test_bombs_are_refused_in_a_second_and_little_memory(directory, tmp_path):
    for name, plant in BOMBS.items():
        plant(shutil.copytree(directory, tmp_path / name) / "step-30")
    environment = os.environ | {"PYTHONPATH": str(Path(tinydistill.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", LOAD_EACH, *(str(tmp_path / name) for name in BOMBS)],
                          env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    seconds, mebibytes = json.loads(done.stdout)
    slowest = max(seconds, key=seconds.get)
    print(f"{len(BOMBS)} bombs: at most {seconds[slowest]:.2f} s ({slowest}) and {mebibytes:.0f} MiB")
    assert seconds.keys() == BOMBS.keys() and seconds[slowest] < 1 and mebibytes < 200
