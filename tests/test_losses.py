"""The loss with labels against PyTorch, and every registered term: documented, and the same on a device."""

import inspect
import sys

import numpy as np
import pytest

import strict_device
from gradcheck import C, UNIT, assert_within
from oracle import labels as oracle
from oracle.torch_check import against_torch
from tinydistill import Tensor, gradients, no_grad
from tinydistill.backend import to_host
from tinydistill.features import IGNORED, Batch, Features, Needs, Pass
from tinydistill.losses import TERMS
from tinydistill.losses.hard_labels import label_loss, labelled
from tinydistill.students.bert import Bert
from tinydistill.students.configs import BertConfig
from tinydistill.tensor import RowSparse

B, T, V = 3, 5, 11


def token_batch(seed=0, share=0.5, at_positions=True):
    """Labels at some tokens; a token head reads them and, where it has positions, one token more that has no label."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random((B, T)) < share, rng.integers(0, V, (B, T)), IGNORED)
    without = np.flatnonzero(labels == IGNORED)[:1]
    positions = np.sort(np.append(np.flatnonzero(labels != IGNORED), without)) if at_positions else None
    return Batch(ids=rng.integers(0, V, (B, T)), mask=np.ones((B, T), bool), labels=labels, positions=positions)


def sequence_batch(*labels):
    return Batch(ids=np.zeros((B, T), int), mask=np.ones((B, T), bool), labels=np.array(labels))


def loss_of(logits, batch, divisor):
    return label_loss(Features("toy", 1, batch.mask, logits=logits), None, batch, divisor)


# ---------------------------------------------------------------- labels

@pytest.mark.parametrize("batch", [token_batch(), token_batch(at_positions=False), sequence_batch(4, IGNORED, 0),
                                   sequence_batch(IGNORED, IGNORED, 2)],
                         ids=["at positions", "every token", "sequences", "one label"])
def test_labels_equal_pytorchs_cross_entropy(batch):
    read = batch.labels.ravel() if batch.positions is None else batch.labels.ravel()[batch.positions]
    assert 0 < labelled(batch) == (read != IGNORED).sum() < len(read)
    logits = 3 * np.random.default_rng(1).standard_normal((len(read), V))

    def ours(logits):
        return loss_of(logits, batch, labelled(batch))

    against_torch(ours, lambda x: oracle.label_loss(x, read, (read != IGNORED).sum()), [logits])


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_shards_of_labels_add_up_to_the_whole(shards):
    batch = token_batch(2)
    batch.labels[1] = IGNORED                                           # a shard without any label adds nothing
    logits = Tensor(np.random.default_rng(3).standard_normal((B * T, V)), requires_grad=True)
    divisor, total, first = labelled(batch), 0.0, 0
    for shard in batch.split(shards):
        rows = shard.positions + first                                  # of the flattened whole
        total, first = loss_of(logits[rows], shard, divisor) + total, first + shard.ids.size
    whole = loss_of(logits[batch.positions], batch, divisor)
    assert_within(total.array, whole.array, C * UNIT * whole.array)
    (got,), (want,) = gradients(total, [logits]), gradients(whole, [logits])
    assert_within(got, want, C * UNIT * np.abs(want).max())


def test_without_labels_the_loss_and_its_gradient_are_zero():
    batch = token_batch(share=0.0, at_positions=False)
    logits = Tensor(np.random.default_rng(4).standard_normal((B * T, V)), requires_grad=True)
    loss = loss_of(logits, batch, labelled(batch))
    assert labelled(batch) == 0 and loss.item() == 0
    assert (gradients(loss, [logits])[0] == 0).all()


# ---------------------------------------------------------------- every term

each_term = pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)


def test_the_registry_names_what_it_holds():
    assert TERMS.keys() >= {"masked_lm", "cross_entropy", "minilm.attention", "minilm.value_relation"}
    assert all(name == term.name for name, term in TERMS.items())


@each_term
def test_a_term_says_where_it_is_printed_and_what_it_reads(term):
    assert any(year in term.paper for year in map(str, range(2014, 2025))), "need authors and year"
    assert "eq." in term.equation or "section" in term.equation
    assert term.student_needs != Needs()


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


def model(hidden, layers, head, seed):
    config = BertConfig(layers, hidden, heads=2, feed_forward=2 * hidden, vocabulary=V, positions=T, initial_std=0.5,
                        head=head, labels=tuple("abcde") if head == "sequence" else ())
    return Bert(config, seed)


def term_and_gradients(term, xp, head, batch):
    """The term of a small student and its teacher in float64, and the gradients of the student's parameters."""
    student, teacher = (model(*size, head, seed).to(xp, np.float64) for size, seed in (((8, 2), 0), ((12, 3), 1)))
    divisor, batch, parameters = term.divisor(batch), batch.to(xp), student.named_parameters()
    with strict_device.no_sync():
        with no_grad():
            teaching = teacher(batch, Pass(term.teacher_needs)) if term.teacher_needs != Needs() else None
        value = term(student(batch, Pass(term.student_needs)), teaching, batch, divisor)
        found = gradients(value, list(parameters.values()))
    return to_host(value.array), {name: to_host(g.dense() if isinstance(g, RowSparse) else g)
                                  for name, g in zip(parameters, found) if g is not None}


@each_term
def test_a_term_of_two_models_is_the_same_on_a_device_and_the_host_never_waits(term, strict_cupy):
    reads_logits = "logits" in term.student_needs
    for head in ("masked-lm", "sequence") if reads_logits else ("none",):
        batch = sequence_batch(4, 1, 0) if head == "sequence" else token_batch(5)
        want, want_gradients = term_and_gradients(term, np, head, batch)
        got, got_gradients = term_and_gradients(term, strict_cupy, head, batch)
        assert want > 1e-3 and len(want_gradients) > 10 and want_gradients.keys() == got_gradients.keys()
        assert_within(got, want, 1e-12 * want)
        largest = max(np.abs(g).max() for g in want_gradients.values())
        assert largest > 1e-3
        for name, gradient in want_gradients.items():
            assert_within(got_gradients[name], gradient, 1e-12 * largest, name)
