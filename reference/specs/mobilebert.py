"""MobileBERT: conventions and cases. The sums: `mobilebert.py`."""

import numpy as np

from tinydistill_reference import mobilebert
from tinydistill_reference.conventions import IGNORED
from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.numbers import exact
from tinydistill_reference.specs.rows import B, D, T, row_cases, shapes
from tinydistill_reference.specs.tinybert import score_cases

SUN, CODE = "Sun et al. 2020", "google-research/google-research mobilebert/run_pretraining.py"
PAPER = {"paper": Convention({}, SUN + " (unverified), with padding left out")}
AS_RUN = {"paper": Convention({}, "the published code's terms, with padding left out"),
          "official": Convention({"rows": "all", "divisor": "element"},
                                 CODE + ": means over every element, padding included")}
ATTENTION = PAPER | {"official": Convention(
    {"rows": "all", "divisor": "row", "constant": "cross-entropy"},
    CODE + ": mean over B, A and T, padded rows included, the teacher's entropy not subtracted")}
LABELLED = {"paper": Convention({}, SUN + " (unverified): the mean over masked tokens"),
            "official": Convention({"epsilon": 1e-5}, CODE + ": divided by their number + 1e-5")}


def statistics(numbers, case):
    """What a mean and a variance can get wrong."""
    x = numbers.normal(B, T, D)
    yield case("10-far", "both 1000 from 0: a variance as a difference of squares has no digits left",
               student=exact(x + 1000.0), teacher=exact(numbers.normal(B, T, D) + 1000.0), min_dtype="float32")
    yield case("11-narrow", "a student of tiny variance, 1e-6", scale=1e-3, min_dtype="float32")
    yield case("12-constant", "a student of no variance: x - mean is 0", student=np.full((B, T, D), 2.0),
               min_dtype="float32")
    yield case("13-higher", "a student that is the teacher, 3 higher: the same variance, another mean",
               student=exact(x + 3.0), teacher=x)


def sharp(numbers, case):
    yield case("10-far-below", "scores of -200 and 0: probabilities that are 0 in float32",
               student=-200.0 * (numbers.uniform(3, 2, 7, 7) < 0.5) + numbers.normal(3, 2, 7, 7), min_dtype="float32")


def label_cases(numbers):
    """Rows of logits, of which some have a label."""
    M, V = 7, 11
    some = np.array([3, IGNORED, 0, 10, IGNORED, 6, 3])

    def case(id, comment, *, student=None, teacher=None, labels=some, scale=1.0, offset=0.0, **settings):
        student = numbers.normal(M, V, scale=scale, offset=offset) if student is None else student
        teacher = numbers.normal(M, V, scale=scale) if teacher is None else teacher
        return Case(id, comment, {"student_logits": student, "teacher_logits": teacher, "labels": labels}, **settings)

    yield case("01-plain", "every row has a label, an upstream gradient of 1", labels=numbers.integers(0, V, M),
               upstream=1.0)
    yield case("02-ignored", "two rows without a label")
    yield case("03-soft", "the teacher alone", attrs={"ground_truth": 0.0})
    yield case("04-hard", "the labels alone", attrs={"ground_truth": 1.0})
    yield case("05-quarter", "a quarter of the labels", attrs={"ground_truth": 0.25})
    same = numbers.normal(M, V)
    yield case("06-equal", "teacher and student are equal: the teacher's half has no gradient", student=same,
               teacher=same)
    yield case("07-large", "logits x 40: probabilities that underflow in float32", scale=40.0, min_dtype="float32")
    yield case("08-offset", "the student's logits 300 higher: a softmax does not see it", offset=300.0,
               min_dtype="float32")
    sure = np.zeros((M, V))
    sure[:, -1] = 60.0
    yield case("09-sure", "a teacher that is sure of the last word", teacher=sure)
    yield case("20-range", "a label beyond the vocabulary", labels=np.where(some == 10, V, some), result="error",
               error="(?i)label|range|index|bounds|target")
    yield case("21-shapes", "teacher's logits of another vocabulary", teacher=numbers.normal(M, V - 1), result="error",
               error="(?i)shape|teacher|size")


def rows(name, formula, forward, gradient, conventions=AS_RUN, equal=None):
    return Equation(f"mobilebert.{name}", SUN, "section on feature map transfer", formula, forward, gradient, shapes(),
                    ("student_hidden",), row_cases(equal=equal, more=statistics), {}, conventions)


AT_THE_KINK = {"result": "acceptable", "accepted": ("zero",)}       # |x| at 0 has any slope from -1 to 1
EQUATIONS = (
    rows("feature_map", "1/(|x| N) sum_t |H^S_t - H^T_t|^2", mobilebert.feature_map, mobilebert.feature_map_gradient,
         PAPER),
    rows("feature_map_normalised", "1/(|x| N) sum_t |LN(H^S_t) - LN(H^T_t)|^2", mobilebert.normalised,
         mobilebert.normalised_gradient),
    rows("mean_transfer", "1/|x| sum_t (mean^S_t - mean^T_t)^2", mobilebert.mean_transfer,
         mobilebert.mean_transfer_gradient),
    rows("variance_transfer", "1/|x| sum_t |var^S_t - var^T_t|", mobilebert.variance_transfer,
         mobilebert.variance_transfer_gradient, equal=AT_THE_KINK),
    Equation("mobilebert.attention", SUN, "eq. of L_AT", "1/(|x| A) sum_t sum_a KL(a^T_at || a^S_at)",
             mobilebert.attention, mobilebert.attention_gradient,
             {"student_scores": "(B, A, T, T)", "teacher_scores": "(B, A, T, T)", "mask": "(B, T)"},
             ("student_scores",), score_cases(sharp), {}, ATTENTION),
    Equation("mobilebert.pretraining", SUN, "eq. of L_PD, without next sentences",
             "-1/N sum_n sum_v ((1 - g) softmax(z^T_n)_v + g [v = label_n]) log softmax(z^S_n)_v",
             mobilebert.pretraining, mobilebert.pretraining_gradient,
             {"student_logits": "(M, V)", "teacher_logits": "(M, V)", "labels": "(M,)"}, ("student_logits",),
             label_cases, {"ground_truth": 0.5}, LABELLED),
)
