"""Labels: conventions and cases. The sums: `hard_labels.py`."""

import numpy as np

from tinydistill_reference.conventions import IGNORED
from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.hard_labels import cross_entropy, cross_entropy_gradient
from tinydistill_reference.numbers import exact

OVER_LABELS = {"paper": Convention({}, "Devlin et al. 2019: the mean over the labels")}
OVER_PAIRS = {"paper": Convention({}, "Devlin et al. 2019: the mean over the pairs")}
FORMULA = "-1/N sum_n log softmax(z_n)[y_n] over the N rows that have a label"


def label_cases(numbers, shape, ignored=True):
    """Logits and labels; where ignored, some rows have none, and large logits."""
    def case(id, comment, *, share=0.5, scale=1.0, offset=0.0, onehot=0.0, labels=None, **settings):
        if labels is None:
            labels = numbers.integers(0, shape[-1], *shape[:-1])
            labels.flat[0] = 0                      # a label like others
            seen = numbers.uniform(*shape[:-1]) < share
            seen.flat[0] = share > 0
            labels = np.where(seen, labels, IGNORED) if ignored else labels
        x = numbers.normal(*shape, scale=scale, offset=offset) + onehot * (np.arange(shape[-1]) == labels[..., None])
        return Case(id, comment, {"student_logits": exact(np.where(labels[..., None] != IGNORED, x, 11 * x + 3.7)),
                                  "labels": labels}, **settings)

    yield case("01-plain", "every row has a label, an upstream gradient of 1", share=1.0, upstream=1.0)
    yield case("02-upstream", "some rows have a label" if ignored else "upstream -2.5")
    yield case("03-uniform", "logits of 0: log of the number of classes", scale=0.0)
    yield case("04-right", "sure and right: a loss of nearly 0", onehot=60.0)
    yield case("05-wrong", "sure and wrong: as large as the logit", onehot=-60.0)
    yield case("06-large", "logits x 40: probabilities that underflow in float32", scale=40.0, min_dtype="float32")
    yield case("07-offset", "logits 300 higher: a softmax does not see it", offset=300.0, min_dtype="float32")
    if ignored:
        yield case("08-few", "a fifth of the rows has a label", share=0.2)
        yield case("09-none", "no row has a label: 0, or 0 / 0", share=0.0, result="acceptable", accepted=("nan",))
    yield case("20-range", "a label that is no class", labels=np.full(shape[:-1], shape[-1]), result="error",
               error="(?i)label|class|range|target|bound")
    yield case("21-negative", "a label of -1", labels=np.full(shape[:-1], -1), result="error",
               error="(?i)label|class|range|target|bound")


def masked_lm_cases(numbers):
    return label_cases(numbers, (3, 7, 11))


def cross_entropy_cases(numbers):
    return label_cases(numbers, (5, 11))


def next_sentence_cases(numbers):
    return label_cases(numbers, (5, 2), ignored=False)


def equation(name, where, shapes, cases, conventions=OVER_LABELS):
    return Equation(name, "Devlin et al. 2019", where, FORMULA, cross_entropy, cross_entropy_gradient, shapes,
                    ("student_logits",), cases, {}, conventions)


EQUATIONS = (
    equation("masked_lm", "section 3.1, task 1", {"student_logits": "(B, T, V)", "labels": "(B, T)"}, masked_lm_cases),
    equation("cross_entropy", "section 4", {"student_logits": "(B, C)", "labels": "(B,)"}, cross_entropy_cases),
    equation("next_sentence", "section 3.1, task 2", {"student_logits": "(B, 2)", "labels": "(B,)"},
             next_sentence_cases, OVER_PAIRS),
)
