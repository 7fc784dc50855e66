"""Numbers rounded to a few levels, with a gradient as if they were not. Equations: `kernels/fake_quantise.py`.

The straight-through estimator: dx = dy everywhere, for what was clamped, too, as nlp-architect's Q8BERT has it
(nlp_architect/nn/torch/quantization.py). torch.fake_quantize_per_tensor_affine computes the same y and gives what was
clamped no gradient: it is another estimator.
"""

from tinydistill import kernels
from tinydistill.tensor import op


@op
def fake_quantise(x, *, largest, bits):
    """clamp(round(x s), -M, M) / s with M = 2^(bits - 1) - 1, s = M / largest. Shapes: x any, largest ().

    Source: Zafrir et al. 2019, Q8BERT.
    """
    return kernels.of(x).fake_quantise(x, largest, bits), lambda dy: (dy,)


@op
def fake_quantise_groups(x, *, groups, bits):
    """Each of so many groups of rows on 2^bits levels between its own lowest and highest number. Shapes: x (F, D).

    Raises: ValueError where the groups do not divide the rows.
    Source: Shen et al. 2020, Q-BERT; unverified, from memory.
    """
    if len(x) % groups:
        raise ValueError(f"need rows that {groups} groups divide, got {x.shape}")
    grouped = x.reshape(groups, -1)                                     # (G, F/G D)
    lowest, highest = grouped.min(axis=1, keepdims=True), grouped.max(axis=1, keepdims=True)
    y = kernels.of(x).fake_quantise_between(grouped, lowest, highest, bits)
    return y.reshape(x.shape), lambda dy: (dy,)
