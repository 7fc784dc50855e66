"""tinydistill beside the vectors, and nothing but the vectors: with test_reference_rules.py and test_reference_models.py
what `scripts/mutate` judges losses, kernels and ops by.

Every loss and every piece, under every convention, in both precisions, by fused and by plain kernels, and on the strict
device. Rules, models and trajectories are in the other two files.
"""

import pytest

from tinydistill import kernels
from tinydistill.backend import to_host
from tinydistill.conformance import ANSWERED, answer
from tinydistill_reference import report, store
from tinydistill_reference.equation import equations
from tinydistill_reference.runner import run

ELSEWHERE = ("model.", "trajectory.", "schedule.", "layer_map.", "masking.", "unilm_mask.", "pseudo_mask", "adadelta",
             "adam", "bert_adam", "lamb", "clip_joint_norm")
CASES = [(name, convention) for name in sorted(ANSWERED) for convention in equations()[name].conventions]
each = pytest.mark.parametrize("name, convention", CASES, ids=["-".join(pair) for pair in CASES])


def check(name, call, convention, dtype, host=True):
    result = run(equations()[name], call, dtype, convention, stored=store.load(name))
    assert result.status == "passed", "\n".join(report.lines(result))
    assert not host or not result.of("unrefused"), "\n".join(report.lines(result))


def test_every_equation_is_compared_with_ours():
    """But one step of an LSTM that starts from a state: ours reads whole sequences."""
    others = {name for name in store.names() if name.startswith(ELSEWHERE)}
    assert ANSWERED | others == set(store.names()) - {"lstm_cell"}


@each
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("choice", ["fused", "plain"])
def test_ours(name, convention, dtype, choice):
    with kernels.use(choice):
        check(name, answer(convention), convention, dtype)


@each
def test_ours_on_the_strict_device(name, convention, strict_cupy):
    """Where wrong labels and masks are not looked at, because the host does not wait."""
    check(name, answer(convention, strict_cupy.asarray, to_host), convention, "float64", host=False)
