"""Soft labels: conventions and cases. The sums: `soft_labels.py`."""

import numpy as np

from tinydistill_reference.conventions import IGNORED
from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.numbers import lengths_to_mask, poisoned
from tinydistill_reference.soft_labels import (logits_mse, logits_mse_gradient, soft_labels, soft_labels_gradient, span,
                                               span_gradient)

DISTILBERT = "huggingface/transformers-research-projects distillation/"
CLASSES = {
    "paper": Convention({}, "Hinton et al. 2015"),
    "distilbert": Convention({}, DISTILBERT + "distiller.py: KLDivLoss of flattened rows, batchmean, times T^2"),
    "textbrewer": Convention({"temperature_squared": False, "constant": "cross-entropy"},
                             "airaria/TextBrewer losses.py kd_ce_loss"),
    "tinybert": Convention({"divisor": "element", "temperature_squared": False, "constant": "cross-entropy"},
                           "huawei-noah/Pretrained-Language-Model TinyBERT/task_distill.py soft_cross_entropy"),
    "pkd": Convention({"divisor": "element"},
                      "intersun/PKD-for-BERT-Model-Compression src/KD_loss.py: KLDivLoss, mean"),
    "torchdistill": Convention({"temperature_squared": False}, "torchdistill KDLoss without hard labels"),
}
LABELLED = Convention({"rows": "labelled"}, DISTILBERT + "distiller.py --restrict_ce_to_mask")
LOGITS = {
    "paper": Convention({}, "Tang et al. 2019 (unverified)"),
    "official": Convention({"divisor": "element"}, "castorini/d-bert: MSELoss, a mean over B C"),
    "textbrewer": Convention({"divisor": "element"}, "airaria/TextBrewer losses.py kd_mse_loss: of logits over T"),
}
SPAN = {
    "paper": Convention({}, "Sanh et al. 2019, with padding left out"),
    "official": Convention({"keys": "all"}, DISTILBERT + "run_squad_w_distillation.py: softmax over padding too"),
}


def logits_cases(numbers, shape=(3, 7, 11), masked=True, labelled=False, temperatures=(0.5, 1.0, 3.0)):
    """Pairs of logits: what distinguishes right from wrong in anything that compares two distributions."""
    mask = lengths_to_mask((7, 4, 2), 7) if masked else None
    rows, hot = shape[:-1], {"temperature": temperatures[-1]} if temperatures else {}

    def case(id, comment, *, scale=1.0, offset=0.0, mask=mask, student=None, teacher=None, share=0.5, **settings):
        s = numbers.normal(*shape, scale=scale, offset=offset) if student is None else student
        t = numbers.normal(*shape, scale=scale) if teacher is None else teacher
        inputs = {"student_logits": s, "teacher_logits": t}
        if masked:
            inputs = {name: poisoned(x, mask) for name, x in inputs.items()} | {"mask": mask}
        if labelled:
            labels = numbers.integers(0, shape[-1], *rows)
            labels[0, 0] = 0                        # a label like others
            seen = (numbers.uniform(*rows) < share) & (True if mask is None else mask)
            seen[0, 0] = share > 0
            inputs["labels"] = np.where(seen, labels, IGNORED)
        return Case(id, comment, inputs, **settings)

    full = np.ones(rows, bool) if masked else None
    yield case("01-plain", "no padding, an upstream gradient of 1", mask=full, upstream=1.0)
    yield case("02-upstream", "padding on the right (7, 4 and 2 of 7 tokens)" if masked else "upstream -2.5")
    for i, t in enumerate(temperatures):
        yield case(f"0{i + 3}-T-{t:g}", f"T = {t:g}", attrs={"temperature": t})
    same = numbers.normal(*shape)
    yield case("06-equal", "teacher and student are equal: a divergence is 0", student=same, teacher=same, attrs=hot)
    yield case("07-large", "logits x 40: probabilities that underflow in float32", scale=40.0, min_dtype="float32")
    yield case("08-offset", "the student's logits 300 higher: a softmax does not see it", offset=300.0,
               min_dtype="float32")
    sure = np.zeros(shape)
    sure[..., -1] = 60.0
    yield case("09-sure", "a teacher that is sure of the last class", teacher=sure, attrs=hot)
    if masked:
        yield case("10-left", "padding on the left", mask=mask[:, ::-1].copy(), attrs=hot)
        yield case("11-one", "one real token a sequence", mask=lengths_to_mask((1, 1, 1), 7))
    if labelled:
        yield case("12-no-label", "no token has a label: 0, or 0 / 0", share=0.0, result="acceptable",
                   accepted=("nan",))
    if temperatures:
        yield case("20-no-temperature", "T = 0", attrs={"temperature": 0.0}, result="error", error="(?i)temperature")
    yield case("21-shapes", "teacher's logits of another shape", result="error", error="(?i)shape|teacher|size",
               teacher=numbers.normal(*shape[:-1], shape[-1] - 1))
    if masked:
        yield case("22-no-row", "a mask without a real token", mask=np.zeros(rows, bool), result="error",
                   error="(?i)mask")


def classes_cases(numbers):
    """Rows are sequences, and all of them count."""
    return logits_cases(numbers, (5, 11), masked=False)


def labelled_cases(numbers):
    """Tokens, of which some have a label."""
    return logits_cases(numbers, labelled=True)


def span_cases(numbers):
    """Start and end of an answer, over the positions of a sequence."""
    return logits_cases(numbers, (3, 7, 2), temperatures=(0.5, 1.0, 2.0))


KL = "T^2 1/N sum_n KL(p_n || q_n), p = softmax(teacher / T), q = softmax(student / T)"


def equation(name, cases, shapes, conventions, paper="Hinton et al. 2015", where="section 2", formula=KL,
             forward=soft_labels, gradient=soft_labels_gradient, **attrs):
    """An equation whose gradient goes to the student's logits; attrs: a temperature of 1 where none is given."""
    return Equation(name, paper, where, formula, forward, gradient, shapes, ("student_logits",), cases,
                    attrs or {"temperature": 1.0}, conventions)


PAIR = {"student_logits": "(B, C)", "teacher_logits": "(B, C)"}
TOKENS = {"student_logits": "(B, T, V)", "teacher_logits": "(B, T, V)", "mask": "(B, T)"}
WITH_LABELS = TOKENS | {"labels": "(B, T)"}
EQUATIONS = (
    equation("soft_labels.classes", classes_cases, PAIR, CLASSES),
    equation("soft_labels.tokens", labelled_cases, WITH_LABELS, CLASSES | {"labelled": LABELLED}),
    equation("soft_labels.masked", labelled_cases, WITH_LABELS,
             {"paper": Convention({"rows": "labelled"}, "Wang et al. 2020, section 4.3, the MLM-KD baseline"),
              "distilbert": CLASSES["distilbert"]}, "Wang et al. 2020", "section 4.3, MLM-KD"),
    equation("soft_labels.logits_mse", classes_cases, PAIR, LOGITS, "Tang et al. 2019",
             "section on the distillation objective", "1/N sum_n |(z^S_n - z^T_n) / T|^2", logits_mse,
             logits_mse_gradient),
    equation("soft_labels.span", span_cases, TOKENS, SPAN, "Sanh et al. 2019", "section on SQuAD",
             "1/B sum_b 1/2 (T^2 KL_start + T^2 KL_end), each over the real positions", span, span_gradient,
             temperature=2.0),
)
