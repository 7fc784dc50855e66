"""Several teachers as one: the mean of what they say, softened, against sums written out here."""

import numpy as np
import pytest

import strict_device
from gradcheck import C, UNIT, assert_within
from tinydistill.backend import to_host
from tinydistill.errors import Problem, WrongUsage
from tinydistill.features import Features, Needs, Pass
from tinydistill.losses import TERMS
from tinydistill.methods.stage import Stage
from tinydistill.tensor import Tensor, no_grad
from tinydistill.training.ensemble import Ensemble
from tinydistill.training.evaluation import array_library
from tinydistill.training.step import batch_gradient
from toys import VOCABULARY, assert_all_within, batch_at, masked_batch_at, toy

LOGITS, LABELS = Pass(Needs.of(logits=True)), ("no", "perhaps", "yes")


def teachers(head="sequence", dtype=np.float64):
    labels = LABELS if head in ("sequence", "token") else ()
    return [toy(hidden, layers, seed, dtype, head=head, labels=labels) for hidden, layers, seed in
            ((12, 3, 1), (8, 1, 2), (8, 2, 3))]


def mean_distribution(all_logits, temperature):
    """1/n sum_i softmax(z_i / T), row by row and class by class."""
    total = np.zeros(all_logits[0].shape)
    for logits in all_logits:
        for n, z in enumerate(logits):
            e = [np.exp(z_c / temperature) for z_c in z]
            total[n] += [e_c / sum(e) for e_c in e]
    return total / len(all_logits)


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


class Says:
    """A teacher that says the same to everybody."""

    def __init__(self, logits):
        self.logits = np.array([logits])
        self.config, self.parameters = teachers()[0].config, None

    def __call__(self, batch, run):
        return Features("one that says", 1, batch.mask).has(logits=Tensor(self.logits))


# ---------------------------------------------------------------- what it says

@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("head", ["sequence", "token", "masked-lm"])
def test_it_says_the_mean_of_the_softened_distributions(head, temperature):
    models, batch = teachers(head), masked_batch_at(0) if head == "masked-lm" else batch_at(0)
    got = Ensemble(models, temperature)(batch, LOGITS).logits.array
    want = mean_distribution([model(batch, LOGITS).logits.array for model in models], temperature)
    assert_within(softmax(got / temperature), want, C * UNIT)
    assert_within(got, temperature * np.log(want), C * UNIT * np.abs(np.log(want)).max() * temperature)


def test_by_hand():
    """softmax(0, log 3) = (1/4, 3/4) and softmax(log 4, 0) = (4/5, 1/5): together (21/40, 19/40)."""
    for temperature in (1.0, 2.5):
        both = [Says(temperature * np.log(odds)) for odds in ([1.0, 3.0], [4.0, 1.0])]
        got = Ensemble(both, temperature)(batch_at(0), LOGITS).logits.array
        assert_within(got, temperature * np.log([[21 / 40, 19 / 40]]), 4 * temperature * UNIT)


def test_the_maximum_by_hand():
    """Of (1/4, 3/4) and (7/10, 3/10) it is (7/10, 3/4), and the class that somebody is surest of is chosen."""
    for temperature in (1.0, 2.5):
        both = [Says(temperature * np.log(odds)) for odds in ([1.0, 3.0], [7.0, 3.0])]
        got = Ensemble(both, temperature, combined="maximum")(batch_at(0), LOGITS).logits.array
        assert_within(got, temperature * np.log([[0.7, 0.75]]), 4 * temperature * UNIT)
        mean = Ensemble(both, temperature)(batch_at(0), LOGITS).logits.array
        assert got.argmax() == 1 and mean.argmax() == 1
    assert Ensemble([Says(np.log([9.0, 1.0])), Says(np.log([1.0, 19.0]))], combined="maximum")(
        batch_at(0), LOGITS).logits.array.argmax() == 1
    for combined, chosen in (("mean", 1), ("maximum", 0)):              # one is sure, two have a mild opinion
        three = Ensemble([Says(np.log([8.0, 2.0])), *[Says(np.log([3.0, 7.0]))] * 2], combined=combined)
        assert three(batch_at(0), LOGITS).logits.array.argmax() == chosen


@pytest.mark.parametrize("combined, together", [("mean", np.mean), ("maximum", np.max)])
def test_a_span_starts_and_ends_at_one_of_the_real_tokens(combined, together):
    models, batch = [toy(8, layers, seed, head="span") for layers, seed in ((1, 1), (2, 2))], batch_at(1)
    z = np.stack([model(batch, LOGITS).logits.array for model in models])               # (2, B, T, 2)
    got = Ensemble(models, 2.0, combined=combined)(batch, LOGITS).logits.array
    for b, n in enumerate(batch.mask.sum(axis=1)):
        p = together([softmax(one[b, :n].T / 2) for one in z], axis=0)                  # (2, n)
        assert_within(got[b, :n], 2 * np.log(p).T, 1e-13 * np.abs(np.log(p)).max() + 1e-15)
        assert (got[b, n:] == np.finfo(np.float64).min).all()
    assert not batch.mask.all()


def test_a_mean_of_certainties_is_no_logarithm_of_0():
    """What each teacher leaves to the third class is 0 in float64; their mean knows it still."""
    got = Ensemble([Says([3000.0, 0.0, 0.0]), Says([0.0, 3000.0, 0.0])])(batch_at(0), LOGITS).logits.array
    assert_within(got, np.array([[-np.log(2), -np.log(2), -3000.0]]), 1e-12)


def test_one_teacher_alone_says_what_it_said():
    model, = teachers()[:1]
    got, want = (teacher(batch_at(0), LOGITS).logits.array for teacher in (Ensemble([model], 2.5), model))
    assert_within(softmax(got), softmax(want), C * UNIT)
    got, want = (teacher(batch_at(0), LOGITS).logits.array for teacher in (Ensemble([model] * 3), model))
    assert_within(softmax(got), softmax(want), C * UNIT)


def test_float32_stays_float32():
    for temperature in (1, 2.5):
        wide, narrow = (Ensemble(teachers(dtype=dtype), temperature)(batch_at(0), LOGITS).logits.array
                        for dtype in (np.float64, np.float32))
        assert narrow.dtype == np.float32
        assert_within(narrow, wide, C * 2.0 ** -24 * 4 * np.abs(wide).max())


# ---------------------------------------------------------------- in a teacher's place

@pytest.mark.parametrize("shards", [1, 2])
def test_a_step_with_it_is_a_step_with_a_teacher_of_its_distribution(shards):
    student, models = toy(8, 2, 0, head="sequence", labels=LABELS), teachers()
    stage = Stage("distil", ((1.0, TERMS["soft_labels.classes"].but(temperature=2.5)),), {}, head="task")

    def by_hand(batch, run):
        p = mean_distribution([model(batch, run).logits.array for model in models], 2.5)
        return models[0](batch, run).has(logits=Tensor(2.5 * np.log(p)))

    (values, gradients, _), (want_values, want, _) = (
        batch_gradient(student, teacher, stage, batch_at(0), student.named_parameters(), seed=0, step=0, shards=shards)
        for teacher in (Ensemble(models, 2.5), by_hand))
    assert_all_within(values, want_values, 1e-12)
    assert_all_within(gradients, want, 1e-12)


def test_it_has_the_first_teachers_configuration_and_library(xp):
    models = [model.to(xp) for model in teachers()]
    ensemble = Ensemble(models)
    assert ensemble.config is models[0].config and array_library(ensemble) is xp and ensemble.temperature == 1
    features = ensemble(batch_at(0).to(xp), LOGITS)
    assert features.depth == 3 and features.mask.shape == (5, 6)
    with pytest.raises(Problem, match=r"need hidden of layer 0, which an ensemble of 3 did not compute"):
        features.hidden[0]


@pytest.mark.parametrize("temperature, combined", [(1.0, "mean"), (2.5, "mean"), (2.5, "maximum")])
@pytest.mark.parametrize("head", ["sequence", "span"])
def test_on_a_device_it_says_the_same_and_the_host_never_waits(strict_cupy, head, temperature, combined):
    want = Ensemble(teachers(head), temperature, combined)(batch_at(0), LOGITS).logits.array
    ensemble = Ensemble([model.to(strict_cupy) for model in teachers(head)], temperature, combined)
    batch = batch_at(0).to(strict_cupy)
    with strict_device.no_sync(), no_grad():
        got = ensemble(batch, LOGITS).logits.array
    seen = want > np.finfo(want.dtype).min
    assert_within(to_host(got)[seen], want[seen], 1e-13 * np.abs(want[seen]).max())
    assert (to_host(got)[~seen] == want[~seen]).all() and seen.all() == (head == "sequence")


# ---------------------------------------------------------------- what cannot be

@pytest.mark.parametrize("needs", [Needs.of(hidden=[-1]), Needs.of(logits=True, values=[0]), Needs.of(pooled=True)])
def test_only_logits_have_a_mean(needs):
    with pytest.raises(Problem) as caught:
        Ensemble(teachers())(batch_at(0), Pass(needs))
    assert str(caught.value) == f"need {needs}, but several teachers together have logits alone: give one teacher"


def test_teachers_that_mean_other_things_have_no_mean():
    def refused(*others, head="sequence", labels=LABELS):
        with pytest.raises(WrongUsage) as caught:
            Ensemble([toy(8, 1, 0, head=head, labels=labels), toy(8, 2, 1, head=head, labels=labels), *others])
        return str(caught.value)

    more, turned = (*LABELS, "never"), LABELS[::-1]
    assert refused(toy(8, 1, 2, head="sequence", labels=more)) == (
        f"need teachers with the same labels, or there is no mean of them: teacher 1 has {LABELS}, "
        f"teacher 3 has {more}")
    assert f"teacher 3 has {turned}" in refused(toy(8, 1, 2, head="sequence", labels=turned))
    assert "the same head, or there is no mean of them: teacher 1 has 'sequence', teacher 3 has 'token'" in refused(
        toy(8, 1, 2, head="token", labels=LABELS))
    assert f"the same vocabulary, or there is no mean of them: teacher 1 has {VOCABULARY}, teacher 3 has 23" in refused(
        toy(8, 1, 2, head="masked-lm", vocabulary=23), head="masked-lm", labels=())


@pytest.mark.parametrize("models, temperature", [([], 1.0), (teachers()[:1], 0.0), (teachers()[:1], float("nan"))])
def test_somebody_has_to_speak_at_some_temperature(models, temperature):
    with pytest.raises(WrongUsage, match=f"at least one teacher and a temperature above 0; got {len(models)} teachers"):
        Ensemble(models, temperature)


def test_there_are_two_ways_to_combine_them():
    with pytest.raises(WrongUsage, match="^need teachers to be combined by their mean or maximum; got 'median'$"):
        Ensemble(teachers(), combined="median")
