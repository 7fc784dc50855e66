"""Equations without gradients: what is stored, beside tinydistill's own rules and PyTorch's; and published numbers."""

import numpy as np
import pytest

from oracle import rules as oracle
from tinydistill import kernels
from tinydistill.data import masking
from tinydistill.data.tokenizer import SpecialIds
from tinydistill.methods import layer_maps, start
from tinydistill.methods.stage import Recipe
from tinydistill.students import unilm
from tinydistill.tensor import Tensor
from tinydistill.training import schedules
from tinydistill.training.optimizers import clipped, global_norm, make
from tinydistill_reference import optimizers as printed, report, store
from tinydistill_reference import layer_maps as printed_maps, unilm as printed_masks
from tinydistill_reference.equation import equations
from tinydistill_reference.runner import run
from tinydistill_reference.specs import layer_maps as maps_spec, masking as masking_spec, optimizers as optimizers_spec
from tinydistill_reference.specs import schedules as schedules_spec, unilm as unilm_spec

SPECS = optimizers_spec, schedules_spec, maps_spec, masking_spec, unilm_spec
NAMES = [e.name for spec in SPECS for e in spec.EQUATIONS]
SPECIAL = SpecialIds(pad=masking_spec.PAD, unk=masking_spec.UNK, cls=masking_spec.CLS, sep=masking_spec.SEP,
                     mask=masking_spec.MASK)


# ---------------------------------------------------------------- tinydistill's own

def optimizer(name):
    """The weights after every step of the optimiser of that name, of one tensor or of two at once."""
    def rule(arrays, attrs):
        more = {n: attrs[n] for n in ("beta1", "beta2", "clip") if n in attrs}
        recipe = Recipe(steps=len(arrays["rates"]), batch_size=1, learning_rate=0.1, optimizer=name,
                        eps=attrs["eps"], decay=attrs["decay"], **more)
        parts = [part for part in ("", "other_") if part + "weights" in arrays]
        parameters = {part: Tensor(arrays[part + "weights"].copy(), requires_grad=True) for part in parts}
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
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(masking, "_bits", lambda ids, rows, wanted, seed, step: bits[..., :wanted])
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
    def call(equation, attrs, inputs, grads, upstream, dtype):
        arrays = {n: x.astype(dtype) if x.dtype.kind == "f" else x for n, x in inputs.items()}
        return OURS[equation, convention](arrays, attrs)
    return call


def check(name, convention, call, dtype, errors=True):
    result = run(equations()[name], call, dtype, convention, stored=store.load(name))
    assert result.status == "passed", "\n".join(report.lines(result))
    assert not (errors and result.of("unrefused", "skipped")), [(o.id, o.words) for o in result.outcomes]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("chosen", ["plain", "fused"])
@pytest.mark.parametrize("name, convention", OURS, ids=map("-".join, OURS))
def test_ours(name, convention, chosen, dtype):
    with kernels.use(chosen):
        check(name, convention, ours(convention), dtype)


def test_each_rule_is_compared_with_ours():
    assert {name for name, _ in OURS} == set(NAMES)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name, convention", oracle.RULES, ids=map("-".join, oracle.RULES))
def test_pytorchs(name, convention, dtype):
    check(name, convention, oracle.answer(convention), dtype, errors=False)


# ---------------------------------------------------------------- published numbers

def g(a, b, scale=1.0):
    return scale * np.sin(a * np.arange(6.0) + b).reshape(3, 2)


@pytest.mark.parametrize("rule, settings, scale, first", [
    (printed.lamb, {}, 1, 0.1517771346), (printed.lamb, {"bias_correction": True}, 1, 0.151625559),
    (printed.adam_weight_decay, {}, 1, -0.3973449218), (printed.adamw, {}, 1, 0.1063191217),
    (printed.adamw, {"eps_joins": "uncorrected", "decays": "after"}, 1, 0.106693832),
    (printed.bert_adam, {"clip": 1.0}, 20, -0.3964027387), (printed.adam_weight_decay, {}, 20, -0.3979602624)])
def test_two_steps_of_the_printed_optimisers(rule, settings, scale, first):
    after = rule(g(0.5, 0.3), scale * np.array([g(0.9, 0.1, 0.2), g(1.1, 0.4, 0.2)]), [0.1, 0.1], eps=1e-6, decay=0.01,
                 **settings)
    assert after.shape == (2, 3, 2) and abs(after[-1, 0, 0] - first) <= 1e-9


def test_the_printed_bert_adam_takes_the_trace_of_the_published_class():
    gradients = np.array([(3, 4), (0.1, -0.2), (-0.3, 0.05), (0.2, 0.2)])
    rates = 1e-2 * np.array([0, 0.5, 1, 7 / 8])
    after = printed.bert_adam(np.array([0.5, -0.25]), gradients, rates)
    np.testing.assert_allclose(after, [(0.5, -0.25), (0.483331758292, -0.259962356607),
                                       (0.470405244158, -0.279782769717), (0.45279754731, -0.301474280742)], atol=1e-12)


def test_the_published_mask():
    found = printed_masks.pseudo_mask(np.array([[1, 1, 1, 0]]) == 1, np.array([[1, 1, 0]]) == 1)[0].astype(int)
    assert ["".join(map(str, row)) for row in found] == """
        1110000000 1110000000 1110000000 1110000000 1110100000 1110110000 1110000000 1110000100 1110100010
        1110000000""".split()


def test_published_layers():
    def layers(name, M, L):
        return getattr(printed_maps, name)(student_layers=M, teacher_layers=L)[:, 1].tolist()
    assert layers("skip", 6, 12) == [1, 3, 5, 7, 9] and layers("patient_last", 6, 12) == [6, 7, 8, 9, 10]
    assert layers("uniform", 4, 12) == [2, 5, 8, 11] and layers("spread", 6, 12) == [0, 2, 4, 7, 9, 11]
