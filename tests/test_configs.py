"""Sizes as data: what they mean, what is refused, and the parameter counts of the papers."""

import numpy as np
import pytest

from tinydistill.errors import WrongUsage
from tinydistill.students.bert import Bert, parameter_count
from tinydistill.architectures import has_fixed_heads, parse
from tinydistill.students.configs import HEADS, PUBLISHED, BertConfig


@pytest.mark.parametrize("size, heads", [
    ("12x768", 12), ("6x384", 12), ("4x312", 12), ("3x336", 12), ("2x300", 4), ("2x128", 2), ("2x64", 1), ("2x32", 1),
    ("4x320", 5), ("24x1024", 16), ("2x512", 8), ("2x128x4", 4), ("2x384x6", 6)])
def test_the_head_rule(size, heads):
    config = parse(size)
    assert (config.heads, config.feed_forward) == (heads, 4 * config.hidden)
    assert size.startswith(f"{config.layers}x{config.hidden}")


def test_heads_that_are_asked_for_give_way_to_heads_that_are_written():
    assert parse("6x384", heads=6).heads == 6
    assert parse("6x384x12", heads=6).heads == 12
    assert parse("turc-tiny", heads=4).heads == 2
    assert [has_fixed_heads(s) for s in ("6x384", "6x384x12", "turc-tiny")] == [False, True, True]


@pytest.mark.parametrize("size", ["", "6", "6x", "x384", "6x384x", "6x384x12x1", "0x384", "6x0", "6x384x0", "00x384",
                                  "-6x384", "6.0x384", "6 x 384", "6X384", "bert", "minilm-5x384"])
def test_anything_else_is_refused_in_one_line(size):
    with pytest.raises(WrongUsage, match=r"need a size such as 6x384, 2x128x4, .* or a published name \(bert-base, .*got "):
        parse(size)


def test_a_shape_that_cannot_be_is_refused():
    with pytest.raises(WrongUsage, match="need a hidden size that the heads divide: 128 hidden, 3 heads"):
        parse("2x128x3")
    with pytest.raises(WrongUsage, match="need a head out of none, .*, token, span for BERT 2x128; got tokens"):
        parse("2x128").but(head="tokens")
    with pytest.raises(WrongUsage, match="need the labels of a sequence head, got none"):
        parse("2x128").but(head="sequence")
    with pytest.raises(WrongUsage, match="need the labels of a token head, got none"):
        parse("2x128").but(head="token")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name):
    config = parse(name)
    assert config.hidden % config.heads == 0
    assert (config.positions, config.token_types, config.eps, config.vocabulary) == (512, 2, 1e-12, 30522)
    written = name.partition("-")[2].partition("x")
    if written[1]:                                  # a name that says LxH means it
        assert (str(config.layers), str(config.hidden)) == (written[0], written[2])
    assert config.feed_forward == {"tinybert-4x312": 1200}.get(name, 4 * config.hidden)
    assert config.heads == (12 if config.hidden in (312, 384, 768) else config.hidden // 64)


XLM_R = {"vocabulary": 250002, "positions": 514, "token_types": 1}
ROBERTA = {"vocabulary": 50265, "positions": 514, "token_types": 1}

COUNTS = [                                      # word embeddings, transformer, body without pooler, body with pooler
    ("12x768", {}, 23_440_896, 85_054_464, 108_891_648, 109_482_240),
    ("bert-base", {}, 23_440_896, 85_054_464, 108_891_648, 109_482_240),
    ("6x768", {}, 23_440_896, 42_527_232, 66_364_416, 66_955_008),
    ("tinybert-6x768", {}, 23_440_896, 42_527_232, 66_364_416, 66_955_008),
    ("12x384", {}, 11_720_448, 21_293_568, 33_212_160, 33_360_000),
    ("6x384", {}, 11_720_448, 10_646_784, 22_565_376, 22_713_216),
    ("4x384", {}, 11_720_448, 7_097_856, 19_016_448, 19_164_288),
    ("3x384", {}, 11_720_448, 5_323_392, 17_241_984, 17_389_824),
    ("tinybert-4x312", {}, 9_522_864, 4_568_736, 14_252_592, 14_350_248),
    ("12x768", ROBERTA, 38_603_520, 85_054_464, 124_055_040, 124_645_632),
    ("6x768", ROBERTA, 38_603_520, 42_527_232, 81_527_808, 82_118_400),
    ("12x768", {"vocabulary": 119547}, 91_812_096, 85_054_464, 177_262_848, 177_853_440),
    ("12x768", XLM_R, 192_001_536, 85_054_464, 277_453_056, 278_043_648),
    ("12x384", {"vocabulary": 250037}, 96_014_208, 21_293_568, 117_505_920, 117_653_760),
    ("6x384", {"vocabulary": 250037}, 96_014_208, 10_646_784, 106_859_136, 107_006_976),
]


@pytest.mark.parametrize("size, changes, words, transformer, body, with_pooler", COUNTS)
def test_parameter_counts_of_the_papers(size, changes, words, transformer, body, with_pooler):
    config = parse(size).but(**changes)
    counts = parameter_count(config)
    assert (counts["word embeddings"], counts["transformer"], counts["total"]) == (words, transformer, with_pooler)
    assert parameter_count(config.but(pooler=False))["total"] == body


@pytest.mark.parametrize("size, count", [
    ("turc-tiny", 4_433_468), ("turc-mini", 11_267_900), ("turc-small", 29_058_876), ("turc-medium", 41_668_412),
    ("bert-base", 110_106_428), ("tinybert-4x312", 14_479_676)])
def test_published_checkpoints_are_counted_with_their_pre_training_heads(size, count):
    config = parse(size)
    assert parameter_count(config.but(head="pretraining"))["total"] == count
    assert parameter_count(config.but(head="masked-lm"))["total"] == count - (2 * config.hidden + 2)


@pytest.mark.parametrize("pooler", [True, False])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("size", ["1x8", "3x12x3", "2x10x5"])
def test_the_counts_are_those_of_what_is_built(size, head, pooler):
    config = parse(size).but(vocabulary=37, positions=11, token_types=3, feed_forward=21, head=head, pooler=pooler,
                             labels=("a", "b", "c") if head in ("sequence", "token") else ())
    built = {name: p.array.size for name, p in Bert(config).named_parameters().items()}

    def total(*prefixes):
        return sum(size for name, size in built.items() if name.startswith(prefixes))

    words = total("embeddings.word")
    assert parameter_count(config) == {
        "word embeddings": words, "other embeddings": total("embeddings.") - words, "transformer": total("layers."),
        "pooler": total("pooler."), "head": total("head."), "total": sum(built.values())}


def test_a_config_says_what_it_is_and_changes_by_copy():
    config = BertConfig(2, 8, 2, 16)
    other = config.but(head="sequence", labels=("a", "b"))
    assert (str(other), config.head, other.head) == ("BERT 2x8", "none", "sequence")
    assert other.as_dict()["labels"] == ["a", "b"] and BertConfig(**{**other.as_dict(), "labels": ("a", "b")}) == other


def test_initial_weights_are_drawn_by_name():
    """A matrix gets the same numbers in any model that has one of its name, and never those of another."""
    small, large = Bert(parse("1x8").but(vocabulary=50), seed=3), Bert(parse("2x8").but(vocabulary=50), seed=3)
    for name, weight in small.arrays().items():
        np.testing.assert_array_equal(weight, large.arrays()[name])
    matrices = [w.ravel()[:8].tobytes() for w in large.arrays().values() if w.ndim == 2]
    assert len(set(matrices)) == len(matrices)
    assert abs(large.embeddings.position.weight.array.std() - 0.02) < 0.001
    assert not np.array_equal(small.pooler.weight.array, Bert(small.config, seed=4).pooler.weight.array)
