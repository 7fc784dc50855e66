"""transformers' models of other families than BERT, with the weights of ours: what those students are compared with.

`names` is the family's table (tinydistill/students/<paper>_names.py), which says what transformers calls everything.
NumPy arrays in and out.
"""

import re

import torch
import transformers

torch.set_num_threads(1)                            # tiny models; two threads would wait for each other
NEXT_SENTENCE = {"head.next_sentence": "cls.seq_relationship"}      # BERT's name: these families have no such head


def twin(model, names, dtype="float64"):
    """transformers' model of the same kind in plain ("eager") attention: every tensor of it comes from ours."""
    config = model.config
    settings = names.FIXED | {theirs: getattr(config, ours) for ours, (theirs, _) in names.SETTINGS.items()}
    settings |= {name: settings[other] for name, other in getattr(names, "SAME", {}).items()}
    head = "masked-lm" if config.head == "pretraining" else config.head
    architecture = names.ARCHITECTURES[head]        # by its name, or a class that the oracle made of one
    architecture = getattr(transformers, architecture) if isinstance(architecture, str) else architecture
    made = architecture(architecture.config_class(**settings, num_labels=max(2, len(config.labels)),
                                                  attn_implementation="eager"))
    if config.head == "pretraining":
        made.cls.seq_relationship = torch.nn.Linear(config.hidden, 2)
    for module in made.modules():
        if isinstance(module, torch.nn.Embedding):
            module.padding_idx = None               # else the row of <pad> would be told that it has no gradient
    made = made.to(getattr(torch, dtype)).eval()
    theirs = made.state_dict(keep_vars=True)
    for name, array in model.arrays().items():
        tensor = theirs.pop(their_name(name, names, config.head))
        convolved = table_entry(name) in getattr(names, "CONVOLUTIONS", ()) and name.endswith("weight")
        assert tensor.shape == array.shape + (1,) * convolved
        with torch.no_grad():
            tensor.copy_(torch.tensor(array).reshape(tensor.shape))
    untouched = {name for name in theirs if name not in names.TIED and ".pooler." not in f".{name}"}
    assert not untouched, f"not in our table: {untouched}"
    for tied, source in names.TIED.items():
        if tied in theirs:
            assert theirs[tied] is made.state_dict(keep_vars=True)[in_full(source, names, config.head)]
    return made


def table_entry(name):
    """layers.3.attention.query.weight -> layers.N.attention.query"""
    return re.sub(r"\d+", "N", name, count=1).rpartition(".")[0]


def their_name(name, names, head):
    """layers.3.attention.query.weight -> transformer.layer.3.attention.q_lin.weight"""
    entry, number = table_entry(name), re.search(r"\d+", name)
    theirs = (names.NAMES | NEXT_SENTENCE)[entry].replace("N", number.group() if number else "N", 1)
    theirs = f"{theirs}.{name.rpartition('.')[2]}"
    return theirs if name.startswith("head.") else in_full(theirs, names, head)


def in_full(theirs, names, head):
    """The name of a tensor of the body, in a model with this head."""
    return theirs if head == "none" or theirs.startswith(("cls.", "lm_head.")) else names.PREFIX + theirs


def features(made, model, names, batch):
    """{(field, layer) or (field, None): array}, by the names of our Features, and ("attentions", l): their output."""
    return {place: x.detach().numpy() for place, x in graph(made, model, names, batch).items()}


def gradients(made, model, names, batch, upstream, labels=None):
    """{our name: gradient} of sum_places <upstream, feature>; with `labels`, one for each row of the logits, plus their
    mean cross-entropy."""
    found = graph(made, model, names, batch)
    loss = sum((found[place] * torch.tensor(u).to(found[place].dtype)).sum() for place, u in upstream.items())
    if labels is not None:
        loss = loss + torch.nn.functional.cross_entropy(found["logits", None], torch.tensor(labels).long())
    ours = model.named_parameters()
    parameters = [made.get_parameter(their_name(name, names, model.config.head)) for name in ours]
    arrived = torch.autograd.grad(loss, parameters, allow_unused=True)
    return {name: None if g is None else g.numpy().reshape(ours[name].shape) for name, g in zip(ours, arrived)}


def own_loss(made, names, batch):
    """What the model itself calls its loss, given the labels of the batch."""
    return made(**_inputs(names, batch), labels=torch.tensor(batch.labels).long()).loss.item()


def _inputs(names, batch):
    given = {"input_ids": torch.tensor(batch.ids).long(), "attention_mask": torch.tensor(batch.mask).long()}
    if "token_types" in names.SETTINGS:
        given["token_type_ids"] = None if batch.token_types is None else torch.tensor(batch.token_types).long()
    return given


def graph(made, model, names, batch):
    """The features as torch tensors of one graph. queries, keys and values are caught where they are made; scores are
    their equation; logits of tokens are those at the batch's positions."""
    config, caught, hooks = model.config, {}, []
    body = getattr(made, names.PREFIX[:-1], made)
    for l in range(config.layers):
        for ours, field in (("query", "queries"), ("key", "keys"), ("value", "values")):
            def keep(module, inputs, output, place=(field, l)):
                y = output.mT if isinstance(module, torch.nn.Conv1d) else output              # (B, T, D)
                caught[place] = y.unflatten(-1, (config.heads, -1)).transpose(1, 2)           # (B, A, T, K)
            module = body.get_submodule(names.NAMES[f"layers.N.attention.{ours}"].replace("N", str(l)))
            hooks.append(module.register_forward_hook(keep))
    try:
        out = made(**_inputs(names, batch), output_hidden_states=True, output_attentions=True)
    finally:
        for hook in hooks:
            hook.remove()
    found = caught | {("embeddings", None): out.hidden_states[0]}
    for l in range(config.layers):
        q, k = caught["queries", l], caught["keys", l]
        found |= {("hidden", l): out.hidden_states[l + 1], ("scores", l): q @ k.mT / q.shape[-1] ** 0.5,
                  ("attentions", l): out.attentions[l]}
    if config.pooler:
        found["pooled", None] = body.pooler(out.hidden_states[-1])
    if config.head == "pretraining":
        found["next_sentence", None] = made.cls.seq_relationship(found["pooled", None])
    if config.head == "span":
        found["logits", None] = torch.stack([out.start_logits, out.end_logits], dim=-1)       # (B, T, 2)
    elif config.head != "none":
        logits = out.logits.flatten(0, 1) if out.logits.ndim == 3 else out.logits             # (N, V)
        found["logits", None] = logits if batch.positions is None else logits[torch.tensor(batch.positions)]
    return found
