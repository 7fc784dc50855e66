"""One pass through a MobileBERT: no further than asked, its padding and its masked scores, dropout, splits, devices."""

from collections import Counter

import numpy as np
import pytest

import student_checks
from gradcheck import assert_close64
from small_bert import DEPTH, LENGTHS, at_real_tokens, dense, draw_batch, flat, inner
from small_mobilebert import build, everything
from student_checks import random_upstream
from tinydistill import Tensor, kernels, ops
from tinydistill.errors import Problem, WrongUsage
from tinydistill.features import Batch, Needs, Pass
from tinydistill.nn.layers import Dropout
from tinydistill.students.configs import HEADS
from tinydistill.students.mobilebert import PUBLISHED
from tinydistill.tensor import gradients

every_model = pytest.mark.parametrize("name", PUBLISHED)

# ---------------------------------------------------------------- no further than asked


@pytest.fixture
def counted(monkeypatch):
    """How often each op was called by nn and students, from now on."""
    calls = Counter()

    def spy(name, op):
        def counting(*arguments, **settings):
            calls[name] += 1
            return op(*arguments, **settings)
        return counting
    for name in ("trigram", "linear", "attention", "no_norm", "layer_norm", "relu", "tanh", "scaled_product"):
        monkeypatch.setattr(ops, name, spy(name, getattr(ops, name)))
    return calls


LAST = {"queries": [-1], "keys": [-1], "values": [-1]}
EMBEDDINGS = Counter(trigram=1, linear=1, no_norm=1)
PROJECTIONS = Counter(linear=4, no_norm=1)          # the shared bottleneck; queries, keys and values
REST = Counter(linear=11, no_norm=7, relu=4, attention=1)           # input, attention's output, 4 times 2, output
ALL_LAYERS = sum([PROJECTIONS, REST] * DEPTH, EMBEDDINGS)


@pytest.mark.parametrize("needs, calls", [
    ({}, EMBEDDINGS), ({"embeddings": True}, EMBEDDINGS),
    ({"queries": [0]}, EMBEDDINGS + PROJECTIONS),
    ({"scores": [0, 1]}, EMBEDDINGS + PROJECTIONS + REST + PROJECTIONS + Counter(scaled_product=2)),
    (LAST, ALL_LAYERS - REST), ({"hidden": [-1]}, ALL_LAYERS), ({"pooled": True}, ALL_LAYERS),
    ({"hidden": [0], "values": [1]}, EMBEDDINGS + PROJECTIONS + REST + PROJECTIONS),
    ({"logits": True}, ALL_LAYERS + Counter(linear=2, relu=1, layer_norm=1)),
    ({"next_sentence": True}, ALL_LAYERS + Counter(linear=1))], ids=str)
def test_a_pass_computes_what_is_needed_and_stops_there(counted, needs, calls):
    model, needs = build(head="pretraining"), Needs.of(**needs)
    features = model(draw_batch("pretraining"), Pass(needs=needs))
    assert counted == calls
    wanted = {(name, layer if layer is None else layer % DEPTH) for name, layer in needs.wanted}
    assert flat(features).keys() == wanted | {("embeddings", None)}


def test_a_sequence_head_pools_for_its_logits_alone(counted):
    """The pooler's tanh, and only then."""
    model, batch = build(head="sequence", pooler=True), draw_batch("sequence")
    for needs, pools in (({"hidden": [0]}, 0), ({"logits": True}, 1)):
        counted.clear()
        found = {name for name, _ in flat(model(batch, Pass(needs=Needs.of(**needs))))}
        assert found == {"embeddings", *needs} and counted["tanh"] == pools


@pytest.mark.parametrize("name, a_block", [
    ("mobilebert-tiny", Counter(linear=10, no_norm=5, relu=2, attention=1)),            # one bottleneck, read twice
    ("ib-bert-large", Counter(linear=8, layer_norm=4, attention=1))])
def test_a_block_of_the_others(counted, name, a_block):
    model, batch = build(name), draw_batch()
    model(batch, Pass(needs=Needs.of(hidden=[0])))
    one = counted.copy()
    model(batch, Pass(needs=Needs.of(hidden=[1])))
    assert counted - one - one == a_block


def test_what_a_model_cannot_have_is_named():
    batch = draw_batch()
    with pytest.raises(Problem, match="need logits, which MobileBERT 3x12 without a head cannot have"):
        build()(batch, Pass(needs=Needs.of(logits=True)))
    with pytest.raises(Problem, match="need next_sentence, which IB-BERT 3x12 without a pretraining head cannot have"):
        build("ib-bert-large", "masked-lm")(draw_batch("masked-lm"), Pass(needs=Needs.of(next_sentence=True)))
    with pytest.raises(Problem, match=r"need hidden of layer 3, but the model has 3 layers \(0 to 2\)"):
        build()(batch, Pass(needs=Needs.of(hidden=[3])))
    with pytest.raises(Problem, match="need scores of layer 0, which MobileBERT 3x12 did not compute"):
        build()(batch, Pass(needs=Needs.of(hidden=[0]))).scores[0]
    with pytest.raises(WrongUsage, match="need at most 11 tokens a sequence, got 12"):
        build()(draw_batch(length=12), Pass(needs=Needs.of(hidden=[0])))


# ---------------------------------------------------------------- padding

def behind(mask):
    """(B, T), True at the first padded position of each row that has one: what the last real token's trigram reads."""
    return ~mask & np.roll(mask, 1, axis=1) & (np.arange(mask.shape[1]) > 0)


def replaced(batch, where, ids):
    return Batch(np.where(where, ids, batch.ids).astype(batch.ids.dtype), batch.mask, batch.token_types, batch.labels,
                 batch.positions, batch.rows)


def real(model, batch):
    found = flat(model(batch, Pass(needs=everything(model.config))))
    return {place: at_real_tokens(place, x.array, batch.mask) for place, x in found.items()}


@pytest.mark.parametrize("choice", ["fused", "plain"])
@every_model
def test_of_the_padding_the_first_token_alone_is_read(name, choice):
    """Any ids behind it change no bit at real tokens; another one right there reaches all that a sequence computes."""
    model, batch = build(name, "pretraining"), draw_batch("pretraining")
    other, first = draw_batch(seed=99).ids, behind(batch.mask)
    assert first.sum(axis=1).tolist() == [n < 9 for n in LENGTHS]
    with kernels.use(choice):
        untouched, deep, near = (real(model, replaced(batch, where, ids)) for where, ids in (
            (np.zeros_like(first), other), (~batch.mask & ~first, other), (first, batch.ids % 30 + 1)))
    for place, x in untouched.items():
        np.testing.assert_array_equal(deep[place], x, err_msg=str(place))
    row = np.repeat(np.arange(len(LENGTHS)), LENGTHS)                   # of each real token
    changed = {b for b in range(len(LENGTHS)) if (near["hidden", 0] != untouched["hidden", 0])[row == b].any()}
    assert changed == {b for b, n in enumerate(LENGTHS) if n < 9}
    last = np.cumsum(LENGTHS) - 1
    moved = (near["embeddings", None] != untouched["embeddings", None]).any(axis=1)
    assert np.flatnonzero(moved).tolist() == [int(last[b]) for b in sorted(changed)]


@every_model
def test_the_trap_of_padding(name):
    """A sequence alone and the same sequence padded: not the same numbers, unless [PAD] is embedded as zeros."""
    model, batch = build(name), draw_batch(lengths=(7, 4, 6, 1))
    pad = model.config.pad_id
    batch = replaced(batch, ~batch.mask, pad)
    words = model.embeddings.word.weight.array
    for embedded, same in ((words[pad].copy(), False), (0.0, True)):
        words[pad] = embedded
        padded = flat(model(batch, Pass(needs=everything(model.config))))
        for b, n in enumerate((7, 4, 6, 1)):
            mask = batch.mask[b:b + 1]
            alone = flat(model(Batch(batch.ids[b:b + 1, :n], mask[:, :n], batch.token_types[b:b + 1, :n]),
                               Pass(needs=everything(model.config))))
            for place, x in padded.items():
                here, there = (at_real_tokens(place, y, m) for y, m in (
                    (x.array[b:b + 1], mask), (alone[place].array, mask[:, :n])))
                if same:
                    assert_close64(there, here, f"{place} of sequence {b}")
                elif place[0] == "hidden":
                    assert np.abs(there - here).max() > 1e-3, f"{place} of sequence {b}"


@every_model
def test_attention_never_sees_padding(name):
    """Of what only padding reads, the gradient is exactly zero: words behind its first token, and positions."""
    model, batch = build(name), draw_batch(lengths=(6, 4, 5, 1))
    unread = replaced(batch, batch.mask | behind(batch.mask), batch.ids % 35 + 1)
    unread = replaced(unread, ~batch.mask & ~behind(batch.mask), 36)
    features = model(unread, Pass(needs=Needs.of(hidden=[-1], pooled=True)))
    upstream = random_upstream(features, 4)
    for place in (("hidden", DEPTH - 1), ("embeddings", None)):
        upstream[place][~batch.mask] = 0
    words, positions = model.embeddings.word.weight, model.embeddings.position.weight
    word_gradient, position_gradient = map(dense, gradients(inner(features, upstream), [words, positions]))
    assert (word_gradient[36] == 0).all() and (position_gradient[6:] == 0).all()
    read = np.unique(unread.ids[batch.mask | behind(batch.mask)])
    assert (np.abs(word_gradient[read]).max(1) > 0).all() and (np.abs(position_gradient[:6]).max(1) > 0).all()


# ---------------------------------------------------------------- masked scores

def probabilities(mask_value, choice="fused"):
    """What a block makes of scores 0.5, -0.25 and 3 with the third key masked: values are rows of the identity."""
    attention = build(heads=1, bottleneck=3, mask_value=mask_value).layers[0].attention
    attention.output.weight.array, attention.output.bias.array = np.eye(3), np.zeros(3)
    scores, rows = np.array([0.5, -0.25, 3.0]), np.eye(3)[None, None]
    queries, keys = np.sqrt(3) * np.ones((1, 1, 3, 3)), scores[None, None, :, None] * np.array([1.0, 0, 0])
    mask = np.array([True, True, False])[None, None, None]
    with kernels.use(choice):
        return attention.attend(*map(Tensor, (queries, keys, rows)), mask, Pass()).array[0, 0]


def test_masked_scores_of_published_code_and_of_everybody_else():
    np.testing.assert_allclose(probabilities(-6.0), [0.67849, 0.32049, 0.00102], atol=5e-6)     # five places are given
    np.testing.assert_allclose(probabilities(None), [0.67918, 0.32082, 0.0], atol=5e-6)
    assert probabilities(None)[2] == 0 == probabilities(-1e4)[2]
    np.testing.assert_allclose(probabilities(-1e4), probabilities(None), rtol=1e-12)


@every_model
def test_a_mask_value_changes_what_padding_weighs_and_nothing_else(name):
    batch, whole = draw_batch(), draw_batch(lengths=(9, 9, 9, 9))
    plain, official = (build(name, mask_value=value) for value in (None, -6.0))
    run = Pass(needs=everything(plain.config))
    for place, x in flat(plain(whole, run)).items():
        assert_close64(flat(official(whole, run))[place].array, x.array, str(place))
    a, b = (flat(model(batch, run)) for model in (plain, official))
    assert_close64(b["scores", 0].array, a["scores", 0].array)          # before the mask
    far = np.abs(a["hidden", 0].array - b["hidden", 0].array)[batch.mask].max()
    assert 1e-5 < far < 0.5
    very_low = build(name, mask_value=-1e4)
    for place, x in a.items():
        assert_close64(flat(very_low(batch, run))[place].array, x.array, str(place))


# ---------------------------------------------------------------- dropout

def test_every_dropout_has_its_site():
    for head in HEADS:
        sites = [m.site for _, m in build(head=head).named_modules() if isinstance(m, Dropout)]
        assert sites == list(range(1 + 2 * DEPTH + (head in ("sequence", "token"))))


@pytest.mark.parametrize("mask_value", [None, -6.0])
@pytest.mark.parametrize("shards", [2, 3])
@every_model
def test_a_row_drops_the_same_units_in_any_split(name, shards, mask_value):
    model = build(name, "pretraining", dropout=0.3, attention_dropout=0.2, mask_value=mask_value)
    batch, needs = draw_batch("pretraining"), everything(model.config)

    def compute(batch, rows, step=5):
        return flat(model(batch, Pass(needs, True, 7, step, rows)))
    whole = compute(batch, batch.rows)
    parts = [compute(part, part.rows) for part in batch.split(shards)]
    for place, x in whole.items():
        assert_close64(np.concatenate([part[place].array for part in parts]), x.array, str(place))
    for other in (compute(batch, batch.rows + 4), compute(batch, batch.rows, step=6), flat(model(batch, Pass(needs)))):
        assert np.abs(other["hidden", 0].array - whole["hidden", 0].array).max() > 0.1


def test_dropout_is_on_the_embeddings_and_on_what_a_block_gives_back(monkeypatch):
    student_checks.drop_everything(monkeypatch)
    model = build(layers=1, dropout=0.5, attention_dropout=0.0)
    features = model(draw_batch(), Pass(needs=Needs.of(hidden=[0], queries=[0]), training=True))
    layer, nothing = model.layers[0], features.embeddings * 0.0
    assert np.abs(features.embeddings.array).max() > 0.1                # what a loss reads is not dropped
    assert_close64(features.queries[0].array, layer.attention.project(nothing)[0].array)
    assert_close64(features.hidden[0].array, layer.output_norm(nothing).array)


@pytest.mark.parametrize("mask_value", [None, -6.0])
def test_dropout_of_attention_is_on_its_probabilities(monkeypatch, mask_value):
    """Attention gives its output's bias, and nothing within a block is dropped."""
    student_checks.drop_everything(monkeypatch)
    model = build(layers=1, dropout=0.0, attention_dropout=0.5, mask_value=mask_value)
    features = model(draw_batch(), Pass(needs=Needs.of(hidden=[0]), training=True))
    x, layer = features.embeddings, model.layers[0]
    h = layer.attention.norm(layer.attention.input(x) + layer.attention.output.bias)
    for feed_forward in [*layer.stacked, layer.feed_forward]:
        h = feed_forward(h)
    assert_close64(features.hidden[0].array, layer.output_norm(layer.output(h), x).array)


# ---------------------------------------------------------------- dtypes and devices

@pytest.mark.parametrize("mask_value", [None, -6.0])
@pytest.mark.parametrize("choice", ["fused", "plain"])
@every_model
def test_float32_stays_float32_everywhere(name, choice, mask_value):
    model = build(name, "pretraining", dtype=np.float32, mask_value=mask_value)
    with kernels.use(choice):
        student_checks.check_float32_stays(model, draw_batch("pretraining"))


@pytest.mark.parametrize("mask_value", [None, -6.0])
@every_model
def test_the_device_computes_the_same_and_the_host_never_waits(strict_cupy, name, mask_value):
    model = build(name, "pretraining", mask_value=mask_value)
    student_checks.check_device(model, draw_batch("pretraining"), strict_cupy)
