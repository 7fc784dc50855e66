"""Which cases find which traps: a trap that no case finds means that a vector is missing."""

import numpy as np

from tinydistill_reference.equation import is_floating
from tinydistill_reference.runner import compared
from tinydistill_reference.store import Stored
from tinydistill_reference.truth import Truth


def answer(equation, trap, case, dtype):
    """What an implementation with this mistake gives, computed in dtype."""
    kind = np.dtype(dtype)
    inputs = {n: x.astype(kind) if is_floating(x) else x for n, x in case.inputs.items()}
    with np.errstate(all="ignore"):
        return {n: np.asarray(x) for n, x in trap.everything(equation, case.upstream, inputs, case.attrs).items()}


def found_by(equation, trap, stored, dtype="float64", convention="paper"):
    """Whether this case tells the mistake from the truth."""
    convention = equation.named(convention)
    if stored.case.result != "valid" or convention not in stored.truths:
        return False
    kind = np.dtype(dtype)
    inputs = {n: x.astype(kind) if is_floating(x) else x for n, x in stored.case.inputs.items()}
    with np.errstate(all="ignore"):
        got = trap.values(equation, inputs, stored.case.attrs)
        if any(not c.passed for c in compared(equation, stored, convention, got, dtype)):
            return True
        got = got | trap.gradients(equation, stored.case.upstream, inputs, stored.case.attrs)
    return any(not c.passed for c in compared(equation, stored, convention, got, dtype))


def flags_of(equation, made, traps):
    """{case: [flags]} for what `generate` has just made."""
    flags = {}
    for case, truths in made:
        if case.result == "valid" and isinstance(truths.get(equation.named()), Truth):
            stored = Stored(case, truths, ())
            flags[case.id] = [t.flag for t in traps
                              if all(found_by(equation, t, stored, dtype) for dtype in ("float64", "float32"))]
    return flags
