"""What a person sees of a verification as text, and a program as JSON or JUnit."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from tinydistill_reference import junit, report, store, words
from tinydistill_reference.equation import equations
from tinydistill_reference.runner import run
from tinydistill_reference.selftest import printed
from verified import ATTENTION, CLASSES, changed, failing, flagged, said, with_trap


def test_what_passes_takes_a_heading_and_a_line_for_the_refusals():
    right = changed(CLASSES, lambda got, inputs, attrs: got)
    files = report.hashes(right)
    heading, refusals = report.lines(right)
    assert heading == f"PASS {CLASSES}  float32  9 of 9 cases  values and gradients  (vectors v1 {files['hash'][:6]})"
    assert refusals == "  refuses 2 of 2 wrong inputs"
    path = store.FOLDER / "v1" / f"{CLASSES}.json"
    assert files["files"][path.name] == store.digest(path) and len(files["files"]) == 2


def test_what_was_not_tested_is_said():
    result = changed(CLASSES, lambda got, inputs, attrs: {"value": got["value"]}, "float16")
    text = said(replace(result, bound="student_logits = s, teacher_logits = t"))
    assert "values only" in text and "not tested: d(student_logits): no gradient came" in text
    assert "(07-large, 08-offset): needs float32" in text and "bound: student_logits = s, teacher_logits = t" in text
    assert said(changed(CLASSES, lambda *_: NotImplemented)).startswith(f"NONE {CLASSES}")


def test_inputs_that_are_not_refused_are_named():
    equation = equations()[CLASSES]

    def careless(name, attrs, inputs, grads, upstream, dtype):
        if attrs["temperature"] == 0 or inputs["student_logits"].shape != inputs["teacher_logits"].shape:
            return {"value": 0.0}
        return printed(equation, {})(name, attrs, inputs, grads, upstream, dtype)
    assert "refuses 0 of 2 wrong inputs; not refused: T = 0, teacher's logits of another shape" in said(
        run(equation, careless, "float32"))


def test_what_is_counted_has_no_ratio_and_no_gradient():
    text = said(with_trap("layer_map.uniform", "counted_from_one"))
    assert "cases  values  (vectors" in text and "pairs: has to be exactly equal, 12 of 12 entries bad" in text
    assert "pairs: first bad at [0, 0]: got 1, expected 0" in text and "ratio" not in text


def test_another_convention_is_named_first_with_what_is_to_be_done():
    heading, mistake, *_ = report.lines(with_trap(CLASSES, "no_T2"))
    assert heading.startswith(f"OTHER {CLASSES}  float32  follows convention torchdistill, not paper: "
                              "temperature_squared=False (the factor T^2 is missing). "
                              "If that is what you mean: --convention torchdistill  (vectors v1")
    assert mistake.startswith("  if not, this is known trap `no_T2`: ") and "https://github.com/" in mistake
    equation = equations()[ATTENTION]
    token = run(equation, printed(equation, equation.settings("token")), "float64")
    assert "divisor=row (one mean over the rows that count of the whole batch)" in report.lines(token)[0]
    back = run(equation, printed(equation, {}), "float64", "token")
    assert "follows convention paper, not token: divisor as printed, not row" in report.lines(back)[0]


@pytest.mark.parametrize("name, value, words_of_it", [
    ("constant", "cross-entropy", "the teacher's entropy is left in"), ("rows", "all", "rows of padding are counted"),
    ("keys", "all", "padding is counted as a part of a row"), ("epsilon", 1e-5, "1e-05 is added to the divisor"),
    ("divisor", "element", "the mean runs over the entries of a row")])
def test_a_setting_says_what_it_means(name, value, words_of_it):
    assert words_of_it in words.setting(name, value)
    assert words.setting("gap", 1) == "gap=1"


def test_a_known_mistake_is_named_before_the_worst_cases():
    result = with_trap(CLASSES, "bwd_missing_1_over_T")
    lines, trap = report.lines(result), flagged(CLASSES, "bwd_missing_1_over_T")
    assert "this output equals known trap `bwd_missing_1_over_T` (next best match" in lines[2]
    assert lines[3:6] == [f"  bug: {trap.bug}", f"  effect: {trap.effect}", f"  source: {trap.source}"]
    assert lines[6].endswith("(Hinton et al. 2015, section 2)")
    assert any("d(student_logits) fails; value passes" in line for line in lines)
    assert any("x allowed (" in line and "55 of 55 entries bad" in line for line in lines)
    assert any("first bad at [0, 0]: got " in line and "everywhere = temperature)" in line for line in lines)


def test_a_failure_takes_twelve_lines_at_most_and_three_cases_are_shown():
    result = with_trap(CLASSES, "reverse_kl", "float64")
    seen = report.verdict(result)
    for outcome in seen.failed:
        assert len(report.cause(seen) + report.block(result, outcome)) <= 12
    assert f"{len(seen.failed) - 3} more cases fail: " in report.lines(result)[-1]


def test_a_case_that_raised_and_a_wrong_shape_are_told_in_one_line():
    def change(got, inputs, attrs):
        if attrs["temperature"] == 3:
            raise RuntimeError("size mismatch\n  at line 7")
        return got | {"dstudent_logits": got["dstudent_logits"][:, :-1]}
    text = said(changed(CLASSES, change))
    assert "05-T-3 (T = 3): raised RuntimeError: size mismatch at line 7" in text
    assert "d(student_logits): shape (5, 10), need (5, 11)" in text and "no known trap gives this output" in text


def test_what_is_not_finite_what_has_to_be_0_and_what_never_came():
    def poisoned(got, inputs, attrs):
        wrong = got["dstudent_logits"].copy()
        wrong[2, 3] = np.nan
        return {"value": np.inf, "dstudent_logits": wrong, "dteacher_logits": np.full((5, 11), 1e-9)}
    text = said(changed(CLASSES, poisoned))
    assert "value: not finite" in text and "value: got inf, expected" in text
    assert "d(student_logits): 1 number is not finite, 1 of 55 entries bad" in text
    assert "d(student_logits), value" in text or "value, d(student_logits)" in text
    text = said(changed(CLASSES, lambda got, inputs, attrs: got | {"dteacher_logits": np.full((5, 11), 1e-9)}))
    assert "d(teacher_logits): largest error 1.0e-09 where only 0 will do, 55 of 55 entries bad" in text
    text = said(changed(CLASSES, lambda got, inputs, attrs: got | {"dstudent_logits": None}))
    assert "no gradient came, which is one of 0" in text
    assert "value: not finite" in said(changed(CLASSES, lambda got, inputs, attrs: {"loss": got["value"]}))


def test_where_the_wrong_entries_are():
    def leaks(got, inputs, attrs):
        wrong = got["dstudent_queries"].copy()
        wrong[~np.broadcast_to(inputs["mask"][:, None], (3, 2, 7))] = 1e-3
        return got | {"dstudent_queries": wrong}
    assert "64 of 168 entries bad, all of them at padding" in said(changed(ATTENTION, leaks))

    def one_head(got, inputs, attrs):
        wrong = got["dstudent_keys"].copy()
        wrong[:, 1] *= 2
        return got | {"dstudent_keys": wrong}
    assert "none of them at padding, all at A = 1" in said(changed(ATTENTION, one_head))


def test_numbers_are_shown_with_the_digits_that_tell_them_apart():
    assert words.pair(0.12345671, 0.12345679) == ("0.12345671", "0.12345679")
    assert words.pair(1.0, 2.0) == ("1", "2") and words.pair(np.nan, 1.0) == ("nan", "1")
    assert [words.percent(x) for x in (0, 1e-9, 0.412, 0.9999, 1)] == ["0 %", "1 %", "41 %", "99 %", "100 %"]
    assert [words.times(x) for x in (0.123, 41000.0, 2e14)] == ["0.12 x allowed", "41,000 x allowed", "2e+14 x allowed"]


def test_the_document_is_json_and_says_what_the_text_says():
    results = failing()
    found = json.loads(json.dumps(report.document(results), allow_nan=False))
    assert found["counts"] == {"fail": 3, "pass": 1, "none": 0, "other": 1}
    first, other = found["results"][:2]
    assert first["text"] == report.lines(results[0]) and first["mistake"]["flag"] == "T_not_T2"
    assert first["mistake"]["source"].startswith("https://") and first["vectors"]["version"] == "v1"
    assert other["status"] == "other" and other["follows"] == "torchdistill" and "T^2" in other["differences"][0]
    case = next(c for c in first["cases"] if c["id"] == "05-T-3")
    assert case["attrs"] == {"temperature": 3.0} and case["status"] == "failed"
    value = next(t for t in case["tensors"] if t["name"] == "value")
    assert value["ratio"] == pytest.approx(1 / 3) and value["ratio_names"] == ["1 / temperature"]
    assert value["got"] == pytest.approx(value["expected"] / 3) and value["error"] > 1000
    nan = next(t for c in found["results"][4]["cases"] for t in c["tensors"] if t["name"] == "value")
    assert nan["got"] == "nan" and nan["error"] == "inf"


def test_junit_has_a_test_for_each_case():
    results = failing()
    root = ElementTree.fromstring(junit.text(results))
    suites = root.findall("testsuite")
    assert [int(s.get("tests")) for s in suites] == [len(r.outcomes) for r in results]
    assert [int(s.get("failures")) for s in suites] == [len(r.of("failed")) for r in results]
    assert int(root.get("failures")) == sum(len(r.of("failed")) for r in results)
    failure = suites[0].find("testcase/failure")
    assert "known trap `T_not_T2`" in failure.text and "x allowed" in failure.text
    assert "follows convention torchdistill" in suites[1].find("testcase/failure").get("message")
    assert "<b>bad?[31m</b> & ]]> done" in suites[3].find("testcase/failure").text
    skipped = [o for o in results[2].outcomes if o.status == "skipped"]
    assert len(suites[2].findall("testcase/skipped")) == len(skipped) == int(suites[2].get("skipped"))
