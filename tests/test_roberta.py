"""RoBERTa and XLM-R: equal to transformers' in what they compute and in every gradient, and exact to the parameter."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import student_checks as check
from gradcheck import assert_close64
from oracle import bert as bert_oracle
from oracle import roberta as oracle
from oracle import students as students_oracle
from small_bert import draw_batch, everything, flat
from small_roberta import HEADS, SIZE, SMALL, both_kernels, build, every_head, padded
from tinydistill import architectures, hub, kernels
from tinydistill.architectures import SIZES
from tinydistill.errors import WrongUsage
from tinydistill.features import Needs, Pass
from tinydistill.students import roberta_names, xlm_roberta_names
from tinydistill.students.bert import Bert
from tinydistill.students.bert import forward_flops, parameter_count
from tinydistill.students.roberta import Roberta, RobertaConfig, positions
from tinydistill.students.xlm_roberta import XlmRoberta, XlmRobertaConfig


# ---------------------------------------------------------------- transformers

@both_kernels
@every_head
def test_every_feature_and_every_gradient_is_that_of_transformers(head, choice):
    with kernels.use(choice):
        check.check_against_transformers(build(head), roberta_names, padded(head))


@every_head
def test_xlm_r_is_that_of_transformers(head):
    model = check.build(XlmRoberta, XlmRobertaConfig(**SIZE), head, pooler=head == "none")
    check.check_against_transformers(model, xlm_roberta_names, padded(head))


def test_padding_that_holds_other_ids_is_counted_as_transformers_counts_it():
    batch = draw_batch("masked-lm")
    batch = replace(batch, token_types=np.zeros_like(batch.ids))
    assert (batch.ids[~batch.mask] != 1).any()
    check.check_against_transformers(build("masked-lm"), roberta_names, batch)


def test_two_token_types_are_read():
    batch = draw_batch("token")
    model = build("token", token_types=2)
    check.check_against_transformers(model, roberta_names, batch)
    other = model(replace(batch, token_types=None), Pass(needs=Needs.of(embeddings=True))).embeddings.array
    zeros = model(replace(batch, token_types=0 * batch.token_types), Pass(needs=Needs.of(embeddings=True))).embeddings
    np.testing.assert_array_equal(other, zeros.array)


@pytest.mark.parametrize("head", HEADS[1:4])
def test_the_loss_of_each_head_is_that_of_transformers(head):
    check.check_own_loss(build(head), roberta_names, padded(head))


@every_head
def test_float32_by_the_tolerance_rule(head):
    check.check_float32(build(head, dtype=np.float32), roberta_names, padded(head))


@given(st.integers(1, 3), st.integers(1, 3), st.integers(2, 5), st.integers(1, 9), st.sampled_from(HEADS),
       st.integers(0, 3), st.integers(0, 99))
def test_any_small_shape(layers, heads, K, feed_forward, head, pad_id, seed):
    model = build(head, seed=seed, layers=layers, heads=heads, hidden=heads * K, feed_forward=feed_forward,
                  pad_id=pad_id, positions=10 + pad_id)
    check.check_any_shape(model, roberta_names, padded(head, seed), parameter_count)


# ---------------------------------------------------------------- files

@pytest.mark.parametrize("model, config, names", [(Roberta, SMALL, roberta_names),
                                                  (XlmRoberta, XlmRobertaConfig(**SIZE), xlm_roberta_names)])
@every_head
def test_transformers_opens_what_is_written_and_it_is_read_again(model, config, names, head, tmp_path):
    ours, batch = check.build(model, config, head, pooler=head == "none"), padded(head)
    hub.write(ours, tmp_path)
    opened = bert_oracle.opened(tmp_path, names.ARCHITECTURES[head], "float64")
    run = Pass(needs=Needs.of(logits=head != "none", pooled=head == "none"))
    features = flat(ours(batch, run))
    for place, x in students_oracle.features(opened, ours, names, batch).items():
        if place in features:
            assert_close64(features[place].array, x)
    again = hub.read(tmp_path)
    assert again.config == ours.config.but(initial_std=again.config.initial_std) and type(again) is model
    for name, array in ours.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], array, err_msg=name)


# ---------------------------------------------------------------- positions

@given(st.lists(st.lists(st.integers(0, 4), min_size=7, max_size=7), min_size=1, max_size=4), st.integers(0, 4))
def test_positions_are_those_of_transformers(ids, pad_id):
    np.testing.assert_array_equal(positions(np.array(ids), pad_id), oracle.positions(ids, pad_id))


def test_the_first_token_stands_at_position_two_and_padding_at_one():
    model, batch = build(), padded("none")
    at = model.embeddings.position.weight.array
    model.embeddings.position.weight.array = at.copy()
    run = Pass(needs=Needs.of(embeddings=True))
    before = model(batch, run).embeddings.array
    model.embeddings.position.weight.array[1] += 1.0
    changed = (model(batch, run).embeddings.array != before).any(-1)
    np.testing.assert_array_equal(changed, batch.ids == 1)
    model.embeddings.position.weight.array[0] += 1.0
    model.embeddings.position.weight.array[2] += np.arange(12.0)
    changed = (model(batch, run).embeddings.array != before).any(-1) & (batch.ids != 1)
    assert changed[:, 0].all() and not changed[:, 1:].any()


def test_as_many_tokens_as_the_table_has_rows_behind_that_of_padding():
    run = Pass(needs=Needs.of(hidden=[0]))
    with pytest.raises(WrongUsage, match="need at most 11 tokens a sequence, got 12$"):
        build()(draw_batch(length=12), run)
    full = draw_batch(length=11, lengths=[11, 2])
    full = replace(full, ids=np.maximum(full.ids, 2))
    assert build()(full, run).hidden[0].shape == (2, 11, 12) and SMALL.longest == 11
    assert SIZES["roberta-base"].config.longest == SIZES["xlm-r-base"].config.longest == 512


def test_one_token_type_is_every_tokens():
    model, batch = build("sequence"), draw_batch("sequence")
    run = Pass(needs=everything(model.config))
    for types in (None, 1 - batch.token_types):
        for place, x in flat(model(replace(batch, token_types=types), run)).items():
            np.testing.assert_array_equal(x.array, flat(model(batch, run))[place].array)


def test_positions_of_a_batch_count_from_zero_as_for_a_bert():
    model, batch = build(), draw_batch()
    batch = replace(batch, ids=np.maximum(batch.ids, 2))
    run = Pass(needs=Needs.of(embeddings=True))
    given = replace(batch, position_ids=np.arange(9) + np.zeros((4, 1), int))
    np.testing.assert_array_equal(model(given, run).embeddings.array, model(batch, run).embeddings.array)
    given.position_ids[2, 5] = 0
    changed = (model(given, run).embeddings.array != model(batch, run).embeddings.array).any(-1)
    assert changed[2, 5] and changed.sum() == 1


# ---------------------------------------------------------------- teacher and student

def test_teacher_and_student_read_the_same_ids_and_differ_in_positions():
    """The student is BERT over the teacher's pieces: positions from 0, eps 1e-12; no <pad> is looked for."""
    student = SIZES["mminilm-12x384"].config.but(**SIZE)
    assert (student.pad_id, student.eps, student.token_types, student.model_type) == (1, 1e-12, 2, "bert")
    model, batch = check.build(Bert, student), padded("none")
    teacher = check.build(XlmRoberta, XlmRobertaConfig(**SIZE))
    run = Pass(needs=Needs.of(embeddings=True))
    for x, first in ((model, 0), (teacher, 2)):
        before = x(batch, run).embeddings.array
        x.embeddings.position.weight.array[first] += np.arange(12.0)
        changed = (x(batch, run).embeddings.array != before).any(-1)
        assert changed[:, 0].all() and not changed[:, 1:].any()


# ---------------------------------------------------------------- configurations

@pytest.mark.parametrize("name, words, transformer, total", [
    ("roberta-base", 38_603_520, 85_054_464, 124_645_632),
    ("distilroberta", 38_603_520, 42_527_232, 82_118_400),
    ("xlm-r-base", 192_001_536, 85_054_464, 278_043_648),
    ("mminilm-12x384", 96_014_208, 21_293_568, 117_653_760),
    ("mminilm-6x384", 96_014_208, 10_646_784, 107_006_976)])
def test_parameter_counts_of_the_published_sizes(name, words, transformer, total):
    config = SIZES[name].config
    counts = architectures.parameter_count(config)
    assert (counts["word embeddings"], counts["transformer"], counts["total"]) == (words, transformer, total)
    assert total == oracle.count(
        config.model_type, vocab_size=config.vocabulary, hidden_size=config.hidden, num_hidden_layers=config.layers,
        num_attention_heads=config.heads, intermediate_size=config.feed_forward, type_vocab_size=config.token_types,
        max_position_embeddings=config.positions, layer_norm_eps=config.eps)


@pytest.mark.parametrize("name, words, both", [
    ("minilm-v2-6x768-roberta", 38_603_520, 81_130_752), ("minilm-v2-12x384-roberta", 19_301_760, 40_595_328),
    ("minilm-v2-6x384-roberta", 19_301_760, 29_948_544), ("minilm-v2-12x384-xlm-r", 96_000_768, 117_294_336),
    ("minilm-v2-6x384-xlm-r", 96_000_768, 106_647_552)])
def test_the_published_sizes_of_minilm_v2(name, words, both):
    counts = parameter_count(SIZES[name].config)
    assert counts["word embeddings"] == words and words + counts["transformer"] == both
    assert architectures.paper_count(name) == both


@every_head
def test_the_counts_are_those_of_what_is_built(head):
    check.check_counts(build(head), parameter_count)


def test_flops_are_those_of_the_matrix_products(monkeypatch):
    check.check_flops(monkeypatch, build("masked-lm"), forward_flops, 7)
    assert round(forward_flops(SIZES["roberta-base"].config, 128) / 1e9, 2) == 22.35


def test_a_config_says_what_it_is():
    assert (str(SMALL), SMALL.model_type) == ("RoBERTa 3x12", "roberta")
    large = SIZES["xlm-r-large"].config
    assert (str(large), large.model_type, large.heads) == ("XLM-R 24x1024", "xlm-roberta", 16)
    assert architectures.parse("roberta-2x128") == RobertaConfig(2, 128, 2, 512)
    assert architectures.parse("roberta-2x128x4") == RobertaConfig(2, 128, 4, 512)
    assert architectures.parse("xlm-r-6x384x4") == XlmRobertaConfig(6, 384, 4, 1536)
    assert large == XlmRobertaConfig(24, 1024, 16, 4096) and SMALL.but(positions=3).longest == 1
    assert SIZES["roberta-large"].config == RobertaConfig(24, 1024, 16, 4096)
    for config in (size.config for size in SIZES.values() if "roberta" in size.config.model_type):
        assert (config.eps, config.pad_id, config.positions, config.token_types) == (1e-5, 1, 514, 1)
    for config in (SMALL.but(head="token", labels=("a", "b")), large):
        assert type(config)(**config.as_dict()) == config


@pytest.mark.parametrize("changes, text", [
    ({"heads": 5}, "need a hidden size that the heads divide: 12 hidden, 5 heads"),
    ({"positions": 2}, "need more positions than the 2 up to that of <pad>, and a token type: positions 2, token_ty"),
    ({"token_types": 0}, "and a token type: positions 13, token_types 0"),
    ({"activation": "relu"}, "need the activation gelu, which every RoBERTa has; got relu"),
    ({"head": "pretraining"}, "need a head out of none, masked-lm, sequence, token, span for RoBERTa 3x12; got pre"),
    ({"head": "token"}, "need the labels of a token head, got none")])
def test_a_shape_that_cannot_be_is_refused(changes, text):
    with pytest.raises(WrongUsage, match=text):
        SMALL.but(**changes)


def test_initial_weights_are_drawn_by_name():
    check.check_initialisation(Roberta, SMALL.but(head="masked-lm"))
