"""Reverse mode against forward mode on random programs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tinydistill import Tensor, gradients

PROGRAMS = st.lists(st.tuples(st.sampled_from("+-*@"), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=12)


@given(program=PROGRAMS, seed=st.integers(0, 2 ** 32 - 1))
def test_reverse_mode_agrees_with_dual_numbers_on_any_graph(program, seed):
    """<u, dy/dt> of any program of + - * @ along a random direction: forward mode knows nothing of graphs."""
    random = np.random.default_rng(seed)
    leaves = [Tensor(0.5 * random.standard_normal((2, 2)), requires_grad=True) for _ in range(3)]
    directions = [random.standard_normal((2, 2)) for _ in leaves]
    tensors, duals = list(leaves), [(x.array, v) for x, v in zip(leaves, directions)]
    for symbol, i, j in program:
        (a, da), (b, db) = duals[i % len(duals)], duals[j % len(duals)]
        x, y = tensors[i % len(tensors)], tensors[j % len(tensors)]
        tensors.append({"+": x + y, "-": x - y, "*": x * y, "@": x @ y}[symbol])
        duals.append({"+": (a + b, da + db), "-": (a - b, da - db), "*": (a * b, da * b + a * db),
                      "@": (a @ b, da @ b + a @ db)}[symbol])
    upstream = random.standard_normal((2, 2))
    found = gradients(tensors[-1], leaves, upstream)
    backward = [(g * v).sum() for g, v in zip(found, directions) if g is not None]
    forward = (upstream * duals[-1][1]).sum()
    scale = sum(np.abs(b) for b in backward) + np.abs(upstream * duals[-1][1]).sum()
    assert abs(sum(backward) - forward) <= 1e-10 * scale
