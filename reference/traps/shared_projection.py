"""Shared projections: how they could be got wrong. No code of theirs exists, so most of this is constructed."""

import numpy as np

from tinydistill_reference.conventions import IGNORED
from tinydistill_reference.mistakes import computes, derives, scaled
from tinydistill_reference.shared_projection import axis_map, by_role, matrix
from tinydistill_reference.traps.batched import TEACHER_MOVES, log_softmax, upstream_forgotten

PATENT = "US patent 11,797,862, whose claims compare by a mean squared error"


def repeated(length, wanted, m):
    """A map that takes an axis of k times the width as pairs that lie side by side, not one block behind the other."""
    return np.eye(length, dtype=m.dtype) if length == wanted else np.kron(m, np.eye(length // m.shape[1]))


def first_block(length, wanted, m):
    """Only the first block is mapped, the others become 0."""
    whole = axis_map(length, wanted, m)
    if length != wanted:
        whole[m.shape[0]:] = 0
    return whole


def weights(loss, left_out=(), along=axis_map, of=lambda e: (e * e).sum(), whole=lambda total: total):
    """L_d or L_u; left_out: roles that nobody compares; of: the loss of a difference; whole: of their sum."""
    def forward(u, v, **sides):
        total = 0
        for name, (student, teacher) in by_role(sides).items():
            moved, still = (matrix(w) for w in ((teacher, student) if loss == "down" else (student, teacher)))
            if not any(word in name for word in left_out):
                left, right = along(moved.shape[0], still.shape[0], u), along(moved.shape[1], still.shape[1], v.T).T
                total = total + of(left @ moved @ right - still)
        return whole(total)
    return forward


def zeros(names):
    return lambda g, i, a, u: {f"d{name}": np.zeros_like(g[f"d{name}"]) for name in names}


def teacher_grad(loss):
    """dL/dW^T: 2 U^T E V^T where it is projected, -2 E where it is not."""
    def change(right, inputs, attrs, upstream):
        u, v, found = inputs["u"], inputs["v"], {}
        for name, (student, teacher) in by_role({n: x for n, x in inputs.items() if n not in ("u", "v")}).items():
            moved, still = (matrix(w) for w in ((teacher, student) if loss == "down" else (student, teacher)))
            left, right_ = axis_map(moved.shape[0], still.shape[0], u), axis_map(moved.shape[1], still.shape[1], v.T).T
            e = 2 * upstream * (left @ moved @ right_ - still)
            found[f"dteacher_{name}"] = (left.T @ e @ right_.T if loss == "down" else -e).reshape(teacher.shape)
        return found
    return change


def of_weights(loss):
    E = f"shared_projection.{loss}"
    return (
        computes(E, "mean_of_entries", "the mean square of each weight, summed over weights", "small weights count as "
                 "much as large ones", PATENT, weights(loss, of=lambda e: (e * e).mean())),
        computes(E, "norm", "the norm of each difference, not its square", "a gradient of the same size however near "
                 "the two are", "Zhao et al. 2019, equations of L_d and L_u (unverified)",
                 weights(loss, of=lambda e: np.sqrt((e * e).sum() + 1e-300))),
        computes(E, "biases_left_out", "matrices only", "biases never hear of the teacher", "constructed",
                 weights(loss, left_out=("bias",))),
        computes(E, "words_left_out", "embeddings are not compared", "what the student has most of learns least",
                 "constructed", weights(loss, left_out=("words",))),
        computes(E, "blocks_interleaved", "an axis of k widths is taken as k neighbours, not as k blocks",
                 "feed-forward units are mixed with others than by the same map elsewhere", "constructed",
                 weights(loss, along=repeated)),
        computes(E, "first_block_only", "only the first width of a longer axis is projected", "three quarters of the "
                 "feed-forward layer are pulled to 0", "constructed", weights(loss, along=first_block)),
        derives(E, "maps_frozen", "the maps get no gradient: they stay as they were drawn", "the student learns a "
                "random projection of its teacher", "constructed", zeros(("u", "v"))),
        derives(E, "v_frozen", "only one of the two maps learns", "columns are projected as they were drawn",
                "constructed", zeros(("v",))),
        derives(E, "missing_2", "a backward without the 2 of the square", "half of the learning rate", "constructed",
                lambda g, i, a, u: {name: x / 2 for name, x in g.items()}),
        derives(E, "teacher_grad", "the teacher's weights get the gradient, too", TEACHER_MOVES,
                "https://github.com/pytorch/translate/pull/391", teacher_grad(loss)),
        upstream_forgotten(E),
    )


def mixed(hidden=lambda own: np.where(own, 0.0, -1e30), divisor=lambda labels: (labels != IGNORED).sum()):
    """L_MLM; hidden(own): what is added to the logits."""
    def forward(teacher_logits, labels, own):
        log_q, rows = log_softmax(teacher_logits + hidden(own)), np.flatnonzero(labels != IGNORED)
        return -log_q[rows, labels[rows]].sum() / divisor(labels)
    return forward


def by_vocabulary(teacher_logits, labels, own):
    """A mean of each vocabulary's rows, then the mean of the two."""
    kinds = np.unique(own[labels != IGNORED], axis=0)
    each = [(labels != IGNORED) & (own == kind).all(axis=1) for kind in kinds]
    return sum(mixed()(teacher_logits[rows], labels[rows], own[rows]) for rows in each) / len(each)


def without_onehot(right, inputs, attrs, upstream):
    labels, own = inputs["labels"], inputs["own"]
    q = np.exp(log_softmax(inputs["teacher_logits"] + np.where(own, 0.0, -1e30)))
    return {"dteacher_logits": np.where(labels[:, None] != IGNORED, upstream * q / (labels != IGNORED).sum(), 0)}


L = "shared_projection.mixed_masked_lm"
TRAPS = of_weights("down") + of_weights("up") + (
    computes(L, "one_softmax", "one softmax over both vocabularies", "words of one are taught against those of the "
             "other, of which no place can be both", "US patent 11,797,862, claim 8: two separate softmax layers",
             mixed(hidden=lambda own: 0.0)),
    computes(L, "divided_by_rows", "a division by all rows, not by those that have a label", "smaller, the fewer "
             "tokens were masked", "https://github.com/ServiceNow/Fast-LLM/issues/344", mixed(divisor=len)),
    computes(L, "mean_of_means", "the mean of the two vocabularies' means", "labels of the rarer vocabulary weigh more",
             "https://github.com/huggingface/transformers/issues/34191", by_vocabulary),
    computes(L, "soft_mask", "words of the other vocabulary are lowered by 6 in the place of being left out", "they "
             "keep a weight of about e^-6 each", "constructed",
             mixed(hidden=lambda own: np.where(own, 0.0, -6.0))),
    scaled(L, "sum_over_labels", "a sum over the labels", "the learning rate grows with the batch", "constructed",
           value=lambda i, a: (i["labels"] != IGNORED).sum(), gradient=lambda i, a: (i["labels"] != IGNORED).sum()),
    derives(L, "onehot_forgotten", "a backward of softmax in the place of softmax - onehot", "every logit sinks, the "
            "right one too", "constructed", without_onehot),
    upstream_forgotten(L),
)
