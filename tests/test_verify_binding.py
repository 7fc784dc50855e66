"""Which input goes to which parameter: by name, by what a name means, by order; and what does not fit is an error."""

import functools
import inspect

import numpy as np
import pytest

from tinydistill_reference.adapters import TargetError
from tinydistill_reference.adapters.binding import bind
from tinydistill_reference.equation import equations

CLASSES, TOKENS, ATTENTION = "soft_labels.classes", "soft_labels.tokens", "minilm.attention"


def bound(signature, equation, **more):
    """The line of a function `f` with this signature."""
    f = _function(signature)
    return bind(f, equations()[equation], **more).bound


def _function(signature):
    """A function with the parameters of a text: "a, b=1, *args, **kwargs"."""
    def f(*args, **kwargs):
        return args, kwargs
    kinds, parameters, named_only = inspect.Parameter, [], False
    for word in signature.split(", ") if signature else ():
        name, _, default = word.partition("=")
        kind = kinds.VAR_KEYWORD if name.startswith("**") else kinds.VAR_POSITIONAL if name.startswith("*") else \
            kinds.KEYWORD_ONLY if named_only else kinds.POSITIONAL_OR_KEYWORD
        named_only |= kind is kinds.VAR_POSITIONAL
        parameters.append(kinds(name.lstrip("*"), kind, default=default or kinds.empty))
    f.__signature__ = inspect.Signature(parameters)
    return f


@pytest.mark.parametrize("signature, equation, line", [
    ("student_logits, teacher_logits, temperature=1", CLASSES,
     "student_logits=student_logits, teacher_logits=teacher_logits, temperature=temperature"),
    ("teacher_logits, student_logits", CLASSES, "teacher_logits=teacher_logits, student_logits=student_logits"),
    ("teacher, student, T", CLASSES, "teacher=teacher_logits, student=student_logits, T=temperature"),
    ("s, t, T", CLASSES, "s=student_logits, t=teacher_logits, T=temperature"),
    ("t, s", CLASSES, "t=teacher_logits, s=student_logits"),
    ("z_s, z_t, tau", CLASSES, "z_s=student_logits, z_t=teacher_logits, tau=temperature"),
    ("logits_T, logits_S", CLASSES, "logits_T=teacher_logits, logits_S=student_logits"),
    ("teacherLogits, studentLogits", CLASSES, "teacherLogits=teacher_logits, studentLogits=student_logits"),
    ("t_logits, s_logits, temp", CLASSES, "t_logits=teacher_logits, s_logits=student_logits, temp=temperature"),
    ("y_t, y_s", CLASSES, "y_t=teacher_logits, y_s=student_logits"),
    ("teacher_out, student_out", CLASSES, "teacher_out=teacher_logits, student_out=student_logits"),
    ("input, target, reduction=mean", CLASSES, "input=student_logits, target=teacher_logits"),
    ("x, y", CLASSES, "x=student_logits, y=teacher_logits"),
    ("a, b, alpha=0.5, mask=None", CLASSES, "a=student_logits, b=teacher_logits"),
    ("student, teacher, attention_mask, targets", TOKENS,
     "student=student_logits, teacher=teacher_logits, attention_mask=mask, targets=labels"),
    ("student, teacher, labels=None, mask=None, T=1", TOKENS,
     "student=student_logits, teacher=teacher_logits, labels=labels, mask=mask, T=temperature"),
    ("a, b, m", TOKENS, "a=student_logits, b=teacher_logits, m=mask"),
    ("student_q, student_k, teacher_q, teacher_k, mask", ATTENTION,
     "student_q=student_queries, student_k=student_keys, teacher_q=teacher_queries, teacher_k=teacher_keys, mask=mask"),
    ("tq, tk, q_s, k_s", ATTENTION, "tq=teacher_queries, tk=teacher_keys, q_s=student_queries, k_s=student_keys"),
    ("q1, k1, q2, k2", ATTENTION, "q1=student_queries, k1=student_keys, q2=teacher_queries, k2=teacher_keys"),
    ("student_h, teacher_h", "minilm.hidden_relation", "student_h=student_hidden, teacher_h=teacher_hidden"),
    ("student_hidden_states, teacher_hidden_states", "pkd.patience",
     "student_hidden_states=student_hidden, teacher_hidden_states=teacher_hidden"),
    ("s_attn, t_attn", "tinybert.attention", "s_attn=student_scores, t_attn=teacher_scores"),
    ("student, teacher, W, mask", "tinybert.hidden",
     "student=student_hidden, teacher=teacher_hidden, W=weight, mask=mask"),
    ("*args", TOKENS, "*(student_logits, teacher_logits, mask, labels)"),
    ("student, *args", CLASSES, "student=student_logits, *(teacher_logits)"),
    ("*args, **kwargs", CLASSES, "*(student_logits, teacher_logits), **(temperature)"),
    ("**batch", TOKENS, "**(student_logits, teacher_logits, mask, labels, temperature)"),
    ("student, teacher, *args, T", CLASSES, "student=student_logits, teacher=teacher_logits, T=temperature"),
])
def test_what_goes_where(signature, equation, line):
    assert bound(signature, equation) == f"f({line})"


@pytest.mark.parametrize("signature, equation, words", [
    ("student", CLASSES, r"f\(student\): no parameter gets teacher_logits\. soft_labels\.classes offers student_logits "
     r"\(B, C\), teacher_logits \(B, C\), temperature = 1 \(other names: student: s, stu; teacher: .*: T, temp, tau\)"),
    ("student, teacher, alpha", CLASSES, r"f\(student, teacher, alpha\): nothing fits alpha\."),
    ("student, teacher, alpha", TOKENS, "nothing fits alpha"),
    ("student, teacher, key_padding_mask", TOKENS, "nothing fits key_padding_mask"),
    ("outputs, labels, teacher_outputs", CLASSES, "nothing fits labels"),
    ("student, teacher", ATTENTION, "no parameter gets student_keys"),
    ("", CLASSES, "no parameter gets student_logits"),
    ("logits", "mobilebert.pretraining", "no parameter gets teacher_logits"),
])
def test_what_does_not_fit_says_what_there_is_and_what_was_asked(signature, equation, words):
    with pytest.raises(TargetError, match=words):
        bound(signature, equation)


def test_a_model_does_not_name_all_its_weights():
    assert bound("**batch", "model.bert").endswith(" more))") and len(bound("**batch", "model.bert")) < 900
    with pytest.raises(TargetError, match=r"offers ids .* more, heads = 2, eps = 1e-12 \(other names: .*mask:"):
        bound("ids, mask", "model.bert")


def test_what_else_is_offered_goes_by_name_only():
    assert bound("student, teacher, grad_output=1", CLASSES, extra=("upstream",)).endswith("grad_output=upstream)")
    with pytest.raises(TargetError, match="nothing fits x"):
        bound("student, teacher, x", CLASSES, extra=("upstream",))


def test_a_call_keeps_order_names_and_defaults():
    def f(b, a=2, /, *more, c, d=4, **rest):
        return b, a, more, c, d, rest
    signature = inspect.signature(lambda teacher, x=2, /, *args, student, d=4, **kwargs: 0)
    offered = {"student_logits": "s", "teacher_logits": "t", "mask": "m", "temperature": 3.0}
    given = bind(_recording(signature), equations()[TOKENS], signature)(offered)
    assert given == (("t", 2, "m", None), {"student": "s", "d": 4, "temperature": 3.0})
    assert f("t", 2, "m", None, c="s") == ("t", 2, ("m", None), "s", 4, {})


def _recording(signature):
    def f(*args, **kwargs):
        signature.bind(*args, **kwargs)
        return args, kwargs
    return f


def test_partials_builtins_and_callables_are_bound():
    equation = equations()[CLASSES]
    partial = functools.partial(_plain, scale=2.0)
    assert bind(partial, equation).bound == "partial(student=student_logits, teacher=teacher_logits)"
    assert bind(min, equation).bound == "min(*(student_logits, teacher_logits))"
    assert bind(np.add, equation).name == "add"

    class Loss:
        def __call__(self, student, teacher):
            return 0
    assert bind(Loss(), equation).bound == "Loss(student=student_logits, teacher=teacher_logits)"


def _plain(student, teacher, scale):
    return scale


def test_a_function_is_asked_only_what_it_can_be_told():
    equation, mask = equations()[TOKENS], np.array([[True, False]])
    without = bind(_function("student, teacher"), equation)
    assert without.untaken == ("no mask: cases with padding are not run; no labels; "
                               "no temperature: cases at another than 1 are not run")
    assert without.fits({"mask": mask | True}, {"temperature": 1.0}) and without.fits({}, {})
    assert not without.fits({"mask": mask}, {}) and not without.fits({}, {"temperature": 2.0})
    taking = bind(_function("student, teacher, mask, labels, T"), equation)
    assert taking.untaken == "" and taking.fits({"mask": mask}, {"temperature": 2.0})
