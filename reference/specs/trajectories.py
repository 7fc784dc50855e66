"""Ten steps of five methods: a student's weights and ten batches in, its losses and its weights at the end out.

The sums: `trajectories.py`. No gradient is asked for: those of ten steps are in the weights at the end. Adam divides a
gradient by its own size, and so makes of rounding in a small one a step like any other: an entry of 1e-9 +- 1e-9 moves
by the whole rate, up or down. Hence eps = 2^-10 here, next to which such an entry is nothing, and a rate of 1/64: what
rounding does to a gradient it does to the step, and not more. kappa is measured as everywhere else.
"""

import numpy as np

from tinydistill_reference.conventions import IGNORED
from tinydistill_reference.equation import Case, Equation
from tinydistill_reference.numbers import lengths_to_mask, poisoned, poisoned_scores
from tinydistill_reference.specs.models import BERT_SIZES, BILSTM_SIZES, LAYERS, bert_shapes, bilstm_shapes, drawn
from tinydistill_reference.trajectories import distilbert, minilm, pkd, tang, tinybert

STEPS, B, A, T, V, D = 10, 2, 2, 5, 13, 8
TEACHER_D, TEACHER_K, CLASSES = 12, 6, 3
OPTIMISER = {"learning_rate": 2.0 ** -6, "warmup": 0, "clip": 0.0, "decay": 0.0, "eps": 2.0 ** -10, "beta1": 0.9,
             "beta2": 0.999}
MAPS = {"tinybert.W_e.weight": "(D', D)", "tinybert.W_h.weight": "(D', D)"}
TEXT = {"ids": "(S, B, T)", "mask": "(S, B, T)", "token_types": "(S, B, T)"}


def trajectory_cases(draw, shapes, sizes, recipe, pairs=True):
    """cases(numbers). draw(numbers, mask) -> {input: array}: what a method reads besides ids, mask and weights."""
    def cases(numbers):
        def case(id, comment, *, padded=True, **settings):
            rows = STEPS * B
            lengths = numbers.integers(2 if padded else T, T + 1, rows)
            mask = lengths_to_mask(lengths, T).reshape(STEPS, B, T)
            batches = {"ids": numbers.integers(1, V, STEPS, B, T), "mask": mask}
            if pairs:
                batches["token_types"] = numbers.integers(0, 2, STEPS, B, T)
            inputs = batches | draw(numbers, mask) | drawn(numbers, shapes, sizes, 0.25)
            return Case(id, comment, inputs, upstream=1.0, **settings)

        yield case("01-plain", "no padding; no warm-up, no clipping, no decay", padded=False)
        yield case("02-recipe", "padding; a warm-up of three steps, gradients clipped, decay", attrs=recipe)
    return cases


def of_rows(numbers, mask, *shape):
    """(S, [layers,] B, T, D) of the teacher, poisoned where mask (S, B, T) is padding."""
    *layers, width = shape
    found = [poisoned(numbers.normal(B, T, width), real) for real in mask for _ in range(*layers or (1,))]
    return np.array(found).reshape(STEPS, *layers, B, T, width)


def of_heads(numbers, mask):
    """(S, B, A, T, K) of the teacher, poisoned."""
    return np.array([poisoned(numbers.normal(B, A, T, TEACHER_K), real) for real in mask])


def scores(numbers, mask):
    """(S, layers, B, A, T, T) of the teacher, poisoned."""
    return np.array([[poisoned_scores(numbers.normal(B, A, T, T), real) for _ in range(LAYERS)] for real in mask])


def masked_labels(numbers, mask):
    """(S, B, T): a word for half of the real tokens and for the first, -100 elsewhere."""
    chosen = mask & (numbers.uniform(*mask.shape) < 0.5)
    chosen[:, 0, 0] = True
    return np.where(chosen, numbers.integers(0, V, *mask.shape), IGNORED)


def classes(numbers, count):
    return {"labels": numbers.integers(0, count, STEPS, B), "teacher_logits": numbers.normal(STEPS, B, count)}


def reads_minilm(numbers, mask):
    return {f"teacher_{name}": of_heads(numbers, mask) for name in ("queries", "keys", "values")}


def reads_tinybert(numbers, mask):
    return {"teacher_embeddings": of_rows(numbers, mask, TEACHER_D),
            "teacher_hidden": of_rows(numbers, mask, LAYERS, TEACHER_D), "teacher_scores": scores(numbers, mask)}


def reads_distilbert(numbers, mask):
    return {"labels": masked_labels(numbers, mask), "teacher_logits": of_rows(numbers, mask, V),
            "teacher_hidden": of_rows(numbers, mask, D)}


def reads_pkd(numbers, mask):
    return classes(numbers, CLASSES) | {"teacher_hidden": of_rows(numbers, mask, LAYERS - 1, D)}


def reads_tang(numbers, mask):
    return classes(numbers, BILSTM_SIZES["C"])


def equation(method, paper, where, formula, forward, reads, weights, draw, clip, sizes=BERT_SIZES, **attrs):
    """reads: the shapes of what draw draws; clip: a norm that some of the steps exceed, and others do not."""
    recipe = {"warmup": 3, "clip": clip, "decay": 0.25}
    text = TEXT if "bert" in "".join(weights) else {name: TEXT[name] for name in ("ids", "mask")}
    outputs = ("losses", *(f"final.{name}" for name in weights))
    return Equation(f"trajectory.{method}", paper, where, formula, forward, None, text | reads | weights, (),
                    trajectory_cases(draw, weights, sizes | {"D'": TEACHER_D}, recipe, text is TEXT), OPTIMISER | attrs,
                    outputs=outputs)


EQUATIONS = (
    equation("minilm", "Wang et al. 2020", "eq. 6 to 10", "ten steps of AdamW on L_AT + L_VR of the last layers",
             minilm, {f"teacher_{name}": "(S, B, A, T, K')" for name in ("queries", "keys", "values")}, bert_shapes(""),
             reads_minilm, 0.875, heads=A),
    equation("tinybert", "Jiao et al. 2020", "eq. 7 to 9",
             "ten steps of AdamW on L_embd + sum_l (L_hidn + L_attn), W_e and W_h trained along", tinybert,
             {"teacher_embeddings": "(S, B, T, D')", "teacher_hidden": "(S, M, B, T, D')",
              "teacher_scores": "(S, M, B, A, T, T)"}, bert_shapes("") | MAPS, reads_tinybert, 5.0, heads=A),
    equation("distilbert", "Sanh et al. 2019", "section 2", "ten steps of AdamW on 5 L_ce + 2 L_mlm + L_cos, T = 2",
             distilbert, {"labels": "(S, B, T)", "teacher_logits": "(S, B, T, V)", "teacher_hidden": "(S, B, T, D)"},
             bert_shapes("words"), reads_distilbert, 8.0, heads=A),
    equation("pkd", "Sun et al. 2019", "section 3", "ten steps of AdamW on (1 - alpha) L_CE + alpha L_DS + beta L_PT",
             pkd, {"labels": "(S, B)", "teacher_logits": "(S, B, C)", "teacher_hidden": "(S, M - 1, B, T, D)"},
             bert_shapes("classes"), reads_pkd, 1.25, heads=A, alpha=0.75, temperature=8.0, beta=0.5),
    equation("tang", "Tang et al. 2019", "section on the distillation objective",
             "ten steps of AdamW on alpha L_CE + (1 - alpha) 1/B sum_b |z^T_b - z^S_b|^2", tang,
             {"labels": "(S, B)", "teacher_logits": "(S, B, C)"}, bilstm_shapes(), reads_tang, 3.0, BILSTM_SIZES,
             alpha=0.25),
)
