"""What Hugging Face calls the tensors and settings of a MobileBERT (`model_type` mobilebert).

It has no class for a "block" whose queries and keys read another width than the bottleneck's (IB-BERT: its forward
fails), none for an `outer_eps` other than its own, and none for a `mask_value`. Two of its settings say what
`attention_input` says. Where both are True, as when use_bottleneck_attention is set and the other left at its default,
a file holds a second bottleneck (`bottleneck.attention`) that nothing reads.
"""

from tinydistill.students import bert_names
from tinydistill.students.bert_names import TIED          # of the same names

PREFIX = "mobilebert."                              # before the body's names where there is a head

NAMES = {                                           # ours: theirs; N is the number of the layer, M of a feed-forward
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.widening": "embeddings.embedding_transformation",
    "embeddings.norm": "embeddings.LayerNorm",
    "layers.N.attention.input.dense": "encoder.layer.N.bottleneck.input.dense",
    "layers.N.attention.input.norm": "encoder.layer.N.bottleneck.input.LayerNorm",
    "layers.N.attention.shared.dense": "encoder.layer.N.bottleneck.attention.dense",
    "layers.N.attention.shared.norm": "encoder.layer.N.bottleneck.attention.LayerNorm",
    "layers.N.attention.query": "encoder.layer.N.attention.self.query",
    "layers.N.attention.key": "encoder.layer.N.attention.self.key",
    "layers.N.attention.value": "encoder.layer.N.attention.self.value",
    "layers.N.attention.output": "encoder.layer.N.attention.output.dense",
    "layers.N.attention.norm": "encoder.layer.N.attention.output.LayerNorm",
    "layers.N.stacked.M.inner": "encoder.layer.N.ffn.M.intermediate.dense",
    "layers.N.stacked.M.outer": "encoder.layer.N.ffn.M.output.dense",
    "layers.N.stacked.M.norm": "encoder.layer.N.ffn.M.output.LayerNorm",
    "layers.N.feed_forward.inner": "encoder.layer.N.intermediate.dense",
    "layers.N.feed_forward.outer": "encoder.layer.N.output.dense",
    "layers.N.feed_forward.norm": "encoder.layer.N.output.LayerNorm",
    "layers.N.output": "encoder.layer.N.output.bottleneck.dense",
    "layers.N.output_norm": "encoder.layer.N.output.bottleneck.LayerNorm",
    "pooler": "pooler.dense",
    "head.next_sentence": "cls.seq_relationship",
    "head.dense": "cls.predictions.transform.dense",
    "head.norm": "cls.predictions.transform.LayerNorm",
    "head.extra": "cls.predictions.dense",
    "head": "cls.predictions",
    "head.classifier": "classifier",
    "head.ends": "qa_outputs",
}
TRANSPOSED = ("head.extra",)                        # theirs (H - E, V)
ARCHITECTURES = {"none": "MobileBertModel", "masked-lm": "MobileBertForMaskedLM",
                 "pretraining": "MobileBertForPreTraining", "sequence": "MobileBertForSequenceClassification",
                 "token": "MobileBertForTokenClassification", "span": "MobileBertForQuestionAnswering"}
WITH_POOLER = ("MobileBertModel", "MobileBertForPreTraining", "MobileBertForSequenceClassification")
SEQUENCE = "pooler.dense.weight"                    # beside a classifier: it is one of sequences
SETTINGS = bert_names.SETTINGS | {                  # ours: theirs, and what a config.json without it means
    "layers": ("num_hidden_layers", 24),
    "hidden": ("hidden_size", 512),
    "heads": ("num_attention_heads", 4),
    "feed_forward": ("intermediate_size", 512),
    "dropout": ("hidden_dropout_prob", 0.0),
    "pooler": ("classifier_activation", True),      # False: pooled is the last hidden state of [CLS] as it is
    "embedding": ("embedding_size", 128),
    "bottleneck": ("intra_bottleneck_size", 128),
    "feed_forwards": ("num_feedforward_networks", 4),
    "activation": ("hidden_act", "relu"),
    "norm": ("normalization_type", "no_norm"),
}
ATTENTION_INPUT = {                                 # ours: theirs
    "shared": {"use_bottleneck_attention": False, "key_query_shared_bottleneck": True},
    "bottleneck": {"use_bottleneck_attention": True, "key_query_shared_bottleneck": False},
    "block": {"use_bottleneck_attention": False, "key_query_shared_bottleneck": False},
}
FIXED = {"model_type": "mobilebert", "use_bottleneck": True, "trigram_input": True}
OUTER_EPS = 1e-5                                    # theirs, whatever layer_norm_eps says; a no_norm has none


def to_settings(config):
    """Their settings that no field of ours is alone in."""
    return ATTENTION_INPUT[config.attention_input]


def to_fields(settings):
    """Our fields that no setting of theirs is alone in."""
    bottleneck = settings.get("use_bottleneck_attention", False)
    shared = settings.get("key_query_shared_bottleneck", True) and not bottleneck
    layer_norm = settings.get("normalization_type", "no_norm") == "layer_norm"
    return {"attention_input": "bottleneck" if bottleneck else "shared" if shared else "block",
            "outer_eps": OUTER_EPS if layer_norm else None}


def unread(settings):
    """Beginnings of the names of tensors that nothing reads, under these settings."""
    both = settings.get("use_bottleneck_attention", False) and settings.get("key_query_shared_bottleneck", True)
    layers = settings.get("num_hidden_layers", 24)
    return tuple(f"encoder.layer.{l}.bottleneck.attention." for l in range(layers)) if both else ()


def unknown(config):
    """Why they have no such model, or nothing."""
    if config.attention_input == "block" and config.bottleneck != config.hidden:
        return "queries and keys read the block's input, of another width than the bottleneck"
    if config.norm == "layer_norm" and config.outer_eps != OUTER_EPS:
        return f"its outer layer norms have the eps {config.outer_eps or config.eps}, there it is {OUTER_EPS}"
    return "masked scores have a value of their own" if config.mask_value is not None else ""
