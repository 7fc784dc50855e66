"""The demo's whole path at toy size: on NumPy, and on the stand-in for CuPy."""

import json
import math

import pytest
from strict_device import installed

from tinydistill import cli, hub
from tinydistill.commands import demo, demo_models


@pytest.fixture
def toy(monkeypatch):
    """The same demo with a handful of steps and rows."""
    monkeypatch.setattr(demo_models, "TEACHER_SIZE", "1x16x2")
    monkeypatch.setattr(demo_models, "TEACHER_STEPS", 4)
    monkeypatch.setattr(demo_models, "STUDENT_STEPS", 3)
    monkeypatch.setattr(demo, "SEEDS", 2)
    monkeypatch.setattr(demo, "EPOCHS", 1)
    whole = demo_models.material
    monkeypatch.setattr(demo_models, "material", lambda: cut(whole()))
    load = demo.tasks.get("stdlib-replaced").load
    small = {split: few(examples) for split, examples in load().items()}
    for task in demo.tasks.TASKS.values():
        monkeypatch.setitem(vars(task), "load", lambda: small)


def few(examples):
    object.__setattr__(examples, "texts", examples.texts[:24])
    return examples


def cut(material):
    return demo_models.Material(material.tokenizer, material.corpus[:200], material.unseen[:40])


# The students' widths stay 128 and 64, with two heads for the toy teacher's two.
SIZES = {"2x128x4": "2x32x2", "2x64x4": "1x8x2", "1x16x2": "1x16x2"}


@pytest.fixture
def small_students(monkeypatch):
    parse = demo_models.parse
    monkeypatch.setattr(demo_models, "parse", lambda size: parse(SIZES.get(size, size)))


def names(directory):
    return {path.name for path in directory.iterdir() if path.is_dir()} - {"scores"}


def test_the_demo_and_its_second_call(toy, small_students, capsys, tmp_path):
    assert cli.main(["demo", "--output", str(tmp_path / "run"), "--quiet", "--json", "--threads", "1"]) == 0
    result = json.loads(capsys.readouterr().out)
    rows = result["tasks"]["stdlib-replaced"]["rows"]
    assert [row["model"] for row in rows] == ["teacher 4x128", "MiniLM 2x128", "MLM 2x128", "random 2x128",
                                              "MiniLM 2x64"]
    for row in rows:
        assert 0 < row["auc"] < 1 and row["tokens a second"] > 0
        assert ("difference" in row) == (row["model"] != "MLM 2x128")
        assert "difference" not in row or row["low"] <= row["difference"] <= row["high"]
    students = {row["model"]: row for row in result["fidelity"][1:]}
    assert all(row["attention KL"] > 0 and math.isfinite(row["value KL"]) for row in students.values())
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 3 + 3 and "head 2" in page             # three losses, three models
    assert names(tmp_path / "run") == {"teacher 4x128", "MiniLM 2x128", "MLM 2x128", "MiniLM 2x64"}

    before = {name: hub.fingerprint(tmp_path / "run" / name) for name in names(tmp_path / "run")}
    assert cli.main(["demo", "--output", str(tmp_path / "run"), "--quiet", "--threads", "2"]) == 0
    text = capsys.readouterr().out
    assert "MiniLM 2x64" in text and "control" in text and "report.html" in text
    assert before == {name: hub.fingerprint(tmp_path / "run" / name) for name in before}


def test_the_demo_on_the_device_learns_what_numpy_learns(toy, small_students, capsys, tmp_path):
    assert cli.main(["demo", "--output", str(tmp_path / "host"), "--quiet", "--json", "--threads", "1", "--dtype",
                     "float64"]) == 0
    host = json.loads(capsys.readouterr().out)
    with installed():
        code = cli.main(["demo", "--output", str(tmp_path / "device"), "--quiet", "--json", "--threads", "1", "--dtype",
                         "float64", "--backend", "cupy"])
    device = json.loads(capsys.readouterr().out)
    assert code == 0
    for a, b in zip(host["fidelity"][1:], device["fidelity"][1:]):
        for kind in ("attention KL", "value KL"):   # a KL of 1e-4 is a difference of logs near 1: its last 4 digits go
            assert a[kind] == pytest.approx(b[kind], rel=1e-8)


def test_equal_compute_counts_every_forward():
    """The teacher's training, then MiniLM's steps of three student forwards and one of the teacher, in MLM steps."""
    layer = 2 * 64 * (4 * 128 ** 2 + 2 * 128 * 512) + 4 * 64 ** 2 * 128
    head = 0.2 * 64 * 2 * (128 * 128 + 128 * 1000)
    teacher, student = 4600 * 16 * 3 * (4 * layer + head), 600 * 32 * (3 * 2 * layer + 4 * layer)
    assert demo_models.steps_of_equal_compute() == round((teacher + student) / (16 * 3 * (2 * layer + head)))


def test_without_a_gpu_the_demo_is_one_line(capsys, tmp_path):
    assert cli.main(["demo", "--backend", "cupy", "--output", str(tmp_path / "run"), "--quiet"]) == 1
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) == 1 and "gpu-cuda12" in err
