"""Embeddings: cases. The sums: `embedding.py`."""

import numpy as np

from tinydistill_reference.embedding import embedding, embedding_gradient
from tinydistill_reference.equation import Case, Convention, Equation

V, D, IDS = 11, 5, (3, 7)


def embedding_cases(numbers):
    def case(id, comment, ids, **settings):
        return Case(id, comment, {"table": numbers.normal(V, D), "ids": ids}, upstream=numbers.normal(*ids.shape, D),
                    **settings)

    yield case("01-once", "every row once", numbers.permutation(V)[None])
    yield case("02-repeated", "rows that are read several times, and some never", numbers.integers(0, V - 3, *IDS))
    yield case("03-same", "one row all the time", np.full(IDS, 4))
    padded = numbers.integers(1, V, *IDS)
    padded[1, 4:], padded[2, 2:] = 0, 0
    yield case("04-zeros", "row 0 at padding: a row like others", padded)
    yield case("05-ends", "the first and the last row", np.array([[0, V - 1, V - 1], [V - 1, 0, 0]]))
    yield case("20-beyond", "an id without a row", np.array([[1, V]]), result="error", error="(?i)id|index|range|bound")
    yield case("21-negative", "an id below 0", np.array([[-1, 2]]), result="error", error="(?i)id|index|range|bound")


EQUATIONS = (
    Equation("embedding", "Devlin et al. 2019", "section 3", "y_n = E[ids_n]", embedding, embedding_gradient,
             {"table": "(V, D)", "ids": "(B, T)"}, ("table",), embedding_cases, {},
             {"paper": Convention({}, "every row is learned, that of the padding, too")}, ("y",)),
)
