"""Stored vectors of whole models beside transformers and PyTorch. tinydistill's own models: test_vectors.py."""

import numpy as np
import pytest

from gradcheck import assert_within
from oracle import bert as oracle_bert
from oracle import bilstm as oracle_bilstm
from oracle import students_mobilebert as oracle_mobilebert
from tinydistill.features import Needs, Pass
from tinydistill_reference import trajectories
from tinydistill_reference.equation import equations
from vector_models import BILSTM, LANGUAGE_MODELS, METHODS_OF, assert_gradients, batch_of, cases, model_of

NAMED = [f"{equation} {s.case.id}" for equation, _, s in LANGUAGE_MODELS]


@pytest.mark.parametrize("equation, config, stored", LANGUAGE_MODELS, ids=NAMED)
def test_language_models_are_transformers(equation, config, stored, tmp_path):
    model, truth, case = model_of(config, stored.case.inputs), stored.truths["paper"], stored.case
    twin = oracle_bert.twin(model, tmp_path) if equation == "model.bert" else oracle_mobilebert.twin(model)
    batch = batch_of(case.inputs)
    loss, found = oracle_bert.gradients(twin, batch, {}, batch.labels.reshape(-1))
    value = float(truth.expect["value"])
    assert_within(loss, value, 1e-10 * value)
    want = {name.removeprefix("d").removeprefix(f"{config.model_type}."): x
            for name, x in truth.expect.items() if name != "value"}
    largest = max(np.abs(x).max() for x in want.values())
    assert found.keys() == want.keys()
    for name, g in found.items():
        scale = largest if name.endswith("key.bias") else np.abs(want[name]).max()
        assert_within(g * case.upstream, want[name], 1e-10 * scale, name)


@pytest.mark.parametrize("stored", cases("model.bilstm"), ids=[s.case.id for s in cases("model.bilstm")])
def test_bilstm_is_pytorchs(stored):
    model, case, truth = model_of(BILSTM, stored.case.inputs), stored.case, stored.truths["paper"]
    labels, sentences = case.inputs["labels"], [i[m] for i, m in zip(case.inputs["ids"], case.inputs["mask"])]
    logits = model(batch_of(case.inputs), Pass(Needs.of(logits=True))).logits.array
    q = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    dlogits = case.upstream * (q - np.eye(len(BILSTM.labels))[labels]) / len(labels)
    theirs, found = oracle_bilstm.logits_and_gradients(model.arrays(), [sentences], dlogits)
    assert_within(theirs, logits, 1e-10 * np.abs(logits).max())
    assert_gradients(BILSTM, found, truth)


@pytest.mark.parametrize("name", METHODS_OF)
def test_some_steps_are_clipped_and_some_are_not(name):
    """Else the vector would not tell a clip from a factor."""
    stored = cases(f"trajectory.{name}")[1]
    equation, norms = equations()[f"trajectory.{name}"], []

    def spied(objective, steps, **settings):
        def watched(step, w):
            loss, found = objective(step, w)
            norms.append(np.sqrt(sum((g ** 2).sum() for g in found.values())))
            return loss, found
        return trajectories.train(watched, steps, **settings)
    equation.forward(**stored.case.inputs, **equation.attrs | stored.case.attrs, train=spied)
    assert {bool(norm > stored.case.attrs["clip"]) for norm in norms} == {True, False}
