"""MobileBERT: feature map and attention transfer, layer by layer, then pre-training distillation (Sun et al. 2020).

    L_FMT = 1/(T N) sum_t sum_n (H^T_tn - H^S_tn)^2             feature maps of N numbers a token
    L_AT  = 1/(T A) sum_t sum_a KL(a^T_at || a^S_at)            attention distributions
    L_PD  = 1/2 CE(labels) + 1/2 CE(teacher)                    at masked tokens

As printed, sum by sum: `reference/mobilebert.py`; L_FMT and L_AT are unverified, written from memory of the paper. The
published code compares feature maps in three terms, one for what a layer norm leaves and two for what it takes out:

    mean_t |LN(H^T_t) - LN(H^S_t)|^2 / N         mean_t (mean_t^T - mean_t^S)^2         mean_t |var_t^T - var_t^S|

Student and teacher have as many layers, one beside the other, and the same width between blocks. The code's weights are
100, 5000, 5 and 1 (attention), each sum over layers over the number of layers. Next-sentence prediction is not here.
"""

from tinydistill import ops
from tinydistill.backend import xp_of
from tinydistill.features import IGNORED
from tinydistill.losses.convention import PAPER, Convention
from tinydistill.losses.logit_rows import at_positions
from tinydistill.losses.rows import check_rows, mean_squares, only_counted
from tinydistill.losses.relations import check_relations, relation_kl
from tinydistill.losses.term import Term

CODE = "google-research/google-research mobilebert/run_pretraining.py"
OFFICIAL = Convention(rows="all", divisor="element", source=CODE + ": means over every element, padding included")
CONVENTIONS = {"paper": PAPER.but(source="Sun et al. 2020 (unverified), with padding left out")}
AS_RUN = {"paper": PAPER.but(source="the published code's terms, with padding left out"), "official": OFFICIAL}
ATTENTION = {"paper": CONVENTIONS["paper"],
             "official": Convention(rows="all", divisor="row", constant="cross-entropy", source=CODE + ": mean over "
                                    "B, A and T, padded rows included, the teacher's entropy not subtracted")}
LABELLED = Convention(rows="labelled", divisor="row", constant="cross-entropy",
                      source="Sun et al. 2020 (unverified): the mean over masked tokens")
PRETRAINING = {"paper": LABELLED,
               "official": LABELLED.but(epsilon=1e-5, source=CODE + ": divided by their number + 1e-5")}
EPS = 1e-12                                         # of the layer norm without scale and shift


def feature_map_transfer(student_hidden, teacher_hidden, mask, *, convention=PAPER, divisor=None):
    """L_FMT of one layer: the teacher's feature map as it is.

    Equation: 1/B sum_b 1/(n_b N) sum_{t <= n_b} sum_n (student - teacher)_btn^2, n_b = mask.sum(1), B the divisor.
    Shapes: hidden (B, T, N), equal; mask (B, T), True at real tokens.
    Units: squared hidden units (no nats); per sequence, then batch mean.
    Gradient: the student alone, 2 (student - teacher) / (N n_b B); exactly 0 in padding.
    Raises: ValueError where shapes do not fit, or a sequence has no real token.
    Source: Sun et al. 2020, feature map transfer (unverified, from memory). Published code has `normalised_transfer`,
    `mean_transfer` and `variance_transfer` instead (google-research/google-research mobilebert/run_pretraining.py).

    >>> import numpy as np
    >>> student, teacher = np.array([[[1.0, 2.0], [0.0, 0.0]]]), np.array([[[0.0, 0.0], [3.0, 0.0]]])
    >>> feature_map_transfer(student, teacher, np.ones((1, 2), bool)).item()        # (1 + 4 + 9 + 0) / 4
    3.5
    """
    return mean_squares(student_hidden, teacher_hidden, mask, convention, divisor)


def normalised_transfer(student_hidden, teacher_hidden, mask, *, convention=PAPER, divisor=None):
    """The feature maps after a layer norm without scale and shift: what is left of them without mean and variance.

    Equation: 1/B sum_b 1/(n_b N) sum_{t <= n_b} sum_n (LN(student) - LN(teacher))_btn^2, B the divisor, with
    LN(x) = (x - mean x) / sqrt(var x + 1e-12) over the N numbers of a token; 1/(B T N) over all rows in `official`.
    Shapes: hidden (B, T, N), equal; mask (B, T), True at real tokens.
    Units: standard deviations, squared (no nats); per sequence, then batch mean.
    Gradient: the student alone, through its layer norm: neither along a token's mean nor along its own direction.
    Raises: ValueError where shapes do not fit, or a sequence has no real token.
    Source: google-research/google-research mobilebert/run_pretraining.py, the first of its three terms for feature
    maps; it counts padding.

    >>> import numpy as np
    >>> student, teacher = np.array([[[1.0, 5.0], [9.0, 3.0]]]), np.array([[[2.0, 4.0], [0.0, 1.0]]])
    >>> round(normalised_transfer(student, teacher, np.ones((1, 2), bool)).item(), 6)      # (-1, 1) twice, then opposed
    2.0
    """
    check_rows(student_hidden, teacher_hidden, mask)
    student, teacher = (_normalised(only_counted(x, mask, convention)) for x in (student_hidden, teacher_hidden))
    return mean_squares(student, teacher, mask, convention, divisor)


def mean_transfer(student_hidden, teacher_hidden, mask, *, convention=PAPER, divisor=None):
    """The mean of each token's feature map, which a layer norm takes out.

    Equation: 1/B sum_b 1/n_b sum_{t <= n_b} (mean_n student_btn - mean_n teacher_btn)^2, B the divisor; 1/(B T) over
    all rows in `official`.
    Shapes: hidden (B, T, N), equal; mask (B, T), True at real tokens.
    Units: squared hidden units (no nats); per sequence, then batch mean.
    Gradient: the student alone, the same for all numbers of a token: 2 (mean - mean) / (N n_b B).
    Raises: ValueError where shapes do not fit, or a sequence has no real token.
    Source: google-research/google-research mobilebert/run_pretraining.py, "beta"; it counts padding, and takes the
    means of all layers of the teacher in the place of those of this one: `mean_transfer_official`.

    >>> import numpy as np
    >>> student, teacher = np.array([[[1.0, 5.0], [9.0, 3.0]]]), np.array([[[2.0, 4.0], [0.0, 2.0]]])
    >>> mean_transfer(student, teacher, np.ones((1, 2), bool)).item()               # ((3 - 3)^2 + (6 - 1)^2) / 2
    12.5
    """
    check_rows(student_hidden, teacher_hidden, mask)
    student, teacher = (only_counted(x, mask, convention).mean(axis=2, keepdims=True)       # (B, T, 1)
                        for x in (student_hidden, teacher_hidden))
    return mean_squares(student, teacher, mask, convention, divisor)


def variance_transfer(student_hidden, teacher_hidden, mask, *, convention=PAPER, divisor=None):
    """The variance of each token's feature map, which a layer norm takes out: an absolute difference, not squared.

    Equation: 1/B sum_b 1/n_b sum_{t <= n_b} |var_n student_btn - var_n teacher_btn|, the variance over N, not N - 1, B
    the divisor; 1/(B T) over all rows in `official`.
    Shapes: hidden (B, T, N), equal; mask (B, T), True at real tokens.
    Units: squared hidden units (no nats); per sequence, then batch mean.
    Gradient: the student alone, +-2 (student - mean) / (N n_b B), and 0 where the variances are equal.
    Raises: ValueError where shapes do not fit, or a sequence has no real token.
    Source: google-research/google-research mobilebert/run_pretraining.py, "gamma"; it counts padding, and takes the
    variances of all layers of the teacher in the place of those of this one: `variance_transfer_official`.

    >>> import numpy as np
    >>> student, teacher = np.array([[[1.0, 5.0], [9.0, 3.0]]]), np.array([[[2.0, 4.0], [0.0, 2.0]]])
    >>> variance_transfer(student, teacher, np.ones((1, 2), bool)).item()           # (|4 - 1| + |9 - 1|) / 2
    5.5
    """
    check_rows(student_hidden, teacher_hidden, mask)
    student, teacher = (_variance(only_counted(x, mask, convention)) for x in (student_hidden, teacher_hidden))
    weight = convention.row_weights(mask, divisor, student.dtype)                       # (B, T)
    return (ops.absolute(student - teacher.array) * weight).sum()


def mean_transfer_official(student_hidden, teacher_hiddens, mask, divisor=None):
    """`mean_transfer` with the published code's bug: one layer of the student beside all of the teacher's.

    Equation: 1/(L+1) sum_l 1/(B T) sum_bt (mean_n student_btn - mean_n teacher_lbtn)^2; the divisor is B T.
    Shapes: student_hidden (B, T, N); teacher_hiddens a list of L + 1 such arrays, the embeddings first; mask (B, T).
    Units: squared hidden units (no nats). Gradient: the student alone.
    Source: google-research/google-research mobilebert/run_pretraining.py, where the list `teacher_hiddens` is averaged
    in the place of its entry `teacher_hidden`, and broadcasts against the student's. No term computes it; it is here to
    compare with.
    """
    return sum(mean_transfer(student_hidden, each, mask, convention=OFFICIAL, divisor=divisor)
               for each in teacher_hiddens) / len(teacher_hiddens)


def variance_transfer_official(student_hidden, teacher_hiddens, mask, divisor=None):
    """`variance_transfer` with the same bug as in `mean_transfer_official`.

    Equation: 1/(L+1) sum_l 1/(B T) sum_bt |var_n student_btn - var_n teacher_lbtn|; the divisor is B T.
    """
    return sum(variance_transfer(student_hidden, each, mask, convention=OFFICIAL, divisor=divisor)
               for each in teacher_hiddens) / len(teacher_hiddens)


def attention_transfer(student_scores, teacher_scores, mask, *, convention=PAPER, divisor=None):
    """L_AT of one layer: the teacher's attention distributions.

    Equation: 1/B sum_b 1/(n_b A) sum_{t <= n_b} sum_a KL(p_bat || q_bat) over the n_b real keys, n_b = mask.sum(1),
    p and q the softmax of the scores, B the divisor; 1/(B T A) sum -p log q over all rows in `official`.
    Shapes: scores (B, A, T, T), scaled, before mask and softmax; mask (B, T), True at real tokens.
    Units: nats; per sequence, then batch mean.
    Gradient: the student alone, (q - p) / (A n_b B) towards its scores, exactly 0 in padding.
    Raises: ValueError where shapes do not fit, or a sequence has no real token.
    Source: Sun et al. 2020, attention transfer (unverified, from memory). google-research/google-research
    mobilebert/run_pretraining.py leaves the teacher's entropy in and counts padded rows; the later version of its
    modeling.py masks keys by -6, which leaves them a weight of about e^-6.

    >>> import numpy as np
    >>> x = lambda *numbers: np.array(numbers).reshape(1, 1, 2, 2)      # one head, two tokens
    >>> loss = attention_transfer(x(0.0, 1.0, 0.0, 2.0), np.zeros((1, 1, 2, 2)), np.ones((1, 2), bool))
    >>> round(loss.item(), 6)       # KL((1/2, 1/2) || softmax(0, x)) = log cosh(x/2), here for x = 1 and 2: their mean
    0.276948
    """
    check_relations(student_scores, teacher_scores, mask)
    return relation_kl(student_scores, teacher_scores, mask, convention, divisor)


def pretraining_distillation(student_logits, teacher_logits, labels, ground_truth=0.5, *, convention=LABELLED,
                             divisor=None):
    """L_PD without next sentences: masked tokens, with targets half the teacher's and half the truth's.

    Equation: -1/N sum_n sum_v ((1 - g) softmax(teacher)_nv + g [v = label_n]) log softmax(student)_nv over the N rows
    that have a label, g = ground_truth, N the divisor; N + 1e-5 in `official`.
    Shapes: logits (M, V); labels (M,) integers, -100 where there is none.
    Units: nats, of a cross-entropy. Gradient: the student alone, (q - target) / N; exactly 0 in rows without a label.
    Raises: ValueError where shapes do not fit.
    Source: google-research/google-research mobilebert/run_pretraining.py (ground_truth is its
    distill_ground_truth_ratio) at temperature 1, where the loss of next sentences is added, which is not here; Sun et
    al. 2020, pre-training distillation (unverified).

    >>> import numpy as np
    >>> student, teacher = np.zeros((2, 4)), np.array([[5.0, 1.0, 0.0, 2.0]] * 2)
    >>> round(pretraining_distillation(student, teacher, np.array([3, -100])).item(), 6)    # log 4 for any targets
    1.386294
    """
    if student_logits.shape != teacher_logits.shape or labels.shape != student_logits.shape[:1]:
        raise ValueError(f"need logits (M, V) of both and labels (M,): student {student_logits.shape}, "
                         f"teacher {teacher_logits.shape}, labels {labels.shape}")
    labelled = labels != IGNORED
    every = xp_of(labels).ones(labels.shape, bool)
    divisor = convention.divides_by(every, labelled) if divisor is None else divisor
    weight = convention.row_weights(labelled, divisor, student_logits.dtype, labelled)  # (M,)
    soft = ops.kl_divergence(student_logits, teacher_logits, weight=weight, constant=convention.constant)
    hard = ops.cross_entropy(student_logits, labels) / max(1, divisor)
    return soft * (1 - ground_truth) + hard * ground_truth


def _normalised(hidden):
    """LN of each row, without scale and shift. Shapes: (B, T, N) twice."""
    xp, N = xp_of(hidden.array), hidden.shape[2]
    return ops.layer_norm(hidden, None, xp.ones(N, hidden.dtype), xp.zeros(N, hidden.dtype), eps=EPS)


def _variance(hidden):
    """The variance of each row, over N. Shapes: (B, T, N) -> (B, T)."""
    centred = hidden - hidden.mean(axis=2, keepdims=True)
    return (centred * centred).mean(axis=2)


def _feature_map(term, student, teacher, batch, divisor, projections):
    return term.over_pairs(lambda s, t: feature_map_transfer(
        student.hidden[s], teacher.hidden[t], batch.mask, convention=term.rule, divisor=divisor))


def _feature_map_normalised(term, student, teacher, batch, divisor, projections):
    return term.over_pairs(lambda s, t: normalised_transfer(
        student.hidden[s], teacher.hidden[t], batch.mask, convention=term.rule, divisor=divisor))


def _mean(term, student, teacher, batch, divisor, projections):
    return term.over_pairs(lambda s, t: mean_transfer(
        student.hidden[s], teacher.hidden[t], batch.mask, convention=term.rule, divisor=divisor))


def _variances(term, student, teacher, batch, divisor, projections):
    return term.over_pairs(lambda s, t: variance_transfer(
        student.hidden[s], teacher.hidden[t], batch.mask, convention=term.rule, divisor=divisor))


def _attention(term, student, teacher, batch, divisor, projections):
    return term.over_pairs(lambda s, t: attention_transfer(
        student.scores[s], teacher.scores[t], batch.mask, convention=term.rule, divisor=divisor))


def _pretraining(term, student, teacher, batch, divisor, projections):
    labels = at_positions(batch.labels, batch)                                          # (M,)
    return pretraining_distillation(student.logits, teacher.logits, labels, convention=term.rule, divisor=divisor)


def _count_labels(term, batch):
    return term.rule.divides_by(batch.mask, batch.labels != IGNORED)


def _of_layers(name, loss, field, equation, conventions, notes):
    return Term(f"mobilebert.{name}", loss, reads=(field,), teacher_reads=(field,), paper="Sun et al. 2020",
                equation=equation, conventions=conventions, notes=notes)


UNVERIFIED = "unverified: the paper's formula is from memory"
IN_THREE = ("section on feature map transfer, as code has it", AS_RUN, "one of the three that stand for L_FMT")
feature_map = _of_layers("feature_map", _feature_map, "hidden", "eq. of L_FMT", CONVENTIONS, UNVERIFIED)
feature_map_normalised = _of_layers("feature_map_normalised", _feature_map_normalised, "hidden", *IN_THREE)
means = _of_layers("mean_transfer", _mean, "hidden", *IN_THREE)
variances = _of_layers("variance_transfer", _variances, "hidden", *IN_THREE)
attention = _of_layers("attention", _attention, "scores", "eq. of L_AT", ATTENTION, UNVERIFIED)
pretraining = Term("mobilebert.pretraining", _pretraining, _count_labels, ("logits",), ("logits",), "Sun et al. 2020",
                   "eq. of L_PD, without next sentences", PRETRAINING, notes="targets: half the teacher's, half labels")
