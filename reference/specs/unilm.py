"""UniLM's attention masks: conventions and cases. The rules: `unilm.py`."""

import numpy as np

from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.numbers import lengths_to_mask
from tinydistill_reference.unilm import bidirectional, left_to_right, pseudo_mask, seq2seq

PUBLISHED = "microsoft/unilm s2s-ft/s2s_ft/utils.py and modeling.py"
UNSEEING = Convention({"rows": "real"}, "no project by name: padded rows see nothing, the product of two masks")


def one_sequence(numbers):
    yield Case("01-full", "no padding", {"mask": lengths_to_mask((5, 5), 5)})
    yield Case("02-right", "padding on the right", {"mask": lengths_to_mask((7, 4, 1), 7)})
    yield Case("03-left", "padding on the left", {"mask": lengths_to_mask((7, 4, 1), 7)[:, ::-1].copy()})
    yield Case("04-holes", "padding between the tokens", {"mask": np.array([[1, 0, 1, 1, 0], [1, 1, 0, 0, 1]]) == 1})
    yield Case("05-one", "one token", {"mask": np.ones((1, 1), bool)})
    yield Case("20-shape", "a mask of one axis", {"mask": np.ones(5, bool)}, result="error",
               error="(?i)mask|shape|dim|ind|axis|axes|size")


def two_sequences(numbers):
    def case(id, comment, sources, S, targets, N, **settings):
        return Case(id, comment, {"source": lengths_to_mask(sources, S), "target": lengths_to_mask(targets, N)},
                    **settings)

    yield case("01-full", "no padding", (4, 4), 4, (3, 3), 3)
    yield case("02-padded", "padding behind source and target", (3, 4, 1), 4, (2, 1, 3), 3)
    yield case("03-long-target", "a target longer than its source", (2, 1), 2, (5, 3), 5)
    yield case("04-one", "one token each", (1,), 1, (1,), 1)
    yield Case("05-holes", "padding between the tokens",
               {"source": np.array([[1, 0, 1]]) == 1, "target": np.array([[1, 0, 1, 1]]) == 1})
    yield case("06-published", "the published example: 3 of 4 source tokens, 2 of 3 target tokens", (3,), 4, (2,), 3)
    yield case("20-batch", "two sources and three targets", (3, 2), 4, (2, 1, 3), 3, result="error",
               error="(?i)shape|batch|source|target|size|dim|broadcast")


def mask(name, formula, forward, two=False, paper="Dong et al. 2019", where="section 2.3, as their code has it"):
    return Equation(name, paper, where, formula, forward, None,
                    {"source": "(B, S)", "target": "(B, N)"} if two else {"mask": "(B, T)"},
                    (), two_sequences if two else one_sequence, {},
                    {"paper": Convention({}, PUBLISHED), "unseeing": UNSEEING}, ("sees",))


EQUATIONS = (
    mask("unilm_mask.bidirectional", "row i sees key j where j is real", bidirectional),
    mask("unilm_mask.left_to_right", "row i sees key j where j is real and j <= i", left_to_right),
    mask("unilm_mask.seq2seq",
         "of [source | target]: the source is seen by all; a target token by itself and those after it", seq2seq, True),
    mask("pseudo_mask",
         "of [source | target | pseudo]: as seq2seq; a pseudo token sees the source, the target before its "
         "token, and itself, and is seen by nobody else", pseudo_mask, True, "Bao et al. 2020",
         "fine-tuning as their code has it (unverified against the paper; without the blocks of pre-training)"),
)
