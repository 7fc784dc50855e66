"""`tinydistill trace`: what is shown of a loss is what its code computed, under the names and lines of its files."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from tinydistill import Tensor, gradients, kernels, ops
from tinydistill.commands import trace as command
from tinydistill.commands import trace_example as example
from tinydistill.losses import TERMS
from tinydistill.losses.term import Term
from tinydistill.trace import trace

ROOT = Path(__file__).resolve().parent.parent
CASES = [term.under(name) for term in TERMS.values() for name in term.conventions]
each_case = pytest.mark.parametrize("term", CASES, ids=[f"{term.name}, {term.convention}" for term in CASES])
each_term = pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)


def traced(term):
    shown = example.build(term)
    return command.document(shown, trace(shown.loss, shown.inputs, left_out=[term.loss]))


@pytest.fixture(scope="module")
def attention():
    return traced(TERMS["minilm.attention"])


def values(step):
    return np.array(step["values"], step["dtype"])


def named(document, *names):
    """The steps of these names that have values, each the only one."""
    found = [[s for s in document["steps"] if s["name"] == name and s["values"] is not None] for name in names]
    return [step for step, in found]


# ---------------------------------------------------------------- every term

@each_case
def test_the_trace_ends_with_the_loss_and_the_gradients_of_the_term(term):
    shown = example.build(term)
    with kernels.use("plain"):
        want = shown.loss()
        want_gradients = gradients(want, list(shown.inputs.values()))
    found = trace(shown.loss, shown.inputs, left_out=[term.loss])
    document = command.document(shown, found)
    assert document["value"] == want.item() == values(named_number(document, document["loss_step"]))
    assert any(g is not None and g.any() for g in want_gradients)
    for (name, got), gradient in zip(found.gradients.items(), want_gradients, strict=True):
        shown_as = named_number(document, document["gradients"][name])
        assert np.array_equal(got, gradient) and np.array_equal(values(shown_as).reshape(got.shape), gradient), name


def named_number(document, number):
    step, = [s for s in document["steps"] if s["number"] == number and s["values"] is not None]
    return step


@each_term
def test_nothing_is_shown_twice_and_every_line_is_in_its_file(term):
    document = traced(term)
    steps = [s for s in document["steps"] if s["values"] is not None]
    assert [s["number"] for s in steps] == list(range(1, len(steps) + 1))
    for phase in ("forward", "backward"):
        arrays = [values(s).squeeze() for s in steps if s["phase"] == phase and s["shape"]]
        for a, b in itertools.combinations([a for a in arrays if a.size > 1], 2):
            assert a.dtype.kind != b.dtype.kind or not np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    for place in [*document["steps"], *(s["made"] for s in steps if s["made"])]:
        line = (ROOT / place["file"]).read_text(encoding="utf-8").splitlines()[place["line"] - 1]
        assert place["source"] and place["source"].startswith(line.partition("  #")[0].strip().rstrip(":"))
    assert any(call["equation"].startswith("Equation: ") for call in document["calls"])


# ---------------------------------------------------------------- what a reader of the files sees

def test_attention_has_the_names_of_the_kernel_with_their_shapes_and_values(attention):
    log_p, log_q, p, q, value, gradient = named(attention, "log_p", "log_q", "p", "q", "value", "gradient")
    for step in (log_p, log_q, p, q):
        assert step["file"] == "tinydistill/kernels/divergence.py" and step["function"] == "kl_divergence"
        assert step["shape"] == [2, 2, 5, 5] and "KL(p || q)" in step["equation"]
    student, teacher = named(attention, "student_scores", "teacher_scores")
    real = np.array(attention["mask"])
    seen = (real[:, None, :, None] & real[:, None, None, :]) & np.ones((1, 2, 1, 1), bool)
    for scores, log, probability in ((student, log_q, q), (teacher, log_p, p)):
        e = np.where(seen, np.exp(values(scores)), 0)
        want = e / np.maximum(e.sum(-1, keepdims=True), 1e-9)           # a padded row has no key
        np.testing.assert_allclose(values(probability)[seen], want[seen], rtol=1e-12)
        np.testing.assert_allclose(np.exp(values(log))[seen], values(probability)[seen], rtol=1e-12)
        assert (values(probability)[~seen] == 0).all()
    assert log_p["made"]["file"] == "tinydistill/kernels/softmax.py" and log_p["made"]["source"].startswith("return ")
    assert student["made"]["file"] == "tinydistill/ops/attention.py"    # the innermost of two returns
    assert named(attention, "weights")[0]["dtype"] == "float64"         # not the mask, whose numbers are as large
    assert named(attention, "student_queries")[0]["file"] == "tinydistill/losses/minilm.py"     # where it was handed in
    order = [s["name"] for s in attention["steps"]]
    assert order.count("value") == order.count("mask") == 1 and order.count("seen") == 2        # one is [:, None, None]
    assert order.index("student_queries") < order.index("student_scores") < order.index("log_p") < order.index("p")
    assert order.index("q") < order.index("value") < order.index("gradient") < order.index("dstudent_scores")


def test_calls_are_nested_as_they_run_and_say_what_they_were_given(attention):
    calls = {(call["function"], call["file"]): call for call in attention["calls"] if call["phase"] == "forward"}
    kernel = calls["kl_divergence", "tinydistill/kernels/divergence.py"]
    around = [attention["calls"][i]["function"] for i in kernel["inside"]]
    assert around == ["attention_transfer", "relation_kl", "kl_divergence"]
    assert kernel["depth"] == 3 and kernel["arguments"]["temperature"] == 1.0
    student, = named(attention, "student_scores")
    assert kernel["arguments"]["student"] == {"step": student["number"]}
    assert calls["attention_transfer", "tinydistill/losses/minilm.py"]["arguments"]["divisor"] == 2
    assert not {call["function"] for call in attention["calls"]} & {"over_pairs", "_attention", "unbroadcast", "of"}


def test_gradients_are_called_after_what_they_are_of(attention):
    student, upstream = named(attention, "student_scores", "dstudent_scores")
    assert upstream["gradient_of"] == student["number"] and upstream["function"] == "kl_divergence.pullback"
    assert upstream["file"] == "tinydistill/ops/divergence.py" and "lambda dy" in upstream["source"]
    assert upstream["equation"].startswith("Gradient: the student alone")
    inputs = {s["number"]: s["name"] for s in attention["steps"]}
    for name in ("queries", "keys"):
        dqueries = [s for s in attention["steps"] if s["name"] == f"dstudent_{name}"]
        assert [inputs[s["gradient_of"]] for s in dqueries] == [f"student_{name}"]
        assert dqueries[0]["number"] == attention["gradients"][f"student {name}[-1]"]
    assert not any(s["name"].startswith("dteacher") for s in attention["steps"])


def test_the_pullbacks_are_entered_one_after_the_other(attention):
    backward = [call["function"] for call in attention["calls"] if call["phase"] == "backward"]
    assert backward == ["gradients", "kl_divergence.pullback", "scaled_product.pullback", "masked.pullback",
                        "masked.pullback"]


def test_of_a_small_sum_every_step():
    x, y = Tensor(np.array([[1.0, 2.0, 3.0]]), requires_grad=True), Tensor(np.array([5.0, 0.0]))
    found = trace(lambda: ((x * x).reshape(3)[:2] + y).sum(), {"x": x})
    steps = [(s.number, s.name, s.call.function, s.values.ravel().tolist(), s.gradient_of and s.gradient_of.number)
             for s in found.steps if s.call.phase == "forward"]
    assert steps == [
        (1, "a", "multiply", [1, 2, 3], None), (2, "x", "reshape", [1, 4, 9], None), (3, "a", "add", [1, 4], None),
        (4, "b", "add", [5, 0], None), (5, "x", "sum", [6, 4], None), (6, "loss", "sum", [10], None)]
    assert all(s.place.file.startswith("tinydistill/") for s in found.steps)
    steps = [(s.number, s.name, s.call.function, s.values.ravel().tolist(), s.gradient_of and s.gradient_of.number)
             for s in found.steps if s.call.phase == "backward"]
    assert steps == [
        (7, "dloss", "gradients", [1], 6), (8, "dx", "sum.pullback", [1, 1], 5), (8, "da", "add.pullback", [1, 1], 3),
        (9, "dx", "take.pullback", [0, 0, 0], None), (10, "dx", "take.pullback", [1, 1, 0], 2),
        (11, "da", "multiply.pullback", [1, 2, 0], 1), (12, "da", "gradients", [2, 4, 0], 1)]


def test_equal_numbers_that_stand_alone_are_not_one():
    x = Tensor(np.ones(3), requires_grad=True)
    found = trace(lambda: x.sum() * 1.0, {"x": x})
    assert [(s.number, s.name) for s in found.steps if s.call.phase == "forward"] == [(1, "x"), (2, "a"), (3, "loss")]


def test_two_paths_to_one_feature_are_shown_and_then_their_sum():
    """A value stands on both sides of its relation."""
    document = traced(TERMS["minilm.value_relation"])
    one, other = (values(s) for s in document["steps"] if s["name"] == "dx")
    together, = named(document, "dstudent_values")
    assert "add_gradients" in together["source"] and together["file"] == "tinydistill/tensor.py"
    assert np.array_equal(values(together), one + other)


def test_an_array_that_changes_in_place_is_shown_before_and_after():
    x, weight = (Tensor(np.random.default_rng(i).standard_normal((4, 3)), requires_grad=True) for i in (0, 1))
    found = trace(lambda: ops.linear_cross_entropy(x, weight, None, np.array([0, 2, 1, 3]), rows_per_chunk=2), {"x": x})
    before, *parts, whole = [s.values for s in found.steps if s.name == "dhidden" and s.call.phase == "forward"]
    assert not before.any() and parts[0][:2].all() and not parts[0][2:].any() and whole.all()
    assert np.array_equal(found.gradients["x"], whole)


def test_the_pullback_of_an_op_that_hands_the_same_gradient_on_twice():
    x = Tensor(np.array([[1.0, 2.0]]), requires_grad=True)
    found = trace(lambda: (x + x).sum(), {"x": x})
    assert np.array_equal(found.gradients["x"], [[2.0, 2.0]])
    assert np.array_equal(found.step_of(found.gradients["x"]).values, [[2.0, 2.0]])


def test_the_gradient_of_a_table_of_which_few_rows_were_read_is_shown_whole():
    table = Tensor(np.ones((4, 2)), requires_grad=True)
    found = trace(lambda: ops.sum(ops.embedding(table, np.array([1, 1]))), {"table": table})
    want = [[0, 0], [2, 2], [0, 0], [0, 0]]
    assert found.gradients["table"].tolist() == found.steps[-1].values.tolist() == want
    assert found.steps[-1].name == "dtable"


# ---------------------------------------------------------------- nothing left behind

@pytest.mark.parametrize("raises", [False, True])
def test_the_tracer_that_was_there_is_back_afterwards(raises):
    def someone_elses(frame, event, argument):
        return None

    def loss():
        if raises:
            ops.matmul(np.ones(2), np.ones(2))      # a ValueError within what is watched
        return ops.sum(x)

    x, before = Tensor(np.ones((2, 2)), requires_grad=True), sys.gettrace()
    sys.settrace(someone_elses)
    try:
        if raises:
            with pytest.raises(ValueError, match="at least two axes"):
                trace(loss, {"x": x})
        else:
            trace(loss, {"x": x})
        after = sys.gettrace()
    finally:
        sys.settrace(before)
    assert after is someone_elses


# ---------------------------------------------------------------- the example

def test_the_example_has_a_padded_sentence_and_other_widths_where_the_term_allows_them():
    shown = example.build(TERMS["minilm.attention"])
    assert shown.batch.mask.tolist() == [[True] * 5, [True] * 3 + [False] * 2]
    assert shown.student.queries[-1].shape == (2, 2, 5, 3) and shown.teacher.queries[-1].shape == (2, 2, 5, 4)
    shown = example.build(TERMS["pkd.patience"])
    assert shown.student.hidden[-1].shape == shown.teacher.hidden[-1].shape == (2, 5, 6)
    shown = example.build(TERMS["fitnets.hint"].on([(0, 1), (1, 2)]))
    assert shown.inputs.keys() == {"student hidden[0]", "student hidden[1]", "fitnets.regressor.0 weight",
                                   "fitnets.regressor.0 bias", "fitnets.regressor.1 weight", "fitnets.regressor.1 bias"}
    weight = shown.projections["fitnets.regressor.1"].weight
    assert weight.shape == (8, 6) and np.array_equal(weight.array.round(1), weight.array)


@pytest.mark.parametrize("name, shape", [
    ("masked_lm", (4, 7)), ("cross_entropy", (2, 3)), ("soft_labels.classes", (2, 3)), ("soft_labels.tokens", (4, 7)),
    ("soft_labels.span", (2, 5, 2)), ("spans.positions", (2, 5, 2))])
def test_logits_are_those_of_tokens_sequences_or_spans(name, shape):
    assert example.build(TERMS[name]).student.logits.shape == shape


def test_some_of_the_tokens_that_are_read_have_labels_and_one_is_padding():
    batch = example.build(TERMS["masked_lm"]).batch
    assert batch.labels.tolist() == [[-100, 3, 4, -100, -100], [-100, 6, -100, -100, -100]]
    assert batch.positions.tolist() == [1, 2, 6, 8] and not batch.mask.ravel()[8]


def test_a_term_that_takes_no_example_says_why():
    def refuse(*_):
        raise ValueError("never")

    with pytest.raises(ValueError, match="never"):
        example.build(Term("refuses", refuse, reads=("hidden",), teacher_reads=("hidden",)))
