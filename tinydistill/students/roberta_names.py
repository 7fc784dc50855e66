"""What Hugging Face calls the tensors and settings of a RoBERTa (`model_type` roberta)."""

from tinydistill.students import bert_names
from tinydistill.students.bert_names import BODY

PREFIX = "roberta."                                 # before the body's names where there is a head

NAMES = BODY | {                                    # ours: theirs
    "head.dense": "lm_head.dense",
    "head.norm": "lm_head.layer_norm",
    "head": "lm_head",
    "head.decoder": "lm_head.decoder",              # where it is not tied
    "head.inner": "classifier.dense",               # of a sequence head
    "head.outer": "classifier.out_proj",
    "head.classifier": "classifier",                # of a token head
    "head.ends": "qa_outputs",
}
TIED = {"lm_head.decoder.weight": "embeddings.word_embeddings.weight",         # the same; a file may leave them out
        "lm_head.decoder.bias": "lm_head.bias"}
ARCHITECTURES = {"none": "RobertaModel", "masked-lm": "RobertaForMaskedLM",
                 "sequence": "RobertaForSequenceClassification", "token": "RobertaForTokenClassification",
                 "span": "RobertaForQuestionAnswering"}
WITH_POOLER = ("RobertaModel",)
SEQUENCE = "classifier.dense.weight"                # instead of a classifier: it is one of sequences
SETTINGS = bert_names.SETTINGS | {"vocabulary": ("vocab_size", 50265), "pad_id": ("pad_token_id", 1)}
del SETTINGS["activation"]                          # it has one: see FIXED
FIXED = {"model_type": "roberta", "hidden_act": "gelu", "is_decoder": False, "add_cross_attention": False}
