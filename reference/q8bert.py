"""Q8BERT (Zafrir, Boudoukh, Izsak and Wasserblat 2019), as published code has it.

    M = 2^(bits-1) - 1        Quantise(x) = clamp(round(x s), -M, M)        fake(x) = Quantise(x) / s        s = M / r
    r = max |W| for weights;  for activations r_1 = max |x_1|,  r_t = r_{t-1} - (1 - decay) (r_{t-1} - max |x_t|)
    y = fake(x) fake(W)^T + b        in integers: y = (X W^T + Quantise_32(b)) / (s_x s_w)

Source: IntelLabs/nlp-architect, nlp_architect/nn/torch/quantization.py. Shapes: x (N, D), W (F, D), b (F,); r is a
number, `largest` in the code.

Traps
  - halves go to the even level, and -M - 1 is no level
  - the gradient passes the rounding as if it were the identity, for what was clamped, too: here an imaginary part does,
    so that a complex step differentiates as training does; torch.fake_quantize gives what was clamped none
  - a tensor of zeros has no scale: here everything is 0 then
"""

import numpy as np

from tinydistill_reference.conventions import need


def levels(x, largest, bits=8):
    """Quantise(x), number by number, of the real part."""
    M = 2 ** (bits - 1) - 1
    need(largest >= 0 and bits >= 2, f"a largest number of at least 0 and at least 2 bits, got {largest} and {bits}")
    if largest == 0:
        return np.zeros(np.shape(x))
    return np.array([max(-M, min(M, round(v * (M / largest)))) for v in np.real(x).ravel()]).reshape(np.shape(x))


def fake(x, largest, bits=8):
    """fake(x), straight through for an imaginary part."""
    y = levels(x, largest, bits) / ((2 ** (bits - 1) - 1) / largest) if largest else levels(x, largest, bits)
    return y + 1j * np.imag(x) if np.iscomplexobj(x) else y


def fake_gradient(upstream, x, largest, bits=8):
    """dx = dy, for what was clamped, too."""
    return {"x": upstream}


def moving_average(maxima, decay=0.9999):
    """r after each of the steps."""
    r = [maxima[0]]
    for largest in maxima[1:]:
        r.append(r[-1] - (1 - decay) * (r[-1] - largest))
    return r


def linear(x, weight, bias, largest, bits=8):
    """fake(x) fake(W)^T + b, sum by sum."""
    fake_x, fake_weight = fake(x, largest, bits), fake(weight, max(abs(np.real(weight).ravel())), bits)
    return np.array([[sum(a * w for a, w in zip(row, neuron)) + b for neuron, b in zip(fake_weight, bias)]
                     for row in fake_x])


def linear_in_integers(x, weight, bias, largest, bits=8):
    """The same of Python's integers, which have no width, with the bias as one of them."""
    need(x.shape[1:] == weight.shape[1:] and bias.shape == weight.shape[:1],
         f"x (N, D), weight (F, D) and bias (F,) whose shapes fit: x {x.shape}, weight {weight.shape}, "
         f"bias {bias.shape}")
    M, own = 2 ** (bits - 1) - 1, float(max(abs(weight.ravel())))
    unit = (largest / M) * (own / M)
    X, W = (levels(*pair, bits).astype(int).tolist() for pair in ((x, largest), (weight, own)))
    return np.array([[(sum(a * w for a, w in zip(row, neuron)) + round(b / unit)) * unit for neuron, b in zip(W, bias)]
                     for row in X])
