"""Optimisers in PyTorch: torch.optim where it has them, else written from the formulas; clipping; schedules."""

import torch
import transformers


class WithoutCorrection(torch.optim.Optimizer):
    """Google's BERT, pytorch_pretrained_bert's BertAdam (`alone`), and LAMB (`ratio`), with a correction if asked."""

    def __init__(self, groups, lr, betas, eps, alone=None, ratio=False, corrected=False):
        super().__init__(groups, dict(lr=lr, betas=betas, eps=eps, alone=alone, ratio=ratio, corrected=corrected))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for w in (w for w in group["params"] if w.grad is not None):
                if group["alone"]:
                    torch.nn.utils.clip_grad_norm_(w, group["alone"])
                state = self.state[w] or {"t": 0, "m": torch.zeros_like(w), "v": torch.zeros_like(w)}
                self.state[w] = state = {"t": state["t"] + 1, "m": torch.lerp(state["m"], w.grad, 1 - group["betas"][0]),
                                         "v": torch.lerp(state["v"], w.grad ** 2, 1 - group["betas"][1])}
                corrections = [1 - beta ** (state["t"] if group["corrected"] else torch.inf) for beta in group["betas"]]
                u = state["m"] / corrections[0] / (torch.sqrt(state["v"] / corrections[1]) + group["eps"])
                u = torch.add(u, w, alpha=group["weight_decay"])
                norms = w.norm(), u.norm()
                w -= group["lr"] * (norms[0] / norms[1] if group["ratio"] and all(norms) else 1.0) * u


def make(name, parameters, recipe, decays):
    """decays(name): whether weight decay applies, and LAMB's ratio."""
    groups = [{"params": [p for label, p in parameters.items() if decays(label) == yes],
               "weight_decay": recipe.decay if yes else 0.0} for yes in (True, False)]
    adam = dict(lr=recipe.learning_rate, betas=(recipe.beta1, recipe.beta2), eps=recipe.eps)
    if name == "adamw":
        return torch.optim.AdamW(groups, **adam)
    if name == "adadelta":
        return torch.optim.Adadelta(groups, lr=recipe.learning_rate, rho=0.95, eps=recipe.eps)
    if name.startswith("lamb"):
        groups[0]["ratio"] = True
    return WithoutCorrection(groups, **adam, corrected=name.endswith("bias-corrected"),
                             alone=recipe.clip if name == "bert-adam" else None)


def steps(name, arrays, gradients, rates, recipe, decays):
    """{name: NumPy array} after one update for each of `gradients` {name: NumPy array or None} and `rates`."""
    parameters = {label: torch.nn.Parameter(torch.tensor(a)) for label, a in arrays.items()}
    optimizer = make(name, parameters, recipe, decays)
    for step_gradients, rate in zip(gradients, rates, strict=True):
        for label, g in step_gradients.items():
            parameters[label].grad = None if g is None else torch.tensor(g)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    return {label: p.detach().numpy() for label, p in parameters.items()}


def clipped(gradients, largest):
    """(joint norm, the gradients clipped to `largest`) of a list of NumPy arrays."""
    parameters = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in gradients]
    for parameter, g in zip(parameters, gradients):
        parameter.grad = torch.tensor(g)
    norm = torch.nn.utils.clip_grad_norm_(parameters, largest)
    return norm.item(), [p.grad.numpy() for p in parameters]


def schedule(name, steps, warmup):
    """The factors of every step by transformers' schedule of that name."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    found = transformers.get_scheduler(name, optimizer, warmup, steps)
    factors = []
    for _ in range(steps):
        factors += found.get_last_lr()
        optimizer.step()
        found.step()
    return factors
