"""transformers' BERT with the weights of ours: what the whole model is compared with. NumPy arrays in and out."""

import torch
import transformers
from safetensors.torch import save_file

from tinydistill import hub
from tinydistill.students import bert_names

torch.set_num_threads(1)                            # tiny models; two threads would wait for each other
transformers.utils.logging.disable_progress_bar()


# ---------------------------------------------------------------- the model

def twin(model, directory, dtype="float64"):
    """transformers' model of the same kind, opened from what `hub.write` left: no tensor missing, none unexpected."""
    hub.write(model, directory)
    without_pooler = model.config.head == "none" and not model.config.pooler
    settings = {"add_pooling_layer": False} if without_pooler else {}
    return opened(directory, bert_names.ARCHITECTURES[model.config.head], dtype, **settings)


def opened(directory, architecture, dtype="auto", **settings):
    """The checkpoint in `directory` as transformers opens it, in plain ("eager") attention and without dropout."""
    found, report = getattr(transformers, architecture).from_pretrained(
        directory, dtype=dtype, attn_implementation="eager", output_loading_info=True, **settings)
    assert not any(report.values()), f"transformers opened {directory} with {report}"
    return found.eval()


def features(model, batch):
    """{(field, layer) or (field, None): array}, by the names of our Features, and (attention, l): the probabilities."""
    return {place: x.detach().numpy() for place, x in graph(model, batch).items()}


def gradients(model, batch, upstream, labels=None):
    """(loss, {their name without the body's prefix: gradient or None}) of sum_places <upstream, feature>.

    With `labels`, one for each row of the logits and IGNORED at some, plus their mean cross-entropy; with the batch's
    `next_sentence`, plus that of those.
    """
    found = graph(model, batch)
    loss = sum((found[place] * torch.tensor(u).to(found[place].dtype)).sum() for place, u in upstream.items())
    if labels is not None:
        loss = loss + torch.nn.functional.cross_entropy(found["logits", None], torch.tensor(labels).long())
    if batch.next_sentence is not None:
        labels = torch.tensor(batch.next_sentence)
        loss = loss + torch.nn.functional.cross_entropy(found["next_sentence", None], labels)
    parameters = dict(model.named_parameters())
    arrived = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return loss.item(), {name.removeprefix(f"{model.base_model_prefix}."): None if g is None else g.numpy()
                         for name, g in zip(parameters, arrived)}


def own_loss(model, batch):
    """What the model itself calls its loss, given the labels of the batch."""
    labels = {"labels": torch.tensor(batch.labels).long()}
    if batch.next_sentence is not None:
        labels["next_sentence_label"] = torch.tensor(batch.next_sentence)
    return model(**_inputs(batch), **labels).loss.item()


def _inputs(batch):
    types = None if batch.token_types is None else torch.tensor(batch.token_types).long()
    given = {"input_ids": torch.tensor(batch.ids).long(), "attention_mask": torch.tensor(batch.mask).long(),
             "token_type_ids": types}
    if batch.attention_mask is not None:            # what transformers takes of four axes is added to the scores
        seen = torch.tensor(batch.attention_mask)[:, None]
        given["attention_mask"] = torch.zeros(seen.shape).double().masked_fill(~seen, torch.finfo(torch.float64).min)
    if batch.position_ids is not None:
        given["position_ids"] = torch.tensor(batch.position_ids).long()
    return given


def graph(model, batch):
    """The features as torch tensors of one graph. queries, keys and values are caught where the linear layers make
    them; scores are their equation; logits of tokens are those at the batch's positions."""
    body, caught, hooks = model.base_model, {}, []
    heads = model.config.num_attention_heads
    for l, layer in enumerate(body.encoder.layer):
        for name in ("query", "key", "value"):
            def keep(module, inputs, output, place=(name, l)):
                B, T, D = output.shape
                caught[place] = output.reshape(B, T, heads, D // heads).transpose(1, 2)         # (B, A, T, K)
            hooks.append(getattr(layer.attention.self, name).register_forward_hook(keep))
    try:
        out = model(**_inputs(batch), output_hidden_states=True, output_attentions=True)
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
    if "seq_relationship_logits" in out:
        found["next_sentence", None] = out.seq_relationship_logits
    if "start_logits" in out:
        found["logits", None] = torch.stack([out.start_logits, out.end_logits], dim=-1)         # (B, T, 2)
        return found
    logits = out.get("logits", out.get("prediction_logits"))
    if logits is not None:
        logits = logits.flatten(0, 1) if logits.ndim == 3 else logits                          # (N, V)
        found["logits", None] = logits if batch.positions is None else logits[torch.tensor(batch.positions)]
    return found


# ---------------------------------------------------------------- files

def save_new(architecture, directory, **settings):
    """Let transformers write a random model of this architecture; its arrays by name, without the `bert.` in front."""
    torch.manual_seed(0)
    model = getattr(transformers, architecture)(transformers.BertConfig(**settings))
    model.save_pretrained(directory)
    return {name.removeprefix("bert."): x.numpy() for name, x in model.state_dict().items()}


def save_narrow(arrays, path, dtype):
    """Write the arrays as a safetensors file of this dtype; what they have become, as float32."""
    narrow = {name: torch.tensor(x).to(getattr(torch, dtype)) for name, x in arrays.items()}
    save_file(narrow, path)
    return {name: x.float().numpy() for name, x in narrow.items()}


def default_setting(name):
    """What a config.json without `name` means."""
    return getattr(transformers.BertConfig(), name)


def tokenizer(directory):
    """The tokenizer of a checkpoint directory as transformers opens it."""
    return transformers.AutoTokenizer.from_pretrained(directory)
