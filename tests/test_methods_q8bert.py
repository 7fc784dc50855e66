"""Q8BERT and Q-BERT as methods: what they begin as, that they learn, and that shards and stops change nothing."""

import numpy as np
import pytest

from method_toys import Case, models, phases
from tinydistill.compress.q8bert import Int8Bert, Q8Bert
from tinydistill.compress.qbert import QBert
from tinydistill.errors import WrongUsage
from tinydistill.features import Needs, Pass
from tinydistill.methods import METHODS, q8bert
from tinydistill.students.configs import BertConfig
from tinydistill.students.distilbert import DistilBertConfig
from tinydistill.students.heads import with_head
from tinydistill.training.loop import train_phases
from toys import Memory, assert_all_within, batch_at

KINDS = {"q8bert": Q8Bert, "q-bert": QBert}
each_method = pytest.mark.parametrize("name", KINDS)


def run(name, seed=0, memory=None, **settings):
    """(the student at the end, the logged lines)."""
    case = Case(name, task=True)
    student, teacher = models(case, seed)
    memory = memory or Memory()
    trained, _ = train_phases(student, phases(case, student, teacher), directory=memory, save_every=1, log_every=1,
                              quiet=True, **settings)
    return trained, memory


@each_method
def test_it_learns_and_what_comes_out_is_quantised(name):
    model, memory = run(name)
    values = [line["cross_entropy"] for line in memory.lines]
    assert values[-1] < 0.3 * values[0] and type(model) is KINDS[name]
    assert model.state.keys() == set(model.sites()) and all(r > 0 for r in model.state.values())
    again = type(model).from_stored(model.config, model.stored())
    batch, needs = batch_at(0), Pass(Needs.of(logits=True))
    logits = again(batch, needs).logits.array
    assert np.abs(logits - model(batch, needs).logits.array).max() < 0.2 and logits.shape == (5, 3)
    assert type(again) is {"q8bert": Int8Bert, "q-bert": QBert}[name]


@each_method
def test_shards_change_rounding_only(name):
    whole = run(name)[0]
    for shards in (2, 3):
        parts = run(name, shards=shards)[0]
        assert_all_within(parts.arrays() | parts.state, whole.arrays() | whole.state, 1e-9)


@each_method
def test_ranges_are_in_checkpoints_and_a_run_that_stopped_goes_on_to_the_same_bits(name):
    whole, memory = run(name)
    stopped = Memory()
    stopped.saved = {4: memory.saved[4]}
    again, _ = run(name, seed=5, memory=stopped)
    assert {f"model/state.{site}" for site in whole.sites()} < memory.saved[4][0].keys()
    one, two = (model.arrays() | model.state for model in (whole, again))
    assert one.keys() == two.keys()
    for label, array in one.items():
        np.testing.assert_array_equal(array, two[label], err_msg=label)


# ---------------------------------------------------------------- how it begins

@each_method
def test_a_student_like_the_teacher_is_the_teacher_quantised(name):
    teacher = models(Case(name, task=True))[1]
    stage, = METHODS[name].stages()
    student = with_head(models(Case(name, task=True), seed=3)[1], "none")
    student = with_head(student, "sequence", teacher.config.labels, seed=9)
    assert (student.head.classifier.weight.array != teacher.head.classifier.weight.array).any()
    model = stage.before(student, teacher)
    assert type(model) is KINDS[name]
    assert (model.config.head, model.config.labels) == ("sequence", teacher.config.labels)
    for label, array in teacher.arrays().items():
        np.testing.assert_array_equal(model.arrays()[label], array)


@each_method
@pytest.mark.parametrize("why", ["other labels", "another depth", "no teacher"])
def test_any_other_student_is_quantised_as_it_is(name, why):
    student, teacher = models(Case(name, task=True))
    student = with_head(student if why == "another depth" else teacher, "sequence",
                        ("x", "y", "z") if why == "other labels" else teacher.config.labels, seed=9)
    before = student.arrays()
    model = METHODS[name].stages()[0].before(student, None if why == "no teacher" else teacher)
    for label, array in before.items():
        np.testing.assert_array_equal(model.arrays()[label], array)
    assert q8bert.same(student, teacher) == (why == "no teacher")


def test_settings_are_those_of_the_model():
    assert METHODS["q8bert"].settings == {"weight_bits": 8, "activation_bits": 8, "mode": "ema", "ema_decay": 0.9999}
    assert METHODS["q-bert"].settings == {"bits": "4", "groups": 0}
    student, teacher = models(Case("q8bert", task=True))
    student = with_head(student, "sequence", teacher.config.labels)
    stage, = METHODS["q8bert"].stages(weight_bits=4, mode="dynamic")
    config = stage.before(student, teacher).config
    assert (config.weight_bits, config.activation_bits, config.mode, config.ema_decay) == (4, 8, "dynamic", 0.9999)
    stage, = METHODS["q-bert"].stages(bits="2,4", groups=2)
    config = stage.before(student, teacher).config
    assert (config.layer_bits, config.groups, config.weight_bits) == ((2, 4), 2, 8)


@pytest.mark.parametrize("name, settings, text", [
    ("q8bert", {"weight_bits": 9}, "need weight_bits from 2 to 8, got 9"),
    ("q8bert", {"mode": "static"}, "need a mode out of ema, dynamic; got 'static'"),
    ("q-bert", {"bits": "2,3"}, r"need layer_bits from 1 to 8, one number or one for each of 4 layers; got \(2, 3\)"),
    ("q-bert", {"bits": "few"}, "need bits such as 4, or 2,4,3 for each layer; got 'few'"),
    ("q-bert", {"groups": 7}, "need groups that divide 12 and 48 neurons, got 7")])
def test_a_quantisation_that_cannot_be_is_refused_before_anything_runs(name, settings, text):
    config = BertConfig(4, 12, 2, 48)
    with pytest.raises(WrongUsage, match=f"^{text}$"):
        METHODS[name].plan(config, config, task=True, **settings)


@each_method
def test_other_architectures_are_refused(name):
    other, one = DistilBertConfig(2, 12, 2, 48), BertConfig(2, 12, 2, 48)
    for student, teacher in ((other, other), (other, one), (one, other)):
        with pytest.raises(WrongUsage, match=f"^{name} quantises a BERT, which is its teacher; got the student {student}, "
                                             f"the teacher {teacher}$"):
            METHODS[name].plan(student, teacher, task=True)
