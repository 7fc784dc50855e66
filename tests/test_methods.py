"""Methods as data: the lists of methods and terms, their stages, and the plan for a pair of models.

What cannot work is in test_method_pairs.py, the numbers that papers state in test_recipes.py, the runs in
test_method_runs.py.
"""

import json
import re
from dataclasses import FrozenInstanceError

import pytest

from method_toys import CASES, models
from tinydistill import methods
from tinydistill.errors import WrongUsage
from tinydistill.features import Needs
from tinydistill.losses import TERMS, hard_labels, minilm
from tinydistill.methods import METHODS, bert
from tinydistill.methods.stage import EACH_LAYER, MASKED, READS, TASK, TEXT, Late, Method, Ramp, Recipe, Share, Stage
from tinydistill.methods.start import STARTS
from tinydistill.architectures import parse
from tinydistill.training.optimizers import OPTIMIZERS
from tinydistill.training.schedules import SCHEDULES

each_method = pytest.mark.parametrize("name", METHODS)
STAGES = {f"{name}, {stage.name}": stage for name, case in CASES.items()
          for stage in (*case.of.stages(case.task, **case.settings), *case.plan(*models(case)))}
STAGES |= {f"bert, {name}": getattr(bert, name) for name in ("pretrain", "pretrain_pairs", "finetune")}
each_stage = pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)

# Terms that stand beside the methods: for stages of one's own, and for checking somebody else's numbers.
OF_NO_METHOD = {
    "distilbert.logits_mse", "label_smoothing", "label_smoothing.unilm", "soft_labels.tokens", "soft_labels.span",
    "spans.positions"}


# ---------------------------------------------------------------- the lists

def test_methods_are_found_by_their_names():
    for name, method in METHODS.items():
        assert methods.get(name) is method and method.name == name
        assert re.fullmatch(r"[a-z0-9-]+", name) and re.search(r"\b20[12]\d\b", method.paper)
        assert method.start in STARTS and (method.on_text or method.on_task)


def test_an_unknown_method_is_one_line_with_those_there_are():
    with pytest.raises(WrongUsage, match="^need a method out of .*minilm.*; got 'minlm'$") as error:
        methods.get("minlm")
    assert error.value.exit_code == 2


def test_every_term_belongs_to_a_method_or_is_named_here():
    used = {term.name for stage in STAGES.values() for _, term in stage.terms + stage.official}
    assert used | OF_NO_METHOD == TERMS.keys() and not used & OF_NO_METHOD


# ---------------------------------------------------------------- stages

@each_stage
def test_a_stage_has_registered_terms_with_weights_and_needs_what_they_need(stage):
    for terms in filter(None, (stage.terms, stage.official)):
        assert len({term.name for _, term in terms}) == len(terms)                      # metrics go by name
        for weight, term in terms:
            least = {Ramp: lambda w: min(w.start, w.end), Late: lambda w: w.weight, Share: lambda w: w.whole}
            assert least.get(type(weight), float)(weight) > 0
            registered = TERMS[term.name]
            assert term.loss is registered.loss and term.count is registered.count and term.reads == registered.reads
            assert term.conventions == registered.conventions and term.convention in term.conventions
            assert not term.reads_parameters or stage.teacher_inside
    for wanted, kind in ((stage.student_needs, "student_needs"), (stage.teacher_needs, "teacher_needs")):
        assert wanted.wanted == {pair for _, term in stage.terms for pair in getattr(term, kind).wanted}
    assert stage.student_needs != Needs() and stage.reads in READS and stage.each_layer in EACH_LAYER
    assert ("logits" in stage.student_needs) <= (stage.head != "none")
    heads = {TEXT: ("none",), TASK: ("none", "task")}.get(stage.reads, ("masked-lm", "pretraining"))
    assert stage.head in heads or (stage.reads == stage.official_reads and stage.head == "none")    # corrupted, not predicted


@each_stage
def test_a_stage_has_recipes_that_can_be_run_and_kept(stage):
    assert {"paper", "laptop"} <= stage.recipes.keys() <= {"paper", "official", "laptop"}
    for recipe in stage.recipes.values():
        assert 0 <= recipe.warmup < recipe.steps and recipe.batch_size > 0 and recipe.learning_rate > 0
        assert 0 < recipe.beta1 < recipe.beta2 < 1 and recipe.eps > 0 and recipe.decay >= 0 and recipe.clip >= 0
        assert recipe.learning_rate < 0.1 or (recipe.optimizer, recipe.learning_rate) == ("adadelta", 1.0)
        assert recipe.optimizer in OPTIMIZERS and recipe.schedule in SCHEDULES and recipe.epochs >= 0
        assert Recipe(**json.loads(json.dumps(recipe.as_dict()))) == recipe             # run.json holds all of it
    laptop, paper = stage.recipes["laptop"], stage.recipes["paper"]
    assert laptop.steps * laptop.batch_size * laptop.max_length < 1e7 and laptop.max_length <= paper.max_length
    assert not laptop.epochs or laptop.epochs <= paper.epochs
    assert (stage.reads == TASK) <= all(recipe.epochs for recipe in stage.recipes.values())    # its rows are counted


@pytest.mark.parametrize("wrong", [{"reads": "anything"}, {"head": "tails"}, {"each_layer": "some"}])
def test_a_stage_of_an_unknown_kind_cannot_be_made(wrong):
    (name, value), = wrong.items()
    with pytest.raises(ValueError, match=f"^need {name} out of .*got '{value}'$"):
        Stage("wrong", (), {}, **wrong)


def test_a_stage_with_two_terms_asks_for_both():
    stage = Stage("both", ((1.0, minilm.attention), (0.5, hard_labels.masked_lm)), {})
    assert stage.student_needs == Needs.of(queries=[-1], keys=[-1], logits=True)
    assert stage.teacher_needs == Needs.of(queries=[-1], keys=[-1])


def test_a_weight_goes_in_a_straight_line_from_the_first_step_to_the_last():
    ramp = Ramp(4.0, 1.0)
    assert [ramp.at(step, 4) for step in range(4)] == [4.0, 3.0, 2.0, 1.0] and ramp.at(0, 1) == 4.0
    stage = Stage("ramped", ((0.5, minilm.attention), (ramp, minilm.value_relation)), {})
    assert stage.weights(0, 7) == [0.5, 4.0] and stage.weights(3, 7) == [0.5, 2.5] and stage.weights(6, 7) == [0.5, 1.0]


def test_a_share_is_a_part_of_its_weight_for_each_layer_and_may_begin_late():
    stage = Stage("shared", ((Share(12.0), minilm.attention), (Share(6.0, late=True), minilm.value_relation)), {})
    bound, = stage.bound(3, 5)
    assert bound.terms == ((4.0, minilm.attention), (Late(2.0), minilm.value_relation))
    assert bound.weights(0, 9) == [4.0, 0.0] and bound.weights(1, 9) == bound.weights(8, 9) == [4.0, 2.0]


def test_what_a_recipe_leaves_out_is_what_bert_did():
    assert Recipe(steps=1, batch_size=1, learning_rate=1.0).as_dict() == {
        "steps": 1, "batch_size": 1, "learning_rate": 1.0, "warmup": 0, "beta1": 0.9, "beta2": 0.999, "eps": 1e-6,
        "decay": 0.01, "clip": 1.0, "max_length": 128, "optimizer": "adamw", "schedule": "linear", "epochs": 0,
        "layer_decay": 1.0}
    free = Method("free", "")
    assert not free.equal_heads and free.start == "random" and free.check(None, None, any=1) is None


@pytest.mark.parametrize("data", [minilm.attention, METHODS["minilm"], bert.pretrain, Ramp(1.0, 2.0),
                                  bert.pretrain.recipes["paper"]], ids=lambda data: type(data).__name__)
def test_data_cannot_be_changed_in_passing(data):
    with pytest.raises(FrozenInstanceError):
        setattr(data, next(iter(vars(data))), "another")


def test_a_recipe_changes_where_it_is_told_to():
    recipe = Recipe(steps=1000, batch_size=32, learning_rate=1e-3, warmup=100)
    assert recipe.but() == recipe.but(steps=None, learning_rate=None) == recipe
    assert recipe.but(learning_rate=0.5) == Recipe(1000, 32, 0.5, 100)
    assert recipe.but(steps=50) == Recipe(50, 32, 1e-3, warmup=5)                       # the warm-up keeps its share
    assert recipe.but(steps=50, warmup=20) == Recipe(50, 32, 1e-3, warmup=20)
    assert recipe.but(steps=50, warmup=0) == Recipe(50, 32, 1e-3, warmup=0)
    assert recipe.warmup == 100


# ---------------------------------------------------------------- plans

def pairs_of(stage):
    """The pairs of layers of a stage whose terms of layers all have the same."""
    (pairs,) = {term.pairs for _, term in stage.terms if "logits" not in term.reads}
    return pairs


@pytest.mark.parametrize("name, settings, pairs", [
    ("minilm", {}, ((5, 11),)),
    ("minilm", {"variant": "layer-to-layer"}, ((0, 1), (1, 3), (2, 5), (3, 7), (4, 9), (5, 11))),
    ("minilm-v2", {}, ((5, 11),)),
    ("minilm-v2", {"teacher_layer": 10}, ((5, 9),)),
    ("minilm-v2", {"teacher_layer": 12}, ((5, 11),)),
    ("minilm-v2", {"teacher_layer": 1}, ((5, 0),)),
    ("pkd-skip", {}, ((0, 1), (1, 3), (2, 5), (3, 7), (4, 9))),
    ("pkd-last", {}, ((0, 6), (1, 7), (2, 8), (3, 9), (4, 10))),
    ("attention-transfer", {}, ((0, 1), (1, 3), (2, 5), (3, 7), (4, 9), (5, 11))),
    ("internal", {}, ((0, 1), (1, 3), (2, 5), (3, 7), (4, 9), (5, 11))),
    ("fitnets", {}, ((2, 5),)),
])
def test_a_plan_binds_the_terms_of_layers_to_the_maps_pairs(name, settings, pairs):
    plan = METHODS[name].plan(parse("6x768"), parse("bert-base"), **settings)
    assert pairs_of(plan[0]) == pairs
    for stage in plan:
        assert max(stage.student_needs.extent(6)[0], stage.teacher_needs.extent(12)[0]) <= 11
        for _, term in stage.terms:
            if "logits" in term.reads:
                assert term.pairs == TERMS[term.name].pairs


@pytest.mark.parametrize("case", ["tinybert", "tinybert on a task", "tinybert, official"])
def test_tinybert_compares_hidden_states_and_scores_on_all_layers_and_the_embeddings_once(case):
    case = CASES[case]
    stage = case.of.plan(parse("tinybert-4x312"), parse("bert-base"), task=case.task, convention=case.convention)[0]
    pairs = {term.name.removeprefix("tinybert.").partition("_")[0]: term.pairs for _, term in stage.terms}
    uniform = ((0, 2), (1, 5), (2, 8), (3, 11))
    assert pairs == {"embedding": ((-1, -1),), "hidden": uniform, "attention": uniform}
    assert stage.teacher_needs == Needs.of(embeddings=True, hidden=(2, 5, 8, 11), scores=(2, 5, 8, 11))


@pytest.mark.parametrize("name, pairs_of_stage", [
    ("internal-pid", lambda i: ((i, 2 * i + 1),)),                                      # one layer after the other
    ("internal-sid", lambda i: tuple((j, 2 * j + 1) for j in range(i + 1)))])           # one layer more each time
def test_progressive_and_stacked_are_a_stage_for_each_layer_and_the_logits_last(name, pairs_of_stage):
    plan = METHODS[name].plan(parse("6x768"), parse("bert-base"), temperature=3.0)
    assert [stage.name for stage in plan] == [f"layer {i}" for i in range(1, 7)] + ["logits"]
    for i, stage in enumerate(plan[:-1]):
        assert pairs_of(stage) == pairs_of_stage(i) and stage.student_needs.extent(6) == (i, True)
        assert [term.name for _, term in stage.terms] == ["internal.attention", "internal.cosine"]
    assert plan[-1].terms == ((1.0, TERMS["soft_labels.classes"].but(temperature=3.0)),)


@each_method
def test_under_official_every_term_is_as_published_code_has_it_where_it_says_so(name):
    method = METHODS[name]
    for task in [task for task, build in ((False, method.on_text), (True, method.on_task)) if build]:
        for stage, plain in zip(*([each.under(convention) for each in method.stages(task)]
                                  for convention in ("official", "paper")), strict=True):
            assert all(term.convention == "paper" for _, term in plain.terms) and plain.name == stage.name
            for _, term in stage.terms:
                assert term.convention == "official" or "official" not in term.conventions or stage.official
            reads = plain.official_reads or plain.reads
            assert (stage.reads, stage.head, stage.recipes) == (reads, plain.head, plain.recipes)


def test_what_is_asked_on_the_command_line_finds_its_stages():
    tinybert, turc = METHODS["tinybert"], METHODS["turc"]
    assert [[stage.name for stage in tinybert.stages(task)] for task in (None, False)] == [["general"], ["general"]]
    assert [stage.name for stage in tinybert.stages(task=True)] == ["intermediate", "prediction"]
    assert [stage.name for stage in turc.stages()] == ["pretrain", "distil", "finetune"]
    assert [stage.reads for stage in turc.stages()] == [MASKED, TASK, TASK]
