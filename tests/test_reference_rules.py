"""Equations without gradients: what is stored, beside PyTorch's rules; and published numbers.

tinydistill's own are in test_vectors.py.
"""

import numpy as np
import pytest

from oracle import rules as oracle
from tinydistill_reference import layer_maps as printed_maps, optimizers as printed, report, store
from tinydistill_reference import unilm as printed_masks
from tinydistill_reference.equation import equations
from tinydistill_reference.runner import run


def check(name, convention, call, dtype, errors=True):
    result = run(equations()[name], call, dtype, convention, stored=store.load(name))
    assert result.status == "passed", "\n".join(report.lines(result))
    assert not (errors and result.of("unrefused", "skipped")), [(o.id, o.words) for o in result.outcomes]


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
