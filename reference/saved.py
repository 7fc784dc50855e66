"""Somebody's saved tensors: read from .npz or .safetensors, and understood by their names.

    student_queries, q_student, s_query, student.queries        the queries of the student
    student_hidden_0, student_hidden.1, ...                     one array with a leading axis of layers
    dstudent_logits, grad_student_logits, student_logits_grad   a gradient
    temperature, T, tau                                         a number
    value, loss, kd_loss                                        what was computed

A name is the set of its words, so their order and what stands between them do not matter. What names no side is the
student's.
"""

import re
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

PHRASES = (("attention_mask", "mask"), ("attn_mask", "mask"), ("attention_scores", "scores"), ("attn_scores", "scores"),
           ("hidden_states", "hidden"), ("hidden_state", "hidden"), ("pooler_output", "pooled"),
           ("input_ids", "ids"), ("token_type_ids", "token_types"))
WORDS = {"student": "s stu", "teacher": "t tea", "queries": "q query", "keys": "k key", "values": "v value",
         "scores": "score", "hidden": "hiddens", "embeddings": "embedding embeds emb", "logits": "logit",
         "attention": "attentions attn", "labels": "label target targets y", "temperature": "temp tau"}
MEANT = {short: word for word, shorts in WORDS.items() for short in shorts.split()}
FILLERS = {"layer", "layers", "output", "outputs", "tensor", "all", "states", "state", "last"}
GRADIENT = {"grad", "gradient", "grads", "gradients"}
PER_LAYER = {"queries", "keys", "values", "scores", "hidden", "attention"}


class Unusable(ValueError):
    """Nothing can be made of this file: one line on why."""


@dataclass
class Saved:
    """inputs, gradients {glossary's name: array}, numbers {name: number}, values {name as saved: array},
    names {glossary's name: as saved}, unread: the names of which nothing was made."""

    inputs: dict = field(default_factory=dict)
    numbers: dict = field(default_factory=dict)
    values: dict = field(default_factory=dict)
    gradients: dict = field(default_factory=dict)
    names: dict = field(default_factory=dict)
    unread: list = field(default_factory=list)


def read(path):
    """{name: array} of a .npz or .safetensors file; nothing in it is ever executed."""
    path = Path(path)
    if path.suffix not in (".npz", ".safetensors"):
        raise Unusable(f"need a .npz or .safetensors file, got {path.name}")
    if not path.is_file():
        raise Unusable(f"there is no file {path}")
    try:
        return _npz(path) if path.suffix == ".npz" else _safetensors(path)
    except (OSError, EOFError, ValueError, KeyError, MemoryError, SyntaxError, zipfile.BadZipFile,
            zlib.error) as problem:
        raise Unusable(f"cannot read {path}: {str(problem).splitlines()[0]:.160}") from None


def _npz(path):
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _safetensors(path):
    import safetensors
    found, name = {}, None
    try:
        with safetensors.safe_open(path, "np") as file:
            for name in file.keys():
                found[name] = file.get_tensor(name)
    except safetensors.SafetensorError as problem:
        raise ValueError(str(problem)) from None
    except (TypeError, AttributeError):             # a dtype that NumPy has not, bfloat16 for one
        raise ValueError(f"NumPy has no numbers such as those of {name}: save it as float32") from None
    return found


# ---------------------------------------------------------------- names

def words_of(name):
    """(its words, the number of a layer or None).

    >>> for name in ("attn.q_student", "teacher/hidden_states.3", "studentLogits"):
    ...     words, layer = words_of(name)
    ...     print(*sorted(words), layer)
    queries student None
    hidden teacher 3
    logits student None
    """
    text = "_".join(re.findall("[a-z]+|[0-9]+", re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()))
    for phrase, word in PHRASES:
        text = text.replace(phrase, word)
    found = text.split("_")
    layer = next((int(word) for word in found if word.isdigit()), None)
    words = frozenset(MEANT.get(word, word) for word in found if not word.isdigit())
    return words - {"attention"} if words & {"queries", "keys", "values"} else words, layer


class Meanings:
    """What a set of words means: the name of an input. Of two names with the same words the first stands for both."""

    def __init__(self, inputs):
        self.of_words, self.twins = {}, {}
        for name in inputs:
            first = self.of_words.setdefault(words_of(name)[0], name)
            self.twins.setdefault(first, []).append(name)
        for words, name in list(self.of_words.items()):
            self.of_words.setdefault(words - {"student"}, name)
        for side in ("student", "teacher"):
            self.of_words.setdefault(frozenset({side}), f"{side}_logits")

    def __call__(self, words):
        """The name, or None."""
        return self.of_words.get(words) or self.of_words.get(words - FILLERS)


def understood(arrays, inputs, numbers=()):
    """The Saved of {name: array}. inputs, numbers: the names that equations have.

    Raises: Unusable where two arrays have one meaning.
    """
    meaning_of, found, by_layer = Meanings(inputs), Saved(), {}
    for name, x in arrays.items():
        words, layer = words_of(name)
        meaning, gradient_of = meaning_of(words), _gradient_of(name, words, meaning_of)
        if x.dtype.kind not in "fiub":
            found.unread.append(name)
        elif "loss" in words or name.lower() == "value":
            found.values[name] = x
        elif gradient_of:
            found.gradients[gradient_of] = x.astype(np.float64)
        elif meaning and layer is not None and x.ndim:
            by_layer.setdefault(meaning, {})[layer] = (name, x)
        elif meaning and x.ndim:
            _take(found, meaning, name, x)
        elif (number := _number(name, x, numbers)) is not None:
            found.numbers[number] = float(x.reshape(-1)[0])
        else:
            found.unread.append(name)
    for meaning, layers in by_layer.items():
        ordered = [layers[l] for l in sorted(layers)]
        if len({x.shape for _, x in ordered}) > 1:
            raise Unusable(f"need one shape for every layer of {meaning}: "
                           + ", ".join(f"{n} {x.shape}" for n, x in ordered[:3]))
        first, last = ordered[0][0], ordered[-1][0]
        _take(found, meaning, first if first == last else f"{first} to {last}", np.stack([x for _, x in ordered]))
    for some in (found.inputs, found.gradients):
        some |= {twin: x for name, x in some.items() for twin in meaning_of.twins[name]}
    return found


def _gradient_of(name, words, meaning_of):
    """The name of the input whose gradient this is, or None."""
    if words & GRADIENT:
        return meaning_of(words - GRADIENT)
    return meaning_of(words_of(re.sub("^d_?", "", name))[0]) if name.startswith("d") and not meaning_of(words) else None


def _number(name, x, numbers):
    """Which number this is: one element, by its name."""
    if x.size != 1 or x.dtype.kind == "b":
        return None
    name = MEANT.get(name.lower(), name.lower()) if name.lower() != "t" else "temperature"
    return name if name in numbers else None


def _take(found, meaning, name, x):
    if meaning in found.inputs:
        raise Unusable(f"{found.names[meaning]} and {name} are both {meaning}: leave one out")
    found.names[meaning] = name
    found.inputs[meaning] = _real(x) if meaning == "mask" else x if x.dtype.kind in "iub" else x.astype(np.float64)


def _real(mask):
    """(B, T), True at real tokens, from 0 and 1, or from what is added to scores: 0 and a large negative number."""
    if mask.ndim == 4 and mask.shape[1] == mask.shape[2] == 1:
        mask = mask[:, 0, 0]                        # (B, 1, 1, T)
    return mask > 0 if mask.dtype.kind == "b" or mask.min(initial=0) >= 0 else mask == 0
