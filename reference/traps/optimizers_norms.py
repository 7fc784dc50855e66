"""What has norms among the optimisers (BertAdam, LAMB, clipping): how it has been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, sets
from tinydistill_reference.traps.optimizers import corrected, uncorrected, walk


def norm(*tensors):
    return np.sqrt(sum((x * x).sum() for x in tensors))


def both(rule):
    """A forward of two tensors: rule(weights, gradients, rates, eps, decay, beta1, beta2, [clip]) for each alone."""
    def forward(weights, gradients, other_weights, other_gradients, rates, **attrs):
        return {"after": rule(weights, gradients, rates, **attrs),
                "other_after": rule(other_weights, other_gradients, rates, **attrs)}
    return forward


def each(g, factor):
    """The gradients of every step times factor(gradient)."""
    return np.stack([one * factor(one) for one in g])


def alone(short, step=uncorrected):
    """bert_adam with gradients that are short(gradients, clip)."""
    def rule(weights, gradients, rates, clip, **attrs):
        return walk(step)(weights, short(gradients, clip), rates, **attrs)
    return both(rule)


def least(norm_of, clip):
    return min(1.0, clip / (norm_of + 1e-6))


def joint(weights, gradients, other_weights, other_gradients, rates, clip, **attrs):
    """Clipped by the norm of both."""
    factors = [least(norm(g, o), clip) for g, o in zip(gradients, other_gradients)]
    one, other = (np.stack([g * f for g, f in zip(gs, factors)]) for gs in (gradients, other_gradients))
    return both(walk(uncorrected))(weights, one, other_weights, other, rates, **attrs)


def clipped_updates(w, gradients, rates, eps, decay, clip, beta1, beta2):
    def step(w, m, v, rate, c1, c2, eps, decay):
        u = m / (np.sqrt(v) + eps)
        return w - rate * (u * least(norm(u), clip) + decay * w)
    return walk(step)(w, gradients, rates, eps, decay, beta1, beta2)


def bert_adam(flag, bug, effect, source, forward):
    return computes("bert_adam", flag, bug, effect, source, forward)


BERT_ADAM = (
    bert_adam("joint_norm", "the gradients of all tensors are clipped together",
              "small tensors beside large ones hardly learn, unlike in the published runs",
              "https://github.com/huggingface/transformers/issues/581, which asks for it", joint),
    bert_adam("not_clipped", "gradients are not clipped",
              "one wild batch spoils the second moment for a thousand steps",
              "https://github.com/NVIDIA/OpenSeq2Seq/pull/192", alone(lambda g, clip: g)),
    bert_adam("values_clipped", "every number is clipped, not the norm", "the gradient points elsewhere", "constructed",
              alone(lambda g, clip: np.clip(g, -clip, clip))),
    bert_adam("always_scaled", "gradients shorter than the limit are made as long as it",
              "every step forgets how steep the loss was", "constructed",
              alone(lambda g, clip: each(g, lambda one: clip / (norm(one) + 1e-6)))),
    bert_adam("updates_clipped", "the update is clipped in the place of the gradient",
              "a steep batch still enters the moments", "https://github.com/sanchit-gandhi/seq2seq-speech/pull/7",
              both(clipped_updates)),
    bert_adam("all_steps_clipped_together", "one norm for the gradients of every step",
              "clips by what is still to come", "constructed", alone(lambda g, clip: g * least(norm(g), clip))),
    bert_adam("bias_corrected", "mhat and vhat, as in AdamW",
              "the first steps are 3.16 times shorter than the recipe's", "https://github.com/dmlc/gluon-nlp/pull/499",
              alone(lambda g, clip: each(g, lambda one: least(norm(one), clip)), corrected)),
)


def direction(m, v, eps, decay, w):
    return m / (np.sqrt(v) + eps) + decay * w


def ratio(of_w, of_u):
    return of_w / of_u if of_w > 0 and of_u > 0 else 1.0


def lamb(flag, bug, effect, source, step):
    """step(w, a, decay, rate): a is Adam's update without the decay."""
    def walked(w, m, v, rate, c1, c2, eps, decay):
        return step(w, m / (np.sqrt(v) + eps), decay, rate)
    return computes("lamb", flag, bug, effect, source, both(walk(walked)))


def times(ratio_of):
    """A step of u, times ratio_of(w, u)."""
    return lambda w, a, decay, rate: w - rate * ratio_of(w, a + decay * w) * (a + decay * w)


def rows(x):
    return np.sqrt((x * x).sum(axis=-1, keepdims=True))


def of_rows(w, u):
    of_w, of_u = rows(w), rows(u)
    fits = (of_w > 0) & (of_u > 0)
    return np.where(fits, of_w / np.where(fits, of_u, 1), 1)


def of_numbers(w, u):
    fits = (w != 0) & (u != 0)
    return np.where(fits, np.abs(w) / np.where(fits, np.abs(u), 1), 1)


def of_all(weights, gradients, other_weights, other_gradients, rates, eps, decay, beta1, beta2):
    """Norms over both tensors."""
    w, m, v, after = [weights, other_weights], [0 * weights, 0 * other_weights], [0 * weights, 0 * other_weights], []
    for *g, rate in zip(gradients, other_gradients, rates):
        m = [beta1 * a + (1 - beta1) * b for a, b in zip(m, g)]
        v = [beta2 * a + (1 - beta2) * b * b for a, b in zip(v, g)]
        u = [direction(a, b, eps, decay, x) for a, b, x in zip(m, v, w)]
        w = [x - rate * ratio(norm(*w), norm(*u)) * y for x, y in zip(w, u)]
        after.append(w)
    return {"after": np.stack([one for one, _ in after]), "other_after": np.stack([other for _, other in after])}


LAMB = (
    lamb("ratio_inverted", "|u| / |w| in the place of |w| / |u|", "large weights stand still, small ones explode",
         "constructed", times(lambda w, u: ratio(norm(u), norm(w)))),
    lamb("no_ratio", "steps as long as Adam's", "a batch of thousands needs another rate for every tensor",
         "constructed", times(lambda w, u: 1.0)),
    computes("lamb", "norms_of_all_tensors", "one ratio for the whole model", "the largest tensors set the pace of all",
             "constructed", of_all),
    lamb("norms_of_rows", "a ratio for each row of a matrix", "rows that are near 0 hardly move", "constructed",
         times(of_rows)),
    lamb("norms_of_numbers", "a ratio for each number", "every weight moves by its own share, whatever its gradient is",
         "constructed", times(of_numbers)),
    lamb("ratio_of_0", "a norm of 0 gives a ratio of 0", "weights that begin at 0 stay there for ever",
         "https://github.com/Spijkervet/SimCLR/issues/27, of LARS; cybertronai/pytorch-lamb, in an early version",
         times(lambda w, u: ratio(norm(w), norm(u)) if norm(w) > 0 else 0.0)),
    lamb("ratio_not_above_1", "the ratio is 1 at most", "steps of large weights are Adam's: LAMBC, another optimiser",
         "https://github.com/mosaicml/composer/pull/967", times(lambda w, u: min(1.0, ratio(norm(w), norm(u))))),
    lamb("ratio_before_decay", "|u| is taken before the decay is added to u",
         "strongly decayed weights take longer steps",
         "constructed", lambda w, a, decay, rate: w - rate * ratio(norm(w), norm(a)) * (a + decay * w)),
    lamb("decay_without_ratio", "the decay is not multiplied by the ratio",
         "small tensors decay too fast, large ones too slowly",
         "constructed", lambda w, a, decay, rate: w - rate * (ratio(norm(w), norm(a)) * a + decay * w)),
    lamb("squared_norms", "|w|^2 / |u|^2", "steps as long as the square of the weights", "constructed",
         times(lambda w, u: ratio(norm(w) ** 2, norm(u) ** 2))),
    sets("lamb", "bias_corrected", "mhat and vhat", "another length of the decay's share of the first steps",
         "https://github.com/jettify/pytorch-optimizer/issues/443, which asks for it", bias_correction=True),
    sets("lamb", "weights_norm_clamped", "the norm of the weights counts at most 10",
         "large tensors take shorter steps", "cybertronai/pytorch-lamb, in a later version", largest=10.0),
)


# ---------------------------------------------------------------- clipping

def clip(flag, bug, effect, source, factors):
    """factors(one, other, clip): what each tensor is multiplied by."""
    def forward(gradients, other_gradients, clip):
        one, other = factors(gradients, other_gradients, clip)
        return {"clipped": gradients * one, "other_clipped": other_gradients * other}
    return computes("clip_joint_norm", flag, bug, effect, source, forward)


def limited(joint, clip):
    return clip / joint if joint > clip else 1.0


def values(gradients, other_gradients, clip):
    return {"clipped": np.clip(gradients, -clip, clip), "other_clipped": np.clip(other_gradients, -clip, clip)}


def same(factor):
    return factor, factor


CLIP = (
    clip("each_tensor_alone", "every tensor is clipped by its own norm", "the gradient of the model points elsewhere",
         "https://github.com/carpedm20/MemN2N-tensorflow/issues/19",
         lambda a, b, clip: (limited(norm(a), clip), limited(norm(b), clip))),
    clip("norm_of_one_part", "the norm of one part of the model stands for that of all",
         "the other part is not clipped when it should be", "https://github.com/pytorch/torchtitan/pull/649",
         lambda a, b, clip: same(limited(norm(a), clip))),
    clip("always_scaled", "gradients shorter than the limit are made as long as it", "no step is ever short",
         "constructed", lambda a, b, clip: same(clip / norm(a, b) if norm(a, b) > 0 else 1.0)),
    computes("clip_joint_norm", "values_clipped", "every number is clipped, not the norm",
             "the gradient points elsewhere", "constructed", values),
    clip("norm_without_root", "the sum of squares in the place of its root", "clips too much, and by a square",
         "constructed", lambda a, b, clip: same(limited(norm(a, b) ** 2, clip))),
    clip("norms_added", "|a| + |b| in the place of the root of |a|^2 + |b|^2",
         "clips the more, the more tensors there are",
         "constructed", lambda a, b, clip: same(limited(norm(a) + norm(b), clip))),
    clip("root_mean_square", "the mean of squares in the place of their sum", "hardly ever clips", "constructed",
         lambda a, b, clip: same(limited(norm(a, b) / np.sqrt(a.size + b.size), clip))),
    sets("clip_joint_norm", "epsilon_added", "clip / (norm + 1e-6)", "gradients near 1e-6 are made shorter than asked",
         "torch.nn.utils.clip_grad_norm_", epsilon=1e-6),
)
TRAPS = BERT_ADAM + LAMB + CLIP
