"""Sizes as data: what `LxH`, `LxHxA` and the published names mean."""

import re
from dataclasses import asdict, dataclass, replace

from tinydistill.errors import WrongUsage
from tinydistill.features import PER_LAYER, PER_MODEL, Needs

HEADS = ("none", "masked-lm", "pretraining", "sequence", "token", "span")
CLASSIFIERS = ("sequence", "token")                 # heads with named classes
OF_WORDS = ("masked-lm", "pretraining")             # heads with a decoder, to the words of the vocabulary
READ_POOLED = ("pretraining", "sequence")           # heads that read the pooled [CLS] of a BERT
ACTIVATIONS = ("gelu", "gelu_new", "relu")          # by the names of their ops


class Config:
    """What every architecture's configuration says of it, beside the fields that give its shape.

    `layers`, `hidden`, `heads`, `vocabulary`, `head` and `labels` are among the fields of each.
    """

    title = model_type = ""                         # for people, and in files
    heads_known = ()                                # heads of HEADS that it can have
    features = ()                                   # fields of Features that it can have
    read_pooled = ()                                # heads that cannot do without a pooler
    layer_kind = ""                                 # whose layers it has: those can be copied
    takes_body = False                              # whether it stands on its teacher: see `students.bodies`
    frozen_needs = Needs()                          # what it reads of that body
    padded_length = None                            # the length that every row is padded to, where it has to be one

    def but(self, **changes):
        """The same with some fields changed."""
        return replace(self, **changes)

    def as_dict(self):
        """The fields, as JSON takes them."""
        return asdict(self) | {"labels": list(self.labels)}

    def __str__(self):
        return f"{self.title} {self.layers}x{self.hidden}"


@dataclass(frozen=True)
class BertConfig(Config):
    """The shape of a BERT: layers x hidden, A heads, feed-forward width, and what the embeddings know."""

    layers: int
    hidden: int
    heads: int
    feed_forward: int
    vocabulary: int = 30522
    positions: int = 512
    token_types: int = 2
    eps: float = 1e-12
    dropout: float = 0.1
    attention_dropout: float = 0.1
    initial_std: float = 0.02
    pad_id: int = 0
    pooler: bool = True
    head: str = "none"                              # one of `heads_known`
    labels: tuple = ()                              # the classes' names where the head has classes
    activation: str = "gelu"                        # of feed-forward and masked-lm head
    tied: bool = True                               # the decoder of a head of words is the word embeddings

    title, model_type, layer_kind = "BERT", "bert", "BERT's"
    heads_known, read_pooled, features = HEADS, READ_POOLED, PER_LAYER + PER_MODEL
    sequence_layers = 1                             # maps in the head of a sequence

    def __post_init__(self):
        require_head(self)
        if self.activation not in ACTIVATIONS:
            raise WrongUsage(f"need an activation out of {', '.join(ACTIVATIONS)}; got {self.activation!r}")
        if self.hidden % self.heads:
            raise WrongUsage(f"need a hidden size that the heads divide: {self.hidden} hidden, {self.heads} heads")

    @property
    def longest(self):
        """How many tokens a sequence may have."""
        return self.positions


def require_head(config):
    """Raises: WrongUsage where an architecture has no such head, or a head of classes no classes."""
    if config.head not in config.heads_known:
        raise WrongUsage(f"need a head out of {', '.join(config.heads_known)} for {config}; got {config.head}")
    object.__setattr__(config, "labels", tuple(config.labels))      # a list, where it comes from a file
    if config.head in CLASSIFIERS and not config.labels:
        raise WrongUsage(f"need the labels of a {config.head} head, got none")


# name: (layers, hidden, heads, feed-forward, vocabulary, paper)
PUBLISHED = {
    "bert-base": (12, 768, 12, 3072, 30522, "Devlin et al. 2019"),
    "bert-large": (24, 1024, 16, 4096, 30522, "Devlin et al. 2019"),
    "minilm-12x384": (12, 384, 12, 1536, 30522, "Wang et al. 2020"),
    "minilm-6x768": (6, 768, 12, 3072, 30522, "Wang et al. 2020"),
    "minilm-6x384": (6, 384, 12, 1536, 30522, "Wang et al. 2020"),
    "minilm-4x384": (4, 384, 12, 1536, 30522, "Wang et al. 2020"),
    "minilm-3x384": (3, 384, 12, 1536, 30522, "Wang et al. 2020"),
    "tinybert-4x312": (4, 312, 12, 1200, 30522, "Jiao et al. 2020"),
    "tinybert-6x768": (6, 768, 12, 3072, 30522, "Jiao et al. 2020"),
    "turc-tiny": (2, 128, 2, 512, 30522, "Turc et al. 2019"),
    "turc-mini": (4, 256, 4, 1024, 30522, "Turc et al. 2019"),
    "turc-small": (4, 512, 8, 2048, 30522, "Turc et al. 2019"),
    "turc-medium": (8, 512, 8, 2048, 30522, "Turc et al. 2019"),
    "turc-base": (12, 768, 12, 3072, 30522, "Turc et al. 2019"),
    "pkd-3": (3, 768, 12, 3072, 30522, "Sun et al. 2019"),
    "pkd-6": (6, 768, 12, 3072, 30522, "Sun et al. 2019"),
}


def numbers(size):
    """(layers, hidden, heads or None) of `LxH` or `LxHxA`; None for anything else.

    >>> numbers("6x384"), numbers("2x128x4"), numbers("turc-tiny")
    ((6, 384, None), (2, 128, 4), None)
    """
    found = re.fullmatch(r"(\d+)x(\d+)(?:x(\d+))?", size)
    if not found or not all(int(n) for n in found.groups() if n):
        return None
    return tuple(int(n) if n else None for n in found.groups())


def usual_heads(hidden):
    """12 from H = 312 up where 12 divides H, as MiniLM and TinyBERT have it, else H / 64 as Turc has it, at least 1."""
    return 12 if hidden >= 312 and hidden % 12 == 0 else max(1, hidden // 64)


def sized(kind, **fields):
    """of_size(layers, hidden, heads): what `LxHxA` means for a kind of BertConfig with these fields.

    Feed-forward 4H; heads None takes the usual number.
    """
    def of_size(layers, hidden, heads):
        return kind(layers, hidden, heads or usual_heads(hidden), 4 * hidden, **fields)
    return of_size
