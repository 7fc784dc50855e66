"""One pass through a RoBERTa: no further than asked, deaf to padding, dropout where it belongs, on any device."""

import numpy as np
import pytest

import student_checks as check
from gradcheck import assert_close64
from small_bert import draw_batch
from small_roberta import both_kernels, build, every_head
from tinydistill import kernels
from tinydistill.errors import Problem
from tinydistill.features import Needs, Pass
from tinydistill.nn.layers import Dropout

# ---------------------------------------------------------------- one pass

ALL_LAYERS = {"project_heads": 3, "attention": 3, "linear": 9, "bias_gelu": 3, "layer_norm": 7}


@pytest.mark.parametrize("head, needs, calls", [
    ("none", {"queries": [-1], "keys": [-1], "values": [-1]},
     {"project_heads": 3, "attention": 2, "linear": 6, "bias_gelu": 2, "layer_norm": 5}),
    ("none", {"embeddings": True}, {"layer_norm": 1}),
    ("none", {"pooled": True}, ALL_LAYERS | {"linear": 10, "tanh": 1}),
    ("masked-lm", {"logits": True}, ALL_LAYERS | {"linear": 11, "bias_gelu": 4, "layer_norm": 8}),
    ("sequence", {"logits": True}, ALL_LAYERS | {"linear": 11, "tanh": 1}),
    ("token", {"logits": True}, ALL_LAYERS | {"linear": 10})], ids=str)
def test_a_pass_computes_what_is_needed_and_stops_there(monkeypatch, head, needs, calls):
    check.check_stops(monkeypatch, build(head), draw_batch(head), needs, calls)


def test_what_a_loss_never_reached_has_no_gradient_and_a_teacher_no_graph():
    behind = ("layers.2.attention.output", "layers.2.attention_norm", "layers.2.feed_forward", "head")
    check.check_what_losses_never_reached(build("masked-lm"), draw_batch("masked-lm"), behind)
    check.check_teacher_remembers_nothing(build("masked-lm"), draw_batch("masked-lm"))


@pytest.mark.parametrize("needs, text", [
    ({"next_sentence": True}, "need next_sentence, which RoBERTa 3x12 without a pretraining head cannot have"),
    ({"logits": True}, "need logits, which RoBERTa 3x12 without a head cannot have")])
def test_what_it_cannot_have_is_named(needs, text):
    with pytest.raises(Problem, match=text):
        build()(draw_batch(), Pass(needs=Needs.of(**needs)))


def test_a_sequence_head_needs_no_pooler():
    with pytest.raises(Problem, match="need pooled, which RoBERTa 3x12 without a pooler cannot have"):
        build("sequence")(draw_batch("sequence"), Pass(needs=Needs.of(logits=True, pooled=True)))
    with_both = build("sequence", pooler=True)
    features = with_both(draw_batch("sequence"), Pass(needs=Needs.of(logits=True)))
    assert features.pooled is None and with_both.head.classifier is with_both.head.outer


@both_kernels
@every_head
def test_padding_never_matters(head, choice):
    with kernels.use(choice):
        check.check_padding(build(head), head)


# ---------------------------------------------------------------- dropout

@pytest.mark.parametrize("shards", [2, 3])
@every_head
def test_a_row_drops_the_same_units_in_any_split(head, shards):
    model = build(head, dropout=0.3, attention_dropout=0.2)
    check.check_shards(model, head, shards)
    check.check_sites(model)


@pytest.mark.parametrize("site", ["inner_dropout", "outer_dropout"])
def test_a_sequence_head_drops_what_it_reads_and_what_it_made_of_it(monkeypatch, site):
    check.drop_everything(monkeypatch)
    model, batch = build("sequence", dropout=0.0, attention_dropout=0.0), draw_batch("sequence")
    getattr(model.head, site).rate = 0.5
    trained, used = (model(batch, Pass(needs=Needs.of(logits=True), training=t)).logits.array for t in (True, False))
    inner, outer = model.head.inner.bias.array, model.head.outer
    h = np.tanh(inner) if site == "inner_dropout" else 0 * inner
    assert_close64(trained, np.broadcast_to(outer.weight.array @ h + outer.bias.array, trained.shape))
    assert np.abs(used - trained).max() > 0.1
    rates = [m.rate for _, m in build("sequence", dropout=0.3).head.named_modules() if isinstance(m, Dropout)]
    assert rates == [0.3, 0.3]


# ---------------------------------------------------------------- dtypes and devices

@every_head
def test_float32_stays_float32_everywhere(head):
    check.check_float32_stays(build(head, dtype=np.float32), draw_batch(head))


@every_head
def test_the_device_computes_the_same_and_the_host_never_waits(strict_cupy, head):
    check.check_device(build(head), draw_batch(head), strict_cupy)
