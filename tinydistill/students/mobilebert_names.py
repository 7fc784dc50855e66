"""What Hugging Face calls the tensors and settings of a MobileBERT (`model_type` mobilebert).

It has no class for a "block" whose queries and keys read another width than the bottleneck's (IB-BERT: its forward
fails), none for an `outer_eps` other than its own, and none for a `mask_value`. Two of its settings say what
`attention_input` says. Where both are True, as when use_bottleneck_attention is set and the other left at its default,
a file holds a second bottleneck (`bottleneck.attention`) that nothing reads.
"""

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
}
TRANSPOSED = ("head.extra",)                        # theirs (H - E, V)
TIED = {"cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",      # the same tensors; a file may leave
        "cls.predictions.decoder.bias": "cls.predictions.bias"}                     # them out
ARCHITECTURES = {"none": "MobileBertModel", "masked-lm": "MobileBertForMaskedLM",
                 "pretraining": "MobileBertForPreTraining", "sequence": "MobileBertForSequenceClassification",
                 "token": "MobileBertForTokenClassification"}
SETTINGS = {                                        # ours: theirs, and what a config.json without it means
    "layers": ("num_hidden_layers", 24),
    "hidden": ("hidden_size", 512),
    "heads": ("num_attention_heads", 4),
    "feed_forward": ("intermediate_size", 512),
    "vocabulary": ("vocab_size", 30522),
    "positions": ("max_position_embeddings", 512),
    "token_types": ("type_vocab_size", 2),
    "eps": ("layer_norm_eps", 1e-12),
    "dropout": ("hidden_dropout_prob", 0.0),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
    "initial_std": ("initializer_range", 0.02),
    "pad_id": ("pad_token_id", 0),
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
