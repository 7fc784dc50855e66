"""Internal representations: conventions and cases. The sums: `internal.py`."""

import numpy as np

from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.internal import attention, attention_gradient, cosine, cosine_gradient
from tinydistill_reference.numbers import exact, lengths_to_mask, poisoned_scores
from tinydistill_reference.specs.distilbert import HIDDEN, cosine_cases

ATTENTION = {
    "paper": Convention({}, "our choice: the mean over heads and real query rows of a sequence, then over the batch"),
    "summed": Convention({"divisor": "none"}, "unverified: Aguilar et al. 2020 may sum over query positions, and "
                         "average over heads alone; over a batch it is a sum as well"),
}
COSINE = {"paper": Convention({}, "Aguilar et al. 2020 (unverified), the mean over the batch")}
B, A, T = 3, 2, 7


def scores_cases(numbers):
    """Scores of two attention heads."""
    mask = lengths_to_mask((7, 4, 2), T)

    def case(id, comment, *, mask=mask, scale=1.0, sharp=1.0, offset=0.0, equal=False, heads=A, **settings):
        student = exact(numbers.normal(B, A, T, T, scale=scale) + offset * np.arange(T)[:, None])
        teacher = student if equal else numbers.normal(B, heads, T, T, scale=sharp * scale)
        return Case(id, comment, {"student_scores": poisoned_scores(student, mask),
                                  "teacher_scores": poisoned_scores(teacher, mask), "mask": mask}, **settings)

    yield case("01-plain", "no padding, an upstream gradient of 1", mask=np.ones((B, T), bool), upstream=1.0)
    yield case("02-right", "padding on the right (7, 4 and 2 of 7 tokens)")
    yield case("03-left", "padding on the left", mask=mask[:, ::-1].copy())
    yield case("04-holes", "padding between the tokens", mask=np.tile([1, 0, 1, 1, 0, 0, 1], (B, 1)) == 1)
    yield case("05-equal", "teacher and student are equal: the divergence is 0", equal=True)
    yield case("06-sharp", "a teacher whose scores are large", sharp=4.0)
    yield case("07-large", "scores x 40: probabilities that underflow in float32", scale=40.0, min_dtype="float32")
    yield case("08-offset", "each query's scores higher by 50 than the last one's: a softmax does not see it",
               offset=50.0, min_dtype="float32")
    yield case("09-one", "one real token: its attention is 1, the loss 0", mask=lengths_to_mask((1, 1, 1), T))
    yield case("20-empty", "a sequence without a real token", mask=lengths_to_mask((7, 0, 2), T), result="error",
               error="(?i)mask|sequence|token", conventions=("paper",))
    yield case("21-heads", "a teacher of more heads", heads=A + 1, result="error",
               error="(?i)shape|same|size|teacher|heads")


def cls_cases(numbers):
    return cosine_cases(numbers, cls=True)


EQUATIONS = (
    Equation("internal.attention", "Aguilar et al. 2020", "eq. of L_kl (its number is unverified)",
             "1/(A |x|) sum_a sum_t KL(a^T_at || a^S_at), a = softmax(scores)", attention, attention_gradient,
             {"student_scores": "(B, A, T, T)", "teacher_scores": "(B, A, T, T)", "mask": "(B, T)"},
             ("student_scores",), scores_cases, {}, ATTENTION),
    Equation("internal.cosine", "Aguilar et al. 2020", "eq. of L_cos (its number is unverified)",
             "1/B sum_b (1 - cos(h^S_b0, h^T_b0))", cosine, cosine_gradient, HIDDEN, ("student_hidden",), cls_cases, {},
             COSINE),
)
