"""`verify --checkpoint --against`: where two models part, or a model and what another program computed."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy

import small_bert
import small_bilstm
import small_mobilebert
import small_q8bert
from oracle import families as oracle
from test_hub_families import SMALL, build as build_family
from tinydistill import hub
from tinydistill.commands import verify_models
from tinydistill.commands.verify_models import compare_models
from tinydistill.data.tokenizer_training import train_wordpiece
from tinydistill.errors import WrongUsage
from tinydistill.features import Pass


@pytest.fixture
def two(tmp_path):
    """two(model, f): the directories of a model and of the same after f(model)."""
    def make(model, change=None, tokenizers=(None, None)):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        paths = folder / "one", folder / "two"
        hub.write(model, paths[0], tokenizers[0])
        if change:
            change(model)
        hub.write(model, paths[1], tokenizers[1])
        return paths
    return make


def add(name, amount=1e-2, index=0):
    """f(model): one number of a parameter is moved."""
    def change(model):
        model.named_parameters()[name].array.reshape(-1)[index] += amount
    return change


def said(report):
    return "\n".join(report.lines())


# ---------------------------------------------------------------- two directories

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name, place", [
    ("embeddings.norm.weight", ("embeddings", None)),
    ("layers.1.attention.query.weight", ("queries", 1)), ("layers.1.attention.key.bias", ("keys", 1)),
    ("layers.2.attention.value.weight", ("values", 2)), ("layers.1.attention.output.weight", ("hidden", 1)),
    ("layers.0.feed_forward.outer.weight", ("hidden", 0)), ("layers.2.feed_forward_norm.bias", ("hidden", 2)),
    ("head.dense.weight", ("logits", None))])
def test_one_weight_is_found_where_it_is(name, place, dtype, two):
    report = compare_models(*two(small_bert.build("masked-lm", dtype=dtype), add(name)))
    assert report.place == place and list(report.wrong_parameters) == [name] and report.exit_code == 1
    assert f"parameter that differs: {name}: 1 of " in said(report) and ", by up to 0.01" in said(report)
    if place[1] is not None:
        assert f"the first that differs: layer {place[1]} (of 0 to 2), and in it {place[0]}: " in said(report)
        assert all(c.passed for (_, l), c in report.compared.items() if l is not None and l < place[1])
    assert ("behind the scores" in said(report)) == (place[0] == "hidden")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_models_and_models_that_differ_by_rounding(dtype, two):
    model = small_bert.build("sequence", dtype=dtype)
    report = compare_models(*two(model))
    assert report.exit_code == 0 and not report.parameters and "all features are equal" in said(report)
    unit = 2.0 ** -24 if dtype == np.float32 else 2.0 ** -53

    def rounding(model):
        for parameter in model.parameters():
            parameter.array = (parameter.array * (1 + 2 * unit)).astype(dtype)
    report = compare_models(*two(model, rounding))
    assert report.exit_code == 0 and report.parameters and "of other bits, within rounding" in said(report)


def test_a_word_that_the_ids_do_not_reach_counts(two):
    model = small_bert.build()
    paths = two(model)
    report = compare_models(*paths)
    ids = set(range(small_bert.VOCABULARY)) - set(verify_models.shown_ids(paths, (model.config,) * 2)[0].ids.ravel())
    add("embeddings.word.weight", index=min(ids) * model.config.hidden)(model)
    hub.write(model, paths[1])
    report = compare_models(*paths)
    assert report.place is None and report.exit_code == 1
    assert "all features are equal, but parameters are not" in said(report)


def test_weights_that_were_rounded_to_half_precision(two):
    def halve(model):
        for parameter in model.parameters():
            parameter.array = parameter.array.astype(np.float16).astype(np.float32)
    report = compare_models(*two(small_bert.build(dtype=np.float32), halve))
    assert report.exit_code == 1 and "rounded to float16: those of the second" in said(report)
    assert re.search(r"and \d+ more parameters", said(report))
    assert said(report).count("parameter that differs") == verify_models.SHOWN


def test_a_setting_that_differs(two):
    paths = two(small_bert.build())
    settings = json.loads((paths[1] / "config.json").read_text())
    changed = settings | {"layer_norm_eps": 1e-3, "hidden_act": "gelu_new"}
    (paths[1] / "config.json").write_text(json.dumps(changed))
    report = compare_models(*paths)
    assert report.exit_code == 1 and not report.parameters and report.place == ("embeddings", None)
    assert "setting that differs: eps: 1e-12 and 0.001" in said(report)
    assert "setting that differs: activation: gelu and gelu_new" in said(report)


@pytest.mark.parametrize("family", SMALL)
def test_every_family(family, two):
    report = compare_models(*two(build_family(SMALL[family]), add("layers.1.attention.value.bias", 0.1)))
    assert report.place == ("values", 1), said(report)


@pytest.mark.parametrize("pair", [False, True])
def test_a_bilstm_has_logits_only(pair, two):
    report = compare_models(*two(small_bilstm.build(pair), add("lstm.forward.input_weight")))
    assert report.place == ("logits", None) and set(report.compared) == {("logits", None)}
    assert compare_models(*two(small_bilstm.build(pair))).exit_code == 0


def test_a_mobilebert_with_a_head_for_words(two):
    report = compare_models(*two(small_mobilebert.build("mobilebert", "masked-lm"), add("layers.0.output.weight")))
    assert report.place == ("hidden", 0) and report.compared["logits", None].size


def test_a_quantised_model(two):
    model = small_q8bert.with_ranges(small_q8bert.build("sequence"), small_bert.draw_batch())
    report = compare_models(*two(model, add("layers.1.attention.query.bias", 0.1)))
    assert report.place == ("queries", 1) and all(c.passed for (_, l), c in report.compared.items() if l == 0)


def test_a_head_on_one_side_only(tmp_path):
    for name, head in (("one", "masked-lm"), ("two", "none")):
        hub.write(small_bert.build(head, pooler=False), tmp_path / name)
    report = compare_models(tmp_path / "one", tmp_path / "two")
    assert "not compared, as one side has none: logits" in said(report) and "has head." in said(report)


@pytest.mark.parametrize("changes, words", [
    ({"layers": 2}, "has 3 layers.*has 2 layers"), ({"hidden": 15}, "has 12 hidden.*has 15 hidden"),
    ({"vocabulary": 41}, "has 37 vocabulary.*has 41 vocabulary"), ({"heads": 2}, "has 3 heads.*has 2 heads")])
def test_models_of_different_sizes(changes, words, tmp_path):
    hub.write(small_bert.build(), tmp_path / "one")
    hub.write(small_bert.build(**changes), tmp_path / "two")
    with pytest.raises(WrongUsage, match="need two models of one size and vocabulary.*" + words):
        compare_models(tmp_path / "one", tmp_path / "two")


def test_what_is_no_checkpoint(tmp_path):
    hub.write(small_bert.build(), tmp_path / "one")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WrongUsage, match="config.json"):
        compare_models(tmp_path / "one", tmp_path / "empty")


# ---------------------------------------------------------------- ids

def tokenizer(*words):
    return train_wordpiece([" ".join(words)] * 3, 200)


def test_ids_are_those_of_a_text_where_there_is_a_tokenizer(two):
    wordpiece = tokenizer("the bridge was closed in and who paid for it rained we stayed at home")
    model = small_bert.build(vocabulary=wordpiece.get_vocab_size(), positions=40)
    report = compare_models(*two(model, tokenizers=(wordpiece, wordpiece)))
    assert "two built-in pairs of sentences, through the tokenizer of" in report.ids
    report = compare_models(*two(model, tokenizers=(None, wordpiece)), text="the bridge")
    assert report.ids.startswith("1 sequence of 4 tokens: --text") and "two" in report.ids
    other = tokenizer("the dog was walking in and out of a house who paid for it rained")
    report = compare_models(*two(model, tokenizers=(wordpiece, other)))
    assert "drawn ids, as their tokenizers have other vocabularies" in report.ids
    with pytest.raises(WrongUsage, match="for --text: their tokenizers"):
        compare_models(*two(model, tokenizers=(wordpiece, other)), text="the bridge")


def test_a_tokenizer_with_more_pieces_than_the_models(two):
    wordpiece = tokenizer("the bridge was closed in and who paid for it rained we stayed at home")
    report = compare_models(*two(small_bert.build(vocabulary=7), tokenizers=(wordpiece, wordpiece)))
    assert report.ids.endswith("drawn ids, as the tokenizer has more pieces than the models")


# ---------------------------------------------------------------- features of another program

def dump_of(model, path, dtype=np.float64, change=None):
    """What a model computes, saved as another program might."""
    batch = small_bert.draw_batch()
    found = small_bert.flat(model(batch, Pass(needs=small_bert.everything(model.config))))
    arrays = {name if l is None else f"{name}_{l}": np.array(x.array, dtype, order="C")
              for (name, l), x in found.items()}
    arrays |= {"input_ids": batch.ids, "attention_mask": batch.mask.astype(np.int64),
               "token_type_ids": batch.token_types}
    if change:
        change(arrays)
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        path.write_bytes(safetensors.numpy.save(arrays))
    return path


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
@pytest.mark.parametrize("head", ["masked-lm", "sequence", "token", "span"])
def test_a_file_of_features(head, suffix, tmp_path):
    model = small_bert.build(head, pooler=head == "sequence")
    hub.write(model, tmp_path / "model")
    report = compare_models(tmp_path / "model", dump_of(model, tmp_path / f"dump.{suffix}"))
    assert report.exit_code == 0 and report.dtype == "float64" and ("logits", None) in report.compared

    def later(arrays):
        arrays["scores_1"] = arrays["scores_1"] + 1e-6
        arrays["hidden_1"] = arrays["hidden_1"] + 1e-6
    report = compare_models(tmp_path / "model", dump_of(model, tmp_path / f"dump.{suffix}", change=later))
    assert report.place == ("scores", 1) and report.exit_code == 1


def test_a_file_in_float32_is_judged_as_float32(tmp_path):
    model = small_bert.build()
    hub.write(model, tmp_path / "model")
    report = compare_models(tmp_path / "model", dump_of(model.to(np, np.float32), tmp_path / "dump.npz", np.float32))
    assert report.exit_code == 0 and report.dtype == "float32" and max(c.error for c in report.compared.values()) > 0


@pytest.mark.parametrize("family", SMALL)
def test_what_transformers_computes(family, tmp_path):
    model = build_family(SMALL[family], "masked-lm")
    hub.write(model, tmp_path / "model")
    batch = small_bert.draw_batch()
    batch = batch.__class__(np.where(batch.mask, np.maximum(batch.ids, 2), model.config.pad_id), batch.mask,
                            batch.token_types % max(1, model.config.token_types), rows=batch.rows)
    hidden, logits = oracle.outputs(oracle.opened(tmp_path / "model")[0], batch)
    types = {"token_type_ids": batch.token_types} if model.config.token_types > 1 else {}
    given = {"ids": batch.ids, "mask": batch.mask, **types}
    np.savez(tmp_path / "dump.npz", hidden_states=np.stack(hidden), logits=logits, **given)
    report = compare_models(tmp_path / "model", tmp_path / "dump.npz")
    assert report.exit_code == 0 and report.dtype == "float64", said(report)
    assert {("embeddings", None), ("hidden", 0), ("hidden", 1), ("logits", None)} <= report.compared.keys()
    hidden[2] = hidden[2] + 1e-6
    np.savez(tmp_path / "dump.npz", hidden_states=np.stack(hidden), **given)
    assert compare_models(tmp_path / "model", tmp_path / "dump.npz").place == ("hidden", 1)


@pytest.mark.parametrize("change, words", [
    (lambda a: a.pop("input_ids"), "need the ids"), (lambda a: a.update(mask=a["input_ids"]), "are both mask"),
    (lambda a: a.update(token_type_ids=a["input_ids"][:, :3]), "of one shape"),
    (lambda a: a.update(input_ids=a["input_ids"] + 30), "need ids from 0 to 36"),
    (lambda a: a.pop("hidden_2"), "need hidden of all 3 layers"),
    (lambda a: a.update(embeddings=a["embeddings"][..., :5]),
     r"has shape \(4, 9, 5\), and BERT 3x12 makes it \(4, 9, 12\)")])
def test_files_that_do_not_fit(change, words, tmp_path):
    model = small_bert.build()
    hub.write(model, tmp_path / "model")
    with pytest.raises(WrongUsage, match=words):
        compare_models(tmp_path / "model", dump_of(model, tmp_path / "dump.npz", change=change))


def test_a_file_of_nothing_that_the_model_has(tmp_path):
    hub.write(small_bilstm.build(), tmp_path / "model")
    np.savez(tmp_path / "dump.npz", ids=np.ones((1, 3), int), hidden=np.zeros((1, 1, 3, 6)))
    with pytest.raises(WrongUsage, match="need a feature that both have"):
        compare_models(tmp_path / "model", tmp_path / "dump.npz")


# ---------------------------------------------------------------- the command

def test_the_command(two, capsys, tmp_path):
    one, other = two(small_bert.build(), add("layers.1.attention.query.weight"))
    assert verify_models.run(SimpleNamespace(checkpoint=one, against=one)) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"first   {one}: BERT 3x12, 4,332 parameters in float64"
    assert verify_models.run(SimpleNamespace(checkpoint=one, against=other, json="-", quiet=True)) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["first_difference"] == {"field": "queries", "layer": 1} and document["exit_code"] == 1
    assert verify_models.run(SimpleNamespace(checkpoint=one, against=other, json=tmp_path / "out.json")) == 1
    assert json.loads((tmp_path / "out.json").read_text()) == document
    assert "queries" in capsys.readouterr().out
