"""Checkpoint directories that are damaged, foreign or hostile, and what a failed write leaves behind."""

import hashlib
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from oracle import bert as oracle
from small_bert import build
from tinydistill import hub
from tinydistill.data.tokenizer import load, train_wordpiece
from tinydistill.errors import Problem, WrongUsage


@pytest.fixture
def directory(tmp_path):
    hub.write(build("sequence", dtype=np.float32), tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def change_settings(directory, **changes):
    settings = json.loads((directory / "config.json").read_text()) | changes
    (directory / "config.json").write_text(json.dumps(settings))


def change_tensors(directory, change):
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


# ---------------------------------------------------------------- what is not read

@pytest.mark.parametrize("setting, value", [
    ("position_embedding_type", "relative_key"), ("is_decoder", True), ("add_cross_attention", True)])
def test_another_architecture_is_named(directory, setting, value):
    change_settings(directory, **{setting: value})
    with pytest.raises(WrongUsage, match=f"need a BERT with {setting} .*: .*config.json says {value!r}"):
        hub.read(directory)


@pytest.mark.parametrize("value", ["gpt2", 7, "tinydistill-gpt2"])
def test_a_kind_of_model_that_is_not_read_is_named(directory, value):
    change_settings(directory, model_type=value)
    with pytest.raises(WrongUsage, match=f"need a model_type out of bert, .*: .*config.json says {value!r}"):
        hub.read(directory)


@pytest.mark.parametrize("value", ["swish", "gelu_python"])
def test_an_activation_that_no_bert_has_is_named(directory, value):
    change_settings(directory, hidden_act=value)
    with pytest.raises(WrongUsage, match=f"need an activation out of gelu, gelu_new, relu; got {value!r}"):
        hub.read(directory)


@pytest.mark.parametrize("setting, value", [
    ("num_hidden_layers", 0), ("num_hidden_layers", "3"), ("num_hidden_layers", 3.0), ("num_hidden_layers", True),
    ("hidden_size", -12), ("vocab_size", [37]), ("pad_token_id", -1), ("layer_norm_eps", "1e-12"),
    ("layer_norm_eps", float("nan")), ("layer_norm_eps", float("inf")), ("hidden_dropout_prob", 1.0),
    ("attention_probs_dropout_prob", -0.1), ("initializer_range", {})])
def test_a_setting_that_cannot_be_is_named(directory, setting, value):
    change_settings(directory, **{setting: value})
    with pytest.raises(Problem, match=f"config.json: need {setting} to be a .*number of at least [01].*, got "):
        hub.read(directory)


def test_heads_that_do_not_divide_are_named(directory):
    change_settings(directory, num_attention_heads=5)
    with pytest.raises(WrongUsage, match="need a hidden size that the heads divide: 12 hidden, 5 heads"):
        hub.read(directory)


@pytest.mark.parametrize("setting", ["num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size",
                                     "max_position_embeddings", "type_vocab_size"])
def test_a_model_larger_than_its_file_is_not_built(directory, setting):
    """What config.json claims costs nothing before the weights bear it out."""
    change_settings(directory, **{setting: 12 * 10 ** 12})
    start = time.perf_counter()
    with pytest.raises(Problem, match=r"config.json describes [\d,]+ parameters, and it holds 4,397"):
        hub.read(directory)
    assert time.perf_counter() - start < 2          # measured 3 ms


def test_config_that_is_no_config(directory):
    for text, reason in (("[]", "it holds no settings by name"), ("{", "Expecting"), ("", "Expecting"),
                         ("[" * 90_000, "nested too deeply"), (" " * (1 << 20) + "{}", "longer than 1048576 bytes")):
        (directory / "config.json").write_text(text)
        with pytest.raises(Problem, match=f"cannot read .*config.json: .*{reason}"):
            hub.read(directory)


WORDS = "bert.embeddings.word_embeddings.weight"
QUERY = "bert.encoder.layer.1.attention.self.query.weight"


def add(name, x):
    return lambda tensors: tensors.update({name: x})


def not_finite(value):
    def change(tensors):
        tensors[QUERY][3, 4] = value
    return change


@pytest.mark.parametrize("change, reason", [
    (lambda tensors: tensors.pop(QUERY), "encoder.layer.1.attention.self.query.weight is missing"),
    (lambda tensors: tensors.pop("bert.pooler.dense.bias"), "pooler.dense.bias is missing"),
    (lambda tensors: tensors.pop("bert.pooler.dense.weight"), "pooler.dense.weight is missing"),
    (lambda tensors: [tensors.pop(f"bert.pooler.dense.{x}") for x in ("weight", "bias")],
     "pooler.dense.weight is missing"),
    (lambda tensors: tensors.clear(), "config.json describes 4,176 parameters, and it holds 0"),
    (add(QUERY, np.zeros((12, 13), np.float32)),
     r"query.weight has shape \(12, 13\), and config.json makes it \(12, 12\)"),
    (add("bert.encoder.layer.3.output.dense.bias", np.zeros(12, np.float32)),
     "'encoder.layer.3.output.dense.bias' has no place in a BERT 3x12 with a sequence head for a, b, c, d, e"),
    (add("cls.predictions.bias", np.zeros(37, np.float32)), "cls.predictions.transform.dense.weight is missing"),
    (not_finite(np.nan), "query.weight holds numbers that are not finite"),
    (not_finite(-np.inf), "query.weight holds numbers that are not finite"),
    (add("embeddings.word_embeddings.weight", np.zeros((37, 12), np.float32)),
     "holds embeddings.word_embeddings.weight twice"),
    (add("classifier.bias", np.zeros(3, np.float32)), r"classifier.weight has shape \(5, 12\), and .* \(3, 12\)"),
    (lambda tensors: tensors.pop("classifier.bias"),
     "'classifier.weight' has no place in a BERT 3x12 with no head"),
])
def test_weights_that_do_not_fit_are_named(directory, change, reason):
    change_tensors(directory, change)
    with pytest.raises(Problem, match=f"cannot read .*model.safetensors: .*{reason}"):
        hub.read(directory)


def test_a_decoder_that_differs_is_not_tied_whatever_the_settings_say(tmp_path):
    """As transformers has it: tensor by tensor, and the bias of the decoder is the one that is read."""
    model = build("masked-lm", pooler=False)
    hub.write(model, tmp_path)
    other = {"decoder.weight": model.embeddings.word.weight.array + 1.0, "decoder.bias": model.head.bias.array + 1.0}
    for name, x in other.items():
        change_tensors(tmp_path, lambda tensors: tensors.update({"cls.predictions." + name: x}))
        found = hub.read(tmp_path)
        assert found.config == model.config.but(tied=name != "decoder.weight")
        np.testing.assert_array_equal(found.arrays()["head." + name if name == "decoder.weight" else "head.bias"], x)
        np.testing.assert_array_equal(found.embeddings.word.weight.array, model.embeddings.word.weight.array)
        assert hub.read(tmp_path, head="none").config.head == "none"    # without its head it is a BERT as any other
        change_tensors(tmp_path, lambda tensors: tensors.pop("cls.predictions." + name))


def test_what_is_no_checkpoint_directory(tmp_path, directory):
    with pytest.raises(WrongUsage, match="need a checkpoint directory with config.json: there is no directory .*none"):
        hub.read(tmp_path / "none")
    with pytest.raises(WrongUsage, match="need .*config.json: .* is no checkpoint directory"):
        hub.read(tmp_path)
    (directory / "model.safetensors").unlink()
    with pytest.raises(WrongUsage, match="need .*model.safetensors: .* is no checkpoint directory"):
        hub.read(directory)
    (directory / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(WrongUsage, match="the weights are in several files, which transformers can join"):
        hub.read(directory)
    (directory / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(WrongUsage, match="is a pickle, which can run any program .* let transformers convert it"):
        hub.read(directory)


def test_a_pickle_is_never_opened(directory, monkeypatch):
    """Not even looked into: one that would leave a mark leaves none."""
    mark = directory / "mark"
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    (directory / "pytorch_model.bin").write_bytes(b"cposix\nsystem\n(S'touch " + os.fsencode(mark) + b"'\ntR.")
    with pytest.raises(WrongUsage):
        hub.read(directory)
    (directory / "pytorch_model.bin").rename(directory / "model.safetensors")       # under the right name, too
    with pytest.raises(Problem, match="no safetensors file"):
        hub.read(directory)
    assert not mark.exists()


def test_damaged_weights_are_refused_or_read(directory):
    """300 files with one byte of the header changed: a Problem, or the model; 20 cut anywhere: a Problem."""
    path = directory / "model.safetensors"
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.integers(0, header, 300):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(damaged)
        try:
            hub.read(directory)
        except Problem as problem:
            assert "\n" not in str(problem)
            refused += 1
    assert refused > 250
    for length in rng.integers(0, len(whole), 20):
        path.write_bytes(whole[:length])
        with pytest.raises(Problem):
            hub.read(directory)


# ---------------------------------------------------------------- writing

def test_a_write_that_fails_leaves_the_checkpoint_that_was_there(directory, monkeypatch):
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    tokenizer = train_wordpiece(["a few words"], 50)
    for broken in ("fsync", "replace"):
        def fail(*_):
            raise OSError(28, "No space left on device")
        with monkeypatch.context() as patch:
            patch.setattr(os, broken, fail)
            with pytest.raises(OSError):
                hub.write(build("token", seed=9), directory, tokenizer)
        assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_the_weights_come_into_place_last(directory, monkeypatch):
    """A directory with weights in it is whole: every file was written out before the first one moved."""
    names = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
    moved, replace, synced, fsync = [], os.replace, [], os.fsync

    def spy(source, target):
        assert len(synced) == 4 and all((source.parent / name).stat().st_size > 0 for name in names[len(moved):])
        moved.append(target.name)
        replace(source, target)
    monkeypatch.setattr(os, "replace", spy)
    monkeypatch.setattr(os, "fsync", lambda number: (synced.append(os.fstat(number).st_size), fsync(number)))
    hub.write(build("token"), directory, train_wordpiece(["a few words"], 50))
    assert moved == names and synced == [(directory / name).stat().st_size for name in names]


def test_what_is_written_may_be_read_by_others(directory):
    """The modes of the files are those that the user's umask gives, not those of a temporary file."""
    (directory / "plain").write_text("")
    modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
    assert set(modes.values()) == {modes["plain"]}


def test_a_model_on_a_device_is_written_from_there(strict_cupy, tmp_path):
    model = build("sequence")
    hub.write(model, tmp_path / "host")
    hub.write(model.to(strict_cupy), tmp_path / "device")
    assert hub.fingerprint(tmp_path / "host") == hub.fingerprint(tmp_path / "device")


def test_the_fingerprint_is_the_sha256_of_the_weights(directory):
    digest = hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()
    assert hub.fingerprint(directory) == digest
    with pytest.raises(WrongUsage, match="there is no directory"):
        hub.fingerprint(directory / "none")


TEXTS = ["Plain words, in English.", "Crème brûlée: 中文, naïve! [MASK] un##known", "def foo(bar): return _bar"]


@pytest.mark.parametrize("lowercase", [True, False])
def test_transformers_opens_the_tokenizer_and_encodes_alike(tmp_path, lowercase):
    tokenizer = train_wordpiece(TEXTS * 3, 120, lowercase=lowercase)
    hub.write(build("token", vocabulary=tokenizer.get_vocab_size()), tmp_path, tokenizer)
    theirs = oracle.tokenizer(tmp_path)
    assert type(theirs).__name__ == "BertTokenizer" and theirs.model_max_length == 11
    for text in [*TEXTS, "UPPER lower"]:
        ours, found = tokenizer.encode(text, "a pair"), theirs(text, "a pair")
        assert (found["input_ids"], found["token_type_ids"]) == (ours.ids, ours.type_ids)
    for name in ("pad", "unk", "cls", "sep", "mask"):
        assert getattr(theirs, f"{name}_token_id") == tokenizer.token_to_id(f"[{name.upper()}]")
    assert load(tmp_path).get_vocab() == tokenizer.get_vocab()


@pytest.mark.parametrize("normalised", [True, False])
def test_a_tokenizer_of_another_kind_keeps_its_own_ways(tmp_path, normalised):
    """One without BERT's normaliser, or the token [MASK], is opened as it stands in tokenizer.json."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "Plain", "plain", "words", ",", "in"]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if normalised:
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    hub.write(build("none", vocabulary=len(pieces)), tmp_path, tokenizer)
    theirs = oracle.tokenizer(tmp_path)
    for text in TEXTS:
        assert theirs(text)["input_ids"] == tokenizer.encode(text).ids
    assert (theirs.pad_token_id, theirs.cls_token, theirs.mask_token) == (0, "[CLS]", None)


def test_importing_the_hub_loads_nothing_heavy():
    code = ("import sys, tinydistill.hub; heavy = {'safetensors', 'tokenizers', 'scipy', 'torch', 'transformers'}; "
            "sys.exit(str(heavy & sys.modules.keys()) if heavy & sys.modules.keys() else 0)")
    subprocess.run([sys.executable, "-c", code], check=True)
