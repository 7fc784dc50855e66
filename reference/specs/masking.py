"""Masking: conventions and cases. The rules: `masking.py`."""

import numpy as np

from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.masking import bert, counted, frequency
from tinydistill_reference.numbers import exact, lengths_to_mask

UNK, CLS, SEP, MASK, PAD, V = 0, 7, 9, 5, 3, 29     # special tokens in the middle of a vocabulary
FINE, COARSE = 2.0 ** 24, 2.0 ** 16                 # draws are multiples of 1 / these
BERT = {
    "paper": Convention({}, "Devlin et al. 2019, appendix A.1; a random token is none of the special ones"),
    "official": Convention({"words": "all"},
                           "google-research/bert create_pretraining_data.py; transformers: special tokens, too"),
    "random_first": Convention({"last": "same"}, "no project by name: random where 0.8 <= kind < 0.9, itself from 0.9"),
}
COUNTED = {
    "paper": Convention({}, "google-research/bert create_pretraining_data.py; TinyBERT pregenerate_training_data.py"),
}
FREQUENCY = {
    "paper": Convention({}, "huggingface/transformers-research-projects distillation/distiller.py prepare_batch_mlm"),
}


def some(*tokens):
    """(V,), True at these."""
    return np.isin(np.arange(V), tokens)


def batch(numbers, lengths, T):
    """(ids, mask): [CLS] words [SEP] padding, [UNK] among the words."""
    words = np.setdiff1d(np.arange(V), (CLS, SEP, MASK, PAD))
    mask, B = lengths_to_mask(lengths, T), len(lengths)
    ids = words[numbers.integers(0, len(words), B, T)]
    ids[:, 0], ids[np.arange(B), np.asarray(lengths) - 1] = CLS, SEP
    return np.where(mask, ids, PAD), mask


def draws(numbers, B, T):
    """Multiples of 2^-16 and 2^-24. One selection in each of B T equal parts of [0, 1): no two are alike, none is 0."""
    part, inside = numbers.permutation(B * T).reshape(B, T), numbers.uniform(B, T)
    return {"selection": np.floor((part + 0.1 + 0.8 * inside) / (B * T) * COARSE) / COARSE,
            "kind": np.floor(numbers.uniform(B, T) * COARSE) / COARSE,
            "word": np.floor(numbers.uniform(B, T) * FINE) / FINE}


def cases(told, others=()):
    """cases(numbers); told: {the input that tells tokens apart: array}; others: cases beside the common ones."""
    def made(numbers):
        def case(id, comment, lengths=(13, 7, 4), T=13, rate=0.5, change=None, result="valid", error="",
                 conventions=None, **attrs):
            ids, mask = batch(numbers, lengths, T)
            inputs = {"ids": ids, "mask": mask} | told | draws(numbers, *ids.shape)
            return Case(id, comment, inputs | (change(inputs) if change else {}), {"rate": rate} | attrs, result=result,
                        error=error, conventions=conventions, min_dtype="float32")

        yield case("01-full", "no padding, half of the tokens", lengths=(13, 13, 13))
        yield case("02-padded", "rows of 13, 7 and 4 tokens, half of them")
        yield case("03-usual", "15 % of three rows of 40 tokens at most", lengths=(40, 31, 12), T=40, rate=0.15)
        yield case("04-all", "all that can be", rate=1.0)
        yield case("05-masked", "every kind below 0.8: all become [MASK]", change=kinds(0.0, 0.8))
        yield case("06-same", "every kind from 0.8 to 0.9: all stay, and have a label", change=kinds(0.8, 0.9))
        yield case("07-random", "every kind from 0.9: all become random tokens", rate=1.0, change=kinds(0.9, 1.0))
        yield case("08-same-word", "random tokens that are the old ones", rate=1.0, change=the_old_word)
        yield case("09-edges", "draws that are exactly the rate, and kinds beside 0.8 and 0.9", rate=0.5, change=edges)
        yield case("10-short", "a row of two special tokens has nothing to select", lengths=(13, 2, 3))
        yield case("11-padding-is-a-word", "padding that looks like words", change=words_in_padding)
        yield case("20-rate", "a share of 1.5", rate=1.5, result="error", error="(?i)rate|share|prob")
        for other in others:
            yield case(**other)
    return made


def kinds(low, high):
    """Kinds in this range."""
    return lambda inputs: {"kind": np.floor((low + 0.001 + inputs["kind"] * (high - low - 0.002)) * COARSE) / COARSE}


def the_old_word(inputs):
    """Draws of the old token: number i of all V, or of those that are not special."""
    special = inputs["special"] if "special" in inputs else inputs["weights"] == 0
    words, ids = np.flatnonzero(~special), inputs["ids"]
    of_ordinary = (np.searchsorted(words, ids) + 0.5) / len(words)
    of_all = (ids + 0.5) / V
    both = np.clip(np.where(np.arange(ids.shape[1]) % 2 == 0, of_ordinary, of_all), 0, 1 - 1 / FINE)
    return {"word": np.floor(both * FINE) / FINE, "kind": np.full(ids.shape, 0.9375)}


def edges(inputs):
    below = np.floor(np.array([0.8, 0.9]) * COARSE)
    near = np.array([0, COARSE / 2, COARSE / 2 - 1, COARSE / 2 + 1, *below, *(below + 1), COARSE - 1]) / COARSE
    places = np.arange(inputs["ids"].size).reshape(inputs["ids"].shape)
    selection = np.where(places % 3 == 0, near[1 + places // 3 % 2], inputs["selection"])
    return {"kind": near[places % len(near)], "selection": selection if "special" in inputs else inputs["selection"]}


def words_in_padding(inputs):
    return {"ids": np.where(inputs["mask"], inputs["ids"], 11)}


def never(*tokens):
    return {"special": some(*tokens)}


def weights():
    """Of DistilBERT: max(count, 1)^-0.7 of made-up counts, 0 for special tokens."""
    return {"weights": exact(np.where(some(UNK, CLS, SEP, MASK, PAD), 0.0, (1.0 + np.arange(V) ** 2) ** -0.7))}


ONLY_SPECIAL = {"conventions": ("paper", "random_first"), "id": "21-no-word",
                "comment": "a vocabulary of special tokens only", "result": "error",
                "error": "(?i)vocab|special|token", "change": lambda inputs: {"special": np.ones(V, bool)}}
SHAPES = {"ids": "(B, T)", "mask": "(B, T)"}
DRAWS = {"selection": "(B, T)", "kind": "(B, T)", "word": "(B, T)"}
EQUATIONS = (
    Equation("masking.bert", "Devlin et al. 2019", "section 3.1 and appendix A.1",
             "selected where selection < rate; then [MASK] (kind < 0.8), itself, or a random token (kind >= 0.9)",
             bert, None, SHAPES | {"special": "(V,)"} | DRAWS, (),
             cases(never(UNK, CLS, SEP, MASK, PAD), (ONLY_SPECIAL,)),
             {"rate": 0.15, "mask_id": MASK}, BERT, ("ids", "labels")),
    Equation("masking.counted", "Devlin et al. 2019", "as google-research/bert computes it",
             "of a row's n tokens the min(most, max(1, round(rate n))) of the smallest draws; then as masking.bert",
             counted, None, SHAPES | {"special": "(V,)"} | DRAWS, (),
             cases(never(CLS, SEP), (
                 {"id": "12-most", "comment": "no more than three a row", "rate": 0.5, "most": 3},
                 {"id": "13-one", "comment": "a rate of 0 is one token a row: TinyBERT's general distillation",
                  "rate": 0.0},
                 {"id": "14-half", "comment": "halves, rounded to the even neighbour: 2.5 of 5, 3.5 of 7, 5.5 of 11",
                  "lengths": (11, 7, 5), "rate": 0.5})),
             {"rate": 0.15, "most": 20, "mask_id": MASK}, COUNTED, ("ids", "labels")),
    Equation("masking.frequency", "Sanh et al. 2019", "section 3, as their code has it",
             "the ceil(rate sum_b n_b) smallest of -log(selection) / weight in the batch; then as masking.bert",
             frequency, None, SHAPES | {"weights": "(V,)"} | DRAWS, (), cases(weights()),
             {"rate": 0.15, "mask_id": MASK}, FREQUENCY, ("ids", "labels")),
)
