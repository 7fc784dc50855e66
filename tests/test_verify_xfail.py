"""Failures that were announced in a file."""

from xml.etree import ElementTree

import pytest

from tinydistill_reference import junit, xfail
from verified import ATTENTION, CLASSES, changed, said, with_trap


def announced(tmp_path, text, results):
    path = tmp_path / "xfail.txt"
    path.write_text(text, encoding="utf-8")
    return xfail.apply(results, path)


def test_an_announced_failure_does_not_fail_the_run(tmp_path):
    wrong = with_trap(CLASSES, "bwd_missing_1_over_T")
    names = [o.id for o in wrong.of("failed")]
    text = "# known\n\n" + "".join(f"{CLASSES}/{name}   left out: see #7\n" for name in names)
    result, = announced(tmp_path, text, [wrong])
    assert result.status == "passed" and [o.id for o in result.of("announced")] == names
    said_of_it = said(result)
    assert said_of_it.startswith("PASS") and f"announced: {len(names)} cases" in said_of_it and "see #7" in said_of_it
    assert ElementTree.fromstring(junit.text([result])).get("failures") == "0"
    some, = announced(tmp_path, f"{CLASSES}/{names[0]}  known\n", [wrong])
    assert some.status == "failed" and len(some.of("failed")) == len(names) - 1


def test_an_announced_failure_that_passes_fails_the_run(tmp_path):
    right = changed(CLASSES, lambda got, inputs, attrs: got)
    result, = announced(tmp_path, f"{CLASSES}/05-T-3  not yet\n", [right])
    assert result.status == "failed" and "05-T-3 (T = 3): unexpectedly passes: not yet (" in said(result)
    assert "xfail.txt, line 1)" in said(result)


def test_of_a_pattern_one_case_has_to_fail(tmp_path):
    wrong, right = with_trap(CLASSES, "bwd_missing_1_over_T"), changed(ATTENTION, lambda got, inputs, attrs: got)
    result, other = announced(tmp_path, "soft_labels.*/*  all of it\n", [wrong, right])
    assert result.status == "passed" and len(result.of("announced")) == len(wrong.of("failed"))
    assert other == right
    assert announced(tmp_path, "minilm.*/0[12]*  all of it\n", [right])[0].status == "failed"


def test_a_line_may_name_a_case_that_was_not_run(tmp_path):
    right = changed(CLASSES, lambda got, inputs, attrs: got, "float16")
    result, = announced(tmp_path, f"{ATTENTION}/01-plain  elsewhere\n{CLASSES}/07-large  too large\n", [right])
    assert result.status == "passed"


@pytest.mark.parametrize("text, words_of_it", [
    (f"{CLASSES}/05-T-33  r\n",
     f"line 1: need a case that there is, got {CLASSES}/05-T-33 (is {CLASSES}/05-T-3 meant?)"),
    ("\nnothing/at-all-like-it  r\n", "line 2: need a case that there is"),
    (f"{CLASSES}/05-T-3\n", "line 1: need `equation/case  reason`"),
    ("05-T-3 because\n", "line 1: need `equation/case")])
def test_a_line_that_names_nothing_is_an_error(tmp_path, text, words_of_it):
    with pytest.raises(ValueError) as problem:
        announced(tmp_path, text, [changed(CLASSES, lambda got, inputs, attrs: got)])
    assert words_of_it in str(problem.value) and "\n" not in str(problem.value)
