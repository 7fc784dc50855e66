"""Optimisers: how they have been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, sets

COUPLED = "the decay acts through the moments: large gradients decay less, and the strength depends on the gradients"
TOO_STRONG = "weights shrink far too fast once the rate is small"
FIRST_STEPS = "the first steps are up to 3.16 times as long, where a fine-tuning is most easily ruined"
NOT_SCALED = "eps counts more or less than the recipe's: steps of another length where gradients are small"


def corrected(w, m, v, rate, c1, c2, eps, decay):
    return w - rate * (m / c1 / (np.sqrt(v / c2) + eps) + decay * w)


def uncorrected(w, m, v, rate, c1, c2, eps, decay):
    return w - rate * (m / (np.sqrt(v) + eps) + decay * w)


def walk(step, seen=lambda g, w, decay: g, squared=np.square, betas=lambda b1, b2: (b1, b2), power=lambda t: t,
         decays=True):
    """A forward of one tensor: step(w, m, v, rate, c1, c2, eps, decay) is the next w, seen(g, w, decay) the gradient;
    power(t): that of the betas in the corrections of step t."""
    def forward(weights, gradients, rates, eps, decay, beta1, beta2):
        (b1, b2), w, m, v, after = betas(beta1, beta2), weights, 0 * weights, 0 * weights, []
        for t, (g, rate) in enumerate(zip(gradients, rates), 1):
            g, t = seen(g, w, decay), power(t)
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * squared(g)
            w = step(w, m, v, rate, 1 - b1 ** t, 1 - b2 ** t, eps, decay if decays else 0.0)
            after.append(w)
        return np.stack(after)
    return forward


def adamw(flag, bug, effect, source, step=corrected, **changes):
    return computes("adamw", flag, bug, effect, source, walk(step, **changes))


def accumulating(weights, gradients, rates, eps, decay, beta1, beta2):
    """The corrected moments are kept, and corrected again."""
    w, m, v, after = weights, 0 * weights, 0 * weights, []
    for t, (g, rate) in enumerate(zip(gradients, rates), 1):
        m = (beta1 * m + (1 - beta1) * g) / (1 - beta1 ** t)
        v = (beta2 * v + (1 - beta2) * g * g) / (1 - beta2 ** t)
        w = w - rate * (m / (np.sqrt(v) + eps) + decay * w)
        after.append(w)
    return np.stack(after)


def resting(weights, gradients, rates, eps, decay, beta1, beta2):
    """A step of rate 0 is no step at all."""
    moving = rates != 0
    after = walk(corrected)(weights, gradients[moving], rates[moving], eps, decay, beta1, beta2)
    return np.stack([after[n - 1] if n else weights for n in np.cumsum(moving)])


ADAMW = (
    adamw("eps_inside_the_root", "sqrt(vhat + eps) in the place of sqrt(vhat) + eps",
          "eps acts as its root does: 1e-8 as 1e-4", "https://github.com/FluxML/Flux.jl/pull/448",
          lambda w, m, v, r, c1, c2, eps, decay: w - r * (m / c1 / np.sqrt(v / c2 + eps) + decay * w)),
    sets("adamw", "eps_joins_the_uncorrected_root", "eps is added before the second moment is corrected", NOT_SCALED,
         "https://github.com/tensorflow/tensorflow/issues/9047", eps_joins="uncorrected"),
    adamw("no_bias_correction", "m and v as they are", FIRST_STEPS, "https://github.com/ml-explore/mlx/pull/1640",
          uncorrected),
    adamw("correction_without_power", "1 - beta in the place of 1 - beta^t",
          "only the first step is right; later ones are 3.16 times too short",
          "https://github.com/eriklindernoren/ML-From-Scratch/issues/35", power=lambda t: 1),
    adamw("correction_multiplied", "m (1 - beta1^t) in the place of m / (1 - beta1^t), and v so",
          "the first steps are far too short", "https://github.com/karpathy/convnetjs/pull/70",
          lambda w, m, v, r, c1, c2, eps, decay: corrected(w, m, v, r, 1 / c1, 1 / c2, eps, decay)),
    computes("adamw", "correction_accumulates", "the moments are corrected in place, and so again at the next step",
             "the moments grow step by step", "https://github.com/frgfm/holocron/issues/1", accumulating),
    adamw("steps_from_two", "the first step is corrected as if it were the second", "the first steps are too short",
          "https://github.com/cs231n/cs231n.github.io/issues/179", power=lambda t: t + 1),
    adamw("l2_in_the_gradient", "decay w is added to the gradient", COUPLED,
          "https://github.com/pytorch/pytorch/issues/48793", seen=lambda g, w, decay: g + decay * w, decays=False),
    adamw("decay_without_rate", "the weights lose decay w whatever the rate is", TOO_STRONG,
          "https://github.com/tensorflow/addons/issues/2282",
          lambda w, m, v, r, c1, c2, eps, decay: corrected(w, m, v, r, c1, c2, eps, 0.0) - decay * w),
    adamw("decay_times_rate_twice", "the decay is multiplied by the rate twice", "there is next to no decay",
          "constructed", lambda w, m, v, r, c1, c2, eps, decay: corrected(w, m, v, r, c1, c2, eps, r * decay)),
    sets("adamw", "decay_of_the_updated_weights", "the weights decay after the step",
         "a decay that acts on the step, too",
         "huggingface/transformers src/transformers/optimization.py AdamW, until version 4", decays="after"),
    adamw("decay_ignored", "no decay at all", "weights grow without the bound that the recipe sets",
          "https://github.com/PaddlePaddle/Paddle/issues/5836", decays=False),
    adamw("betas_swapped", "beta1 for the second moment, beta2 for the first",
          "the direction is a mean of a thousand gradients, its scale that of ten", "constructed",
          betas=lambda b1, b2: (b2, b1)),
    adamw("betas_inverted", "1 - beta in the place of beta",
          "the second moment is that of the last gradient: signs only",
          "https://github.com/mila-iqia/blocks/issues/1159", betas=lambda b1, b2: (1 - b1, 1 - b2)),
    adamw("not_squared", "the mean of |g| in the place of that of g^2", "steps as long as the root of the gradient",
          "constructed", squared=np.abs),
    adamw("no_root", "vhat in the place of its root", "steps as long as 1/g: the smaller the gradient, the longer",
          "constructed", lambda w, m, v, r, c1, c2, eps, decay: w - r * (m / c1 / (v / c2 + eps) + decay * w)),
    computes("adamw", "rests_at_rate_0", "a step of rate 0 moves no moments, and is not counted",
             "the first step after a warm-up's first is a first step again", "constructed", resting),
)


def google(flag, bug, effect, source, step=uncorrected, **changes):
    return computes("adam_weight_decay", flag, bug, effect, source, walk(step, **changes))


GOOGLE = (
    google("bias_corrected", "mhat and vhat, as in AdamW", "the first steps are 3.16 times shorter than the recipe's",
           "https://github.com/dmlc/gluon-nlp/pull/499", corrected),
    google("eps_inside_the_root", "sqrt(v + eps) in the place of sqrt(v) + eps", "eps acts as its root does",
           "constructed", lambda w, m, v, r, c1, c2, eps, decay: w - r * (m / np.sqrt(v + eps) + decay * w)),
    google("l2_in_the_gradient", "decay w is added to the gradient", COUPLED,
           "google-research/bert optimization.py, whose comment warns of it",
           seen=lambda g, w, decay: g + decay * w, decays=False),
    google("decay_without_rate", "the weights lose decay w whatever the rate is", TOO_STRONG,
           "https://github.com/tensorflow/addons/issues/2282",
           lambda w, m, v, r, c1, c2, eps, decay: uncorrected(w, m, v, r, c1, c2, eps, 0.0) - decay * w),
    google("decay_of_the_updated_weights", "the weights decay after the step", "a decay that acts on the step, too",
           "constructed", lambda w, m, v, r, c1, c2, eps, decay:
               uncorrected(w, m, v, r, c1, c2, eps, 0.0) * (1 - r * decay)),
    google("first_moment_corrected_only", "mhat beside v", "the first steps are up to 31 times as long", "constructed",
           lambda w, m, v, r, c1, c2, eps, decay: uncorrected(w, m / c1, v, r, c1, c2, eps, decay)),
)


# ---------------------------------------------------------------- Adadelta

def adadelta(flag, bug, effect, source, step, seen=lambda g, w, decay: g + decay * w, rho_of=lambda rho: rho,
             after_decay=0):
    """step(g, square_g, square_d, rate, rho, eps): (d, square_g, square_d) with which w - rate d is the next w."""
    def forward(weights, gradients, rates, eps, decay, rho):
        w, square_g, square_d, after = weights, 0 * weights, 0 * weights, []
        for g, rate in zip(gradients, rates):
            d, square_g, square_d = step(seen(g, w, decay), square_g, square_d, rate, rho_of(rho), eps)
            w = w - rate * (d + after_decay * decay * w)
            after.append(w)
        return np.stack(after)
    return computes("adadelta", flag, bug, effect, source, forward)


def right(g, square_g, square_d, rate, rho, eps):
    square_g = rho * square_g + (1 - rho) * g * g
    d = np.sqrt(square_d + eps) / np.sqrt(square_g + eps) * g
    return d, square_g, rho * square_d + (1 - rho) * d * d


def product(g, square_g, square_d, rate, rho, eps):
    square_g = (rho * square_g + (1 - rho)) * g * g
    d = np.sqrt(square_d + eps) / np.sqrt(square_g + eps) * g
    return d, square_g, (rho * square_d + (1 - rho)) * d * d


def summed(g, square_g, square_d, rate, rho, eps):
    square_g = square_g + rho * square_g + (1 - rho) * g * g
    d = np.sqrt(square_d + eps) / np.sqrt(square_g + eps) * g
    return d, square_g, square_d + rho * square_d + (1 - rho) * d * d


def outside(g, square_g, square_d, rate, rho, eps):
    square_g = rho * square_g + (1 - rho) * g * g
    d = (np.sqrt(square_d) + eps) / (np.sqrt(square_g) + eps) * g
    return d, square_g, rho * square_d + (1 - rho) * d * d


def of_the_rate(g, square_g, square_d, rate, rho, eps):
    d, square_g, _ = right(g, square_g, square_d, rate, rho, eps)
    return d, square_g, rho * square_d + (1 - rho) * (rate * d) ** 2


def too_early(g, square_g, square_d, rate, rho, eps):
    d = np.sqrt(square_d + eps) / np.sqrt(square_g + eps) * g
    return d, rho * square_g + (1 - rho) * g * g, rho * square_d + (1 - rho) * d * d


def no_numerator(g, square_g, square_d, rate, rho, eps):
    d, square_g, square_d = right(g, square_g, square_d, rate, rho, eps)
    return g / np.sqrt(square_g + eps), square_g, square_d


ADADELTA = (
    adadelta("mean_is_a_product", "(rho E[g^2] + 1 - rho) g^2 in the place of rho E[g^2] + (1 - rho) g^2",
             "does not converge", "https://github.com/deeplearning4j/nd4j/issues/1239", product),
    adadelta("means_added_up", "accum += rho accum + (1 - rho) g^2", "steps of a length that drifts away",
             "https://github.com/tensorflow/tensorflow/pull/644", summed),
    adadelta("eps_outside_the_root", "sqrt(E) + eps, as in Adam", "the first steps are a thousand times shorter",
             "https://github.com/torch/optim/issues/99, which tells the two apart", outside),
    adadelta("rate_in_the_mean", "E[d^2] of the steps times the rate", "a rate below 1 slows down twice",
             "https://github.com/keras-team/keras/pull/11532, which asks for it", of_the_rate),
    adadelta("old_mean_of_gradients", "E[g^2] before this gradient", "a first step of the whole gradient",
             "constructed", too_early),
    adadelta("no_mean_of_steps", "1 / sqrt(E[g^2] + eps), without E[d^2]: RMSprop",
             "the rate of 1 that belongs to Adadelta is far too large", "constructed", no_numerator),
    adadelta("rho_inverted", "1 - rho in the place of rho", "means of the last step only", "constructed", right,
             rho_of=lambda rho: 1 - rho),
    adadelta("decay_decoupled", "the decay is no part of the gradient", "another decay than torch.optim.Adadelta's",
             "constructed", right, seen=lambda g, w, decay: g, after_decay=1),
)
TRAPS = ADAMW + GOOGLE + ADADELTA
