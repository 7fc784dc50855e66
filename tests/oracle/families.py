"""Any family of transformers: a directory opened by its own class, and what comes out of it, as NumPy arrays."""

import torch
import transformers
from transformers import AutoConfig

torch.set_num_threads(1)


def opened(directory, dtype="float64"):
    """(model, its class's name): nothing may be missing, unexpected or of another shape."""
    config = AutoConfig.from_pretrained(directory, attn_implementation="eager")
    architecture, = config.architectures
    extra = {} if getattr(config, "comment", None) is None else {"add_pooling_layer": False}
    model, info = getattr(transformers, architecture).from_pretrained(
        directory, config=config, dtype=getattr(torch, dtype), output_loading_info=True, **extra)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model.eval(), architecture


def save_new(architecture, directory, **settings):
    """Let transformers write a model of this architecture whose every parameter is some random number."""
    torch.manual_seed(0)
    kind = getattr(transformers, architecture)
    model = kind(kind.config_class(**settings)).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(directory)


def outputs(model, batch):
    """(hidden states, embeddings first; logits or None) of a batch."""
    with torch.no_grad():
        out = model(**_inputs(model, batch), output_hidden_states=True)
    logits = out.get("logits", out.get("prediction_logits"))
    if "start_logits" in out:
        logits = torch.stack([out.start_logits, out.end_logits], dim=-1)
    return [h.numpy() for h in out.hidden_states], None if logits is None else logits.numpy()


def logits_gradients(model, batch, upstream):
    """{their name: gradient or None} of <upstream, logits>, rows of <pad> included."""
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            module.padding_idx = None               # else it would be told that it has no gradient
    out = model(**_inputs(model, batch))
    logits = out.get("logits", out.get("prediction_logits"))
    names, parameters = zip(*model.named_parameters())
    arrived = torch.autograd.grad((logits * torch.tensor(upstream)).sum(), parameters, allow_unused=True)
    return {name: None if g is None else g.numpy() for name, g in zip(names, arrived)}


def _inputs(model, batch):
    given = {"input_ids": torch.tensor(batch.ids).long(), "attention_mask": torch.tensor(batch.mask).long()}
    if getattr(model.config, "type_vocab_size", 1) > 1 and batch.token_types is not None:
        given["token_type_ids"] = torch.tensor(batch.token_types).long()
    return given
