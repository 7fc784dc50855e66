"""NumPy: a function that returns its value, or (value, gradients) by its own backward.

gradients: {input or parameter: array}, a tuple in the order of the function's parameters for those inputs that have
one, or an array where it is one. They are multiplied by the gradient from above unless the function has a parameter
`upstream` for it, which it must have where the output is an array. NumPy has no bfloat16.
"""

import numpy as np

from tinydistill_reference.adapters.function import Call, by_output
from tinydistill_reference.adapters.target import found
from tinydistill_reference.equation import is_floating


def adapt(target):
    """A `call`. target: "module:function", "file.py:function", or a function."""
    return Call(found(target), evaluate, extra=("upstream",))


def evaluate(binding, inputs, attrs, grads, upstream, dtype):
    if dtype == "bfloat16":
        return NotImplemented
    outputs, above = binding.equation.outputs, upstream
    given = {name: x.astype(dtype) if is_floating(x) else x.copy() for name, x in inputs.items()}
    if len(outputs) == 1:
        above, = upstream.values()
    returned, gradients = binding(given | attrs | {"upstream": above}), None
    if returned is NotImplemented:
        return NotImplemented
    if isinstance(returned, tuple) and len(returned) == 2 and (
            len(outputs) == 1 or hasattr(returned[1], "keys") or isinstance(returned[1], (tuple, list))):
        returned, gradients = returned
    answer = {name: np.asarray(y) for name, y in by_output(returned, outputs).items()}
    if gradients is None or not grads:
        return answer
    dxs, factor = _by_input(gradients, binding, [name for name in binding.taken if name in grads]), 1
    if "upstream" not in binding.taken:
        if len(outputs) > 1 or any(y.ndim for y in answer.values()):
            raise ValueError("gradients of an array need the parameter upstream")
        factor = above
    return answer | {f"d{name}": factor * np.asarray(dx, np.float64) for name, dx in dxs.items() if dx is not None}


def _by_input(gradients, binding, asked):
    """{input: gradient}."""
    if hasattr(gradients, "keys"):
        called = {key: names[0] for key, names in binding.given.items() if len(names) == 1}
        called |= {key: name for name in binding.taken for key in (name, f"d{name}")}
        if unknown := [key for key in gradients if key not in called]:
            raise ValueError(f"gradients of {', '.join(unknown)}: need those of {', '.join(asked)}")
        return {called[key]: dx for key, dx in gradients.items()}
    gradients = gradients if isinstance(gradients, (tuple, list)) else (gradients,)
    if len(gradients) != len(asked):
        raise ValueError(f"returned {len(gradients)} gradients: need {len(asked)} ({', '.join(asked)})")
    return dict(zip(asked, gradients))
