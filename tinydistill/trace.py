"""One loss, step by step: every array that its code computes, with the name and the line at which it gets one.

Nothing is computed here. `trace` runs the loss and `gradients`, with plain kernels, while Python's own `sys.settrace`
tells when a line of losses, ops or kernels has been executed; an array that a local variable holds then and did not
before is a step. An array has one number however often it is handed on: what it is called later points back to it.
"""

import contextlib
import inspect
import sys
from dataclasses import dataclass, field

import numpy as np

from tinydistill import kernels
from tinydistill.source import Place, equation_of, file_of, function_at, statement
from tinydistill.tensor import RowSparse, Tensor, gradients

FOLDERS = ("tinydistill.losses.", "tinydistill.ops.", "tinydistill.kernels.")
NOT_SHOWN = ("tinydistill.losses.term",)            # adds up pairs of layers
HELPERS = ("unbroadcast", "check_labels")           # of ops: their callers say as much
SHOWN_AS_IT_IS = (bool, int, float, str)            # arguments of a call that are no arrays


@dataclass(eq=False)
class Call:
    """A function that was entered: arguments {name: Step of an array, or a number or text as it is}."""

    phase: str
    function: str
    place: Place
    equation: str
    parents: tuple
    arguments: dict = field(default_factory=dict)

    @property
    def depth(self):
        return len(self.parents)


@dataclass(eq=False)
class Step:
    """An array when it gets a name. values: a copy. place: the line that named it; made: the line that computed it, if
    that is the `return` of another function. twin: the step with the same numbers, if this is but a new name for them.
    gradient_of: the step of the forward that this is dloss/d of.
    """

    number: int
    call: Call
    name: str
    place: Place
    values: np.ndarray
    made: Place | None = None
    twin: object = None
    gradient_of: object = None


@dataclass(frozen=True)
class Trace:
    """What `trace` saw: steps in order, the loss, {input: gradient or None}, and step_of(array), where it was shown."""

    steps: list
    loss: Tensor
    gradients: dict
    step_of: object


def trace(loss, inputs, left_out=()):
    """The Trace of `loss()`, a scalar Tensor, and of its gradients for inputs {name: Tensor}.

    left_out: functions whose own variables are no steps, such as a term's adapter. The tracer that was there before, a
    debugger's or that of a coverage tool, sees nothing of it and is back afterwards.
    """
    recorder = _Recorder({code for function in left_out for code in _codes(function.__code__)})
    with kernels.use("plain"), recorder.watching("forward"):
        value = loss()
    recorder.finish(value)
    with kernels.use("plain"), recorder.watching("backward"):
        found = gradients(value, list(inputs.values()))
    found = [g.dense() if isinstance(g, RowSparse) else g for g in found]
    return Trace(recorder.steps, value, dict(zip(inputs, found)), recorder.known_as)


def _codes(code):
    """A code object and all that are defined within it."""
    yield code
    for part in code.co_consts:
        if isinstance(part, type(code)):
            yield from _codes(part)


class _Recorder:
    """Steps and calls so far. Called by Python when a function is entered; returns who watches its lines, or None."""

    def __init__(self, left_out):
        self.left_out = left_out
        self.steps, self.stack, self.pullback = [], [], None
        self.known = {}                             # id(array): (array, its step); holding it keeps the id its own
        self.returned = {}                          # id(array): (array, place, call): has no name yet

    @contextlib.contextmanager
    def watching(self, phase):
        self.phase, before = phase, sys.gettrace()
        sys.settrace(self)
        try:
            yield
        finally:
            sys.settrace(before)

    def __call__(self, frame, event, _):
        code, module = frame.f_code, frame.f_globals.get("__name__", "")
        if code is gradients.__code__:
            return _Walk(self, frame)
        if not module.startswith(FOLDERS) or module in NOT_SHOWN or code.co_name in HELPERS or code in self.left_out:
            return None
        if code.co_name.startswith("<") and (code.co_name != "<lambda>" or self.phase == "forward"):
            return None                                                     # comprehensions; what is handed to others
        if frame.f_back.f_code is gradients.__code__:
            if code.co_argcount == 0 and self.pullback:                     # the part of a pullback that was put off
                return _Lines(self, frame, self.pullback)
            self.pullback = self.entered(frame)
            return _Lines(self, frame, self.pullback)
        return _Lines(self, frame, self.entered(frame))

    def entered(self, frame):
        """The Call, with its arguments; those that have no name yet get theirs here."""
        code = frame.f_code
        function, place = function_at(code)
        call = Call(self.phase, function, place, equation_of(code), tuple(self.stack))
        expression = _caller(frame) or place
        count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & inspect.CO_VARARGS)
        for name in code.co_varnames[:count]:
            value = frame.f_locals[name]
            if isinstance(value, SHOWN_AS_IT_IS) and not isinstance(value, np.generic):
                call.arguments[name] = value
                continue
            for label, array in _arrays(name, value):
                call.arguments[label] = self.known_as(array) or self.add(label, array, expression, call)
        return call

    def known_as(self, array):
        """The step that shows this very array, or one with the same numbers in this phase; None if there is none."""
        if id(array) in self.known:
            step = self.known[id(array)][1]
            if _same(step.values, array):
                return step
        for step in self.steps:
            if step.call.phase == self.phase and np.size(array) > 1 and _same(step.values, array):
                self.known[id(array)] = array, step.twin or step
                return step.twin or step
        return None

    def add(self, name, array, place, call, gradient_of=None):
        """One more step; a new name for numbers that were shown is one without values."""
        twin = self.known_as(array)
        _, made, _ = self.returned.pop(id(array), (None, None, None))
        number = 1 + sum(step.twin is None for step in self.steps)
        step = Step(twin.number if twin else number, call, name, place, np.array(array), made, twin, gradient_of)
        self.steps.append(step)
        self.known[id(array)] = array, twin or step
        return step

    def finish(self, value):
        """The loss gets its name where nothing in the code gave it one."""
        if self.known_as(value.array) is None:
            _, made, call = self.returned[id(value.array)]
            self.add("loss", value.array, made, call)


class _Lines:
    """Watches the lines of one call: after each, which local variables hold a new array."""

    def __init__(self, recorder, frame, call):
        self.recorder, self.call, self.line = recorder, call, frame.f_code.co_firstlineno
        self.file = file_of(frame.f_code)
        self.locals = frame.f_code.co_varnames + frame.f_code.co_cellvars
        self.before = dict(self.variables(frame))
        recorder.stack.append(call)

    def __call__(self, frame, event, result):
        recorder = self.recorder
        for name, array in self.variables(frame):
            step = recorder.known_as(array)
            changed_in_place = step is None and not isinstance(array, float)
            if self.before.get(name) is not array or changed_in_place:
                self.before[name] = array
                if step is None or not self.told(name, step):
                    recorder.add(name, array, self.place(), self.call)
        if event == "return":
            recorder.stack.pop()
            for _, array in _arrays("", result):
                if id(array) not in recorder.known and id(array) not in recorder.returned:
                    recorder.returned[id(array)] = array, self.place(), self.call
        self.line = frame.f_lineno
        return self

    def variables(self, frame):
        for name in self.locals:
            if name in frame.f_locals:
                yield from _arrays(name, frame.f_locals[name])

    def told(self, name, step):
        """Whether this name of a step was shown before."""
        return any(other.name == name for other in self.recorder.steps if other is step or other.twin is step)

    def place(self):
        return Place(self.file, *statement(self.file, self.line))


class _Walk:
    """Watches `gradients` itself, whose `dx` is the gradient of `x`, and `flowing` what has come together so far."""

    def __init__(self, recorder, frame):
        self.recorder, self.line, self.file, self.done = recorder, frame.f_lineno, file_of(frame.f_code), {}
        function, place = function_at(frame.f_code)
        self.call = Call("backward", function, place, "", ())

    def __call__(self, frame, event, _):
        there = frame.f_locals
        x, loss = there.get("x"), there["loss"]
        if isinstance(x, Tensor) and x.requires_grad and not callable(there.get("dx")):
            self.reached(x, there.get("dx"))
        for gradient in there.get("flowing", {}).values():
            self.reached(loss if x is None else x, gradient)
        self.line = frame.f_lineno
        return self

    def reached(self, x, gradient):
        """A gradient of the Tensor x, the first time that it is seen: it is called d and the name of x."""
        if id(gradient) in self.done:
            return
        self.done[id(gradient)], recorder = gradient, self.recorder
        for _, array in _arrays("", gradient):
            target = recorder.known[id(x.array)][1]
            twin, (_, place, call) = recorder.known_as(array), recorder.returned.get(id(array), (None, None, None))
            if twin and twin.name == f"d{target.name}" and twin.gradient_of in (None, target):
                twin.gradient_of = target
                recorder.known[id(array)] = array, twin
            else:
                here = Place(self.file, *statement(self.file, self.line))
                recorder.add(f"d{target.name}", array, place or here, call or self.call, target)


def _arrays(name, value):
    """(name, array) for a variable that is an array, a Tensor or a Python float, and for each such part of a tuple."""
    if isinstance(value, (tuple, list)):
        for i, part in enumerate(value):
            if not isinstance(part, float) or isinstance(part, np.generic):
                yield from _arrays(f"{name}[{i}]", part)
    elif isinstance(value, Tensor):
        yield from _arrays(name, value.array)
    elif isinstance(value, RowSparse):
        yield name, value.dense()
    elif isinstance(value, (np.ndarray, np.generic, float)):
        yield name, value


def _same(values, array):
    """Whether two arrays hold the same numbers, axes of length 1 left aside."""
    a, b = np.squeeze(values), np.squeeze(array)
    return a.dtype.kind == b.dtype.kind and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _caller(frame):
    """The line of losses, ops or kernels from which this frame was called, through whatever lies between."""
    caller = frame.f_back
    while caller is not None and not caller.f_globals.get("__name__", "").startswith(FOLDERS):
        caller = caller.f_back
    return caller and Place(file_of(caller.f_code), *statement(file_of(caller.f_code), caller.f_lineno))
