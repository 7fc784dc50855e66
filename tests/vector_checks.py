"""Everything of tinydistill that the vectors can judge: CHECKS {name: function that raises where something differs}.

Every loss and every piece, under every convention, in both precisions, by fused and by plain kernels, and on the strict
device; every rule; whole models; ten steps of five methods. test_vectors.py runs them as tests, `scripts/mutate
--vectors` on mutants of losses, kernels and ops.
"""

import functools

import strict_device
import vector_models
import vector_rules
from tinydistill import kernels
from tinydistill.backend import to_host
from tinydistill.conformance import ANSWERED, answer
from tinydistill_reference import report, store
from tinydistill_reference.equation import equations
from tinydistill_reference.runner import run

DTYPES, KERNELS = ("float64", "float32"), ("fused", "plain")
load = functools.cache(store.load)


def check(name, call, convention, dtype, host=True):
    """Every case passes; and, on the host, what is wrong is refused."""
    result = run(equations()[name], call, dtype, convention, stored=load(name), strict=True)
    assert result.status == "passed" and not (host and result.of("unrefused")), "\n".join(report.lines(result))


def check_on_host(name, convention, dtype, choice, implementation):
    """By the kernels of this choice."""
    with kernels.use(choice):
        check(name, implementation(convention), convention, dtype)


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
CHECKS |= vector_models.CHECKS
