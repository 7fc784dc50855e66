"""Every equation of the kit that has a gradient, in PyTorch, as its adapter's answer: built-ins where PyTorch has them.

LOSSES: {equation: f(convention, attrs, **inputs) -> value}, under the names of the kit; the pieces are those of
oracle/pieces.py, the models transformers' own and torch.nn.LSTM. Gradients are autograd's.
"""

import functools

import torch
import torch.nn.functional as F
import transformers

from oracle import attention_transfer, bert, bilstm, distilbert, fitnets, internal, label_smoothing, minilm
from oracle import minilm_ablations, minilm_v2, mobilebert, pieces, pkd, shared_projection, soft_labels, spans, tinybert
from tinydistill.features import Batch
from tinydistill_reference.conventions import IGNORED
from tinydistill_reference.equation import equations

torch.set_num_threads(1)                            # for arrays this small, threads only wait for each other


# ---------------------------------------------------------------- losses

def rows_of_classes(c, a, student_logits, teacher_logits):
    return soft_labels.TOKENS[c](student_logits, teacher_logits, slice(None), None, a["temperature"])


def rows_of_tokens(c, a, student_logits, teacher_logits, mask, labels):
    return soft_labels.TOKENS[c](student_logits, teacher_logits, mask, labels != IGNORED, a["temperature"])


def distilberts_tokens(c, a, student_logits, teacher_logits, mask, labels):
    function = soft_labels.restricted if c == "labelled" else soft_labels.paper
    return function(student_logits, teacher_logits, mask, labels != IGNORED, a["temperature"])


def masked_tokens(c, a, student_logits, teacher_logits, mask, labels):
    """MLM-KD of rows with a label; DistilBERT's of all real rows."""
    function = soft_labels.paper if c == "distilbert" else soft_labels.restricted
    return function(student_logits, teacher_logits, mask, labels != IGNORED, a["temperature"])


def first_pieces(c, a, student_logits, teacher_logits, labels):
    first, T = labels != IGNORED, a["temperature"]
    return F.cross_entropy(student_logits[first] / T, F.softmax(teacher_logits[first].detach() / T, -1))


def over_labels(c, a, student_logits, labels):
    """Of (B, T, V) with labels (B, T), or of (B, C) with labels (B,); 0 where there is no label."""
    if (labels == IGNORED).all():
        return 0 * student_logits.sum()
    return F.cross_entropy(student_logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED)


def smoothed(c, a, student_logits, labels):
    return label_smoothing.standard(student_logits.flatten(0, 1), labels.flatten(), a["smoothing"])


def smoothed_by_unilm(c, a, student_logits, labels):
    return label_smoothing.unilm(student_logits.flatten(0, 1), labels.flatten(), a["smoothing"],
                                 added=1e-5 if c == "official" else 0.0)


def both_ends(c, a, student_logits, labels, mask):
    divisor = labels.numel() if c == "official" else max(1, int((labels != IGNORED).sum()))
    return spans.positions(student_logits, labels, mask, divisor, padding=c == "official")


def two_vocabularies(c, a, teacher_logits, labels, own):
    """Words of the other vocabulary are -inf."""
    return F.cross_entropy(teacher_logits.masked_fill(~own, -torch.inf), labels, ignore_index=IGNORED)


def hint(c, a, student_hidden, teacher_hidden, mask, weight, bias):
    function = fitnets.official if c == "official" else fitnets.hint
    return function(student_hidden, teacher_hidden, weight, bias, mask)


def mapped(paper, official):
    """A loss of TinyBERT with a learned map."""
    def loss(c, a, mask, weight, **sides):
        student, teacher = sides.values()
        return (official if c == "official" else paper)(student, weight, None, teacher, mask)
    return loss


def relations(c, a, mask, **sides):
    """MiniLMv2's, of queries, keys or values."""
    student, teacher = sides.values()
    return minilm_v2.relation_transfer(student, teacher.detach(), mask, a["relation_heads"], c)


def projections(loss):
    """L_d or L_u: blocks by the sizes; a bias is a matrix of one column."""
    def of_weights(c, a, u, v, **sides):
        student, teacher = ({name.removeprefix(side): w if w.ndim == 2 else w[:, None] for name, w in sides.items()
                             if name.startswith(side)} for side in ("student_", "teacher_"))
        moved, still = (teacher, student) if loss is shared_projection.down else (student, teacher)
        blocks = {name: tuple(None if n == m else n // own for n, m, own in zip(w.shape, still[name].shape,
                                                                               (u.shape[1], v.shape[0])))
                  for name, w in moved.items()}
        return loss(student, teacher, u, v, blocks)
    return of_weights


def of_masked(paper, official=None):
    """f(student, teacher, mask) by the convention, of tensors in this order."""
    return lambda c, a, mask, **sides: (official if c in ("official", "pairs", "summed") else paper)(
        *sides.values(), mask)


def patience(c, a, student_hidden, teacher_hidden, mask):
    return getattr(pkd, c)(student_hidden, teacher_hidden, mask)


def logits_of_distilbert(c, a, student_logits, teacher_logits, mask, labels):
    return distilbert.logits_mse(student_logits, teacher_logits, labels != IGNORED if c == "labelled" else mask)


def pretraining(c, a, student_logits, teacher_logits, labels):
    return mobilebert.pretraining(student_logits, teacher_logits, labels, 1e-5 if c == "official" else 0.0,
                                  a["ground_truth"])


def per_token(loss):
    return of_masked(mobilebert.per_sequence(loss), mobilebert.of_everything(loss))


LOSSES = {
    "soft_labels.classes": rows_of_classes, "soft_labels.tokens": rows_of_tokens,
    "soft_labels.masked": masked_tokens,
    "soft_labels.logits_mse": lambda c, a, student_logits, teacher_logits:
        soft_labels.LOGITS[c](student_logits, teacher_logits, slice(None), a["temperature"]),
    "soft_labels.span": lambda c, a, student_logits, teacher_logits, mask:
        soft_labels.span(student_logits, teacher_logits, mask, a["temperature"], c == "official"),
    "sequence_labels": first_pieces,
    "cross_entropy": over_labels, "masked_lm": over_labels, "next_sentence": over_labels,
    "label_smoothing": smoothed, "label_smoothing.unilm": smoothed_by_unilm, "spans.positions": both_ends,
    "distilbert.soft_labels": distilberts_tokens, "distilbert.logits_mse": logits_of_distilbert,
    "distilbert.cosine": of_masked(distilbert.cosine, distilbert.cosine),
    "fitnets.hint": hint,
    "fitnets.softened": lambda c, a, student_logits, teacher_logits:
        fitnets.softened(student_logits, teacher_logits, a["temperature"]),
    "attention_transfer.maps": of_masked(attention_transfer.maps),
    "attention_transfer.maps_official": of_masked(attention_transfer.real, attention_transfer.official),
    "internal.attention": of_masked(internal.attention, internal.summed), "internal.cosine": of_masked(internal.cosine),
    "minilm.attention": lambda c, a, student_queries, student_keys, teacher_queries, teacher_keys, mask:
        minilm.transfer(student_queries, student_keys, teacher_queries.detach(), teacher_keys.detach(), mask, c),
    "minilm.value_relation": lambda c, a, student_values, teacher_values, mask:
        minilm.transfer(student_values, student_values, teacher_values.detach(), teacher_values.detach(), mask, c),
    "minilm.hidden_relation": lambda c, a, student_hidden, teacher_hidden, mask:
        minilm_ablations.hidden_relation_transfer(student_hidden, teacher_hidden.detach(), mask),
    "minilm.value_mse": lambda c, a, student_values, teacher_values, mask, weight:
        minilm_ablations.value_error(student_values, teacher_values.detach(), mask, weight),
    "minilm_v2.queries": relations, "minilm_v2.keys": relations, "minilm_v2.values": relations,
    "mobilebert.attention": of_masked(mobilebert.attention, mobilebert.attention_official),
    "mobilebert.feature_map": per_token(F.mse_loss),
    "mobilebert.feature_map_normalised": per_token(mobilebert.normalised),
    "mobilebert.mean_transfer": per_token(mobilebert.means),
    "mobilebert.variance_transfer": per_token(mobilebert.variances),
    "mobilebert.pretraining": pretraining,
    "pkd.patience": patience,
    "shared_projection.down": projections(shared_projection.down),
    "shared_projection.up": projections(shared_projection.up),
    "shared_projection.mixed_masked_lm": two_vocabularies,
    "tinybert.attention": of_masked(tinybert.attention, tinybert.attention_pairs),
    "tinybert.attention_official": of_masked(tinybert.attention, tinybert.attention_official),
    "tinybert.hidden": mapped(tinybert.hidden, tinybert.hidden_official),
    "tinybert.embedding": mapped(tinybert.hidden, tinybert.hidden_official),
    "tinybert.prediction": lambda c, a, student_logits, teacher_logits:
        (tinybert.prediction_official if c == "official" else tinybert.prediction)(
            student_logits, teacher_logits, None, a["temperature"]),
}

def answer(convention):
    """call(equation, attrs, inputs, grads, upstream, dtype), under one convention."""
    def call(equation, attrs, inputs, grads, upstream, dtype):
        if equation.startswith("model."):
            outputs, learned = of_model(equation, inputs, dtype)
            return answered(outputs, learned, grads, upstream)
        tensors = {name: torch.tensor(x, dtype=getattr(torch, dtype), requires_grad=True) if x.dtype.kind == "f" else
                   torch.tensor(x) for name, x in inputs.items()}
        if equation in pieces.PIECES:
            outputs = pieces.PIECES[equation](attrs, equations()[equation].settings(convention), **tensors)
            outputs = outputs if isinstance(outputs, dict) else {"y": outputs}
        else:
            outputs = {"value": LOSSES[equation](convention, attrs, **tensors)}
        return answered(outputs, {n: x for n, x in tensors.items() if x.requires_grad}, grads, upstream)
    return call


def answered(outputs, learned, grads, upstream):
    """Values, and gradients where they are asked for."""
    found = {name: y.detach().numpy() for name, y in outputs.items()}
    if not grads:
        return found
    upstream = upstream if isinstance(upstream, dict) else {name: upstream for name in outputs}
    below = [torch.tensor(upstream[name], dtype=y.dtype).expand(y.shape) for name, y in outputs.items()]
    dxs = torch.autograd.grad(list(outputs.values()), list(learned.values()), below, allow_unused=True)
    return found | {f"d{name}": None if dx is None else dx.numpy() for name, dx in zip(learned, dxs)}


# ---------------------------------------------------------------- models

SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 11, "vocab_size": 13,
         "max_position_embeddings": 7, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
MOBILE = SIZES | {"hidden_size": 9, "intra_bottleneck_size": 6, "true_hidden_size": 6, "embedding_size": 5,
                  "num_feedforward_networks": 2, "classifier_activation": False}


@functools.cache
def architecture(mobile):
    """transformers' masked language model, in plain ("eager") attention."""
    made = transformers.MobileBertForMaskedLM(transformers.MobileBertConfig(**MOBILE, attn_implementation="eager")) \
        if mobile else transformers.BertForMaskedLM(transformers.BertConfig(**SIZES, attn_implementation="eager"))
    made.base_model.embeddings.word_embeddings.padding_idx = None       # here [PAD] is a word like any other
    return made.eval()


def of_model(equation, inputs, dtype):
    """({output: tensor}, {parameter of the kit: tensor}), with the weights of a case."""
    if equation == "model.bilstm":
        made = bilstm.Twin({name: x.astype(dtype) for name, x in inputs.items() if "." in name}, getattr(torch, dtype))
        logits = made([i[m] for i, m in zip(inputs["ids"], inputs["mask"])])
        value = F.cross_entropy(logits, torch.tensor(inputs["labels"]))
        return {"value": value}, {made.names[name]: p for name, p in made.named_parameters()}
    made = architecture(equation == "model.mobilebert").to(getattr(torch, dtype))
    learned = dict(made.named_parameters())
    for name, p in learned.items():
        p.data.copy_(torch.tensor(inputs[name]))
    batch = Batch(**{name: inputs[name] for name in ("ids", "mask", "token_types")})
    found = bert.graph(made, batch)
    if equation == "model.bert_features":
        places = {name if layer is None else f"{name}.{layer}": x for (name, layer), x in found.items()
                  if name != "attention"}
        return places | {"logits": places["logits"].unflatten(0, inputs["ids"].shape)}, learned
    return {"value": F.cross_entropy(found["logits", None], torch.tensor(inputs["labels"]).flatten())}, learned
