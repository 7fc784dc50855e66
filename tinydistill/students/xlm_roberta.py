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

from tinydistill.students import bert
from tinydistill.students.architecture import Architecture, Size
from tinydistill.students.configs import BertConfig, sized
from tinydistill.students.roberta import Roberta, RobertaConfig


@dataclass(frozen=True)
class XlmRobertaConfig(RobertaConfig):
    """The shape of an XLM-R: a RoBERTa's with another vocabulary."""

    vocabulary: int = 250002
    title, model_type = "XLM-R", "xlm-roberta"


class XlmRoberta(Roberta):
    """batch -> Features, as Roberta does it."""


student = sized(BertConfig, vocabulary=250037, pad_id=1)        # multilingual MiniLM: a BERT over XLM-R's pieces


architecture = Architecture(
    "Conneau et al. 2020", XlmRobertaConfig, XlmRoberta, bert.parameter_count, bert.forward_flops,
    published={
        "xlm-r-base": Size(XlmRobertaConfig(12, 768, 12, 3072), "Conneau et al. 2020"),
        "xlm-r-large": Size(XlmRobertaConfig(24, 1024, 16, 4096), "Conneau et al. 2020"),
        "mminilm-12x384": Size(student(12, 384, 12), "Wang et al. 2020", "words and layers"),
        "mminilm-6x384": Size(student(6, 384, 12), "Wang et al. 2020", "words and layers"),
        "minilm-v2-12x384-xlm-r": Size(XlmRobertaConfig(12, 384, 12, 1536), "Wang et al. 2021", "words and layers"),
        "minilm-v2-6x384-xlm-r": Size(XlmRobertaConfig(6, 384, 12, 1536), "Wang et al. 2021", "words and layers")},
    sized={"xlm-r": sized(XlmRobertaConfig)})
