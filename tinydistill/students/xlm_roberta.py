"""XLM-R (Conneau et al. 2020): RoBERTa over 250,002 pieces of 100 languages, and its multilingual students.

XLM-R is the teacher of multilingual MiniLM; the model is RoBERTa's in every other respect. The student has XLM-R's
pieces and so its ids, but BERT's architecture: positions from 0, two token types of which it reads the first. Its table
has 250,037 rows, of which the last 35 are never read. The ids and masks of both are the same, with <pad> 1; the first
token has position 2 in the teacher and 0 in the student.

Source: Conneau et al. 2020, "Unsupervised Cross-lingual Representation Learning at Scale"; Wang et al. 2020, "MiniLM";
microsoft/unilm minilm/README.md (the student is a BERT) and issue 313 (its rows). That it has 512 positions and eps
1e-12 is unverified; so is that the students of MiniLMv2 are RoBERTas and XLM-Rs in turn: their sizes are published.
"""

from dataclasses import dataclass

from tinydistill.students import roberta
from tinydistill.students.architecture import Architecture, Size
from tinydistill.students.configs import BertConfig, usual_heads
from tinydistill.students.roberta import Roberta, RobertaConfig


@dataclass(frozen=True)
class XlmRobertaConfig(RobertaConfig):
    """The shape of an XLM-R: a RoBERTa's with another vocabulary."""

    vocabulary: int = 250002
    model_type = "xlm-roberta"

    def __str__(self):
        return f"XLM-R {self.layers}x{self.hidden}"


class XlmRoberta(Roberta):
    """batch -> Features, as Roberta does it."""


parameter_count, forward_flops = roberta.parameter_count, roberta.forward_flops


def of_size(layers, hidden, heads):
    """The one of any size: feed-forward 4H, heads None takes the usual number."""
    return XlmRobertaConfig(layers, hidden, heads or usual_heads(hidden), 4 * hidden)


def student(layers, hidden):
    """Multilingual MiniLM: a BERT over XLM-R's pieces."""
    return BertConfig(layers, hidden, usual_heads(hidden), 4 * hidden, vocabulary=250037, pad_id=1)


architecture = Architecture(
    "xlm-roberta", "XLM-R", "Conneau et al. 2020", XlmRobertaConfig, XlmRoberta, parameter_count, forward_flops,
    published={
        "xlm-r-base": Size(XlmRobertaConfig(12, 768, 12, 3072), "Conneau et al. 2020"),
        "xlm-r-large": Size(XlmRobertaConfig(24, 1024, 16, 4096), "Conneau et al. 2020"),
        "mminilm-12x384": Size(student(12, 384), "Wang et al. 2020", "words and layers"),
        "mminilm-6x384": Size(student(6, 384), "Wang et al. 2020", "words and layers"),
        "minilm-v2-12x384-xlm-r": Size(XlmRobertaConfig(12, 384, 12, 1536), "Wang et al. 2021", "words and layers"),
        "minilm-v2-6x384-xlm-r": Size(XlmRobertaConfig(6, 384, 12, 1536), "Wang et al. 2021", "words and layers")},
    sized={"xlm-r": of_size})
