"""Kullback-Leibler divergence of two sets of logits. Equations: `kernels/divergence.py`."""

from tinydistill import kernels
from tinydistill.tensor import op


@op
def kl_divergence(student, teacher, *, weight, mask=None, temperature=1.0):
    """sum_rows weight * KL(softmax(teacher / temperature) || softmax(student / temperature)), in nats.

    Shapes: student, teacher (..., T); weight broadcasts against their rows (...,); mask against the whole, True where
    an entry counts. Gradient: the student alone, weight / temperature * (q - p).
    """
    if student.shape != teacher.shape:
        raise ValueError(f"need the same shape: student {student.shape}, teacher {teacher.shape}")
    weight = weight.astype(student.dtype)           # so that float32 stays float32
    value, gradient = kernels.of(student).kl_divergence(student, teacher, mask, weight, temperature)
    return value, lambda dy: (dy * gradient, None)
