"""What a step of training is made of: gradients in shards, and the optimiser behind them; and evaluation."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import strict_device
from gradcheck import assert_within
from tinydistill.backend import to_host
from tinydistill.data.batches import Batches
from tinydistill.errors import Problem
from tinydistill.features import IGNORED
from tinydistill.losses import hard_labels, minilm
from tinydistill.methods.bert import pretrain
from tinydistill.methods.stage import Stage
from tinydistill.training import evaluation
from tinydistill.training.optimizers import AdamW, clipped, global_norm
from tinydistill.training.step import batch_gradient
from toys import MINILM, RECIPE, VOCABULARY, assert_all_within, batch_at, masked_batch_at, pair, toy

# ---------------------------------------------------------------- one step

def gradient_of_step(stage, batch, shards=1, executor=None, models=None):
    student, teacher = models or pair(head="masked-lm" if stage is pretrain else "none")
    return batch_gradient(student, teacher if stage is MINILM else None, stage, batch, student.named_parameters(),
                          seed=3, step=7, shards=shards, executor=executor)[:2]


@pytest.mark.parametrize("shards", [2, 3, 5, 9])
@pytest.mark.parametrize("stage, batch", [(MINILM, batch_at(0)), (pretrain, masked_batch_at(0))], ids=["minilm", "mlm"])
def test_shards_give_the_whole_batchs_values_and_gradient_with_dropout(stage, batch, shards):
    values, gradients = gradient_of_step(stage, batch)
    sharded_values, sharded = gradient_of_step(stage, batch, shards)
    assert_all_within(sharded_values, values, 1e-13)
    assert_all_within(sharded, gradients, 1e-12)
    without_dropout = gradient_of_step(stage, batch, models=pair(dropout=0.0, attention_dropout=0.0, head=(
        "masked-lm" if stage is pretrain else "none")))[0]
    assert all(abs(values[name] - without_dropout[name]) > 1e-3 * values[name] for name in values)


def test_the_gradient_is_that_of_the_weighted_sum_of_the_terms():
    def gradient_of(*terms):
        student, teacher = pair()
        return batch_gradient(student, teacher, Stage("weighted", terms, {}), batch_at(0), student.named_parameters(),
                              seed=0, step=0, shards=2)[:2]

    values, found = gradient_of((2.0, minilm.attention), (0.5, minilm.value_relation))
    (at, by_at), (vr, by_vr) = gradient_of((1.0, minilm.attention)), gradient_of((1.0, minilm.value_relation))
    assert values == at | vr                        # terms are reported without their weights
    parts = {name: [w * by[name] for w, by in ((2.0, by_at), (0.5, by_vr)) if by[name] is not None] for name in by_at}
    assert_all_within(found, {name: sum(part) if part else None for name, part in parts.items()}, 1e-13)
    last = "layers.1.attention."                    # what a term does not read is not reached: None, not zero
    assert by_at[last + "value.weight"] is by_vr[last + "query.weight"] is by_vr[last + "key.bias"] is None
    assert by_at[last + "query.weight"].any() and by_vr[last + "value.weight"].any()


def test_threads_change_no_bit():
    values, gradients = gradient_of_step(MINILM, batch_at(1), shards=4)
    for threads in (1, 2, 4):
        with ThreadPoolExecutor(threads) as executor:
            again_values, again = gradient_of_step(MINILM, batch_at(1), shards=4, executor=executor)
        assert again_values == values
        assert all((again[name] == g).all() for name, g in gradients.items() if g is not None)


def test_gradients_reach_the_queries_keys_and_values_of_the_last_layer_and_all_below():
    _, gradients = gradient_of_step(MINILM, batch_at(2))
    unreached = [f"layers.1.{part}.{kind}" for part in ("attention.output", "attention_norm", "feed_forward.inner",
                                                        "feed_forward.outer", "feed_forward_norm")
                 for kind in ("weight", "bias")] + ["pooler.weight", "pooler.bias"]
    assert [name for name, g in gradients.items() if g is None] == unreached
    assert all(np.abs(g).max() > 1e-6 for name, g in gradients.items()
               if g is not None and not name.endswith("key.bias"))      # the same for every key: softmax forgets it


def test_a_step_on_a_device_equals_numpys_and_the_host_never_waits(strict_cupy):
    def step(xp):
        student, teacher = (model.to(xp) for model in pair())
        optimizer = AdamW(student.named_parameters(), RECIPE)
        with strict_device.no_sync():
            values, gradients = gradient_of_step(MINILM, batch_at(3), shards=2, models=(student, teacher))
            norm = global_norm(gradients)
            optimizer.update(clipped(gradients, norm, RECIPE.clip), 0.1)
        moments, counts = optimizer.state()
        return {"norm": to_host(norm)} | {k: to_host(v) for k, v in values.items()}, student.arrays(), moments, counts

    for got, want in zip(step(strict_cupy)[:3], step(np)[:3]):
        assert_all_within(got, want, 1e-12)


# ---------------------------------------------------------------- evaluation

@pytest.mark.parametrize("head", ["sequence", "token"])
def test_logits_come_in_the_order_of_the_rows_whatever_the_batches(head, xp):
    model = toy(8, 2, 4, head=head, labels=("a", "b", "c")).to(xp)
    rng = np.random.default_rng(5)
    rows = [rng.integers(0, VOCABULARY, length) for length in (3, 6, 1, 2, 6, 4, 5)]
    found = evaluation.logits(model, Batches(rows, batch_size=3, seed=0))
    for row, scores in zip(rows, found, strict=True):
        (alone,) = evaluation.logits(model, Batches([row], batch_size=1, seed=0))
        assert scores.shape == ((3,) if head == "sequence" else (len(row), 3))
        assert_within(scores, alone, 1e-13 * np.abs(alone).max())      # no dropout, no padding, its own row


def test_mean_terms_are_those_of_one_batch_that_holds_all_rows():
    student, teacher = pair(head="masked-lm", dropout=0.0, attention_dropout=0.0)
    terms = [minilm.attention, minilm.value_relation, hard_labels.masked_lm]
    labels = masked_batch_at(4).labels
    labels[0] = IGNORED                             # the first batch below has no label at all
    whole = replace(masked_batch_at(4), labels=labels, positions=np.flatnonzero(labels != IGNORED))
    together = Stage("all", tuple((1.0, term) for term in terms), {})
    want, *_ = batch_gradient(student, teacher, together, whole, student.named_parameters(), seed=0, step=0, shards=1)
    assert_all_within(evaluation.mean_terms(student, teacher, terms, whole.split(5)), want, 1e-13)
    assert all(value > 1e-3 for value in want.values())
    with pytest.raises(Problem, match="need rows on which masked_lm can be measured; there is nothing to count"):
        evaluation.mean_terms(student, teacher, terms, whole.split(5)[:1])


def test_probabilities_are_the_softmax_of_any_scores():
    p = evaluation.probabilities(np.array([[0.0, np.log(3.0)], [1e4, 1e4 - np.log(4.0)], [-1e4, 1e4]]))
    assert_within(p, np.array([[0.25, 0.75], [0.8, 0.2], [0.0, 1.0]]), 1e-12)     # 1e4 - log 4 is rounded
