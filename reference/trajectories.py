"""Training as printed: the losses and the weights of a student that takes a step for every batch. Five methods.

    L_t, g_t = objective(batch_t, w_t)                                  the teacher is constant: its features are given
    g_t      = g_t min(1, clip / |g_t|)                                 one norm over all weights and maps; clip 0: none
    w_{t+1}  = adamw(w_0, (g_0 ... g_t), (r_0 ... r_t))                 r_t: the rate's peak times `schedules.linear`

    minilm      L_AT + L_VR of the last layers                          Wang et al. 2020, equation 10
    tinybert    L_embd + sum_l L_hidn + sum_l L_attn                    Jiao et al. 2020, eq. 7 to 9; W_e, W_h learn
    distilbert  5 L_ce + 2 L_mlm + L_cos                                Sanh et al. 2019
    pkd         (1 - alpha) L_CE + alpha L_DS + beta L_PT               Sun et al. 2019
    tang        alpha L_CE + (1 - alpha) |z^T - z^S|^2                  Tang et al. 2019

S batches of B sequences come as arrays (S, B, T), the teacher's features as (S, B, ...), of several layers as
(S, layers, B, ...). A student is a `bert.py` or a `bilstm.py` without dropout. What comes out is
{"losses": (S,), "final.NAME": the weight at the end}.

Traps
  - the first rate of a warm-up is 0, and the moments move all the same
  - no decay on biases and on layer norms; maps like W_h do decay, and their gradients count in the norm
  - a weight that the loss does not reach is left alone: not even decay moves it
"""

import numpy as np

from tinydistill_reference import bilstm, distilbert as sanh, pkd as sun, schedules, tinybert as jiao
from tinydistill_reference.bert import BERT
from tinydistill_reference.encoder import Settings, depth, features, features_gradient
from tinydistill_reference.hard_labels import cross_entropy, cross_entropy_gradient
from tinydistill_reference.minilm import (attention_transfer, attention_transfer_gradient, value_relation_transfer,
                                          value_relation_transfer_gradient)
from tinydistill_reference.optimizers import adamw, clip_joint_norm
from tinydistill_reference.soft_labels import logits_mse, logits_mse_gradient, soft_labels, soft_labels_gradient


def decays(name):
    """Biases and layer norms do not."""
    return not name.endswith("bias") and "LayerNorm" not in name


def train(objective, steps, *, learning_rate, warmup, clip, decay, eps, beta1=0.9, beta2=0.999, **weights):
    """objective(step, w) -> (loss, {name: gradient} of what the loss reaches)."""
    w, history, losses = dict(weights), {}, []
    rates = [learning_rate * factor for factor in
             schedules.linear(np.arange(steps), steps=steps, warmup=warmup).tolist()]
    for step in range(steps):
        loss, gradients = objective(step, w)
        losses.append(loss)
        clipped = clip_joint_norm(*gradients.values(), clip=clip) if clip else gradients.values()
        for name, g in zip(gradients, clipped):
            history[name] = [*history.get(name, ()), g]
            w[name] = adamw(weights[name], history[name], rates[:step + 1], eps=eps,
                            decay=decay if decays(name) else 0.0, beta1=beta1, beta2=beta2)[-1]
    return {"losses": np.array(losses)} | {f"final.{name}": x for name, x in w.items()}


class Student:
    """A BERT on one batch: its features, and the gradient of its weights."""

    def __init__(self, w, ids, mask, token_types, heads):
        self.weights = {name: x for name, x in w.items() if not name.startswith("tinybert.")}
        self.arguments = self.weights, ids, mask, token_types, Settings(heads, 1e-12, "gelu"), BERT
        self.features, self.last = features(*self.arguments), depth(w, BERT) - 1

    def __getitem__(self, name):
        return self.features[name]

    def gradients(self, upstream):
        return features_gradient(upstream, *self.arguments)


# ---------------------------------------------------------------- on a corpus

def minilm(ids, mask, token_types, teacher_queries, teacher_keys, teacher_values, *, heads, train=train, **rest):
    def objective(step, w):
        student = Student(w, ids[step], mask[step], token_types[step], heads)
        queries, keys, values = (student[f"{name}.{student.last}"] for name in ("queries", "keys", "values"))
        attention = queries, keys, teacher_queries[step], teacher_keys[step], mask[step]
        relation = values, teacher_values[step], mask[step]
        loss = attention_transfer(*attention) + value_relation_transfer(*relation)
        found = attention_transfer_gradient(1.0, *attention) | value_relation_transfer_gradient(1.0, *relation)
        return loss, student.gradients({f"{name.removeprefix('student_')}.{student.last}": d
                                        for name, d in found.items()})
    return train(objective, len(ids), **rest)


def tinybert(ids, mask, token_types, teacher_embeddings, teacher_hidden, teacher_scores, *, heads, train=train, **rest):
    """teacher_hidden, teacher_scores: of the teacher's layer beside each of the student's, (S, layers, B, ...)."""
    W_e, W_h = "tinybert.W_e.weight", "tinybert.W_h.weight"

    def objective(step, w):
        student, real = Student(w, ids[step], mask[step], token_types[step], heads), mask[step]
        arguments = student["embeddings"], teacher_embeddings[step], real, w[W_e]
        loss, found = jiao.embedding(*arguments), jiao.embedding_gradient(1.0, *arguments)
        upstream, maps = {"embeddings": found["student_embeddings"]}, {W_e: found["weight"], W_h: 0}
        for l in range(student.last + 1):
            arguments = student[f"hidden.{l}"], teacher_hidden[step, l], real, w[W_h]
            loss, found = loss + jiao.hidden(*arguments), jiao.hidden_gradient(1.0, *arguments)
            upstream[f"hidden.{l}"], maps[W_h] = found["student_hidden"], maps[W_h] + found["weight"]
            arguments = student[f"scores.{l}"], teacher_scores[step, l], real
            loss, found = loss + jiao.attention(*arguments), jiao.attention_gradient(1.0, *arguments)
            upstream[f"scores.{l}"] = found["student_scores"]
        return loss, student.gradients(upstream) | maps
    return train(objective, len(ids), **rest)


def distilbert(ids, mask, token_types, labels, teacher_logits, teacher_hidden, *, heads, train=train, **rest):
    """labels (S, B, T), -100 where there is none; teacher_hidden: of its last layer."""
    def objective(step, w):
        student, real = Student(w, ids[step], mask[step], token_types[step], heads), mask[step]
        soft, hard = (student["logits"], teacher_logits[step], real), (student["logits"], labels[step])
        last = student[f"hidden.{student.last}"], teacher_hidden[step], real
        loss = 5 * soft_labels(*soft, temperature=2.0) + 2 * cross_entropy(*hard) + sanh.cosine(*last)
        dlogits = soft_labels_gradient(5.0, *soft, temperature=2.0)["student_logits"] \
            + cross_entropy_gradient(2.0, *hard)["student_logits"]
        dhidden = sanh.cosine_gradient(1.0, *last)["student_hidden"]
        return loss, student.gradients({"logits": dlogits, f"hidden.{student.last}": dhidden})
    return train(objective, len(ids), **rest)


# ---------------------------------------------------------------- on a task

def pkd(ids, mask, token_types, labels, teacher_logits, teacher_hidden, *, heads, alpha, temperature, beta, train=train,
        **rest):
    """labels (S, B); teacher_hidden: of the teacher's layer beside each of the student's but the last."""
    def objective(step, w):
        student, real = Student(w, ids[step], mask[step], token_types[step], heads), mask[step]
        z, upstream = student["logits"], {}
        loss = (1 - alpha) * cross_entropy(z, labels[step]) \
            + alpha * soft_labels(z, teacher_logits[step], temperature=temperature)
        upstream["logits"] = cross_entropy_gradient(1 - alpha, z, labels[step])["student_logits"] \
            + soft_labels_gradient(alpha, z, teacher_logits[step], temperature=temperature)["student_logits"]
        for l in range(student.last):
            arguments = student[f"hidden.{l}"], teacher_hidden[step, l], real
            loss = loss + beta * sun.patient_loss(*arguments)
            upstream[f"hidden.{l}"] = sun.patient_loss_gradient(beta, *arguments)["student_hidden"]
        return loss, student.gradients(upstream)
    return train(objective, len(ids), **rest)


def tang(ids, mask, labels, teacher_logits, *, alpha, train=train, **rest):
    """labels (S, B)."""
    def objective(step, w):
        z = bilstm.logits(w, ids[step], mask[step])
        loss = alpha * cross_entropy(z, labels[step]) + (1 - alpha) * logits_mse(z, teacher_logits[step])
        dz = cross_entropy_gradient(alpha, z, labels[step])["student_logits"] \
            + logits_mse_gradient(1 - alpha, z, teacher_logits[step])["student_logits"]
        return loss, bilstm.logits_gradient(dz, w, ids[step], mask[step])
    return train(objective, len(ids), **rest)
