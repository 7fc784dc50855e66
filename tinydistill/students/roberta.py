"""RoBERTa (Liu et al. 2019): BERT's encoder with other positions, one token type and no next-sentence prediction.

    embeddings = LN(word + position[p] + token type 0)
    p_t = pad + (how many of the tokens up to t are not <pad>), and p_t = pad where token t is <pad>

With pad = 1, the first token is at position 2: two rows of the table are before it, and 514 rows give 512 tokens room.
What counts is the ids, as in the published code, not the mask: padding behind a sequence moves no token of it, and a
<pad> within one, where a random replacement put it, does. A sequence head has two layers, and reads <s> as it is.

Source: Liu et al. 2019, "RoBERTa"; huggingface/transformers, modeling_roberta.py (after fairseq's make_positions). Its
word and position embeddings have `padding_idx`: the rows of <pad> get no gradient there, and here what the loss gives.
"""

from dataclasses import dataclass

from tinydistill import ops
from tinydistill.backend import xp_of
from tinydistill.errors import WrongUsage
from tinydistill.nn import Dropout, Linear, Module
from tinydistill.students import bert
from tinydistill.students.architecture import Architecture, Size
from tinydistill.students.bert import Bert, BertEmbeddings
from tinydistill.students.configs import BertConfig, sized


@dataclass(frozen=True)
class RobertaConfig(BertConfig):
    """The shape of a RoBERTa: a BERT's, with the vocabulary, positions and constants of the published models."""

    vocabulary: int = 50265
    positions: int = 514                            # rows of the table, those before the first token included
    token_types: int = 1
    eps: float = 1e-5
    pad_id: int = 1
    title, model_type = "RoBERTa", "roberta"
    heads_known = ("none", "masked-lm", "sequence", "token", "span")
    read_pooled, sequence_layers = (), 2
    features = tuple(name for name in BertConfig.features if name != "next_sentence")

    def __post_init__(self):
        super().__post_init__()
        if self.activation != "gelu":
            raise WrongUsage(f"need the activation gelu, which every RoBERTa has; got {self.activation}")
        if self.longest < 1 or self.token_types < 1:
            raise WrongUsage(f"need more positions than the {self.pad_id + 1} up to that of <pad>, and a token type: "
                             f"positions {self.positions}, token_types {self.token_types}")

    @property
    def longest(self):
        """How many tokens a sequence may have."""
        return self.positions - self.pad_id - 1


def positions(ids, pad_id):
    """Where each token stands: counted from pad_id + 1, and pad_id at <pad>. Shapes: ids (B, T) -> (B, T) integers.

    >>> import numpy as np
    >>> positions(np.array([[0, 7, 2, 1, 1]]), pad_id=1)
    array([[2, 3, 4, 1, 1]])
    """
    real = ids != pad_id
    return xp_of(ids).cumsum(real, axis=1) * real + pad_id


class RobertaEmbeddings(BertEmbeddings):
    """LN(word + position + token type). Shapes: ids (B, T) -> (B, T, D).

    Where there is one token type, every token has it, whatever the batch says: it may be a BERT's, too. The positions
    of a batch count from 0, as a BERT's.
    """

    def __init__(self, config):
        super().__init__(config)
        self.pad_id, self.longest = config.pad_id, config.longest

    def __call__(self, ids, token_types, position_ids=None):
        if ids.shape[1] > self.longest:
            raise WrongUsage(f"need at most {self.longest} tokens a sequence, got {ids.shape[1]}")
        rows = positions(ids, self.pad_id) if position_ids is None else position_ids + self.pad_id + 1
        one_type = len(self.token_type.weight.array) == 1
        return super().__call__(ids, None if one_type else token_types, rows)           # (B, T)


class RobertaSequenceHead(Module):
    """logits = dropout(tanh(dropout(h_<s>) W1 + b1)) W2 + b2. Shapes: (B, D) -> (B, C)."""

    def __init__(self, config):
        self.inner_dropout = Dropout(config.dropout)
        self.inner = Linear(config.hidden, config.hidden)
        self.outer_dropout = Dropout(config.dropout)
        self.outer = Linear(config.hidden, len(config.labels))

    @property
    def classifier(self):
        """The map to the classes, by the name it has in other heads."""
        return self.outer

    def __call__(self, first, run):
        h = ops.tanh(self.inner(self.inner_dropout(first, run)))
        return self.outer(self.outer_dropout(h, run))


class Roberta(Bert):
    """batch -> Features, as Bert does it. Shapes: B sequences of T tokens; see Features."""

    EMBEDDINGS = RobertaEmbeddings
    HEADS = Bert.HEADS | {"sequence": RobertaSequenceHead}

    def summary(self, x):
        """What the head of a sequence reads: <s> as it is."""
        return x[:, 0]


architecture = Architecture(
    "Liu et al. 2019", RobertaConfig, Roberta, bert.parameter_count,
    bert.forward_flops,
    published={
        "roberta-base": Size(RobertaConfig(12, 768, 12, 3072), "Liu et al. 2019"),
        "roberta-large": Size(RobertaConfig(24, 1024, 16, 4096), "Liu et al. 2019"),
        "distilroberta": Size(RobertaConfig(6, 768, 12, 3072), "Sanh et al. 2019"),
        "minilm-v2-6x768-roberta": Size(RobertaConfig(6, 768, 12, 3072), "Wang et al. 2021", "words and layers"),
        "minilm-v2-12x384-roberta": Size(RobertaConfig(12, 384, 12, 1536), "Wang et al. 2021", "words and layers"),
        "minilm-v2-6x384-roberta": Size(RobertaConfig(6, 384, 12, 1536), "Wang et al. 2021", "words and layers")},
    sized={"roberta": sized(RobertaConfig)})
