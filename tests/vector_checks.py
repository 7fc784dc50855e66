"""Everything of tinydistill that the vectors can judge: CHECKS {name: function that raises where something differs}.

Every loss and every piece, under every convention, in both precisions, by fused and by plain kernels, and on the strict
device; every rule; whole models; ten steps of five methods. test_vectors.py runs them as tests, `scripts/mutate
--vectors` on mutants of losses, kernels and ops.
"""

import functools

import numpy as np

import strict_device
import vector_beyond
import vector_models
import vector_rules
from tinydistill import kernels
from tinydistill.backend import to_host
from tinydistill.conformance import ANSWERED, answer
from tinydistill.conformance_losses import LOSSES
from tinydistill.losses import TERMS
from tinydistill_reference import report, store
from tinydistill_reference.equation import equations
from tinydistill_reference.runner import run

COUNTED_BEFORE = ("masked_lm", "cross_entropy")     # losses that have to be told their divisor
NOT_OURS = ("uniform",)                             # conventions that ours has only because 0 is accepted there
DTYPES, KERNELS = ("float64", "float32"), ("fused", "plain")
load = functools.cache(store.load)


def check(name, call, convention, dtype, host=True):
    """Every case passes, as printed and not as others have it too; and, on the host, what is wrong is refused."""
    result = run(equations()[name], call, dtype, convention, stored=load(name), strict=True)
    bent = convention not in NOT_OURS and result.of("acceptable") or host and result.of("unrefused")
    assert result.status == "passed" and not bent, "\n".join(report.lines(result))


def check_on_host(name, convention, dtype, choice, implementation):
    """By the kernels of this choice."""
    with kernels.use(choice):
        check(name, implementation(convention), convention, dtype)


def check_another_way(name, convention, way):
    """A loss in parts of the batch, one that counts its divisor itself, or of two pairs of layers."""
    stored = [s for s in load(name) if way == "uncounted" or s.case.result != "error"]
    result = run(equations()[name], answer(convention, way=way), "float64", convention, stored=stored, strict=True)
    assert result.status == "passed" and not result.of("unrefused"), "\n".join(report.lines(result))


def check_refuses_masks_of_numbers(name, convention):
    """A mask that is not of bool is an error that says so."""
    case = next(s.case for s in load(name) if s.case.result == "valid")
    inputs = case.inputs | {"mask": case.inputs["mask"].astype(np.uint8)}
    with np.errstate(all="ignore"):
        try:
            answer(convention)(name, equations()[name].attrs | case.attrs, inputs, (), case.upstream, "float64")
        except (ValueError, TypeError) as problem:
            assert "bool" in str(problem), f"{name}: {problem}"
        else:
            raise AssertionError(f"{name} takes a mask of numbers")


def letters(shape):
    """The axes of "(B, T, D')"."""
    return [axis.strip() for axis in shape.split(" = ")[0].strip("()").split(",") if axis.strip()]


def check_refuses_wrong_shapes(name, convention, way):
    """An input that is one shorter along an axis that another input has, too, is an error."""
    equation, case = equations()[name], next(s.case for s in load(name) if s.case.result == "valid")
    reads_labels = equation.settings(convention).get("rows") == "labelled" or not name.startswith(("soft", "distil"))
    for cut, shape in equation.shapes.items():
        if cut == "labels" and not reads_labels:
            continue
        axes = letters(shape.split("),")[0])
        others = [a for other, its in equation.shapes.items() if other != cut for a in letters(its.split("),")[0])]
        for place, axis in enumerate(axes):
            if axis not in others or len(axes) != case.inputs[cut].ndim:
                continue
            inputs = case.inputs | {cut: np.delete(case.inputs[cut], -1, axis=place)}
            try:
                answer(convention, way=way)(name, equation.attrs | case.attrs, inputs, (), case.upstream, "float64")
            except (ValueError, TypeError) as problem:
                assert "need" in str(problem), f"{name}: {cut} without its last {axis} says: {problem}"
            else:
                raise AssertionError(f"{name} takes a {cut} without its last {axis}")


def check_on_device(name, convention):
    """Where wrong labels and masks are not looked at, because the host does not wait."""
    with strict_device.installed() as cupy:
        check(name, answer(convention, cupy.asarray, to_host), convention, "float64", host=False)


CHECKS = {f"{name} {convention} {choice} {dtype}":
          functools.partial(check_on_host, name, convention, dtype, choice, implementation)
          for pairs, implementation in (
              ([(name, c) for name in sorted(ANSWERED) for c in equations()[name].conventions], answer),
              (vector_rules.OURS, vector_rules.ours))
          for name, convention in pairs for choice in KERNELS for dtype in DTYPES}
CHECKS |= {f"{name} {c} device": functools.partial(check_on_device, name, c)
           for name in sorted(ANSWERED) for c in equations()[name].conventions}
CHECKS |= {f"{name} {c} {way}": functools.partial(check_another_way, name, c, way)
           for way in ("parts", "uncounted", "pairs") for name in sorted(TERMS.keys() - LOSSES.keys())
           for c in equations()[name].conventions if way != "uncounted" or name not in COUNTED_BEFORE}
CHECKS |= {f"{name} {c} mask of numbers": functools.partial(check_refuses_masks_of_numbers, name, c)
           for name in sorted(TERMS.keys() - LOSSES.keys()) if "mask" in equations()[name].shapes
           for c in equations()[name].conventions}
CHECKS |= {f"{name} {c} wrong shapes {way}": functools.partial(check_refuses_wrong_shapes, name, c, way)
           for name in sorted(TERMS.keys() - {"shared_projection.mixed_masked_lm"})     # the model joins its logits
           for c in equations()[name].conventions
           for way in (("whole",) if name in LOSSES or name in COUNTED_BEFORE else ("whole", "uncounted"))}
CHECKS |= vector_models.CHECKS
COMPARED = {name.split()[0] for name in CHECKS}     # equations
CHECKS |= vector_beyond.CHECKS


def check_every_equation_is_ours():
    """But one step of an LSTM that starts from a state: ours reads whole sequences."""
    assert COMPARED == set(store.names()) - {"lstm_cell"}


CHECKS["all"] = check_every_equation_is_ours
