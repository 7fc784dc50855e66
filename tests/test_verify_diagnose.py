"""What is wrong with an implementation: known mistakes, missing factors, other conventions."""

from dataclasses import replace

import numpy as np
import pytest

from tinydistill_reference import report, store
from tinydistill_reference.diagnose import matches, numbers_of, ratio
from tinydistill_reference.equation import Case, equations, traps
from tinydistill_reference.kills import answer
from tinydistill_reference.mistakes import computes
from tinydistill_reference.runner import run
from tinydistill_reference.selftest import mistaken, printed
from verified import CLASSES, changed, flagged, said, times


@pytest.mark.parametrize("factor, name", [
    (lambda i, a: a["temperature"] ** 2 / 11, "temperature^2 / C"), (lambda i, a: -1.0, "-1"),
    (lambda i, a: 5, "B"), (lambda i, a: np.log(2), "ln 2"), (lambda i, a: 1 / a["temperature"], "1 / temperature")])
def test_a_factor_that_explains_every_case_is_named(factor, name):
    text = said(changed(CLASSES, times(factor)))
    if "this output equals known trap" not in text and not text.startswith("OTHER"):
        assert f"are {name} times what is expected, in every case" in text
    else:
        assert name in ("1 / temperature", "B")


def test_the_upstream_gradient_and_real_rows_are_known_numbers():
    stored = store.load("soft_labels.tokens")[1]
    known = numbers_of(equations()["soft_labels.tokens"], stored.case, True)
    assert known["upstream gradient"] == -2.5 and known["real rows"] == 13 and known["V"] == 11
    assert known["(real rows / all rows)"] == pytest.approx(13 / 21)
    assert "upstream gradient" not in numbers_of(equations()["soft_labels.tokens"], stored.case, False)


def test_a_ratio_is_one_number_everywhere_or_none():
    want = np.array([1.0, -2.0, 0.0])
    assert ratio(3 * want, want) == 3 and ratio(np.array([3.0, -6.0, 1.0]), want) is None
    assert ratio(want[:2], want) is None and ratio(want * np.nan, want) is None and ratio(0 * want, want) is None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_known_mistake_in_soft_labels_is_named_alone(dtype):
    equation = equations()[CLASSES]
    known = traps(CLASSES)
    for trap in known:
        outcomes = run(equation, mistaken(equation, trap), dtype, strict=True).outcomes
        best, *others = matches(equation, outcomes, dtype, known)
        assert best.trap is trap and best.share == 1 and all(m.share < 1 for m in others), trap.flag


def test_a_mistake_that_overflows_in_float32_is_still_named():
    def forward(student_logits, teacher_logits, temperature):
        e_s, e_t = np.exp(student_logits / temperature), np.exp(teacher_logits / temperature)
        q, p = e_s / e_s.sum(axis=-1, keepdims=True), e_t / e_t.sum(axis=-1, keepdims=True)
        return temperature ** 2 * (p * (p - q)).sum() / len(student_logits)
    trap = computes(CLASSES, "no_log_unstable", "", "", "constructed", forward)
    equation = equations()[CLASSES]
    result = run(equation, mistaken(equation, trap), "float32")
    assert any(not np.isfinite(o.got["value"]) for o in result.outcomes if "value" in o.got)
    best = matches(equation, result.outcomes, "float32", [*traps(CLASSES), trap])[0]
    assert best.trap is trap and best.share == 1


def test_a_mistake_on_top_of_another_convention_is_named_with_it():
    equation = equations()[CLASSES]
    trap = flagged(CLASSES, "ignores_upstream")
    pkd = replace(equation, conventions={"paper": equation.conventions["pkd"]})

    def call(name, attrs, inputs, grads, upstream, dtype):
        return answer(pkd, trap, Case("", "", inputs, attrs, upstream), dtype)
    text = said(run(equation, call, "float32"))
    assert "this output equals known trap `ignores_upstream` under convention pkd" in text


def test_settings_that_somebody_asked_for_are_diagnosed_too():
    heading, *others = report.lines(changed(CLASSES, lambda got, inputs, attrs: got, convention={"divisor": "none"}))
    assert "OTHER" in heading and "follows convention paper, not divisor=none: divisor as printed, not none." in heading
    assert "  refuses 2 of 2 wrong inputs" in others
    text = said(changed(CLASSES, times(lambda i, a: 2 / 5), convention={"divisor": "none"}))
    assert "convention divisor=none" in text and "2 / B^2 times" not in text and "known trap gives this output" in text
    equation = equations()[CLASSES]
    summed = equation.settings() | {"divisor": "none"}
    assert said(run(equation, printed(equation, summed), "float64", {"divisor": "none"})).startswith("PASS")


def test_half_a_mistake_is_most_like_it():
    def change(got, inputs, attrs):
        return {"value": got["value"] / attrs["temperature"], "dstudent_logits": np.sin(got["dstudent_logits"]) * 3}
    result = changed(CLASSES, change)
    seen = report.verdict(result)
    assert 0 < seen.matches[0].share < 1 and seen.matches[0].trap.flag == "T_not_T2"
