"""The vector files: as released, as the schema says, and made by the printed equations. One changed byte is noticed."""

import dataclasses
import json
import shutil

import jsonschema
import numpy as np
import pytest

import tinydistill_reference.traps.soft_labels as soft_labels_traps
from tinydistill.losses import TERMS
from tinydistill_reference import lint, store
from tinydistill_reference.equation import equations, traps
from tinydistill_reference.fingerprints import fingerprint, same
from tinydistill_reference.truth import Disagreement, agreed, live

FOLDER = store.FOLDER / store.VERSION
each_equation = pytest.mark.parametrize("name", store.names())


def test_no_file_is_missing_new_changed_or_too_large():
    assert [*lint.hashes(FOLDER), *lint.sizes(FOLDER)] == []


@each_equation
def test_a_file_is_what_the_schema_says(name):
    schema = json.loads((store.FOLDER.parent / "schema/vectors-1.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")), schema)


@each_equation
def test_stored_numbers_are_those_of_the_printed_equation(name):
    equation, stored = equations()[name], store.load(name)
    assert [*lint.inputs(equation, stored), *(c for s in stored for c in lint.truths(equation, s))] == []


def test_traps_and_equations_compute_what_they_did():
    assert list(lint.fingerprints(FOLDER)) == []


def test_every_loss_has_vectors_under_every_convention():
    for name, term in TERMS.items():
        stored = store.load(name)
        assert set(equations()[name].conventions) == set(term.conventions), name
        assert {c for s in stored for c in s.truths} == set(term.conventions), name


def test_a_loss_is_tried_with_an_upstream_gradient_that_is_not_1():
    for name in TERMS:
        upstream = [s.case.upstream for s in store.load(name) if s.case.result == "valid"]
        assert sum(u != 1 for u in upstream) >= len(upstream) / 2, name


# ---------------------------------------------------------------- the tests of these tests

@pytest.fixture
def copied(tmp_path):
    return shutil.copytree(FOLDER, tmp_path / store.VERSION)


@pytest.mark.parametrize("name", ["minilm.attention.json", "minilm.attention.safetensors", "FINGERPRINTS.json"])
def test_one_byte_is_noticed(copied, name):
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / name).write_bytes(data)
    assert list(lint.hashes(copied)) == [f"{name} has changed: its hash is not that of INDEX.json"]


def test_a_missing_and_a_new_file_are_noticed(copied):
    (copied / "minilm.attention.json").rename(copied / "other.json")
    assert list(lint.hashes(copied)) == ["minilm.attention.json is missing", "other.json is not in INDEX.json"]


def test_an_index_that_was_made_again_is_noticed(copied, monkeypatch):
    monkeypatch.setitem(store.RELEASED, store.VERSION, "0" * 64)
    assert list(lint.hashes(copied)) == ["INDEX.json of v1 is not the one that was released"]


def changed(equation, **functions):
    return dataclasses.replace(equation, **functions)


def test_a_sign_in_a_printed_equation_is_noticed():
    equation = equations()["minilm.attention"]
    stored = next(s for s in store.load(equation.name) if s.case.id.startswith("02"))
    wrong_value = changed(equation, forward=lambda **inputs: -equation.forward(**inputs))
    wrong_gradient = changed(equation, gradient=lambda upstream, **inputs: {
        n: -x if n == "student_keys" else x for n, x in equation.gradient(upstream, **inputs).items()})
    assert "the printed value is not the stored one" in " ".join(lint.truths(wrong_value, stored))
    assert "the printed dstudent_keys is not the stored one" in " ".join(lint.truths(wrong_gradient, stored))
    with pytest.raises(Disagreement):
        agreed(wrong_gradient, stored.case, {})
    with pytest.raises(Disagreement):
        agreed(wrong_value, stored.case, {})


def test_a_constant_in_a_trap_is_noticed():
    trap = next(t for t in soft_labels_traps.TRAPS if t.flag == "no_T2")
    equation = equations()[trap.equation]
    other = dataclasses.replace(trap, values=lambda *a: {n: x * 1.0001 for n, x in trap.values(*a).items()})
    assert same(fingerprint(equation, trap), fingerprint(equation, trap))
    assert not same(fingerprint(equation, other), fingerprint(equation, trap))


def test_the_truth_of_a_convention_that_nobody_stored_is_made_here():
    """By the printed code: what is stored is the same."""
    equation = equations()["minilm.attention"]
    for stored in store.load(equation.name)[:3]:
        truth = live(equation, stored.case, equation.settings("token"))
        for name, want in stored.truths["token"].expect.items():
            np.testing.assert_allclose(truth.expect[name], want, rtol=1e-12, atol=1e-13)


def test_names_of_traps_are_unique_and_complete():
    flags = [(t.equation, t.flag) for t in traps()]
    assert len(set(flags)) == len(flags) and {e for e, _ in flags} <= equations().keys()
    assert all(t.bug and t.effect and t.source for t in traps())
