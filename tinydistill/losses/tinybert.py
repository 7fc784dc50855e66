"""TinyBERT: Transformer distillation (Jiao et al. 2020). As printed, sum by sum: `reference/tinybert.py`.

    L_attn = 1/A sum_a MSE(A_a^S, A_a^T)            A = Q K^T / sqrt(K), before mask and softmax        eq. 7
    L_hidn = MSE(H^S W_h, H^T)                      of each pair of layers                              eq. 8
    L_embd = MSE(E^S W_e, E^T)                      of the embeddings                                   eq. 9
    L_pred = CE(z^T / t, z^S / t)                   soft cross-entropy, t = 1                           eq. 10

MSE is the mean over all entries of one sequence without padding, a batch the mean over its sequences. Head counts are
equal; W_e and W_h map the student's width to the teacher's, without bias. Published code has one `fit_dense` with bias
for embeddings and hidden states together: `term.but(projection="tinybert.fit_dense", projection_bias=True)`; its
released v2 weights have one for each hidden state, which is `projection_each`.
"""

from tinydistill import ops
from tinydistill.backend import xp_of
from tinydistill.losses import soft_labels
from tinydistill.losses.convention import PAPER, Convention
from tinydistill.losses.logit_rows import sequence_rows
from tinydistill.losses.rows import check_map, check_tokens, mean_squares, only_counted
from tinydistill.losses.term import Term

CODE = "huawei-noah/Pretrained-Language-Model, TinyBERT/"
PAPER_ROWS = PAPER.but(source="Jiao et al. 2020, equations 7 to 9, with padding left out")
MEAN_OF_ALL = Convention(rows="all", keys="all", divisor="element",
                         source=CODE + "general_distill.py and task_distill.py: MSELoss, padding included")
CONVENTIONS = {"paper": PAPER_ROWS, "official": MEAN_OF_ALL}
SCORES = {"paper": PAPER_ROWS,
          "pairs": PAPER.but(divisor="element", source="no project by name: one mean over all pairs of real tokens")}
SOFT = Convention(divisor="row", temperature_squared=False, constant="cross-entropy",
                  source="Jiao et al. 2020, equation 10")
PREDICTION = {"paper": SOFT, "official": soft_labels.CONVENTIONS["tinybert"]}


def hidden_transfer(student_hidden, teacher_hidden, mask, weight=None, bias=None, *, convention=PAPER, divisor=None):
    """L_hidn of one pair of layers, and L_embd: the teacher's hidden states, through a learned map.

    Equation: 8 and 9, 1/B sum_b 1/(n_b D) sum_{t <= n_b} sum_d (student W^T + bias - teacher)_btd^2, n_b = mask.sum(1),
    D the teacher's width, B the divisor; 1/(B T D) over all rows in `official`.
    Shapes: hidden (B, T, D), each with its own D; weight (D of the teacher, D of the student), W_h transposed, or None
    where widths are equal; bias (D of the teacher,) or None; mask (B, T), True at real tokens.
    Units: squared hidden units (no nats); per sequence, then batch mean.
    Gradient: the student, weight and bias, by 2 (student W^T + bias - teacher) / (D n_b B); exactly 0 from padding.
    Raises: ValueError where shapes do not fit, or a sequence has no real token.
    Source: Jiao et al. 2020, equations 8 and 9. Published code counts padding, and has one map with bias for all layers
    (huawei-noah/Pretrained-Language-Model, TinyBERT/general_distill.py and transformer/modeling.py, `fit_dense`).

    >>> import numpy as np; from tinydistill import Tensor
    >>> student, teacher = np.array([[[1.0], [2.0]]]), np.array([[[3.0, 0.0], [4.0, 1.0]]])     # widths 1 and 2
    >>> weight = Tensor(np.array([[2.0], [1.0]]), requires_grad=True)
    >>> hidden_transfer(student, teacher, np.ones((1, 2), bool), weight).item()     # (1 + 1 + 0 + 1) / 4
    0.75
    """
    check_tokens(student_hidden, teacher_hidden, mask)
    student_hidden = only_counted(student_hidden, mask, convention)
    if weight is not None:
        check_map(student_hidden, teacher_hidden, weight, bias)
        student_hidden = ops.linear(student_hidden, weight, bias)
    return mean_squares(student_hidden, teacher_hidden, mask, convention, divisor)


def attention_transfer(student_scores, teacher_scores, mask, *, convention=PAPER, divisor=None):
    """L_attn of one pair of layers: the teacher's attention scores, not their softmax.

    Equation: 7, 1/B sum_b 1/(A n_b^2) sum_a sum_{t, s <= n_b} (student - teacher)_bats^2, n_b = mask.sum(1), B the
    divisor; 1/(A sum_b n_b^2) per "pairs".
    Shapes: scores (B, A, T, T), scaled, before mask and softmax; mask (B, T), True at real tokens.
    Units: squared scores (no nats); per sequence, then batch mean.
    Gradient: the student alone, 2 (student - teacher) / (A n_b^2 B), exactly 0 in padded rows and at padded keys.
    Raises: ValueError where shapes do not fit, heads among them, or a sequence has no real token.
    Source: Jiao et al. 2020, equation 7. Published code is `attention_transfer_official`.

    >>> import numpy as np
    >>> student, teacher = np.array([[[[1.0, 2.0], [3.0, 4.0]]]]), np.zeros((1, 1, 2, 2))       # one head, two tokens
    >>> attention_transfer(student, teacher, np.ones((1, 2), bool)).item()          # (1 + 4 + 9 + 16) / 4
    7.5
    """
    A = _heads(student_scores, teacher_scores, mask)
    seen = mask if convention.keys == "real" else xp_of(mask).ones_like(mask)           # (B, T): keys
    if convention.divisor == "element":
        divisor = pairs(mask, convention) if divisor is None else divisor
        weight = convention.counted(mask).astype(student_scores.dtype) / divisor        # (B, T): rows
    else:
        keys = xp_of(mask).maximum(seen.sum(axis=1), 1).astype(student_scores.dtype)    # (B,): n_b
        weight = convention.row_weights(mask, divisor, student_scores.dtype) / keys[:, None]
    student, teacher = (ops.masked(scores, mask=seen[:, None, None, :]) for scores in (student_scores, teacher_scores))
    return ops.squared_error(student, teacher, weight=weight[:, None, :] / A)


def attention_transfer_official(student_scores, teacher_scores, mask, divisor=None):
    """L_attn as published code computes it: padding zeroed as keys by a clamp, and counted everywhere.

    Equation: 1/(A B T^2) sum_bats (c(student) - c(teacher))^2, c(x) = x - 10000 [s is padding], and 0 where that is
    -100 or less; the divisor is B T^2.
    Shapes: scores (B, A, T, T), scaled, before mask and softmax; mask (B, T), True at real tokens.
    Units: squared scores (no nats); mean over all entries, so that the same sequence is worth less with more padding.
    Gradient: the student alone, 2 (student - teacher) / (A B T^2) where its entry was not zeroed; padded rows have one.
    Source: huawei-noah/Pretrained-Language-Model, TinyBERT/general_distill.py and task_distill.py. The clamp takes real
    scores of -100 and less too. Equal to equation 7 for a batch without padding and without such scores.

    >>> import numpy as np
    >>> student, teacher = np.array([[[[1.0, 2.0], [3.0, -200.0]]]]), np.zeros((1, 1, 2, 2))
    >>> attention_transfer_official(student, teacher, np.array([[True, True]])).item()      # (1 + 4 + 9 + 0) / 4
    3.5
    >>> attention_transfer_official(student, teacher, np.array([[True, False]])).item()     # (1 + 0 + 9 + 0) / 4
    2.5
    """
    _heads(student_scores, teacher_scores, mask)
    student, teacher = (_clamped(scores, mask) for scores in (student_scores, teacher_scores))
    return attention_transfer(student, teacher, mask, convention=MEAN_OF_ALL, divisor=divisor)


def prediction_transfer(student_logits, teacher_logits, mask, *, temperature=1.0, convention=SOFT, divisor=None):
    """L_pred: the teacher's prediction as soft targets.

    Equation: 10, -1/N sum_n sum_c softmax(teacher/t)_nc log softmax(student/t)_nc over the N rows that count, N the
    divisor, t the temperature; no t^2. 1/(N C) in `official`.
    Shapes: logits (N, C), a row for each sequence; mask (N,), True at rows that count.
    Units: nats, of a cross-entropy: never below the teacher's entropy.
    Gradient: the student alone, (q - p) / (t N). Raises: ValueError where shapes do not fit.
    Source: Jiao et al. 2020, equation 10, t = 1. Published code is C times smaller (huawei-noah/
    Pretrained-Language-Model, TinyBERT/task_distill.py `soft_cross_entropy`), and takes STS-B's gold score as target.

    >>> import numpy as np
    >>> student, teacher = np.zeros((2, 4)), np.array([[5.0, 1.0, 0.0, 2.0]] * 2)
    >>> round(prediction_transfer(student, teacher, np.ones(2, bool)).item(), 6)            # log 4
    1.386294
    """
    return soft_labels.soft_labels(student_logits, teacher_logits, mask, temperature=temperature, convention=convention,
                                   divisor=divisor)


def pairs(mask, convention):
    """How many pairs of a row and a key count in the batch."""
    keys = mask if convention.keys == "real" else xp_of(mask).ones_like(mask)
    return int((convention.counted(mask).sum(axis=1) * keys.sum(axis=1)).sum())


def _heads(student, teacher, mask):
    """A, after a look at the shapes."""
    if mask.dtype != bool:
        raise ValueError(f"need a mask of bool, True at real tokens; got {mask.dtype}")
    if student.shape != teacher.shape or mask.shape + mask.shape[1:] != student.shape[:1] + student.shape[2:]:
        raise ValueError(f"need the same (B, A, T, T), heads included: student {student.shape}, "
                         f"teacher {teacher.shape}, mask {mask.shape}")
    return student.shape[1]


def _clamped(scores, mask):
    """Scores with -10000 added at padded keys, and then 0 for all that are -100 or less."""
    added = xp_of(mask).where(mask, 0.0, -10000.0)[:, None, None, :].astype(scores.dtype)
    lowered = ops.add(scores, added)
    return ops.masked(lowered, mask=~(lowered.array <= -100.0))


def _count_pairs(term, batch):
    return pairs(batch.mask, term.rule) if term.rule.divisor == "element" else term.rule.divides_by(batch.mask)


def _embedding(term, student, teacher, batch, divisor, projections):
    return term.over_pairs(lambda s, t, *learned: hidden_transfer(
        student.embeddings, teacher.embeddings, batch.mask, *learned, convention=term.rule, divisor=divisor),
        projections)


def _hidden(term, student, teacher, batch, divisor, projections):
    return term.over_pairs(lambda s, t, *learned: hidden_transfer(
        student.hidden[s], teacher.hidden[t], batch.mask, *learned, convention=term.rule, divisor=divisor),
        projections)


def _attention(term, student, teacher, batch, divisor, projections):
    return term.over_pairs(lambda s, t: attention_transfer(
        student.scores[s], teacher.scores[t], batch.mask, convention=term.rule, divisor=divisor))


def _attention_official(term, student, teacher, batch, divisor, projections):
    return term.over_pairs(lambda s, t: attention_transfer_official(
        student.scores[s], teacher.scores[t], batch.mask, divisor))


def _prediction(term, student, teacher, batch, divisor, projections):
    return prediction_transfer(student.logits, teacher.logits, sequence_rows(batch)[0], temperature=term.temperature,
                               convention=term.rule, divisor=divisor)


JIAO, SCORES_READ = "Jiao et al. 2020", {"reads": ("scores",), "teacher_reads": ("scores",)}
embedding = Term("tinybert.embedding", _embedding, reads=("embeddings",), teacher_reads=("embeddings",), paper=JIAO,
                 equation="eq. 9", conventions=CONVENTIONS, projection="tinybert.W_e")
hidden = Term("tinybert.hidden", _hidden, reads=("hidden",), teacher_reads=("hidden",), paper=JIAO, equation="eq. 8",
              conventions=CONVENTIONS, projection="tinybert.W_h")
attention = Term("tinybert.attention", _attention, _count_pairs, **SCORES_READ, paper=JIAO, equation="eq. 7",
                 conventions=SCORES)
attention_official = Term("tinybert.attention_official", _attention_official, _count_pairs, **SCORES_READ, paper=JIAO,
                          equation="eq. 7", conventions={"official": MEAN_OF_ALL}, convention="official",
                          notes="-10000 at padded keys, then what is -100 or less becomes 0")
prediction = Term("tinybert.prediction", _prediction, soft_labels.count_sequences, **soft_labels.READS, paper=JIAO,
                  equation="eq. 10", conventions=PREDICTION)
