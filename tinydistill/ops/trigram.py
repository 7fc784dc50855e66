"""Every token beside its neighbours: the input of a convolution of width 3, for a `linear` to finish."""

from tinydistill.backend import xp_of
from tinydistill.tensor import op


@op
def trigram(x):
    """y_t = [x_{t+1}, x_t, x_{t-1}]: the next token, this one, the previous one, and zeros outside the sequence.

    Shapes: x (B, T, E), y (B, T, 3E).
    Source: Sun et al. 2020, embedding factorisation; the order is that of google-research/google-research
    mobilebert/modeling.py.
    """
    B, T, E = x.shape
    y = xp_of(x).zeros((B, T, 3 * E), x.dtype)
    y[:, :-1, :E] = x[:, 1:]
    y[:, :, E:2 * E] = x
    y[:, 1:, 2 * E:] = x[:, :-1]

    def pullback(dy):
        dx = dy[:, :, E:2 * E].copy()
        dx[:, 1:] += dy[:, :-1, :E]
        dx[:, :-1] += dy[:, 1:, 2 * E:]
        return (dx,)

    return y, pullback
