"""Optimisers: what a gradient does to a parameter. `make(parameters, recipe)` is the one that a recipe names.

Equations in kernels/adamw.py, adam_weight_decay.py, lamb.py and adadelta.py; as printed in `reference/optimizers.py`.
"""

import numpy as np

from tinydistill import kernels
from tinydistill.backend import asarray, to_host, xp_of
from tinydistill.errors import WrongUsage
from tinydistill.tensor import RowSparse


class Optimizer:
    """What all have in common: moments and a count of steps for each parameter that ever got a gradient.

    Each adds `step(name, parameter, gradient, moments, learning_rate)`: one step of one parameter's array, in place.
    No decay on biases and on layer norms, as BERT and the Hugging Face recipes do. A parameter whose gradient is None
    was not reached by the loss and is left alone: no decay, no moments, no step counted.
    """

    KINDS = "m", "v"                                # of moments
    clips_itself = False                            # or the training loop clips the joint norm of all gradients
    forgets = False                                 # whether a factor of 0 sets the moments of a parameter to 0

    def __init__(self, parameters, recipe):
        self.parameters = parameters                # {name: Tensor}
        self.recipe = recipe
        self.moments = {}                           # name: (m, v)
        self.steps = {}                             # name: updates so far

    def update(self, gradients, learning_rate, multipliers=None):
        """One step for every parameter that has a gradient: {name: array or None}.

        multipliers: {name: factor of the learning rate}, 1 where a name has none. A factor of 0 leaves a parameter
        alone as a gradient of None does; where the optimiser `forgets`, its moments begin anew.
        """
        for name, gradient in gradients.items():
            factor = 1.0 if multipliers is None else multipliers.get(name, 1.0)
            if factor == 0 and self.forgets:
                self.moments.pop(name, None)
                self.steps.pop(name, None)
            if gradient is None or factor == 0:
                continue
            parameter = self.parameters[name].array
            if name not in self.moments:
                self.moments[name] = tuple(xp_of(parameter).zeros_like(parameter) for _ in self.KINDS)
            self.steps[name] = self.steps.get(name, 0) + 1
            self.step(name, parameter, gradient, self.moments[name], learning_rate * factor)

    def decay(self, name):
        return self.recipe.decay if decays(name) else 0.0

    def state(self):
        """(arrays by name, step counts by name): what a checkpoint keeps."""
        arrays = {f"{kind}/{name}": to_host(moment)
                  for name, moments in self.moments.items() for kind, moment in zip(self.KINDS, moments)}
        return arrays, dict(self.steps)

    def load(self, arrays, steps):
        """Go on from a `state`."""
        self.steps = dict(steps)
        self.moments = {name: tuple(asarray(arrays[f"{kind}/{name}"].copy(), self.parameters[name].array)
                                    for kind in self.KINDS) for name in steps}


class AdamW(Optimizer):
    """Adam with bias correction and decoupled weight decay."""

    def step(self, name, parameter, gradient, moments, learning_rate):
        r = self.recipe
        kernels.of(parameter).adamw(parameter, gradient, *moments, self.steps[name], learning_rate,
                                    r.beta1, r.beta2, r.eps, self.decay(name))


class AdamWeightDecay(Optimizer):
    """AdamW without bias correction."""

    def step(self, name, parameter, gradient, moments, learning_rate):
        r = self.recipe
        kernels.of(parameter).adam_weight_decay(parameter, gradient, *moments, learning_rate,
                                                r.beta1, r.beta2, r.eps, self.decay(name))


class BertAdam(AdamWeightDecay):
    """AdamWeightDecay that clips the norm of each parameter's gradient by itself, not the joint norm of all."""

    clips_itself = True

    def step(self, name, parameter, gradient, moments, learning_rate):
        clip = self.recipe.clip
        super().step(name, parameter, clipped_alone(gradient, clip) if clip else gradient, moments, learning_rate)


class Lamb(AdamWeightDecay):
    """AdamWeightDecay with steps as long as the parameter; biases and layer norms take AdamWeightDecay's own.

    Moments are set to 0 where a parameter's rate has the factor 0, as in google-research mobilebert/lamb_optimizer.py:
    for MobileBERT's progressive transfer.
    """

    forgets = True

    def step(self, name, parameter, gradient, moments, learning_rate):
        if not decays(name):
            return super().step(name, parameter, gradient, moments, learning_rate)
        r = self.recipe
        kernels.of(parameter).lamb(parameter, gradient, *moments, None, learning_rate, r.beta1, r.beta2, r.eps, r.decay)


class LambBiasCorrected(AdamW):
    """AdamW with steps as long as the parameter; biases and layer norms take AdamW's own."""

    def step(self, name, parameter, gradient, moments, learning_rate):
        if not decays(name):
            return super().step(name, parameter, gradient, moments, learning_rate)
        r = self.recipe
        kernels.of(parameter).lamb(parameter, gradient, *moments, self.steps[name], learning_rate,
                                   r.beta1, r.beta2, r.eps, r.decay)


class Adadelta(Optimizer):
    """Steps in the units of the parameter, from running means of squares; the decay is part of the gradient."""

    KINDS = "v", "u"
    RHO = 0.95

    def step(self, name, parameter, gradient, moments, learning_rate):
        kernels.of(parameter).adadelta(parameter, gradient, *moments, learning_rate, self.RHO, self.recipe.eps,
                                       self.decay(name))


OPTIMIZERS = {                                      # name: (class, what it is and whose)
    "adamw": (AdamW, "Adam with bias correction and decoupled decay: Loshchilov and Hutter 2019, torch.optim.AdamW"),
    "adam-weight-decay": (AdamWeightDecay, "no bias correction, eps outside the root: google-research/bert"),
    "bert-adam": (BertAdam, "adam-weight-decay that clips each gradient by itself: pytorch_pretrained_bert, TinyBERT"),
    "lamb": (Lamb, "adam-weight-decay, steps as long as the parameter: You et al. 2020, google-research mobilebert"),
    "lamb-bias-corrected": (LambBiasCorrected, "adamw, steps as long as the parameter: LAMB with bias correction"),
    "adadelta": (Adadelta, "no learning rate to choose but 1: Zeiler 2012, torch.optim.Adadelta with rho 0.95"),
}


def make(parameters, recipe):
    """The optimiser that the recipe names, for parameters {name: Tensor}."""
    if recipe.optimizer not in OPTIMIZERS:
        raise WrongUsage(f"need an optimizer out of {', '.join(OPTIMIZERS)}; got {recipe.optimizer!r}")
    return OPTIMIZERS[recipe.optimizer][0](parameters, recipe)


def decays(name):
    """Whether weight decay applies: to weights that are neither a bias nor in a layer norm."""
    return not name.endswith("bias") and "norm." not in name


# ---------------------------------------------------------------- gradients

def dense(gradient):
    """A gradient as an array, whatever form it came in; None stays None."""
    return gradient.dense() if isinstance(gradient, RowSparse) else gradient


def global_norm(gradients):
    """sqrt of the sum of squares over all gradients {name: array or None}, as a 0-d array of their library.

    0 where there is no gradient at all: at that step nothing that is trained took part.
    """
    squares = [(g * g).sum() for g in gradients.values() if g is not None]
    if not squares:
        return np.zeros(())
    xp = xp_of(squares[0])
    return xp.sqrt(xp.stack(squares).sum())


def clipped(gradients, norm, largest):
    """Every gradient times min(1, largest / norm): their joint norm is at most `largest`."""
    xp = xp_of(norm)
    scale = xp.minimum(1, largest / xp.maximum(norm, 1e-30)).astype(norm.dtype)
    return {name: None if g is None else g * scale for name, g in gradients.items()}


def clipped_alone(gradient, largest):
    """The gradient times min(1, largest / (norm + 1e-6)): torch's clip_grad_norm_ of one tensor, as in BertAdam."""
    xp = xp_of(gradient)
    return gradient * xp.minimum(1, largest / (xp.sqrt((gradient * gradient).sum()) + 1e-6))
