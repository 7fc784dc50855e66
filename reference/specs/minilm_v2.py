"""MiniLMv2: conventions and cases. The sums: `minilm_v2.py`."""

import numpy as np

from tinydistill_reference.equation import Case, Equation
from tinydistill_reference.minilm_v2 import relation_transfer, relation_transfer_gradient
from tinydistill_reference.numbers import lengths_to_mask, poisoned
from tinydistill_reference.specs import minilm

CONVENTIONS = {name: minilm.CONVENTIONS[name] for name in ("paper", "paddlenlp")}
B, T, A, K, TEACHER_A, TEACHER_K = 3, 7, 3, 4, 4, 6         # widths 12 and 24


def cases_of(field):
    """Heads that differ in number and in size, in 1 to 12 relation heads."""
    def cases(numbers):
        mask = lengths_to_mask((7, 4, 2), T)

        def case(id, comment, R=4, *, mask=mask, scale=1.0, sharp=1.0, same=False, shorter=0, **settings):
            student = numbers.normal(B, A, T, K, scale=scale)
            teacher = student if same else numbers.normal(B, TEACHER_A, T - shorter, TEACHER_K, scale=sharp)
            if not shorter:
                student, teacher = poisoned(student, mask), poisoned(teacher, mask)
            return Case(id, comment, {f"student_{field}": student, f"teacher_{field}": teacher, "mask": mask},
                        {"relation_heads": R}, **settings)

        yield case("01-plain", "no padding, an upstream gradient of 1", mask=lengths_to_mask((7, 7, 7), T),
                   upstream=1.0)
        yield case("02-right", "padding on the right, more relation heads than heads", R=6)
        yield case("03-left", "padding on the left, one relation head", R=1, mask=mask[:, ::-1].copy())
        yield case("04-holes", "padding between the tokens, as many relation heads as the student has heads", R=3,
                   mask=np.tile([1, 0, 1, 1, 0, 0, 1], (B, 1)) == 1)
        yield case("05-equal", "teacher and student are equal: the divergence is 0", R=2, same=True)
        yield case("06-sharp", "a teacher whose scores are large", R=2, sharp=3.0)
        yield case("07-small", "a student near 0, relation heads of size 1", R=12, scale=2.0 ** -10)
        yield case("08-one", "one real token: its relation is 1, the loss 0", mask=lengths_to_mask((1, 1, 1), T))
        yield case("20-empty", "a sequence without a real token", mask=lengths_to_mask((7, 0, 2), T), result="error",
                   error="(?i)mask|sequence|token", conventions=("paper",))
        yield case("21-shapes", "a teacher of fewer tokens", shorter=1, result="error",
                   error="(?i)shape|same|size|teacher")
        yield case("22-heads", "relation heads that do not divide the widths", R=5, result="error",
                   error="(?i)head|width|divi|shape")
    return cases


def equation(field, letter):
    """The same sum of queries, keys and values, each under its own name."""
    def forward(mask, relation_heads, **x):
        return relation_transfer(x[f"student_{field}"], x[f"teacher_{field}"], mask, relation_heads, **convention_of(x))

    def gradient(upstream, mask, relation_heads, **x):
        return {f"student_{field}": relation_transfer_gradient(
            upstream, x[f"student_{field}"], x[f"teacher_{field}"], mask, relation_heads, **convention_of(x))}

    def convention_of(x):
        return {name: x[name] for name in ("rows", "divisor") if name in x}

    return Equation(f"minilm_v2.{field}", "Wang et al. 2021", "section 3 (unverified)",
                    f"1/(R |x|) sum_r sum_t KL(R^T_rt || R^S_rt), R_r = softmax({letter}_r {letter}_r^T / sqrt(D/R))",
                    forward, gradient,
                    {f"student_{field}": "(B, A, T, K)", f"teacher_{field}": "(B, A', T, K')", "mask": "(B, T)"},
                    (f"student_{field}",), cases_of(field), {"relation_heads": 4}, CONVENTIONS)


EQUATIONS = tuple(equation(field, field[0].upper()) for field in ("queries", "keys", "values"))
