"""What Hugging Face calls the tensors and settings of a SqueezeBERT (`model_type` squeezebert)."""

from tinydistill.students import bert_names
from tinydistill.students.bert_names import EMBEDDINGS, HEADS, TIED          # of the same names

PREFIX = "transformer."                             # before the body's names where there is a head

NAMES = EMBEDDINGS | HEADS | {                      # ours: theirs; N is the number of the layer
    "layers.N.attention.query": "encoder.layers.N.attention.query",
    "layers.N.attention.key": "encoder.layers.N.attention.key",
    "layers.N.attention.value": "encoder.layers.N.attention.value",
    "layers.N.attention.output": "encoder.layers.N.post_attention.conv1d",
    "layers.N.attention_norm": "encoder.layers.N.post_attention.layernorm",
    "layers.N.feed_forward.inner": "encoder.layers.N.intermediate.conv1d",
    "layers.N.feed_forward.outer": "encoder.layers.N.output.conv1d",
    "layers.N.feed_forward_norm": "encoder.layers.N.output.layernorm",
    "pooler": "pooler.dense",
}
CONVOLUTIONS = tuple(ours for ours in NAMES if ".attention." in ours or ".feed_forward." in ours)
# Their weights have an axis of 1 more: (F, D/groups, 1).
ARCHITECTURES = {"none": "SqueezeBertModel", "masked-lm": "SqueezeBertForMaskedLM",
                 "sequence": "SqueezeBertForSequenceClassification", "token": "SqueezeBertForTokenClassification",
                 "span": "SqueezeBertForQuestionAnswering"}
WITH_POOLER = tuple(ARCHITECTURES.values())         # whether it is read or not
SEQUENCE = ""                                       # so nothing tells a classifier of sequences from one of tokens
SETTINGS = bert_names.SETTINGS | {                  # ours: theirs, and what a config.json without it means
    "query_groups": ("q_groups", 4),
    "key_groups": ("k_groups", 4),
    "value_groups": ("v_groups", 4),
    "attention_output_groups": ("post_attention_groups", 1),
    "inner_groups": ("intermediate_groups", 4),
    "outer_groups": ("output_groups", 4),
}
del SETTINGS["eps"]                                 # their layers have 1e-12 whatever layer_norm_eps says
SAME = {"embedding_size": "hidden_size"}            # settings of theirs that must have the value of another
FIXED = {"model_type": "squeezebert", "layer_norm_eps": 1e-12}
FIELDS = {"eps": 1e-12}                             # ours that have no setting there, and one value
