"""Results of the conformance kit on implementations that are right, or wrong in known ways, for tests of reports."""

import numpy as np

from tinydistill_reference import report
from tinydistill_reference.equation import equations, traps
from tinydistill_reference.runner import run
from tinydistill_reference.selftest import mistaken, printed

CLASSES, ATTENTION = "soft_labels.classes", "minilm.attention"


def flagged(name, flag):
    return next(t for t in traps(name) if t.flag == flag)


def with_trap(name, flag, dtype="float32", **settings):
    """The result of an implementation with a known mistake."""
    equation = equations()[name]
    return run(equation, mistaken(equation, flagged(name, flag)), dtype, strict=True, **settings)


def changed(name, change, dtype="float32", **settings):
    """The result of the printed code, of whose answer change(got, inputs, attrs) makes another."""
    equation = equations()[name]
    right = printed(equation, {})

    def call(name, attrs, inputs, grads, upstream, dtype):
        return change(right(name, attrs, inputs, grads, upstream, dtype), inputs, attrs)
    return run(equation, call, dtype, strict=True, **settings)


def times(factor):
    """A change: everything times factor(inputs, attrs)."""
    return lambda got, inputs, attrs: {name: x * factor(inputs, attrs) for name, x in got.items()}


def said(result):
    return "\n".join(report.lines(result))


def failing():
    def odd(got, inputs, attrs):
        raise ValueError("<b>bad\x1b[31m</b> & ]]> done")
    return [with_trap(CLASSES, "T_not_T2"), with_trap(CLASSES, "no_T2"),
            changed(ATTENTION, lambda got, inputs, attrs: got, "float16"), changed(ATTENTION, odd),
            changed(CLASSES, lambda got, inputs, attrs: got | {"value": got["value"] * np.nan})]
