"""Labels of words: conventions and cases. The sums: `sequence_labels.py`."""

from dataclasses import replace

from tinydistill_reference.equation import Convention
from tinydistill_reference.sequence_labels import sequence_labels, sequence_labels_gradient
from tinydistill_reference.specs.soft_labels import WITH_LABELS, equation, labelled_cases

PAPER = {"paper": Convention({}, "Tsai et al. 2019 (unverified; no published code is known)")}


def without_mask(named):
    return {name: x for name, x in named.items() if name != "mask"}


def words_cases(numbers):
    """First pieces are those with a label: no mask."""
    for case in labelled_cases(numbers):
        if "mask" not in case.error:
            yield replace(case, inputs=without_mask(case.inputs))


EQUATIONS = (
    equation("sequence_labels", words_cases, without_mask(WITH_LABELS), PAPER, "Tsai et al. 2019",
             "section on distillation", "-1/M sum_n m_n sum_c p_nc log q_nc, m_n = 1 where n has a label",
             sequence_labels, sequence_labels_gradient),
)
