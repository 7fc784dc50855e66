"""DistilBERT (Sanh et al. 2019): half of BERT's layers, without token types and without a pooler.

    embeddings = LN(word + position)        h = LN(x + attention(x))        y = LN(h + dropout(feed_forward(h)))

A layer is BERT's but for one dropout: what attention gives to the residual sum is not dropped. Two sentences are told
apart by [SEP] alone. The pooler went with next-sentence prediction; a sequence head has a layer of its own instead.

Source: huggingface/transformers, modeling_distilbert.py; transformers-research-projects, distillation/
training_configs/distilbert-base-uncased.json.
"""

from dataclasses import dataclass

from tinydistill import ops
from tinydistill.errors import WrongUsage
from tinydistill.nn import Dropout, EncoderLayer, Linear, Module
from tinydistill.students import bert
from tinydistill.students.architecture import Architecture, Size
from tinydistill.students.bert import Bert
from tinydistill.students.configs import BertConfig, sized
from tinydistill.students.heads import SpanHead


@dataclass(frozen=True)
class DistilBertConfig(BertConfig):
    """The shape of a DistilBERT: a BERT's without token types and pooler, and the dropout of two heads."""

    token_types: int = 0
    pooler: bool = False
    sequence_dropout: float = 0.2
    span_dropout: float = 0.1
    title, model_type = "DistilBERT", "distilbert"
    heads_known = ("none", "masked-lm", "sequence", "token", "span")
    read_pooled, sequence_layers = (), 2
    features = tuple(name for name in BertConfig.features if name not in ("pooled", "next_sentence"))

    def __post_init__(self):
        super().__post_init__()
        if self.token_types or self.pooler:
            raise WrongUsage(f"need a DistilBERT without token types and pooler: "
                             f"token_types {self.token_types}, pooler {self.pooler}")


# name: (layers, hidden, heads, feed-forward, vocabulary, paper)
PUBLISHED = {
    "distilbert": (6, 768, 12, 3072, 30522, "Sanh et al. 2019"),
    "distilbert-cased": (6, 768, 12, 3072, 28996, "Sanh et al. 2019"),
    "distilbert-multilingual": (6, 768, 12, 3072, 119547, "Sanh et al. 2019"),
}


class DistilBertLayer(EncoderLayer):
    """BERT's layer, but for the dropout on what attention gives to the residual sum."""

    def __init__(self, config):
        super().__init__(config.hidden, config.heads, config.feed_forward, config.eps, config.dropout,
                         config.attention_dropout, config.activation)
        self.attention_dropout = Dropout(0.0)


class DistilBertSequenceHead(Module):
    """logits = dropout(relu(h_[CLS] W1 + b1)) W2 + b2. Shapes: (B, D) -> (B, C)."""

    def __init__(self, config):
        self.pre_classifier = Linear(config.hidden, config.hidden)
        self.dropout = Dropout(config.sequence_dropout)
        self.classifier = Linear(config.hidden, len(config.labels))

    def __call__(self, cls, run):
        return self.classifier(self.dropout(ops.relu(self.pre_classifier(cls)), run))


class DistilBertSpanHead(SpanHead):
    """logits = dropout(x) W + b. Shapes: (B, T, D) -> (B, T, 2)."""

    def __init__(self, config):
        super().__init__(config)
        self.dropout = Dropout(config.span_dropout)

    def __call__(self, x, run):
        return super().__call__(self.dropout(x, run), run)


class DistilBert(Bert):
    """batch -> Features, as Bert does it, but for a pooler. The token types of a batch are not read.

    Shapes: B sequences of T tokens; see Features.
    """

    HEADS = Bert.HEADS | {"sequence": DistilBertSequenceHead, "span": DistilBertSpanHead}

    @staticmethod
    def layer(config, l):
        return DistilBertLayer(config)

    def summary(self, x):
        """What the head of a sequence reads: [CLS] as it is."""
        return x[:, 0]


architecture = Architecture(
    "Sanh et al. 2019", DistilBertConfig, DistilBert, bert.parameter_count,
    bert.forward_flops,
    published={name: Size(DistilBertConfig(*row[:5]), row[-1], "without pooler") for name, row in PUBLISHED.items()},
    sized={"distilbert": sized(DistilBertConfig)})
