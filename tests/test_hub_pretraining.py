"""BERT's head of pre-training: read with each choice of head, written, and put on a body in the place of another."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from oracle import bert as oracle
from small_bert import LABELS, build, draw_batch, everything, flat
from tinydistill import hub
from tinydistill.errors import Problem, WrongUsage
from tinydistill.features import Pass
from tinydistill.students.bert import Bert
from tinydistill.students.heads import with_head
from tinydistill.students.configs import HEADS, READ_POOLED
from tinydistill.hub_names import FORMS

their_name = FORMS["bert"].name

SIZES = {"vocab_size": 37, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20,
         "max_position_embeddings": 11}


def labels_of(head):
    return LABELS if head in ("sequence", "token") else ()


def body(model):
    return {name: x for name, x in model.arrays().items() if not name.startswith("head.")}


def assert_same_bits(got, want):
    assert got.keys() == want.keys()
    for name, x in want.items():
        assert (got[name].dtype, got[name].tobytes()) == (x.dtype, x.tobytes()), name


# ---------------------------------------------------------------- there and back

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_transformers_writes_of_ours_is_ours_to_the_bit(tmp_path, dtype):
    """Ours, written; opened by transformers, nothing missing and nothing unexpected; written by it, and read."""
    model = build("pretraining", dtype=dtype)
    oracle.twin(model, tmp_path / "ours", dtype="auto").save_pretrained(tmp_path / "theirs")
    found = hub.read(tmp_path / "theirs", head="pretraining", require_head=True)
    assert found.config == model.config
    assert_same_bits(found.arrays(), model.arrays())


@pytest.mark.parametrize("choice", ["any", *HEADS])
def test_what_transformers_writes_is_read_with_each_head(tmp_path, choice):
    theirs = oracle.save_new("BertForPreTraining", tmp_path, **SIZES)
    model = hub.read(tmp_path, head=choice, labels=labels_of(choice), seed=3)
    head = "masked-lm" if choice == "any" else choice
    assert (model.config.head, model.config.labels, model.config.pooler) == (head, labels_of(head), True)
    names = {name for name in model.arrays() if name.startswith("head.")}
    assert ("head.next_sentence.weight" in names) == (head == "pretraining") and bool(names) == (head != "none")
    for name, x in model.arrays().items():
        if head in ("sequence", "token", "span") and name.startswith("head."):
            assert x.std() > 0 or name.endswith("bias")                 # drawn
        else:
            np.testing.assert_array_equal(x, theirs[their_name(name)], err_msg=name)


def test_a_next_sentence_head_alone_is_no_pretraining_head(tmp_path):
    oracle.save_new("BertForNextSentencePrediction", tmp_path, **SIZES)
    assert hub.read(tmp_path).config.head == "none"
    with pytest.raises(WrongUsage, match=f"need a model with a pretraining head; {tmp_path} has no head$"):
        hub.read(tmp_path, head="pretraining", require_head=True)


def test_a_pretraining_head_that_is_not_there_is_drawn_with_its_pooler(tmp_path):
    model = build("masked-lm", pooler=False)
    hub.write(model, tmp_path)
    found, same, other = (hub.read(tmp_path, head="pretraining", seed=seed) for seed in (5, 5, 6))
    assert (found.config.head, found.config.pooler) == ("pretraining", True)
    assert_same_bits(found.arrays(), same.arrays())
    for part in ("head.next_sentence.weight", "head.dense.weight", "pooler.weight"):
        assert 0.2 < found.arrays()[part].std() < 0.6                   # config.initial_std is 0.4
        assert not np.array_equal(found.arrays()[part], other.arrays()[part])
    assert_same_bits({name: x for name, x in body(found).items() if not name.startswith("pooler.")}, body(model))
    with pytest.raises(WrongUsage, match=f"need a model with a pretraining head; {tmp_path} has a masked-lm head$"):
        hub.read(tmp_path, head="pretraining", require_head=True)


# ---------------------------------------------------------------- damage

WEIGHT, BIAS = "cls.seq_relationship.weight", "cls.seq_relationship.bias"


@pytest.mark.parametrize("name, damage, text", [
    (WEIGHT, lambda x: x[:1], r"cls.seq_relationship.weight has shape \(1, 12\), and config.json makes it \(2, 12\)$"),
    (BIAS, lambda x: np.append(x, x), r"cls.seq_relationship.bias has shape \(4,\), and config.json makes it \(2,\)$"),
    (WEIGHT, lambda x: x * np.nan, "cls.seq_relationship.weight holds numbers that are not finite$"),
    (WEIGHT, None, "cls.seq_relationship.weight is missing$"), (BIAS, None, "cls.seq_relationship.bias is missing$")])
def test_a_damaged_next_sentence_head_is_one_line_for_who_wants_it(tmp_path, name, damage, text):
    model = build("pretraining")
    hub.write(model, tmp_path)
    tensors = load_file(tmp_path / hub.WEIGHTS)
    damaged = tensors.pop(name)
    if damage:
        tensors[name] = damage(damaged)
    save_file(tensors, tmp_path / hub.WEIGHTS)
    with pytest.raises(Problem, match=f"^cannot read {tmp_path / hub.WEIGHTS}: {text}"):
        hub.read(tmp_path, head="pretraining")
    assert_same_bits(body(hub.read(tmp_path)), body(model))             # whoever does not read it never sees it


def test_a_pretraining_checkpoint_without_a_pooler_is_one_line(tmp_path):
    hub.write(build("pretraining"), tmp_path)
    tensors = {name: x for name, x in load_file(tmp_path / hub.WEIGHTS).items() if "pooler" not in name}
    save_file(tensors, tmp_path / hub.WEIGHTS)
    with pytest.raises(Problem, match="pooler.dense.weight is missing$"):
        hub.read(tmp_path, head="pretraining")
    assert not hub.read(tmp_path).config.pooler


def test_the_architecture_is_named_for_who_opens_it(tmp_path):
    hub.write(build("pretraining"), tmp_path)
    assert json.loads((tmp_path / hub.CONFIG).read_text())["architectures"] == ["BertForPreTraining"]


# ---------------------------------------------------------------- another head on the same body

@pytest.mark.parametrize("pooler", [True, False])
@pytest.mark.parametrize("to", HEADS)
@pytest.mark.parametrize("before", HEADS)
def test_a_new_head_leaves_the_body_as_it_is_to_the_bit(before, to, pooler):
    pooler = pooler or before in READ_POOLED
    model = build(before, seed=4, dtype=np.float32, pooler=pooler)
    before_it = {name: x.copy() for name, x in model.arrays().items()}
    found = with_head(model, to, labels_of(to), seed=9)
    assert (found is model) == (before == to)
    assert (found.config.head, found.config.labels) == (to, labels_of(to))
    assert found.config.pooler == (pooler or to in READ_POOLED)
    assert_same_bits({name: x for name, x in body(found).items() if name in body(model)}, body(model))
    assert body(found).keys() - body(model).keys() <= {"pooler.weight", "pooler.bias"}
    assert_same_bits(model.arrays(), before_it)     # the model itself is what it was
    if found is not model:
        fresh = Bert(found.config, seed=9).arrays()
        drawn = {name: x for name, x in found.arrays().items() if name not in body(model)}
        assert_same_bits(drawn, {name: fresh[name].astype(np.float32) for name in drawn})
    flat(found(draw_batch(to), Pass(everything(found.config))))


def test_other_labels_are_another_head():
    model = build("sequence")
    assert with_head(model, "sequence", LABELS) is model
    assert with_head(model, "sequence", LABELS[:3]).head.classifier.weight.shape == (3, 12)


def test_a_new_head_is_where_the_body_is(strict_cupy):
    model = with_head(build("masked-lm", pooler=False).to(strict_cupy), "pretraining")
    assert all(isinstance(x.array, strict_cupy.ndarray) and x.dtype == np.float64 for x in model.parameters())
