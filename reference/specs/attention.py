"""Attention and relations: conventions and cases. The sums: `attention.py`."""

import numpy as np

from tinydistill_reference.attention import (SIDES, attention, attention_gradient, project_heads,
                                             project_heads_gradient, relation, relation_gradient)
from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.numbers import exact, lengths_to_mask, poisoned
from tinydistill_reference.specs.softmax import CONVENTIONS as SOFTMAX

B, A, T, K, OF_VALUES = 3, 2, 5, 4, 6
MASK = lengths_to_mask((5, 3, 2), T)
HOLES = np.tile([1, 0, 1, 0, 1], (B, 1)) == 1
ATTENTION = dict(SOFTMAX)
RELATION = {
    "paper": Convention({}, "Wang et al. 2020, eq. 7 and 8, of a sequence without its padding: other rows are 0"),
    "all": Convention({"rows": "all"}, "PaddlePaddle/PaddleNLP paddlenlp/transformers/distill_utils.py: keys of "
                                       "padding are masked, rows of padding are computed"),
}

PROJECTED = {"x": "(B, T, D)"} | {f"{name}_{part}": shape for name in SIDES.values()
                                  for part, shape in (("weight", "(A K, D)"), ("bias", "(A K,)"))}


def attention_cases(numbers):
    def case(id, comment, *, mask=MASK, scale=1.0, keys=K, queries=None, far=False, **settings):
        q = numbers.normal(B, A, T, K, scale=scale) if queries is None else queries
        k, v = numbers.normal(B, A, T, keys, scale=scale), numbers.normal(B, A, T, OF_VALUES)
        if mask.shape == MASK.shape:
            k, v = poisoned(k, mask), poisoned(v, mask)
        if far:
            k = np.where(mask[:, None, :, None], k, np.array([40000.0] + [0.0] * (K - 1)))
        return Case(id, comment, {"queries": q, "keys": k, "values": v, "mask": mask},
                    upstream=numbers.normal(B, A, T, OF_VALUES), **settings)

    yield case("01-plain", "no padding", mask=lengths_to_mask((5, 5, 5), T))
    yield case("02-right", "padding on the right (5, 3 and 2 of 5 tokens)")
    yield case("03-left", "padding on the left", mask=MASK[:, ::-1].copy())
    yield case("04-holes", "padding between the tokens", mask=HOLES)
    yield case("05-sharp", "scores x 9", scale=3.0)
    yield case("06-small", "queries and keys near 0: the mean of the values", scale=2.0 ** -10)
    ahead = exact(np.abs(numbers.normal(B, A, T, K)) + 1)
    yield case("07-far", "padded keys with scores of 20000 and more", queries=ahead, far=True, min_dtype="float32")
    yield case("08-one", "one real key: its value, and no gradient to queries and keys",
               mask=lengths_to_mask((1, 1, 1), T))
    yield case("20-no-key", "no real key at all", mask=np.zeros((B, T), bool), result="acceptable",
               accepted=("nan", "zero"))
    yield case("21-shapes", "keys of another size", keys=K + 1, result="error", error="(?i)shape|size|dimension|keys")
    yield case("22-mask", "a mask of fewer tokens", mask=MASK[:, :-1], result="error",
               error="(?i)shape|size|mask|broadcast|dimension")


def relation_cases(numbers):
    def case(id, comment, *, mask=MASK, scale=1.0, x=None, **settings):
        x = numbers.normal(B, A, T, K, scale=scale) if x is None else x
        if mask.shape == MASK.shape:
            x = poisoned(x, mask)
        return Case(id, comment, {"x": x, "mask": mask}, upstream=numbers.normal(B, A, T, T), **settings)

    yield case("01-plain", "no padding", mask=lengths_to_mask((5, 5, 5), T))
    yield case("02-right", "padding on the right (5, 3 and 2 of 5 tokens)")
    yield case("03-left", "padding on the left", mask=MASK[:, ::-1].copy())
    yield case("04-holes", "padding between the tokens", mask=HOLES)
    yield case("05-sharp", "scores x 9", scale=3.0)
    yield case("06-same", "tokens that are all the same: 1/n", x=np.tile(numbers.normal(B, A, 1, K), (T, 1)))
    yield case("07-one", "one real token: 1, and no gradient", mask=lengths_to_mask((1, 1, 1), T),
               conventions=("paper",))
    yield case("20-mask", "a mask of fewer tokens", mask=MASK[:, :-1], result="error",
               error="(?i)shape|size|mask|broadcast|dimension")


def project_cases(numbers):
    D = 4

    def case(id, comment, heads, *, shape=(B, T), of_weights=D, outputs=6, **settings):
        inputs = {"x": numbers.normal(*shape, D)}
        for name in SIDES.values():
            inputs |= {f"{name}_weight": numbers.normal(outputs, of_weights), f"{name}_bias": numbers.normal(outputs)}
        upstream = {side: numbers.normal(shape[0], heads, shape[1], outputs // heads) for side in SIDES}
        return Case(id, comment, inputs, {"heads": heads}, upstream, **settings)

    yield case("01-plain", "two heads of three", 2)
    yield case("02-many", "three heads of two", 3)
    yield case("03-one", "one head", 1, shape=(2, 3))
    yield case("04-square", "as many heads as numbers in each, and as many tokens", 2, shape=(3, 2), outputs=4)
    yield case("20-heads", "heads that do not divide the rows", 4, result="error",
               error="(?i)head|shape|size|divi|dimension")
    yield case("21-shapes", "weights for more inputs", 2, of_weights=D + 1, result="error",
               error="(?i)shape|size|dimension|mismatch")


EQUATIONS = (
    Equation("attention", "Vaswani et al. 2017", "eq. 1", "Y = softmax(Q K^T / sqrt(K) over real keys) V", attention,
             attention_gradient, {"queries": "(B, A, T, K)", "keys": "(B, A, T, K)", "values": "(B, A, T, K')",
                                  "mask": "(B, T)"}, ("queries", "keys", "values"), attention_cases, {}, ATTENTION,
             ("y",)),
    Equation("relation", "Wang et al. 2020", "eq. 7, 8", "R = softmax(X X^T / sqrt(K) over real keys)", relation,
             relation_gradient, {"x": "(B, A, T, K)", "mask": "(B, T)"}, ("x",), relation_cases, {}, RELATION, ("y",)),
    Equation("project_heads", "Vaswani et al. 2017", "section 3.2.2", "Q_a = X Wq_a^T + bq_a, K_a, V_a alike",
             project_heads, project_heads_gradient, PROJECTED, tuple(PROJECTED), project_cases, {"heads": 1},
             {"paper": Convention({}, "google-research/bert modeling.py: the rows of a head lie together")},
             tuple(SIDES)),
)
