"""DistilBERT (Sanh et al. 2019): half of BERT's layers, without token types and without a pooler.

    embeddings = LN(word + position)        h = LN(x + attention(x))        y = LN(h + dropout(feed_forward(h)))

A layer is BERT's but for one dropout: what attention gives to the residual sum is not dropped. Two sentences are told
apart by [SEP] alone. The pooler went with next-sentence prediction; a sequence head has a layer of its own instead.

Source: huggingface/transformers, modeling_distilbert.py; transformers-research-projects, distillation/
training_configs/distilbert-base-uncased.json.
"""

from dataclasses import dataclass

from tinydistill import ops
from tinydistill.backend import xp_of
from tinydistill.errors import Problem, WrongUsage
from tinydistill.features import Features
from tinydistill.nn import Dropout, Embedding, EncoderLayer, LayerNorm, Linear, Module
from tinydistill.nn.layers import number_dropouts
from tinydistill.students import bert
from tinydistill.students.configs import BertConfig
from tinydistill.students.encode import encode
from tinydistill.students.heads import MaskedLanguageHead, TokenHead


@dataclass(frozen=True)
class DistilBertConfig(BertConfig):
    """The shape of a DistilBERT: a BERT's without token types and pooler, and the dropout of its sequence head."""

    token_types: int = 0
    pooler: bool = False
    sequence_dropout: float = 0.2
    model_type = "distilbert"

    def __post_init__(self):
        super().__post_init__()
        if self.token_types or self.pooler:
            raise WrongUsage(f"need a DistilBERT without token types and pooler: "
                             f"token_types {self.token_types}, pooler {self.pooler}")
        if self.head == "pretraining":
            raise WrongUsage("need a head out of none, masked-lm, sequence, token for a DistilBERT; got pretraining")

    def __str__(self):
        return f"DistilBERT {self.layers}x{self.hidden}"


# name: (layers, hidden, heads, feed-forward, vocabulary, paper)
PUBLISHED = {
    "distilbert": (6, 768, 12, 3072, 30522, "Sanh et al. 2019"),
    "distilbert-cased": (6, 768, 12, 3072, 28996, "Sanh et al. 2019"),
    "distilbert-multilingual": (6, 768, 12, 3072, 119547, "Sanh et al. 2019"),
}


class DistilBertEmbeddings(Module):
    """LN(word + position). Shapes: ids (B, T) -> (B, T, D)."""

    def __init__(self, config):
        self.word = Embedding(config.vocabulary, config.hidden)
        self.position = Embedding(config.positions, config.hidden)
        self.norm = LayerNorm(config.hidden, config.eps)

    def __call__(self, ids):
        T, positions = ids.shape[1], self.position.weight.shape[0]
        if T > positions:
            raise WrongUsage(f"need at most {positions} tokens a sequence, got {T}")
        return self.norm(self.word(ids) + self.position(xp_of(ids).arange(T)))


class DistilBertLayer(EncoderLayer):
    """BERT's layer, but for the dropout on what attention gives to the residual sum."""

    def __init__(self, config):
        super().__init__(config.hidden, config.heads, config.feed_forward, config.eps,
                         config.dropout, config.attention_dropout)
        self.attention_dropout = Dropout(0.0)


class DistilBertSequenceHead(Module):
    """logits = dropout(relu(h_[CLS] W1 + b1)) W2 + b2. Shapes: x (B, T, D) -> (B, C)."""

    def __init__(self, config):
        self.pre_classifier = Linear(config.hidden, config.hidden)
        self.dropout = Dropout(config.sequence_dropout)
        self.classifier = Linear(config.hidden, len(config.labels))

    def __call__(self, x, run):
        return self.classifier(self.dropout(ops.relu(self.pre_classifier(x[:, 0])), run))


class DistilBert(Module):
    """batch -> Features, no further than `run.needs` asks. The token types of a batch are not read.

    Shapes: B sequences of T tokens; see Features. `logits` come from the head of the configuration: masked-lm and token
    heads read the batch's `positions` (all positions where it has none), a sequence head reads [CLS].
    """

    def __init__(self, config, seed=0):
        self.config = config
        self.embeddings = DistilBertEmbeddings(config)
        self.embedding_dropout = Dropout(config.dropout)
        self.layers = [DistilBertLayer(config) for _ in range(config.layers)]
        if config.head != "none":
            self.head = {"masked-lm": MaskedLanguageHead, "sequence": DistilBertSequenceHead,
                         "token": TokenHead}[config.head](config)
        number_dropouts(self)
        if seed is not None:                        # None: whoever builds it fills it
            self.initialise(seed, config.initial_std)

    def __call__(self, batch, run):
        for name in ("pooled", "next_sentence"):
            if name in run.needs:
                raise Problem(f"need {name}, which {self.config} cannot have: DistilBERT has no pooler")
        features = Features(str(self.config), len(self.layers), batch.mask)
        embeddings = self.embeddings(batch.ids)
        x = encode(self.layers, self.embedding_dropout(embeddings, run), features, run)
        logits = self.logits(x, batch, run) if "logits" in run.needs else None
        return features.has(embeddings=embeddings, logits=logits)

    def logits(self, x, batch, run):
        """(N, V) or (N, C) at the batch's positions, or (B, C) for a sequence head."""
        if self.config.head == "none":
            raise Problem(f"need logits, which {self.config} without a head cannot have")
        if self.config.head == "sequence":
            return self.head(x, run)
        if self.config.head == "token":
            return self.head(x, batch.positions, run)
        return self.head(x, batch.positions, self.embeddings.word.weight)


def parameter_count(config):
    """Exact counts by part: a BERT's without token types and pooler, and the first layer of a sequence head."""
    counts = bert.parameter_count(config)
    more = (config.hidden + 1) * config.hidden if config.head == "sequence" else 0
    return counts | {"head": counts["head"] + more, "total": counts["total"] + more}


forward_flops = bert.forward_flops                  # the same matrix products
