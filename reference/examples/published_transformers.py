"""transformers: whole models with given weights, and pieces of them."""

import torch
import transformers
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from transformers.activations import ACT2FN
from transformers.models.bert.modeling_bert import eager_attention_forward
from transformers.models.squeezebert.modeling_squeezebert import SqueezeBertSelfAttention
from transformers.trainer_pt_utils import LabelSmoother

from tinydistill_reference.examples.published import Published

DROPLESS = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "attn_implementation": "eager"}
SIZES = {"vocab_size": 13, "max_position_embeddings": 7, "num_hidden_layers": 2, "intermediate_size": 11, **DROPLESS}


# ---------------------------------------------------------------- models

def bert_model(weights, heads, eps):
    sizes = SIZES | {"hidden_size": 8, "num_attention_heads": int(heads), "layer_norm_eps": eps}
    made = transformers.BertForMaskedLM(transformers.BertConfig(**sizes))
    return made.to(next(iter(weights.values())).dtype).eval()


def bert(ids, mask, token_types, labels, heads, eps, **weights):
    asked = {"input_ids": ids, "attention_mask": mask, "token_type_ids": token_types, "labels": labels}
    return functional_call(bert_model(weights, heads, eps), weights, (), asked).loss


class Softmaxed(TorchFunctionMode):
    """Keeps what is put into a softmax: the scores."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.nn.functional.softmax:
            self.seen.append(args[0])
        return function(*args, **(kwargs or {}))


def bert_features(ids, mask, token_types, heads, eps, **weights):
    model, found = bert_model(weights, heads, eps), {}
    for l, layer in enumerate(model.bert.encoder.layer):
        for name, part in (("queries", "query"), ("keys", "key"), ("values", "value")):
            getattr(layer.attention.self, part).register_forward_hook(lambda module, given, y, name=f"{name}.{l}":
                found.update({name: y.unflatten(2, (int(heads), -1)).transpose(1, 2)}))  # (B, T, D) -> (B, A, T, K)
    asked = {"input_ids": ids, "attention_mask": mask, "token_type_ids": token_types, "output_hidden_states": True}
    with Softmaxed() as scores:
        out = functional_call(model, weights, (), asked)
    names = ("embeddings", "hidden.0", "hidden.1")
    return found | dict(zip(names, out.hidden_states)) | {f"scores.{l}": s for l, s in enumerate(scores.seen)} | {
        "logits": out.logits}


def mobilebert(ids, mask, token_types, labels, heads, eps, **weights):
    sizes = SIZES | {"embedding_size": 5, "hidden_size": 9, "intra_bottleneck_size": 6, "layer_norm_eps": eps,
                     "num_attention_heads": int(heads), "num_feedforward_networks": 2}
    made = transformers.MobileBertForMaskedLM(transformers.MobileBertConfig(**sizes))
    asked = {"input_ids": ids, "attention_mask": mask, "token_type_ids": token_types, "labels": labels}
    return functional_call(made.to(next(iter(weights.values())).dtype).eval(), weights, (), asked).loss


MODELS = (
    Published("BertForMaskedLM", "attention eager", "model.bert", bert),
    Published("BertForMaskedLM", "hidden states, and hooks for the other features", "model.bert_features",
              bert_features),
    Published("MobileBertForMaskedLM", "two feed-forwards", "model.mobilebert", mobilebert),
)


# ---------------------------------------------------------------- pieces

def eager(queries, keys, values, mask):
    """The mask as transformers makes it: 0, or the least number of the dtype."""
    added = torch.zeros(mask.shape, dtype=queries.dtype).masked_fill(~mask, torch.finfo(queries.dtype).min)
    y, _ = eager_attention_forward(torch.nn.Identity(), queries, keys, values, added[:, None, None, :])
    return y.transpose(1, 2)                        # (B, T, A, K) -> (B, A, T, K)


def squeezebert_query(x, weight, bias, groups):
    """(B, T, D) -> (B, D, T) and back; weights of a kernel of one token."""
    config = transformers.SqueezeBertConfig(hidden_size=x.shape[2], num_attention_heads=1, embedding_size=x.shape[2])
    query = SqueezeBertSelfAttention(config, x.shape[2], q_groups=int(groups)).query.to(x.dtype)
    return functional_call(query, {"weight": weight[..., None], "bias": bias}, x.mT).mT


def smoothed(student_logits, labels, smoothing):
    return LabelSmoother(epsilon=smoothing)({"logits": student_logits}, labels)


def linear_schedule(step, steps, warmup):
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.0)
    schedule, rates = transformers.get_linear_schedule_with_warmup(optimiser, warmup, steps), []
    for _ in range(steps + 1):
        rates.append(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()
    return torch.tensor(rates, dtype=torch.float64)[step]


PIECES = (
    Published("eager_attention_forward", "of BERT, masked with the least number", "attention", eager,
              "FAIL y, d(queries), d(keys), d(values) in 20-no-key",
              "the mask is added: a row without a key is uniform, and its scores get a gradient"),
    Published("SqueezeBertSelfAttention", "its query: a grouped convolution", "grouped_linear", squeezebert_query,
              only=lambda case: case.inputs["x"].ndim == 3),
    Published("ACT2FN", "gelu", "gelu", lambda x: ACT2FN["gelu"](x)),
    Published("ACT2FN", "gelu_new", "gelu_new", lambda x: ACT2FN["gelu_new"](x)),
    Published("LabelSmoother", "", "label_smoothing", smoothed,
              ("paper", "FAIL value, d(student_logits) in 9 cases"),
              "sums over the classes in float32 whatever it is given; a comment says so, for float16"),
    Published("get_linear_schedule_with_warmup", "stepped through", "schedule.linear", linear_schedule),
)

PUBLISHED = MODELS + PIECES
