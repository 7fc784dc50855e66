"""MiniLM: conventions and cases. The sums: `minilm.py`."""

import numpy as np

from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.minilm import (attention_transfer, attention_transfer_gradient, value_relation_transfer,
                                          value_relation_transfer_gradient)
from tinydistill_reference.numbers import lengths_to_mask, poisoned

CONVENTIONS = {
    "paper": Convention({}, "Wang et al. 2020, equations 6 and 9, with padding left out on both sides"),
    "paddlenlp": Convention({"rows": "all", "divisor": "row"},
                            "PaddlePaddle/PaddleNLP paddlenlp/transformers/distill_utils.py"),
    "token": Convention({"divisor": "row"}, "no project by name: one mean over the real tokens of the whole batch"),
}
B, A, T, K, TEACHER_K = 3, 2, 7, 4, 6


def relation_cases(fields, K=K, TEACHER_K=TEACHER_K):
    """cases(numbers) for a loss that reads these fields of both sides, (B, A, T, K) each."""
    def cases(numbers):
        mask = lengths_to_mask((7, 4, 2), T)

        def case(id, comment, *, mask=mask, scale=1.0, sharp=1.0, equal=False, shorter=0, **settings):
            student = {f: numbers.normal(B, A, T, K, scale=scale) for f in fields}
            size = K if equal else TEACHER_K
            teacher = student if equal else {f: numbers.normal(B, A, T - shorter, size, scale=sharp) for f in fields}
            inputs = {f"student_{f}": x for f, x in student.items()} | {f"teacher_{f}": x for f, x in teacher.items()}
            if not shorter:
                inputs = {name: poisoned(x, mask) for name, x in inputs.items()}
            return Case(id, comment, inputs | {"mask": mask}, **settings)

        yield case("01-plain", "no padding, an upstream gradient of 1", mask=lengths_to_mask((7, 7, 7), T),
                   upstream=1.0)
        yield case("02-right", "padding on the right (7, 4 and 2 of 7 tokens)")
        yield case("03-left", "padding on the left", mask=mask[:, ::-1].copy())
        yield case("04-holes", "padding between the tokens", mask=np.tile([1, 0, 1, 1, 0, 0, 1], (B, 1)) == 1)
        yield case("05-equal", "teacher and student are equal: the divergence is 0", equal=True)
        yield case("06-sharp", "a teacher whose scores are large", sharp=4.0)
        yield case("07-small", "a student near 0: its relation is uniform", scale=2.0 ** -10)
        yield case("08-one", "one real token: its relation is 1, the loss 0", mask=lengths_to_mask((1, 1, 1), T))
        yield case("20-empty", "a sequence without a real token", mask=lengths_to_mask((7, 0, 2), T), result="error",
                   error="(?i)mask|sequence|token", conventions=("paper",))
        yield case("21-shapes", "a teacher of fewer tokens", shorter=1, result="error",
                   error="(?i)shape|same|size|teacher")
    return cases


def shapes(*fields):
    return {f"{side}_{f}": f"(B, A, T, {k})" for side, k in (("student", "K"), ("teacher", "K'")) for f in fields} \
        | {"mask": "(B, T)"}


EQUATIONS = (
    Equation("minilm.attention", "Wang et al. 2020", "eq. 6",
             "1/(A |x|) sum_a sum_t KL(A^T_at || A^S_at), A = softmax(QK^T/sqrt(K))",
             attention_transfer, attention_transfer_gradient, shapes("queries", "keys"),
             ("student_queries", "student_keys"), relation_cases(("queries", "keys")), {}, CONVENTIONS),
    Equation("minilm.value_relation", "Wang et al. 2020", "eq. 7 to 9",
             "1/(A |x|) sum_a sum_t KL(VR^T_at || VR^S_at), VR = softmax(VV^T/sqrt(K))",
             value_relation_transfer, value_relation_transfer_gradient, shapes("values"), ("student_values",),
             relation_cases(("values",)), {}, CONVENTIONS),
)
