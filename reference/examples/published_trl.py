"""trl: the loss of generalised knowledge distillation, which is a KL divergence at both ends of beta."""

from trl.experimental.gkd.gkd_trainer import GKDTrainer

from tinydistill_reference.examples.published import Published

jsd = GKDTrainer.generalized_jsd_loss


def of_labelled(beta):
    return lambda student_logits, teacher_logits, mask, labels, temperature: jsd(
        student_logits, teacher_logits.detach(), labels, beta=beta, temperature=temperature)


def without_labels(student_logits, teacher_logits, temperature):
    return jsd(student_logits, teacher_logits.detach(), beta=0, temperature=temperature)


PUBLISHED = (
    Published("GKDTrainer.generalized_jsd_loss", "beta=0, with labels", "soft_labels.masked", of_labelled(0),
              "temperature_squared=False", "no T^2", {"temperature_squared": False}),
    Published("GKDTrainer.generalized_jsd_loss", "beta=1, with labels", "soft_labels.masked", of_labelled(1),
              "FAIL value, d(student_logits) in 10 cases",
              "KL(student || teacher), the inverse divergence, as GKDConfig documents",
              {"temperature_squared": False}),
    Published("GKDTrainer.generalized_jsd_loss", "beta=0, (N, V) without labels", "soft_labels.classes",
              without_labels, "torchdistill", "no T^2"),
    Published("GKDTrainer.generalized_jsd_loss", "beta=0, (B, T, V) without labels", "soft_labels.tokens",
              without_labels, "FAIL batchmean_of_sequences (under asked)",
              "divides by B alone; with labels by all tokens that have one. The trainer passes labels",
              {"temperature_squared": False}),
)
