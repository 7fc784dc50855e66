"""Ten steps of each stage of six methods equal PyTorch's: losses, gradient norms, and the weights at the end."""

import numpy as np
import pytest

from gradcheck import assert_within
from method_toys import CASES, copies, models, phases, projections_of
from oracle import bert
from oracle import ten_steps as oracle
from tinydistill.hub_names import FORMS
from tinydistill.students.heads import with_head
from tinydistill.training.loop import train_phases
from toys import Memory


@pytest.mark.parametrize("clip", [{}, {"clip": 0.05}], ids=["clipped as in the recipe", "clipped at 0.05"])
@pytest.mark.parametrize("name", oracle.OBJECTIVES)
def test_ten_steps_are_pytorchs(name, clip, tmp_path):
    case = CASES[name]
    student, teacher = models(case)
    maps, memory = projections_of(case, student, teacher), Memory()
    whole = phases(case, student, teacher, one_batch=False, **clip)
    student = with_head(student, *case.head(whole[0].stage), seed=7)
    theirs, taught = (bert.twin(model, tmp_path / part) for part, model in (("student", student), ("teacher", teacher)))
    their_maps = oracle.maps_of(copies(maps))

    trained, _ = train_phases(student, whole, projections=maps, directory=memory, log_every=1, quiet=True)
    lines = iter(memory.lines)
    for objective, phase in zip(oracle.OBJECTIVES[name], whole, strict=True):
        batches = map(phase.batch_at, range(phase.recipe.steps))
        for want in oracle.steps(objective, theirs, taught, their_maps, batches, phase.recipe):
            line = next(lines)
            assert {term.name for _, term in phase.stage.terms} | {"loss", "gradient_norm"} == want.keys()
            for label, value in want.items():
                assert abs(line[label] - value) <= 1e-9 * abs(value), (line["step"], label, line[label], value)
    assert next(lines, None) is None

    ours = {FORMS["bert"].name(label).removeprefix("bert."): array for label, array in trained.arrays().items()}
    want = oracle.arrays_of(dict(theirs.named_parameters()))
    assert ours.keys() - want.keys() <= {"pooler.dense.weight", "pooler.dense.bias"} and want.keys() <= ours.keys()
    for label, array in want.items():
        # Where only the softmax of scores counts, a key bias has derivative 0: rounding over Adam's eps times the rate.
        assert_within(ours[label], array, 1e-9 * np.abs(array).max() + 1e-10 * label.endswith("key.bias"), label)
    for label, array in oracle.arrays_of(their_maps).items():
        assert_within(maps.arrays()[label], array, 1e-9 * np.abs(array).max(), label)


def test_some_steps_are_clipped_and_some_are_not():
    case = CASES["minilm"]
    memory, (student, teacher) = Memory(), models(case)
    train_phases(student, phases(case, student, teacher, one_batch=False), directory=memory, log_every=1, quiet=True)
    assert {line["gradient_norm"] > 1.0 for line in memory.lines} == {True, False}
