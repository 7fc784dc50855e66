"""liger-kernel: the losses of chunked_loss, which are plain PyTorch and run without triton.

They take hidden states and the weight of the last layer: here logits (or hidden states) and the identity.
"""

import torch
from liger_kernel.chunked_loss.cosine_similarity_loss import LigerFusedLinearCosineSimilarityLoss
from liger_kernel.chunked_loss.jsd_loss import LigerFusedLinearJSDLoss

from tinydistill_reference.examples.published import Published

SOFT_ALONE = {"weight_hard_loss": 0.0, "weight_soft_loss": 1.0, "compiled": False}


def jsd(beta):
    def kd(student_logits, teacher_logits, mask, labels, temperature):
        loss = LigerFusedLinearJSDLoss(beta=beta, temperature=temperature, **SOFT_ALONE)
        same = torch.eye(student_logits.shape[-1], dtype=student_logits.dtype)
        return loss(student_logits.flatten(0, 1), same, teacher_logits.detach().flatten(0, 1), same, labels.flatten())
    return kd


def cosine(student_hidden, teacher_hidden, mask):
    loss = LigerFusedLinearCosineSimilarityLoss(beta=1.0, **SOFT_ALONE)
    same = torch.eye(student_hidden.shape[-1], dtype=student_hidden.dtype)
    labels = torch.where(mask, 0, -100).flatten()
    return loss(student_hidden.flatten(0, 1), same, teacher_hidden.detach().flatten(0, 1), same, labels)


PUBLISHED = (
    Published("LigerFusedLinearJSDLoss", "beta=0, the soft loss alone", "soft_labels.masked", jsd(0),
              ("temperature_squared=False", "FAIL value in 10 cases"),
              "no T^2; the value is added up in float32 whatever the dtype: repro_liger_kernel_value.py",
              {"temperature_squared": False}),
    Published("LigerFusedLinearJSDLoss", "beta=1, the soft loss alone", "soft_labels.masked", jsd(1),
              "FAIL value, d(student_logits) in 10 cases",
              "beta=1 is the other end of the generalised divergence: KL(student || teacher)",
              {"temperature_squared": False}),
    Published("LigerFusedLinearCosineSimilarityLoss", "the soft loss alone", "distilbert.cosine", cosine,
              ("paper", "FAIL value in 9 cases"), "the value is added up in float32 whatever the dtype"),
)
