"""Rules without gradients in PyTorch: optimisers, clipping, schedules, masks; `answer` is a call of the kit."""

from types import SimpleNamespace

import numpy as np
import torch

from oracle import optimizers

NAMES = {"adam_weight_decay": "adam-weight-decay", "bert_adam": "bert-adam", "lamb": "lamb", "adamw": "adamw",
         "adadelta": "adadelta"}


def answer(convention):
    """call(equation, attrs, inputs, grads, upstream, dtype), under one convention."""
    def call(equation, attrs, inputs, grads, upstream, dtype):
        arrays = {n: x.astype(dtype) if x.dtype.kind == "f" else x for n, x in inputs.items()}
        return RULES[equation, convention](arrays, attrs)
    return call


# ---------------------------------------------------------------- optimisers

def stepwise(name):
    """The weights after each step, by torch.optim or by the optimisers of oracle/optimizers.py."""
    def rule(arrays, attrs):
        betas = {name: attrs.get(name, unused) for name, unused in (("beta1", 0.9), ("beta2", 0.999), ("clip", 1.0))}
        recipe = SimpleNamespace(learning_rate=0.1, eps=attrs["eps"], decay=attrs["decay"], **betas)
        tensors = {part: (arrays[part + "weights"], arrays[part + "gradients"])
                   for part in ("", "other_") if part + "weights" in arrays}
        found = {f"{part}after": [] for part in tensors}
        for steps in range(1, len(arrays["rates"]) + 1):
            gradients = [{part: g[t] for part, (_, g) in tensors.items()} for t in range(steps)]
            after = optimizers.steps(name, {part: w for part, (w, _) in tensors.items()}, gradients,
                                     arrays["rates"][:steps].tolist(), recipe, lambda label: True)
            for part in tensors:
                found[f"{part}after"].append(after[part])
        return {output: np.stack(each) for output, each in found.items()}
    return rule


def old_adamw(decay_last):
    """AdamW as it once stood in transformers, written with PyTorch's own in-place steps; TensorFlow's decays first."""
    def rule(arrays, attrs):
        w, after = torch.tensor(arrays["weights"]), []
        m, v = torch.zeros_like(w), torch.zeros_like(w)
        for t, (g, rate) in enumerate(zip(torch.tensor(arrays["gradients"]), arrays["rates"].tolist()), 1):
            m.mul_(attrs["beta1"]).add_(g, alpha=1 - attrs["beta1"])
            v.mul_(attrs["beta2"]).addcmul_(g, g, value=1 - attrs["beta2"])
            length = rate * (1 - attrs["beta2"] ** t) ** 0.5 / (1 - attrs["beta1"] ** t)
            if not decay_last:
                w.mul_(1 - rate * attrs["decay"])
            w.addcdiv_(m, v.sqrt().add_(attrs["eps"]), value=-length)
            if decay_last:
                w.mul_(1 - rate * attrs["decay"])
            after.append(w.clone().numpy())
        return {"after": np.stack(after)}
    return rule


def clip_joint_norm(arrays, attrs):
    parameters = [torch.nn.Parameter(torch.tensor(arrays[name])) for name in ("gradients", "other_gradients")]
    for p in parameters:
        p.grad = p.detach().clone()
    torch.nn.utils.clip_grad_norm_(parameters, attrs["clip"])
    return dict(zip(("clipped", "other_clipped"), (p.grad.numpy() for p in parameters)))


# ---------------------------------------------------------------- schedules

def schedule(name, at_the_end):
    """at_the_end: the factor at the step after the last."""
    def rule(arrays, attrs):
        factors = optimizers.schedule(name, attrs["steps"], attrs["warmup"]) + [at_the_end]
        return {"rates": np.array(factors)[arrays["step"]]}
    return rule


# ---------------------------------------------------------------- masks

def two_axes(arrays):
    return [torch.tensor(arrays[name]) for name in ("source", "target")]


def bidirectional(arrays, attrs):
    mask = torch.tensor(arrays["mask"])
    return {"sees": mask.unsqueeze(1).expand(len(mask), mask.shape[1], -1).numpy()}


def left_to_right(arrays, attrs):
    mask = torch.tensor(arrays["mask"])
    return {"sees": (mask.unsqueeze(1) & torch.ones(mask.shape[1], mask.shape[1], dtype=torch.bool).tril()).numpy()}


def by_weights(arrays, pseudo):
    """As published code builds it: sources weigh 0, target tokens their place, pseudo tokens minus that."""
    source, target = two_axes(arrays)
    (B, S), N = source.shape, target.shape[1]
    place = torch.arange(1, N + 1)
    weights = torch.cat([torch.zeros(S, dtype=torch.long), place, -place][:3 if pseudo else 2])
    real = torch.cat([source, target, target][:3 if pseudo else 2], dim=1)
    row, column = weights[:, None], weights[None, :]
    sees = torch.where(row >= 0, (column >= 0) & (column <= row), (column >= 0) & (column < -row) | (column == row))
    of_source = torch.arange(len(weights)) < S
    return {"sees": (sees & real[:, None, :] & (real[:, :, None] | of_source[None, None, :])).numpy()}


def masking_bert(special_words):
    def rule(arrays, attrs):
        ids, special = torch.tensor(arrays["ids"]), torch.tensor(arrays["special"])
        words = torch.arange(len(special)) if special_words else torch.nonzero(~special).flatten()
        selected = torch.tensor(arrays["mask"]) & ~special[ids] & (torch.tensor(arrays["selection"]) < attrs["rate"])
        kind = torch.tensor(arrays["kind"])
        drawn = words[(torch.tensor(arrays["word"]) * len(words)).long()]
        found = ids.masked_fill(selected & (kind < 0.8), int(attrs["mask_id"]))
        return {"ids": torch.where(selected & (kind >= 0.9), drawn, found).numpy(),
                "labels": ids.masked_fill(~selected, -100).numpy()}
    return rule


RULES = {(name, "paper"): stepwise(theirs) for name, theirs in NAMES.items()} | {
    ("lamb", "corrected"): stepwise("lamb-bias-corrected"), ("adamw", "epsilon_hat"): old_adamw(False),
    ("adamw", "transformers"): old_adamw(True), ("clip_joint_norm", "torch"): clip_joint_norm,
    ("schedule.linear", "paper"): schedule("linear", 0.0), ("schedule.bert_adam", "paper"): schedule("linear", 0.0),
    ("schedule.constant", "paper"): schedule("constant_with_warmup", 1.0),
    ("unilm_mask.bidirectional", "paper"): bidirectional, ("unilm_mask.left_to_right", "paper"): left_to_right,
    ("unilm_mask.seq2seq", "paper"): lambda arrays, attrs: by_weights(arrays, False),
    ("pseudo_mask", "paper"): lambda arrays, attrs: by_weights(arrays, True),
    ("masking.bert", "paper"): masking_bert(False), ("masking.bert", "official"): masking_bert(True),
}
