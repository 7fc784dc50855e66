"""transformers' RoBERTa, XLM-R and tokenizers, in what the other oracles have no need of."""

import json

import torch
import transformers
from transformers.models.roberta.modeling_roberta import RobertaEmbeddings


def positions(ids, pad_id):
    """Where transformers sees each token."""
    return RobertaEmbeddings.create_position_ids_from_input_ids(torch.tensor(ids), pad_id).numpy()


def count(model_type, **settings):
    """How many parameters transformers' base model has: nothing is allocated."""
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(model_type, **settings))
    return sum(p.numel() for p in model.parameters())


def rows(directory, texts, pairs=None):
    """(ids, token types or None, special ids by name) of the tokenizer in `directory` as transformers opens it."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    found = tokenizer(list(texts), None if pairs is None else list(pairs))
    special = {name: getattr(tokenizer, f"{name}_token_id") for name in ("pad", "unk", "cls", "sep", "mask")}
    return found["input_ids"], found.get("token_type_ids"), special, tokenizer


def save_own(description, directory):
    """Let transformers build its own RoBERTa or XLM-R tokenizer around the pieces of a tokenizer.json, and write it."""
    model = json.loads(description)["model"]
    if model["type"] == "BPE":
        made = transformers.RobertaTokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
    else:
        made = transformers.XLMRobertaTokenizer(vocab=[tuple(piece) for piece in model["vocab"]])
    made.save_pretrained(directory)
    return type(made).__name__
