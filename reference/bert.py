"""BERT (Devlin, Chang, Lee and Toutanova 2019), with the head of its masked language model or one for classes.

    x       = LN(E_word[ids] + E_position[t] + E_type[types])
    Q, K, V = x W_q, x W_k, x W_v                           each with its bias, cut into heads of K numbers
    S       = Q K^T / sqrt(K)                               scores, before mask and softmax
    h       = LN(softmax(S over real keys) V W_o + x)       post-norm: the norm stands behind the sum
    y       = LN(gelu(h W_1) W_2 + h)                       which is x of the next layer
    z       = LN(gelu(y W)) E_word^T + c                    words: the decoder is tied to the word embeddings
    z       = tanh(y_[CLS] W_p) W + c                       classes

    L       = -1/N sum_n log softmax(z_n)[y_n]              over the N tokens that have a label

Backwards, with d for dL/d: y = x W^T + b has dx = dy W, dW = dy^T x, db = sum dy; a sum hands its gradient to
both sides; attention, layer norm and gelu have their own in `attention.py`, `layer_norm.py` and `gelu.py`.

Weights are those of transformers' BertForMaskedLM or BertForSequenceClassification, by their names.
Shapes: ids, mask, token_types, labels (B, T); queries, keys, values (B, A, T, K); scores (B, A, T, T).

Traps
  - the norms stand behind the sums, and in the head behind gelu
  - a padded key is left out of the softmax; a padded row is computed like any other, and nobody reads it
  - the word embeddings get two gradients, one as embeddings and one as decoder
  - gelu is x Phi(x); Google's code has the tanh form
"""

import numpy as np

from tinydistill_reference.attention import attention, attention_gradient
from tinydistill_reference.embedding import embedding, embedding_gradient
from tinydistill_reference.encoder import (Parts, Settings, applied, applied_gradient, dense, dense_gradient,
                                           everywhere, features, features_gradient, joined, masked_lm,
                                           masked_lm_gradient, put, split)
from tinydistill_reference.gelu import gelu, gelu_gradient, gelu_new, gelu_new_gradient
from tinydistill_reference.layer_norm import layer_norm, layer_norm_gradient
from tinydistill_reference.linear import linear, linear_gradient

ACTIVATIONS = {"gelu": (gelu, gelu_gradient), "gelu_new": (gelu_new, gelu_new_gradient)}
EMBEDDINGS, LAYERS, WORD_HEAD = "bert.embeddings.", "bert.encoder.layer.", "cls.predictions."
WORDS = "bert.embeddings.word_embeddings.weight"


def norm(x, w, name, settings):
    return applied(layer_norm, x, w, name, eps=settings.eps)


def norm_gradient(dy, x, w, name, settings, found):
    return applied_gradient(layer_norm_gradient, dy, x, w, name, found, eps=settings.eps)


def activated(x, settings):
    return ACTIVATIONS[settings.activation][0](x)


def activated_gradient(dy, x, settings):
    return ACTIVATIONS[settings.activation][1](dy, x)["x"]


# ---------------------------------------------------------------- embeddings

def tables(ids, token_types):
    """{table: the rows of it that are read, (B, T)}."""
    positions = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    return {f"{EMBEDDINGS}{name}_embeddings.weight": rows
            for name, rows in (("word", ids), ("position", positions), ("token_type", token_types))}


def summed(ids, token_types, w):
    """E_word[ids] + E_position[t] + E_type[types]."""
    return sum(embedding(w[name], rows) for name, rows in tables(ids, token_types).items())


def embeddings(ids, token_types, w, settings):
    return norm(summed(ids, token_types, w), w, f"{EMBEDDINGS}LayerNorm", settings)


def embeddings_gradient(dy, ids, token_types, w, settings, found):
    dx = norm_gradient(dy, summed(ids, token_types, w), w, f"{EMBEDDINGS}LayerNorm", settings, found)
    for name, rows in tables(ids, token_types).items():
        put(found, name, embedding_gradient(dx, w[name], rows)["table"])


# ---------------------------------------------------------------- a layer

def scores_of(queries, keys):
    """S, before mask and softmax."""
    return queries @ keys.swapaxes(2, 3) / queries.shape[3] ** 0.5                      # (B, A, T, T)


def heads_gradient(dcontext, upstream, queries, keys, values, mask):
    """{"queries": gradient ...} of those that dcontext, or None, and upstream, {"scores": gradient ...}, reach."""
    found, scale = {name: upstream[name] for name in ("queries", "keys",
                                                      "values") if name in upstream}, keys.shape[3] ** 0.5
    if "scores" in upstream:
        put(found, "queries", upstream["scores"] @ keys / scale)
        put(found, "keys", upstream["scores"].swapaxes(2, 3) @ queries / scale)
    if dcontext is not None:
        for name, d in attention_gradient(dcontext, queries, keys, values, mask).items():
            put(found, name, d)
    return found


def layer(x, mask, w, p, settings):
    """All that a layer computes, by name; its output is "hidden". p: what the names of its weights begin with."""
    queries, keys, values = (split(dense(x, w, f"{p}attention.self.{name}"), settings.heads)
                             for name in ("query", "key", "value"))
    context = attention(queries, keys, values, mask)
    attended = dense(joined(context), w, f"{p}attention.output.dense") + x
    h = norm(attended, w, f"{p}attention.output.LayerNorm", settings)
    inner = dense(h, w, f"{p}intermediate.dense")
    fed = dense(activated(inner, settings), w, f"{p}output.dense") + h
    return {"queries": queries, "keys": keys, "values": values, "scores": scores_of(queries, keys),
            "context": context, "attended": attended, "h": h, "inner": inner, "fed": fed,
            "hidden": norm(fed, w, f"{p}output.LayerNorm", settings)}


def layer_gradient(upstream, x, mask, w, p, settings, found):
    """dL/dx, for gradients at any of queries, keys, values, scores and hidden."""
    made, dcontext, dx = layer(x, mask, w, p, settings), None, 0
    if "hidden" in upstream:
        dfed = norm_gradient(upstream["hidden"], made["fed"], w, f"{p}output.LayerNorm", settings, found)
        dactive = dense_gradient(dfed, activated(made["inner"], settings), w, f"{p}output.dense", found)
        dinner = activated_gradient(dactive, made["inner"], settings)
        dh = dfed + dense_gradient(dinner, made["h"], w, f"{p}intermediate.dense", found)
        dx = norm_gradient(dh, made["attended"], w, f"{p}attention.output.LayerNorm", settings, found)
        dcontext = split(dense_gradient(dx, joined(made["context"]), w, f"{p}attention.output.dense", found),
                         settings.heads)
    dheads = heads_gradient(dcontext, upstream, made["queries"], made["keys"], made["values"], mask)
    for name, each in (("query", "queries"), ("key", "keys"), ("value", "values")):
        if each in dheads:
            dx = dx + dense_gradient(joined(dheads[each]), x, w, f"{p}attention.self.{name}", found)
    return dx


# ---------------------------------------------------------------- heads

def head(x, w, settings):
    """z, or None where there is no head."""
    if f"{WORD_HEAD}bias" in w:
        y = activated(dense(x, w, f"{WORD_HEAD}transform.dense"), settings)
        return linear(norm(y, w, f"{WORD_HEAD}transform.LayerNorm", settings), w[WORDS], w[f"{WORD_HEAD}bias"])
    if "classifier.bias" in w:
        return dense(np.tanh(dense(x[:, 0], w, "bert.pooler.dense")), w, "classifier")
    return None


def head_gradient(dz, x, w, settings, found):
    if f"{WORD_HEAD}bias" in w:
        inner = dense(x, w, f"{WORD_HEAD}transform.dense")
        y = activated(inner, settings)
        gradients = linear_gradient(dz, norm(y, w, f"{WORD_HEAD}transform.LayerNorm", settings), w[WORDS],
                                    w[f"{WORD_HEAD}bias"])
        put(found, WORDS, gradients["weight"])
        put(found, f"{WORD_HEAD}bias", gradients["bias"])
        dy = norm_gradient(gradients["x"], y, w, f"{WORD_HEAD}transform.LayerNorm", settings, found)
        return dense_gradient(activated_gradient(dy, inner, settings), x, w, f"{WORD_HEAD}transform.dense", found)
    pooled = np.tanh(dense(x[:, 0], w, "bert.pooler.dense"))
    dpooled = dense_gradient(dz, pooled, w, "classifier", found)
    dx = 0 * x
    dx[:, 0] = dense_gradient(dpooled * (1 - pooled ** 2), x[:, 0], w, "bert.pooler.dense", found)
    return dx


# ---------------------------------------------------------------- the model

BERT = Parts(LAYERS, embeddings, embeddings_gradient, layer, layer_gradient, head, head_gradient)


def bert(ids, mask, token_types, labels, *, heads, eps=1e-12, activation="gelu", parts=BERT, **weights):
    """L."""
    return masked_lm(weights, ids, mask, token_types, labels, Settings(heads, eps, activation), parts)


def bert_gradient(upstream, ids, mask, token_types, labels, *, heads, eps=1e-12, activation="gelu", parts=BERT,
                  **weights):
    """dL/dW of every weight."""
    return masked_lm_gradient(upstream, weights, ids, mask, token_types, labels, Settings(heads, eps, activation),
                              parts)


def bert_features(ids, mask, token_types, *, heads, eps=1e-12, activation="gelu", parts=BERT, **weights):
    """{feature: array}, from the embeddings up to the logits."""
    return features(weights, ids, mask, token_types, Settings(heads, eps, activation), parts)


def bert_features_gradient(upstream, ids, mask, token_types, *, heads, eps=1e-12, activation="gelu", parts=BERT,
                           **weights):
    """dL/dW of every weight, L = sum over features of <upstream, feature>."""
    settings = Settings(heads, eps, activation)
    return everywhere(features_gradient(upstream, weights, ids, mask, token_types, settings, parts), weights)
