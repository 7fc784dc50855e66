"""The head of BERT-Vision in PyTorch, on the hidden states of transformers' BERT. NumPy arrays in and out."""

import numpy as np
import torch
import transformers
from torch.nn.functional import cross_entropy, gelu, linear

from oracle import optimizers, students
from tinydistill.students import bert_names
from tinydistill.students.bert import Bert
from tinydistill.students.configs import BertConfig


def body(model, dtype="float64"):
    """transformers' BertModel with the body of ours."""
    shape = {field: getattr(model.config, field) for field in BertConfig.__dataclass_fields__}
    config = BertConfig(**shape | {"head": "none", "labels": ()})
    arrays = {name: array for name, array in model.arrays().items() if not name.startswith("head.")}
    return students.twin(Bert(config, None).to(np, dtype).load(arrays), bert_names, dtype)


def head_of(model, dtype=torch.float64):
    """{name without `head.`: torch parameter} of our head."""
    return {name.removeprefix("head."): torch.nn.Parameter(torch.tensor(array).to(dtype))
            for name, array in model.arrays().items() if name.startswith("head.")}


def states(made, model, batch):
    """x_0 ... x_L as (B, L+1, T, D), the batch padded as the head asks."""
    short = (model.config.padded_length or batch.ids.shape[1]) - batch.ids.shape[1]

    def pad(x, value=0):
        return torch.nn.functional.pad(torch.tensor(x).long(), (0, short), value=value)
    given = {"input_ids": pad(batch.ids, model.config.pad_id), "attention_mask": pad(batch.mask)}
    if batch.token_types is not None:
        given["token_type_ids"] = pad(batch.token_types)
    with torch.no_grad():
        return torch.stack(made(**given, output_hidden_states=True).hidden_states, dim=1)


def logits(x, p, config):
    """x (B, L+1, T, D); p {name: torch tensor} of the head."""
    last = x[:, -1]                                                     # (B, T, D)
    if config.pooling == "learned":
        x = torch.einsum("l,bltd->btd", p["mix.weight"].softmax(0), x)[:, None] * p["mix.scale"]
    elif config.pooling == "mean":
        x = x.mean(1, keepdim=True)
    y = gelu(linear(x, p["pooler.dense.weight"], p["pooler.dense.bias"]),
             approximate={"gelu": "none", "gelu_new": "tanh"}[config.pooler_activation])       # (B, L, T, d)
    y = torch.stack([y[:, :, :, k] for k in range(y.shape[3])], dim=1).permute(0, 3, 1, 2)      # (B, T, d, L)
    y = y.flatten(2)
    if config.skip:
        y = torch.cat([y, last], dim=2)
    if config.head == "sequence":
        y = y[:, 0] if config.reads == "first" else y.flatten(1)
    return linear(y, p["classifier.weight"], p["classifier.bias"])


def differentiated(model, batch, upstream, dtype="float64"):
    """(logits, {name without `head.`: gradient of <upstream, logits>})."""
    parameters = head_of(model, getattr(torch, dtype))
    found = logits(states(body(model, dtype), model, batch), parameters, model.config)
    gradients = torch.autograd.grad((found * torch.tensor(upstream)).sum(), list(parameters.values()))
    return found.detach().numpy(), {name: g.numpy() for name, g in zip(parameters, gradients)}


def steps(made, model, batches, recipe):
    """({step's loss and norm}, the head at the end): cross-entropy of classes, nothing clipped."""
    parameters, values = head_of(model), []
    optimizer = optimizers.make(recipe.optimizer, parameters, recipe, lambda name: not name.endswith("bias"))
    schedule = transformers.get_scheduler("linear", optimizer, recipe.warmup, recipe.steps)
    for batch in batches:
        found = logits(states(made, model, batch), parameters, model.config)
        loss = cross_entropy(found, torch.tensor(batch.labels).long())
        optimizer.zero_grad()
        loss.backward()
        values.append({"loss": loss.item(), "gradient_norm": torch.nn.utils.get_total_norm(
            [p.grad for p in parameters.values()]).item()})
        optimizer.step()
        schedule.step()
    return values, {f"head.{name}": p.detach().numpy() for name, p in parameters.items()}
