"""Soft labels in NumPy: tinydistill verify --as numpy --impl kd_numpy.py:kd --equation soft_labels.classes"""

import numpy as np


def log_softmax(z):
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def kd(student, teacher, T=1.0, upstream=1.0):
    """(T^2 KL(teacher || student) as a mean over the rows, its gradient)."""
    if T <= 0:
        raise ValueError(f"need a temperature above 0, got {T}")
    if student.shape != teacher.shape:
        raise ValueError(f"need logits of one shape, got {student.shape} and {teacher.shape}")
    log_q, log_p = log_softmax(student / T), log_softmax(teacher / T)
    value = T ** 2 * (np.exp(log_p) * (log_p - log_q)).sum(axis=-1).mean()
    return value, {"student": upstream * T * (np.exp(log_q) - np.exp(log_p)) / len(student)}
