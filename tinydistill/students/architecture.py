"""Architecture: all that the rest of the house knows of a kind of model, as data."""

from dataclasses import dataclass, field
from typing import Callable, NamedTuple


class Size(NamedTuple):
    """A published size: its configuration, its paper, and what the paper's count of parameters counts (`COUNTED`)."""

    config: object
    paper: str
    counted: str = "with pooler"


@dataclass(frozen=True)
class Architecture:
    """A kind of model: its configuration, its class, and what is counted from the configuration alone.

    published: {name: Size}. sized: {prefix: function of (layers, hidden, heads or None)}, the configuration that
    `PREFIX-LxH` means: a small relative of the published ones.
    """

    paper: str
    config: type
    model: type
    parameter_count: Callable                       # {part: count, ..., "total": count}
    forward_flops: Callable                         # of one sequence of so many tokens
    published: dict = field(default_factory=dict)
    sized: dict = field(default_factory=dict)

    @property
    def model_type(self):
        return self.config.model_type

    @property
    def title(self):
        return self.config.title


# What papers count. Each: (the configuration that is counted, which of its parts).
COUNTED = {
    "with pooler": (lambda config: config.but(head="none"), lambda part: True),
    "without pooler": (lambda config: config.but(head="none"), lambda part: part != "pooler"),
    "with pre-training heads": (lambda config: config.but(head="pretraining"), lambda part: True),
    "words and layers": (lambda config: config, lambda part: part in ("word embeddings", "transformer")),
    "without embeddings": (lambda config: config.but(head="sequence", labels=("0", "1")),
                           lambda part: part != "word embeddings"),
    "trained": (lambda config: config.but(head="sequence", labels=("0", "1")), lambda part: part.startswith("trained")),
}


def counted(parameter_count, config, rule):
    """The parameters of a configuration as the rule counts them."""
    change, counts = COUNTED[rule]
    return sum(count for part, count in parameter_count(change(config)).items() if part != "total" and counts(part))
