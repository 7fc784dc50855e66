"""Optimisers as printed: the weights after each of the gradients, from moments of 0.

    m_t = beta1 m_{t-1} + (1 - beta1) g_t       v_t = beta2 v_{t-1} + (1 - beta2) g_t^2       t = 1, 2, ...

    adamw               w - r (mhat / (sqrt(vhat) + eps) + decay w), mhat = m / (1 - beta1^t), vhat = v / (1 - beta2^t)
    adam_weight_decay   w - r (m / (sqrt(v) + eps) + decay w)                  Google's BERT
    bert_adam           the same of g min(1, clip / (|g| + 1e-6))              pytorch_pretrained_bert, TinyBERT, PKD
    lamb                w - r |w| / |u| u, u = m / (sqrt(v) + eps) + decay w, or with mhat and vhat; You et al. 2020
    adadelta            w - r d, d = sqrt(E[d^2] + eps) / sqrt(E[g^2] + eps) g; Zeiler 2012
    clip_joint_norm     g min(1, clip / |all g|); Pascanu et al. 2013

r is the rate of the step. The first three published ones differ in more than their names:
    eps_joins   "corrected": sqrt(vhat) + eps · "uncorrected": sqrt(v) + eps, of which the whole is corrected, "epsilon
                hat" of Kingma and Ba 2015, end of section 2
    decays      "before": the weights before the step decay · "after": those after it, as in the AdamW that transformers
                once had, which is "uncorrected", too

Shapes: weights (...), gradients (steps, ...), rates (steps,) -> (steps, ...).

Traps
  - rates is a list, one for each step: with a warm-up the first is 0, and the moments move all the same
  - without bias correction the first step is (1 - beta1) / sqrt(1 - beta2) times as long, 3.16 times
  - bert_adam clips each tensor by itself, adam_weight_decay's loop the joint norm of all
  - a norm of LAMB is that of the whole tensor, and one of 0 means a ratio of 1: else weights of 0 stay there;
    biases and layer norms take no decay and a ratio of 1
  - Adadelta's decay is part of the gradient, that of the others is not
"""

import numpy as np

from tinydistill_reference.conventions import need


def norm(*tensors):
    """The root of the sum of squares of every number of every tensor."""
    return np.sqrt(sum(number * number for x in tensors for number in x.ravel()))


def one_for_each_step(weights, gradients, rates):
    need(len(rates) == len(gradients), f"a rate for each step: {len(rates)} rates, {len(gradients)} gradients")
    need(all(g.shape == weights.shape for g in gradients),
         f"gradients of the weights' shape: weights {weights.shape}, gradients {[g.shape for g in gradients]}")
    return enumerate(zip(gradients, rates), 1)


def adam(weights, gradients, rates, rule, beta1, beta2):
    """w after each gradient: rule(w, m, v, rate, 1 - beta1^t, 1 - beta2^t) is the next w."""
    need(0 <= beta1 < 1 and 0 <= beta2 < 1, f"beta1 and beta2 from 0 to below 1: {beta1}, {beta2}")
    w, m, v, after = weights, 0 * weights, 0 * weights, []
    for t, (g, rate) in one_for_each_step(weights, gradients, rates):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g ** 2
        w = rule(w, m, v, rate, 1 - beta1 ** t, 1 - beta2 ** t)
        after.append(w)
    return np.stack(after)


def adamw(weights, gradients, rates, *, eps=1e-8, decay=0.01, beta1=0.9, beta2=0.999, eps_joins="corrected",
          decays="before"):
    """Loshchilov and Hutter 2019, algorithm 2, with a decay that is multiplied by the rate."""
    def rule(w, m, v, rate, c1, c2):
        eps_then = eps if eps_joins == "corrected" else eps / np.sqrt(c2)
        step = rate * m / c1 / (np.sqrt(v / c2) + eps_then)
        return w - step - rate * decay * (w if decays == "before" else w - step)
    return adam(weights, gradients, rates, rule, beta1, beta2)


def adam_weight_decay(weights, gradients, rates, *, eps=1e-6, decay=0.01, beta1=0.9, beta2=0.999):
    def rule(w, m, v, rate, c1, c2):
        return w - rate * (m / (np.sqrt(v) + eps) + decay * w)
    return adam(weights, gradients, rates, rule, beta1, beta2)


def bert_adam(weights, gradients, rates, *, eps=1e-6, decay=0.01, clip=1.0, beta1=0.9, beta2=0.999):
    need(clip > 0, f"a norm to clip to above 0: clip {clip}")
    short = [g * min(1, clip / (norm(g) + 1e-6)) for g in gradients]
    return adam_weight_decay(weights, short, rates, eps=eps, decay=decay, beta1=beta1, beta2=beta2)


def lamb(weights, gradients, rates, *, eps=1e-6, decay=0.01, beta1=0.9, beta2=0.999, bias_correction=False,
         largest=None):
    """largest: what the norm of the weights counts at most, for the ratio."""
    def rule(w, m, v, rate, c1, c2):
        m, v = (m / c1, v / c2) if bias_correction else (m, v)
        u = m / (np.sqrt(v) + eps) + decay * w
        of_w, of_u = norm(w), norm(u)
        of_w = of_w if largest is None else min(of_w, largest)
        return w - rate * (of_w / of_u if of_w > 0 and of_u > 0 else 1) * u
    return adam(weights, gradients, rates, rule, beta1, beta2)


def adadelta(weights, gradients, rates, *, eps=1e-6, decay=0.0, rho=0.95):
    """Zeiler 2012, algorithm 1, with the rate (his is 1) and the decay of torch.optim.Adadelta."""
    need(0 <= rho < 1, f"rho from 0 to below 1: {rho}")
    w, square_g, square_d, after = weights, 0 * weights, 0 * weights, []
    for t, (g, rate) in one_for_each_step(weights, gradients, rates):
        g = g + decay * w
        square_g = rho * square_g + (1 - rho) * g ** 2
        d = np.sqrt(square_d + eps) / np.sqrt(square_g + eps) * g
        square_d = rho * square_d + (1 - rho) * d ** 2
        w = w - rate * d
        after.append(w)
    return np.stack(after)


def clip_joint_norm(*gradients, clip=1.0, epsilon=0.0):
    """[g min(1, clip / (|all g| + epsilon))] of the gradients of one step."""
    need(clip > 0, f"a norm to clip to above 0: clip {clip}")
    joint = norm(*gradients) + epsilon
    return [g * (clip / joint) if joint > clip else g for g in gradients]
