"""tinydistill's own rules, as the kit calls them: OURS {(equation, convention): f(arrays, attrs)}."""

from unittest import mock

import numpy as np

from tinydistill.data import masking
from tinydistill.data.tokenizer import SpecialIds
from tinydistill.methods import layer_maps, start
from tinydistill.methods.stage import Recipe
from tinydistill.students import unilm
from tinydistill.tensor import Tensor
from tinydistill.training import schedules
from tinydistill.training.optimizers import clipped, global_norm, make
from tinydistill_reference.specs import masking as masking_spec

SPECIAL = SpecialIds(pad=masking_spec.PAD, unk=masking_spec.UNK, cls=masking_spec.CLS, sep=masking_spec.SEP,
                     mask=masking_spec.MASK)


def optimizer(name):
    """The weights after every step of the optimiser of that name, of one tensor or of two at once."""
    def rule(arrays, attrs):
        more = {n: attrs[n] for n in ("beta1", "beta2", "clip") if n in attrs}
        recipe = Recipe(steps=len(arrays["rates"]), batch_size=1, learning_rate=0.1, optimizer=name,
                        eps=attrs["eps"], decay=attrs["decay"], **more)
        parts = [part for part in ("", "other_") if part + "weights" in arrays]
        parameters = {part: Tensor(arrays[part + "weights"].copy(order="K"), requires_grad=True) for part in parts}
        made, found = make(parameters, recipe), {f"{part}after": [] for part in parts}
        for t, rate in enumerate(arrays["rates"].tolist()):
            made.update({part: arrays[part + "gradients"][t] for part in parts}, rate)
            for part in parts:
                found[f"{part}after"].append(parameters[part].array.copy())
        return {output: np.stack(after) for output, after in found.items()}
    return rule


def clip_joint_norm(arrays, attrs):
    found = clipped(arrays, global_norm(arrays), attrs["clip"])
    return {"clipped": found["gradients"], "other_clipped": found["other_gradients"]}


def schedule(name):
    return lambda arrays, attrs: {"rates": np.array([schedules.get(name)(s, attrs["steps"], attrs["warmup"])
                                                     for s in arrays["step"].tolist()])}


def layerwise(arrays, attrs):
    def name(layer):
        return "embeddings.word" if layer < 0 else "head.bias" if layer == attrs["depth"] else f"layers.{layer}.x"
    names = [name(layer) for layer in arrays["layer"].tolist()]
    rates = schedules.layerwise_decay(names, attrs["depth"], attrs["factor"])
    return {"rates": np.array([rates[name] for name in names])}


def layer_map(function):
    return lambda arrays, attrs: {"pairs": np.array(function(attrs["student_layers"], attrs["teacher_layers"]))}


def copied(function):
    return layer_map(lambda student_layers, teacher_layers: list(enumerate(function(student_layers, teacher_layers))))


def masked(name, count, more):
    """A rule of data/masking.py on draws that are given: they stand in the place of its random bits."""
    def rule(arrays, attrs):
        selection, kind, word = (np.round(arrays[n] * 2.0 ** k).astype(np.uint64)
                                 for n, k in (("selection", 16), ("kind", 16), ("word", 32)))
        zero = np.zeros_like(kind)
        uniform = [selection] + [zero] * (count - 4)
        bits = np.stack([*uniform, kind, word >> 16, word & 0xFFFF], axis=-1)
        with mock.patch.object(masking, "_bits", lambda ids, rows, wanted, seed, step: bits[..., :wanted]):
            ids, labels = getattr(masking, name)(arrays["ids"], arrays["mask"], np.arange(len(arrays["ids"])), SPECIAL,
                                                 more(arrays), rate=attrs["rate"],
                                                 **{n: attrs[n] for n in ("most",) if n in attrs})
        return {"ids": ids, "labels": labels}
    return rule


def vocabulary(arrays):
    """Its size; where every token is special, one."""
    return 1 if arrays["special"].all() else len(arrays["special"])


def one_mask(function):
    return lambda arrays, attrs: {"sees": function(arrays["mask"])}


def two_masks(function):
    return lambda arrays, attrs: {"sees": function(arrays["source"], arrays["target"])}


OURS = {
    ("adamw", "paper"): optimizer("adamw"),
    ("adam_weight_decay", "paper"): optimizer("adam-weight-decay"),
    ("bert_adam", "paper"): optimizer("bert-adam"),
    ("lamb", "paper"): optimizer("lamb"), ("lamb", "corrected"): optimizer("lamb-bias-corrected"),
    ("adadelta", "paper"): optimizer("adadelta"),
    ("clip_joint_norm", "paper"): clip_joint_norm,
    ("schedule.layerwise", "paper"): layerwise,
    ("layer_map.alternate", "paper"): copied(start.alternate), ("layer_map.spread", "paper"): copied(start.spread),
    ("masking.bert", "paper"): masked("mask_tokens", 4, vocabulary),
    ("masking.counted", "paper"): masked("mask_counted_official", 7, vocabulary),
    ("masking.frequency", "paper"): masked("mask_by_frequency", 7, lambda arrays: arrays["weights"]),
    ("unilm_mask.bidirectional", "paper"): one_mask(unilm.bidirectional),
    ("unilm_mask.left_to_right", "paper"): one_mask(unilm.left_to_right),
    ("unilm_mask.seq2seq", "paper"): two_masks(unilm.seq2seq),
    ("pseudo_mask", "paper"): two_masks(unilm.pseudo_masked),
} | {(f"schedule.{name.replace('-', '_')}", "paper"): schedule(name) for name in schedules.SCHEDULES} \
  | {(f"layer_map.{name}", "paper"): layer_map(getattr(layer_maps, name))
     for name in ("last", "uniform", "top", "bottom", "one_to_one", "skip", "patient_last", "middle")}


def ours(convention):
    """An implementation as the runner wants it."""
    def call(equation, attrs, inputs, grads, upstream, dtype):
        arrays = {n: x.astype(dtype) if x.dtype.kind == "f" else x for n, x in inputs.items()}
        return OURS[equation, convention](arrays, attrs)
    return call
