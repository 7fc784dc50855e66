"""Every registered term: documented, and the same on a device."""

import inspect
import sys

import numpy as np
import pytest

import strict_device
from gradcheck import assert_within
from tinydistill import gradients, no_grad
from tinydistill.backend import to_host
from tinydistill.features import IGNORED, Batch, Needs, Pass
from tinydistill.losses import TERMS
from tinydistill.nn import Linear
from tinydistill.students.bert import Bert
from tinydistill.students.configs import BertConfig
from tinydistill.tensor import RowSparse

B, T, V = 3, 5, 11


def token_batch(seed=0, share=0.5, at_positions=True):
    """Labels at some tokens; a token head reads them and, where it has positions, one token more that has no label.

    Each sequence is a pair, too, of which the second follows the first or does not.
    """
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random((B, T)) < share, rng.integers(0, V, (B, T)), IGNORED)
    without = np.flatnonzero(labels == IGNORED)[:1]
    positions = np.sort(np.append(np.flatnonzero(labels != IGNORED), without)) if at_positions else None
    return Batch(ids=rng.integers(0, V, (B, T)), mask=np.ones((B, T), bool), labels=labels, positions=positions,
                 next_sentence=np.array([1, 0, 1]))


def batch_for(head):
    """A batch for the head of a term."""
    if head == "sequence":
        return sequence_batch(4, 1, 0)
    if head == "span":
        return sequence_batch((0, 4), (3, 3), (1, IGNORED))
    return token_batch(5, at_positions=head != "token")


def sequence_batch(*labels):
    return Batch(ids=np.zeros((B, T), int), mask=np.ones((B, T), bool), labels=np.array(labels))


# ---------------------------------------------------------------- every term

each_term = pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)


def test_the_registry_names_what_it_holds():
    assert TERMS.keys() >= {"masked_lm", "cross_entropy", "minilm.attention", "minilm.value_relation"}
    assert all(name == term.name for name, term in TERMS.items())


@each_term
def test_a_term_says_where_it_is_printed_and_what_it_reads(term):
    assert any(year in term.paper for year in map(str, range(2014, 2025))), "need authors and year"
    assert "eq." in term.equation or "section" in term.equation
    assert (term.student_needs != Needs()) != term.reads_parameters


def names_in(code):
    """The names that a function's code uses, those of the functions within it too."""
    within = [part for part in code.co_consts if inspect.iscode(part)]
    return {*code.co_names, *(name for part in within for name in names_in(part))}


@each_term
def test_a_term_calls_one_public_function_with_equation_shapes_gradient_source_and_example(term):
    public = {name: value for name, value in vars(sys.modules[term.loss.__module__]).items()
              if inspect.isfunction(value) and not name.startswith("_")}
    called = [f for name, f in public.items() if name in names_in(term.loss.__code__)]
    documented = [f for f in called if "divisor" in inspect.signature(f).parameters]
    assert len(documented) == 1, f"{term.name} calls {called}"
    for part in ("Equation: ", "Shapes: ", "Gradient: ", "Source: ", "nats", ">>> "):
        assert part in documented[0].__doc__, f"{documented[0].__name__} is documented without {part}"


BOTH_HEADS = {"masked_lm", "cross_entropy", "label_smoothing", "label_smoothing.unilm"}      # whatever has labels
OF_TOKENS = {"soft_labels.tokens", "soft_labels.masked", "distilbert.soft_labels", "distilbert.logits_mse",
             "sequence_labels"}


def heads(term):
    """The heads that a term reads; "none" where it reads none."""
    if "next_sentence" in term.student_needs:
        return ("pretraining",)
    if "logits" not in term.student_needs:
        return ("none",)
    if term.name in BOTH_HEADS:
        return ("masked-lm", "sequence")
    if term.name == "soft_labels.span":
        return ("token",)
    if term.name == "spans.positions":
        return ("span",)
    return ("masked-lm",) if term.name in OF_TOKENS else ("sequence",)


def model(hidden, layers, head, seed):
    config = BertConfig(layers, hidden, heads=2, feed_forward=2 * hidden, vocabulary=V, positions=T, initial_std=0.5,
                        head=head, labels={"sequence": tuple("abcde"), "token": ("start", "end")}.get(head, ()))
    made, rng = Bert(config, seed), np.random.default_rng(seed)
    for parameter in made.named_parameters().values():                  # norms and biases too: no token has the mean 0
        parameter.array = parameter.array + 0.5 * rng.standard_normal(parameter.shape)
    return made


def term_and_gradients(term, xp, head, batch):
    """The term of a small student and its teacher in float64, and the gradients of the student's parameters."""
    width = 8 if "hidden" in term.teacher_needs and not term.projection else 12     # as they are: of equal widths
    sizes = ((8, 2), (width, 2 if term.reads_parameters else 3))
    student, teacher = (model(*size, head, seed).to(xp, np.float64) for seed, size in enumerate(sizes))
    maps = {name: Linear(8, 12, bias=term.projection_bias).initialise(2, 0.5).to(xp, np.float64)
            for name in term.projection_names}
    divisor, batch, parameters = term.divisor(batch), batch.to(xp), student.named_parameters()
    with strict_device.no_sync():
        with no_grad():
            teaching = teacher(batch, Pass(term.teacher_needs)) if term.teacher_needs != Needs() else None
        learning = student(batch, Pass(term.student_needs))
        if term.reads_parameters:
            learning, teaching = parameters, teacher.named_parameters()
        value = term(learning, teaching, batch, divisor, maps)
        found = gradients(value, list(parameters.values()))
    return to_host(value.array), {name: to_host(g.dense() if isinstance(g, RowSparse) else g)
                                  for name, g in zip(parameters, found) if g is not None}


@each_term
def test_a_term_of_two_models_is_the_same_on_a_device_and_the_host_never_waits(term, strict_cupy):
    for head in heads(term):
        batch = batch_for(head)
        want, want_gradients = term_and_gradients(term, np, head, batch)
        got, got_gradients = term_and_gradients(term, strict_cupy, head, batch)
        assert want > 1e-4 and len(want_gradients) >= 5 and want_gradients.keys() == got_gradients.keys()
        assert_within(got, want, 1e-12 * want)
        largest = max(np.abs(g).max() for g in want_gradients.values())
        assert largest > 1e-3
        for name, gradient in want_gradients.items():
            assert_within(got_gradients[name], gradient, 1e-12 * largest, name)
