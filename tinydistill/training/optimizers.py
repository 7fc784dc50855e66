"""Optimisers: what a gradient does to a parameter."""

from tinydistill import kernels
from tinydistill.backend import asarray, to_host, xp_of
from tinydistill.tensor import RowSparse


class AdamW:
    """Adam with bias correction and decoupled weight decay; equations in `kernels/adamw.py`.

    No decay on biases and on layer norms, as BERT and the Hugging Face recipes do. A parameter whose gradient is None
    was not reached by the loss and is left alone: no decay, no moments, no step counted.
    """

    def __init__(self, parameters, recipe):
        self.parameters = parameters                # {name: Tensor}
        self.recipe = recipe
        self.moments = {}                           # name: (m, v)
        self.steps = {}                             # name: updates so far

    def update(self, gradients, learning_rate):
        """One step for every parameter that has a gradient: {name: array or None}."""
        r = self.recipe
        for name, gradient in gradients.items():
            if gradient is None:
                continue
            parameter = self.parameters[name].array
            if name not in self.moments:
                xp = xp_of(parameter)
                self.moments[name] = xp.zeros_like(parameter), xp.zeros_like(parameter)
            m, v = self.moments[name]
            self.steps[name] = self.steps.get(name, 0) + 1
            kernels.of(parameter).adamw(parameter, gradient, m, v, self.steps[name], learning_rate,
                                        r.beta1, r.beta2, r.eps, r.decay if decays(name) else 0.0)

    def state(self):
        """(arrays by name, step counts by name): what a checkpoint keeps."""
        arrays = {f"{kind}/{name}": to_host(moment)
                  for name, pair in self.moments.items() for kind, moment in zip("mv", pair)}
        return arrays, dict(self.steps)

    def load(self, arrays, steps):
        """Go on from a `state`."""
        self.steps = dict(steps)
        for name in steps:
            like = self.parameters[name].array
            self.moments[name] = tuple(asarray(arrays[f"{kind}/{name}"].copy(), like) for kind in "mv")


def decays(name):
    """Whether weight decay applies: to weights that are neither a bias nor in a layer norm."""
    return not name.endswith("bias") and "norm." not in name


def dense(gradient):
    """A gradient as an array, whatever form it came in; None stays None."""
    return gradient.dense() if isinstance(gradient, RowSparse) else gradient


def global_norm(gradients):
    """sqrt of the sum of squares over all gradients {name: array or None}, as a 0-d array of their library."""
    squares = [(g * g).sum() for g in gradients.values() if g is not None]
    xp = xp_of(squares[0])
    return xp.sqrt(xp.stack(squares).sum())


def clipped(gradients, norm, largest):
    """Every gradient times min(1, largest / norm): their joint norm is at most `largest`."""
    xp = xp_of(norm)
    scale = xp.minimum(1, largest / xp.maximum(norm, 1e-30)).astype(norm.dtype)
    return {name: None if g is None else g * scale for name, g in gradients.items()}
