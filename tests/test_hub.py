"""Checkpoints in and out: every spelling that BERT comes in, its heads and classes, and equal bits there and back."""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from oracle import bert as oracle
from small_bert import LABELS, build, draw_batch, everything, flat
from tinydistill import hub
from tinydistill.errors import WrongUsage
from tinydistill.features import Pass
from tinydistill.students.configs import HEADS
from tinydistill.hub_names import FORMS
from tinydistill.students import bert_names

their_name = FORMS["bert"].name

CASES = [("none", True), ("none", False), ("masked-lm", False), ("pretraining", True), ("sequence", True),
         ("token", False)]


def same_parameters(a, b):
    assert a.arrays().keys() == b.arrays().keys()
    for name, x in a.arrays().items():
        other = b.arrays()[name]
        assert (x.dtype, x.tobytes()) == (other.dtype, other.tobytes()), name


@pytest.fixture
def saved(tmp_path):
    """saved("masked-lm", f): a directory with a float32 model whose tensors and settings f changed, and the model."""
    def make(head="none", change=None, name="checkpoint", **config):
        directory = tmp_path / name
        model = build(head, dtype=np.float32, **{"pooler": head in ("none", "sequence"), **config})
        hub.write(model, directory)
        if change:
            tensors = load_file(directory / "model.safetensors")
            settings = json.loads((directory / "config.json").read_text())
            change(tensors, settings)
            save_file(tensors, directory / "model.safetensors")
            (directory / "config.json").write_text(json.dumps(settings))
        return directory, model
    return make


# ---------------------------------------------------------------- there and back

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("head, pooler", CASES)
def test_what_is_written_is_read_again_to_the_bit(tmp_path, head, pooler, dtype):
    model = build(head, pooler=pooler, dtype=dtype)
    hub.write(model, tmp_path / "a" / "b")
    found = hub.read(tmp_path / "a" / "b", head=head)
    assert found.config == model.config
    same_parameters(found, model)
    hub.write(found, tmp_path / "c")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / "b" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()
    assert sorted(os.listdir(tmp_path / "c")) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("head, pooler", CASES)
def test_transformers_opens_what_is_written_and_names_nothing(tmp_path, head, pooler):
    """No tensor missing, none unexpected, every setting understood: numbers are compared in test_bert.py."""
    model = build(head, pooler=pooler, dropout=0.25, attention_dropout=0.125, eps=1e-6, pad_id=3, positions=13)
    found = oracle.twin(model, tmp_path, dtype="auto")
    assert str(found.dtype) == "torch.float64"
    assert ("add_pooling_layer=False" in (tmp_path / "config.json").read_text()) == (head == "none" and not pooler)
    for ours, (theirs, _) in bert_names.SETTINGS.items():
        assert getattr(found.config, theirs) == getattr(model.config, ours)
    assert (found.config.model_type, found.config.hidden_act) == ("bert", "gelu")
    assert found.config.tie_word_embeddings is True
    if head in ("sequence", "token"):
        assert found.config.id2label == dict(enumerate(LABELS)) and found.config.label2id["c"] == 2


@pytest.mark.parametrize("head", ["masked-lm", "token"])
def test_a_pooler_that_transformers_has_no_place_for_is_left_out(tmp_path, head):
    hub.write(build(head, pooler=True), tmp_path)
    oracle.opened(tmp_path, bert_names.ARCHITECTURES[head])
    assert not hub.read(tmp_path).config.pooler


@pytest.mark.parametrize("architecture, head, pooler", [
    ("BertModel", "none", True), ("BertForMaskedLM", "masked-lm", False),
    ("BertForTokenClassification", "token", False),
    ("BertForSequenceClassification", "sequence", True), ("BertForPreTraining", "masked-lm", True),
    ("BertForNextSentencePrediction", "none", True), ("BertForQuestionAnswering", "span", False)])
def test_what_transformers_writes_is_read(tmp_path, architecture, head, pooler):
    """With its defaults in config.json, its names, and the heads that nothing here reads."""
    theirs = oracle.save_new(architecture, tmp_path, vocab_size=37, hidden_size=12, num_hidden_layers=2,
                             num_attention_heads=3, intermediate_size=20, max_position_embeddings=11)
    model = hub.read(tmp_path)
    assert (model.config.head, model.config.pooler) == (head, pooler)
    assert model.config.labels == (("LABEL_0", "LABEL_1") if head in ("sequence", "token") else ())
    for name, x in model.arrays().items():
        np.testing.assert_array_equal(x, theirs[their_name(name)], err_msg=name)


def test_what_a_config_leaves_out_means_what_it_means_in_transformers():
    for theirs, default in bert_names.SETTINGS.values():
        assert oracle.default_setting(theirs) == default


def test_the_table_of_names_has_one_of_theirs_for_each_of_ours():
    for head in HEADS:
        names = list(build(head).arrays())
        assert len({their_name(name) for name in names}) == len(names)
    assert their_name("layers.11.attention.output.bias") == "encoder.layer.11.attention.output.dense.bias"


# ---------------------------------------------------------------- spellings

def with_prefix(tensors, settings):
    for name in list(tensors):
        tensors["bert." + name] = tensors.pop(name)


def without_prefix(tensors, settings):
    for name in list(tensors):
        tensors[name.removeprefix("bert.")] = tensors.pop(name)


def legacy_norms(tensors, settings):
    for name in list(tensors):
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        tensors[old] = tensors.pop(name)


def buffers(tensors, settings):
    tensors["embeddings.position_ids"] = np.arange(11)[None]


def decoder(tensors, settings):
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].copy()
    tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].copy()


def bias_in_the_decoder(tensors, settings):
    tensors["cls.predictions.decoder.bias"] = tensors.pop("cls.predictions.bias")


def next_sentence(tensors, settings):
    tensors["cls.seq_relationship.weight"] = np.ones((2, 12), np.float32)
    tensors["cls.seq_relationship.bias"] = np.ones(2, np.float32)


def few_settings(tensors, settings):
    for name in ("model_type", "hidden_act", "position_embedding_type", "is_decoder", "pad_token_id", "type_vocab_size",
                 "layer_norm_eps", "dtype", "tie_word_embeddings", "architectures"):
        settings.pop(name)
    settings["classifier_dropout"] = None
    settings["initializer_range"] = None


@pytest.mark.parametrize("head, change", [
    ("none", with_prefix), ("masked-lm", without_prefix), ("sequence", without_prefix), ("none", legacy_norms),
    ("masked-lm", legacy_norms), ("none", buffers), ("masked-lm", decoder), ("masked-lm", bias_in_the_decoder),
    ("masked-lm", next_sentence), ("none", few_settings), ("masked-lm", few_settings), ("sequence", few_settings),
    ("token", few_settings)])
def test_every_spelling_is_the_same_model(saved, head, change):
    changed, model = saved(head, change)
    found = hub.read(changed)
    assert found.config.but(initial_std=0) == model.config.but(initial_std=0)
    same_parameters(found, model)


@pytest.mark.parametrize("narrow", ["float16", "bfloat16"])
def test_half_precision_is_widened_exactly(saved, narrow):
    directory, model = saved()
    arrays = {their_name(name): x for name, x in model.arrays().items()}
    wide = oracle.save_narrow(arrays, directory / "model.safetensors", narrow)
    for name, x in hub.read(directory).arrays().items():
        assert x.dtype == np.float32
        np.testing.assert_array_equal(x, wide[their_name(name)], err_msg=name)


# ---------------------------------------------------------------- heads

def test_a_head_that_nobody_wants_is_left_out(saved):
    for head in ("masked-lm", "sequence", "token"):
        directory, model = saved(head, name=head)
        found = hub.read(directory, head="none")
        assert (found.config.head, found.config.labels, found.config.pooler) == ("none", (), head == "sequence")
        body = {name: x for name, x in model.arrays().items() if not name.startswith("head.")}
        assert found.arrays().keys() == body.keys()
        assert all((found.arrays()[name] == x).all() for name, x in body.items())


def test_a_wanted_head_that_is_not_there_is_drawn_from_the_seed(saved):
    directory, model = saved("masked-lm")
    found = hub.read(directory, head="sequence", labels=("no", "yes"), seed=5)
    assert (found.config.head, found.config.labels, found.config.pooler) == ("sequence", ("no", "yes"), True)
    same = hub.read(directory, head="sequence", labels=["no", "yes"], seed=5)
    same_parameters(found, same)
    other = hub.read(directory, head="sequence", labels=("no", "yes"))
    same_parameters(other, hub.read(directory, head="sequence", labels=("no", "yes"), seed=0))
    for part in ("head.classifier.weight", "pooler.weight"):
        assert 0.3 < found.arrays()[part].std() < 0.5                   # config.initial_std is 0.4
        assert not np.array_equal(found.arrays()[part], other.arrays()[part])
    for name, x in found.arrays().items():
        if not name.startswith(("head.", "pooler.")):
            np.testing.assert_array_equal(x, model.arrays()[name], err_msg=name)
    assert hub.read(directory, head="token", labels=("no", "yes")).config.pooler is False


def test_a_pooler_that_is_there_stays_under_a_new_head(saved):
    directory, model = saved("none")
    for head in ("sequence", "masked-lm", "token"):
        found = hub.read(directory, head=head, labels=LABELS)
        np.testing.assert_array_equal(found.pooler.weight.array, model.pooler.weight.array)
        assert found.config.labels == (() if head == "masked-lm" else LABELS)


def test_a_classifier_of_tokens_is_none_of_sequences(saved):
    """Both are called `classifier`: what it is of stands in config.json."""
    directory, model = saved("token")
    assert not np.array_equal(hub.read(directory, head="sequence", labels=LABELS).head.classifier.weight.array,
                              model.head.classifier.weight.array)
    with pytest.raises(WrongUsage, match="need a model with a sequence head for a, b, .*; .* has a token head for a"):
        hub.read(directory, head="sequence", labels=LABELS, require_head=True)


def test_classes_in_another_order_are_reordered(saved):
    """MNLI's classes come in two orders: each logit must stay with its class."""
    directory, model = saved("sequence")
    order = (3, 0, 4, 1, 2)
    found = hub.read(directory, labels=tuple(LABELS[i] for i in order), require_head=True)
    batch, run = draw_batch("sequence"), Pass(needs=everything(model.config))
    np.testing.assert_allclose(flat(found(batch, run))["logits", None].array,
                               flat(model(batch, run))["logits", None].array[:, order], rtol=1e-5)


def test_nameless_classes_take_their_names_from_the_labels(saved):
    directory, model = saved("sequence", lambda tensors, settings: settings.pop("id2label"))
    assert hub.read(directory).config.labels == tuple(f"LABEL_{i}" for i in range(5))
    found = hub.read(directory, labels=("v", "w", "x", "y", "z"), require_head=True)
    assert found.config.labels == ("v", "w", "x", "y", "z")
    np.testing.assert_array_equal(found.head.classifier.weight.array, model.head.classifier.weight.array)


def test_a_head_for_other_classes_is_not_taken_for_this_one(saved):
    directory, model = saved("sequence")
    for labels in (("a", "b"), ("v", "w", "x", "y", "z")):
        found = hub.read(directory, head="sequence", labels=labels)
        assert found.head.classifier.weight.shape == (len(labels), 12)
        assert not np.isin(found.head.classifier.weight.array, model.head.classifier.weight.array).any()
        np.testing.assert_array_equal(found.pooler.weight.array, model.pooler.weight.array)
        with pytest.raises(WrongUsage, match=f"for {', '.join(labels)}; .* has a sequence head for a, b, c, d, e"):
            hub.read(directory, head="sequence", labels=labels, require_head=True)


def test_a_head_that_cannot_be_had_is_refused(saved):
    directory, _ = saved("none")
    with pytest.raises(WrongUsage, match="need a head out of any, none, masked-lm, pretraining, .*; got tags"):
        hub.read(directory, head="tags")
    with pytest.raises(WrongUsage, match="need the labels of a new sequence head, which .* has not"):
        hub.read(directory, head="sequence")
    with pytest.raises(WrongUsage, match="need the labels of a new token head, which .* has not"):
        hub.read(saved("sequence", name="other")[0], head="token")
    with pytest.raises(WrongUsage, match="need a model with a masked-lm head; .* has no head"):
        hub.read(directory, head="masked-lm", require_head=True)
    for labels, named in (("12345", "1, 2, 3, 4, 5"), ("123456", "1, 2, 3, 4, 5, ...")):
        with pytest.raises(WrongUsage, match=f"need a model with a token head for {named}; .* has no head"):
            hub.read(directory, head="token", labels=labels, require_head=True)
