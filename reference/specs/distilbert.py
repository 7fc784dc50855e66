"""DistilBERT: conventions and cases. The sums: `distilbert.py`."""

import numpy as np

from tinydistill_reference.distilbert import cosine, cosine_gradient
from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.numbers import lengths_to_mask, poisoned
from tinydistill_reference.soft_labels import logits_mse, logits_mse_gradient
from tinydistill_reference.specs.soft_labels import WITH_LABELS, equation, labelled_cases, logits_cases

CODE = "huggingface/transformers-research-projects distillation/distiller.py"
CONVENTIONS = {"paper": Convention({}, "Sanh et al. 2019; the rows are those of " + CODE),
               "official": Convention({}, CODE + ": as `paper`")}
LOGITS = CONVENTIONS | {"labelled": Convention({"rows": "labelled"}, CODE + " --restrict_ce_to_mask")}
B, T, D = 3, 7, 5
HIDDEN = {"student_hidden": "(B, T, D)", "teacher_hidden": "(B, T, D)", "mask": "(B, T)"}


def mse_cases(numbers):
    """Logits as they are: no temperature."""
    return logits_cases(numbers, labelled=True, temperatures=())


def zeroed(x, counted):
    return x * counted[..., None]


def cosine_cases(numbers, cls=False):
    """Pairs of hidden states; cls: of which the first of a sequence counts alone.

    They are as long as a Transformer's: beside them the 1e-12 of torch's CosineEmbeddingLoss is nothing.
    """
    mask = lengths_to_mask((7, 4, 2), T)

    def case(id, comment, *, mask=mask, student=None, teacher=None, poison=poisoned, **settings):
        s = numbers.normal(B, T, D, scale=16.0) if student is None else student
        t = numbers.normal(B, T, D, scale=16.0) if teacher is None else teacher
        counted = mask & (np.arange(T) == 0) if cls else mask
        return Case(id, comment, {"student_hidden": poison(s, counted), "teacher_hidden": poison(t, counted),
                                  "mask": mask}, **settings)

    yield case("01-plain", "no padding, an upstream gradient of 1", mask=np.ones((B, T), bool), upstream=1.0)
    yield case("02-right", "padding on the right (7, 4 and 2 of 7 tokens)")
    if not cls:
        yield case("03-left", "padding on the left", mask=mask[:, ::-1].copy())
    yield case("04-holes", "padding between the tokens", mask=np.tile([1, 0, 1, 1, 0, 0, 1], (B, 1)) == 1)
    x = numbers.normal(B, T, D, scale=16.0)
    yield case("05-parallel", "the student points where the teacher does: 0", student=4 * x, teacher=x)
    yield case("06-opposite", "the student points away: 2", student=-4 * x, teacher=x)
    y = numbers.normal(B, T, D, scale=16.0)
    y[0, 0] = 0
    yield case("07-zero-teacher", "a teacher's vector of 0: cosine 0, no gradient", teacher=y)
    yield case("08-zero-student", "a student's vector of 0 in a loss that does not count: no NaN", student=y,
               upstream=0.0, result="acceptable", accepted=("nan",))
    yield case("09-zero-padding", "zeros where nothing counts: no NaN", poison=zeroed)
    yield case("10-lengths", "the student's vectors are 64 times longer than the teacher's", student=64 * x)
    yield case("11-one", "one real token a sequence", mask=lengths_to_mask((1, 1, 1), T))
    yield case("20-shapes", "a teacher of another width", teacher=numbers.normal(B, T, D + 1), result="error",
               error="(?i)shape|same|size|width|teacher")
    if cls:
        yield case("21-no-cls", "padding in the place of [CLS]", mask=mask[:, ::-1].copy(), result="error",
                   error="(?i)cls|mask|position")
    else:
        yield case("21-no-row", "a mask without a real token", mask=np.zeros((B, T), bool), result="error",
                   error="(?i)mask")


EQUATIONS = (
    equation("distilbert.soft_labels", labelled_cases, WITH_LABELS, LOGITS, "Sanh et al. 2019", "section 2, L_ce",
             temperature=2.0),
    Equation("distilbert.cosine", "Sanh et al. 2019", "section 2, L_cos", "1/n sum_n (1 - cos(h^S_n, h^T_n))", cosine,
             cosine_gradient, HIDDEN, ("student_hidden",), cosine_cases, {}, CONVENTIONS),
    Equation("distilbert.logits_mse", "Sanh et al. 2019", "section 2, an option of its code",
             "1/n sum_n |z^S_n - z^T_n|^2", logits_mse, logits_mse_gradient, WITH_LABELS, ("student_logits",),
             mse_cases, {}, LOGITS),
)
