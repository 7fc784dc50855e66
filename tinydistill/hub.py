"""Checkpoints in and out: Hugging Face directories (config.json, model.safetensors, tokenizer.json) of BERT.

What `write` leaves, transformers opens without a missing or unexpected tensor. What `read` takes may come from anybody.
"""

import hashlib
import json
import math
import os
import tempfile
from pathlib import Path

import numpy as np

from tinydistill.errors import Problem, WrongUsage
from tinydistill.hub_names import (ARCHITECTURES, CLASSIFIERS, FIXED, HEAD_PREFIXES, NEXT_SENTENCE, SETTINGS, UNREAD,
                                   WITH_POOLER, their_name)
from tinydistill.safe_files import read_json, read_safetensors
from tinydistill.students.bert import Bert, parameter_count
from tinydistill.students.configs import HEADS, READ_POOLED, BertConfig

CONFIG, WEIGHTS = "config.json", "model.safetensors"

# ---------------------------------------------------------------- in

def read(directory, head="any", labels=None, seed=0, require_head=False):
    """The Bert of a checkpoint directory: float64 where the file is, else float32 (float16 and bfloat16 are widened).

    head: one of HEADS, or "any" for the one in the file. A head that is there and not wanted is left out. One that is
    wanted and not there, or there for other classes than `labels`, is drawn from `seed`, with the pooler below it where
    that is missing too; `require_head` makes this an error. Classes are put in the order of `labels`, and nameless ones
    (LABEL_0, LABEL_1 ...) take their names from it.
    Left out: a next-sentence head, unless head is "pretraining" and the file has all of that; a `classifier_dropout`.
    Raises: WrongUsage for a directory or architecture that is not read here, Problem for a damaged file.
    """
    if head not in ("any", *HEADS):
        raise WrongUsage(f"need a head out of any, {', '.join(HEADS)}; got {head}")
    settings = read_json(_find(directory, CONFIG))
    config = _config(settings, Path(directory, CONFIG))
    weights = _find(directory, WEIGHTS)
    tensors = _canonical(read_safetensors(weights), weights)
    found, known = _head_in(tensors, settings)
    if (found, head) != ("pretraining", "pretraining"):
        found = "masked-lm" if found == "pretraining" else found
        tensors = {name: x for name, x in tensors.items() if not name.startswith(NEXT_SENTENCE)}
    head = found if head == "any" else head
    labels = tuple(labels or (known if head == found else ())) if head in CLASSIFIERS else ()
    rows = _rows(labels, known) if head == found else None                              # None: not this head
    if rows is None and require_head:
        raise WrongUsage(f"need a model with {_named(head, labels)}; {directory} has {_named(found, known)}")
    if head in CLASSIFIERS and not labels:
        raise WrongUsage(f"need the labels of a new {head} head, which {directory} has not")

    if rows is None:
        tensors = {name: x for name, x in tensors.items() if not name.startswith(HEAD_PREFIXES)}
    elif head in ("masked-lm", "pretraining"):
        _tie(tensors, weights)
    has_pooler = any(name.startswith("pooler.") for name in tensors)
    drawn = () if rows is not None else ("head.",) if has_pooler else ("head.", "pooler.")
    config = config.but(head=head, labels=labels, pooler=has_pooler or head in READ_POOLED)
    model = _filled(config, seed, tensors, drawn, weights)
    if rows:
        for parameter in model.head.classifier.parameters():
            parameter.array = parameter.array[rows]
    return model


def fingerprint(directory):
    """sha256 of the weights, in hexadecimal: which model a run began with."""
    digest = hashlib.sha256()
    with open(_find(directory, WEIGHTS), "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _find(directory, name):
    """The path of a file that every checkpoint directory has, or one line on what is there instead."""
    path, directory = Path(directory, name), Path(directory)
    if path.is_file():
        return path
    if not directory.is_dir():
        raise WrongUsage(f"need a checkpoint directory with {name}: there is no directory {directory}")
    if (directory / "pytorch_model.bin").exists():
        raise WrongUsage(f"need {path}: the pytorch_model.bin beside it is a pickle, which can run any program while "
                         f"it is read, and is not read here; where you trust it, let transformers convert it: "
                         f"from_pretrained(DIR), then save_pretrained(NEW)")
    if (directory / f"{WEIGHTS}.index.json").exists():
        raise WrongUsage(f"need {path}: here the weights are in several files, which transformers can join: "
                         f"from_pretrained(DIR), then save_pretrained(NEW, max_shard_size='100GB')")
    raise WrongUsage(f"need {path}: {directory} is no checkpoint directory")


def _config(settings, path):
    """The BertConfig that config.json describes, without a head."""
    if not isinstance(settings, dict):
        raise Problem(f"cannot read {path}: it holds no settings by name")
    for name, needed in FIXED.items():
        if settings.get(name) not in (None, needed):
            raise WrongUsage(f"need a BERT with {name} {needed!r}: {path} says {settings[name]!r:.80}")
    chosen = {}
    for ours, (theirs, default) in SETTINGS.items():
        chosen[ours] = value = default if settings.get(theirs) is None else settings[theirs]
        whole = isinstance(default, int)
        least, below = int(whole and ours != "pad_id"), 1 if "dropout" in ours else math.inf
        if type(value) not in ((int,) if whole else (int, float)) or not least <= value < below:
            raise Problem(f"cannot read {path}: need {theirs} to be a {'whole ' * whole}number of at least {least}"
                          f"{' and below 1' * (below == 1)}, got {value!r:.80}")
    return BertConfig(**chosen)


def _canonical(tensors, path):
    """The tensors by the names that BertModel and its heads have today, without buffers and unread heads."""
    found = {}
    for name, x in tensors.items():
        current = name.removeprefix("bert.")
        for old, new in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")):
            current = current.replace(old, new)
        if current in found:
            raise Problem(f"cannot read {path}: it holds {current} twice")
        if current != "embeddings.position_ids" and not current.startswith(UNREAD):
            found[current] = x
    return found


def _head_in(tensors, settings):
    """Which head the tensors are of, and the names of its classes."""
    if any(name.startswith("cls.predictions.") for name in tensors):
        return "pretraining" if any(name.startswith(NEXT_SENTENCE) for name in tensors) else "masked-lm", ()
    if "classifier.bias" not in tensors:
        return "none", ()
    kind = settings.get("architectures")
    of_tokens = kind == ["BertForTokenClassification"] if kind else "pooler.dense.weight" not in tensors
    names = settings.get("id2label")
    names = names if isinstance(names, dict) else {}
    labels = (str(names.get(str(i), f"LABEL_{i}")) for i in range(tensors["classifier.bias"].size))
    return "token" if of_tokens else "sequence", tuple(labels)


def _rows(labels, known):
    """Where each of `labels` is among the known classes, or None where those are others."""
    if known in (labels, tuple(f"LABEL_{i}" for i in range(len(labels)))):
        return list(range(len(labels)))
    return [known.index(label) for label in labels] if sorted(labels) == sorted(known) else None


def _named(head, labels):
    few = ", ".join(labels[:5]) + ", ..." * (len(labels) > 5)
    return "no head" if head == "none" else f"a {head} head" + f" for {few}" * bool(labels)


def _tie(tensors, path):
    """Drop the decoder of a masked-lm head: its matrix is that of the word embeddings, or the model is another one."""
    for twin, tied in (("cls.predictions.decoder.weight", "embeddings.word_embeddings.weight"),
                       ("cls.predictions.decoder.bias", "cls.predictions.bias")):
        x = tensors.pop(twin, None)
        if x is not None and not np.array_equal(x, tensors.setdefault(tied, x)):
            raise WrongUsage(f"need a decoder tied to the word embeddings: in {path} {twin} differs from {tied}")


def _filled(config, seed, tensors, drawn, path):
    """The Bert of `config` with every parameter from `tensors`, but for those whose names begin with one of `drawn`."""
    described, held = parameter_count(config.but(head="none"))["total"], sum(x.size for x in tensors.values())
    if described > 2 * held:                        # before anything much larger than the file is built
        raise Problem(f"cannot read {path}: {CONFIG} describes {described:,} parameters, and it holds {held:,}")
    model = Bert(config, seed=None).initialise(seed, config.initial_std, drawn)
    arrays = model.arrays()
    for name, array in arrays.items():
        theirs = their_name(name)
        if name.startswith(drawn):
            continue
        if theirs not in tensors:
            raise Problem(f"cannot read {path}: {theirs} is missing")
        x = arrays[name] = tensors.pop(theirs)
        if x.shape != array.shape:
            raise Problem(f"cannot read {path}: {theirs} has shape {x.shape}, and {CONFIG} makes it {array.shape}")
        if not np.isfinite(x).all():
            raise Problem(f"cannot read {path}: {theirs} holds numbers that are not finite")
    if tensors:
        raise Problem(f"cannot read {path}: {min(tensors)!r:.80} has no place in a BERT of {config.layers} layers "
                      f"with {_named(config.head, config.labels)}")
    if any(x.dtype == np.float64 for x in arrays.values()):
        model.to(np, np.float64)
    return model.load(arrays)


# ---------------------------------------------------------------- out

def write(model, directory, tokenizer=None):
    """Write a checkpoint directory: files come into place when all of them are written, the weights last.

    A pooler beside a masked-lm or token head is left out: transformers has none there. An encoder without a pooler
    opens there with BertModel.from_pretrained(DIR, add_pooling_layer=False), and config.json says so.
    """
    from safetensors.numpy import save

    config, architecture = model.config, ARCHITECTURES[model.config.head]
    tensors = {}
    for name, array in model.arrays().items():
        prefix = "" if config.head == "none" or name.startswith("head.") else "bert."
        if architecture in WITH_POOLER or not name.startswith("pooler."):
            tensors[prefix + their_name(name)] = np.ascontiguousarray(array)
    settings = {"architectures": [architecture], **FIXED, "tie_word_embeddings": True,
                "dtype": str(model.embeddings.word.weight.dtype),
                **{theirs: getattr(config, ours) for ours, (theirs, _) in SETTINGS.items()}}
    if config.head in CLASSIFIERS:
        settings["id2label"] = dict(enumerate(config.labels))
        settings["label2id"] = {label: i for i, label in enumerate(config.labels)}
    if config.head == "none" and not config.pooler:
        settings["comment"] = "no pooler: in transformers, BertModel.from_pretrained(DIR, add_pooling_layer=False)"
    files = {CONFIG: _json(settings)}
    if tokenizer is not None:
        files["tokenizer.json"] = tokenizer.to_str().encode()
        files["tokenizer_config.json"] = _json(_tokenizer_settings(tokenizer, config))
    files[WEIGHTS] = save(tensors, metadata={"format": "pt"})

    Path(directory).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".writing-") as temporary:
        for name, content in files.items():
            with open(Path(temporary, name), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for name in files:
            os.replace(Path(temporary, name), Path(directory, name))


def _json(settings):
    return (json.dumps(settings, indent=2, ensure_ascii=False) + "\n").encode()


def _tokenizer_settings(tokenizer, config):
    """tokenizer_config.json: what transformers does not find in tokenizer.json."""
    normalizer = json.loads(tokenizer.to_str())["normalizer"] or {}
    is_bert = normalizer.get("type") == "BertNormalizer"
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")
               if tokenizer.token_to_id(f"[{name.upper()}]") is not None}
    return {"tokenizer_class": "BertTokenizer" if is_bert else "PreTrainedTokenizerFast",
            "model_max_length": config.positions, **special,
            **({"do_lower_case": normalizer["lowercase"], "strip_accents": normalizer["strip_accents"],
                "tokenize_chinese_chars": normalizer["handle_chinese_chars"]} if is_bert else {})}
