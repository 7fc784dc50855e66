"""Sizes as data: what `LxH`, `LxHxA` and the published names mean."""

import re
from dataclasses import asdict, dataclass, replace

from tinydistill.errors import WrongUsage

HEADS = ("none", "masked-lm", "pretraining", "sequence", "token")
READ_POOLED = ("pretraining", "sequence")           # heads that read the pooled [CLS]


@dataclass(frozen=True)
class BertConfig:
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
    head: str = "none"                              # one of HEADS
    labels: tuple = ()                              # the classes' names where the head has classes

    def __post_init__(self):
        if self.hidden % self.heads:
            raise WrongUsage(f"need a hidden size that the heads divide: {self.hidden} hidden, {self.heads} heads")
        if self.head not in HEADS:
            raise WrongUsage(f"need a head out of {', '.join(HEADS)}; got {self.head}")
        if self.head in ("sequence", "token") and not self.labels:
            raise WrongUsage(f"need the labels of a {self.head} head, got none")

    def but(self, **changes):
        return replace(self, **changes)

    def as_dict(self):
        return asdict(self) | {"labels": list(self.labels)}

    def __str__(self):
        return f"BERT {self.layers}x{self.hidden}"


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


def parse(size, heads=None):
    """The BertConfig that a size means: a published name, `LxH` or `LxHxA` (feed-forward 4H).

    Without A: 12 heads from H = 312 up where 12 divides H, else H / 64, at least 1. `heads` overrides that rule, not an
    A that was written.
    Raises: WrongUsage for anything else.

    >>> parse("6x384").heads, parse("2x128").heads, parse("2x128x4").heads, parse("turc-tiny").feed_forward
    (12, 2, 4, 512)
    """
    if size in PUBLISHED:
        layers, hidden, published_heads, feed_forward, vocabulary, _ = PUBLISHED[size]
        return BertConfig(layers, hidden, published_heads, feed_forward, vocabulary)
    numbers = re.fullmatch(r"(\d+)x(\d+)(?:x(\d+))?", size)
    if not numbers or not all(int(n) for n in numbers.groups() if n):
        raise WrongUsage(f"need a size such as 6x384, 2x128x4 or a published name ({', '.join(PUBLISHED)}); got {size!r}")
    layers, hidden, written = (int(n) if n else None for n in numbers.groups())
    rule = 12 if hidden >= 312 and hidden % 12 == 0 else max(1, hidden // 64)
    return BertConfig(layers, hidden, written or heads or rule, 4 * hidden)


def has_fixed_heads(size):
    """Whether the size itself says how many heads it has."""
    return size in PUBLISHED or size.count("x") == 2
