"""JAX: a function; gradients by jax.vjp, of every floating input, the teacher's too.

64 bits are switched on for float64 alone, so that nothing of another dtype is computed in it.
"""

import contextlib

import numpy as np

from tinydistill_reference.adapters.function import Call, by_output
from tinydistill_reference.adapters.target import found, library
from tinydistill_reference.equation import is_floating


def adapt(target):
    """A `call`. target: "module:function", "file.py:function", or a function."""
    library("jax", "jax")
    return Call(found(target), evaluate)


def evaluate(binding, inputs, attrs, grads, upstream, dtype):
    import jax
    import jax.numpy as jnp
    with _sixty_four_bits() if dtype == "float64" else contextlib.nullcontext():
        floating = {name: jnp.asarray(x, getattr(jnp, dtype)) for name, x in inputs.items() if is_floating(x)}
        others = {name: jnp.asarray(x) for name, x in inputs.items() if name not in floating}

        def f(floating):
            results = by_output(binding(floating | others | attrs), binding.equation.outputs)
            results = {name: jnp.asarray(y) for name, y in results.items()}
            return {name: y for name, y in results.items() if name in upstream}, results

        if not grads:
            return {name: _array(y) for name, y in f(floating)[1].items()}
        below, pullback, results = jax.vjp(f, floating, has_aux=True)
        answer = {name: _array(y) for name, y in results.items()}
        if any(np.shape(upstream[name]) not in ((), y.shape) for name, y in below.items()):
            return answer                           # of another shape than asked for, which is told
        dxs, = pullback({name: jnp.broadcast_to(jnp.asarray(upstream[name], y.dtype), y.shape)
                         for name, y in below.items()})
        return answer | {f"d{name}": _array(dx) for name, dx in dxs.items()}


def _sixty_four_bits():
    import jax
    if not hasattr(jax, "enable_x64"):              # of JAX before 0.8
        from jax.experimental import enable_x64
        return enable_x64()
    return jax.enable_x64(True)


def _array(y):
    """NumPy has no bfloat16."""
    return np.asarray(y, np.float64) if is_floating(y) or y.dtype == "bfloat16" else np.asarray(y)
