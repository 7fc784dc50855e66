"""What a person names is found, or said not to be there; programs are called, understood, and ended."""

import json
import sys
import time

import numpy as np
import pytest

from tinydistill_reference import store
from tinydistill_reference.adapters import TargetError, adapt, command
from tinydistill_reference.equation import equations
from tinydistill_reference.runner import run

KD = "soft_labels.classes"


# ---------------------------------------------------------------- targets

def test_a_module_and_a_file_of_the_current_folder_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "helps_my_loss.py").write_text("from tinydistill_reference.soft_labels import soft_labels as kd\n")
    (tmp_path / "my_loss.py").write_text("import helps_my_loss\nkd = helps_my_loss.kd\n")
    for target in ("my_loss.py:kd", f"{tmp_path}/my_loss.py:kd", "my_loss:kd", "helps_my_loss:kd"):
        assert run(equations()[KD], adapt("numpy", target)).untested == ("dstudent_logits",)


@pytest.mark.parametrize("kind, target, words", [
    ("keras", "a:b", "need one of torch, jax, numpy, command, got 'keras'"),
    ("numpy", "kd", 'need "package.module:function" or "file.py:function"'),
    ("numpy", "nowhere.py:kd", "no file nowhere.py"),
    ("numpy", "nowhere.losses:kd", "no module nowhere, neither installed nor in"),
    ("numpy", "numpy:nothing.there", "numpy has no nothing.there"),
    ("torch", "math:pi", "need a function, got 'math:pi'"), ("numpy", 3, "need a function, got 3"),
    ("torch", "oracle.verify_torch:NeedsArguments", "NeedsArguments is not made without arguments: name an instance"),
    ("command", "no-such-program --fast", "no program no-such-program"), ("command", " ", "need a command")])
def test_targets_that_are_not_there_say_so(kind, target, words):
    with pytest.raises(TargetError, match=words.replace(".", r"\.")):
        adapt(kind, target)


@pytest.mark.parametrize("kind", ["torch", "jax"])
def test_a_library_that_is_missing_is_named(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(TargetError, match=f"{kind} is not installed: pip install {kind}"):
        adapt(kind, "my_loss:kd")


def test_what_a_module_imports_in_vain_is_its_own_error(tmp_path):
    (tmp_path / "imports.py").write_text("import not_there_at_all\n")
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        adapt("numpy", f"{tmp_path}/imports.py:kd")


# ---------------------------------------------------------------- programs

def program(*lines):
    """A program in Python without its libraries, which starts quickly."""
    return [sys.executable, "-I", "-S", "-c", "\n".join(("import json, os, sys, time; folder = sys.argv[1]", *lines))]


def one_case(words, **settings):
    stored = store.load(KD)
    outcome, = run(equations()[KD], command.adapt(words, **settings), stored=[stored[0]]).outcomes
    return outcome


def answers(text):
    return program(f"open(folder + '/outputs.json', 'w').write({text!r})")


@pytest.mark.parametrize("words, status, told", [
    (program("sys.exit(3)"), "skipped", ""),
    (program("sys.exit('need a temperature')"), "failed", "need a temperature (exit code 1)"),
    (program("raise ValueError('no')"), "failed", "ValueError: no (exit code 1)"),
    (program("sys.exit('Error: no\\n    at f (x.js:1)\\n\\nNode.js v20')"), "failed", "Error: no (exit code 1)"),
    (program("os.abort()"), "failed", "it does not say why (signal 6)"),
    (program("pass"), "failed", "the program wrote neither outputs.json nor outputs.safetensors"),
    (answers("{"), "failed", "outputs.json is no JSON"), (answers("[1]"), "failed", "need an object"),
    (answers('{"value": [[1], [2, 3]]}'), "failed", "value is no tensor"),
    (answers('{"value": {"shape": [2], "data": [1]}}'), "failed", "value is no tensor"),
    (answers('{"value": null}'), "failed", "")])
def test_what_a_program_may_do_wrong_is_told(words, status, told):
    outcome = one_case(words)
    assert outcome.status == status and told in outcome.words


def test_null_is_nan_and_lists_are_tensors():
    got = one_case(answers('{"value": null, "dstudent_logits": [[1, 2], [3, 4]]}')).got
    assert np.isnan(got["value"]) and np.array_equal(got["dstudent_logits"], [[1, 2], [3, 4]])


def test_a_program_that_does_not_end_is_ended_with_what_it_started(tmp_path):
    child = f"import time; time.sleep(0.6); open({str(tmp_path / 'late')!r}, 'w')"
    outcome = one_case(program(f"import subprocess; subprocess.run([sys.executable, '-c', {child!r}])"), seconds=0.4)
    assert outcome.status == "failed" and "no answer within 0.4 seconds" in outcome.words
    time.sleep(0.8)
    assert not (tmp_path / "late").exists()


def test_a_command_is_not_read_by_a_shell(tmp_path):
    code = "import sys; sys.exit(sys.argv[1:-1] != [\";\", \"$HOME\"])"
    call = adapt("command", f"{sys.executable} -c '{code}' ';' '$HOME'")
    with pytest.raises(command.CommandError, match="neither outputs.json"):
        call(KD, {}, {}, (), 1.0, "float64")


def test_a_request_holds_everything_and_safetensors_are_an_answer(tmp_path):
    case = next(s.case for s in store.load("soft_labels.tokens") if s.case.id == "05-T-3")
    inputs = case.inputs | {"scores": np.array([-np.inf, np.nan])}
    command.write_request(tmp_path, "soft_labels.tokens", case.attrs, inputs, ("student_logits",), {"value": -2.5},
                          "float32")
    text = (tmp_path / "request.json").read_text(encoding="utf-8")
    request = json.loads(text)
    assert {"equation", "dtype", "attrs", "inputs", "gradients", "upstream"} == request.keys()
    assert request["dtype"] == "float32" and request["attrs"] == {"temperature": 3.0}
    assert request["upstream"] == {"value": {"dtype": "float64", "shape": [], "data": [-2.5]}}
    assert all(text.count(f'"{name}":') == 1 for name in (*inputs, "value", "temperature"))
    assert request["inputs"]["scores"]["data"] == [-np.inf, None] and "-1e999" in text
    for name, x in case.inputs.items():
        given = request["inputs"][name]
        assert given["dtype"] == str(x.dtype) and given["shape"] == list(x.shape)
        assert np.array_equal(np.array(given["data"]).reshape(x.shape), x)
    (tmp_path / "inputs.safetensors").rename(tmp_path / "outputs.safetensors")
    answer = command.read_answer(tmp_path)
    assert all(np.array_equal(answer[name], x, equal_nan=name == "scores") for name, x in inputs.items())
