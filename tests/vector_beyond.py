"""What the vectors judge of tinydistill beyond its answers to them: larger arrays, arguments left out, terms added up.

CHECKS: {name: function that raises where something differs}.
"""

import functools

import numpy as np

import vector_rules
from tinydistill import kernels, ops
from tinydistill.conformance import answer
from tinydistill.features import Batch, Features
from tinydistill.losses import TERMS, fitnets, label_smoothing, mobilebert, soft_labels
from tinydistill.tensor import Tensor, gradients
from tinydistill_reference import store
from tinydistill_reference.equation import equations
from tinydistill_reference.hard_labels import cross_entropy, cross_entropy_gradient
from tinydistill_reference.tolerance import compare

BY_ROW = ("softmax", "log_softmax", "gelu", "gelu_new", "layer_norm", "no_norm", "relu6", "unit_norm")
MANY = 70_000                                       # numbers: more than the largest block of a fused kernel


def first(name, **wanted):
    """The first valid case of an equation whose attrs are these."""
    return next(s for s in store.load(name) if s.case.result == "valid"
                and all(s.case.attrs.get(k, v) == v for k, v in wanted.items()))


def close(name, got, want, kappa):
    """By the rule, in float64."""
    comparison = compare(name, got, want, kappa, "float64")
    assert comparison.passed, f"{name}: {comparison}"


def check_many_rows(name, choice):
    """A case over and over along its first axis: every copy gives what the case gives, and has its gradient."""
    stored, equation = first(name), equations()[name]
    case, truth = stored.case, stored.truths["paper"]
    copies = -(-MANY // case.inputs["x"].size)

    def many(x):
        return np.concatenate([x] * copies)
    inputs = {n: many(x) if n in ("x", "mask") else x for n, x in case.inputs.items()}
    with kernels.use(choice):
        assert kernels.of(inputs["x"]) is {"plain": kernels.plain, "fused": kernels.fused_numpy}[choice]
        got = answer()(name, equation.attrs | case.attrs, inputs, equation.differentiable, many(case.upstream),
                       "float64")
    close(f"{name} y", got["y"], many(truth.expect["y"]), truth.kappa["y"])
    close(f"{name} dx", got["dx"], many(truth.expect["dx"]), truth.kappa["dx"])
    for n in set(equation.differentiable) - {"x"}:
        walk = copies ** 0.5                        # how the rounding of a running sum grows
        close(f"{name} d{n}", got[f"d{n}"] / copies, truth.expect[f"d{n}"], walk * truth.kappa[f"d{n}"])


def check_log_softmax_with_a_mask(choice):
    """exp of it is softmax's vector; with an upstream gradient u it is softmax's with u / y."""
    for stored in store.load("softmax"):
        case, truth = stored.case, stored.truths.get("paper")
        if case.result != "valid" or not case.inputs["mask"].any(axis=-1).all() or case.id.startswith("06"):
            continue
        x = Tensor(case.inputs["x"], requires_grad=True)
        seen = np.broadcast_to(case.inputs["mask"], x.shape)
        with kernels.use(choice):
            y = ops.log_softmax(x, mask=case.inputs["mask"])
            u = np.where(seen & (truth.expect["y"] > 1e-3), case.upstream * np.exp(y.array), 0.0)
            dx, = gradients((y * u).sum(), [x])
        close("exp log softmax", np.where(seen, np.exp(y.array), 0.0), truth.expect["y"], truth.kappa["y"])
        p, v = truth.expect["y"], np.where(u != 0, case.upstream, 0.0)
        want = p * (v - (p * v).sum(axis=-1, keepdims=True))
        close("its gradient", dx, want, max(truth.kappa["dx"], truth.kappa["y"]))
        assert (y.array[~seen] == 0).all() and (dx[~seen] == 0).all()


def check_hard_and_soft_labels(alpha):
    """alpha CE + (1 - alpha) T^2 KL, value and gradient, of a vector's logits."""
    stored = first("soft_labels.classes", temperature=3.0)
    case, truth = stored.case, stored.truths["paper"]
    temperature = case.attrs.get("temperature", 1.0)
    logits, teacher = Tensor(case.inputs["student_logits"], requires_grad=True), case.inputs["teacher_logits"]
    labels = np.arange(len(teacher)) * 3 % teacher.shape[1]
    mask = np.ones((len(labels), 2), bool)
    batch = Batch(ids=np.zeros(mask.shape, np.int64), mask=mask, labels=labels)
    sides = Features("student", 0, mask, logits=logits), Features("teacher", 0, mask, logits=teacher)
    hard = cross_entropy(logits.array, labels), cross_entropy_gradient(1.0, logits.array, labels)["student_logits"]
    for divisors in (None, (len(labels), 2 * len(labels))):
        value = soft_labels.with_hard_labels(*sides, batch, alpha=alpha, divisors=divisors,
                                             soft=TERMS["soft_labels.classes"].but(temperature=temperature))
        share = (1 - alpha) / (1 if divisors is None else 2)
        dlogits, = gradients(value, [logits])
        close("value", value.array, alpha * hard[0] + share * truth.expect["value"], truth.kappa["value"] + 4 * hard[0])
        close("dlogits", dlogits, alpha * hard[1] + share * truth.expect["dstudent_logits"] / case.upstream,
              truth.kappa["dstudent_logits"] + 4.0)


def check_arguments_left_out():
    """Without a mask every token is read; without bits nothing is dropped; alone a map has no bias."""
    stored = next(s for s in store.load("lstm") if s.case.result == "valid" and not s.case.attrs.get("reverse")
                  and s.case.inputs["mask"].all())
    arrays = [stored.case.inputs[n] for n in ("x", "input_weight", "hidden_weight", "input_bias", "hidden_bias")]
    close("lstm", ops.lstm(*arrays).array, stored.truths["paper"].expect["y"], stored.truths["paper"].kappa["y"])
    stored = first("linear")
    x, weight, bias = (stored.case.inputs[n] for n in ("x", "weight", "bias"))
    close("linear", ops.linear(x, weight, None).array + bias, stored.truths["paper"].expect["y"],
          stored.truths["paper"].kappa["y"])
    x, w = Tensor(x), Tensor(weight.T.copy())
    close("matmul", (x @ w).array + bias, stored.truths["paper"].expect["y"], stored.truths["paper"].kappa["y"])


def check_softmax_without_a_mask(choice):
    """A mask that is True everywhere is none."""
    for name in ("softmax", "attention"):
        for stored in store.load(name):
            case, truth = stored.case, stored.truths.get("paper")
            if case.result == "valid" and case.inputs["mask"].all():
                arrays = [Tensor(x, requires_grad=True) for n, x in case.inputs.items() if n != "mask"]
                with kernels.use(choice):
                    y = getattr(ops, name)(*arrays)
                    found = gradients((y * case.upstream).sum(), arrays)
                close(name, y.array, truth.expect["y"], truth.kappa["y"])
                for n, dx in zip(equations()[name].differentiable, found):
                    close(f"{name} d{n}", dx, truth.expect[f"d{n}"], truth.kappa[f"d{n}"])


def check_integers(choice):
    """Sums that float32 does not hold, beside Python's integers; and largest numbers."""
    random = np.random.default_rng(0)
    codes, weight = random.integers(-127, 128, (3, 2500)), random.integers(-127, 128, (2, 2500)).astype(np.int8)
    codes[:, :2200], weight[:, :2200] = 127, 127            # sums of 35 million, in one sign
    want = np.array([[sum(int(a) * int(b) for a, b in zip(x, w)) for w in weight] for x in codes])
    rows = np.array([True, False, True])
    with kernels.use(choice):
        kernel = kernels.of(codes)
        got = kernel.integer_linear(codes.astype(float), np.float64(127.0), weight, np.float64(1.0), None, 8)
        assert (got == want).all()
        bias = np.array([5.0, 2.0 ** 31])                   # 32 bits hold the first; the second stops at 2^30
        held = kernel.integer_linear(codes.astype(float), np.float64(127.0), weight, np.float64(1.0), bias, 8)
        assert (held == want + [5.0, 2.0 ** 30]).all()
        x = np.array([[1.0, -3.0, 2.0], [9.0, 0.0, -1.0], [0.5, 4.0, -4.5]])
        assert kernel.largest_magnitude(x, None) == 9.0 and kernel.largest_magnitude(x, rows) == 4.5
        assert kernel.largest_magnitude(-x, None) == 9.0 and kernel.largest_magnitude(-x, rows) == 4.5
        assert kernel.largest_magnitude(x[:0], None) == 0.0 and kernel.largest_magnitude(x / 16, ~rows) == 9 / 16


def check_parameters_in_another_order(name):
    """An optimiser of arrays that lie in memory column by column."""
    stored = next(s for s in store.load(name) if s.case.result == "valid" and len(s.case.inputs["gradients"]) > 1)
    case, truth = stored.case, stored.truths["paper"]
    turned = {n: np.asfortranarray(x) if n == "weights" else x for n, x in case.inputs.items()}
    got = vector_rules.OURS[name, "paper"](turned, equations()[name].attrs | case.attrs)
    for output, want in truth.expect.items():
        close(f"{name} {output}", got[output], want, truth.kappa[output])


def check_tokens_as_they_come():
    """Smoothed labels of (B, T, V), not flattened."""
    for name, loss in (("label_smoothing", label_smoothing.label_smoothing),
                       ("label_smoothing.unilm", label_smoothing.unilm_label_smoothing)):
        stored = first(name, smoothing=0.1)
        case, truth = stored.case, stored.truths["paper"]
        value = loss(case.inputs["student_logits"], case.inputs["labels"]).array
        close(name, value, truth.expect["value"], truth.kappa["value"])


def check_softened_and_hard_labels():
    """FitNets' L_KD with both weights: lam_target CE + lam_teach H(p, q)."""
    stored = first("fitnets.softened")
    case, truth = stored.case, stored.truths["paper"]
    student, teacher = case.inputs["student_logits"], case.inputs["teacher_logits"]
    labels, mask = np.arange(len(student)) % student.shape[1], np.ones(len(student), bool)
    hard = cross_entropy(student, labels)
    for divisor in (None, len(student)):
        value = fitnets.softened_cross_entropy(student, teacher, mask, labels, lam_target=0.5, lam_teach=2.0,
                                               divisor=divisor, **case.attrs)
        close("L_KD", value.array, 0.5 * hard + 2.0 * truth.expect["value"], 4 * hard + 2 * truth.kappa["value"])
    value = fitnets.softened_cross_entropy(student, teacher, mask, labels, **case.attrs)
    close("L_KD", value.array, hard + truth.expect["value"], 4 * hard + truth.kappa["value"])


def check_means_over_all_layers():
    """MobileBERT's published mean and variance transfers compare one layer with all of the teacher's."""
    for name, loss in (("mobilebert.mean_transfer", mobilebert.mean_transfer_official),
                       ("mobilebert.variance_transfer", mobilebert.variance_transfer_official)):
        case, truth = first(name).case, first(name).truths["official"]
        hidden, teacher, mask = (case.inputs[n] for n in ("student_hidden", "teacher_hidden", "mask"))
        value = loss(hidden, [teacher, teacher, hidden], mask).array
        close(name, value, truth.expect["value"] * 2 / 3, truth.kappa["value"])


CHECKS = {f"{name} many rows {choice}": functools.partial(check_many_rows, name, choice)
          for name in BY_ROW for choice in ("fused", "plain")}
CHECKS |= {f"log_softmax with a mask {choice}": functools.partial(check_log_softmax_with_a_mask, choice)
           for choice in ("fused", "plain")}
CHECKS |= {f"soft_labels.classes and hard ones, {alpha}": functools.partial(check_hard_and_soft_labels, alpha)
           for alpha in (0.25, 0.7)}
CHECKS |= {f"{name} {check.__name__} {choice}": functools.partial(check, choice) for choice in ("fused", "plain")
           for name, check in (("softmax", check_softmax_without_a_mask), ("integer_linear", check_integers))}
CHECKS |= {f"{name} in another order": functools.partial(check_parameters_in_another_order, name)
           for name in ("adamw", "adam_weight_decay", "bert_adam", "lamb", "adadelta")}
CHECKS |= {"lstm arguments left out": check_arguments_left_out, "label_smoothing three axes": check_tokens_as_they_come,
           "fitnets.softened with labels": check_softened_and_hard_labels,
           "mobilebert.mean_transfer all layers": check_means_over_all_layers}
