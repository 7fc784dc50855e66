"""TextBrewer: losses of logits and of what lies below them."""

import torch.nn.functional as F
from textbrewer import losses

from tinydistill_reference.examples.published import Published


def hid_mse(student_hidden, teacher_hidden, mask, weight):
    return losses.hid_mse_loss(F.linear(student_hidden, weight), teacher_hidden.detach(), mask)


def hid_mse_everywhere(student_hidden, teacher_hidden, mask, weight):
    return losses.hid_mse_loss(F.linear(student_hidden, weight), teacher_hidden.detach())


def att_mse(student_scores, teacher_scores, mask):
    return losses.att_mse_loss(student_scores, teacher_scores.detach(), mask)


def att_mse_without_mask(student_scores, teacher_scores, mask):
    """Scores as BERT has them: 10000 less at padded keys."""
    padded = -10000.0 * (~mask)[:, None, None, :]
    return losses.att_mse_loss(student_scores + padded, teacher_scores.detach() + padded)


def att_ce(student_scores, teacher_scores, mask):
    """Scores as BERT has them: 10000 less at padded keys."""
    padded = -10000.0 * (~mask)[:, None, None, :]
    return losses.att_ce_loss(student_scores + padded, teacher_scores.detach() + padded, mask)


def cos(student_hidden, teacher_hidden, mask):
    return losses.cos_loss(student_hidden, teacher_hidden.detach(), mask)


def pkd(student_hidden, teacher_hidden, mask):
    return losses.pkd_loss(student_hidden, teacher_hidden.detach(), mask)


PUBLISHED = (
    Published("losses.kd_ce_loss", "", "soft_labels.classes",
              lambda student_logits, teacher_logits, temperature:
              losses.kd_ce_loss(student_logits, teacher_logits.detach(), temperature), "textbrewer",
              "a cross-entropy, as documented; no T^2, in the distiller neither"),
    Published("losses.kd_mse_loss", "", "soft_labels.logits_mse",
              lambda student_logits, teacher_logits, temperature:
              losses.kd_mse_loss(student_logits, teacher_logits.detach(), temperature), "official"),
    Published("losses.hid_mse_loss", "with a mask, of a linear projection", "tinybert.hidden", hid_mse,
              "divisor=element", "one mean over all real tokens of the batch, not a mean of each sequence's",
              {"divisor": "element"}),
    Published("losses.hid_mse_loss", "without a mask, of a linear projection", "tinybert.hidden", hid_mse_everywhere,
              "official", "padding counts, as in TinyBERT's own code"),
    Published("losses.att_mse_loss", "with a mask", "tinybert.attention", att_mse, "pairs",
              "one mean over all pairs of real tokens of the batch"),
    Published("losses.att_mse_loss", "without a mask", "tinybert.attention_official", att_mse_without_mask,
              "FAIL clamp_at_0", "scores of -0.001 or less count as 0: repro_textbrewer_att_mse.py. "
              "Probabilities, which are never negative, are not touched"),
    Published("losses.att_ce_loss", "with a mask", "internal.attention", att_ce, "FAIL value in 8 cases",
              "a cross-entropy, as documented: gradients pass, the value has the teacher's entropy in it; one mean "
              "over all real rows of the batch",
              {"divisor": "row"}),
    Published("losses.cos_loss", "with a mask", "distilbert.cosine", cos),
    Published("losses.pkd_loss", "", "pkd.patience", pkd),
)
