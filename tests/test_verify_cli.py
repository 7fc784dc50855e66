"""`tinydistill verify` as somebody types it: what it prints, its exit codes, and one line for what cannot be."""

import json
import xml.etree.ElementTree as xml
from pathlib import Path

import numpy as np
import pytest

from tinydistill.cli import main
from tinydistill_reference import cli as kit, store, verify
from tinydistill_reference.examples import kd_numpy

EXAMPLES = Path(kd_numpy.__file__).parent
KD = ("--impl", f"{EXAMPLES / 'kd_numpy.py'}:kd", "--equation", "soft_labels.classes")
NO_T2 = ("--impl", f"{EXAMPLES / 'kd_torch_no_t2.py'}:kd", "--as", "torch", "--equation", "soft_labels.classes")


def run(capsys, *arguments):
    """(exit code, stdout, stderr)."""
    code = main(["verify", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_a_right_loss_passes_and_what_was_asked_for_is_written(capsys, tmp_path):
    files = {kind: tmp_path / f"out.{kind}" for kind in ("json", "junit", "html")}
    code, out, _ = run(capsys, *KD, *(x for kind, path in files.items() for x in (f"--{kind}", path)))
    assert code == 0 and out.startswith("PASS soft_labels.classes  float32  9 of 9 cases")
    assert json.loads(files["json"].read_text())["counts"]["pass"] == 1
    assert len(xml.parse(files["junit"]).findall(".//testcase")) == len(store.load("soft_labels.classes"))
    assert files["html"].read_text().startswith("<!DOCTYPE html>")


def test_a_forgotten_t_squared_is_named(capsys):
    code, out, _ = run(capsys, *NO_T2)
    assert code == 1 and "the factor T^2 is missing" in out and "known trap `no_T2`" in out


def test_a_convention_that_is_declared_passes(capsys):
    assert run(capsys, *NO_T2, "--convention", "torchdistill")[0] == 0
    assert run(capsys, *NO_T2, "--convention", "any")[0] == 0
    assert run(capsys, *NO_T2, "--convention", "divisor=row,T2=off")[0] == 0
    assert run(capsys, *NO_T2, "--convention", "pkd")[0] == 1


def test_a_gradient_of_the_teacher_is_noted_and_fails_with_strict(capsys, tmp_path):
    (tmp_path / "leaky.py").write_text("""
from torch.nn.functional import kl_div, log_softmax


def kd(student, teacher, temperature):
    if not temperature > 0 or student.shape != teacher.shape:
        raise ValueError("need a temperature above 0 and logits of one shape")
    log_q, log_p = (log_softmax(z / temperature, -1) for z in (student, teacher))
    return kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature ** 2
""")
    leaky = ("--impl", f"{tmp_path / 'leaky.py'}:kd", "--as", "torch", "--equation", "soft_labels.classes")
    code, out, _ = run(capsys, *leaky)
    assert code == 0 and "teacher_logits got a gradient" in out
    code, out, _ = run(capsys, *leaky, "--strict")
    assert code == 1 and "`teacher_grad`" in out


def test_an_equation_that_nobody_names_is_found(capsys):
    code, out, _ = run(capsys, *KD[:2])
    assert code == 0 and "PASS soft_labels.classes" in out


def test_nothing_to_test_is_3(capsys, tmp_path):
    (tmp_path / "none.py").write_text("def loss(student_logits, teacher_logits, temperature):\n    return NotImplemented\n")
    assert run(capsys, "--impl", f"{tmp_path / 'none.py'}:loss", "--equation", "soft_labels.classes")[0] == 3


def test_lists_and_explanations(capsys):
    listed = json.loads(run(capsys, "--list", "--json")[1])
    assert [row["equation"] for row in listed] == store.names() and all(row["cases"] for row in listed)
    assert "known mistakes:" in run(capsys, "--explain", "minilm.attention")[1]
    code, out, _ = run(capsys, "--explain", "minilm.attention/02")
    assert code == 0 and "finds no_mask" in out and "kappa" in out
    assert run(capsys, "--list")[1].count("\n") == len(listed) + 1


def test_exported_numbers_are_the_stored_ones_to_the_bit(capsys, tmp_path):
    assert run(capsys, "--export", "json", "--equation", "gelu", "--output", tmp_path)[0] == 0
    document, stored = json.loads((tmp_path / "gelu.json").read_text()), store.load("gelu")
    for row, s in zip(document["cases"], stored, strict=True):
        for name, x in s.truths["paper"].expect.items():
            plain = row["expect"]["paper"][name]
            assert (np.array([float.fromhex(v) for v in plain["data"]]).reshape(plain["shape"]) == x).all()


def test_the_selftest_of_some_equations(capsys):
    code, out, _ = run(capsys, "--selftest", "--equation", "soft_labels.classes", "gelu", "--json")
    found = json.loads(out)
    assert code == 0 and found["passed"] and found["mistakes"] == 24 and not found["unfound"] + found["unnamed"]


def test_from_python():
    assert verify.check(kd_numpy.kd, "soft_labels.classes").passed
    with pytest.raises(AssertionError, match=r"(?s)FAIL soft_labels\.classes.*T_not_T2"):
        verify.check(lambda student, teacher, temperature: kd_numpy.kd(student, teacher, temperature, 1.0)[0]
                     / temperature, "soft_labels.classes").raise_if_failed()
    with pytest.raises(ValueError, match=r"need an equation out of .*; got 'softlabels'"):
        verify.check(kd_numpy.kd, "softlabels")


@verify.cases("soft_labels.classes", dtype="float64", errors=True)
def test_case_by_case(case):
    case.check(kd_numpy.kd)


@pytest.mark.parametrize("arguments, says", [
    ((), "need one of --impl, --list, --explain, --selftest, --export, --dump; got none"),
    (("--list", "--selftest"), "got --list and --selftest"),
    (("--impl", "nofile.py:kd"), "nofile.py"),
    ((*KD[:3], "soft_labels"), "need an equation out of"),
    ((*KD, "--convention", "papers"), "need a convention out of"),
    ((*KD, "--convention", "divisor=rows"), "need divisor out of sequence, row, element, none; got rows"),
    ((*KD, "--convention", "reduce=row"), "need settings out of constant, divisor, temperature_squared; got reduce"),
    ((*KD, "--xfail", "nofile"), "nofile: No such file or directory"),
    ((*KD, "--json", "nofolder/out.json"), "nofolder/out.json: No such file or directory"),
    ((*KD, "--vectors", "v9"), "need a version of the vectors out of v1; got v9"),
    (("--explain", "gelu/99"), "need a case out of 01-grid"),
    (("--export", "json", "--equation", "nothing"), "need an equation out of"),
    (("--dump", "nofile.npz"), ""),
    (("--checkpoint", "here"), "need both --checkpoint DIR and --against DIR_OR_FILE")])
def test_what_cannot_be_gets_one_line_and_2(capsys, arguments, says):
    code, _, err = run(capsys, *arguments)
    assert code == 2 and says in err and err.count("\n") <= 1


def test_the_kit_alone_says_the_same(capsys):
    assert kit.main(["--explain", "gelu/99"]) == 2
    assert capsys.readouterr().err.startswith("verify: need a case out of")
    assert kit.main([*KD]) == 0
