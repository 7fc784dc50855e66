"""transformers' MobileBERT with the weights of ours, which `oracle.bert` then reads as it reads a BERT."""

import re

import torch
import transformers

from tinydistill.students import mobilebert_names as names

torch.set_num_threads(1)                            # tiny models; two threads would wait for each other


def twin(model, dtype="float64", pad_gradient=True):
    """transformers' model of the same kind, in plain ("eager") attention: every tensor of it comes from ours.

    pad_gradient: whether the embedding of [PAD] is one like any other; False leaves it as transformers has it. A
    "block" of another width than the bottleneck's and another outer_eps are put in by hand: it has no setting for them.
    """
    config = model.config
    settings = {theirs: getattr(config, ours) for ours, (theirs, _) in names.SETTINGS.items()}
    settings |= names.FIXED | names.ATTENTION_INPUT[config.attention_input]
    architecture = getattr(transformers, names.ARCHITECTURES[config.head])
    made = architecture(architecture.config_class(**settings, num_labels=max(2, len(config.labels)),
                                                  attn_implementation="eager"))
    if config.attention_input == "block":
        for layer in made.base_model.encoder.layer:
            for name in ("query", "key"):
                setattr(layer.attention.self, name, torch.nn.Linear(config.hidden, config.bottleneck))
    for name, module in made.named_modules():
        if isinstance(module, torch.nn.LayerNorm) and module.eps == names.OUTER_EPS:
            module.eps = config.eps if config.outer_eps is None else config.outer_eps
    if pad_gradient:
        made.base_model.embeddings.word_embeddings.padding_idx = None
    made.to(getattr(torch, dtype)).eval()
    theirs = {without_prefix(name): parameter for name, parameter in made.named_parameters()}
    ours = {their_name(name): as_theirs(name, array) for name, array in model.arrays().items()}
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    for name, parameter in theirs.items():
        assert parameter.shape == ours[name].shape, name
        parameter.data.copy_(torch.tensor(ours[name].copy()))
    for tied, source in names.TIED.items():
        state = {without_prefix(name): x for name, x in made.state_dict(keep_vars=True).items()}
        assert tied not in state or state[tied] is state[source]
    return made


def without_prefix(name):
    return name.removeprefix(names.PREFIX)


def their_name(name):
    """layers.3.stacked.0.inner.weight -> encoder.layer.3.ffn.0.intermediate.dense.weight"""
    module, _, kind = name.rpartition(".")
    letters, numbers = iter("NM"), re.findall(r"\d+", module)
    theirs = names.NAMES[re.sub(r"\d+", lambda _: next(letters), module)]
    for letter, number in zip("NM", numbers):
        theirs = theirs.replace(f".{letter}.", f".{number}.")
    return f"{theirs}.{kind}"


def as_theirs(name, array):
    """Our array of this name as they lay it out."""
    return array.T if name.rpartition(".")[0] in names.TRANSPOSED else array


def default_setting(name):
    """What a config.json without `name` means."""
    return getattr(transformers.MobileBertConfig(), name)
