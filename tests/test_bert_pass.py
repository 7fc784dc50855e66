"""One pass through the whole model: no further than asked, deaf to padding, the same in any split and on any device."""

from collections import Counter

import numpy as np
import pytest

import strict_device
from gradcheck import assert_close64
from small_bert import DEPTH, VOCABULARY, at_real_tokens, build, dense, draw_batch, everything, flat, inner
from tinydistill import kernels, no_grad, ops
from tinydistill.backend import to_host
from tinydistill.errors import Problem, WrongUsage
from tinydistill.features import Batch, Needs, Pass
from tinydistill.nn.layers import Dropout
from tinydistill.students.configs import HEADS
from tinydistill.tensor import gradients

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
    for name in ("project_heads", "attention", "linear", "bias_gelu", "layer_norm", "tanh", "scaled_product"):
        monkeypatch.setattr(ops, name, spy(name, getattr(ops, name)))
    return calls


LAST = {"queries": [-1], "keys": [-1], "values": [-1]}
ALL_LAYERS = {"attention": 3, "linear": 9, "bias_gelu": 3, "layer_norm": 7, "project_heads": 3}


@pytest.mark.parametrize("needs, calls", [
    # MiniLM: two whole layers (attention output and two feed-forward products each), then one projection
    (LAST, {"project_heads": 3, "attention": 2, "linear": 6, "bias_gelu": 2, "layer_norm": 5}),
    ({"queries": [1]}, {"project_heads": 2, "attention": 1, "linear": 3, "bias_gelu": 1, "layer_norm": 3}),
    ({"scores": [0, 1]}, {"project_heads": 2, "attention": 1, "linear": 3, "bias_gelu": 1, "layer_norm": 3,
                          "scaled_product": 2}),
    ({"hidden": [0], "values": [1]}, {"project_heads": 2, "attention": 1, "linear": 3, "bias_gelu": 1,
                                      "layer_norm": 3}),
    ({"hidden": [1]}, {"project_heads": 2, "attention": 2, "linear": 6, "bias_gelu": 2, "layer_norm": 5}),
    ({"embeddings": True}, {"layer_norm": 1}),
    ({}, {"layer_norm": 1}),
    ({"hidden": [-1]}, ALL_LAYERS),
    ({"pooled": True}, ALL_LAYERS | {"linear": 10, "tanh": 1}),
    ({"logits": True}, ALL_LAYERS | {"linear": 11, "bias_gelu": 4, "layer_norm": 8}),
    ({"next_sentence": True}, ALL_LAYERS | {"linear": 11, "tanh": 1}),
], ids=str)
def test_a_pass_computes_what_is_needed_and_stops_there(counted, needs, calls):
    model, needs = build("pretraining"), Needs.of(**needs)
    features = model(draw_batch("pretraining"), Pass(needs=needs))
    assert counted == Counter(calls)
    wanted = {(name, layer if layer is None else layer % DEPTH) for name, layer in needs.wanted}
    assert flat(features).keys() == wanted | {("embeddings", None)}


def test_what_a_loss_never_reached_has_no_gradient():
    """MiniLM's needs: nothing in the last layer behind its projections, no pooler, no head."""
    model = build("masked-lm")
    features = model(draw_batch("masked-lm"), Pass(needs=Needs.of(**LAST)))
    rng = np.random.default_rng(3)
    upstream = {place: rng.standard_normal(x.shape) for place, x in flat(features).items()}
    parameters = model.named_parameters()
    found = dict(zip(parameters, gradients(inner(features, upstream), list(parameters.values()))))
    behind = (f"layers.{DEPTH - 1}.attention.output", f"layers.{DEPTH - 1}.attention_norm",
              f"layers.{DEPTH - 1}.feed_forward", "pooler", "head")
    assert {name for name, g in found.items() if g is None} == {name for name in found if name.startswith(behind)}
    assert all(np.abs(dense(g)).max() > 0 for g in found.values() if g is not None)


def test_a_teacher_remembers_nothing():
    with no_grad():
        features = build()(draw_batch(), Pass(needs=Needs.of(**LAST)))
    assert not any(x.requires_grad or x.inputs for x in flat(features).values())


def test_what_a_model_cannot_have_is_named():
    batch = draw_batch()
    with pytest.raises(Problem, match="need logits, which BERT 3x12 without a head cannot have"):
        build()(batch, Pass(needs=Needs.of(logits=True)))
    for head in set(HEADS) - {"pretraining"}:
        with pytest.raises(Problem, match="need next_sentence, which BERT 3x12 without a pretraining head cannot have"):
            build(head)(draw_batch(head), Pass(needs=Needs.of(next_sentence=True)))
    with pytest.raises(Problem, match="need pooled, which BERT 3x12 without a pooler cannot have"):
        build(pooler=False)(batch, Pass(needs=Needs.of(pooled=True)))
    with pytest.raises(Problem, match=r"need hidden of layer 3, but the model has 3 layers \(0 to 2\)"):
        build()(batch, Pass(needs=Needs.of(hidden=[3])))
    with pytest.raises(Problem, match="need scores of layer 0, which BERT 3x12 did not compute"):
        build()(batch, Pass(needs=Needs.of(hidden=[0]))).scores[0]
    with pytest.raises(WrongUsage, match="need at most 11 tokens a sequence, got 12"):
        build()(draw_batch(length=12), Pass(needs=Needs.of(hidden=[0])))


# ---------------------------------------------------------------- padding

@pytest.mark.parametrize("choice", ["fused", "plain"])
@pytest.mark.parametrize("head", ["masked-lm", "pretraining", "sequence", "token"])
def test_what_stands_in_the_padding_changes_no_bit(head, choice):
    model, batch = build(head), draw_batch(head)
    other = draw_batch(seed=99)
    poisoned = Batch(np.where(batch.mask, batch.ids, other.ids), batch.mask,
                     np.where(batch.mask, batch.token_types, 1 - batch.token_types), batch.labels, batch.positions)
    assert (poisoned.ids != batch.ids).any()
    with kernels.use(choice):
        a, b = (flat(model(x, Pass(needs=everything(model.config)))) for x in (batch, poisoned))
    assert (a["hidden", 0].array != b["hidden", 0].array).any()         # the poison arrived
    for place, x in a.items():
        np.testing.assert_array_equal(at_real_tokens(place, x.array, batch.mask),
                                      at_real_tokens(place, b[place].array, batch.mask), err_msg=str(place))


def test_more_padding_and_packing_change_nothing():
    """Two columns more, and each sequence alone without any padding."""
    model, batch = build("sequence"), draw_batch(lengths=(7, 4, 6, 1))
    run = Pass(needs=everything(model.config))
    whole = flat(model(batch, run))
    wide = draw_batch(lengths=(7, 4, 6, 1), length=11, seed=5)
    ids, types = wide.ids.copy(), wide.token_types.copy()
    ids[:, :9], types[:, :9] = batch.ids, batch.token_types
    wider = flat(model(Batch(ids, wide.mask, types), run))
    for place, x in whole.items():
        assert_close64(at_real_tokens(place, wider[place].array, wide.mask),
                       at_real_tokens(place, x.array, batch.mask), str(place))
    for b, n in enumerate((7, 4, 6, 1)):
        mask = batch.mask[b:b + 1]
        alone = flat(model(Batch(batch.ids[b:b + 1, :n], mask[:, :n], batch.token_types[b:b + 1, :n]), run))
        for place, x in whole.items():
            assert_close64(at_real_tokens(place, alone[place].array, mask[:, :n]),
                           at_real_tokens(place, x.array[b:b + 1], mask), f"{place} of sequence {b}")


@pytest.mark.parametrize("choice", ["fused", "plain"])
def test_the_gradient_of_padding_is_exactly_zero(choice):
    """Of the words and positions that only padding reads, for a loss that reads real tokens: zero, not almost."""
    model, batch = build("masked-lm"), draw_batch("masked-lm", lengths=(6, 4, 5, 1))
    only_padding = VOCABULARY - 1
    ids = np.where(batch.mask, batch.ids % only_padding, only_padding)
    batch = Batch(ids, batch.mask, batch.token_types, batch.labels, batch.positions)
    rng = np.random.default_rng(4)
    with kernels.use(choice):
        features = model(batch, Pass(needs=Needs.of(hidden=[-1], pooled=True, embeddings=True)))
        upstream = {place: rng.standard_normal(x.shape) for place, x in flat(features).items()}
        for place in (("hidden", DEPTH - 1), ("embeddings", None)):
            upstream[place][~batch.mask] = 0
        words, positions = model.embeddings.word.weight, model.embeddings.position.weight
        word_gradient, position_gradient = map(dense, gradients(inner(features, upstream), [words, positions]))
    assert (word_gradient[only_padding] == 0).all() and (position_gradient[6:] == 0).all()
    read = np.unique(ids[batch.mask])
    assert (np.abs(word_gradient[read]).max(1) > 0).all() and (np.abs(position_gradient[:6]).max(1) > 0).all()


# ---------------------------------------------------------------- dropout

def test_every_dropout_has_its_site():
    for head in HEADS:
        sites = [m.site for _, m in build(head).named_modules() if isinstance(m, Dropout)]
        assert sites == list(range(1 + 3 * DEPTH + (head in ("sequence", "token"))))


@pytest.mark.parametrize("shards", [2, 3, 4])
@pytest.mark.parametrize("head", ["masked-lm", "pretraining", "sequence", "token"])
def test_a_row_drops_the_same_units_in_any_split(head, shards):
    model, batch = build(head, dropout=0.3, attention_dropout=0.2), draw_batch(head)
    run = Pass(needs=everything(model.config), training=True, seed=7, step=5)

    def compute(batch, rows):
        return flat(model(batch, Pass(run.needs, True, run.seed, run.step, rows)))
    whole = compute(batch, batch.rows)
    parts = [compute(part, part.rows) for part in batch.split(shards)]
    assert len(parts) == shards
    for place, x in whole.items():
        assert_close64(np.concatenate([part[place].array for part in parts]), x.array, str(place))
    renumbered = compute(batch, batch.rows + 4)     # and they are those of the row, not of its place
    assert np.abs(renumbered["hidden", 0].array - whole["hidden", 0].array).max() > 0.1


def test_dropout_is_on_in_training_only_and_differs_by_step_and_seed():
    model, batch = build(dropout=0.3, attention_dropout=0.2), draw_batch()

    def hidden(**told):
        return model(batch, Pass(needs=Needs.of(hidden=[0]), rows=batch.rows, **told)).hidden[0].array
    quiet = build(dropout=0.0, attention_dropout=0.0)
    np.testing.assert_array_equal(hidden(), quiet(batch, Pass(needs=Needs.of(hidden=[0]))).hidden[0].array)
    np.testing.assert_array_equal(hidden(training=True, seed=1, step=1), hidden(training=True, seed=1, step=1))
    several = [hidden(), hidden(training=True), hidden(training=True, seed=1), hidden(training=True, step=1)]
    for i, a in enumerate(several):
        assert all(np.abs(a - b).max() > 0.1 for b in several[:i])


@pytest.fixture
def all_dropped(monkeypatch):
    """Bits of 0: at any rate above 0, dropout leaves nothing."""
    monkeypatch.setattr(Pass, "bits", lambda self, site, shape, like: np.zeros(shape, np.uint16))


def test_dropout_is_where_bert_has_it(all_dropped):
    """On the embeddings, and on what attention and feed-forward give to the residual sum: only biases get through."""
    model, batch = build(layers=1, dropout=0.5, attention_dropout=0.0), draw_batch()
    features = model(batch, Pass(needs=Needs.of(hidden=[0], queries=[0]), training=True))
    layer, nothing = model.layers[0], features.embeddings * 0.0
    assert np.abs(features.embeddings.array).max() > 0.1                # what a loss reads is not dropped
    assert_close64(features.queries[0].array, layer.attention.project(nothing)[0].array)
    assert_close64(features.hidden[0].array, layer.feed_forward_norm(layer.attention_norm(nothing)).array)


def test_attention_dropout_is_where_bert_has_it(all_dropped):
    """On the probabilities: attention gives its output's bias."""
    model, batch = build(layers=1, dropout=0.0, attention_dropout=0.5), draw_batch()
    features = model(batch, Pass(needs=Needs.of(hidden=[0]), training=True))
    layer = model.layers[0]
    h = layer.attention_norm(features.embeddings + layer.attention.output.bias)
    assert_close64(features.hidden[0].array, layer.feed_forward_norm(layer.feed_forward(h), h).array)


@pytest.mark.parametrize("head", ["sequence", "token"])
def test_dropout_of_the_heads(all_dropped, head):
    """On the pooled [CLS], on the tokens: logits are the biases, in training alone."""
    model, batch = build(head, dropout=0.5), draw_batch(head)
    bias = model.head.classifier.bias.array
    trained, used = (model(batch, Pass(needs=Needs.of(logits=True), training=t)).logits.array for t in (True, False))
    assert_close64(trained, np.broadcast_to(bias, trained.shape))
    assert np.abs(used - bias).max() > 0.1


# ---------------------------------------------------------------- dtypes and devices

@pytest.mark.parametrize("choice", ["fused", "plain"])
@pytest.mark.parametrize("head", HEADS)
def test_float32_stays_float32_everywhere(head, choice):
    """In every Tensor of the graph, dropout and all, and in every gradient."""
    model, batch = build(head, dtype=np.float32), draw_batch(head)
    with kernels.use(choice):
        features = model(batch, Pass(needs=everything(model.config), training=True))
        loss = sum((x * x).sum() for x in flat(features).values())
        if batch.labels is not None:
            labels = batch.labels.ravel() if batch.positions is None else batch.labels.ravel()[batch.positions]
            loss = loss + ops.cross_entropy(features.logits, labels) * (1 / len(labels))
        found = gradients(loss, model.parameters())
    seen, stack = set(), [loss]
    while stack:
        tensor = stack.pop()
        if id(tensor) in seen or not hasattr(tensor, "inputs"):
            continue
        seen.add(id(tensor))
        stack.extend(tensor.inputs)
        for array in tensor.array if isinstance(tensor.array, tuple) else (tensor.array,):
            assert array.dtype == np.float32, f"a {array.shape} is {array.dtype}"
    assert len(seen) > 100
    assert all(dense(g).dtype == np.float32 for g in found)


@pytest.mark.parametrize("head", HEADS)
def test_the_device_computes_the_same_and_the_host_never_waits(strict_cupy, head):
    """Forward and backward on the stand-in for CuPy: the numbers of the plain kernels, and no synchronisation."""
    model, batch = build(head), draw_batch(head)
    run = Pass(needs=everything(model.config), training=True, rows=batch.rows)
    rng = np.random.default_rng(6)
    with kernels.use("plain"):
        features = model(batch, run)
        upstream = {place: rng.standard_normal(x.shape) for place, x in flat(features).items()}
        truth = gradients(inner(features, upstream), model.parameters())
    model.to(strict_cupy)
    moved, upstream = batch.to(strict_cupy), {place: strict_cupy.asarray(u) for place, u in upstream.items()}
    with strict_device.no_sync():
        there = model(moved, run)
        found = gradients(inner(there, upstream), model.parameters())
    for place, x in flat(features).items():
        assert_close64(to_host(flat(there)[place].array), x.array, str(place))
    for name, ours, theirs in zip(model.named_parameters(), found, truth, strict=True):
        assert_close64(to_host(dense(ours)), dense(theirs), name)
