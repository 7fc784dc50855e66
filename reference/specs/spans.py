"""Answer spans: conventions and cases. The sums: `spans.py`."""

import numpy as np

from tinydistill_reference.conventions import IGNORED
from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.numbers import lengths_to_mask, poisoned
from tinydistill_reference.spans import positions, positions_gradient

CONVENTIONS = {
    "paper": Convention({}, "Devlin et al. 2019, with padding left out"),
    "official": Convention({"rows": "all", "keys": "all"},
                           "google-research/bert run_squad.py: softmax over padding too"),
}
B, T = 3, 7


def span_cases(numbers):
    """Starts and ends, at real tokens."""
    mask = lengths_to_mask((7, 4, 2), T)

    def case(id, comment, *, mask=mask, labels=None, scale=1.0, offset=0.0, sure=0.0, **settings):
        if labels is None:
            place = np.floor(numbers.uniform(B, 2) * mask.sum(axis=1, keepdims=True)).astype(int)
            labels = np.array([np.flatnonzero(mask[b])[place[b]] for b in range(B)])
        right = np.arange(T)[:, None] == labels[:, None, :]                             # (B, T, 2)
        x = numbers.normal(B, T, 2, scale=scale) + np.array([offset, 0.0]) + sure * right
        return Case(id, comment, {"student_logits": poisoned(x, mask), "labels": labels, "mask": mask}, **settings)

    yield case("01-plain", "no padding, an upstream gradient of 1", mask=np.ones((B, T), bool), upstream=1.0)
    yield case("02-right", "padding on the right (7, 4 and 2 of 7 tokens)")
    yield case("03-left", "padding on the left", mask=mask[:, ::-1].copy())
    yield case("04-holes", "padding between the tokens", mask=np.tile([1, 0, 1, 1, 0, 0, 1], (B, 1)) == 1)
    yield case("05-no-answer", "one answer is [CLS], position 0", labels=np.array([[0, 0], [1, 3], [0, 1]]))
    cut = np.array([[2, IGNORED], [1, 2], [IGNORED, IGNORED]])
    yield case("06-cut", "answers that were cut off have no label", labels=cut)
    yield case("07-ends", "an end without its start", labels=np.array([[IGNORED, 6], [IGNORED, 2], [1, IGNORED]]))
    yield case("08-sure", "sure and right: a loss of nearly 0", sure=60.0, mask=np.ones((B, T), bool))
    yield case("09-large", "logits x 40: probabilities that underflow in float32", scale=40.0, min_dtype="float32")
    yield case("10-offset", "logits of starts 300 higher: a softmax does not see it", offset=300.0, min_dtype="float32")
    yield case("11-none", "no label at all: 0, or 0 / 0", labels=np.full((B, 2), IGNORED), result="acceptable",
               accepted=("nan",))
    yield case("20-range", "a label behind the last token", labels=np.full((B, 2), T), result="error",
               error="(?i)label|class|range|target|bound|position")
    yield case("21-padding", "a label in padding", labels=np.full((B, 2), 5), result="error",
               error="(?i)label|real|mask", conventions=("paper",))


EQUATIONS = (
    Equation("spans.positions", "Devlin et al. 2019", "section 4.2", "-1/B sum_b 1/2 (log P_start + log P_end)",
             positions, positions_gradient, {"student_logits": "(B, T, 2)", "labels": "(B, 2)", "mask": "(B, T)"},
             ("student_logits",), span_cases, {}, CONVENTIONS),
)
