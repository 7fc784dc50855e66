"""What Hugging Face calls the tensors and settings of a SqueezeBERT (`model_type` squeezebert)."""

PREFIX = "transformer."                             # before the body's names where there is a head

NAMES = {                                           # ours: theirs; N is the number of the layer
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "layers.N.attention.query": "encoder.layers.N.attention.query",
    "layers.N.attention.key": "encoder.layers.N.attention.key",
    "layers.N.attention.value": "encoder.layers.N.attention.value",
    "layers.N.attention.output": "encoder.layers.N.post_attention.conv1d",
    "layers.N.attention_norm": "encoder.layers.N.post_attention.layernorm",
    "layers.N.feed_forward.inner": "encoder.layers.N.intermediate.conv1d",
    "layers.N.feed_forward.outer": "encoder.layers.N.output.conv1d",
    "layers.N.feed_forward_norm": "encoder.layers.N.output.layernorm",
    "pooler": "pooler.dense",
    "head.dense": "cls.predictions.transform.dense",
    "head.norm": "cls.predictions.transform.LayerNorm",
    "head": "cls.predictions",
    "head.decoder": "cls.predictions.decoder",      # where it is not tied
    "head.classifier": "classifier",
    "head.ends": "qa_outputs",
}
CONVOLUTIONS = tuple(ours for ours in NAMES if ".attention." in ours or ".feed_forward." in ours)
# Their weights have an axis of 1 more: (F, D/groups, 1).
TIED = {"cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",      # the same tensors; a file may leave
        "cls.predictions.decoder.bias": "cls.predictions.bias"}                     # them out
ARCHITECTURES = {"none": "SqueezeBertModel", "masked-lm": "SqueezeBertForMaskedLM",
                 "sequence": "SqueezeBertForSequenceClassification", "token": "SqueezeBertForTokenClassification",
                 "span": "SqueezeBertForQuestionAnswering"}
WITH_POOLER = tuple(ARCHITECTURES.values())         # whether it is read or not
SEQUENCE = ""                                       # so nothing tells a classifier of sequences from one of tokens
SETTINGS = {                                        # ours: theirs, and what a config.json without it means
    "layers": ("num_hidden_layers", 12),
    "hidden": ("hidden_size", 768),
    "heads": ("num_attention_heads", 12),
    "feed_forward": ("intermediate_size", 3072),
    "vocabulary": ("vocab_size", 30522),
    "positions": ("max_position_embeddings", 512),
    "token_types": ("type_vocab_size", 2),
    "dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
    "initial_std": ("initializer_range", 0.02),
    "pad_id": ("pad_token_id", 0),
    "tied": ("tie_word_embeddings", True),
    "activation": ("hidden_act", "gelu"),
    "query_groups": ("q_groups", 4),
    "key_groups": ("k_groups", 4),
    "value_groups": ("v_groups", 4),
    "attention_output_groups": ("post_attention_groups", 1),
    "inner_groups": ("intermediate_groups", 4),
    "outer_groups": ("output_groups", 4),
}
SAME = {"embedding_size": "hidden_size"}            # settings of theirs that must have the value of another
FIXED = {"model_type": "squeezebert", "layer_norm_eps": 1e-12}
FIELDS = {"eps": 1e-12}
# eps is fixed because their layers have 1e-12 whatever layer_norm_eps says: that is read by embeddings and head alone.
