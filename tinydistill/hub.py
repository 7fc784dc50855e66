"""Checkpoints in and out: Hugging Face directories (config.json, model.safetensors, tokenizer.json).

What `write` leaves of a family that transformers has, it opens without a missing or unexpected tensor; what it cannot
express lies in a directory of the same kind, whose config.json says so. What `read` takes may come from anybody.
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np

from tinydistill import architectures
from tinydistill.data import tokenizer as tokenizers
from tinydistill.errors import Problem, WrongUsage
from tinydistill.hub_names import form_in, form_of
from tinydistill.safe_files import read_json, read_safetensors
from tinydistill.students.configs import CLASSIFIERS, HEADS, OF_WORDS

CONFIG, WEIGHTS = "config.json", "model.safetensors"

# ---------------------------------------------------------------- in

def read(directory, head="any", labels=None, seed=0, require_head=False):
    """The model of a checkpoint directory: float64 where the file is, else float32 (float16 and bfloat16 are widened).

    head: one of HEADS, or "any" for the one in the file. A head that is there and not wanted is left out. One that is
    wanted and not there, or there for other classes than `labels`, is drawn from `seed`, with the pooler below it where
    that is missing too; `require_head` makes this an error. Classes are put in the order of `labels`, and nameless ones
    (LABEL_0, LABEL_1 ...) take their names from it.
    Untied: a decoder that is there and is not the word embeddings, or that config.json calls so.
    Left out: a next-sentence head, unless head is "pretraining" and the file has all of that; a `classifier_dropout`.
    Raises: WrongUsage for a directory or architecture that is not read here, Problem for a damaged file.
    """
    if head not in ("any", *HEADS):
        raise WrongUsage(f"need a head out of any, {', '.join(HEADS)}; got {head}")
    settings = read_json(_find(directory, CONFIG))
    form = form_in(settings, Path(directory, CONFIG))
    config, weights = form.config(settings, Path(directory, CONFIG)), _find(directory, WEIGHTS)
    tensors = form.canonical(read_safetensors(weights), settings, weights)
    found, known = form.head_in(tensors, settings)
    if (found, head) != ("pretraining", "pretraining"):
        found = "masked-lm" if found == "pretraining" else found
        tensors = {name: x for name, x in tensors.items() if not name.startswith(form.next_sentence)}
    head = found if head == "any" else head
    labels = tuple(labels or (known if head == found else ())) if head in CLASSIFIERS else ()
    rows = _rows(labels, known) if head == found else None                              # None: not this head
    if rows is None and require_head:
        raise WrongUsage(f"need a model with {_named(head, labels)}; {directory} has {_named(found, known)}")
    if head in CLASSIFIERS and not labels:
        raise WrongUsage(f"need the labels of a new {head} head, which {directory} has not")

    build = architectures.of(config).model
    if hasattr(build, "from_stored"):               # its numbers are no parameters: a quantised model
        if rows is None:
            raise WrongUsage(f"a quantised model keeps the head it has: need {_named(head, labels)}, {directory} has "
                             f"{_named(found, known)}")
        pooler = any(name.startswith(form.pooler) for name in tensors)
        config = config.but(head=found, labels=labels, pooler=pooler)
        return _in_order(build.from_stored(config, _finite(tensors, weights)), rows)

    if rows is None:
        tensors = {name: x for name, x in tensors.items() if not name.startswith(form.head_prefixes)}
    elif head in OF_WORDS and not _tie(form, tensors, config.tied):
        config = config.but(tied=False)
    has_pooler = any(name.startswith(form.pooler) for name in tensors)
    drawn = () if rows is not None else ("head.",) if has_pooler else ("head.", "pooler.")
    poolable = {"pooler": has_pooler or head in config.read_pooled} if "pooler" in config.as_dict() else {}
    config = config.but(head=head, labels=labels, **poolable)
    return _in_order(_filled(form, config, seed, tensors, drawn, weights), rows)


WANTED = (CONFIG, WEIGHTS, "tokenizer.json", "tokenizer_config.json")


def located(name, what="a checkpoint"):
    """The directory of a checkpoint: `name` itself, or what the Hugging Face hub has under `NAME` or `OWNER/NAME`.

    A model of the hub is fetched once, with a progress bar, into huggingface_hub's own cache, and only what is read.
    Raises: WrongUsage where there is neither.
    """
    path = Path(name)
    if path.is_dir():
        return path
    nowhere = f"need {what}: there is no directory {name}"
    if str(name).startswith((".", "/", "~")) or len(path.parts) > 2 or len(path.parts) == 2 and path.parent.is_dir():
        raise WrongUsage(nowhere)
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise WrongUsage(f"{nowhere}; pip install huggingface_hub finds it on the Hugging Face hub") from None
    try:
        return Path(snapshot_download(str(name), allow_patterns=WANTED))
    except LocalEntryNotFoundError:
        raise WrongUsage(f"{nowhere}, and the Hugging Face hub cannot be reached: name a directory, or fetch the model "
                         f"where there is a network (hf download {name}) and copy its directory here") from None
    except (HfHubHTTPError, HFValidationError, OSError) as refused:
        raise WrongUsage(f"{nowhere}, and the Hugging Face hub has no such model for you: "
                         f"{str(refused).strip().splitlines()[0]:.120}") from None


def exists(directory):
    """Whether a directory holds a model."""
    return Path(directory, WEIGHTS).exists()


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


def _rows(labels, known):
    """Where each of `labels` is among the known classes, or None where those are others."""
    if known in (labels, tuple(f"LABEL_{i}" for i in range(len(labels)))):
        return list(range(len(labels)))
    return [known.index(label) for label in labels] if sorted(labels) == sorted(known) else None


def _in_order(model, rows):
    """The model with the rows of its classifier in this order; None or none: as they are."""
    for parameter in model.head.classifier.parameters() if rows else ():
        parameter.array = parameter.array[rows]
    return model


def _named(head, labels):
    few = ", ".join(labels[:5]) + ", ..." * (len(labels) > 5)
    return "no head" if head == "none" else f"a {head} head" + f" for {few}" * bool(labels)


def _tie(form, tensors, tied):
    """Drop what a masked-lm head has twice, its bias, and a matrix that is that of the word embeddings.

    Returns: whether the decoder is tied: not where config.json says so (`tied`), or its matrix is there and another.
    Of two biases that differ the decoder's is kept: transformers reads that one.
    """
    for twin, source in form.tied.items():
        x = tensors.get(twin)
        if x is None:
            continue
        if twin.endswith(".bias"):
            tensors[source] = tensors.pop(twin)
        elif tied := tied and np.array_equal(x, tensors.setdefault(source, x)):
            del tensors[twin]
    return tied


def _finite(tensors, path):
    """The tensors. Raises: Problem that names one with a number that is none."""
    for name, x in tensors.items():
        if not np.isfinite(x).all():
            raise Problem(f"cannot read {path}: {name} holds numbers that are not finite")
    return tensors


def _filled(form, config, seed, tensors, drawn, path):
    """The model of `config` with every parameter from `tensors`, but for those whose names begin with one of `drawn`."""
    described = architectures.parameter_count(config.but(head="none", labels=()))["total"]
    held = sum(x.size for x in tensors.values())
    if described > 2 * held:                        # before anything much larger than the file is built
        raise Problem(f"cannot read {path}: {CONFIG} describes {described:,} parameters, and it holds {held:,}")
    model = architectures.build(config, None)
    model.draw(seed, drawn)
    arrays = model.arrays()
    for name, array in arrays.items():
        theirs = form.name(name)
        if name.startswith(drawn):
            continue
        if theirs not in tensors:
            raise Problem(f"cannot read {path}: {theirs} is missing")
        x = arrays[name] = form.ours(name, tensors.pop(theirs))
        if x.shape != array.shape:
            raise Problem(f"cannot read {path}: {theirs} has shape {x.shape}, and {CONFIG} makes it {array.shape}")
        _finite({theirs: x}, path)
    if tensors:
        raise Problem(f"cannot read {path}: {min(tensors)!r:.80} has no place in a {config} "
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

    config, form = model.config, form_of(model.config)
    tensors = {}
    for name, array in (model.stored() if hasattr(model, "stored") else model.arrays()).items():
        if (theirs := form.written(config, name)) is not None:
            tensors[theirs] = np.array(form.theirs(name, array), order="C")
    tensors |= {twin: tensors[source] for twin, source in form.twins(config).items()}
    settings = form.settings(config) | {"dtype": str(next(p.dtype for p in model.parameters() if p.dtype.kind == "f"))}
    files = {CONFIG: _json(settings)}
    if tokenizer is not None:
        files["tokenizer.json"] = tokenizer.to_str().encode()
        files["tokenizer_config.json"] = _json(tokenizers.settings(tokenizer, config.longest))
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
