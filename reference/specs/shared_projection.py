"""Shared projections: cases. The sums: `shared_projection.py`."""

import numpy as np

from tinydistill_reference.conventions import IGNORED
from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.shared_projection import (down, down_gradient, matrix, mixed_masked_lm,
                                                     mixed_masked_lm_gradient, projected, up, up_gradient)

ZHAO = "Zhao et al. 2019"
CONVENTIONS = {"paper": Convention({}, ZHAO + " (unverified, from memory)")}
STUDENT, TEACHER, WORDS = 3, 5, 7                   # widths, and a vocabulary
SHAPES = {                                          # of each weight, in units of the width; WORDS where it is None
    "query": (1, 1), "intermediate": (4, 1), "output": (1, 4), "bias": (1,), "intermediate_bias": (4,),
    "words": (None, 1), "decoder_bias": (None,)}


def weights(side, width, numbers, scale=1.0):
    """{side_role: weight} of a small model."""
    return {f"{side}_{role}": numbers.normal(*[WORDS if k is None else k * width for k in shape], scale=scale)
            for role, shape in SHAPES.items()}


def weight_cases(loss):
    """The weights of a small model, and the maps of L_d ("down") or L_u ("up")."""
    shape = (STUDENT, TEACHER) if loss == "down" else (TEACHER, STUDENT)

    def cases(numbers):
        def case(id, comment, *, student=None, teacher=None, maps=1.0, scale=1.0, changes=None, **settings):
            arrays = weights("student", STUDENT, numbers, scale) if student is None else student
            arrays = arrays | (weights("teacher", TEACHER, numbers) if teacher is None else teacher)
            u, v = numbers.normal(*shape, scale=maps), numbers.normal(*shape[::-1], scale=maps)
            return Case(id, comment, arrays | {"u": u, "v": v} | (changes or {}), **settings)

        yield case("01-plain", "an upstream gradient of 1", upstream=1.0)
        yield case("02-upstream", "an upstream gradient of -2.5")
        yield case("03-no-maps", "maps of zeros: what is left is the weights' squares", maps=0.0)
        yield case("04-small", "a student near 0", scale=2.0 ** -10)
        yield case("05-large", "a student 40 times as large", scale=40.0, min_dtype="float32")
        yield case("06-zero", "a student of zeros", scale=0.0)
        yield fitting(case, numbers)
        yield case("20-shapes", "a weight that no whole blocks of the map fit", result="error",
                   error="(?i)shape|block|fit|width|size|matmul", changes={"teacher_query": numbers.normal(6, 6)})

    def fitting(case, numbers):
        """Maps that choose rows and columns, so that every number is exact."""
        u, v = np.eye(*shape), np.eye(*shape[::-1])
        side, width, other, wanted = ("teacher", TEACHER, "student", STUDENT) if loss == "down" else \
            ("student", STUDENT, "teacher", TEACHER)
        moved, fits = weights(side, width, numbers), weights(other, wanted, numbers)
        for role in SHAPES:
            w = fits[f"{other}_{role}"]
            fits[f"{other}_{role}"] = projected(matrix(moved[f"{side}_{role}"]), matrix(w).shape, u, v).reshape(w.shape)
        sides = {side: moved, other: fits}
        return case("07-equal", "a projection that is right: 0", student=sides["student"], teacher=sides["teacher"],
                    changes={"u": u, "v": v})
    return cases


def mixed_cases(numbers):
    """Logits over two vocabularies that share two words."""
    N, V = 5, 11
    first, second = np.arange(V) < 7, np.arange(V) >= 5
    own, labels = np.array([first, second, second, first, second]), np.array([3, 9, 5, IGNORED, 10])

    def case(id, comment, *, scale=1.0, offset=0.0, own=own, labels=labels, **settings):
        logits = numbers.normal(N, V, scale=scale, offset=offset)
        return Case(id, comment, {"teacher_logits": logits, "labels": labels, "own": own}, **settings)

    yield case("01-plain", "every row has a label, an upstream gradient of 1", labels=np.array([3, 9, 5, 0, 10]),
               upstream=1.0)
    yield case("02-ignored", "a row without a label")
    yield case("03-large", "logits x 40: probabilities that underflow in float32", scale=40.0, min_dtype="float32")
    yield case("04-offset", "logits near 300", offset=300.0, min_dtype="float32")
    yield case("05-one", "one vocabulary of all words", own=np.ones((N, V), bool))
    yield case("06-few", "one label in the batch", labels=np.array([IGNORED, IGNORED, 6, IGNORED, IGNORED]))


SIDES = {f"{side}_{role}": str(tuple("V" if k is None else (letter if k == 1 else f"{k} {letter}") for k in shape))
         .replace("'", "").replace("`", "'") for side, letter in (("student", "D`"), ("teacher", "D"))
         for role, shape in SHAPES.items()}
LEARNED = tuple(name for name in SIDES if name.startswith("student")) + ("u", "v")


def of_weights(name, where, formula, forward, gradient, maps):
    return Equation(f"shared_projection.{name}", ZHAO, where, formula, forward, gradient, SIDES | maps, LEARNED,
                    weight_cases(name), {}, CONVENTIONS)


EQUATIONS = (
    of_weights("down", "eq. of L_d (unverified)", "sum_W |U W^T V - W^S|^2", down, down_gradient,
               {"u": "(D', D)", "v": "(D, D')"}),
    of_weights("up", "eq. of L_u (unverified)", "sum_W |W^T - U W^S V|^2", up, up_gradient,
               {"u": "(D, D')", "v": "(D', D)"}),
    Equation("shared_projection.mixed_masked_lm", ZHAO, "section on mixed vocabularies",
             "-1/N sum_n log softmax_own(n)(z_n)[label_n]", mixed_masked_lm, mixed_masked_lm_gradient,
             {"teacher_logits": "(N, V)", "labels": "(N,)", "own": "(N, V)"}, ("teacher_logits",), mixed_cases, {},
             {"paper": Convention({}, "Devlin et al. 2019: the mean over the labels")}),
)
