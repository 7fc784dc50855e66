"""Training in PyTorch: torch.optim.AdamW, clip_grad_norm_, and steps of MiniLM with transformers' BERT."""

import torch
import transformers

from oracle import minilm
from tinydistill import hub


def adamw(arrays, gradients, rates, recipe, decays):
    """{name: NumPy array} after one update for each of `gradients` {name: NumPy array or None} and `rates`."""
    parameters = {name: torch.nn.Parameter(torch.tensor(a)) for name, a in arrays.items()}
    optimizer = _adamw(parameters, recipe, decays)
    for step_gradients, rate in zip(gradients, rates, strict=True):
        for name, g in step_gradients.items():
            parameters[name].grad = None if g is None else torch.tensor(g)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    return {name: p.detach().numpy() for name, p in parameters.items()}


def _adamw(parameters, recipe, decays):
    """decays(name): whether weight decay applies."""
    groups = [{"params": [p for name, p in parameters.items() if decays(name) == yes],
               "weight_decay": recipe.decay if yes else 0.0} for yes in (True, False)]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(recipe.beta1, recipe.beta2), eps=recipe.eps)


def clipped(gradients, largest):
    """(joint norm, the gradients clipped to `largest`) of a list of NumPy arrays."""
    parameters = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in gradients]
    for parameter, g in zip(parameters, gradients):
        parameter.grad = torch.tensor(g)
    norm = torch.nn.utils.clip_grad_norm_(parameters, largest)
    return norm.item(), [p.grad.numpy() for p in parameters]


def bert(config, arrays):
    """transformers' BertModel in float64 with the weights of ours, given as {our name: NumPy array}."""
    model = transformers.BertModel(transformers.BertConfig(
        num_hidden_layers=config.layers, hidden_size=config.hidden, num_attention_heads=config.heads,
        intermediate_size=config.feed_forward, vocab_size=config.vocabulary, max_position_embeddings=config.positions))
    model.double().load_state_dict({hub.their_name(name): torch.tensor(a) for name, a in arrays.items()})
    return model.eval()                             # no dropout


def last_projections(model, batch):
    """Queries, keys and values of the last layer, each (B, A, T, K), caught where its linear layers make them."""
    caught, attention = [], model.encoder.layer[-1].attention.self
    hooks = [linear.register_forward_hook(lambda module, inputs, output: caught.append(output))
             for linear in (attention.query, attention.key, attention.value)]
    model(torch.tensor(batch.ids), attention_mask=torch.tensor(batch.mask).long())
    for hook in hooks:
        hook.remove()
    return [x.unflatten(2, (model.config.num_attention_heads, -1)).transpose(1, 2) for x in caught]


def minilm_steps(student, teacher, batches, recipe):
    """Train transformers' `student` by one step of MiniLM for each batch: [(L_AT, L_VR)], {their name: array}."""
    parameters = dict(student.named_parameters())
    optimizer = _adamw(parameters, recipe, lambda name: not name.endswith("bias") and "LayerNorm" not in name)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, recipe.warmup, recipe.steps)
    values = []
    for batch in batches:
        with torch.no_grad():
            taught = last_projections(teacher, batch)
        arrays = *last_projections(student, batch), *taught, torch.tensor(batch.mask)
        terms = minilm.attention(*arrays), minilm.value_relation(*arrays)
        optimizer.zero_grad()
        sum(terms).backward()
        found = [p.grad for p in parameters.values() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(found)
        for g in found:                             # clip_grad_norm_ divides by norm + 1e-6
            g *= min(1.0, recipe.clip / norm.item())
        optimizer.step()
        schedule.step()
        values.append(tuple(term.item() for term in terms))
    return values, {name: p.detach().numpy() for name, p in parameters.items()}
