"""BERT with fewer heads: the masked model without its zeros, exact counts, and files."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck import assert_close64, assert_within
from oracle import bert as bert_oracle
from oracle import michel as oracle
from small_bert import DEPTH, LABELS, VOCABULARY, build, dense, draw_batch, everything, flat
from student_checks import (check_counts, check_device, check_float32_stays, check_flops, check_padding,
                            check_shards, check_sites, random_upstream)
from tinydistill import architectures, hub
from tinydistill.compress.michel import gated
from tinydistill.compress.pruned_bert import PrunedBert, PrunedBertConfig, forward_flops, parameter_count, pruned
from tinydistill.errors import WrongUsage
from tinydistill.features import Needs, Pass
from tinydistill.students import bert
from tinydistill.students.bert import Bert
from tinydistill.students.heads import with_head
from tinydistill.tensor import gradients

GONE = {"some": {0: (1,), 2: (2, 0)}, "a whole layer": {1: (0, 1, 2), 2: (1,)},
        "all": {l: (0, 1, 2) for l in range(DEPTH)}, "none": {}}
K = 4                                               # of small_bert: 12 wide, 3 heads


def gates(gone, heads=3):
    """(A, 1, 1) for each layer: 0 for those that go."""
    return [np.array([float(h not in gone.get(l, ())) for h in range(heads)])[:, None, None] for l in range(DEPTH)]


def kept_rows(gone, l):
    return [h * K + k for h in range(3) if h not in gone.get(l, ()) for k in range(K)]


def cut(name, array, gone):
    """Of an array of the whole model, what the pruned one has."""
    if ".attention." not in name or name.endswith("output.bias"):
        return array
    rows = kept_rows(gone, int(name.split(".")[1]))
    return array[:, rows] if name.endswith("output.weight") else array[rows]


# ---------------------------------------------------------------- pruned is masked

@pytest.mark.parametrize("gone", GONE.values(), ids=GONE)
@pytest.mark.parametrize("head", ["masked-lm", "sequence"])
def test_a_pruned_model_is_the_masked_one(tmp_path, head, gone):
    """Ours with gates at 0, and transformers' with gates at 0: features, and the gradient of every parameter left."""
    model, batch = build(head, pooler=head == "sequence"), draw_batch(head)
    smaller, masked = pruned(model, gone), gated(model, gates(gone))
    assert type(smaller) is PrunedBert
    assert smaller.config.heads_kept == tuple(3 - len(gone.get(l, ())) for l in range(DEPTH))
    needs = everything(smaller.config)
    ours, theirs = smaller(batch, Pass(needs)), masked(batch, Pass(needs))
    upstream = random_upstream(ours, 3)
    with oracle.Gated(bert_oracle.twin(model, tmp_path), gates(gone)) as twin:
        truth = twin.features(batch)
        whole = {place: u for place, u in upstream.items() if place[0] in ("hidden", "logits", "embeddings")}
        transformers_gradients = twin.gradients(batch, whole)
    for place, x in flat(ours).items():
        name, l = place
        left = [h for h in range(3) if l is None or h not in gone.get(l, ())]
        per_head = name in ("queries", "keys", "values", "scores")
        for whole_array in (flat(theirs)[place].array, truth[place]):
            assert_close64(x.array, whole_array[:, left] if per_head else whole_array, str(place))

    def of(model, features):
        loss = sum((flat(features)[place] * u).sum() for place, u in whole.items())
        return dict(zip(model.named_parameters(), gradients(loss, model.parameters())))
    found, expected = of(smaller, ours), of(model, theirs)
    largest = max(np.abs(dense(g)).max() for g in expected.values() if g is not None)
    for name, gradient in found.items():
        if gradient is not None:
            assert_within(dense(gradient), cut(name, dense(expected[name]), gone), 1e-10 * largest, name)
    assert_within(dense(found["embeddings.word.weight"]), transformers_gradients["embeddings.word_embeddings.weight"],
                  1e-10 * largest)
    compared = 0
    for l in range(DEPTH):
        for ours_name, theirs_name in (("attention.query.weight", "attention.self.query.weight"),
                                       ("attention.output.weight", "attention.output.dense.weight"),
                                       ("attention.output.bias", "attention.output.dense.bias")):
            if f"layers.{l}.{ours_name}" in found:
                assert_within(found[f"layers.{l}.{ours_name}"], cut(f"layers.{l}.{ours_name}", transformers_gradients[
                    f"encoder.layer.{l}.{theirs_name}"], gone), 1e-10 * largest, ours_name)
                compared += 1
    assert compared == DEPTH + 2 * sum(k > 0 for k in smaller.config.heads_kept)


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=DEPTH, max_size=DEPTH), st.integers(0, 99))
def test_any_heads_in_one_go_or_in_two(go, seed):
    """What is left, renumbered, can be pruned on; parameters and results are those of pruning at once."""
    gone = {l: tuple(h for h in range(3) if row[h]) for l, row in enumerate(go) if any(row)}
    model, batch = build("sequence", seed), draw_batch("sequence", seed)
    at_once = pruned(model, gone)
    first = {l: numbers[:1] for l, numbers in gone.items()}
    second = {l: tuple(h - 1 for h in numbers[1:]) for l, numbers in gone.items()}
    in_two = pruned(pruned(model, first), second)
    assert in_two.config == at_once.config
    for name, array in at_once.arrays().items():
        np.testing.assert_array_equal(array, in_two.arrays()[name], err_msg=name)
        np.testing.assert_array_equal(array, cut(name, model.arrays()[name], gone), err_msg=name)
    run = Pass(Needs.of(logits=True, hidden=[-1]))
    ours, masked = at_once(batch, run), gated(model, gates(gone))(batch, run)
    assert_within(ours.logits.array, masked.logits.array, 1e-12 * max(1, np.abs(masked.logits.array).max()))
    check_counts(at_once, parameter_count)


def test_a_layer_without_heads_adds_the_bias_of_its_output():
    model, batch = pruned(build(), {1: (0, 1, 2)}), draw_batch()
    features, layer = model(batch, Pass(Needs.of(hidden=[0, 1], scores=[1], queries=[1]))), model.layers[1]
    assert features.scores[1].shape == (4, 0, 9, 9) and features.queries[1].shape == (4, 0, 9, K)
    h = layer.attention_norm(features.hidden[0] + layer.attention.output.bias)
    assert_close64(features.hidden[1].array, layer.feed_forward_norm(layer.feed_forward(h), h).array)
    assert list(layer.attention.named_parameters()) == ["output.bias"]


def test_the_model_stays_as_it_was_and_shares_nothing():
    model, batch = build("sequence"), draw_batch("sequence")
    before = {name: array.copy() for name, array in model.arrays().items()}
    smaller = pruned(model, {0: (1,)})
    for parameter in smaller.parameters():
        parameter.array += 1.0
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(array, before[name])
    assert smaller.config.labels == LABELS and smaller(batch, Pass(Needs.of(logits=True))).logits.shape == (4, 5)


@pytest.mark.parametrize("gone, what", [
    ({3: (0,)}, r"\[0\] of layer 3, and BERT 3x12 has 3 layers"), ({-1: (0,)}, "of layer -1"),
    ({0: (3,)}, r"\[3\] of layer 0, and BERT 3x12 has heads 0 to 2"), ({1: (-1,)}, "has heads 0 to 2")])
def test_heads_that_are_not_there(gone, what):
    with pytest.raises(WrongUsage, match="need heads that are there: .*" + what):
        pruned(build(), gone)


def test_other_architectures_are_refused():
    other = architectures.build(architectures.parse("squeezebert-2x128").but(vocabulary=20))
    with pytest.raises(WrongUsage, match="need a BERT to take heads from, got SqueezeBERT 2x128"):
        pruned(other, {})


# ---------------------------------------------------------------- the architecture

def config(head="none", heads_kept=(2, 0, 3), **changes):
    return PrunedBertConfig(DEPTH, 12, 3, 20, VOCABULARY, 11, heads_kept=heads_kept, initial_std=0.4, head=head,
                            labels=LABELS if head in ("sequence", "token") else ()).but(**changes)


def make(head="none", heads_kept=(2, 0, 3), dtype=np.float64, **changes):
    """With random biases and norms, too."""
    model, rng = PrunedBert(config(head, heads_kept, **changes)).to(np, dtype), np.random.default_rng(1)
    for parameter in model.parameters():
        parameter.array = parameter.array + (0.3 * rng.standard_normal(parameter.shape)).astype(dtype)
    return model


def test_a_head_of_bert_base_is_196800_parameters():
    base = architectures.parse("bert-base")
    whole = bert.parameter_count(base)["total"]
    shape = PrunedBertConfig(**base.as_dict() | {"heads_kept": (12,) * 11 + (11,)})
    assert whole - architectures.parameter_count(shape)["total"] == 196_800 == 4 * 768 * 64 + 3 * 64
    none = shape.but(heads_kept=(0,) * 12)
    assert whole - parameter_count(none)["total"] == 144 * 196_800
    assert parameter_count(shape.but(heads_kept=())) == bert.parameter_count(base)
    assert forward_flops(shape.but(heads_kept=()), 128, 0.15) == bert.forward_flops(base, 128, 0.15)
    assert str(shape) == "BERT 12x768 with 143 of 144 heads"


@pytest.mark.parametrize("heads_kept", [(2, 0, 3), (0, 0, 0), (3, 3, 3), (1, 2, 1)], ids=str)
def test_counts_and_sites(heads_kept):
    model = make("masked-lm", heads_kept)
    check_counts(model, parameter_count)
    check_sites(model)


def test_flops(monkeypatch):
    check_flops(monkeypatch, make("masked-lm"), forward_flops, 7)


def test_initialisation():
    """With all its heads it is drawn as a BERT; with fewer, each matrix by its name again; by None, not at all."""
    whole, usual = PrunedBert(config(heads_kept=()), 3).arrays(), build(seed=3, layers=DEPTH)
    drawn = Bert(usual.config, 3).arrays()
    assert whole.keys() == drawn.keys() and all((whole[name] == array).all() for name, array in drawn.items())
    fewer, other = PrunedBert(config(), 3).arrays(), PrunedBert(config(), 4).arrays()
    for name, array in fewer.items():
        assert (array.ndim >= 2) != np.array_equal(array, other[name]), name
        assert array.shape != drawn[name].shape or np.array_equal(array, drawn[name]), name
    assert not any(array.any() for array in PrunedBert(config(), None).arrays().values() if array.ndim >= 2)


@pytest.mark.parametrize("heads_kept", [(1, 2), (1, 2, 4), (1, 2, -1), (1, 2, 1.5)], ids=str)
def test_a_shape_that_cannot_be(heads_kept):
    with pytest.raises(WrongUsage, match="need heads_kept to be a number from 0 to 3 for each of 3 layers"):
        config(heads_kept=heads_kept)


@pytest.mark.parametrize("head", ["masked-lm", "sequence"])
def test_padding_shards_and_dtypes(head):
    check_padding(make(head), head)
    check_shards(make(head, dropout=0.3, attention_dropout=0.2), head, 2)
    check_float32_stays(make(head, dtype=np.float32), draw_batch(head))


def test_the_device(strict_cupy):
    check_device(make("masked-lm"), draw_batch("masked-lm"), strict_cupy)


def test_a_head_can_be_put_on_it():
    model = with_head(make("masked-lm"), "sequence", LABELS, seed=3)
    assert type(model) is PrunedBert and model.config.heads_kept == (2, 0, 3) and model.config.pooler


@pytest.mark.parametrize("head", ["none", "sequence"])
def test_a_file_gives_it_back(tmp_path, head):
    model, batch = make(head), draw_batch(head)
    hub.write(model, tmp_path)
    again = hub.read(tmp_path)
    assert type(again) is PrunedBert and again.config == model.config
    run = Pass(everything(model.config))
    for place, x in flat(model(batch, run)).items():
        np.testing.assert_array_equal(x.array, flat(again(batch, run))[place].array)
