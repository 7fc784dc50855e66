"""Ten steps of Tang et al. 2019, a BiLSTM that learns a fine-tuned BERT's logits, equal PyTorch's; fixed words stay."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from gradcheck import assert_within
from oracle import bert, tang as oracle
from small_bert import build as build_bert
from small_bilstm import LABELS, VOCABULARY, batch_of, build, texts
from tinydistill.methods import METHODS
from tinydistill.training.loop import Phase, train_phases
from toys import Memory

CONVENTIONS = {                                     # {name: (convention, settings, PyTorch's)}
    "paper": ("paper", {}, oracle.paper),
    "paper, with labels": ("paper", {"alpha": 0.3}, partial(oracle.paper, alpha=0.3)),
    "official": ("official", {}, oracle.official),
}


def inputs_at(step, pair):
    """(sentences, the batch of them) of a step: other words in each, so that most rows of a table rest."""
    rng = np.random.default_rng(50 + step)
    rows = texts(pair, seed=step, lengths=rng.integers(1, 6, 4), others=rng.integers(1, 6, 4))
    return rows, replace(batch_of(rows), labels=rng.integers(0, len(LABELS), 4))


@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
@pytest.mark.parametrize("convention, settings, objective", CONVENTIONS.values(), ids=CONVENTIONS)
def test_ten_steps_of_tang_are_pytorchs(tmp_path, convention, settings, objective, pair):
    teacher, memory = build_bert("sequence", pooler=True, positions=13), Memory()
    student = build(pair, embedding="multichannel", dropout=0.0)
    before = {name: array.copy() for name, array in student.arrays().items()}
    (stage,) = METHODS["tang"].plan(student.config, teacher.config, task=True, convention=convention, **settings)
    recipe = stage.recipes["paper"].but(steps=10)
    want, arrays = oracle.steps(objective, before, bert.twin(teacher, tmp_path),
                                [inputs_at(step, pair) for step in range(10)], recipe)
    phase = Phase(stage, recipe, lambda step: inputs_at(step, pair)[1], teacher)
    trained, _ = train_phases(student, [phase], directory=memory, log_every=1, quiet=True)

    for line, values in zip(memory.lines, want, strict=True):
        assert {term.name for _, term in stage.terms} | {"loss", "gradient_norm"} == values.keys()
        for label, value in values.items():
            assert abs(line[label] - value) <= 1e-9 * abs(value), (line["step"], label, line[label], value)
    assert trained.arrays().keys() == arrays.keys()
    for name, array in trained.arrays().items():
        assert_within(array, arrays[name], 1e-9 * np.abs(arrays[name]).max(), name)
        assert (array == before[name]).all() == ("fixed" in name), name


def test_words_rest_in_some_steps_and_move_in_others():
    """Else the ten steps would not tell whether a word that rests keeps its moments as PyTorch's does."""
    read = [set(np.concatenate(inputs_at(step, False)[0][0])) for step in range(10)]
    often = [sum(word in words for words in read) for word in range(3, VOCABULARY)]
    assert all(1 <= count < 10 for count in often)
