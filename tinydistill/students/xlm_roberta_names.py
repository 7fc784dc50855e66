"""What Hugging Face calls the tensors and settings of an XLM-R (`model_type` xlm-roberta): as of a RoBERTa."""

from tinydistill.students import roberta_names
from tinydistill.students.roberta_names import NAMES, PREFIX, SEQUENCE, TIED

ARCHITECTURES = {head: f"XLM{name}" for head, name in roberta_names.ARCHITECTURES.items()}
WITH_POOLER = ("XLMRobertaModel",)
SETTINGS = roberta_names.SETTINGS | {"vocabulary": ("vocab_size", 30522)}
FIXED = roberta_names.FIXED | {"model_type": "xlm-roberta"}
