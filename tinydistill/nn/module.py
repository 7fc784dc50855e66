"""Module: a tree of parameters with dotted names."""

import numpy as np

from tinydistill.backend import asarray, generator, stream, to_host
from tinydistill.errors import Problem
from tinydistill.nn.initial import normal
from tinydistill.tensor import Tensor


class Module:
    """A part of a model. Its parameters are the Tensors among its attributes, and those of the modules among them."""

    def named_modules(self, prefix=""):
        """(dotted name, module) for this module and all below it, in the order of definition."""
        yield prefix, self
        for name, value in vars(self).items():
            parts = enumerate(value) if isinstance(value, list) else [(None, value)]
            for i, part in parts:
                if isinstance(part, Module):
                    path = name if i is None else f"{name}.{i}"
                    yield from part.named_modules(f"{prefix}.{path}" if prefix else path)

    def named_parameters(self):
        """{dotted name: Tensor}, in the order of definition."""
        return {f"{prefix}.{name}" if prefix else name: value
                for prefix, module in self.named_modules()
                for name, value in vars(module).items() if isinstance(value, Tensor)}

    def parameters(self):
        return list(self.named_parameters().values())

    def initialise(self, seed, std, prefixes=("",), draw=normal):
        """Draw every matrix from N(0, std^2), each by its own name; vectors keep what they were made with.

        prefixes: only matrices whose names begin with one of these. draw: another distribution, of `nn.initial`.
        """
        for name, parameter in self.named_parameters().items():
            if parameter.ndim >= 2 and name.startswith(tuple(prefixes)):
                drawn = draw(generator(seed, stream(name)), parameter.shape) * std
                parameter.array = drawn.astype(parameter.dtype)
        return self

    def to(self, xp, dtype=None):
        """Move every parameter into the library `xp`, and to `dtype` where one is given."""
        for parameter in self.parameters():
            parameter.array = xp.asarray(to_host(parameter.array).astype(dtype or parameter.dtype, copy=False))
        return self

    def arrays(self):
        """{name: NumPy array}: what a checkpoint holds."""
        return {name: to_host(p.array) for name, p in self.named_parameters().items()}

    def load(self, arrays):
        """Take every parameter from `arrays` {name: NumPy array}: the same names and shapes, or a Problem that names them."""
        load_parameters(self.named_parameters(), arrays)
        return self


def load_parameters(parameters, arrays):
    """Give {name: Tensor} the values of {name: NumPy array}: the same names and shapes, or a Problem that names them."""
    missing, unexpected = sorted(parameters.keys() - arrays.keys()), sorted(arrays.keys() - parameters.keys())
    if missing or unexpected:
        raise Problem(f"the weights do not fit this model: missing {missing[:3] or 'none'}, "
                      f"unexpected {unexpected[:3] or 'none'}")
    for name, parameter in parameters.items():
        if arrays[name].shape != parameter.shape:
            raise Problem(f"the weights do not fit this model: {name} needs shape {parameter.shape}, "
                          f"got {arrays[name].shape}")
    for name, parameter in parameters.items():
        parameter.array = asarray(np.array(arrays[name], parameter.dtype), like=parameter.array)
