"""Teacher and student as one model: what either reads, their weights beside each other, and who learns."""

import numpy as np
import pytest

import strict_device
from gradcheck import assert_close64
from small_bert import dense
from small_mixed import ROWS, mixed_teacher, plain_teacher, second_student, two_texts
from tinydistill import gradients
from tinydistill.backend import to_host
from tinydistill.compress.shared_projection import Dual
from tinydistill.errors import WrongUsage
from tinydistill.features import Needs, Pass
from tinydistill.losses import TERMS
from tinydistill.losses.shared_projection import down_projection_loss, up_projection_loss
from tinydistill.methods import METHODS
from tinydistill.methods.projections import Projections
from tinydistill.nn.layers import Dropout

METHOD = METHODS["shared-projection"]
LOGITS = Needs.of(logits=True)


def maps_of(plan, student, teacher):
    return Projections(plan, student.config, teacher.config, 2, std=0.3).to(np, np.float64)


def test_a_teacher_that_does_not_know_the_students_vocabulary_is_one_line():
    with pytest.raises(WrongUsage, match="of 19 word pieces; mixed-vocabulary BERT 2x12 knows 9$"):
        Dual(plain_teacher(), mixed_teacher())


def test_either_reads_its_own_text_and_the_weights_of_matching_roles_stand_beside_them():
    student, teacher, batch = second_student(), mixed_teacher(), two_texts(0)
    model = Dual(student, teacher)
    found = model(batch, Pass(Needs.of(logits=True, hidden=[0])))
    own, theirs = (each(part, Pass(Needs.of(logits=True, hidden=[0])))
                   for each, part in ((student, batch.own), (teacher, batch.mixed)))
    np.testing.assert_array_equal(found.logits.array, own.logits.array)
    np.testing.assert_array_equal(found.hidden[0].array, own.hidden[0].array)
    np.testing.assert_array_equal(found.mixed.logits.array, theirs.logits.array)
    weights, arrays = found.weights
    assert list(weights) == list(arrays) == list(student.named_parameters())
    assert all(weights[name] is p for name, p in student.named_parameters().items())
    for name, array in arrays.items():
        want = teacher.arrays()[name]
        np.testing.assert_array_equal(array, want[ROWS] if name in ("embeddings.word.weight", "head.bias") else want)


def test_the_teacher_is_copied_and_one_vocabulary_needs_no_second_text():
    student, teacher = second_student(), plain_teacher(vocabulary=9)
    model, batch = Dual(student, teacher), two_texts(0).own
    assert model.student is student and not {map(id, teacher.parameters())} & {map(id, model.teacher.parameters())}
    found = model(batch, Pass(LOGITS))
    np.testing.assert_array_equal(found.mixed.logits.array, teacher(batch, Pass(LOGITS)).logits.array)
    pooled = Dual(second_student(pooler=True), teacher).weights()       # a role that one has alone is not compared
    assert list(pooled[0]) == list(pooled[1]) == list(teacher.named_parameters())


def test_the_teacher_learns_by_itself_first_and_comes_along():
    mixed, dual = METHOD.stages()
    student, teacher, batch = second_student(), mixed_teacher(), two_texts(0)
    alone = mixed.before(student, teacher)
    found = alone(batch, Pass(LOGITS))
    assert found.logits is None and found.mask is batch.mask and found.depth == 2 and found.weights == ({}, {})
    np.testing.assert_array_equal(found.mixed.logits.array, teacher(batch.mixed, Pass(LOGITS)).logits.array)
    alone.teacher.head.bias.array += 1.0
    both = dual.before(alone, teacher)
    assert both.student is student and dual.after(both) is student
    np.testing.assert_array_equal(both.teacher.head.bias.array, teacher.head.bias.array + 1.0)
    assert both(batch, Pass(LOGITS)).logits is not None


def test_the_students_dropouts_are_as_before_and_no_two_drop_the_same_units():
    student, teacher = second_student(dropout=0.3, attention_dropout=0.2), mixed_teacher(dropout=0.3)
    batch = two_texts(0)
    run = Pass(LOGITS, training=True, seed=3, step=1, rows=batch.rows)
    before = student(batch.own, run).logits.array
    model = Dual(student, teacher)
    np.testing.assert_array_equal(model(batch, run).logits.array, before)
    sites = [module.site for _, module in model.named_modules() if isinstance(module, Dropout)]
    assert len(set(sites)) == len(sites) > 8


@pytest.mark.parametrize("name, loss", [("down", down_projection_loss), ("up", up_projection_loss)])
def test_the_gradient_of_the_weights_is_the_students_and_the_maps_alone(name, loss):
    student, teacher, batch, term = second_student(), mixed_teacher(), two_texts(1), TERMS[f"shared_projection.{name}"]
    model = Dual(student, teacher)
    plan = METHOD.plan(student.config, teacher.config, direction=name)
    maps = maps_of(plan, student, teacher)
    features = model(batch, Pass(LOGITS))
    value = term(features, None, batch, term.divisor(batch), maps)
    u, v = (maps[n].weight.array for n in term.projection_names)
    assert_close64(value.array, loss(*features.weights, *((u.T, v) if name == "down" else (u, v.T))).array)
    found = gradients(value, model.parameters() + maps.parameters())
    for label, gradient in zip([*model.named_parameters(), "maps.u", "maps.v"], found, strict=True):
        assert (gradient is None) == label.startswith("teacher."), label
        assert gradient is None or np.abs(dense(gradient)).max() > 0, label


def test_a_device_learns_the_same_and_never_waits(strict_cupy):
    student, teacher, batch = second_student(), mixed_teacher(), two_texts(4)
    plan = METHOD.plan(student.config, teacher.config, direction="both")
    found = []
    for xp, here in ((np, batch), (strict_cupy, batch.to(strict_cupy))):
        maps = maps_of(plan, student, teacher).to(xp)
        model = Dual(student.to(xp), teacher.to(xp))
        with strict_device.no_sync():
            features = model(here, Pass(LOGITS))
            total = sum(weight * term(features, None, here, term.divisor(batch), maps)
                        for weight, term in plan[1].terms)
            arrays = [total.array, *map(dense, gradients(total, model.parameters() + maps.parameters()))]
        found.append(np.concatenate([to_host(array).ravel() for array in arrays]))
    assert_close64(*found)
