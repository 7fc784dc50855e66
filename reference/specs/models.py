"""Whole models: weights in, loss and the gradient of every weight out.

The sums: `bert.py`, `mobilebert_model.py`, `bilstm.py`. Everything is tiny, and no two sizes of a model are equal where
they could be taken for each other.
"""

import re

import numpy as np

from tinydistill_reference.bert import bert, bert_features, bert_features_gradient, bert_gradient
from tinydistill_reference.bilstm import bilstm, bilstm_gradient
from tinydistill_reference.conventions import IGNORED
from tinydistill_reference.encoder import PER_LAYER
from tinydistill_reference.equation import Case, Equation
from tinydistill_reference.mobilebert_model import mobilebert, mobilebert_gradient
from tinydistill_reference.numbers import exact, lengths_to_mask

SIZES = {"B": 3, "T": 5, "V": 13, "P": 7, "types": 2, "C": 3}
BERT_SIZES = SIZES | {"D": 8, "F": 11}                                                  # two heads of 4
MOBILEBERT_SIZES = SIZES | {"E": 5, "3E": 15, "H": 9, "H - E": 4, "D": 6, "F": 11}      # two heads of 3
BILSTM_SIZES = SIZES | {"E": 4, "H": 3, "2H": 6, "4H": 12, "I": 7, "C": 5}
LAYERS = 2


# ---------------------------------------------------------------- weights: {name: shape}

def linear(name, outputs, inputs):
    return {f"{name}.weight": f"({outputs}, {inputs})", f"{name}.bias": f"({outputs},)"}


def norm(name, width):
    return {f"{name}.weight": f"({width},)", f"{name}.bias": f"({width},)"}


def tables(prefix, words, width):
    return {f"{prefix}word_embeddings.weight": f"(V, {words})", f"{prefix}position_embeddings.weight": f"(P, {width})",
            f"{prefix}token_type_embeddings.weight": f"(types, {width})"}


def bert_shapes(head):
    """head: "words", "classes" or ""."""
    found = tables("bert.embeddings.", "D", "D") | norm("bert.embeddings.LayerNorm", "D")
    for l in range(LAYERS):
        p = f"bert.encoder.layer.{l}."
        for name in ("query", "key", "value"):
            found |= linear(f"{p}attention.self.{name}", "D", "D")
        found |= linear(f"{p}attention.output.dense", "D", "D") | norm(f"{p}attention.output.LayerNorm", "D")
        found |= linear(f"{p}intermediate.dense", "F", "D") | linear(f"{p}output.dense", "D", "F")
        found |= norm(f"{p}output.LayerNorm", "D")
    return found | {
        "words": linear("cls.predictions.transform.dense", "D", "D") | norm("cls.predictions.transform.LayerNorm", "D")
        | {"cls.predictions.bias": "(V,)"},
        "classes": linear("bert.pooler.dense", "D", "D") | linear("classifier", "C", "D"), "": {}}[head]


def mobilebert_shapes():
    """Two feed-forwards a block."""
    e = "mobilebert.embeddings."
    found = tables(e, "E", "H") | linear(f"{e}embedding_transformation", "H", "3E") | norm(f"{e}LayerNorm", "H")
    for l in range(LAYERS):
        p = f"mobilebert.encoder.layer.{l}."
        for name in ("input", "attention"):
            found |= linear(f"{p}bottleneck.{name}.dense", "D", "H") | norm(f"{p}bottleneck.{name}.LayerNorm", "D")
        for name, inputs in (("query", "D"), ("key", "D"), ("value", "H")):
            found |= linear(f"{p}attention.self.{name}", "D", inputs)
        found |= linear(f"{p}attention.output.dense", "D", "D") | norm(f"{p}attention.output.LayerNorm", "D")
        for q in (f"{p}ffn.0.", p):
            found |= linear(f"{q}intermediate.dense", "F", "D") | linear(f"{q}output.dense", "D", "F")
            found |= norm(f"{q}output.LayerNorm", "D")
        found |= linear(f"{p}output.bottleneck.dense", "H", "D") | norm(f"{p}output.bottleneck.LayerNorm", "H")
    found |= linear("cls.predictions.transform.dense", "H", "H") | norm("cls.predictions.transform.LayerNorm", "H")
    return found | {"cls.predictions.dense.weight": "(H - E, V)", "cls.predictions.bias": "(V,)"}


def bilstm_shapes():
    """Under tinydistill's names: transformers has no such model."""
    found = {"embeddings.trained.weight": "(V, E)"}
    for p in ("lstm.forward.", "lstm.backward."):
        found |= {f"{p}input_weight": "(4H, E)", f"{p}hidden_weight": "(4H, H)", f"{p}input_bias": "(4H,)",
                  f"{p}hidden_bias": "(4H,)"}
    return found | linear("head.inner", "I", "2H") | linear("head.classifier", "C", "I")


def drawn(numbers, shapes, sizes, scale=0.5):
    """{name: weight}: matrices and biases near 0, the gains of norms near 1."""
    found = {}
    for name, shape in shapes.items():
        gain = name.endswith("LayerNorm.weight")
        numbers_of = [sizes[letter] for letter in re.findall(r"[^(),]+", shape.replace(", ", ","))]
        found[name] = numbers.normal(*numbers_of, scale=0.25 if gain else scale, offset=1.0 * gain)
    return found


# ---------------------------------------------------------------- cases

TEXT = {"ids": "(B, T)", "mask": "(B, T)", "token_types": "(B, T)"}
LENGTHS = (5, 3, 2)


def text(numbers, lengths, pairs=True):
    """ids without 0 (transformers never teaches the embedding of its [PAD]), in the padding, too; token types."""
    B, T, V = (SIZES[letter] for letter in "BTV")
    types = numbers.integers(0, 2, B, T)
    return {"ids": numbers.integers(1, V, B, T), "mask": lengths_to_mask(lengths, T), "token_types": types * pairs}


def labelled(numbers, mask):
    """A word for two of three real tokens, and for the first; -100 elsewhere."""
    chosen = mask & (numbers.uniform(*mask.shape) < 0.6)
    chosen[0, 0] = True
    return np.where(chosen, numbers.integers(0, SIZES["V"], *mask.shape), IGNORED)


def masked_lm_cases(shapes, sizes, normed=""):
    """cases(numbers) of a masked language model. normed: what the names of embeddings that a norm reads begin with."""
    def cases(numbers):
        def case(id, comment, *, lengths=LENGTHS, pairs=True, small=False, broken=(), **settings):
            batch, weights = text(numbers, lengths, pairs), drawn(numbers, shapes, sizes)
            if small:
                weights |= {n: exact(x / 64) for n, x in weights.items()
                            if n.startswith(normed) and "LayerNorm" not in n}
            inputs = batch | {"labels": labelled(numbers, batch["mask"])} | weights
            return Case(id, comment, inputs | dict(broken), **settings)

        yield case("01-plain", "no padding, one sentence, an upstream gradient of 1", lengths=(5, 5, 5), pairs=False,
                   upstream=1.0)
        yield case("02-padding", "padding on the right, with words and token types of its own; pairs of sentences")
        if normed:
            yield case("03-small", "embeddings of a 64th: the eps of the first norm shows", small=True)
        yield case("20-label", "a label that is no word", broken={"labels": np.full((3, 5), SIZES["V"])},
                   result="error", error="(?i)label|target|bounds|class|range")
        yield case("21-mask", "a mask of other sequences", broken={"mask": np.ones((3, 4), bool)}, result="error",
                   error="(?i)mask|shape|size|broadcast")
    return cases


OF_BERT = tuple(f"{name}.{l}" for l in range(LAYERS) for name in PER_LAYER)
FEATURES = ("embeddings", *OF_BERT, "logits")


def features_cases(numbers):
    """Every feature is an output with an upstream gradient of its own, so that the first wrong layer shows."""
    B, T, D, V, A = 3, 5, 8, 13, 2
    shapes = {"embeddings": (B, T, D), "queries": (B, A, T, D // A), "scores": (B, A, T, T), "hidden": (B, T, D),
              "logits": (B, T, V)}
    shapes |= {"keys": shapes["queries"], "values": shapes["queries"]}

    def case(id, comment, *, sharp=1, only=FEATURES):
        weights = drawn(numbers, bert_shapes("words"), BERT_SIZES)
        weights |= {n: exact(x * sharp) for n, x in weights.items() if ".query." in n or ".key." in n}
        upstream = {n: numbers.normal(*shapes[n.split(".")[0]]) for n in FEATURES}
        upstream = {n: u if n in only else 0 * u for n, u in upstream.items()}
        return Case(id, comment, text(numbers, (T, T, T)) | weights, upstream=upstream)

    yield case("01-plain", "no padding, a gradient at every feature")
    yield case("02-sharp", "queries and keys four times as large: attention is nearly one key", sharp=4)
    yield case("03-last-scores", "a gradient at the scores of the last layer alone", only=("scores.1",))


def bilstm_cases(numbers):
    def case(id, comment, *, lengths=LENGTHS, broken=(), **settings):
        batch = text(numbers, lengths)
        labels = numbers.integers(0, BILSTM_SIZES["C"], len(lengths))
        inputs = {"ids": batch["ids"], "mask": batch["mask"], "labels": labels}
        return Case(id, comment, inputs | drawn(numbers, bilstm_shapes(), BILSTM_SIZES) | dict(broken), **settings)

    yield case("01-plain", "no padding, an upstream gradient of 1", lengths=(5, 5, 5), upstream=1.0)
    yield case("02-padding", "padding on the right, with words of its own")
    yield case("03-one", "a sentence of one word", lengths=(1, 4, 5))
    yield case("20-label", "a label that is no class", broken={"labels": np.full(3, BILSTM_SIZES["C"])}, result="error",
               error="(?i)label|target|bounds|class|range")


BERT_PAPER = "Devlin et al. 2019"
EQUATIONS = (
    Equation("model.bert", BERT_PAPER, "sections 3 and 3.1",
             "-1/N sum_n log softmax(z_n)[y_n], z of a BERT of two layers, weights by transformers' names",
             bert, bert_gradient, TEXT | {"labels": "(B, T)"} | bert_shapes("words"), tuple(bert_shapes("words")),
             masked_lm_cases(bert_shapes("words"), BERT_SIZES, "bert.embeddings."), {"heads": 2, "eps": 1e-12}),
    Equation("model.bert_features", BERT_PAPER, "section 3", "every feature of the same BERT, from the embeddings up",
             bert_features, bert_features_gradient, TEXT | bert_shapes("words"), tuple(bert_shapes("words")),
             features_cases, {"heads": 2, "eps": 1e-12}, outputs=FEATURES),
    Equation("model.mobilebert", "Sun et al. 2020", "section 3",
             "-1/N sum_n log softmax(z_n)[y_n], z of a MobileBERT of two blocks with two feed-forwards each",
             mobilebert, mobilebert_gradient, TEXT | {"labels": "(B, T)"} | mobilebert_shapes(),
             tuple(mobilebert_shapes()), masked_lm_cases(mobilebert_shapes(), MOBILEBERT_SIZES),
             {"heads": 2, "eps": 1e-12}),
    Equation("model.bilstm", "Tang et al. 2019", "section on the model",
             "-1/B sum_b log softmax(z_b)[y_b], z = relu([h, h'] W + b) W' + b', h and h' the last states of a BiLSTM",
             bilstm, bilstm_gradient, {"ids": "(B, T)", "mask": "(B, T)", "labels": "(B,)"} | bilstm_shapes(),
             tuple(bilstm_shapes()), bilstm_cases),
)
