"""Whole Transformers: how they have been built wrong."""

import numpy as np

from tinydistill_reference.attention import attention
from tinydistill_reference.bert import (BERT, WORDS, activated, activated_gradient, head_gradient, heads_gradient,
                                        layer, layer_gradient, norm, norm_gradient, scores_of)
from tinydistill_reference.encoder import dense, dense_gradient, everywhere, joined, put, split
from tinydistill_reference.equation import Trap
from tinydistill_reference.mistakes import ignores_upstream, reads, scaled, sets
from tinydistill_reference.softmax import softmax, softmax_gradient

B, F, M = "model.bert", "model.bert_features", "model.mobilebert"


def rewired(equation, flag, bug, effect, source, read, back):
    """read(inputs) -> the inputs that are read instead; back(gradients, inputs) -> gradients of what was given."""
    def gradients(e, upstream, inputs, attrs):
        found = back(e.gradient(upstream, **read(inputs), **(e.attrs | attrs)), inputs)
        return {f"d{name}": found[name] for name in e.differentiable}
    return Trap(equation, flag, bug, effect, source, lambda e, inputs, attrs: e.values(read(inputs), attrs), gradients)


def each(change, *parts):
    """f(found) that changes the weights whose names have one of these parts, and leaves the others."""
    return lambda found: {name: change(x) if "." in name and any(part in name for part in parts) else x
                          for name, x in found.items()}


def swapped(equation, flag, bug, effect, source, change, undo, *parts):
    """Weights that are changed before they are read, by a linear map whose transpose is `undo`."""
    return rewired(equation, flag, bug, effect, source, each(change, *parts), lambda g, inputs: each(undo, *parts)(g))


def absent(equation, flag, bug, effect, source, *parts):
    """Weights that are never read."""
    return swapped(equation, flag, bug, effect, source, lambda x: 0 * x, lambda g: 0 * g, *parts)


def louder(equation, flag, bug, effect, source, factor):
    """Scores times factor(inputs)."""
    def times(found, inputs):
        return each(lambda x: x * factor(inputs), ".self.query.")(found)
    return rewired(equation, flag, bug, effect, source, lambda inputs: times(inputs, inputs), times)


def heads_width(inputs):
    return next(len(x) for name, x in inputs.items() if name.endswith("self.query.weight"))


def no_scale(equation):
    return louder(equation, "no_scale", "scores are not divided by sqrt(K)",
                  "attention is too sharp; a teacher's weights give other features",
                  "https://github.com/mlc-ai/mlc-llm/pull/3426", lambda inputs: (heads_width(inputs) // 2) ** 0.5)


def width_scale(equation):
    return louder(equation, "scale_by_width", "scores are divided by the root of the width of all heads, not of one",
                  "attention is too flat", "https://github.com/Graylab/DL4Proteins-notebooks/issues/12",
                  lambda inputs: 0.5 ** 0.5)


def no_mask(equation):
    return reads(equation, "no_mask", "no attention mask is passed on: padding is read as words",
                 "features depend on the longest sequence of the batch",
                 "https://github.com/CarryCKW/AES-NPCR/issues/7",
                 mask=lambda inputs, attrs: np.ones_like(inputs["mask"]))


def one_type(equation):
    return reads(equation, "token_types_ignored", "token types are not passed on: all are 0",
                 "a pair of sentences is read as one", "https://github.com/allenai/allennlp/issues/5129",
                 token_types=lambda inputs, attrs: 0 * inputs["token_types"])


def no_positions(equation):
    return absent(equation, "no_positions", "position embeddings are not added", "a sentence is a bag of words",
                  "constructed", "position_embeddings")


def moved_positions(equation):
    return swapped(equation, "positions_from_2", "positions are counted from 2, as RoBERTa counts them",
                   "every token has the position of another",
                   "facebookresearch/fairseq fairseq/utils.py make_positions",
                   lambda x: np.roll(x, -2, axis=0), lambda g: np.roll(g, 2, axis=0), "position_embeddings")


def other_gelu(equation):
    return sets(equation, "gelu_tanh", "the tanh form of GELU in the place of the exact one",
                "features of a teacher made with the exact one are off", "google-research/bert modeling.py gelu",
                activation="gelu_new")


def other_eps(equation):
    return sets(equation, "eps_1e-5", "layer norms with PyTorch's default eps of 1e-5, not 1e-12",
                "features of a teacher are off where its activations are small",
                "https://github.com/keras-team/keras-hub/issues/642", eps=1e-5)


def lying(equation):
    return swapped(equation, "kernel_transposed", "a square matrix is read as TensorFlow lays it out, inputs first",
                   "a checkpoint loads without a complaint and is another model",
                   "https://github.com/huggingface/transformers/issues/47031",
                   np.transpose, np.transpose, "attention.output.dense.weight")


# ---------------------------------------------------------------- BERT of other layers, with another head

def pre_norm(x, mask, w, p, settings):
    """h = x + attention(LN(x)), y = h + feed_forward(LN(h)): the norms before the sums."""
    first, second = f"{p}attention.output.LayerNorm", f"{p}output.LayerNorm"
    read = norm(x, w, first, settings)
    queries, keys, values = (split(dense(read, w, f"{p}attention.self.{name}"), settings.heads)
                             for name in ("query", "key", "value"))
    context = attention(queries, keys, values, mask)
    h = dense(joined(context), w, f"{p}attention.output.dense") + x
    inner = dense(norm(h, w, second, settings), w, f"{p}intermediate.dense")
    return {"read": read, "queries": queries, "keys": keys, "values": values, "scores": scores_of(queries, keys),
            "context": context, "h": h, "inner": inner,
            "hidden": dense(activated(inner, settings), w, f"{p}output.dense") + h}


def pre_norm_gradient(upstream, x, mask, w, p, settings, found):
    made, dy = pre_norm(x, mask, w, p, settings), upstream["hidden"]
    first, second = f"{p}attention.output.LayerNorm", f"{p}output.LayerNorm"
    dactive = dense_gradient(dy, activated(made["inner"], settings), w, f"{p}output.dense", found)
    dinner = activated_gradient(dactive, made["inner"], settings)
    dnormed = dense_gradient(dinner, norm(made["h"], w, second, settings), w, f"{p}intermediate.dense", found)
    dh = dy + norm_gradient(dnormed, made["h"], w, second, settings, found)
    djoined = dense_gradient(dh, joined(made["context"]), w, f"{p}attention.output.dense", found)
    dcontext = split(djoined, settings.heads)
    dheads = heads_gradient(dcontext, upstream, made["queries"], made["keys"], made["values"], mask)
    dread = sum(dense_gradient(joined(dheads[plural]), made["read"], w, f"{p}attention.self.{name}", found)
                for name, plural in (("query", "queries"), ("key", "keys"), ("value", "values")))
    return dh + norm_gradient(dread, x, w, first, settings, found)


def kept(x):
    """What a dropout of 1/4 multiplies x with: here always the same places, in an implementation others every time."""
    places = np.arange(x.size).reshape(x.shape)
    return (places * 2654435761 % 97 >= 24) * np.ones((), x.real.dtype) / 0.75


def with_dropout(x, mask, w, p, settings):
    return layer(x, mask, w, p, settings) | {"hidden": layer(x, mask, w, p, settings)["hidden"] * kept(x)}


def with_dropout_gradient(upstream, x, mask, w, p, settings, found):
    return layer_gradient(upstream | {"hidden": upstream["hidden"] * kept(x)}, x, mask, w, p, settings, found)


def untied_head_gradient(dz, x, w, settings, found):
    dx = head_gradient(dz, x, w, settings, found)
    found.pop(WORDS)
    return dx


PRE_NORM = BERT._replace(layer=pre_norm, layer_gradient=pre_norm_gradient)
DROPOUT = BERT._replace(layer=with_dropout, layer_gradient=with_dropout_gradient)
UNTIED = BERT._replace(head_gradient=untied_head_gradient)


def norms_before(equation):
    return sets(equation, "pre_norm", "the layer norms stand before attention and feed-forward, not behind the sums",
                "a checkpoint of BERT loads without a complaint and is another model",
                "https://github.com/NVIDIA/Megatron-LM/issues/37", parts=PRE_NORM)


def left_on(equation):
    return sets(equation, "dropout_left_on", "dropout is on: the model was not put into evaluation mode",
                "a teacher's answer to the same sentence is another one every time",
                "https://github.com/yxuansu/TaCL/issues/11", parts=DROPOUT)


# ---------------------------------------------------------------- features that are called what they are not

def renamed(equation, flag, bug, effect, source, change, back):
    """change(values) -> what is given out; back(upstream, values) -> the upstream gradients of the right features."""
    return Trap(equation, flag, bug, effect, source, lambda e, inputs, attrs: change(e.values(inputs, attrs)),
                lambda e, upstream, inputs, attrs: e.gradients(back(upstream, e.values(inputs, attrs)), inputs, attrs))


def on_scores(f):
    return lambda found, values=None: {name: f(x, values and values[name]) if name.startswith("scores") else x
                                       for name, x in found.items()}


def everything_seen(x):
    return np.ones(x.shape, bool)


def shifted_gradient(upstream, values):
    """hidden.0 was the embeddings, hidden.1 was hidden.0."""
    moved = {"embeddings": upstream["embeddings"] + upstream["hidden.0"], "hidden.0": upstream["hidden.1"],
             "hidden.1": 0 * upstream["hidden.1"]}
    return upstream | moved


# ---------------------------------------------------------------- MobileBERT

def thirds(x):
    """The blocks of a trigram in the opposite order. Shapes: (H, 3E)."""
    return np.concatenate(np.split(x, 3, axis=1)[::-1], axis=1)


def one_bottleneck(found):
    """Queries and keys read the residual stream's bottleneck."""
    return {name: found.get(name.replace("bottleneck.attention", "bottleneck.input"), x) for name, x in found.items()}


def one_bottleneck_gradient(gradients, inputs):
    total = {}
    for name, g in gradients.items():
        put(total, name.replace("bottleneck.attention", "bottleneck.input"), g)
    return {name: total.get(name, 0 * g) for name, g in gradients.items()}


def one_feed_forward(found):
    return {name: x for name, x in found.items() if ".ffn." not in name}


def labels_of(inputs, attrs):
    """Tokens with a label, of the real ones."""
    return (inputs["labels"] != -100).sum() / inputs["mask"].sum()


def mean_of_tokens(equation):
    return scaled(equation, "mean_incl_unlabelled", "the sum is divided by all real tokens, not by those with a label",
                  "the loss is seven times too small where 15 % are masked, and moves with their number",
                  "https://github.com/ServiceNow/Fast-LLM/issues/344", value=labels_of, gradient=labels_of)


TRAPS = (
    no_scale(B), width_scale(B), no_mask(B), one_type(B), no_positions(B), moved_positions(B), other_gelu(B),
    other_eps(B), lying(B), norms_before(B), left_on(B), mean_of_tokens(B),
    sets(B, "decoder_untied", "the decoder is a copy of the word embeddings: they get no gradient from it",
         "words that are predicted and never read do not learn", "https://github.com/vec2text/vec2text/pull/94",
         parts=UNTIED),
    ignores_upstream(B, "ignores_upstream", "a backward that forgets the gradient from above",
                     "weights of the loss have no effect", "constructed"),
    no_scale(F), one_type(F), no_positions(F), other_gelu(F), norms_before(F), left_on(F),
    renamed(F, "hidden_off_by_one", "the list of hidden states begins with the embeddings, and is counted as if not",
            "every layer learns from the one below the one that was meant",
            "huggingface/transformers, BaseModelOutput.hidden_states begins with the embeddings",
            lambda v: v | {"hidden.0": v["embeddings"], "hidden.1": v["hidden.0"]}, shifted_gradient),
    renamed(F, "probabilities_for_scores", "what is called scores has been through the softmax",
            "TinyBERT's loss on scores is one on probabilities, which are much closer together",
            "huggingface/transformers, BertSelfAttention: output_attentions are probabilities",
            on_scores(lambda x, _: softmax(x, everything_seen(x))),
            on_scores(lambda u, x: softmax_gradient(u, x, everything_seen(x))["x"])),
    renamed(F, "scores_before_scaling", "what is called scores has not been divided by sqrt(K)",
            "a loss on scores is K times too large, and not comparable between head sizes", "constructed",
            on_scores(lambda x, _: x * 2.0), on_scores(lambda u, _: u * 2.0)),
    no_scale(M), no_mask(M), one_type(M), no_positions(M), mean_of_tokens(M),
    swapped(M, "trigram_reversed", "the previous token comes first, then the token, then the next",
            "a checkpoint loads without a complaint and is another model",
            "google-research/google-research, mobilebert/modeling.py has the next token first", thirds, thirds,
            "embedding_transformation.weight"),
    rewired(M, "one_bottleneck", "queries and keys read the bottleneck of the residual stream, as in MobileBERT-tiny",
            "attention of another model", "huggingface/transformers, MobileBertConfig.use_bottleneck_attention",
            one_bottleneck, one_bottleneck_gradient),
    rewired(M, "one_feed_forward", "a block has its last feed-forward only", "half of a block's work is left out",
            "constructed", one_feed_forward,
            lambda g, inputs: everywhere(g, {name: x for name, x in inputs.items() if "." in name})),
    absent(M, "narrow_decoder", "the decoder reads the embeddings' E numbers alone",
           "words are told apart by a part of y", "constructed", "cls.predictions.dense.weight"),
)
