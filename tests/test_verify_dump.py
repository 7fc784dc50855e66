"""`verify --dump`: which loss gives a saved number, by the equations themselves and by what people get wrong."""

import io
import json
import re

import numpy as np
import pytest
import safetensors.numpy

from tinydistill_reference import dump
from tinydistill_reference.bench import Bench, precision
from tinydistill_reference.candidates import fill, layer_maps
from tinydistill_reference.equation import equations, traps
from tinydistill_reference.generate import cases_of

LOSSES = {name: e for name, e in equations().items() if e.outputs == ("value",) and "." not in "".join(e.shapes)}
KD = LOSSES["soft_labels.classes"]


@pytest.fixture
def saved(tmp_path):
    """saved(name=array, ...): the path of a .npz with these."""
    def make(**arrays):
        path = tmp_path / "dump.npz"
        np.savez(path, **arrays)
        return path
    return make


def logits(seed=0, shape=(5, 11)):
    rng = np.random.default_rng(seed)
    return {f"{side}_logits": rng.standard_normal(shape).astype(np.float32) for side in ("student", "teacher")}


def attention(seed=0):
    """Queries, keys and values of both sides, and a mask."""
    rng, mask = np.random.default_rng(seed), np.arange(7) < np.array([7, 4, 2])[:, None]
    return {f"{side}_{name}": rng.standard_normal((3, 2, 7, k)).astype(np.float32)
            for side, k in (("student", 4), ("teacher", 6)) for name in ("queries", "keys", "values")} | {"mask": mask}


def value(equation, inputs, attrs=None, convention="paper"):
    """In float64, of what the file will have."""
    inputs = {n: x.astype(np.float64) if x.dtype.kind == "f" else x for n, x in inputs.items() if n in equation.shapes}
    return float(equation.values(inputs, attrs or {}, convention)["value"])


def said(report):
    return "\n".join(dump.lines(report))


def first(report, name="loss"):
    """The equation, reading and numbers of the best match."""
    answer = next(a for a in report.answers if a.name == name)
    part, = answer.matches[0].total.parts
    return part.equation.name, part.reading, part.attrs


# ---------------------------------------------------------------- every equation

def whole_case(equation):
    """One with padding, if there is any, that a convention can be told apart by."""
    valid = [case for case in cases_of(equation) if case.result == "valid" and case.conventions is None]
    return next((c for c in valid if not np.asarray(c.inputs.get("mask", True)).all()), valid[0])


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_found_under_its_last_convention(name, saved):
    equation, case = LOSSES[name], whole_case(LOSSES[name])
    convention = list(equation.conventions)[-1]
    loss = value(equation, case.inputs, case.attrs, convention)
    report = dump.identify(saved(**case.inputs, **case.attrs, loss=loss))
    assert report.exit_code == dump.FOUND, said(report)
    answer, = report.answers
    readings = {(p.equation.name, word) for m in answer.matches for p in m.total.parts
                for word in p.reading.removeprefix("convention ").split(" = ")}
    assert (name, convention) in readings and answer.matches[0].units < 1e-3


# ---------------------------------------------------------------- numbers

def test_a_convention_and_a_temperature_are_named_from_the_number_alone(saved):
    x = logits()
    report = dump.identify(saved(**x, loss=np.float32(value(KD, x, {"temperature": 4.0}, "pkd"))))
    assert first(report) == ("soft_labels.classes", "convention pkd", {"temperature": 4.0}) and report.exit_code == 0
    assert report.answers[0].dtype == "float32" and "KLDivLoss, mean" in said(report)


def test_a_factor_of_t_squared_that_no_convention_has(saved):
    x = logits()
    report = dump.identify(saved(**x, T=3.0, loss=9 * value(KD, x, {"temperature": 3.0}, "tinybert")))
    assert "soft_labels.classes, convention tinybert but temperature_squared True, temperature 3: " in said(report)


def test_another_temperature_than_the_saved_one(saved):
    x = logits()
    report = dump.identify(saved(**x, temperature=3.0, loss=value(KD, x, {"temperature": 2.0})))
    assert first(report)[2] == {"temperature": 2.0} and "not at the saved temperature, 3" in said(report)


def test_a_sum_where_everybody_has_a_mean(saved):
    x = logits()
    report = dump.identify(saved(**x, T=2.0, loss=5 * value(KD, x, {"temperature": 2.0})))
    assert first(report)[:2] == ("soft_labels.classes", "convention paper but divisor none")


def test_several_values_and_their_total(saved):
    x = attention()
    a, v = (value(LOSSES[f"minilm.{name}"], x, convention="paddlenlp") for name in ("attention", "value_relation"))
    report = dump.identify(saved(**x, loss_attention=np.float32(a), loss_values=np.float32(v), loss=np.float32(a + v)))
    assert first(report, "loss_attention")[0] == "minilm.attention" and report.exit_code == dump.FOUND
    assert "minilm.attention, convention paddlenlp + minilm.value_relation, convention paddlenlp" in said(report)


def test_labels_and_a_teacher_with_a_weight(saved):
    x = logits() | {"labels": np.array([0, 3, 10, 2, 2])}
    hard, soft = value(LOSSES["cross_entropy"], x), value(KD, x, {"temperature": 2.0})
    report = dump.identify(saved(**x, T=2.0, loss=np.float32(0.3 * hard + 0.7 * soft)))
    assert "0.3 x cross_entropy, convention paper + 0.7 x soft_labels.classes, convention paper" in said(report)


def test_a_value_that_nothing_gives_shows_what_is_near(saved):
    report = dump.identify(saved(**logits(), T=2.0, loss=0.123))
    assert report.exit_code == dump.NOT_FOUND
    assert "loss = 0.123 (float32): no convention gives this number\n  nearest: " in said(report)


def test_values_that_are_no_numbers(saved):
    report = dump.identify(saved(**logits(), loss=np.nan))
    assert report.exit_code == dump.NOT_FOUND and "loss = nan" in said(report)


def test_a_loss_of_equal_models_is_zero_up_to_rounding(saved):
    """kappa is measured: 4 |value| would allow nothing."""
    z = 300 + logits()["student_logits"]
    report = dump.identify(saved(student_logits=z, teacher_logits=z, T=2.0, loss=np.float32(2e-7)))
    assert report.exit_code == dump.FOUND and report.answers[0].matches[0].value < 1e-12


# ---------------------------------------------------------------- mistakes, factors, gradients

@pytest.mark.parametrize("flag", ["reverse_kl", "T_not_T2"])
def test_a_known_mistake_is_named_with_its_source(flag, saved):
    trap = next(t for t in traps("soft_labels.classes") if t.flag == flag)
    x = logits()
    wide = {name: z.astype(np.float64) for name, z in x.items()}
    report = dump.identify(saved(**x, T=3.0, loss=float(trap.values(KD, wide, {"temperature": 3.0})["value"])))
    assert report.exit_code == dump.NOT_FOUND and report.answers[0].mistakes[0].mistake.flag == flag
    assert f"with the mistake `{flag}` does" in said(report) and trap.source in said(report)


def test_padding_that_was_counted(saved):
    x = attention()
    unmasked = x | {"mask": np.ones((3, 7), bool)}
    report = dump.identify(saved(**x, loss=value(LOSSES["minilm.attention"], unmasked)))
    assert report.exit_code == dump.NOT_FOUND
    assert "minilm.attention" in {m.total.parts[0].equation.name for m in report.answers[0].mistakes}, said(report)


def test_a_simple_factor_is_named(saved):
    x = logits()
    report = dump.identify(saved(**x, T=4.0, loss=value(KD, x, {"temperature": 4.0}) * np.log(2)))
    assert report.exit_code == dump.NOT_FOUND and "times ln 2, does" in said(report)


def test_gradients_are_those_of_the_loss(saved):
    x = logits()
    right = KD.everything(-2.5, {n: z.astype(np.float64) for n, z in x.items()}, {"temperature": 4.0})
    given = {**x, "T": 4.0, "loss": right["value"], "upstream": -2.5}
    gradients = {"dstudent_logits": right["dstudent_logits"], "teacher_logits_grad": np.zeros((5, 11))}
    report = dump.identify(saved(**given, **gradients))
    assert report.exit_code == dump.FOUND and "d(student_logits) is that of this loss" in said(report)

    report = dump.identify(saved(**given, grad_student_logits=right["dstudent_logits"] * 4))
    check, = report.answers[0].gradients
    assert report.exit_code == dump.NOT_FOUND and check.factor == pytest.approx(4)
    assert check.mistake.flag == "bwd_missing_1_over_T" and "got / wanted is 4 everywhere" in said(report)

    report = dump.identify(saved(**given, dteacher_logits=right["dstudent_logits"]))
    assert report.exit_code == dump.NOT_FOUND and "d(teacher_logits) is not that of this loss" in said(report)


# ---------------------------------------------------------------- layers

def hidden(count, width=6, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 3, 7, width)).astype(np.float32)


def test_layers_are_told_apart(saved):
    s, t, mask = hidden(2), hidden(4, seed=1), attention()["mask"]
    e = LOSSES["tinybert.hidden"]
    at = value(e, {"student_hidden": s[0], "teacher_hidden": t[2], "mask": mask})
    named = {f"student_hidden_{i}": x for i, x in enumerate(s)}
    named |= {"teacher_hidden_states": t, "attention_mask": mask * 1}
    report = dump.identify(saved(**named, loss=at))
    assert "tinybert.hidden, convention paper, student's [0], teacher's [2]" in said(report)
    assert report.saved.names["student_hidden"] == "student_hidden_0 to student_hidden_1"

    summed = sum(value(e, {"student_hidden": s[i], "teacher_hidden": t[j], "mask": mask}) for i, j in ((0, 1), (1, 3)))
    report = dump.identify(saved(**named, loss=summed))
    assert "sum over layers 0-1, 1-3 (uniform)" in said(report) and report.exit_code == dump.FOUND


def test_ways_to_put_layers_side_by_side():
    maps = layer_maps(3, 5)
    assert maps["same"] == [(0, 0), (1, 1), (2, 2)] and maps["last"] == [(0, 2), (1, 3), (2, 4)]
    assert maps["uniform behind the first"] == [(1, 2), (2, 4)] and "uniform" not in maps
    assert layer_maps(2, 4)["uniform"] == [(0, 1), (1, 3)]


def test_scores_are_made_of_queries_and_keys(saved):
    x = attention()
    scores = {f"{side}_scores": x[f"{side}_queries"] @ x[f"{side}_keys"].swapaxes(2, 3) / np.sqrt(k)
              for side, k in (("student", 4), ("teacher", 6))}
    report = dump.identify(saved(**x, loss=value(LOSSES["tinybert.attention"], scores | {"mask": x["mask"]})))
    assert first(report)[0] == "tinybert.attention" and "student_scores are those of" in said(report)


# ---------------------------------------------------------------- files and names

def test_safetensors_and_json(tmp_path, capsys):
    x = {f"{name[0]}_logits": z for name, z in logits().items()}
    full = {f"{'student' if n[0] == 's' else 'teacher'}_logits": z for n, z in x.items()}
    path, copy = tmp_path / "dump.safetensors", tmp_path / "out.json"
    loss = np.float32(value(KD, full, {"temperature": 2.0}))
    path.write_bytes(safetensors.numpy.save(x | {"tau": np.array(2.0), "kd_loss": np.array(loss)}))
    assert dump.main(path, "-") == 0
    document = json.loads(capsys.readouterr().out)
    match = document["values"]["kd_loss"]["matches"][0]
    assert match["parts"][0]["equation"] == "soft_labels.classes" and document["read"]["student_logits"] == "s_logits"
    out = io.StringIO()
    assert dump.main(path, copy, out) == 0
    assert out.getvalue().startswith(f"{path}: ") and json.loads(copy.read_text()) == document


@pytest.mark.parametrize("arrays, code, words", [
    ({}, 2, "need the value that was computed"),
    ({"loss": np.zeros(3)}, 2, r"there is loss \(3,\)"),
    ({"loss": 1.0, "q_student": np.zeros((1, 1, 2, 2)), "student_queries": np.zeros((1, 1, 2, 2))}, 2,
     "are both student_queries"),
    ({"loss": 1.0, "student_hidden_0": np.zeros((1, 2, 3)), "student_hidden_1": np.zeros((1, 2, 4))}, 2, "one shape"),
    ({"loss": 1.0, "step": 3}, 3, "no equation can be computed"),
    ({"loss": 1.0, "student_logits": np.zeros((2, 3)), "teacher_logits": np.zeros((2, 4))}, 3, "no equation"),
    ({"loss": np.array({"a": 1}, object)}, 2, "allow_pickle=False")])
def test_files_that_cannot_be_used(arrays, code, words, saved):
    report = dump.identify(saved(**arrays))
    assert report.exit_code == code
    assert re.search(words, said(report))
    assert dump.document(report)["exit_code"] == code


@pytest.mark.parametrize("got, inputs, dtype", [
    (np.float32(0.1), np.float64(0.1), "float32"), (np.float64(np.float32(0.1)), np.float64(0.1), "float32"),
    (np.float64(0.1), np.float32(0.1), "float32"), (np.float64(0.1), np.float64(0.1), "float64"),
    (np.float16(0.1), np.float32(0.1), "float16"), (np.float64(0.5), np.float64(0.1), "float32"),
    (np.float64(1.0), np.float16(0.1), "float16"), (np.float64(1.0 + 2.0 ** -7), np.float64(2.0 ** -30), "bfloat16")])
def test_to_which_rounding_a_number_is_judged(got, inputs, dtype):
    assert precision(np.asarray(got), [np.asarray(inputs)]) == dtype


# ---------------------------------------------------------------- time

def test_what_there_is_no_time_for_is_left_out_and_said(saved, monkeypatch):
    x = logits(shape=(2, 3, 5))
    path = saved(**x, loss=0.1)
    monkeypatch.setattr(Bench, "cost", lambda self, computation: 1000.0)
    report = dump.identify(path, seconds=1)
    assert report.exit_code == dump.NOT_FOUND and report.bench.left_out and not report.bench.values
    assert "left out" in said(report) and "save a batch of fewer sequences" in said(report)


def test_of_dear_candidates_the_one_that_is_near_on_a_sample_comes_first(saved, monkeypatch):
    x = logits(shape=(6, 4, 5))
    e = LOSSES["soft_labels.tokens"]
    path = saved(**x, T=2.0, loss=value(e, x, {"temperature": 2.0}, "tinybert"))
    monkeypatch.setattr(Bench, "cost", lambda self, computation: 1.0)
    report = dump.identify(path, seconds=600)
    assert first(report)[:2] == ("soft_labels.tokens", "convention tinybert") and report.exit_code == dump.FOUND
    assert len(report.bench.values) == 1 and "left out, as the number was found" in said(report)


def test_an_equation_that_the_arrays_do_not_fit_says_what_it_needs():
    assert fill(KD, {"student_logits": np.zeros((2, 3))}) == "teacher_logits"
    assert "got (2,)" in fill(KD, {"student_logits": np.zeros(2), "teacher_logits": np.zeros((2, 3))})
