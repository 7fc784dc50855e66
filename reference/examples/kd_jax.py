"""Soft labels in JAX: tinydistill verify --as jax --impl kd_jax.py:kd --equation soft_labels.classes"""

import jax
import jax.numpy as jnp


def kd(student, teacher, T=1.0):
    """T^2 KL(teacher || student), a mean over the rows."""
    if T <= 0:
        raise ValueError(f"need a temperature above 0, got {T}")
    if student.shape != teacher.shape:
        raise ValueError(f"need logits of one shape, got {student.shape} and {teacher.shape}")
    log_q, log_p = jax.nn.log_softmax(student / T), jax.nn.log_softmax(jax.lax.stop_gradient(teacher) / T)
    return T ** 2 * jnp.mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1))
