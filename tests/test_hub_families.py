"""Every family that transformers has, there and back: equal to the bit, equal logits; and what it cannot express."""

import importlib
import json

import numpy as np
import pytest

from gradcheck import assert_close64
from oracle import families as oracle
from small_bert import LABELS, draw_batch, everything
from tinydistill import architectures, hub
from tinydistill.errors import Problem, WrongUsage
from tinydistill.features import Needs, Pass
from tinydistill.hub_names import FORMS, form_of, refusal
from tinydistill.students.configs import CLASSIFIERS

SMALL = {"bert": "2x24x3", "distilbert": "distilbert-2x24x3", "squeezebert": "squeezebert-2x24x3",
         "mobilebert": "mobilebert-2x24x3", "roberta": "roberta-2x24x3", "xlm-roberta": "xlm-r-2x24x3"}
CASES = [(family, head) for family in SMALL for head in FORMS[family].table.ARCHITECTURES]


def build(size, head="none", **changes):
    """A small model whose every parameter is some random number."""
    config = architectures.parse(size)
    if config.model_type == "squeezebert":
        changes = {"pooler": True} | changes
    config = config.but(vocabulary=37, positions=20, head=head, labels=LABELS if head in CLASSIFIERS else (),
                        **({"embedding": 6, "bottleneck": 12} if config.model_type == "mobilebert" else {}))
    if config.model_type in ("roberta", "xlm-roberta"):
        changes = {"pooler": head == "none"} | changes
    if config.model_type == "bert":                 # transformers has one beside these alone
        changes = {"pooler": head in ("none", "pretraining", "sequence")} | changes
    model = architectures.build(config.but(**changes), 1).to(np, np.float64)
    rng = np.random.default_rng(1)
    for parameter in model.parameters():
        parameter.array = parameter.array + 0.2 * rng.standard_normal(parameter.shape)
    return model


def batch_of(model):
    """Ids that no family takes for padding, at real tokens."""
    batch = draw_batch("none")
    ids = np.where(batch.mask, np.maximum(batch.ids, 2), model.config.pad_id)
    return batch.__class__(ids, batch.mask, batch.token_types % max(1, model.config.token_types), rows=batch.rows)


def same_bits(found, model):
    assert found.config == model.config
    for name, x in model.arrays().items():
        assert (x.dtype, x.tobytes()) == (found.arrays()[name].dtype, found.arrays()[name].tobytes()), name


@pytest.mark.parametrize("family, head", CASES)
def test_there_and_back(tmp_path, family, head):
    """Ours, opened by transformers without a missing tensor, with its outputs; written by it, and ours again."""
    pooler = {"pooler": True} if head == "none" and family != "distilbert" else {}
    model = build(SMALL[family], head, **pooler)
    hub.write(model, tmp_path / "ours")
    twin, architecture = oracle.opened(tmp_path / "ours")
    assert architecture == FORMS[family].table.ARCHITECTURES[head]
    batch = batch_of(model)
    hidden, logits = oracle.outputs(twin, batch)
    features = model(batch, Pass(needs=everything(model.config)))
    assert_close64(features.embeddings.array[batch.mask], hidden[0][batch.mask], "embeddings")
    for l in range(2):
        assert_close64(features.hidden[l].array[batch.mask], hidden[l + 1][batch.mask], f"layer {l}")
    if head in ("sequence", "span"):
        assert_close64(features.logits.array, logits, "logits")
    elif head != "none":
        assert_close64(features.logits.array, logits.reshape(-1, logits.shape[-1]), "logits")
    twin.save_pretrained(tmp_path / "theirs")
    same_bits(hub.read(tmp_path / "theirs", head=head, labels=model.config.labels), model)


@pytest.mark.parametrize("family", SMALL)
def test_each_head_is_found_and_another_is_drawn(tmp_path, family):
    for head in ("masked-lm", "sequence", "token", "span"):
        hub.write(build(SMALL[family], head), tmp_path / head)
        found = hub.read(tmp_path / head)
        assert (found.config.head, found.config.labels) == (head, LABELS if head in CLASSIFIERS else ())
    drawn = hub.read(tmp_path / "masked-lm", head="sequence", labels=("no", "yes"), seed=3)
    again = hub.read(tmp_path / "masked-lm", head="sequence", labels=("no", "yes"), seed=3)
    same_bits(again, drawn)
    assert drawn.head.classifier.weight.shape[0] == 2 and drawn.head.classifier.weight.array.std() > 0
    turned = hub.read(tmp_path / "sequence", labels=LABELS[::-1])
    np.testing.assert_array_equal(turned.head.classifier.weight.array[::-1],
                                  hub.read(tmp_path / "sequence").head.classifier.weight.array)


@pytest.mark.parametrize("family", SMALL)
def test_the_table_of_names_has_one_of_theirs_for_each_of_ours(family):
    for head in FORMS[family].table.ARCHITECTURES:
        names = list(build(SMALL[family], head).arrays())
        assert len({FORMS[family].name(name) for name in names}) == len(names)


OWN = {"ib-bert-2x32x2": "of another width than the bottleneck", "bilstm-1x6": "it has no BiLSTM"}


@pytest.mark.parametrize("size, reason", OWN.items())
def test_what_transformers_cannot_express_says_so_and_comes_back(tmp_path, size, reason):
    config = architectures.parse(size).but(vocabulary=37, head="sequence", labels=LABELS)
    model = architectures.build(config, 1)
    assert reason in refusal(config)
    hub.write(model, tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    assert settings["model_type"] == f"tinydistill-{config.model_type}" and reason in settings["comment"]
    same_bits(hub.read(tmp_path), model)
    assert hub.read(tmp_path, head="sequence", labels=("x", "y"), seed=2).head.classifier.weight.shape[0] == 2
    settings["config"]["hidden"] = "wide"
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(Problem, match="config.json: need hidden of a .* to be int, got 'wide'"):
        hub.read(tmp_path)


@pytest.mark.parametrize("change, reason", [
    ({"norm": "layer_norm"}, "its outer layer norms have the eps 1e-12, there it is 1e-05"),
    ({"mask_value": -6.0}, "masked scores have a value of their own")])
def test_a_mobilebert_that_transformers_has_not(tmp_path, change, reason):
    model = build(SMALL["mobilebert"], **change)
    assert reason in refusal(model.config) and form_of(model.config).model_type == "mobilebert"
    hub.write(model, tmp_path)
    same_bits(hub.read(tmp_path), model)


def test_a_second_bottleneck_that_nothing_reads_is_left_out(tmp_path):
    """As transformers makes it where use_bottleneck_attention is set and the other flag left at its default."""
    model = build("mobilebert-tiny-2x24x3")
    hub.write(model, tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    settings["key_query_shared_bottleneck"] = True
    (tmp_path / "config.json").write_text(json.dumps(settings))
    import safetensors.numpy
    tensors = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    tensors["encoder.layer.0.bottleneck.attention.dense.weight"] = np.zeros((12, 24))
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
    same_bits(hub.read(tmp_path), model)


def test_distilbert_without_a_pooler_reads_cls(tmp_path):
    model = build(SMALL["distilbert"], "sequence")
    with pytest.raises(Problem, match="need pooled, which DistilBERT 2x24 without a pooler cannot have"):
        model(batch_of(model), Pass(needs=Needs.of(pooled=True)))


@pytest.mark.parametrize("name", ["q8bert", "qbert"])
def test_a_quantised_model_lies_in_its_integers(tmp_path, name):
    """What is read gives what was stored, is a quarter as large, and keeps its head."""
    bert = build("2x24x3", "sequence", vocabulary=200)
    made = importlib.import_module(f"tinydistill.compress.{name}").quantised(bert.to(np, np.float32))
    hub.write(made, tmp_path / "quantised")
    hub.write(bert, tmp_path / "whole")
    found = hub.read(tmp_path / "quantised", labels=LABELS)
    assert found.config == made.config
    for key, x in made.stored().items():
        np.testing.assert_array_equal(x, found.stored()[key], err_msg=key)
    batch, run = batch_of(bert), Pass(Needs.of(logits=True))
    turned = hub.read(tmp_path / "quantised", labels=LABELS[::-1])      # classes in the order that is asked for
    assert turned.config.labels == LABELS[::-1]
    np.testing.assert_array_equal(turned(batch, run).logits.array[:, ::-1], found(batch, run).logits.array)
    sizes = [(tmp_path / kind / "model.safetensors").stat().st_size for kind in ("quantised", "whole")]
    assert sizes[0] < 0.5 * sizes[1]                # small as it is, much of it is norms, biases and the header
    with pytest.raises(WrongUsage, match="a quantised model keeps the head it has: need a sequence head for x, y"):
        hub.read(tmp_path / "quantised", head="sequence", labels=("x", "y"))
