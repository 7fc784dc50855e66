"""FitNets: a hint, then softened labels (Romero et al. 2015). As printed, sum by sum: `reference/fitnets.py`.

    L_HT = 1/2 || R h^S + c - h^T ||^2                                  stage 1: of a guided layer and a hint layer
    L_KD = lam_target H(y, P_S) + lam_teach H(P_T^tau, P_S^tau)         stage 2: P^tau = softmax(logits / tau)

(R, c) is a regressor that is learned with the student and thrown away after stage 1. The paper's hints are feature maps
of images and its regressor is convolutional, with the hint layer's own nonlinearity; a Transformer's are hidden states
of tokens, and the regressor one linear map for all of them. lam_teach falls in stage 2: that is the method's, not here.
"""

from tinydistill import ops
from tinydistill.losses.convention import PAPER, Convention
from tinydistill.losses.logit_rows import sequence_rows
from tinydistill.losses.rows import check_map, check_tokens, only_counted
from tinydistill.losses.soft_labels import count_sequences, soft_labels
from tinydistill.losses.term import Term

HINT = PAPER.but(divisor="row", source="Romero et al. 2015, for Transformers: a mean over the batch's real tokens")
CONVENTIONS = {
    "paper": HINT,
    "official": Convention(rows="all", divisor="row", source="adri-romsor/FitNets costs/HintCost.py: the sum over axis "
                           "1, the width of flat features, then the mean of the rest"),
}
SOFTENED = Convention(divisor="row", temperature_squared=False, constant="cross-entropy",
                      source="adri-romsor/FitNets costs/KDCost.py: a cross-entropy without tau^2, mean over the batch")


def hint_loss(student, teacher, mask, weight, bias=None, *, convention=HINT, divisor=None):
    """L_HT of one pair of layers: the teacher's hint, reached through a learned regressor.

    Equation: 1/N sum_{b, t <= n_b} 1/2 sum_d (student W^T + bias - teacher)_btd^2 over the N = sum_b n_b real tokens of
    the batch, N the divisor: a sum over the teacher's width, a mean over tokens.
    Shapes: student (B, T, D), teacher (B, T, D'); mask (B, T), True at real tokens; weight (D', D), the regressor's R,
    bias (D',), its c, or None.
    Units: squared hidden units (no nats).
    Gradient: with E = (student W^T + bias - teacher) / N in real rows, 0 in others: E W for the student, exactly 0 in
    padding, E^T student for the weight, the sum of E over tokens for the bias. None for the teacher.
    Raises: ValueError where shapes do not fit.
    Source: Romero et al. 2015, the equation of L_HT. adri-romsor/FitNets costs/HintCost.py: the same for flat features;
    for feature maps its sum runs over axis 1, whatever that is, and hints of tanh or sigmoid get a cross-entropy.

    >>> import numpy as np; from tinydistill import Tensor
    >>> student, teacher = np.array([[[1.0], [2.0]]]), np.array([[[3.0, 0.0], [4.0, 1.0]]])     # widths 1 and 2
    >>> weight = Tensor(np.array([[2.0], [1.0]]), requires_grad=True)
    >>> hint_loss(student, teacher, np.ones((1, 2), bool), weight).item()   # 1/2 (1 + 1) and 1/2 (0 + 1): their mean
    0.75
    """
    check_tokens(student, teacher, mask)
    check_map(student, teacher, weight, bias)
    regressed = ops.linear(only_counted(student, mask, convention), weight, bias)       # (B, T, D')
    return ops.squared_error(regressed, teacher, weight=0.5 * convention.row_weights(mask, divisor, regressed.dtype))


def softened_cross_entropy(student, teacher, mask, labels=None, *, lam_target=1.0, lam_teach=1.0, temperature=3.0,
                           convention=SOFTENED, divisor=None):
    """L_KD: labels and the teacher's softened prediction; without labels, the teacher's part alone.

    Equation: lam_target H(y, P_S) + lam_teach H(P_T^tau, P_S^tau), with H(y, q) = -1/N sum_n log q_n[y_n] and
    H(p, q) = -1/N sum_n sum_c p_nc log q_nc over the N rows that count, N the divisor; tau the temperature. No tau^2.
    Shapes: student, teacher logits (N, C); mask (N,), True at rows that count; labels (N,) integers, -100 where no row
    counts, or None.
    Units: nats; of a cross-entropy, so never below the teacher's entropy.
    Gradient: the student alone, lam_target / N (softmax - onehot) + lam_teach / (tau N) (q - p).
    Raises: ValueError where shapes do not fit.
    Source: Romero et al. 2015, the equation of L_KD; adri-romsor/FitNets costs/KDCost.py, which divides the weights and
    biases of the last layer by tau, and so the logits. tau = 3, and a lam_teach that falls from 4 to 1, are unverified.

    >>> import numpy as np
    >>> student, teacher, both = np.zeros((2, 4)), np.array([[5.0, 1.0, 0.0, 2.0]] * 2), np.ones(2, bool)
    >>> round(softened_cross_entropy(student, teacher, both).item(), 6)                                 # log 4
    1.386294
    >>> loss = softened_cross_entropy(student, teacher, both, np.array([0, 2]), lam_teach=3.0)
    >>> round(loss.item(), 6)                                                                           # (1 + 3) log 4
    5.545177
    """
    softened = lam_teach * soft_labels(student, teacher, mask, temperature=temperature, convention=convention,
                                       divisor=divisor)
    if labels is None:
        return softened
    rows = convention.divides_by(mask) if divisor is None else divisor
    return softened + ops.cross_entropy(student, labels) * (lam_target / rows)


def _hint(term, student, teacher, batch, divisor, projections):
    return term.over_pairs(lambda s, t, *regressor: hint_loss(
        student.hidden[s], teacher.hidden[t], batch.mask, *regressor, convention=term.rule, divisor=divisor),
        projections)


def _softened(term, student, teacher, batch, divisor, projections):
    mask, _ = sequence_rows(batch)
    return softened_cross_entropy(student.logits, teacher.logits, mask, temperature=term.temperature,
                                  convention=term.rule, divisor=divisor)


hint = Term("fitnets.hint", _hint, reads=("hidden",), teacher_reads=("hidden",), paper="Romero et al. 2015",
            equation="eq. of L_HT (its number is unverified)", conventions=CONVENTIONS, projection="fitnets.regressor",
            projection_each=True, projection_bias=True)
softened = Term("fitnets.softened", _softened, count_sequences, ("logits",), ("logits",), paper="Romero et al. 2015",
                equation="eq. of L_KD (its number is unverified)", conventions={"paper": SOFTENED}, temperature=3.0,
                notes="unverified: temperature 3")
