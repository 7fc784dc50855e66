"""What Hugging Face calls the tensors and settings of a DistilBERT (`model_type` distilbert)."""

PREFIX = "distilbert."                              # before the body's names where there is a head

NAMES = {                                           # ours: theirs; N is the number of the layer
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "layers.N.attention.query": "transformer.layer.N.attention.q_lin",
    "layers.N.attention.key": "transformer.layer.N.attention.k_lin",
    "layers.N.attention.value": "transformer.layer.N.attention.v_lin",
    "layers.N.attention.output": "transformer.layer.N.attention.out_lin",
    "layers.N.attention_norm": "transformer.layer.N.sa_layer_norm",
    "layers.N.feed_forward.inner": "transformer.layer.N.ffn.lin1",
    "layers.N.feed_forward.outer": "transformer.layer.N.ffn.lin2",
    "layers.N.feed_forward_norm": "transformer.layer.N.output_layer_norm",
    "head.dense": "vocab_transform",
    "head.norm": "vocab_layer_norm",
    "head": "vocab_projector",
    "head.decoder": "vocab_projector",              # where it is not tied; its bias is the head's
    "head.pre_classifier": "pre_classifier",
    "head.classifier": "classifier",
    "head.ends": "qa_outputs",
}
TIED = {"vocab_projector.weight": "embeddings.word_embeddings.weight"}         # the same; a file may leave it out
ARCHITECTURES = {"none": "DistilBertModel", "masked-lm": "DistilBertForMaskedLM",
                 "sequence": "DistilBertForSequenceClassification", "token": "DistilBertForTokenClassification",
                 "span": "DistilBertForQuestionAnswering"}
WITH_POOLER = ()
SEQUENCE = "pre_classifier.weight"                  # beside a classifier: it is one of sequences
SETTINGS = {                                        # ours: theirs, and what a config.json without it means
    "layers": ("n_layers", 6),
    "hidden": ("dim", 768),
    "heads": ("n_heads", 12),
    "feed_forward": ("hidden_dim", 3072),
    "vocabulary": ("vocab_size", 30522),
    "positions": ("max_position_embeddings", 512),
    "dropout": ("dropout", 0.1),
    "attention_dropout": ("attention_dropout", 0.1),
    "sequence_dropout": ("seq_classif_dropout", 0.2),
    "span_dropout": ("qa_dropout", 0.1),
    "initial_std": ("initializer_range", 0.02),
    "pad_id": ("pad_token_id", 0),
    "tied": ("tie_word_embeddings", True),
    "activation": ("activation", "gelu"),
}
FIXED = {"model_type": "distilbert"}
FIELDS = {"eps": 1e-12}                             # ours that have no setting there, and one value
# sinusoidal_pos_embds says how positions were drawn; a file holds them.
