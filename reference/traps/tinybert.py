"""TinyBERT: how it has been got wrong, by its authors first."""

import numpy as np

from tinydistill_reference.mistakes import computes, derives, scaled, sets
from tinydistill_reference.tinybert import clamped
from tinydistill_reference.traps.batched import (PADDING_COUNTS, TEXTBREWER, cross_entropy, general, log_softmax,
                                                 of_rows, per_token, rows)

PLM = "https://github.com/huawei-noah/Pretrained-Language-Model/issues/"
CODE = "huawei-noah/Pretrained-Language-Model, TinyBERT/general_distill.py"


# ---------------------------------------------------------------- hidden states and embeddings

def mapped(field):
    """form(weight of rows, of): a forward of L_hidn or L_embd."""
    def form(weight=per_token, of=lambda e: (e * e).mean(axis=2)):
        row_weight = weight

        def forward(mask, weight, **hidden):
            e = hidden[f"student_{field}"] @ weight.T - hidden[f"teacher_{field}"]
            return rows(of(e), mask, row_weight)
        return forward
    return form


def maps(E, field):
    """What is got wrong in one of the two as in the other."""
    def error(inputs, upstream, weight):
        e = inputs[f"student_{field}"] @ inputs["weight"].T - inputs[f"teacher_{field}"]
        return upstream * 2 / e.shape[2] * weight[:, :, None] * e

    def padded_map(right, inputs, attrs, upstream):
        mask = inputs["mask"]
        e = error(inputs, upstream, np.ones(mask.shape) / mask.sum(axis=1, keepdims=True) / len(mask))
        return {"dweight": np.einsum("btd,bte->de", e, inputs[f"student_{field}"])}

    form = mapped(field)
    return of_rows(E, form, lambda i: len(i["weight"])) + general(E, teacher={
        f"dteacher_{field}": lambda right, i, a, u: -error(i, u, per_token(i["mask"]))}) + (
        computes(E, "absolute", "the mean absolute error", "a gradient that does not shrink with the error",
                 "Jiao et al. 2020, equations 8 and 9", form(of=lambda e: (e * np.sign(e.real)).mean(axis=2))),
        computes(E, "rows_norm", "the root of each row's mean square", "far rows count less, near ones more",
                 "Jiao et al. 2020, equations 8 and 9", form(of=lambda e: np.sqrt((e * e).mean(axis=2) + 1e-300))),
        derives(E, "map_frozen", "the map gets no gradient: it stays as it was drawn", "the student learns to fit a "
                "random map", PLM + "44", lambda g, i, a, u: {"dweight": np.zeros_like(g["dweight"])}),
        derives(E, "map_sees_padding", "rows of padding in the gradient of the map", PADDING_COUNTS, "constructed",
                padded_map),
        derives(E, "missing_2", "a backward without the 2 of the square", "half of the learning rate", "constructed",
                lambda g, i, a, u: {name: x / 2 for name, x in g.items()}),
    )


# ---------------------------------------------------------------- attention scores

def both(mask):
    return (mask[:, :, None] & mask[:, None, :])[:, None]                               # (B, 1, T, T)


def scores(seen=lambda z, mask: z, pairs=both, divisor=lambda pairs, A: A * pairs.sum(axis=(2, 3)) * len(pairs)):
    """sum over pairs (seen(A^S) - seen(A^T))^2 / divisor. divisor(pairs (B, 1, T, T), A): of each sequence, (B, 1)."""
    def forward(student_scores, teacher_scores, mask):
        counted, A = pairs(mask), student_scores.shape[1]
        squares = np.where(counted, (seen(student_scores, mask) - seen(teacher_scores, mask)) ** 2, 0)
        return (squares.sum(axis=(2, 3)) / divisor(counted, A)).sum()
    return forward


def everywhere(mask):
    return np.ones((len(mask), 1, mask.shape[1], mask.shape[1]), bool)


def all_pairs(pairs, A):
    return A * pairs.sum()


def below(limit):
    """TextBrewer's clamp: what is `limit` or less becomes 0."""
    return lambda z, mask: np.where(z.real <= limit, 0, z)


def probabilities(z, mask):
    return np.exp(log_softmax(z + np.where(mask, 0.0, -1e30)[:, None, None, :]))


def summed_heads(z, mask):
    return z.sum(axis=1, keepdims=True)


def official(student=lambda z, mask: clamped(z, mask)[0], teacher=lambda z, mask: clamped(z, mask)[0],
             size=lambda mask, A: A * mask.size * mask.shape[1]):
    def forward(student_scores, teacher_scores, mask):
        squares = (student(student_scores, mask) - teacher(teacher_scores, mask)) ** 2
        return squares.sum() / size(mask, student_scores.shape[1])
    return forward


def masked_only(z, mask):
    """Padded keys are 0, and no real score is."""
    return np.where(mask[:, None, None, :], z, 0)


def rows_too(z, mask):
    """Clamped, with rows of padding made 0, too."""
    return clamped(np.where(both(mask), z, 0), mask)[0]


def above(z, mask):
    """Clamped at -0.001."""
    return below(-1e-3)(clamped(z, mask)[0], mask)


def through_the_clamp(right, inputs, attrs, upstream):
    """2 (c(A^S) - c(A^T)) / size for every entry, whether it was set to 0 or not."""
    e = clamped(inputs["student_scores"], inputs["mask"])[0] - clamped(inputs["teacher_scores"], inputs["mask"])[0]
    return {"dstudent_scores": upstream * 2 * e / e.size}


def minus(right, inputs, attrs, upstream):
    return -right["dstudent_scores"]


def teachers_clamp(right, inputs, attrs, upstream):
    (s, _), (t, kept) = (clamped(inputs[f"{side}_scores"], inputs["mask"]) for side in ("student", "teacher"))
    return np.where(kept, upstream * 2 * (t - s) / s.size, 0)


A, O = "tinybert.attention", "tinybert.attention_official"
ATTENTION = general(A, teacher={"dteacher_scores": minus}) + (
    computes(A, "after_softmax", "the attention distributions in the place of the scores", "squares of small numbers: "
             "slower, as the paper found", "https://github.com/huggingface/transformers/issues/3040",
             scores(probabilities)),
    computes(A, "no_mask", "a mean over all entries, padding included", PADDING_COUNTS,
             "aitsc/GLMKD distill/distill_model.py TinyBERT",
             scores(pairs=everywhere, divisor=all_pairs)),
    computes(A, "official_clamp", "the published code: -10000 at padded keys, then 0 for what is -100 or less",
             PADDING_COUNTS + "; a real score of -100 teaches nothing", CODE, official()),
    computes(A, "clamp_at_0", "what is -0.001 or less becomes 0, in a mean over all entries", "nearly every negative "
             "score is thrown away", TEXTBREWER + " att_mse_loss without a mask",
             scores(below(-1e-3), everywhere, divisor=all_pairs)),
    computes(A, "sum_over_heads", "a sum over heads and pairs, divided by the pairs of all sequences", "A times too "
             "large, and a long sequence weighs more", TEXTBREWER + " att_mse_loss with a mask",
             scores(divisor=lambda pairs, A: pairs.sum())),
    computes(A, "heads_summed_first", "the sum of the heads is compared", "the student need not have any head of the "
             "teacher's", TEXTBREWER + " att_mse_sum_loss", scores(summed_heads, divisor=lambda pairs, A: pairs.sum())),
    computes(A, "rows_only", "rows of padding are left out, padded keys are not", PADDING_COUNTS, "constructed",
             scores(pairs=lambda mask: np.broadcast_to(mask[:, None, :, None], everywhere(mask).shape))),
    computes(A, "keys_only", "padded keys are left out, rows of padding are not", PADDING_COUNTS,
             "constructed", scores(pairs=lambda mask: np.broadcast_to(mask[:, None, None, :], everywhere(mask).shape))),
    computes(A, "mean_incl_pad", "padding counts as 0: a division by T^2 in the place of |x|^2", "short sequences "
             "hardly count", "https://github.com/ServiceNow/Fast-LLM/issues/344",
             scores(divisor=lambda pairs, A: A * pairs.size)),
    computes(A, "by_length_once", "a division by |x| in the place of |x|^2", "long sequences weigh more", "constructed",
             scores(divisor=lambda pairs, A: A * np.sqrt(pairs.sum(axis=(2, 3))) * len(pairs))),
    derives(A, "missing_2", "a backward without the 2 of the square", "half of the learning rate", "constructed",
            lambda g, i, a, u: {name: x / 2 for name, x in g.items()}),
)
OFFICIAL = general(O, teacher={"dteacher_scores": teachers_clamp}) + (
    computes(O, "masked_not_clamped", "padded keys become 0, and no real score does", "none for scores above -100; "
             "another loss where a head ignores a token", "Jiao et al. 2020, equation 7",
             official(masked_only, masked_only)),
    computes(O, "rows_masked_too", "padding becomes 0 as row, too", "the paper's pairs, divided by all entries",
             "constructed",
             official(rows_too, rows_too)),
    computes(O, "clamp_at_0", "a limit of -0.001 in the place of -100", "nearly every negative score is thrown away",
             TEXTBREWER + " att_mse_loss", official(lambda z, mask: below(-1e-3)(clamped(z, mask)[0], mask),
                                                    lambda z, mask: below(-1e-3)(clamped(z, mask)[0], mask))),
    computes(O, "no_mask", "a clamp without the mask", "padded keys are compared", PLM + "90",
             official(below(-100), below(-100))),
    computes(O, "student_clamped", "only the student's scores are clamped", "what the teacher has at padded keys is a "
             "loss that nothing can lower", "constructed", official(teacher=lambda z, mask: z)),
    computes(O, "real_pairs", "the sum over entries, divided by the pairs of real tokens", "larger, the more padding "
             "there is", "constructed", official(size=lambda mask, A: A * (mask.sum(axis=1) ** 2).sum())),
    derives(O, "through_the_clamp", "a backward that does not know of the clamp", "scores of -100 and less, and padded "
            "keys, get a gradient", "constructed", through_the_clamp),
    derives(O, "missing_2", "a backward without the 2 of the square", "half of the learning rate", "constructed",
            lambda g, i, a, u: {name: x / 2 for name, x in g.items()}),
)


# ---------------------------------------------------------------- prediction

def rows_of_logits(student=lambda z, t: z / t, teacher=lambda z, t: z / t, each=cross_entropy):
    def forward(student_logits, teacher_logits, temperature):
        log_p = log_softmax(teacher(teacher_logits, temperature))
        return each(log_p, log_softmax(student(student_logits, temperature))).sum() / len(student_logits)
    return forward


def hard_targets(student_logits, teacher_logits, temperature):
    log_q = log_softmax(student_logits / temperature)
    return -log_q[np.arange(len(log_q)), teacher_logits.real.argmax(axis=1)].mean()


def by_teacher(right, inputs, attrs, upstream):
    """The derivative of -sum p log q by the teacher's logits: p (f - <p, f>) / t, f = -log q."""
    t = attrs["temperature"]
    p, f = np.exp(log_softmax(inputs["teacher_logits"] / t)), -log_softmax(inputs["student_logits"] / t)
    return upstream / len(p) * p * (f - (p * f).sum(axis=1, keepdims=True)) / t


P, T_HERE = "tinybert.prediction", "another weight as soon as t is not 1, which the paper's is"
PREDICTION = general(P, teacher={"dteacher_logits": by_teacher}) + (
    sets(P, "kl_not_ce", "the teacher's entropy is subtracted", "the same gradient, another value",
         "Jiao et al. 2020, equation 10", constant="kl"),
    sets(P, "T2", "a factor t^2", T_HERE, "Hinton et al. 2015, section 2", temperature_squared=True),
    computes(P, "temperature_of_student", "t divides the student's logits only", "the student is taught to be t times "
             "as sure", PLM + "11", rows_of_logits(teacher=lambda z, t: z)),
    computes(P, "temperature_of_teacher", "t divides the teacher's logits only", "the student is taught to be less "
             "sure than its teacher", "constructed", rows_of_logits(student=lambda z, t: z)),
    computes(P, "times_temperature", "t multiplies the logits", "the higher t, the harder the targets",
             "google-research/google-research mobilebert/run_pretraining.py distill_temperature",
             rows_of_logits(lambda z, t: z * t, lambda z, t: z * t)),
    computes(P, "no_log", "probabilities where their logarithms belong", "a gradient that vanishes where the student "
             "is sure, and wrong", "https://github.com/microsoft/ProDA/issues/20",
             rows_of_logits(each=lambda log_p, log_q: -np.exp(log_p) * np.exp(log_q))),
    computes(P, "reverse_ce", "the teacher's log-probabilities under the student's probabilities", "the student "
             "becomes sure of the teacher's first choice", "https://github.com/paiml/aprender/pull/2153",
             rows_of_logits(each=lambda log_p, log_q: -np.exp(log_q) * log_p)),
    computes(P, "hard_targets", "the teacher's first choice in the place of its distribution", "no dark knowledge",
             "Jiao et al. 2020, equation 10", hard_targets),
    derives(P, "bwd_missing_1_over_T", "a backward of q - p without 1/t", T_HERE, "Hinton et al. 2015, section 2",
            lambda g, i, a, u: {"dstudent_logits": g["dstudent_logits"] * a["temperature"]}),
    scaled(P, "sum_over_batch", "a sum over the rows", "the learning rate grows with the batch", "constructed",
           value=lambda i, a: len(i["student_logits"]), gradient=lambda i, a: len(i["student_logits"])),
)
TRAPS = maps("tinybert.embedding", "embeddings") + maps("tinybert.hidden", "hidden") + ATTENTION + OFFICIAL + PREDICTION
