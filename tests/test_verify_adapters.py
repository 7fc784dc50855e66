"""Losses in PyTorch, JAX, NumPy, JavaScript and C++ reach the conformance kit: right ones pass, wrong ones fail."""

import functools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from oracle import verify_torch
from tinydistill_reference import store
from tinydistill_reference.adapters import adapt
from tinydistill_reference.equation import Case, Equation, equations
from tinydistill_reference.runner import run
from tinydistill_reference.truth import live

EXAMPLES = Path(store.__file__).parent / "examples"
KD = "soft_labels.classes"
WIDE = ("float64", "float32")
ALL = (*WIDE, "float16", "bfloat16")


def checked(kind, target, equation=KD, dtype="float64", stored=None):
    known = equations()[equation] if isinstance(equation, str) else equation
    return run(known, adapt(kind, target), dtype, stored=stored, strict=True)


def everything_passes(result, refused=2):
    assert result.status == "passed" and result.untested == (), [(o.id, o.words) for o in result.of("failed")]
    assert len(result.of("passed")) >= 7 and len(result.of("refused")) == refused
    assert not any(o.words for o in result.of("refused"))
    return True


def wrong_tensors(result):
    return {c.name for o in result.of("failed") for c in o.comparisons["paper"] if not c.passed}


# ---------------------------------------------------------------- the examples

@pytest.mark.parametrize("dtype", ALL)
def test_the_example_in_pytorch_passes(dtype):
    result = checked("torch", f"{EXAMPLES / 'kd_torch.py'}:kd", dtype=dtype)
    assert everything_passes(result)
    assert result.bound == "kd(student=student_logits, teacher=teacher_logits, T=temperature)"


def test_the_example_that_forgets_the_square_fails_where_the_temperature_is_not_one():
    result = checked("torch", "tinydistill_reference.examples.kd_torch_no_t2:kd")
    assert [o.id for o in result.of("failed")] == ["03-T-0.5", "05-T-3", "09-sure"]
    assert wrong_tensors(result) == {"value", "dstudent_logits"} and result.follows == "torchdistill"


@pytest.mark.parametrize("dtype", ALL[:3])
def test_the_example_in_numpy_passes(dtype):
    assert everything_passes(checked("numpy", f"{EXAMPLES / 'kd_numpy.py'}:kd", dtype=dtype))


def test_numpy_has_no_bfloat16():
    assert checked("numpy", f"{EXAMPLES / 'kd_numpy.py'}:kd", dtype="bfloat16").status == "nothing"


@pytest.mark.parametrize("dtype", ALL)
def test_the_example_in_jax_passes(dtype):
    pytest.importorskip("jax", reason="JAX is not installed")
    assert everything_passes(checked("jax", f"{EXAMPLES / 'kd_jax.py'}:kd", dtype=dtype))


def test_the_example_in_javascript_passes():
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    result = checked("command", f"node {EXAMPLES / 'kd.js'}")
    assert everything_passes(result) and result.bound == f"node {EXAMPLES / 'kd.js'} FOLDER"


def test_the_example_in_cpp_passes(tmp_path):
    if not shutil.which("g++"):
        pytest.skip("g++ is not installed")
    subprocess.run(["g++", "-Wall", "-Werror", "-o", tmp_path / "kd", EXAMPLES / "kd.cpp"], check=True)
    assert everything_passes(checked("command", str(tmp_path / "kd"), dtype="float32"))
    other = checked("command", str(tmp_path / "kd"), "soft_labels.logits_mse")
    assert other.status == "nothing" and {o.status for o in other.outcomes} == {"skipped"}


def test_the_examples_are_short():
    lengths = {p.name: len(p.read_text(encoding="utf-8").splitlines()) for p in EXAMPLES.glob("kd*")}
    assert lengths.keys() == {"kd.js", "kd.cpp", "kd_torch.py", "kd_torch_no_t2.py", "kd_numpy.py", "kd_jax.py"}
    assert max(lengths.values()) <= 60 and lengths["kd_torch.py"] <= 15


# ---------------------------------------------------------------- PyTorch

@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("name", ["in_place", "Kd", "INSTANCE", "ByHand"])
def test_functions_modules_and_hand_written_backwards_pass(name, dtype):
    result = checked("torch", f"oracle.verify_torch:{name}", dtype=dtype)
    assert result.status == "passed" and result.untested == ()
    assert result.bound.startswith({"INSTANCE": "Kd"}.get(name, name) + "(")


@pytest.mark.parametrize("dtype", ALL)
def test_a_function_of_tokens_gets_its_mask(dtype):
    result = checked("torch", verify_torch.tokens, "soft_labels.tokens", dtype)
    assert everything_passes(result, refused=3)
    assert result.bound == ("tokens(logits_S=student_logits, logits_T=teacher_logits, attention_mask=mask, "
                            "tau=temperature)")


@pytest.mark.parametrize("dtype", WIDE)
def test_a_function_of_many_inputs_passes(dtype):
    result = checked("torch", verify_torch.minilm, "minilm.attention", dtype)
    assert not result.of("failed") and len(result.of("passed")) >= 5
    assert result.bound == "minilm(q=student_queries, k=student_keys, tq=teacher_queries, tk=teacher_keys, mask=mask)"


@pytest.mark.parametrize("name, tensors", [
    ("reverse", {"value", "dstudent_logits"}), ("not_reduced", {"value", "dstudent_logits"}),
    ("ForgetsUpstream", {"dstudent_logits"}), ("detached", {"dstudent_logits"}),
    ("teacher_learns", {"dteacher_logits"})])
@pytest.mark.parametrize("dtype", WIDE)
def test_wrong_functions_fail_in_what_is_wrong(name, tensors, dtype):
    result = checked("torch", getattr(verify_torch, name), dtype=dtype)
    assert result.status == "failed" and wrong_tensors(result) == tensors
    assert not any(o.words for o in result.of("failed")), "nothing of them raises"


def test_a_result_without_a_graph_is_a_value_whose_gradient_is_not_tested():
    result = checked("torch", verify_torch.number)
    assert result.status == "passed" and result.untested == ("dstudent_logits",)


def test_a_function_without_a_mask_gets_cases_without_padding():
    call = adapt("torch", verify_torch.without_a_mask)
    result = run(equations()["soft_labels.tokens"], call)
    ran = [o.stored.case for o in result.outcomes if o.status != "skipped"]
    assert not result.of("failed") and all(case.inputs["mask"].all() for case in ran)
    assert "01-plain" in {case.id for case in ran}
    assert call.untaken == "no mask: cases with padding are not run; no labels"


def test_a_function_without_a_temperature_gets_cases_at_the_default():
    call = adapt("torch", verify_torch.without_a_temperature)
    result = run(equations()[KD], call)
    assert {o.id for o in result.of("skipped")} == {"03-T-0.5", "05-T-3", "06-equal", "09-sure", "20-no-temperature"}
    assert not result.of("failed") and call.untaken == "no temperature: cases at another than 1 are not run"


def test_a_module_is_not_changed():
    module = verify_torch.Kd()
    assert checked("torch", module, dtype="float16").status == "passed"
    assert str(module.weight.dtype) == "torch.float32"


# ---------------------------------------------------------------- several outputs

def _halves(x):
    largest = np.asarray(int(np.argmax(x.real)))
    return {"sum": x.sum(), "square": x[:1] ** 2, "largest": largest}


def _halves_gradient(upstream, x):
    dx = np.full_like(x, upstream["sum"])
    dx[:1] += 2 * x[:1] * upstream["square"]
    return {"x": dx}


def halves_by_hand(x, upstream):
    return tuple(_halves(x).values()), _halves_gradient(upstream, x)


HALVES = Equation("halves", "none", "none", "sum x, x_1^2, argmax x", _halves, _halves_gradient, {"x": "(N,)"}, ("x",),
                  lambda numbers: (), outputs=("sum", "square", "largest"))


@functools.cache
def stored_halves():
    case = Case("01-three", "three outputs", {"x": np.array([0.5, -2.0, 0.25])},
                upstream={"sum": np.asarray(-2.5), "square": np.array([3.0])})
    return [store.Stored(case, {"paper": live(HALVES, case, {})}, ())]


@pytest.mark.parametrize("kind, target", [("torch", verify_torch.halves), ("torch", verify_torch.named_halves),
                                          ("numpy", halves_by_hand), ("numpy", _halves)])
def test_several_outputs_come_as_a_tuple_or_a_dict(kind, target):
    result = checked(kind, target, HALVES, stored=stored_halves())
    assert [o.status for o in result.outcomes] == ["passed"], result.outcomes
    assert result.untested == (("dx",) if target is _halves else ())


def test_several_outputs_of_jax():
    jnp = pytest.importorskip("jax.numpy", reason="JAX is not installed")
    result = checked("jax", lambda x: (x.sum(), x[:1] ** 2, jnp.argmax(x)), HALVES, stored=stored_halves())
    assert [o.status for o in result.outcomes] == ["passed"], result.outcomes


@pytest.mark.parametrize("target, words", [(lambda x: x.sum(), "returned 1 results: need 3"),
                                           (lambda x: {"sum": x.sum()}, "returned sum: need square, largest"),
                                           (lambda x: (_halves(x), {"y": x}), "gradients of y: need those of x"),
                                           (lambda x: (_halves(x), (x, x)), "returned 2 gradients: need 1"),
                                           (lambda x: (_halves(x), (x,)), "need the parameter upstream")])
def test_answers_that_cannot_be_read_say_what_is_needed(target, words):
    outcome, = checked("numpy", target, HALVES, stored=stored_halves()).outcomes
    assert outcome.status == "failed" and words in outcome.words


def test_a_list_of_numbers_is_one_output():
    result = checked("numpy", lambda student_layers, teacher_layers: [
        [i, (i + 1) * (teacher_layers // student_layers) - 1] for i in range(student_layers)], "layer_map.uniform")
    assert result.outcomes[0].got["pairs"].shape == (6, 2)


# ---------------------------------------------------------------- NumPy

def _kd(student, teacher, T, forgets=False):
    from tinydistill_reference.soft_labels import soft_labels, soft_labels_gradient
    value = soft_labels(student, teacher, temperature=T)
    return value, soft_labels_gradient(1.0, student, teacher, temperature=T)["student_logits"] * (1.1 if forgets else 1)


@pytest.mark.parametrize("shape_of_gradients", [lambda g: g, lambda g: (g,), lambda g: {"student": g},
                                                lambda g: {"student_logits": g}, lambda g: {"dstudent_logits": g}])
def test_gradients_in_numpy_come_in_any_order_of_words(shape_of_gradients):
    def kd(student, teacher, T):
        value, gradient = _kd(student, teacher, T)
        return value, shape_of_gradients(gradient)
    result = checked("numpy", kd)
    assert result.status == "passed" and result.untested == ()


def test_a_value_alone_is_tested_alone_and_a_wrong_gradient_is_seen():
    assert checked("numpy", lambda student, teacher, T: _kd(student, teacher, T)[0]).untested == ("dstudent_logits",)
    wrong = checked("numpy", lambda student, teacher, T: _kd(student, teacher, T, forgets=True))
    assert wrong_tensors(wrong) == {"dstudent_logits"}
