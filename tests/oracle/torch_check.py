"""The same function in PyTorch: value and every gradient, with a random upstream gradient."""

import numpy as np
import torch

from gradcheck import assert_close32, assert_close64, is_floating, kappa, value_and_gradients


def against_torch(op, torch_function, arrays, *, without_gradient=(), seed=0, **settings):
    """Fail unless op equals its PyTorch twin, in float64 and in float32 by the tolerance rule.

    `op(*arrays, **settings)` is ours; `torch_function` takes the same positional arrays as torch tensors and knows its
    settings itself. `without_gradient` are the places of inputs that by declaration get none.
    """
    arrays = [np.asarray(a) for a in arrays]
    floating = [i for i, a in enumerate(arrays) if is_floating(a)]

    def twin(upstream):
        """Outputs and gradients by PyTorch, as a function of arrays; zero where it finds no path."""
        def outputs_and_gradients(*inputs):
            tensors = [torch.tensor(np.array(x), requires_grad=is_floating(x)) for x in inputs]
            outputs = torch_function(*tensors)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            scalar = sum((y * torch.tensor(u).to(y.dtype)).sum() for y, u in zip(outputs, upstream))
            found = torch.autograd.grad(scalar, [tensors[i] for i in floating], allow_unused=True)
            return [y.detach().numpy() for y in outputs] + \
                [np.zeros_like(inputs[i]) if g is None else g.numpy() for i, g in zip(floating, found)]
        return outputs_and_gradients

    def compare(dtype, close):
        inputs = [a.astype(dtype) if is_floating(a) else a for a in arrays]
        outputs, found, upstream = value_and_gradients(op, inputs, np.random.default_rng(seed), **settings)
        truth = twin(upstream)(*[x.astype(np.float64) if is_floating(x) else x for x in inputs])
        names = [f"{op.__name__} {dtype.__name__} output {k}" for k in range(len(outputs))]
        names += [f"{op.__name__} {dtype.__name__} gradient of input {i}" for i in floating]
        for i, gradient in zip(floating, found):
            assert (gradient is None) == (i in without_gradient), f"{op.__name__}: gradient {gradient} of input {i}"
        close(outputs + found, truth, names, twin(upstream), inputs)

    def close64(got, truth, names, *_):
        for g, t, name in zip(got, truth, names, strict=True):
            if g is not None:
                assert_close64(g, t, name)

    def close32(got, truth, names, function, inputs):
        for g, t, k, name in zip(got, truth, kappa(function, inputs, truth), names, strict=True):
            if g is not None:
                assert_close32(g, t, k, name)

    compare(np.float64, close64)
    compare(np.float32, close32)
