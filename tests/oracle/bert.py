"""transformers' BERT with the weights of ours: what the whole model is compared with."""

import torch
import transformers

from tinydistill import hub

transformers.utils.logging.disable_progress_bar()


def twin(model, directory, dtype=torch.float64):
    """transformers' model of the same kind, opened from what `hub.write` left: no tensor missing, none unexpected."""
    hub.write(model, directory)
    return opened(directory, hub.ARCHITECTURES[model.config.head], dtype,
                  **({} if model.config.pooler or model.config.head != "none" else {"add_pooling_layer": False}))


def opened(directory, architecture, dtype=torch.float64, **settings):
    """The checkpoint in `directory` as transformers opens it, in plain ("eager") attention and without dropout."""
    found, report = getattr(transformers, architecture).from_pretrained(
        directory, dtype=dtype, attn_implementation="eager", output_loading_info=True, **settings)
    assert not any(report.values()), f"transformers opened {directory} with {report}"
    return found.eval()


def features(model, batch):
    """{(field, layer) or (field, None): torch tensor}, all in one graph, by the names of our Features.

    queries, keys and values are caught where transformers' linear layers make them; scores are its own equation, and
    (attention, l) its probabilities.
    """
    body, caught, hooks = getattr(model, "bert", model), {}, []
    heads = model.config.num_attention_heads
    for l, layer in enumerate(body.encoder.layer):
        for name in ("query", "key", "value"):
            def keep(module, inputs, output, place=(name, l)):
                B, T, D = output.shape
                caught[place] = output.reshape(B, T, heads, D // heads).transpose(1, 2)         # (B, A, T, K)
            hooks.append(getattr(layer.attention.self, name).register_forward_hook(keep))
    types = None if batch.token_types is None else torch.tensor(batch.token_types).long()
    try:
        out = model(torch.tensor(batch.ids).long(), attention_mask=torch.tensor(batch.mask).long(), token_type_ids=types,
                    output_hidden_states=True, output_attentions=True)
    finally:
        for hook in hooks:
            hook.remove()
    found = {("embeddings", None): out.hidden_states[0]}
    for l, attention in enumerate(out.attentions):
        queries, keys, values = (caught[name, l] for name in ("query", "key", "value"))
        found |= {("hidden", l): out.hidden_states[l + 1], ("attention", l): attention, ("queries", l): queries,
                  ("keys", l): keys, ("values", l): values,
                  ("scores", l): queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5}
    if body.pooler is not None:
        found["pooled", None] = body.pooler(out.hidden_states[-1])
    if "logits" in out:
        found["logits", None] = out.logits
    return found


def gradients(model, loss):
    """{their name without the `bert.` in front: NumPy gradient, or None} of every parameter."""
    parameters = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {name.removeprefix("bert."): None if g is None else g.numpy() for name, g in zip(parameters, found)}
