"""Label smoothing: conventions and cases. The sums: `label_smoothing.py`."""

from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.label_smoothing import label_smoothing, label_smoothing_gradient, unilm, unilm_gradient
from tinydistill_reference.specs.hard_labels import label_cases

CODE = "microsoft/unilm s2s-ft and unilm-v1, LabelSmoothingLoss"
STANDARD = {"paper": Convention({}, "Szegedy et al. 2016, as torch's CrossEntropyLoss")}
UNILM = {"paper": Convention({}, CODE), "official": Convention({"epsilon": 1e-5}, CODE + ", over N + 1e-5 labels")}
SIZES = 3, 7, 11
SHAPES = {"student_logits": "(B, T, V)", "labels": "(B, T)"}


def smoothed_cases(numbers):
    """Labels as of masked tokens, and three smoothings."""
    def smoothed(id, smoothing, **settings):
        plain = next(label_cases(numbers, SIZES))
        return Case(id, f"eps = {smoothing:g}", plain.inputs, {"smoothing": smoothing}, **settings)

    found = [*label_cases(numbers, SIZES), smoothed("10-hard", 0.0), smoothed("11-soft", 0.3),
             smoothed("22-all", 1.0, result="error", error="(?i)smooth")]
    return sorted(found, key=lambda case: case.id)


EQUATIONS = (
    Equation("label_smoothing", "Szegedy et al. 2016", "section 7",
             "-1/N sum_n sum_c r_nc log q_nc, r = (1 - eps) onehot + eps/V", label_smoothing, label_smoothing_gradient,
             SHAPES, ("student_logits",), smoothed_cases, {"smoothing": 0.1}, STANDARD),
    Equation("label_smoothing.unilm", "Dong et al. 2019", "section on fine-tuning",
             "1/N sum_n KL(r_n || q_n), r = 1 - eps at the label, 0 at the pad 0, eps/(V - 2) elsewhere", unilm,
             unilm_gradient, SHAPES, ("student_logits",), smoothed_cases, {"smoothing": 0.1}, UNILM),
)
