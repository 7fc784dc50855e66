"""Long short-term memory, in one direction and in both."""

from tinydistill import ops
from tinydistill.nn.layers import parameter
from tinydistill.nn.module import Module


class Lstm(Module):
    """The hidden state after each token that the mask has; the others are passed over. Equations: `kernels/lstm.py`.

    Shapes: x (B, T, D), mask (B, T) -> (B, T, H).
    """

    def __init__(self, inputs, width, reverse=False):
        self.input_weight = parameter((4 * width, inputs))
        self.hidden_weight = parameter((4 * width, width))
        self.input_bias = parameter((4 * width,))
        self.hidden_bias = parameter((4 * width,))
        self.reverse = reverse

    def __call__(self, x, mask):
        return ops.lstm(x, self.input_weight, self.hidden_weight, self.input_bias, self.hidden_bias,
                        mask=mask, reverse=self.reverse)


class BidirectionalLstm(Module):
    """[the state after the last token, the state after the first token read in reverse]: a sequence as one vector.

    Shapes: x (B, T, D), mask (B, T) -> (B, 2H). A sequence of which nothing is read is 0.
    """

    def __init__(self, inputs, width):
        self.forward = Lstm(inputs, width)
        self.backward = Lstm(inputs, width, reverse=True)

    def __call__(self, x, mask):
        return ops.concatenate(self.forward(x, mask)[:, -1], self.backward(x, mask)[:, 0], axis=-1)
