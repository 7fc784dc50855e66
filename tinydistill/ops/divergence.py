"""Kullback-Leibler divergence of two sets of logits. Equations: `kernels/divergence.py`."""

from tinydistill import kernels
from tinydistill.backend import xp_of
from tinydistill.tensor import op


@op
def kl_divergence(student, teacher, *, weight, mask=None, temperature=1.0, constant="kl"):
    """sum_rows weight * KL(softmax(teacher / temperature) || softmax(student / temperature)), in nats.

    constant: "kl"; or "cross-entropy", -sum p log q, which is larger by the teacher's entropy and has the same gradient.
    Shapes: student, teacher (..., T); weight broadcasts against their rows (...,); mask against the whole, True where
    an entry counts. Gradient: the student alone, weight / temperature * (q - p).
    """
    if student.shape != teacher.shape:
        raise ValueError(f"need the same shape: student {student.shape}, teacher {teacher.shape}")
    if constant not in ("kl", "cross-entropy"):
        raise ValueError(f"need a constant kl or cross-entropy, got {constant!r}")
    kernel, weight = kernels.of(student), weight.astype(student.dtype)                  # so that float32 stays float32
    value, gradient = kernel.kl_divergence(student, teacher, mask, weight, temperature)
    if constant == "cross-entropy":
        whole = xp_of(student).broadcast_to(weight, student.shape[:-1])
        value = value + kernel.entropy(teacher, mask, whole, temperature)
    return value, lambda dy: (dy * gradient, None)
