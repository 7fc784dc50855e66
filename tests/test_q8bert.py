"""Q8BERT: a BERT of rounded weights and activations, its gradients and ranges against the equations in PyTorch."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import small_bert
import strict_device
import student_checks as check
from gradcheck import assert_close64, assert_within
from oracle import q8bert as oracle
from small_bert import dense, draw_batch, everything, flat
from small_q8bert import build, check_against_oracle, with_ranges
from test_fake_quantise import fake
from tinydistill import gradients, kernels, ops
from tinydistill.backend import to_host
from tinydistill.compress.q8bert import Q8Bert, Q8BertConfig, forward_flops, parameter_count, quantised
from tinydistill.errors import WrongUsage
from tinydistill.features import Needs, Pass
from tinydistill.students import bert
from tinydistill.students.heads import with_head
from tinydistill.students.mobilebert import MobileBert
from tinydistill_reference import q8bert as printed

HEADS = ("none", "masked-lm", "sequence", "token")
NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0}
every_head = pytest.mark.parametrize("head", HEADS)
both_kernels = pytest.mark.parametrize("choice", ["fused", "plain"])


# ---------------------------------------------------------------- the model

@both_kernels
@pytest.mark.parametrize("requantise", [True, False])
@pytest.mark.parametrize("mode", ["ema", "dynamic"])
@every_head
def test_features_gradients_and_ranges_are_those_of_the_equations_in_pytorch(head, mode, requantise, choice):
    """With nothing learned, and with ranges that clamp."""
    batch = draw_batch(head)
    model = build(head, mode=mode, requantise_output=requantise)
    with kernels.use(choice):
        check_against_oracle(model, batch)
        if mode == "ema":
            check_against_oracle(with_ranges(model, batch, 0.4), batch)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(2, 5), st.integers(2, 8), st.integers(2, 8),
       st.sampled_from(HEADS), st.integers(0, 99))
def test_any_small_shape_and_any_bits(layers, heads, K, weight_bits, activation_bits, head, seed):
    model = build(head, seed, weight_bits=weight_bits, activation_bits=activation_bits,
                  changes={"layers": layers, "heads": heads, "hidden": heads * K})
    check.check_counts(model, parameter_count)
    batch = draw_batch(head, seed)
    features = model(batch, Pass(needs=everything(model.config)))
    for place, x in oracle.features(model, batch, model.state)[0].items():
        assert_close64(flat(features)[place].array, x, str(place))


@pytest.mark.parametrize("head", ["pretraining", "span"])
def test_the_other_heads_read_what_the_quantised_encoder_gives(head):
    model, batch = build(head), draw_batch("masked-lm" if head == "pretraining" else "none")
    features = model(batch, Pass(needs=everything(model.config) | Needs.of(hidden=[-1])))
    if head == "span":
        assert_close64(features.logits.array, model.head.ends(features.hidden[-1]).array)
    else:
        words = fake(model.embeddings.word.weight.array)
        assert_close64(features.logits.array, model.head(features.hidden[-1], batch.positions, words).array)


def test_parts_that_are_not_quantised():
    names = {name for name, part in build("sequence").named_modules() if hasattr(part, "place")}
    layer = {"attention", "attention.query", "attention.key", "attention.value", "attention.output", "feed_forward",
             "feed_forward.inner", "feed_forward.outer"}
    assert names == {"embeddings.word", "embeddings.position", "embeddings.token_type", "pooler"} | {
        f"layers.{l}.{part}" for l in range(3) for part in layer}


def test_eight_bits_are_close_and_two_are_not():
    float_model, batch = small_bert.build("sequence"), draw_batch("sequence")
    run = Pass(needs=Needs.of(hidden=[0]))
    truth = float_model(batch, run).hidden[0].array
    error = [np.abs(quantised(float_model, weight_bits=bits, activation_bits=bits)(batch, run).hidden[0].array
                    - truth).mean() / np.abs(truth).mean() for bits in (8, 4, 2)]
    assert 1e-4 < error[0] < 0.05 and 5 * error[0] < error[1] < error[2]


@every_head
def test_padding_never_matters(head):
    """Ranges are those of real tokens. With learned ones, and with those of the batch."""
    check.check_padding(build(head), head)
    check.check_padding(with_ranges(build(head), draw_batch(head)), head)


def test_published_code_counts_padding_in_a_range():
    """Which is why it is not ours: the same sequence alone and beside a longer one."""
    x = np.array([[[0.5], [9.0]]])
    assert kernels.of(x).largest_magnitude(x, np.array([[True, False]])) == 0.5
    assert kernels.of(x).largest_magnitude(x, None) == 9.0


# ---------------------------------------------------------------- what is learned

def test_ranges_move_as_printed():
    model = build(ema_decay=0.9)
    site, seen = "layers.1.feed_forward.inner.input", [2.0, 5.0, 1.0, 1.0]
    for step, r in enumerate(printed.moving_average(seen, 0.9)):
        model.learn({site: np.asarray(seen[step])})
        assert_close64(model.state[site], np.asarray(r))
        assert model.state[site].shape == () and model.state[site].dtype == np.float64
    assert list(model.state) == [site]


def test_a_pass_observes_in_training_only_and_changes_nothing():
    batch = draw_batch("sequence")
    model = with_ranges(build("sequence", changes=NO_DROPOUT), batch, 0.9)
    before = {name: r.copy() for name, r in model.state.items()}
    run = Pass(needs=everything(model.config))
    used, trained = model(batch, run), model(batch, replace(run, training=True))
    assert used.observed == {} and list(trained.observed) == list(model.state)
    assert set(model.sites()) == set(model.state)
    assert model.state == before
    for place, x in flat(used).items():
        np.testing.assert_array_equal(x.array, flat(trained)[place].array)
    truth = oracle.features(model, batch, model.state)[1]
    for site, r in trained.observed.items():
        assert_close64(r, truth[site], site)
    assert {site.rpartition(".")[2] for site in truth} == {"input", "output"}
    assert build("sequence", requantise_output=False).sites() == [s for s in model.sites() if s.endswith("input")]
    dynamic = build(mode="dynamic")
    assert dynamic(batch, Pass(Needs.of(hidden=[0]), training=True)).observed == dynamic.state == {}


def test_a_pass_that_stops_early_observes_what_it_came_by():
    model = build()
    needs = Needs.of(queries=[1])
    seen = model(draw_batch(), Pass(needs=needs, training=True)).observed
    behind = "layers.2", "layers.1.feed", "layers.1.attention.output", "pooler"
    assert not any(site.startswith(behind) for site in seen)
    assert "layers.1.attention.value.output" in seen and "layers.0.feed_forward.outer.output" in seen


def test_learned_ranges_are_used():
    model, batch = build(changes=NO_DROPOUT), draw_batch()
    run = Pass(needs=Needs.of(hidden=[0]))
    first = with_ranges(model, batch)(batch, run).hidden[0].array
    model.state["layers.0.attention.query.input"] *= 0.1
    assert np.abs(model(batch, run).hidden[0].array - first).max() > 1e-3


@pytest.mark.parametrize("shards", [2, 3])
def test_shards_see_together_what_the_batch_sees_and_compute_the_same(shards):
    """From the first step on."""
    batch = draw_batch("sequence")
    model = build("sequence", changes={"dropout": 0.3, "attention_dropout": 0.2})
    for step in range(2):
        check.check_shards(model, "sequence", shards)
        run = Pass(needs=everything(model.config), training=True, seed=3, step=step)
        whole = model(batch, replace(run, rows=batch.rows)).observed
        parts = [model(part, replace(run, rows=part.rows)).observed for part in batch.split(shards)]
        for site, r in whole.items():
            assert_close64(max(part[site] for part in parts), r, site)
        model.learn(whole)


def test_the_first_step_rounds_weights_alone():
    """Activations are as they are in a BERT with the rounded weights; out of training they go by their own range."""
    model, batch = build(changes=NO_DROPOUT), draw_batch()
    rounded = small_bert.build(**NO_DROPOUT)
    for (name, weight), part in zip(model.arrays().items(), rounded.parameters(), strict=True):
        part.array = fake(weight) if weight.ndim == 2 else weight
    run = Pass(needs=everything(model.config))
    for place, x in flat(rounded(batch, run)).items():
        assert_close64(flat(model(batch, replace(run, training=True)))[place].array, x.array, str(place))
        if place[0] == "hidden":
            assert np.abs(flat(model(batch, run))[place].array - x.array).max() > 1e-3


# ---------------------------------------------------------------- configurations

def test_a_config_says_what_it_is():
    config = Q8BertConfig(2, 8, 2, 16, head="sequence", labels=("a", "b"))
    assert (str(config), config.model_type) == ("Q8BERT 2x8", "q8bert")
    assert (config.weight_bits, config.activation_bits, config.mode, config.ema_decay, config.requantise_output) == (
        8, 8, "ema", 0.9999, True)
    assert Q8BertConfig(**config.as_dict()) == config and config.but(mode="dynamic").mode == "dynamic"
    assert {config.but(ema_decay=decay).ema_decay for decay in (0.0, 1.0)} == {0.0, 1.0}


@pytest.mark.parametrize("changes, text", [
    ({"mode": "static"}, "need a mode out of ema, dynamic; got 'static'"),
    ({"weight_bits": 1}, "need weight_bits from 2 to 8, got 1"),
    ({"activation_bits": 9}, "need activation_bits from 2 to 8, got 9"),
    ({"ema_decay": 1.5}, "need an ema_decay from 0 to 1, got 1.5"),
    ({"heads": 3}, "need a hidden size that the heads divide: 8 hidden, 3 heads")])
def test_a_quantisation_that_cannot_be_is_refused(changes, text):
    with pytest.raises(WrongUsage, match=f"^{text}$"):
        Q8BertConfig(2, 8, 2, 16).but(**changes)


def test_the_counts_are_berts():
    config = Q8BertConfig(12, 768, 12, 3072)
    assert parameter_count(config)["total"] == 109_482_240
    assert forward_flops(config, 128) == bert.forward_flops(config, 128)
    for head in HEADS:
        check.check_counts(build(head), parameter_count)
    check.check_initialisation(Q8Bert, Q8BertConfig(2, 12, 3, 20, 37, 11, initial_std=0.4))
    check.check_sites(build("sequence"))


def test_what_is_quantised_has_the_weights_of_the_bert():
    model = small_bert.build("token")
    made = quantised(model, weight_bits=4)
    assert type(made) is Q8Bert and made.config.weight_bits == 4 and made.config.labels == model.config.labels
    assert list(made.arrays()) == list(model.arrays())
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(array, made.arrays()[name])
        assert made.named_parameters()[name] is not model.named_parameters()[name]
    other = with_head(made, "sequence", ("x", "y"))
    assert type(other) is Q8Bert and other.config.weight_bits == 4 and other.config.labels == ("x", "y")


def test_other_architectures_are_not_quantised():
    from small_mobilebert import shape
    for model in (MobileBert(shape("mobilebert"), None), build()):
        with pytest.raises(WrongUsage, match=f"^need a BERT to quantise, got {re.escape(str(model.config))}$"):
            quantised(model)


# ---------------------------------------------------------------- dtypes and devices

@every_head
def test_float32_stays_float32_everywhere(head):
    for mode in ("ema", "dynamic"):
        model, batch = build(head, dtype=np.float32, mode=mode), draw_batch(head)
        check.check_float32_stays(model, batch)
        if mode == "ema":
            with_ranges(model, batch)
            check.check_float32_stays(model, batch)
            for there in (model, model.to(np)):
                assert all(r.dtype == np.float32 for r in there.state.values())


@pytest.mark.parametrize("mode", ["ema", "dynamic"])
@every_head
def test_the_device_computes_the_same_and_the_host_never_waits(strict_cupy, head, mode):
    """Forward, backward and learning."""
    batch = draw_batch(head)
    check.check_device(build(head, mode=mode), batch, strict_cupy)
    model, there = build(head, mode=mode), build(head, mode=mode).to(strict_cupy)
    run, moved = Pass(needs=everything(model.config), training=True, rows=batch.rows), batch.to(strict_cupy)
    for _ in range(2):
        with strict_device.no_sync():
            there.learn(there(moved, run).observed)
        model.learn(model(batch, run).observed)
    assert model.state.keys() == there.state.keys()
    for site, r in model.state.items():
        assert isinstance(there.state[site], strict_cupy.ndarray)
        assert_close64(to_host(there.state[site]), r, site)


def test_what_a_loss_never_reached_has_no_gradient_and_words_that_were_read_a_sparse_one():
    model, batch = build(), draw_batch()
    behind = ("layers.2.attention.output", "layers.2.attention_norm", "layers.2.feed_forward", "pooler")
    check.check_what_losses_never_reached(model, batch, behind)
    check.check_teacher_remembers_nothing(model, batch)
    features = model(batch, Pass(needs=Needs.of(hidden=[0])))
    words, = gradients((features.hidden[0] * 1.5).sum() + (features.embeddings * features.embeddings).sum(),
                       [model.embeddings.word.weight])
    assert len(words.rows) == len(np.unique(batch.ids)) < len(model.embeddings.word.weight.array)
    assert_within(dense(words)[np.setdiff1d(np.arange(37), batch.ids)], 0.0 * dense(words)[:37 - len(words.rows)], 0.0)


def test_a_step_down_the_gradient_lowers_the_loss():
    """Straight through is no derivative of what is computed; it leads down all the same."""
    model, batch = build("sequence", changes=NO_DROPOUT), draw_batch("sequence")
    run, losses = Pass(needs=Needs.of(logits=True), training=True), []
    for _ in range(12):
        features = model(batch, run)
        loss = ops.cross_entropy(features.logits, batch.labels)
        losses.append(float(loss.array))
        for parameter, gradient in zip(model.parameters(), gradients(loss, model.parameters())):
            if gradient is not None:
                parameter.array = parameter.array - 0.02 * dense(gradient)
        model.learn(features.observed)
    assert losses[-1] < 0.5 * losses[0]
