"""PyTorch's own functions. `F` is torch.nn.functional."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from tinydistill_reference.examples.published import Published

torch.set_num_threads(1)                            # for arrays this small, threads only wait for each other


# ---------------------------------------------------------------- soft labels

def kl_div(reduction, squared=True, log_target=False):
    """As PyTorch's tutorials call it: the temperature, and its square, are the caller's."""
    def kd(student_logits, teacher_logits, temperature):
        log_q = F.log_softmax(student_logits / temperature, -1)
        p = (F.log_softmax if log_target else F.softmax)(teacher_logits.detach() / temperature, -1)
        return F.kl_div(log_q, p, reduction=reduction, log_target=log_target) * (temperature ** 2 if squared else 1)
    return kd


def kl_div_of_tokens(student_logits, teacher_logits, mask, labels, temperature):
    return kl_div("batchmean")(student_logits[mask], teacher_logits[mask], temperature)


def mse_loss(student_logits, teacher_logits, temperature):
    return F.mse_loss(student_logits / temperature, teacher_logits.detach() / temperature)


BY_CLASSES = "divides by rows and classes: the reference of KLDivLoss says that `mean` is no divergence"
BY_BATCH = "divides by the first axis only, as documented: logits of tokens have to be flattened"
SOFT = (
    Published("F.kl_div", "batchmean, times T^2", "soft_labels.classes", kl_div("batchmean")),
    Published("F.kl_div", "batchmean, log_target, times T^2", "soft_labels.classes",
              kl_div("batchmean", log_target=True)),
    Published("F.kl_div", "batchmean", "soft_labels.classes", kl_div("batchmean", squared=False), "torchdistill",
              "the caller has to multiply by T^2"),
    Published("F.kl_div", "mean, times T^2", "soft_labels.classes", kl_div("mean"), "pkd", BY_CLASSES),
    Published("F.kl_div", "mean (the default)", "soft_labels.classes", kl_div("mean", squared=False),
              "divisor=element, temperature_squared=False", BY_CLASSES,
              {"divisor": "element", "temperature_squared": False}),
    Published("F.kl_div", "sum, times T^2", "soft_labels.classes", kl_div("sum"), "divisor=none", "a sum, as it says",
              {"divisor": "none"}),
    Published("F.kl_div", "batchmean of the rows of the mask, times T^2", "soft_labels.tokens", kl_div_of_tokens),
    Published("F.kl_div", "batchmean of (B, T, V), times T^2", "soft_labels.tokens", kl_div("batchmean"),
              "FAIL batchmean_of_sequences", BY_BATCH),
    Published("F.mse_loss", "of logits over T", "soft_labels.logits_mse", mse_loss, "official",
              "a mean over rows and classes, as documented"),
)


# ---------------------------------------------------------------- labels

def cross_entropy(student_logits, labels):
    return F.cross_entropy(student_logits.flatten(0, -2), labels.flatten())


def smoothed(student_logits, labels, smoothing):
    return F.cross_entropy(student_logits.flatten(0, -2), labels.flatten(), label_smoothing=smoothing)


LABELS = (
    Published("F.cross_entropy", "labels of -100 are ignored", "cross_entropy", cross_entropy),
    Published("F.cross_entropy", "of flattened tokens", "masked_lm", cross_entropy),
    Published("F.cross_entropy", "label_smoothing", "label_smoothing", smoothed),
)


# ---------------------------------------------------------------- pieces

def attention(queries, keys, values, mask):
    return F.scaled_dot_product_attention(queries, keys, values, mask[:, None, None, :])


def softmax(x, mask):
    return F.softmax(x.masked_fill(~mask, -torch.inf), -1)


def softmax_of_least(x, mask):
    return F.softmax(x.masked_fill(~mask, torch.finfo(x.dtype).min), -1)


def layer_norm(x, gain, bias, eps):
    return F.layer_norm(x, gain.shape, gain, bias, eps)


def layer_norm_by_default(x, gain, bias):
    return F.layer_norm(x, gain.shape, gain, bias)


def embedding(padding_idx=None):
    return lambda table, ids: functional_call(nn.Embedding(*table.shape, padding_idx), {"weight": table}, ids)


def cosine_embedding(student_hidden, teacher_hidden, mask):
    s, t = student_hidden[mask], teacher_hidden[mask].detach()
    return nn.CosineEmbeddingLoss()(s, t, s.new_ones(len(s)))


def conv1d(x, weight, bias, groups):
    """(B, T, D) -> (B, D, T) and back: a kernel of one token."""
    return F.conv1d(x.mT, weight[..., None], bias, groups=int(groups)).mT


def fake_quantise(x, largest, bits):
    M = 2 ** (bits - 1) - 1
    return torch.fake_quantize_per_tensor_affine(x, largest / M, 0, -M, M)


PIECES = (
    Published("F.softmax", "masked with -inf", "softmax", softmax, why="a row without a key is NaN"),
    Published("F.softmax", "masked with the least number", "softmax", softmax_of_least, "uniform",
              "a row without a key is uniform"),
    Published("F.log_softmax", "", "log_softmax", lambda x: F.log_softmax(x, -1)),
    Published("F.scaled_dot_product_attention", "a mask of bool", "attention", attention,
              why="a row without a key is 0"),
    Published("F.layer_norm", "eps as asked, 1e-12 and 1e-5", "layer_norm", layer_norm),
    Published("F.layer_norm", "eps left at its 1e-5", "layer_norm", layer_norm_by_default, "FAIL eps_1e-5",
              "the default is documented; BERT has 1e-12"),
    Published("F.gelu", "", "gelu", lambda x: F.gelu(x)),
    Published("F.gelu", "approximate tanh", "gelu_new", lambda x: F.gelu(x, approximate="tanh")),
    Published("F.normalize", "", "unit_norm", lambda x, eps: F.normalize(x, dim=-1, eps=eps)),
    Published("F.linear", "", "linear", lambda x, weight, bias: F.linear(x, weight, bias)),
    Published("F.conv1d", "groups, a kernel of 1", "grouped_linear", conv1d),
    Published("nn.Embedding", "", "embedding", embedding()),
    Published("nn.Embedding", "padding_idx=0", "embedding", embedding(0), "FAIL bwd_padding_fixed",
              "the row of the padding is not learned, as documented"),
    Published("nn.CosineEmbeddingLoss", "target 1, of the rows of the mask", "distilbert.cosine", cosine_embedding),
    Published("torch.fake_quantize_per_tensor_affine", "scale largest / 127, levels -127 to 127",
              "fake_quantise.q8bert", fake_quantise,
              ("FAIL d(x) in 02-clamped, 05-two, 07-edge", "FAIL y, d(x) in 7 cases"),
              "what was clamped gets no gradient (Q8BERT's code passes it on); y is computed in float32 "
              "whatever the dtype",
              only=lambda case: case.attrs.get("largest", 1.0) > 0),
)


# ---------------------------------------------------------------- LSTM

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def lstm_cell(x, hidden, cell, input_weight, hidden_weight, input_bias, hidden_bias):
    weights = dict(zip(NAMES, (input_weight, hidden_weight, input_bias, hidden_bias)))
    return functional_call(nn.LSTMCell(x.shape[-1], hidden.shape[-1]).to(x), weights, (x, (hidden, cell)))


def lstm(x, input_weight, hidden_weight, input_bias, hidden_bias, mask, reverse):
    """Both directions have the same weights, and one is looked at."""
    H, tensors = hidden_weight.shape[1], (input_weight, hidden_weight, input_bias, hidden_bias)
    weights = {f"{n}_l0{way}": w for way in ("", "_reverse") for n, w in zip(NAMES, tensors)}
    made = nn.LSTM(x.shape[-1], H, batch_first=True, bidirectional=True).to(x)
    packed = nn.utils.rnn.pack_padded_sequence(x, mask.sum(1), batch_first=True, enforce_sorted=False)
    y, _ = nn.utils.rnn.pad_packed_sequence(functional_call(made, weights, (packed,))[0], batch_first=True,
                                            total_length=x.shape[1])
    return y[..., H:] if reverse else y[..., :H]


def is_full(case):
    return case.inputs["mask"].all()


def is_on_the_right(case):
    """Whether no real token follows padding."""
    mask = case.inputs["mask"]
    return not (mask[:, 1:] & ~mask[:, :-1]).any()


RECURRENT = (
    Published("nn.LSTMCell", "", "lstm_cell", lstm_cell),
    Published("nn.LSTM", "two directions, without padding", "lstm", lstm, only=is_full),
    Published("nn.LSTM", "packed, two directions", "lstm", lstm, "FAIL zeros_at_padding",
              "`pad_packed_sequence` puts 0 where there is padding, as documented; here the state stays as it was",
              only=is_on_the_right),
)


# ---------------------------------------------------------------- optimisers

def stepped(optimiser):
    """The weights after each step. optimiser(parameters, attrs)."""
    def after(weights, gradients, rates, **attrs):
        parameter, found = nn.Parameter(weights), []
        steps = optimiser([parameter], attrs)
        for gradient, rate in zip(gradients, rates.tolist()):
            steps.param_groups[0]["lr"], parameter.grad = rate, gradient.clone()
            steps.step()
            found.append(parameter.detach().clone())
        return torch.stack(found)
    return after


def adamw(parameters, attrs):
    return torch.optim.AdamW(parameters, betas=(attrs["beta1"], attrs["beta2"]), eps=attrs["eps"],
                             weight_decay=attrs["decay"])


def adadelta(parameters, attrs):
    return torch.optim.Adadelta(parameters, rho=attrs["rho"], eps=attrs["eps"], weight_decay=attrs["decay"])


def clip_grad_norm(gradients, other_gradients, clip):
    parameters = [nn.Parameter(g) for g in (gradients, other_gradients)]
    for p in parameters:
        p.grad = p.detach().clone()
    nn.utils.clip_grad_norm_(parameters, clip)
    return tuple(p.grad for p in parameters)


OPTIMISERS = (
    Published("torch.optim.AdamW", "", "adamw", stepped(adamw)),
    Published("torch.optim.Adadelta", "", "adadelta", stepped(adadelta)),
    Published("nn.utils.clip_grad_norm_", "", "clip_joint_norm", clip_grad_norm, "torch",
              "adds 1e-6 to the norm"),
)

PUBLISHED = SOFT + LABELS + PIECES + RECURRENT + OPTIMISERS
