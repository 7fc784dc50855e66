"""Ways of making a Trap out of an equation that is right.

    reads(...)      other arrays than were given: a mask of ones, the teacher in the student's place
    sets(...)       other numbers: eps = 1e-5, a divisor
    scaled(...)     the right value or gradient, times a factor
    computes(...)   another forward; its gradient by complex step, so it is the true gradient of a wrong loss
    derives(...)    the right value with another gradient: an error in a hand-written backward
"""

import numpy as np

from tinydistill_reference.equation import Trap
from tinydistill_reference.witnesses import complex_step, total


def _trap(where, values, gradients):
    return Trap(**where, values=values, gradients=gradients)


def _right_values(equation, inputs, attrs):
    return equation.values(inputs, attrs)


def reads(equation, flag, bug, effect, source, **changes):
    """changes: {input: f(inputs, attrs) -> the array read instead}. Gradients are those of the array that was read."""
    def seen(inputs, attrs):
        return inputs | {name: f(inputs, attrs) for name, f in changes.items()}
    return _trap(_where(equation, flag, bug, effect, source),
                 lambda e, inputs, attrs: e.values(seen(inputs, attrs), attrs),
                 lambda e, upstream, inputs, attrs: e.gradients(upstream, seen(inputs, attrs), attrs))


def sets(equation, flag, bug, effect, source, **changes):
    """changes: settings of a convention, or attrs; a function of (inputs, attrs) or a value."""
    def settings(e, inputs, attrs):
        return {k: f(inputs, attrs) if callable(f) else f for k, f in changes.items()}

    def split(e, inputs, attrs):
        new = settings(e, inputs, attrs)
        return attrs | {k: v for k, v in new.items() if k in e.attrs}, \
            e.settings() | {k: v for k, v in new.items() if k not in e.attrs}
    return _trap(_where(equation, flag, bug, effect, source),
                 lambda e, inputs, attrs: e.values(inputs, *split(e, inputs, attrs)),
                 lambda e, upstream, inputs, attrs: e.gradients(upstream, inputs, *split(e, inputs, attrs)))


def scaled(equation, flag, bug, effect, source, value=None, gradient=None):
    """value, gradient: f(inputs, attrs) -> factor; None leaves it right."""
    def times(found, factor, inputs, attrs):
        return {k: x * (factor(inputs, attrs) if factor else 1) for k, x in found.items()}
    return _trap(_where(equation, flag, bug, effect, source),
                 lambda e, inputs, attrs: times(e.values(inputs, attrs), value, inputs, attrs),
                 lambda e, upstream, inputs, attrs: times(
                     e.gradients(upstream, inputs, attrs), gradient, inputs, attrs))


def computes(equation, flag, bug, effect, source, forward):
    """forward(**inputs, **attrs): as an equation's; it has to be holomorphic, a maximum looking at the real part."""
    def values(e, inputs, attrs):
        found = forward(**inputs, **(e.attrs | attrs))
        return found if isinstance(found, dict) else {e.outputs[0]: found}

    def gradients(e, upstream, inputs, attrs):
        return {f"d{name}": complex_step(lambda moved: total(upstream, values(e, moved, attrs)), inputs, name)
                for name in e.differentiable}
    return _trap(_where(equation, flag, bug, effect, source), values, gradients)


def derives(equation, flag, bug, effect, source, change):
    """change(gradients, inputs, attrs, upstream) -> {"d" + input: array} that differ; the others stay right."""
    def gradients(e, upstream, inputs, attrs):
        right = e.gradients(upstream, inputs, attrs)
        return right | change(right, inputs, e.attrs | attrs, upstream)
    return _trap(_where(equation, flag, bug, effect, source), _right_values, gradients)


def ignores_upstream(equation, flag, bug, effect, source):
    """The gradient for an upstream of 1, whatever it is."""
    def gradients(e, upstream, inputs, attrs):
        ones = {k: np.ones_like(u) for k, u in upstream.items()} if isinstance(upstream, dict) else \
            np.ones_like(upstream)
        return e.gradients(ones, inputs, attrs)
    return _trap(_where(equation, flag, bug, effect, source), _right_values, gradients)


def _where(equation, flag, bug, effect, source):
    return {"equation": equation, "flag": flag, "bug": bug, "effect": effect, "source": source}
