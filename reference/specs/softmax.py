"""Softmax: conventions and cases. The sums: `softmax.py`."""

import numpy as np

from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.numbers import exact
from tinydistill_reference.softmax import log_softmax, log_softmax_gradient, softmax, softmax_gradient

SHAPE = B, A, T = 3, 2, 7
LENGTHS = np.array([[7, 4], [2, 6], [5, 1]])
CONVENTIONS = {
    "paper": Convention({}, "Vaswani et al. 2017, section 3.2.3: what is masked is -inf before the softmax; a row "
                            "without a key is 0, as in the ONNX operator Attention"),
    "uniform": Convention({"empty": "uniform"},
                          "huggingface/transformers src/transformers/models/distilbert/modeling_distilbert.py: "
                          "masked_fill with the smallest number of the dtype, so that a row without a key is 1/T"),
}


def softmax_cases(numbers):
    """Rows of scores, each with its own keys."""
    right = np.arange(T) < LENGTHS[..., None]                                           # (B, A, T)

    def case(id, comment, *, mask=right, x=None, poison=True, **settings):
        x = numbers.normal(*SHAPE) if x is None else x
        x = exact(np.where(mask, x, 11 * x + 3.7)) if poison else x
        return Case(id, comment, {"x": x, "mask": mask}, upstream=numbers.normal(*SHAPE), **settings)

    full, deep = np.ones(SHAPE, bool), numbers.normal(*SHAPE, offset=-20000.0)
    yield case("01-plain", "every key may be seen", mask=full)
    yield case("02-right", "masked keys on the right")
    yield case("03-left", "masked keys on the left", mask=right[..., ::-1].copy())
    yield case("04-holes", "masked keys between the others", mask=np.tile([1, 0, 1, 1, 0, 0, 1], (B, A, 1)) == 1)
    yield case("05-equal", "scores that are all the same: 1/n", x=np.full(SHAPE, 0.25))
    yield case("06-large", "scores x 20: probabilities that underflow in float32", x=numbers.normal(*SHAPE, scale=20.0),
               min_dtype="float32")
    yield case("07-offset", "scores around 1000, of which exp is no number", x=numbers.normal(*SHAPE, offset=1000.0),
               min_dtype="float32")
    yield case("08-deep", "real scores around -20000, masked ones around 15000", poison=False, min_dtype="float32",
               x=exact(np.where(right, deep, deep + 35000)))
    yield case("09-one", "one key: its probability is 1, the gradient 0", mask=np.arange(T) == 3 * np.ones((B, A, 1)))
    yield case("20-no-key", "rows without any key", mask=~full, result="acceptable", accepted=("nan", "zero"))
    yield case("21-shapes", "a mask of fewer keys", mask=full[..., :-1], poison=False, result="error",
               error="(?i)mask|shape|size|broadcast")


def log_softmax_cases(numbers):
    """Rows of scores without a mask."""
    def case(id, comment, x, **settings):
        return Case(id, comment, {"x": x}, upstream=numbers.normal(*x.shape), **settings)

    yield case("01-plain", "three times two rows of seven", numbers.normal(*SHAPE))
    yield case("02-equal", "scores that are all the same: -log 7", np.full(SHAPE, -3.0))
    yield case("03-large", "scores x 40: probabilities that underflow in float32", numbers.normal(*SHAPE, scale=40.0),
               min_dtype="float32")
    yield case("04-offset", "scores around 1000", numbers.normal(*SHAPE, offset=1000.0), min_dtype="float32")
    far = numbers.normal(*SHAPE) - 2000.0 * numbers.integers(0, 2, *SHAPE)
    far[..., 0], far[..., 1] = 0.5, -2000.5
    yield case("05-far", "scores 2000 apart: probabilities that are 0 in every precision", exact(far),
               min_dtype="float32")
    yield case("06-one", "one score a row: 0, with gradient 0", numbers.normal(B, A, 1))


EQUATIONS = (
    Equation("softmax", "Vaswani et al. 2017", "section 3.2.3", "y_j = m_j exp(x_j) / sum_k m_k exp(x_k)", softmax,
             softmax_gradient, {"x": "(B, A, T)", "mask": "(B, A, T)"}, ("x",), softmax_cases, {}, CONVENTIONS, ("y",)),
    Equation("log_softmax", "Vaswani et al. 2017", "section 3.4", "y_j = x_j - log sum_k exp(x_k)", log_softmax,
             log_softmax_gradient, {"x": "(B, A, T)"}, ("x",), log_softmax_cases, {},
             {"paper": Convention({}, "in nats")}, ("y",)),
)
