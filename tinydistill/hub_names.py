"""What Hugging Face calls the tensors, settings and classes of a BERT: the tables that `hub.py` reads and writes by."""

import re

BODY = {                                            # ours: theirs; N is the number of the layer
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
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
HEAD = {
    "head.next_sentence": "cls.seq_relationship",
    "head.dense": "cls.predictions.transform.dense",
    "head.norm": "cls.predictions.transform.LayerNorm",
    "head": "cls.predictions",
    "head.classifier": "classifier",
}
ARCHITECTURES = {"none": "BertModel", "masked-lm": "BertForMaskedLM", "pretraining": "BertForPreTraining",
                 "sequence": "BertForSequenceClassification", "token": "BertForTokenClassification"}
WITH_POOLER = ("BertModel", "BertForPreTraining", "BertForSequenceClassification")
CLASSIFIERS = ("sequence", "token")
HEAD_PREFIXES = ("cls.", "classifier.")
NEXT_SENTENCE = "cls.seq_relationship."
UNREAD = ("qa_outputs.",)                           # heads that nothing here reads: answer spans

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
}
FIXED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False,
         "add_cross_attention": False}              # what makes it this BERT; a config.json may leave them out


def their_name(name):
    """layers.3.attention.query.weight -> encoder.layer.3.attention.self.query.weight

    >>> their_name("head.bias"), their_name("layers.3.feed_forward_norm.weight")
    ('cls.predictions.bias', 'encoder.layer.3.output.LayerNorm.weight')
    """
    module, _, kind = name.rpartition(".")
    layer = re.search(r"\d+", module)
    if layer:
        module = module.replace(layer.group(), "N", 1)
    theirs = (BODY | HEAD)[module]
    return f"{theirs.replace('N', layer.group(), 1) if layer else theirs}.{kind}"
