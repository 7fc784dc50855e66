"""What Hugging Face calls the tensors and settings of a BERT (`model_type` bert)."""

PREFIX = "bert."                                    # before the body's names where there is a head

EMBEDDINGS = {                                      # ours: theirs
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
}
BODY = EMBEDDINGS | {                               # N is the number of the layer
    "layers.N.attention.query": "encoder.layer.N.attention.self.query",
    "layers.N.attention.key": "encoder.layer.N.attention.self.key",
    "layers.N.attention.value": "encoder.layer.N.attention.self.value",
    "layers.N.attention.output": "encoder.layer.N.attention.output.dense",
    "layers.N.attention_norm": "encoder.layer.N.attention.output.LayerNorm",
    "layers.N.feed_forward.inner": "encoder.layer.N.intermediate.dense",
    "layers.N.feed_forward.outer": "encoder.layer.N.output.dense",
    "layers.N.feed_forward_norm": "encoder.layer.N.output.LayerNorm",
    "pooler": "pooler.dense",
}
HEADS = {
    "head.dense": "cls.predictions.transform.dense",
    "head.norm": "cls.predictions.transform.LayerNorm",
    "head": "cls.predictions",
    "head.decoder": "cls.predictions.decoder",      # where it is not tied
    "head.classifier": "classifier",
    "head.ends": "qa_outputs",
}
NAMES = BODY | HEADS | {"head.next_sentence": "cls.seq_relationship"}
TIED = {"cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",      # the same tensors; a file may leave
        "cls.predictions.decoder.bias": "cls.predictions.bias"}                     # them out
ARCHITECTURES = {"none": "BertModel", "masked-lm": "BertForMaskedLM", "pretraining": "BertForPreTraining",
                 "sequence": "BertForSequenceClassification", "token": "BertForTokenClassification",
                 "span": "BertForQuestionAnswering"}
WITH_POOLER = ("BertModel", "BertForPreTraining", "BertForSequenceClassification")
SEQUENCE = "pooler.dense.weight"                    # beside a classifier: it is one of sequences
SETTINGS = {                                        # ours: theirs, and what a config.json without it means
    "layers": ("num_hidden_layers", 12),
    "hidden": ("hidden_size", 768),
    "heads": ("num_attention_heads", 12),
    "feed_forward": ("intermediate_size", 3072),
    "vocabulary": ("vocab_size", 30522),
    "positions": ("max_position_embeddings", 512),
    "token_types": ("type_vocab_size", 2),
    "eps": ("layer_norm_eps", 1e-12),
    "dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
    "initial_std": ("initializer_range", 0.02),
    "pad_id": ("pad_token_id", 0),
    "tied": ("tie_word_embeddings", True),
    "activation": ("hidden_act", "gelu"),
}
FIXED = {"model_type": "bert", "position_embedding_type": "absolute", "is_decoder": False,
         "add_cross_attention": False}              # what makes it this BERT; a config.json may leave them out
