"""MobileBERT's training: its rates, weights and stages, and ten steps of each stage against PyTorch's."""

import numpy as np
import pytest

import small_mobilebert
from gradcheck import assert_within
from oracle import mobilebert_steps as oracle
from oracle import students_mobilebert
from oracle import ten_steps
from tinydistill.architectures import parse
from tinydistill.errors import WrongUsage
from tinydistill.losses import TERMS, hard_labels
from tinydistill.methods import METHODS
from tinydistill.methods.stage import MASKED, Late
from tinydistill.tensor import Tensor
from tinydistill.training.loop import Phase, train_phases
from tinydistill.training.optimizers import make
from toys import RECIPE, Memory, masked_batch_at

METHOD = METHODS["mobilebert"]
STUDENT, TEACHER = parse("mobilebert"), parse("ib-bert-large")
TRANSFERS = "progressive", "joint", "auxiliary"


# ---------------------------------------------------------------- rates

@pytest.mark.parametrize("step, factors", [                             # of layers 0, 1 and 2, in 10,000 steps a layer
    (0, (0, 0, 0)), (500, (1.5, 0, 0)), (1000, (2.985, 0, 0)), (9999, (2.703, 0, 0)), (10_000, (0, 0, 0)),
    (15_000, (0.291, 2.912, 0))])
def test_the_published_rates(step, factors):
    stage = METHOD.plan(STUDENT, TEACHER)[step // 10_000]
    names = [f"layers.{l}.attention.query.weight" for l in range(3)] + ["embeddings.word.weight", "head.bias"]
    found = stage.factors(step % 10_000, 10_000, names, STUDENT)
    assert tuple(round(found[name], 3) for name in names) == (*factors, 0, 0)


def test_layers_below_may_be_frozen_entirely():
    stage = METHOD.plan(STUDENT, TEACHER, freeze=0.0)[2]
    found = stage.factors(5, 50, [f"layers.{l}.x" for l in range(4)], STUDENT)
    assert list(found.values()) == [0, 0, 3 * (0.9 + 0.1 * np.sqrt(0.9)), 0]


@pytest.mark.parametrize("name, forgets", [("lamb", True), ("lamb-bias-corrected", False), ("adamw", False)])
def test_lamb_sets_the_moments_of_what_has_the_rate_0_to_0_and_others_keep_them(name, forgets):
    rng = np.random.default_rng(0)
    weight, *gradients = rng.standard_normal((4, 3, 2))
    parameters = {"w": Tensor(weight.copy())}
    optimizer = make(parameters, RECIPE.but(optimizer=name))
    optimizer.update({"w": gradients[0]}, 0.1, {"w": 2.0})
    after = parameters["w"].array.copy()
    optimizer.update({"w": gradients[1]}, 0.1, {"w": 0.0})
    assert (parameters["w"].array == after).all() and optimizer.state()[1] == ({} if forgets else {"w": 1})
    optimizer.update({"w": gradients[2]}, 0.1, {"w": 2.0})
    anew = {"w": Tensor(after.copy())}
    make(anew, RECIPE.but(optimizer=name)).update({"w": gradients[2]}, 0.2)
    assert (parameters["w"].array == anew["w"].array).all() == forgets


# ---------------------------------------------------------------- stages

def test_a_stage_for_each_layer_and_one_for_the_prediction():
    plan = METHOD.plan(STUDENT, TEACHER)
    assert [stage.name for stage in plan] == [f"layer {l}" for l in range(1, 25)] + ["distil"]
    for l, stage in enumerate(plan[:-1]):
        assert {term.pairs for _, term in stage.terms} == {((l, l),)} and stage.student_needs.extent(24) == (l, True)
    assert [stage.name for stage in METHOD.plan(STUDENT, TEACHER, transfer="joint")] == ["transfer", "distil"]
    together, = METHOD.plan(STUDENT, TEACHER, transfer="auxiliary")
    assert [(weight, term.name) for weight, term in together.terms] == [
        (1.0, "mobilebert.pretraining"), (1.0, "mobilebert.feature_map"), (1.0, "mobilebert.attention")]
    assert len(together.terms[1][1].pairs) == 24
    assert all(stage.reads == MASKED and stage.head == "masked-lm" for stage in (*plan, together))


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_the_published_weights_over_the_number_of_layers_and_no_dropout(transfer):
    stage = METHOD.plan(STUDENT, TEACHER, convention="official", transfer=transfer)[0]
    of_layers = {term.name.removeprefix("mobilebert."): weight for weight, term in stage.terms if term.reads != ("logits",)}
    late = Late if transfer == "progressive" else float
    assert of_layers == {name: late(weight / 24) for name, weight in (
        ("feature_map_normalised", 100), ("mean_transfer", 5000), ("variance_transfer", 5), ("attention", 1))}
    assert all(term.convention == "official" for _, term in stage.terms)
    assert not stage.drops and METHOD.plan(STUDENT, TEACHER, transfer=transfer)[0].drops


def test_next_sentences_come_with_their_weight():
    stages = METHOD.plan(STUDENT, TEACHER, next_sentence=1.0, convention="official")
    assert all(stage.head == "pretraining" for stage in stages)
    assert stages[-1].terms == ((1.0, TERMS["mobilebert.pretraining"].under("official")), (1.0, hard_labels.next_sentence))


def test_a_pair_that_cannot_work_and_a_transfer_that_is_none_are_one_line():
    for size in ("24x384x4", "12x512x4", "24x512x8"):
        with pytest.raises(WrongUsage, match=f"^mobilebert compares .* student {size}, teacher 24x512x4; write the student "
                                             "as 24x512x4$"):
            METHOD.plan(parse(size), TEACHER)
    assert METHOD.plan(parse("12x768"), parse("bert-base"))
    with pytest.raises(WrongUsage, match="^need a transfer of mobilebert out of progressive, joint, auxiliary; got 'x'$"):
        METHOD.stages(transfer="x")


# ---------------------------------------------------------------- ten steps

@pytest.mark.parametrize("convention", ["paper", "official"])
@pytest.mark.parametrize("transfer", TRANSFERS)
def test_ten_steps_of_each_stage_are_pytorchs(transfer, convention):
    dropout = {"attention_dropout": 0.0} if convention == "paper" else {}               # published code has none to drop
    student, teacher = (
        small_mobilebert.build(name, "masked-lm", seed, vocabulary=19, positions=8, layers=2, pooler=False, **dropout)
        for seed, name in enumerate(("mobilebert", "ib-bert-large")))
    theirs, taught = map(students_mobilebert.twin, (student, teacher))
    memory, plan = Memory(), METHOD.plan(student.config, teacher.config, convention=convention, transfer=transfer)
    phases = [Phase(stage, stage.recipes["paper"].but(steps=10, warmup=3 if stage.name == "distil" else 0,
                                                      learning_rate=0.01), masked_batch_at, teacher) for stage in plan]
    trained, _ = train_phases(student, phases, directory=memory, log_every=1, quiet=True)
    lines = iter(memory.lines)
    for (objective, layer), phase in zip(oracle.objectives(transfer, convention == "official", 2), phases, strict=True):
        factors = None if layer is None else oracle.factors(layer, 10)
        batches = map(masked_batch_at, range(10))
        for want in ten_steps.steps(objective, theirs, taught, {}, batches, phase.recipe, factors):
            line = next(lines)
            assert {term.name for _, term in phase.stage.terms} | {"loss", "gradient_norm"} == want.keys()
            for label, value in want.items():
                assert abs(line[label] - value) <= 1e-9 * abs(value), (line["step"], label, line[label], value)
    assert next(lines, None) is None
    want = {students_mobilebert.without_prefix(name): p.detach().numpy() for name, p in theirs.named_parameters()}
    for name, array in trained.arrays().items():
        their = want[students_mobilebert.their_name(name)]
        # A key bias has derivative 0, so it is rounding over LAMB's eps of 1e-6, times the rate.
        assert_within(students_mobilebert.as_theirs(name, array), their,
                      1e-9 * np.abs(their).max() + 1e-10 * name.endswith("key.bias"), name)
