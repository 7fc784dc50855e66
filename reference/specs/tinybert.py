"""TinyBERT: conventions and cases. The sums: `tinybert.py`."""

import numpy as np

from tinydistill_reference import tinybert
from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.numbers import exact, lengths_to_mask, poisoned_scores
from tinydistill_reference.specs.rows import TEACHER_D, row_cases, shapes
from tinydistill_reference.specs.soft_labels import PAIR, classes_cases

JIAO, CODE = "Jiao et al. 2020", "huawei-noah/Pretrained-Language-Model, TinyBERT/"
PAPER = Convention({}, JIAO + ", equations 7 to 9, with padding left out")
HIDDEN = {"paper": PAPER,
          "official": Convention({"rows": "all", "divisor": "element"},
                                 CODE + "general_distill.py and task_distill.py: MSELoss, padding included")}
SCORES = {"paper": PAPER, "pairs": Convention({"divisor": "element"}, "no project by name: one mean over all pairs of "
                                              "real tokens")}
OFFICIAL = Convention({}, CODE + "general_distill.py and task_distill.py: MSELoss, padding included")
PREDICTION = {"paper": Convention({}, JIAO + ", equation 10"),
              "official": Convention({"divisor": "element"}, CODE + "task_distill.py soft_cross_entropy")}
B, A, T = 3, 2, 7


def score_cases(more=lambda numbers, case: (), empty_is_wrong=True):
    """cases(numbers) for a loss of attention scores, (B, A, T, T). empty_is_wrong: so is a sequence without a token."""
    def cases(numbers):
        mask = lengths_to_mask((7, 4, 2), T)

        def case(id, comment, *, mask=mask, student=None, teacher=None, scale=1.0, sharp=1.0, offset=0.0, **settings):
            student = numbers.normal(B, A, T, T, scale=scale, offset=offset) if student is None else student
            teacher = numbers.normal(B, A, T, T, scale=sharp) if teacher is None else teacher
            if settings.get("result") != "error":
                student, teacher = poisoned_scores(student, mask), poisoned_scores(teacher, mask)
            return Case(id, comment, {"student_scores": student, "teacher_scores": teacher, "mask": mask}, **settings)

        yield case("01-plain", "no padding, an upstream gradient of 1", mask=lengths_to_mask((7, 7, 7), T),
                   upstream=1.0)
        yield case("02-right", "padding on the right (7, 4 and 2 of 7 tokens)")
        yield case("03-left", "padding on the left", mask=mask[:, ::-1].copy())
        yield case("04-holes", "padding between the tokens", mask=np.tile([1, 0, 1, 1, 0, 0, 1], (B, 1)) == 1)
        same = numbers.normal(B, A, T, T)
        yield case("05-equal", "teacher and student are equal", student=same, teacher=same)
        yield case("06-sharp", "a teacher whose scores are large", sharp=6.0)
        yield case("07-offset", "the student's scores 50 higher: a softmax does not see it", offset=50.0)
        yield case("08-one", "one real token", mask=lengths_to_mask((1, 1, 1), T))
        yield from more(numbers, case)
        if empty_is_wrong:
            yield case("20-empty", "a sequence without a real token", mask=lengths_to_mask((7, 0, 2), T),
                       result="error", error="(?i)mask|sequence|token", conventions=("paper",))
        yield case("21-heads", "a teacher of more heads", teacher=numbers.normal(B, A + 1, T, T), result="error",
                   error="(?i)shape|same|size|head|teacher")
    return cases


def far_below(numbers, case):
    """Real scores beyond the clamp of published code."""
    student = numbers.normal(B, A, T, T)
    low = exact(numbers.normal(B, A, T, T) - 300.0 * (numbers.uniform(B, A, T, T) < 0.2))
    yield case("10-below", "the teacher's real scores near -300, which published code sets to 0", student=student,
               teacher=low, mask=lengths_to_mask((7, 7, 7), T), min_dtype="float32")
    yield case("11-others", "real scores of both near -300, at other places",
               student=exact(student - 300.0 * (numbers.uniform(B, A, T, T) < 0.2)), teacher=low, min_dtype="float32")


def scores(name, forward, gradient, formula, conventions, empty_is_wrong=True):
    return Equation(name, JIAO, "eq. 7", formula, forward, gradient,
                    {"student_scores": "(B, A, T, T)", "teacher_scores": "(B, A, T, T)", "mask": "(B, T)"},
                    ("student_scores",), score_cases(far_below, empty_is_wrong), {}, conventions)


def hidden(name, where, field, forward, gradient):
    letter = field[0].upper()
    return Equation(name, JIAO, where, f"1/(|x| D) sum_t |W {letter}^S_t - {letter}^T_t|^2", forward, gradient,
                    shapes(field, "D'", weight=True), (f"student_{field}", "weight"),
                    row_cases(field, teacher_D=TEACHER_D, weight=True), {}, HIDDEN)


EQUATIONS = (
    hidden("tinybert.embedding", "eq. 9", "embeddings", tinybert.embedding, tinybert.embedding_gradient),
    hidden("tinybert.hidden", "eq. 8", "hidden", tinybert.hidden, tinybert.hidden_gradient),
    scores("tinybert.attention", tinybert.attention, tinybert.attention_gradient,
           "1/(A |x|^2) sum_a sum_ts (A^S_ats - A^T_ats)^2, A = QK^T/sqrt(K)", SCORES),
    scores("tinybert.attention_official", tinybert.attention_official, tinybert.attention_official_gradient,
           "1/(B A T^2) sum (c(A^S) - c(A^T))^2, c(x) = x - 10000 at padded keys, then 0 where x <= -100",
           {"official": OFFICIAL}, empty_is_wrong=False),
    Equation("tinybert.prediction", JIAO, "eq. 10",
             "-1/N sum_n sum_c p_nc log q_nc, p = softmax(z^T/t), q = softmax(z^S/t)",
             tinybert.prediction, tinybert.prediction_gradient, PAIR, ("student_logits",), classes_cases,
             {"temperature": 1.0}, PREDICTION),
)
