"""Label smoothing: how it has been got wrong."""

import numpy as np

from tinydistill_reference.conventions import IGNORED
from tinydistill_reference.mistakes import computes, ignores_upstream, scaled, sets
from tinydistill_reference.traps.soft_labels import ISSUES, factor, labelled, log_softmax

FAIRSEQ = "facebookresearch/fairseq fairseq/criterions/label_smoothed_cross_entropy.py: eps / (V - 1)"
CODE = "microsoft/unilm s2s-ft LabelSmoothingLoss"
OTHER_TARGET = "the optimum is another distribution"


def targets(labels, V, right, other, pad=None):
    """r (..., V): `right` at the label, `other` elsewhere, 0 at the pad."""
    c = np.arange(V)
    r = np.where(c == labels[..., None], right, other)
    return r if pad is None else np.where((c == pad) & (c != labels[..., None]), 0.0, r)


def against(r_of, constant="cross-entropy", count=lambda seen: max(1, seen.sum()), pad=None):
    """A forward with other targets, r_of(labels, V, eps), or another divisor, count(rows with a label)."""
    def forward(student_logits, labels, smoothing):
        seen = (labels != IGNORED) & (labels != pad)
        r, log_q = r_of(labels, student_logits.shape[-1], smoothing), log_softmax(student_logits)
        log_r = np.log(np.where(r > 0, r, 1.0)) if constant == "kl" else 0
        return ((r * (log_r - log_q)).sum(axis=-1) * seen).sum() / count(seen)
    return forward


def szegedy(labels, V, eps):
    return targets(labels, V, 1 - eps + eps / V, eps / V)


def unilm(labels, V, eps):
    return targets(labels, V, 1 - eps, eps / (V - 2), pad=0)


def pad_counted(student_logits, labels, smoothing):
    all_labels = max(1, (labels != IGNORED).sum())
    return against(unilm, "kl", lambda seen: all_labels, pad=0)(student_logits, labels, smoothing)


def smooths_padding(student_logits, labels, smoothing):
    uniform = -log_softmax(student_logits).mean(axis=-1).sum() / max(1, (labels != IGNORED).sum())
    hard = against(lambda y, V, eps: targets(y, V, 1.0, 0.0))(student_logits, labels, smoothing)
    return (1 - smoothing) * hard + smoothing * uniform


E = "label_smoothing"
STANDARD = (
    computes(E, "eps_over_V_minus_1", "eps/(V - 1) for each of the others, 1 - eps for the label", OTHER_TARGET,
             FAIRSEQ,
             against(lambda y, V, eps: targets(y, V, 1 - eps, eps / (V - 1)))),
    computes(E, "label_loses_twice", "1 - eps - eps/V, plus eps/V: the label has 1 - eps",
             "targets that add up to less than 1", ISSUES + "eladhoffer/utils.pytorch/issues/14",
             against(lambda y, V, eps: targets(y, V, 1 - eps, eps / V))),
    computes(E, "label_keeps_1", "1 - eps/V, plus eps/V: the label keeps its 1", "targets that add up to more than 1",
             ISSUES + "ildoonet/pytorch-randaugment/issues/30",
             against(lambda y, V, eps: targets(y, V, 1.0, eps / V))),
    computes(E, "one_over_V", "1/V in the place of eps/V", "targets that add up to 2 - eps, whatever eps is",
             ISSUES + "TimDettmers/ConvE/issues/55",
             against(lambda y, V, eps: targets(y, V, 1 - eps + 1 / V, 1 / V))),
    computes(E, "kl_not_ce", "a divergence in the place of the cross-entropy",
             "the same gradient; the loss is smaller by the entropy of r", CODE, against(szegedy, "kl")),
    scaled(E, "mean_incl_unlabelled", "the sum over labels is divided by all positions",
           "the loss is smaller by the share of labels", ISSUES + "huggingface/transformers/pull/5919",
           **factor(lambda i, a: labelled(i) / i["labels"].size)),
    computes(E, "smooths_padding", "the uniform part runs over all positions, the label's over labels",
             "padding is pulled towards the uniform distribution", ISSUES + "k-tahiro/bert-summarizer/pull/41",
             smooths_padding),
    sets(E, "not_smoothed", "eps = 0", "a cross-entropy with labels", "constructed", smoothing=0.0),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above",
                     "weights of the loss have no effect", "constructed"),
)

E = "label_smoothing.unilm"
UNILM = (
    computes(E, "ce_not_kl", "a cross-entropy in the place of the divergence",
             "the same gradient; the loss never ends at 0", "Szegedy et al. 2016, section 7", against(unilm, pad=0)),
    computes(E, "standard", "torch's smoothing: eps/V for every class, the pad too", "the pad gets mass",
             "pytorch/pytorch torch/nn/functional.py cross_entropy: label_smoothing", against(szegedy, "kl", pad=0)),
    computes(E, "pad_gets_mass", "eps/(V - 2) for the pad as well",
             "targets add up to more than 1, and the pad gets mass", "constructed",
             against(lambda y, V, eps: targets(y, V, 1 - eps, eps / (V - 2)), "kl", pad=0)),
    computes(E, "eps_over_V_minus_1", "eps/(V - 1), and 0 for the pad", "targets that add up to less than 1", FAIRSEQ,
             against(lambda y, V, eps: targets(y, V, 1 - eps, eps / (V - 1), pad=0), "kl", pad=0)),
    sets(E, "pad_of_another", "the pad is 1, as of RoBERTa", "[PAD] gets mass, and one token none",
         CODE + ": pad 0, whatever the vocabulary", pad=1),
    scaled(E, "mean_incl_unlabelled", "divided by all positions", "the loss is smaller by the share of labels",
           ISSUES + "huggingface/transformers/pull/5919",
           **factor(lambda i, a: max(1, (i["labels"] > 0).sum()) / i["labels"].size)),
    computes(E, "pad_counted", "rows whose label is the pad add nothing, but are counted",
             "the loss is smaller by their share", ISSUES + "eladhoffer/utils.pytorch/issues/4", pad_counted),
)
TRAPS = STANDARD + UNILM
