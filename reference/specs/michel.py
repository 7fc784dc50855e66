"""Head importance: conventions and cases. The sums: `michel.py`."""

import numpy as np

from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.michel import importance
from tinydistill_reference.numbers import lengths_to_mask

SHAPE = B, A, T, K = 3, 2, 5, 4
CONVENTIONS = {
    "paper": Convention({}, "Michel et al. 2019, eq. 2"),
    "token": Convention({"version": "token"},
                        "pmichel31415/pytorch-pretrained-BERT, branch paul, but for a factor a layer"),
    "batch": Convention({"version": "batch"}, "huggingface/transformers-research-projects bertology/run_bertology.py"),
}


def importance_cases(numbers):
    def case(id, comment, *, shape=SHAPE, scale=1.0, context=None, gradient=None, **settings):
        context = numbers.normal(*shape) if context is None else context
        gradient = numbers.normal(*shape, scale=scale) if gradient is None else gradient
        return Case(id, comment, {"context": context, "gradient": gradient}, **settings)

    yield case("01-plain", "three examples of five tokens")
    yield case("02-padding", "padding, at which the gradient is 0",
               gradient=numbers.normal(*SHAPE) * lengths_to_mask((5, 3, 2), T)[:, None, :, None])
    x, dx = numbers.normal(*SHAPE), numbers.normal(*SHAPE)
    dx[1], x[1] = -dx[0], x[0]
    yield case("03-examples", "two examples that cancel", context=x, gradient=dx)
    x, dx = numbers.normal(*SHAPE), numbers.normal(*SHAPE)
    dx[:, :, 1], x[:, :, 1] = -dx[:, :, 0], x[:, :, 0]
    yield case("04-tokens", "two tokens that cancel", context=x, gradient=dx)
    yield case("05-one", "one example", shape=(1, A, T, K))
    yield case("06-tiny", "gradients of 1e-6", scale=2.0 ** -20, min_dtype="float32")
    closed = numbers.normal(*SHAPE)
    closed[:, 0] = 0
    yield case("07-closed", "a head that puts out 0", context=closed)
    yield case("20-shapes", "a gradient of fewer tokens", gradient=np.ones((B, A, T - 1, K)), result="error",
               error="(?i)shape|size|broadcast|gradient")


EQUATIONS = (
    Equation("michel.importance", "Michel et al. 2019", "eq. 2", "I_a = 1/B sum_b |sum_t Att_bat^T dL/dAtt_bat|",
             importance, None, {"context": "(B, A, T, K)", "gradient": "(B, A, T, K)"}, (), importance_cases, {},
             CONVENTIONS, ("y",)),
)
