"""What each paper and its published code state: weights, temperatures, hyper-parameters, searches."""

from dataclasses import replace

import numpy as np
import pytest

from tinydistill.features import Needs
from tinydistill.losses import TERMS, hard_labels, minilm
from tinydistill.methods import METHODS, bert
from tinydistill.methods.minilm import VARIANTS
from tinydistill.methods.stage import MASKED, MASKED_EVERYWHERE, TASK, TEXT, Ramp
from tinydistill.architectures import parse
from tinydistill.tensor import Tensor
from tinydistill.training import optimizers, schedules

PKD = dict(optimizer="bert-adam", batch_size=32, epochs=4, max_length=128, decay=0.01, eps=1e-6, share=0.1)
MOBILEBERT = dict(optimizer="lamb", batch_size=2_048, learning_rate=1.5e-3, max_length=512, decay=0.01, eps=1e-6, clip=1.0)
PAPER = {                                           # share: of the warm-up in all steps
    "minilm, distil": dict(steps=400_000, batch_size=256, max_length=512, learning_rate=3e-4, warmup=4_000, decay=0.01,
                           beta1=0.9, beta2=0.999, schedule="linear"),
    "minilm-v2, distil": dict(steps=400_000, batch_size=256, max_length=512, learning_rate=6e-4, warmup=4_000,
                              decay=0.01, beta2=0.999, eps=1e-6),
    "mlm-kd, distil": dict(steps=400_000, batch_size=256, max_length=512, learning_rate=3e-4, warmup=4_000),
    "distilbert, distil": dict(optimizer="adamw", beta1=0.9, beta2=0.98, eps=1e-6, learning_rate=5e-4, decay=0.0,
                               share=0.05, clip=5.0, epochs=3, batch_size=4_000, schedule="linear"),
    "tinybert, general": dict(optimizer="bert-adam", batch_size=256, learning_rate=5e-5, share=0.1, epochs=3,
                              max_length=128),
    "tinybert, intermediate": dict(optimizer="bert-adam", epochs=20, batch_size=32, learning_rate=5e-5, warmup=0,
                                   schedule="constant", max_length=128),
    "tinybert, prediction": dict(optimizer="bert-adam", epochs=3, batch_size=32, learning_rate=3e-5, share=0.1,
                                 schedule="linear"),
    "pkd-skip, distil": PKD,
    "pkd-last, distil": PKD,
    "tang, distil": dict(optimizer="adadelta", learning_rate=1.0, batch_size=50, epochs=30, schedule="constant",
                         warmup=0, decay=0.0, clip=0.0),
    "bert-vision, pool": dict(optimizer="adam-weight-decay", epochs=1, batch_size=16, decay=0.01, share=0.1, clip=0.0,
                              schedule="linear"),
    "adapters, adapt": dict(optimizer="adam-weight-decay", epochs=5, batch_size=32, learning_rate=3e-4, decay=0.01,
                            share=0.1, clip=1.0, eps=1e-6, max_length=128),
    "mobilebert, layer": MOBILEBERT | dict(steps=10_000, warmup=0, schedule="constant"),
    "mobilebert, distil": MOBILEBERT | dict(steps=500_000, warmup=10_000, schedule="mobilebert"),
    "theseus, replace": dict(optimizer="adamw", epochs=15, batch_size=32, learning_rate=2e-5),
    "turc, distil": dict(epochs=4),
    "turc, finetune": dict(epochs=4),
}
BERT = {"pretrain": dict(steps=1_000_000, batch_size=256, max_length=512, learning_rate=1e-4, warmup=10_000, decay=0.01,
                         beta1=0.9, beta2=0.999),
        "finetune": dict(share=0.1)}
SEARCH = {"lr": "learning_rate", "epochs": "epochs", "batch_size": "batch_size"}


def stages():
    for name, method in METHODS.items():
        for task in [task for task, build in ((False, method.on_text), (True, method.on_task)) if build]:
            for stage in method.stages(task):
                yield f"{name}, {stage.name}", method, stage


def assert_states(recipe, numbers):
    found = recipe.as_dict() | {"share": recipe.warmup / recipe.steps}
    assert {name: found[name] for name in numbers} == numbers


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_recipe(name):
    (stage,) = [stage for label, _, stage in stages() if label == name]
    assert_states(stage.recipes["paper"], PAPER[name])


def test_what_no_paper_states_is_berts_fine_tuning():
    for label, _, stage in stages():
        if label not in PAPER:
            assert stage.recipes == (bert.FINETUNE if stage.reads == TASK else bert.PRETRAIN), label


def test_berts_stages_are_the_papers():                                 # appendix A.2 and A.3
    assert bert.pretrain.terms == ((1.0, hard_labels.masked_lm),) and bert.pretrain.reads == MASKED
    assert bert.pretrain_pairs.terms == bert.pretrain.terms + ((1.0, hard_labels.next_sentence),)
    assert bert.pretrain_pairs.recipes == bert.pretrain.recipes
    assert bert.finetune.terms == ((1.0, hard_labels.classes),) and bert.finetune.reads == TASK
    assert bert.pretrain.teacher_needs == bert.finetune.teacher_needs == Needs()
    assert_states(bert.pretrain.recipes["paper"], BERT["pretrain"])
    assert_states(bert.finetune.recipes["paper"], BERT["finetune"])
    assert bert.GRIDS["bert"] == {"lr": (5e-5, 3e-5, 2e-5), "epochs": (2, 3, 4), "batch_size": (16, 32)}
    assert all(getattr(bert.FINETUNE["paper"], SEARCH[name]) in values for name, values in bert.GRIDS["bert"].items())


def test_published_code_reads_one_corrupted_token_a_row_in_tinyberts_general_distillation():
    stage, = METHODS["tinybert"].stages(task=False)
    assert (stage.reads, stage.under("paper").reads) == ("text", "text")
    official = stage.under("official")
    assert (official.reads, official.masking) == ("masked text", "one")
    assert METHODS["tinybert"].stages(task=True)[0].under("official").reads == "task"


def test_published_code_trains_tinyberts_layers_for_ten_epochs():
    stage = METHODS["tinybert"].stages(task=True)[0]
    assert stage.recipes["official"] == replace(stage.recipes["paper"], epochs=10)


@pytest.mark.parametrize("name, grid", [
    ("tinybert", {"lr": (1e-5, 2e-5, 3e-5), "batch_size": (16, 32)}),
    ("pkd-skip", {"alpha": (0.2, 0.5, 0.7), "temperature": (5, 10, 20), "lr": (5e-5, 2e-5, 1e-5),
                  "official_beta": (10, 100, 500, 1000)}),
    ("turc", {"lr": (3e-4, 1e-4, 5e-5, 3e-5), "batch_size": (8, 16, 32, 64, 128)}),
    ("kd", {"alpha": (0.3, 0.5, 0.8), "temperature": (5, 10, 20), "lr": (5e-5, 2e-5, 1e-5)}),   # PKD's, 1 - its alpha
])
def test_what_was_searched_and_the_settings_are_among_it(name, grid):
    method = METHODS[name]
    assert method.grid == grid
    last = method.stages(task=True)[-1].recipes["paper"]                # TinyBERT searched its prediction
    for setting, values in method.grid.items():
        used = getattr(last, SEARCH[setting]) if setting in SEARCH else method.settings[setting]
        assert used in values or (name, setting) == ("kd", "lr")        # nobody's: BERT's fine-tuning
    assert METHODS["pkd-last"].grid == METHODS["pkd-skip"].grid


def test_a_search_is_over_settings_and_numbers_of_the_recipe():
    for method in METHODS.values():
        assert method.grid.keys() <= method.settings.keys() | SEARCH.keys()


# ---------------------------------------------------------------- objectives

def soft(temperature, convention="paper"):
    return TERMS["soft_labels.classes"].but(temperature=temperature).under(convention)


def objective(name, convention="paper", task=None, stage=0, **settings):
    return METHODS[name].stages(task, **settings)[stage].under(convention).terms


def test_minilm_is_its_two_losses_with_weight_one_on_the_last_layers():     # equation 10
    (stage,) = METHODS["minilm"].plan(parse("6x384"), parse("bert-base"))
    assert objective("minilm") == ((1.0, minilm.attention), (1.0, minilm.value_relation)) and stage.reads == TEXT
    assert stage.student_needs == Needs.of(queries=[5], keys=[5], values=[5])
    assert stage.teacher_needs == Needs.of(queries=[11], keys=[11], values=[11])
    assert stage.teacher_needs.extent(12) == (11, False)                # its last layer's projections
    assert parse("6x384").dropout == 0.1


def test_minilms_variants_are_those_of_tables_5_to_7():
    names = {variant: [term.name.removeprefix("minilm.") for _, term in terms] for variant, terms in VARIANTS.items()}
    assert names == {"paper": ["attention", "value_relation"], "attention-only": ["attention"],
                     "value-mse": ["attention", "value_mse"], "hidden-relation": ["attention", "hidden_relation"],
                     "layer-to-layer": ["attention", "value_relation"]}
    assert all(weight == 1 for terms in VARIANTS.values() for weight, _ in terms)
    assert all(objective("minilm", variant=variant) == terms for variant, terms in VARIANTS.items())


def test_minilm_v2_weighs_its_three_relations_alike():
    terms = objective("minilm-v2", relation_heads=48)
    assert terms == tuple((1.0, TERMS[f"minilm_v2.{x}"].but(relation_heads=48)) for x in ("queries", "keys", "values"))
    assert {term.relation_heads for _, term in objective("minilm-v2")} == {0}           # the teacher's


def test_distilbert_weighs_5_2_1_at_temperature_2_and_reads_every_token():
    assert objective("distilbert") == ((5.0, TERMS["distilbert.soft_labels"].but(temperature=2.0)),
                                       (2.0, hard_labels.masked_lm), (1.0, TERMS["distilbert.cosine"]))
    (stage,) = METHODS["distilbert"].stages()
    assert stage.reads == MASKED_EVERYWHERE
    assert (stage.under("paper").masking, stage.under("official").masking) == ("bert", "frequency")
    assert [term.convention for _, term in objective("distilbert", "official")] == ["official", "paper", "official"]


def test_mlm_kd_reads_the_masked_tokens_at_temperature_1():
    assert objective("mlm-kd") == ((1.0, TERMS["soft_labels.masked"]),)
    assert METHODS["mlm-kd"].stages()[0].reads == MASKED
    assert objective("mlm-kd", temperature=2.0)[0][1].temperature == 2.0


@pytest.mark.parametrize("task", [False, True])
def test_tinybert_weighs_all_alike_and_published_code_has_one_biased_map(task):
    paper, official = objective("tinybert", task=task), objective("tinybert", "official", task=task)
    assert paper == tuple((1.0, TERMS[f"tinybert.{name}"]) for name in ("embedding", "hidden", "attention"))
    assert [term.name for _, term in official] == ["tinybert.embedding", "tinybert.hidden",
                                                   "tinybert.attention_official"]
    assert all(weight == 1 and term.convention == "official" for weight, term in official)
    assert {(term.projection, term.projection_bias) for _, term in official[:2]} == {("tinybert.fit_dense", True)}
    assert {term.projection for _, term in paper[:2]} == {"tinybert.W_e", "tinybert.W_h"}


def test_tinyberts_prediction_is_soft_labels_alone_at_temperature_1():
    assert objective("tinybert", task=True, stage=1) == ((1.0, TERMS["tinybert.prediction"]),)
    assert objective("tinybert", "official", True, 1) == ((1.0, TERMS["tinybert.prediction"].under("official")),)
    assert TERMS["tinybert.prediction"].temperature == 1.0


@pytest.mark.parametrize("name", ["pkd-skip", "pkd-last"])
def test_pkd_weighs_as_in_its_example_and_beta_fits_the_divisor(name):      # alpha 0.7, T 10, beta 500
    patience = TERMS["pkd.patience"]
    assert objective(name) == ((1 - 0.7, hard_labels.classes), (0.7, soft(10.0)), (500 / 3840, patience))
    assert objective(name, "official") == ((1 - 0.7, hard_labels.classes), (0.7, soft(10.0, "pkd")),
                                           (500.0, patience.under("official")))
    assert objective(name, alpha=0.2, beta=3.0, temperature=5.0) == ((0.8, hard_labels.classes), (0.2, soft(5.0)),
                                                                     (3.0, patience))


def test_hinton_mixes_labels_and_soft_labels():
    assert objective("kd") == ((0.5, hard_labels.classes), (0.5, soft(5.0)))
    assert objective("kd", alpha=0.25, temperature=2.0) == ((0.25, hard_labels.classes), (0.75, soft(2.0)))


def test_tang_learns_logits_alone_and_published_code_adds_the_labels():
    labels, logits = hard_labels.classes, TERMS["soft_labels.logits_mse"]
    assert objective("tang") == ((1.0, logits),)
    assert objective("tang", alpha=0.25) == ((0.25, labels), (0.75, logits))
    assert objective("tang", alpha=1.0) == ((1.0, labels),)
    assert objective("tang", "official") == ((1.0, labels), (1.0, logits.under("official")))
    assert objective("tang", "official", ce_lambda=0.0, distill_lambda=2.0) == ((2.0, logits.under("official")),)
    assert METHODS["tang"].stages()[0].reads == TASK


def test_attention_transfer_halves_beta_on_paper_and_not_in_code():
    labels, maps = hard_labels.classes, TERMS["attention_transfer.maps"]
    official = TERMS["attention_transfer.maps_official"]
    asked = dict(alpha=0.75, temperature=4.0, beta=100.0)
    assert objective("attention-transfer", **asked) == ((0.25, labels), (0.75, soft(4.0)), (50.0, maps))
    assert objective("attention-transfer", "official", **asked) == ((0.25, labels), (0.75, soft(4.0)),
                                                                    (100.0, official))


def test_fitnets_has_a_hint_and_then_a_falling_weight_of_soft_labels():
    assert objective("fitnets") == ((1.0, TERMS["fitnets.hint"]),)
    assert objective("fitnets", stage=1) == ((1.0, hard_labels.classes),
                                             (Ramp(4.0, 1.0), TERMS["fitnets.softened"].but(temperature=3.0)))
    assert METHODS["fitnets"].stages(first=2.0)[1].weights(0, 10) == [1.0, 2.0]
    assert METHODS["fitnets"].stages(last=0.5)[1].weights(9, 10) == [1.0, 0.5]


def test_turc_distils_without_labels_between_pretraining_and_fine_tuning():
    pretrain, distil, finetune = METHODS["turc"].stages()
    assert pretrain is bert.pretrain and finetune.terms == bert.finetune.terms
    assert distil.terms == ((1.0, soft(1.0)),) and distil.recipes == finetune.recipes


def test_tsai_learns_the_teachers_words_after_pretraining():
    pretrain, distil = METHODS["sequence-labels"].stages()
    assert pretrain is bert.pretrain and distil.terms == ((1.0, TERMS["sequence_labels"]),)


def test_aguilar_weighs_all_alike():
    layers = ((1.0, TERMS["internal.attention"]), (1.0, TERMS["internal.cosine"]))
    assert objective("internal", temperature=2.0) == layers + ((1.0, soft(2.0)),)
    for name in ("internal-pid", "internal-sid"):
        assert objective(name) == layers and objective(name, stage=1) == ((1.0, soft(1.0)),)


# ---------------------------------------------------------------- the optimiser of a recipe, step by step

@pytest.mark.parametrize("name", ["tinybert, general", "tinybert, prediction", "pkd-skip, distil", "pkd-last, distil"])
def test_bert_adams_trace_comes_out_of_the_recipe(name):
    """The published class: its own schedule, each gradient clipped by itself, no bias correction."""
    (recipe,) = [stage.recipes["paper"] for label, _, stage in stages() if label == name]
    recipe = recipe.but(steps=10, learning_rate=1e-2, warmup=2)
    w = Tensor(np.array([0.5, -0.25]), requires_grad=True)
    optimizer, schedule = optimizers.make({"w": w}, recipe), schedules.get(recipe.schedule)
    trace = [(0.5, -0.25), (0.483331758292, -0.259962356607), (0.470405244158, -0.279782769717),
             (0.45279754731, -0.301474280742)]
    for step, (gradient, after) in enumerate(zip([(3, 4), (0.1, -0.2), (-0.3, 0.05), (0.2, 0.2)], trace)):
        optimizer.update({"w": np.array(gradient, float)}, recipe.learning_rate * schedule(step, 10, 2))
        np.testing.assert_allclose(w.array, after, rtol=0, atol=1e-12)
