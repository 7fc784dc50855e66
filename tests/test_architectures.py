"""Every architecture by name: what a size means, the counts of the papers, and that each one builds and trains."""

import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tinydistill import architectures, cli, hub
from tinydistill.errors import WrongUsage
from tinydistill.features import Batch, Needs, Pass
from tinydistill.students.architecture import COUNTED, counted
from tinydistill.students.configs import CLASSIFIERS
from tinydistill.tensor import gradients

LABELS = ("no", "yes")
PAPERS = {                                          # total as the paper counts it: methods/a.md 9.1, methods/b.md
    "bert-base": 109_482_240, "tinybert-4x312": 14_479_676, "tinybert-6x768": 66_955_008,
    "minilm-12x384": 33_014_016, "minilm-6x384": 22_367_232, "minilm-4x384": 18_818_304, "minilm-3x384": 17_043_840,
    "pkd-3": 45_691_392, "pkd-6": 66_955_008, "turc-tiny": 4_433_468, "turc-mini": 11_267_900, "turc-small": 29_058_876,
    "turc-medium": 41_668_412, "turc-base": 110_106_428, "distilbert": 66_362_880, "distilbert-cased": 65_190_912,
    "distilbert-multilingual": 134_734_080, "mobilebert": 24_581_888, "mobilebert-tiny": 15_485_696,
    "ib-bert-large": 294_205_184, "squeezebert": 51_089_664, "bilstm": 963_002, "bilstm-rand": 603_002,
    "bilstm-large": 2_406_002, "adapterbert": 2_419_202, "bertvision": 524_418, "roberta-base": 124_645_632,
    "distilroberta": 82_118_400, "xlm-r-base": 278_043_648}


@pytest.mark.parametrize("name, count", PAPERS.items())
def test_the_counts_of_the_papers(name, count):
    """From the configuration alone: nothing is built."""
    assert architectures.paper_count(name) == count


def test_the_ratio_of_bert_vision_is_that_of_its_head_alone():
    sequence = architectures.parse("bert-base").but(head="sequence", labels=LABELS)
    assert round(architectures.parameter_count(sequence)["total"] / architectures.paper_count("bertvision"), 2) == 208.77


def test_students_lists_every_size_with_paper_and_counts(capsys):
    assert cli.main(["students", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["student"] for row in rows] == list(architectures.SIZES)
    for row in rows:
        config, paper, rule = architectures.SIZES[row["student"]]
        assert row["paper"] == paper and row["counted"] == rule and rule in COUNTED
        assert row["parameters"] == architectures.parameter_count(config)["total"] > 0
        assert row["counted_as_published"] == architectures.paper_count(row["student"]) > 0
        assert cli.main(["params", row["student"], "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["parts"]["total"] == row["parameters"] and found["forward_flops"] > 0
        assert found["counted_as_published"] == row["counted_as_published"]


@pytest.mark.parametrize("size, reason", [
    ("squeezebert-2", "got 'squeezebert-2'"), ("-2x64", "got '-2x64'"), ("nothing-2x64", "got 'nothing-2x64'"),
    ("squeezebert-2x66x4", "need a hidden size that the heads divide: 66 hidden, 4 heads"), ("bilstm-2x64", "need a BiLSTM of one layer")])
def test_a_size_that_is_none_is_one_line(size, reason):
    with pytest.raises(WrongUsage, match=reason):
        architectures.parse(size)


# ---------------------------------------------------------------- small ones, built

def small(prefix, layers, hidden, heads, head):
    """A small relative of an architecture with this head, or the first that it knows."""
    config = architectures.SIZED[prefix](1 if prefix == "bilstm" else layers, hidden, heads)
    head = head if head in config.heads_known else config.heads_known[-1]
    config = architectures.fitted(config, vocabulary=41, initial_std=0.1, length=9)
    if "positions" in config.as_dict():
        config = config.but(positions=config.positions - config.longest + 9)
    pooled = {"pooler": True} if head in config.read_pooled else {}
    return config.but(head=head, labels=LABELS if head in CLASSIFIERS else (), **pooled)


@settings(max_examples=40, deadline=None)
@given(prefix=st.sampled_from(sorted(architectures.SIZED)), layers=st.integers(1, 3), width=st.integers(2, 4),
       heads=st.sampled_from([1, 2, 4]), head=st.sampled_from(["masked-lm", "sequence", "token", "span", "none"]),
       seed=st.integers(0, 9))
def test_any_small_one_is_counted_built_run_and_comes_back(tmp_path_factory, prefix, layers, width, heads, head, seed):
    config = small(prefix, layers, 8 * width * heads, heads, head)
    model = architectures.build(config, seed)
    assert architectures.parameter_count(config)["total"] == sum(p.array.size for p in model.parameters())
    mask = np.arange(9) < np.array([9, 5])[:, None]
    ids = np.where(mask, np.random.default_rng(seed).integers(3, 41, (2, 9)), config.pad_id)
    batch = Batch(ids=ids, mask=mask, rows=np.arange(2))
    needs = Needs.of(logits=True) if config.head != "none" else Needs.of(
        **({"hidden": [-1]} if "hidden" in config.features else {}))
    features = model(batch, Pass(needs, training=True, rows=batch.rows))
    read = features.logits if config.head != "none" else features.hidden[-1] if needs.wanted else None
    if read is not None:
        assert np.isfinite(read.array).all()
        found = gradients((read * read).sum(), model.parameters())
        assert any(gradient is not None for gradient in found)
    directory = tmp_path_factory.mktemp("model")
    hub.write(model, directory)
    again = hub.read(directory, head=config.head, labels=config.labels)
    if not hasattr(model, "stored"):                # a quantised one comes back in its integers
        arrays = again.arrays()
        assert all(x.tobytes() == arrays[name].tobytes() for name, x in model.arrays().items() if name in arrays)
        assert {name for name in model.arrays() if name not in arrays} <= {"pooler.weight", "pooler.bias"}


def test_counting_rules_name_parts_that_there_are():
    for name, size in architectures.SIZES.items():
        assert counted(architectures.of(size.config).parameter_count, size.config, size.counted) > 0, name


def test_what_is_fitted_is_what_there_is_a_field_and_a_use_for():
    """A BERT takes token types; a DistilBERT, which has none, stays so; a BiLSTM has no such field."""
    wanted = {"token_types": 3, "vocabulary": 50, "initial_std": 0.3, "nothing": 7}
    bert, distilbert, bilstm = (architectures.fitted(architectures.parse(size), **wanted)
                                for size in ("2x64", "distilbert-2x64", "bilstm-1x64"))
    assert (bert.token_types, bert.vocabulary, bert.initial_std) == (3, 50, 0.3)
    assert (distilbert.token_types, distilbert.vocabulary, distilbert.initial_std) == (0, 50, 0.3)
    assert bilstm.vocabulary == 50 and "token_types" not in bilstm.as_dict()


def test_a_model_is_built_from_its_seed():
    config = architectures.parse("1x8").but(vocabulary=9, positions=4)
    arrays = [architectures.build(config, *seed).arrays()["embeddings.word.weight"] for seed in ((), (0,), (1,), (None,))]
    np.testing.assert_array_equal(arrays[0], arrays[1])
    assert (arrays[0] != arrays[2]).any() and not arrays[3].any()
