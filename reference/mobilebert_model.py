"""MobileBERT (Sun, Yu, Song, Liu, Yang and Zhou 2020): narrow blocks between wide ends, with its masked language model.

    NoNorm(z) = gamma * z + beta                            in the place of every layer norm but the head's
    x       = NoNorm([e_{t+1}, e_t, e_{t-1}] W + E_position[t] + E_type[types])     e = E_word[ids], 0 outside the batch
    r       = NoNorm(x W_in)                                H -> D, the residual stream of a block
    s       = NoNorm(x W_s)                                 H -> D, what queries and keys are made of; values are of x
    h       = NoNorm(softmax(Q K^T / sqrt(K) over real keys) V W_o + r)
    h       = NoNorm(relu(h W_1) W_2 + h)                   several times
    y       = NoNorm(h W_out + x)                           D -> H
    z       = LN(relu(y W)) [E_word, E_more]^T + c          the decoder: H numbers a word, of which E_word has the first
    L       = -1/N sum_n log softmax(z_n)[y_n]              over the N tokens that have a label

The losses with which it is distilled are those of `mobilebert.py`. Weights are those of transformers'
MobileBertForMaskedLM (with key_query_shared_bottleneck), by their names; E_more lies there transposed, (H - E, V).

Traps
  - the next token comes first, then the token, then the previous one
  - the token behind the last real one is read, whatever it is; behind the batch stand zeros, not its first token
  - r and s are two bottlenecks, and values read neither
"""

import numpy as np

from tinydistill_reference.attention import attention
from tinydistill_reference.bert import heads_gradient, norm, norm_gradient, scores_of
from tinydistill_reference.embedding import embedding, embedding_gradient
from tinydistill_reference.encoder import (Parts, Settings, applied, applied_gradient, dense, dense_gradient, joined,
                                           masked_lm, masked_lm_gradient, put, split)
from tinydistill_reference.linear import linear, linear_gradient
from tinydistill_reference.no_norm import no_norm, no_norm_gradient

EMBEDDINGS, LAYERS, HEAD = "mobilebert.embeddings.", "mobilebert.encoder.layer.", "cls.predictions."
WORDS, WIDENING = f"{EMBEDDINGS}word_embeddings.weight", f"{EMBEDDINGS}embedding_transformation"


def scale(z, w, name):
    return applied(no_norm, z, w, name)


def scale_gradient(dy, z, w, name, found):
    return applied_gradient(no_norm_gradient, dy, z, w, name, found)


def relu(x):
    return x * (x.real > 0)


# ---------------------------------------------------------------- embeddings

def shifted(x, by):
    """x_{t + by}, 0 outside. Shapes: (B, T, E)."""
    y, T = 0 * x, x.shape[1]
    y[:, max(0, -by):T - max(0, by)] = x[:, max(0, by):T - max(0, -by)]
    return y


def trigram(x):
    """[x_{t+1}, x_t, x_{t-1}]. Shapes: (B, T, E) -> (B, T, 3E)."""
    return np.concatenate([shifted(x, 1), x, shifted(x, -1)], axis=2)


def trigram_gradient(dy):
    following, here, previous = np.split(dy, 3, axis=2)
    return shifted(following, -1) + here + shifted(previous, 1)


def tables(ids, token_types):
    """{table: the rows of it that are read, (B, T)}, but for the words."""
    positions = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    return {f"{EMBEDDINGS}position_embeddings.weight": positions,
            f"{EMBEDDINGS}token_type_embeddings.weight": token_types}


def summed(ids, token_types, w):
    words = dense(trigram(embedding(w[WORDS], ids)), w, WIDENING)                       # (B, T, H)
    return words + sum(embedding(w[name], rows) for name, rows in tables(ids, token_types).items())


def embeddings(ids, token_types, w, settings):
    return scale(summed(ids, token_types, w), w, f"{EMBEDDINGS}LayerNorm")


def embeddings_gradient(dy, ids, token_types, w, settings, found):
    dx = scale_gradient(dy, summed(ids, token_types, w), w, f"{EMBEDDINGS}LayerNorm", found)
    for name, rows in tables(ids, token_types).items():
        put(found, name, embedding_gradient(dx, w[name], rows)["table"])
    dwords = trigram_gradient(dense_gradient(dx, trigram(embedding(w[WORDS], ids)), w, WIDENING, found))
    put(found, WORDS, embedding_gradient(dwords, w[WORDS], ids)["table"])


# ---------------------------------------------------------------- a block

def feed_forwards(w, p):
    """(inner, outer) of each feed-forward, by the beginnings of their names."""
    stacked = len({name.removeprefix(f"{p}ffn.").split(".")[0] for name in w if name.startswith(f"{p}ffn.")})
    return [f"{p}ffn.{n}." for n in range(stacked)] + [p]


def feed_forward(h, w, p):
    """relu(h W_1) W_2 + h, before its NoNorm; relu(h W_1); h W_1."""
    inner = dense(h, w, f"{p}intermediate.dense")
    return dense(relu(inner), w, f"{p}output.dense") + h, inner


def feed_forward_gradient(dy, h, w, p, found):
    fed, inner = feed_forward(h, w, p)
    dfed = scale_gradient(dy, fed, w, f"{p}output.LayerNorm", found)
    dinner = dense_gradient(dfed, relu(inner), w, f"{p}output.dense", found) * (inner.real > 0)
    return dfed + dense_gradient(dinner, h, w, f"{p}intermediate.dense", found)


def layer(x, mask, w, p, settings):
    """All that a block computes, by name; its output is "hidden"."""
    down, shared = dense(x, w, f"{p}bottleneck.input.dense"), dense(x, w, f"{p}bottleneck.attention.dense")
    r, s = scale(down, w, f"{p}bottleneck.input.LayerNorm"), scale(shared, w, f"{p}bottleneck.attention.LayerNorm")
    queries, keys, values = (split(dense(source, w, f"{p}attention.self.{name}"), settings.heads)
                             for name, source in (("query", s), ("key", s), ("value", x)))
    context = attention(queries, keys, values, mask)
    attended = dense(joined(context), w, f"{p}attention.output.dense") + r
    h = [scale(attended, w, f"{p}attention.output.LayerNorm")]
    for q in feed_forwards(w, p):
        h.append(scale(feed_forward(h[-1], w, q)[0], w, f"{q}output.LayerNorm"))
    up = dense(h[-1], w, f"{p}output.bottleneck.dense") + x
    return {"down": down, "shared": shared, "s": s, "queries": queries, "keys": keys, "values": values,
            "scores": scores_of(queries, keys), "context": context, "attended": attended, "h": h, "up": up,
            "hidden": scale(up, w, f"{p}output.bottleneck.LayerNorm")}


def layer_gradient(upstream, x, mask, w, p, settings, found):
    """dL/dx, for gradients at any of queries, keys, values, scores and hidden."""
    made, dcontext, dx = layer(x, mask, w, p, settings), None, 0
    if "hidden" in upstream:
        dx = scale_gradient(upstream["hidden"], made["up"], w, f"{p}output.bottleneck.LayerNorm", found)
        dh = dense_gradient(dx, made["h"][-1], w, f"{p}output.bottleneck.dense", found)
        for q, h in reversed(list(zip(feed_forwards(w, p), made["h"]))):
            dh = feed_forward_gradient(dh, h, w, q, found)
        dr = scale_gradient(dh, made["attended"], w, f"{p}attention.output.LayerNorm", found)
        dcontext = split(dense_gradient(dr, joined(made["context"]), w, f"{p}attention.output.dense", found),
                         settings.heads)
        ddown = scale_gradient(dr, made["down"], w, f"{p}bottleneck.input.LayerNorm", found)
        dx = dx + dense_gradient(ddown, x, w, f"{p}bottleneck.input.dense", found)
    dheads, ds = heads_gradient(dcontext, upstream, made["queries"], made["keys"], made["values"], mask), 0
    if "values" in dheads:
        dx = dx + dense_gradient(joined(dheads["values"]), x, w, f"{p}attention.self.value", found)
    if "queries" not in dheads and "keys" not in dheads:
        return dx
    for name, each in (("query", "queries"), ("key", "keys")):
        if each in dheads:
            ds = ds + dense_gradient(joined(dheads[each]), made["s"], w, f"{p}attention.self.{name}", found)
    dshared = scale_gradient(ds, made["shared"], w, f"{p}bottleneck.attention.LayerNorm", found)
    return dx + dense_gradient(dshared, x, w, f"{p}bottleneck.attention.dense", found)


# ---------------------------------------------------------------- the head

def decoder(w):
    """(V, H): a word's embedding, and the numbers that only the decoder has."""
    return np.concatenate([w[WORDS], w[f"{HEAD}dense.weight"].T], axis=1)


def head(x, w, settings):
    """z, or None where there is no head."""
    if f"{HEAD}bias" not in w:
        return None
    y = relu(dense(x, w, f"{HEAD}transform.dense"))
    return linear(norm(y, w, f"{HEAD}transform.LayerNorm", settings), decoder(w), w[f"{HEAD}bias"])


def head_gradient(dz, x, w, settings, found):
    inner, width = dense(x, w, f"{HEAD}transform.dense"), w[WORDS].shape[1]
    y = norm(relu(inner), w, f"{HEAD}transform.LayerNorm", settings)
    gradients = linear_gradient(dz, y, decoder(w), w[f"{HEAD}bias"])
    put(found, WORDS, gradients["weight"][:, :width])
    put(found, f"{HEAD}dense.weight", gradients["weight"][:, width:].T)
    put(found, f"{HEAD}bias", gradients["bias"])
    dy = norm_gradient(gradients["x"], relu(inner), w, f"{HEAD}transform.LayerNorm", settings, found)
    return dense_gradient(dy * (inner.real > 0), x, w, f"{HEAD}transform.dense", found)


# ---------------------------------------------------------------- the model

MOBILEBERT = Parts(LAYERS, embeddings, embeddings_gradient, layer, layer_gradient, head, head_gradient)


def mobilebert(ids, mask, token_types, labels, *, heads, eps=1e-12, parts=MOBILEBERT, **weights):
    """L."""
    return masked_lm(weights, ids, mask, token_types, labels, Settings(heads, eps, "relu"), parts)


def mobilebert_gradient(upstream, ids, mask, token_types, labels, *, heads, eps=1e-12, parts=MOBILEBERT, **weights):
    """dL/dW of every weight."""
    return masked_lm_gradient(upstream, weights, ids, mask, token_types, labels, Settings(heads, eps, "relu"), parts)
