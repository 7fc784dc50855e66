"""The layers that hold parameters, and dropout."""

import numpy as np

from tinydistill import ops
from tinydistill.nn.module import Module
from tinydistill.tensor import Tensor


def parameter(shape, fill=0.0):
    """A float32 Tensor to be trained, every entry `fill`."""
    return Tensor(np.full(shape, fill, np.float32), requires_grad=True)


class Linear(Module):
    """y = x W^T + b. Shapes: weight (outputs, inputs), bias (outputs,) or None."""

    def __init__(self, inputs, outputs, bias=True):
        self.weight = parameter((outputs, inputs))
        self.bias = parameter((outputs,)) if bias else None

    def __call__(self, x):
        return ops.linear(x, self.weight, self.bias)

    def product(self, x):
        """x W^T: without the bias."""
        return ops.linear(x, self.weight, None)


class GroupedLinear(Linear):
    """The same in groups: outputs of a group read the inputs of that group alone, as a 1x1 convolution in groups does.

    Shapes: weight (outputs, inputs/groups), bias (outputs,).
    """

    def __init__(self, inputs, outputs, groups):
        super().__init__(inputs // groups, outputs)
        self.groups = groups

    def __call__(self, x):
        return ops.grouped_linear(x, self.weight, self.bias, groups=self.groups)

    def product(self, x):
        return ops.grouped_linear(x, self.weight, None, groups=self.groups)


def activated(linear, x, activation):
    """act(x W^T + b), act by the name of its op; GELU takes the bias in the same pass."""
    if activation == "gelu":
        return ops.bias_gelu(linear.product(x), linear.bias)
    return getattr(ops, activation)(linear(x))


class LayerNorm(Module):
    """y = weight * normalised(x + residual) + bias."""

    def __init__(self, width, eps):
        self.weight = parameter((width,), fill=1.0)
        self.bias = parameter((width,))
        self.eps = eps

    def __call__(self, x, residual=None):
        return ops.layer_norm(x, residual, self.weight, self.bias, eps=self.eps)


class NoNorm(Module):
    """y = weight * (x + residual) + bias: what MobileBERT has in place of a layer norm."""

    def __init__(self, width):
        self.weight = parameter((width,), fill=1.0)
        self.bias = parameter((width,))

    def __call__(self, x, residual=None):
        return ops.no_norm(x, residual, self.weight, self.bias)


class Embedding(Module):
    """y = weight[ids]. Shapes: weight (rows, width)."""

    def __init__(self, rows, width):
        self.weight = parameter((rows, width))

    def __call__(self, ids):
        return ops.embedding(self.weight, ids)


class Dropout(Module):
    """Inverted dropout at one `site` of the model; which units drop is a function of (seed, step, site, row)."""

    def __init__(self, rate):
        self.rate = rate
        self.site = None                            # given by number_dropouts, once the model is whole

    def bits(self, shape, run, like):
        """The bits of this pass, or None where nothing drops."""
        return run.bits(self.site, shape, like) if run.training and self.rate > 0 else None

    def __call__(self, x, run):
        bits = self.bits(x.shape, run, x.array)
        return x if bits is None else ops.dropout(x, bits=bits, rate=self.rate)


def number_dropouts(model):
    """Give every Dropout of a finished model its site, in the order of definition."""
    dropouts = [module for _, module in model.named_modules() if isinstance(module, Dropout)]
    for site, dropout in enumerate(dropouts):
        dropout.site = site
