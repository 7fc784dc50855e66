"""Optimisers as printed, one number at a time: the weights after each of the gradients, from moments of 0.

    m_t = beta1 m_{t-1} + (1 - beta1) g_t       v_t = beta2 v_{t-1} + (1 - beta2) g_t^2       t = 1, 2, ...

    adamw               w - lr (mhat / (sqrt(vhat) + eps) + decay w), mhat = m / (1 - beta1^t), vhat = v / (1 - beta2^t)
    adam_weight_decay   w - lr (m / (sqrt(v) + eps) + decay w)                 Google's BERT
    bert_adam           the same of g min(1, clip / (|g| + 1e-6))              pytorch_pretrained_bert, TinyBERT, PKD
    lamb                w - lr |w| / |u| u, u = m / (sqrt(v) + eps) + decay w, or with mhat and vhat; You et al. 2020
    old_adamw           w' = w - lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps), then w' - lr decay w'
    adadelta            Zeiler 2012: g and updates in running means of squares

Traps
  - lr is a list, one for each step: with a warm-up the first is 0, and the moments move all the same
  - without bias correction the first step is (1 - beta1) / sqrt(1 - beta2) times as long, 3.16 times
  - old_adamw (once transformers.AdamW) is not adamw: eps is added to the uncorrected root, and the decay sees the
    weight after the step
  - bert_adam clips each tensor by itself, adam_weight_decay's loop the joint norm of all
  - a norm of LAMB is that of the whole tensor; biases and layer norms take no decay and a ratio of 1
"""

import numpy as np


def norm(x):
    return np.sqrt(sum(number * number for number in x.ravel()))


def adam(w, gradients, lr, rule, beta1=0.9, beta2=0.999):
    """w after each gradient: rule(w, m, v, lr, t) is the next w."""
    m, v, after = 0 * w, 0 * w, []
    for t, g in enumerate(gradients, 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g ** 2
        w = rule(w, m, v, lr[t - 1], 1 - beta1 ** t, 1 - beta2 ** t)
        after.append(w)
    return after


def adamw(w, gradients, lr, eps, decay, **betas):
    return adam(w, gradients, lr, lambda w, m, v, lr, c1, c2: (
        w - lr * (m / c1 / (np.sqrt(v / c2) + eps) + decay * w)), **betas)


def old_adamw(w, gradients, lr, eps, decay, **betas):
    return adam(w, gradients, lr, lambda w, m, v, lr, c1, c2: (
        (w - lr * np.sqrt(c2) / c1 * m / (np.sqrt(v) + eps)) * (1 - lr * decay)), **betas)


def adam_weight_decay(w, gradients, lr, eps, decay, **betas):
    return adam(w, gradients, lr, lambda w, m, v, lr, c1, c2: w - lr * (m / (np.sqrt(v) + eps) + decay * w), **betas)


def bert_adam(w, gradients, lr, eps, decay, clip, **betas):
    short = [g * min(1, clip / (norm(g) + 1e-6)) for g in gradients]
    return adam_weight_decay(w, short, lr, eps, decay, **betas)


def lamb(w, gradients, lr, eps, decay, bias_correction=False, **betas):
    def rule(w, m, v, lr, c1, c2):
        m, v = (m / c1, v / c2) if bias_correction else (m, v)
        u = m / (np.sqrt(v) + eps) + decay * w
        ratio = norm(w) / norm(u) if norm(w) > 0 and norm(u) > 0 else 1
        return w - lr * ratio * u
    return adam(w, gradients, lr, rule, **betas)


def adadelta(w, gradients, lr, eps, decay, rho=0.95):
    square_g, square_d, after = 0 * w, 0 * w, []
    for g, rate in zip(gradients, lr):
        g = g + decay * w
        square_g = rho * square_g + (1 - rho) * g ** 2
        d = np.sqrt(square_d + eps) / np.sqrt(square_g + eps) * g
        square_d = rho * square_d + (1 - rho) * d ** 2
        w = w - rate * d
        after.append(w)
    return after
