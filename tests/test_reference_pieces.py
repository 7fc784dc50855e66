"""The pieces under the losses, as printed and as stored, beside PyTorch: value and every gradient, to 1e-12."""

import warnings

import numpy as np
import pytest

from oracle import pieces as oracle
from tinydistill_reference import store
from tinydistill_reference.diagnose import matches
from tinydistill_reference.equation import Case, equations, traps
from tinydistill_reference.kills import answer, found_by
from tinydistill_reference.runner import run

TOLERANCE = 1e-12                                   # of kappa, as the witnesses of a vector have to agree
STORED = {name: store.load(name) for name in oracle.PIECES}
CASES = [(name, s, convention) for name, stored in STORED.items() for s in stored for convention in s.truths
         if s.case.result != "error"]
ERRORS = [(name, s) for name, stored in STORED.items() for s in stored if s.case.result == "error"]


def named(*parts):
    return "-".join(part.case.id if isinstance(part, store.Stored) else part for part in parts)


@pytest.mark.parametrize("name, stored, convention", CASES, ids=[named(*case) for case in CASES])
def test_as_pytorch_computes_it(name, stored, convention):
    equation, case, truth = equations()[name], stored.case, stored.truths[convention]
    attrs, settings = equation.attrs | case.attrs, equation.settings(convention)
    theirs = oracle.answer(name, attrs, settings, case.inputs, case.upstream)
    ours = equation.everything(case.upstream, case.inputs, case.attrs, convention)
    assert ours.keys() == truth.expect.keys() <= theirs.keys()
    for tensor, want in truth.expect.items():
        for got in (theirs[tensor], ours[tensor]):
            got = np.zeros_like(want) if got is None else np.asarray(got)
            assert got.shape == want.shape and np.isfinite(want).all(), tensor
            off = np.abs(got - want).max(initial=0)
            assert off <= TOLERANCE * truth.kappa[tensor], f"{tensor}: {off} away, of {truth.kappa[tensor]}"


@pytest.mark.parametrize("name, stored", ERRORS, ids=[named(*case) for case in ERRORS])
def test_what_cannot_be_computed_is_refused(name, stored):
    case = stored.case
    with pytest.raises(ValueError, match=case.error):
        equations()[name].everything(case.upstream, case.inputs, case.attrs)


def narrowed(x):
    """Floats in float32; a dictionary or a number as well."""
    if isinstance(x, dict):
        return {name: narrowed(y) for name, y in x.items()}
    return x.astype(np.float32) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


@pytest.mark.parametrize("name", [name for name in STORED if not equations()[name].rounds])
def test_float32_stays_float32(name):
    for s in STORED[name]:
        if s.case.result == "valid":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")     # a tail of a probability is a subnormal number
                found = equations()[name].everything(narrowed(s.case.upstream), narrowed(s.case.inputs), s.case.attrs)
            assert {np.asarray(x).dtype for x in found.values()} == {np.dtype(np.float32)}, s.case.id


@pytest.mark.parametrize("name, tensors", [("softmax", ("dx",)), ("attention", ("dkeys", "dvalues")),
                                           ("relation", ("dx",)), ("lstm", ("dx",))])
def test_what_is_masked_has_no_gradient(name, tensors):
    """Exactly 0, whatever stands there: large odd numbers, in these vectors."""
    for s in STORED[name]:
        if s.case.result == "valid":
            for tensor in tensors:
                mask, dx = s.case.inputs["mask"], s.truths["paper"].expect[tensor]
                if mask.shape != dx.shape:
                    mask = mask.reshape(len(mask), *(1,) * (dx.ndim - 3), -1, 1)        # (B, 1 for A, T, 1)
                assert not (dx * ~mask).any(), f"{name}/{s.case.id}: {tensor}"


@pytest.mark.parametrize("name", STORED)
def test_every_known_mistake_is_found_and_named(name):
    """By a case that is for both precisions; and no other mistake gives the same numbers."""
    equation, known = equations()[name], traps(name)
    assert len(known) >= 4 and len({t.flag for t in known}) == len(known)
    for trap in known:
        assert all(any(found_by(equation, trap, s, dtype) for s in STORED[name]) for dtype in ("float64", "float32")), \
            f"no case tells {trap.flag} from the truth"

        def call(equation_name, attrs, inputs, grads, upstream, dtype):
            return answer(equation, trap, Case("", "", inputs, attrs, upstream), dtype)
        outcomes = run(equation, call, "float64", stored=STORED[name], strict=True).outcomes
        first, *others = matches(equation, outcomes, "float64", known)
        assert first.trap is trap and first.share == 1 > max(match.share for match in others), trap.flag
