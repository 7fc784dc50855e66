"""Long short-term memory. Equations: `kernels/lstm.py`."""

from tinydistill import kernels
from tinydistill.backend import xp_of
from tinydistill.tensor import op


@op
def lstm(x, input_weight, hidden_weight, input_bias, hidden_bias, *, mask=None, reverse=False):
    """The hidden state after each token; with `reverse` the tokens are read from the last to the first.

    A masked token is passed over, whatever stands there: the state stays what it was (0 if no token was read yet), and
    its x has gradient 0. So the state of a whole sequence stands at its end, states[:, -1], or in reverse at its
    beginning, states[:, 0], wherever its padding is.
    Shapes: x (B, T, D), input_weight (4H, D), hidden_weight (4H, H), biases (4H,), states (B, T, H); mask (B, T), True
    at tokens that are read; None reads all. Rows of weights and biases are those of the gates i, f, g, o.
    Raises: ValueError where the mask is not (B, T).
    Source: Hochreiter and Schmidhuber 1997; gates and two biases as in torch.nn.LSTM.
    """
    xp, kernel = xp_of(x), kernels.of(x)
    mask = xp.ones(x.shape[:2], bool) if mask is None else mask
    if mask.shape != x.shape[:2]:
        raise ValueError(f"need a mask (B, T): x {x.shape}, mask {mask.shape}")
    order = slice(None, None, -1 if reverse else 1)
    x, mask = xp.where(mask[..., None], x, 0)[:, order], mask[:, order]                 # 0 * NaN would be NaN
    states, cells, gates = kernel.lstm(x, input_weight, hidden_weight, input_bias, hidden_bias, mask)

    def pullback(dstates):
        dx, *dweights = kernel.lstm_pullback(dstates[:, order], x, input_weight, hidden_weight,
                                             states, cells, gates, mask)
        return dx[:, order], *dweights

    return states[:, order], pullback
