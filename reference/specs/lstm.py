"""LSTM: cases. The sums: `lstm.py`."""

import numpy as np

from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.lstm import lstm, lstm_cell, lstm_cell_gradient, lstm_gradient
from tinydistill_reference.numbers import lengths_to_mask, poisoned

B, T, D, H = 3, 4, 5, 2
MASK = lengths_to_mask((4, 2, 1), T)
SOURCE = {"paper": Convention({}, "torch.nn.LSTM: gates i, f, g, o, and two biases")}
WEIGHTS = {"input_weight": "(4H, D)", "hidden_weight": "(4H, H)", "input_bias": "(4H,)", "hidden_bias": "(4H,)"}


def weights(numbers, scale=1.0, inputs=D):
    return {"input_weight": numbers.normal(4 * H, inputs, scale=scale),
            "hidden_weight": numbers.normal(4 * H, H, scale=scale),
            "input_bias": numbers.normal(4 * H), "hidden_bias": numbers.normal(4 * H)}


def cell_cases(numbers):
    def case(id, comment, *, hidden=None, cell=None, scale=1.0, inputs=D, to=(1.0, 1.0), **settings):
        hidden = numbers.normal(B, H, scale=0.5) if hidden is None else hidden
        cell = numbers.normal(B, H) if cell is None else cell
        upstream = {name: factor * numbers.normal(B, H) for name, factor in zip(("next_hidden", "next_cell"), to)}
        return Case(id, comment, {"x": numbers.normal(B, D), "hidden": hidden, "cell": cell}
                    | weights(numbers, scale, inputs), upstream=upstream, **settings)

    yield case("01-plain", "gradients come back to the hidden state and to the cell")
    yield case("02-hidden", "a gradient comes back to the hidden state alone", to=(1.0, 0.0))
    yield case("03-cell", "a gradient comes back to the cell alone", to=(0.0, 1.0))
    yield case("04-first", "the first step: both states are 0", hidden=np.zeros((B, H)), cell=np.zeros((B, H)))
    yield case("05-saturated", "gates near 0 and 1", scale=4.0)
    yield case("06-full", "a cell of which tanh is nearly 1", cell=numbers.normal(B, H, offset=6.0))
    yield case("20-shapes", "a weight for more inputs", inputs=D + 1, result="error",
               error="(?i)shape|size|dimension|mismatch")


def sequence_cases(numbers):
    def case(id, comment, *, mask=MASK, reverse=False, **settings):
        x = numbers.normal(B, T, D)
        x = poisoned(x, mask) if mask.shape == MASK.shape else x
        return Case(id, comment, {"x": x} | weights(numbers) | {"mask": mask}, {"reverse": reverse},
                    upstream=numbers.normal(B, T, H), **settings)

    yield case("01-plain", "no padding", mask=lengths_to_mask((4, 4, 4), T))
    yield case("02-right", "padding on the right (4, 2 and 1 of 4 tokens)")
    yield case("03-left", "padding on the left", mask=MASK[:, ::-1].copy())
    yield case("04-holes", "padding between the tokens", mask=np.tile([1, 0, 0, 1], (B, 1)) == 1)
    yield case("05-reverse", "read from the last token to the first", mask=lengths_to_mask((4, 4, 4), T), reverse=True)
    yield case("06-reverse-right", "the same with padding on the right", reverse=True)
    yield case("20-mask", "a mask of fewer tokens", mask=MASK[:, :-1], result="error",
               error="(?i)shape|size|mask|dimension")


EQUATIONS = (
    Equation("lstm_cell", "Hochreiter and Schmidhuber 1997", "with the forget gate of Gers et al. 2000",
             "c' = f c + i g, h' = o tanh(c')", lstm_cell, lstm_cell_gradient,
             {"x": "(B, D)", "hidden": "(B, H)", "cell": "(B, H)"} | WEIGHTS, ("x", "hidden", "cell", *WEIGHTS),
             cell_cases, {}, SOURCE, ("next_hidden", "next_cell")),
    Equation("lstm", "Hochreiter and Schmidhuber 1997", "with the forget gate of Gers et al. 2000",
             "c_t = f c_{t-1} + i g, h_t = o tanh(c_t); a masked token changes nothing", lstm, lstm_gradient,
             {"x": "(B, T, D)"} | WEIGHTS | {"mask": "(B, T)"}, ("x", *WEIGHTS), sequence_cases, {"reverse": False},
             {"paper": Convention({}, SOURCE["paper"].source + "; padding as pack_padded_sequence leaves it out")},
             ("y",)),
)
