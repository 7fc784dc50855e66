"""Methods as data: their stages, recipes and needs, and the numbers that the papers state."""

import json
from dataclasses import FrozenInstanceError

import pytest

from tinydistill import methods
from tinydistill.errors import WrongUsage
from tinydistill.features import Needs
from tinydistill.losses import TERMS, hard_labels, minilm
from tinydistill.methods import METHODS, bert
from tinydistill.methods.minilm import equal_heads
from tinydistill.methods.stage import Method, Recipe, Stage
from tinydistill.students.configs import parse

STAGES = {"bert pretrain": bert.pretrain, "bert finetune": bert.finetune} | {
    f"{name} {stage.name}": stage for name, method in METHODS.items() for stage in method.stages}
each_stage = pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)


# ---------------------------------------------------------------- every method

def test_methods_are_found_by_their_names():
    assert "minilm" in METHODS
    for name, method in METHODS.items():
        assert methods.get(name) is method and method.name == name
        assert any(year in method.paper for year in map(str, range(2014, 2025))) and method.stages
        assert len({stage.name for stage in method.stages}) == len(method.stages)


def test_an_unknown_method_is_one_line_with_those_there_are():
    with pytest.raises(WrongUsage, match="^need a method out of .*minilm.*; got 'minlm'$") as error:
        methods.get("minlm")
    assert error.value.exit_code == 2


@each_stage
def test_a_stage_has_weighted_registered_terms_and_needs_what_they_need(stage):
    assert stage.terms and all(weight > 0 and TERMS[term.name] is term for weight, term in stage.terms)
    assert len({term.name for _, term in stage.terms}) == len(stage.terms)          # metrics go by name
    for wanted, kind in ((stage.student_needs, "student_needs"), (stage.teacher_needs, "teacher_needs")):
        assert wanted.wanted == {pair for _, term in stage.terms for pair in getattr(term, kind).wanted}
    assert stage.student_needs != Needs()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_asks_something_of_its_teacher(name):
    assert all(stage.teacher_needs != Needs() for stage in METHODS[name].stages)


@each_stage
def test_a_stage_has_a_recipe_as_published_and_one_for_a_laptop(stage):
    assert stage.recipes.keys() >= {"paper", "laptop"}
    for recipe in stage.recipes.values():
        assert 0 <= recipe.warmup < recipe.steps and recipe.batch_size > 0 and 0 < recipe.learning_rate < 0.1
        assert 0 < recipe.beta1 < recipe.beta2 < 1 and recipe.eps > 0 and recipe.decay >= 0 and recipe.clip >= 0
        assert Recipe(**json.loads(json.dumps(recipe.as_dict()))) == recipe         # run.json holds all of it
    laptop, paper = stage.recipes["laptop"], stage.recipes["paper"]
    assert laptop.steps * laptop.batch_size * laptop.max_length < 1e7 and laptop.max_length <= paper.max_length


def test_what_a_recipe_leaves_out_is_what_bert_did():
    assert Recipe(steps=1, batch_size=1, learning_rate=1.0).as_dict() == {
        "steps": 1, "batch_size": 1, "learning_rate": 1.0, "warmup": 0, "beta1": 0.9, "beta2": 0.999, "eps": 1e-6,
        "decay": 0.01, "clip": 1.0, "max_length": 128}
    assert not Method("free", "", (), None).equal_heads


@pytest.mark.parametrize("data", [minilm.attention, METHODS["minilm"], bert.pretrain, bert.pretrain.recipes["paper"]],
                         ids=lambda data: type(data).__name__)
def test_data_cannot_be_changed_in_passing(data):
    with pytest.raises(FrozenInstanceError):
        setattr(data, next(iter(vars(data))), "another")


def test_a_recipe_changes_where_it_is_told_to():
    recipe = Recipe(steps=1000, batch_size=32, learning_rate=1e-3, warmup=100)
    assert recipe.but() == recipe.but(steps=None, learning_rate=None) == recipe
    assert recipe.but(learning_rate=0.5) == Recipe(1000, 32, 0.5, 100)
    assert recipe.but(steps=50) == Recipe(50, 32, 1e-3, warmup=5)                   # the warm-up keeps its share
    assert recipe.but(steps=50, warmup=20) == Recipe(50, 32, 1e-3, warmup=20)
    assert recipe.but(steps=50, warmup=0) == Recipe(50, 32, 1e-3, warmup=0)
    assert recipe.warmup == 100


def test_a_stage_with_two_terms_asks_for_both():
    stage = Stage("both", ((1.0, minilm.attention), (0.5, hard_labels.masked_lm)), {})
    assert stage.student_needs == Needs.of(queries=[-1], keys=[-1], logits=True)
    assert stage.teacher_needs == Needs.of(queries=[-1], keys=[-1])


# ---------------------------------------------------------------- MiniLM, section 4.1

def test_minilm_is_its_two_losses_with_weight_one_on_the_last_layers():
    stage, = METHODS["minilm"].stages
    assert stage.terms == ((1.0, minilm.attention), (1.0, minilm.value_relation))   # equation 10
    assert stage.student_needs == stage.teacher_needs == Needs.of(queries=[-1], keys=[-1], values=[-1])
    assert stage.teacher_needs.extent(12) == (11, False)                # its last layer's projections


def test_minilms_recipe_is_the_papers():
    recipe = METHODS["minilm"].stages[0].recipes["paper"]
    assert (recipe.steps, recipe.batch_size, recipe.max_length) == (400_000, 256, 512)
    assert (recipe.learning_rate, recipe.warmup, recipe.decay) == (3e-4, 4_000, 0.01)
    assert (recipe.beta1, recipe.beta2) == (0.9, 0.999)
    assert parse("6x384").dropout == 0.1


def test_minilm_needs_equal_head_counts_and_says_what_to_write():
    method, teacher = METHODS["minilm"], parse("bert-base")
    assert method.equal_heads and method.check is equal_heads
    for size in ("6x384", "3x384", "6x768", "4x312", "2x120x12"):       # depth, width and head size are free
        method.check(parse(size), teacher)
    for size, advice in (("3x384x6", "3x384x12"), ("2x128x2", "2x132x12"), ("1x4x2", "1x12x12")):   # one that works
        heads = parse(size).heads
        with pytest.raises(WrongUsage, match=f"minilm needs the same number of attention heads: student {heads}, "
                                             f"teacher 12; write the student as {advice}, or without heads") as error:
            method.check(parse(size), teacher)
        assert error.value.exit_code == 2
        method.check(parse(advice), teacher)


# ---------------------------------------------------------------- BERT, appendix A.2 and A.3

def test_berts_stages_are_the_papers():
    assert bert.pretrain.terms == ((1.0, hard_labels.masked_lm),)
    assert bert.finetune.terms == ((1.0, hard_labels.classes),)
    assert bert.pretrain.teacher_needs == bert.finetune.teacher_needs == Needs()
    recipe = bert.pretrain.recipes["paper"]
    assert (recipe.steps, recipe.batch_size, recipe.max_length) == (1_000_000, 256, 512)
    assert (recipe.learning_rate, recipe.warmup, recipe.decay) == (1e-4, 10_000, 0.01)
    assert (recipe.beta1, recipe.beta2) == (0.9, 0.999)
    tuned = bert.finetune.recipes["paper"]
    assert tuned.batch_size in (16, 32) and tuned.learning_rate in (5e-5, 3e-5, 2e-5) and bert.EPOCHS in (2, 3, 4)
