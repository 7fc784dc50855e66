"""Q8BERT as integers: exact products, a quarter of the bytes, and the same model out of the file as went in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import strict_device
from gradcheck import assert_close64, assert_within
from oracle import q8bert as oracle
from small_bert import draw_batch, everything, flat
from small_q8bert import build, with_ranges
from tinydistill import kernels, no_grad
from tinydistill.backend import to_host
from tinydistill.compress.q8bert import Int8Bert, Q8Bert, Q8BertConfig, quantised
from tinydistill.errors import Problem
from tinydistill.features import Batch, Needs, Pass
from tinydistill.kernels.integer_linear import EXACT
from tinydistill.students.bert import Bert
from tinydistill.students.configs import BertConfig
from tinydistill_reference import q8bert as printed

HEADS = ("none", "masked-lm", "sequence", "token")
every_head = pytest.mark.parametrize("head", HEADS)
both_sets = pytest.mark.parametrize("kernel", [kernels.plain, kernels.fused_numpy], ids=["plain", "fused"])
rng = np.random.default_rng(0)


def trained(head="none", **settings):
    """(a model with ranges that clamp, a batch for it)."""
    batch = draw_batch(head)
    model = build(head, **settings)
    return (with_ranges(model, batch, 0.7) if model.config.mode == "ema" else model), batch


# ---------------------------------------------------------------- products

def product(kernel, x, weight, bias, largest, dtype=np.float64):
    """The map of integers by a kernel, the weight quantised first."""
    r = np.abs(weight).max()
    codes = kernel.levels(weight, r, 8).astype(np.int8)
    return kernel.integer_linear(x.astype(dtype), np.asarray(largest, dtype), codes, np.asarray(r / 127, dtype),
                                 None if bias is None else bias.astype(dtype), 8)


@both_sets
def test_a_map_is_that_of_pythons_integers(kernel):
    x, weight, bias = rng.standard_normal((4, 6)), rng.standard_normal((3, 6)), rng.standard_normal(3)
    y = product(kernel, x, weight, bias, 1.3)
    assert_close64(y, printed.linear_in_integers(x, weight, bias, 1.3))
    unit = 1.3 / 127 * np.abs(weight).max() / 127
    assert_within(y, printed.linear(x, weight, bias, 1.3), unit / 2 * (1 + 1e-9), "beside floating biases")
    assert_close64(product(kernel, x, weight, None, 1.3), printed.linear(x, weight, 0 * bias, 1.3))


@both_sets
@pytest.mark.parametrize("columns", [EXACT - 1, EXACT, EXACT + 1, 2 * EXACT + 1, 3072])
def test_the_largest_sums_are_exact(kernel, columns):
    """All 127, where every float32 sum is as large as it can be, and random signs."""
    assert EXACT * 127 ** 2 < 2 ** 24 < (EXACT + 1) * 127 ** 2
    one = np.array(127.0, np.float32)
    for x, w in ((np.full((2, columns), 127), np.full((3, columns), 127)),
                 (rng.integers(-127, 128, (5, columns)), rng.integers(-127, 128, (3, columns)))):
        y = kernel.integer_linear(x.astype(np.float64), one.astype(float), w.astype(np.int8), np.array(1.0), None, 8)
        np.testing.assert_array_equal(y, x.astype(np.int64) @ w.T.astype(np.int64))
        y = kernel.integer_linear(x.astype(np.float32), one, w.astype(np.int8), np.array(1.0, np.float32), None, 8)
        np.testing.assert_array_equal(y, (x.astype(np.int64) @ w.T.astype(np.int64)).astype(np.float32))


@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 5), st.integers(2, 8), st.integers(0, 99))
def test_both_kernels_give_the_same_integers(rows, columns, outputs, bits, seed):
    random = np.random.default_rng(seed)
    x, weight = random.standard_normal((rows, columns)), random.integers(-127, 128, (outputs, columns)).astype(np.int8)
    given_ = x, np.array(0.8), weight, np.array(0.01), random.standard_normal(outputs), bits
    np.testing.assert_array_equal(kernels.plain.integer_linear(*given_), kernels.fused_numpy.integer_linear(*given_))


@both_sets
def test_a_bias_too_large_for_its_scale_is_held_and_zeros_give_the_bias(kernel):
    weight, bias = np.array([[3, -3]], np.int8), np.array([1e9])
    y = kernel.integer_linear(np.ones((1, 2)), np.array(127e-3), weight, np.array(1e-3), bias, 8)
    assert_close64(y, np.array([[2.0 ** 30 * 1e-6]]))
    y = kernel.integer_linear(np.zeros((1, 2)), np.array(0.0), weight, np.array(1.0), np.array([1e-14]), 8)
    assert_within(y, np.array([[1e-14]]), 1e-20 / 127)


# ---------------------------------------------------------------- the model

@pytest.mark.parametrize("settings", [{}, {"mode": "dynamic", "requantise_output": False},
                                      {"requantise_output": False}, {"activation_bits": 5}], ids=str)
@every_head
def test_every_feature_is_that_of_64_bit_integers_in_pytorch(head, settings):
    """Not an output by a range of its own: n of m levels may be a half exactly, and the last bit decides."""
    model, batch = trained(head, **settings)
    found = flat(model.int8()(batch, Pass(needs=everything(model.config))))
    truth = oracle.features(model, batch, model.state, int8=True)[0]
    assert found.keys() == truth.keys()
    for place, x in found.items():
        assert_close64(x.array, truth[place], str(place))


@pytest.mark.parametrize("choice", ["plain", "fused"])
def test_without_biases_it_is_the_fake_quantised_model(choice):
    """Biases in 32 bits are all that distinguishes the two."""
    model, batch = trained("sequence")
    for name, part in model.named_modules():
        if hasattr(part, "place") and hasattr(part, "bias"):
            part.bias.array = 0 * part.bias.array
    run = Pass(needs=everything(model.config))
    with kernels.use(choice):
        truth = flat(model(batch, run))
        for place, x in flat(model.int8()(batch, run)).items():
            assert_close64(x.array, truth[place].array, str(place))


def test_it_only_infers():
    model, batch = trained()
    integers = model.int8()
    with pytest.raises(Problem, match="^an int8 Q8BERT 3x12 only infers: train the Q8BERT that it was stored from$"):
        integers(batch, Pass(needs=Needs.of(hidden=[0]), training=True))
    assert type(integers) is Int8Bert and integers.int8() is integers
    with no_grad():
        assert not integers(batch, Pass(needs=Needs.of(hidden=[0]))).hidden[0].requires_grad


def test_the_device_computes_the_same_and_the_host_never_waits(strict_cupy):
    for head in HEADS:
        model, batch = trained(head)
        run, there = Pass(needs=everything(model.config)), trained(head)[0].int8().to(strict_cupy)
        moved = batch.to(strict_cupy)
        with kernels.use("plain"):
            truth = flat(model.int8()(batch, run))
        with strict_device.no_sync():
            found = flat(there(moved, run))
        for place, x in truth.items():
            assert_close64(to_host(found[place].array), x.array, str(place))


def test_it_moves_between_dtypes_and_its_weights_stay_int8():
    model, _ = trained(dtype=np.float32)
    integers, before = model.int8(), model.int8().stored()
    wide = integers.to(np, np.float64).stored()
    for name, array in before.items():
        assert array.dtype in (np.int8, np.float32) and wide[name].dtype == (
            np.int8 if array.dtype == np.int8 else np.float64)
        np.testing.assert_array_equal(array, wide[name])


# ---------------------------------------------------------------- files

def test_what_is_stored():
    model, _ = trained("sequence", dtype=np.float32)
    stored, plain = model.stored(), model.arrays()
    codes = {name for name, array in stored.items() if array.dtype == np.int8}
    assert {name for name in plain if plain[name].ndim == 2 and not name.startswith("head.")} == codes
    assert stored.keys() == plain.keys() | {name.replace("weight", "step") for name in codes} | {
        f"state.{site}" for site in model.state}
    for name in codes:
        step = stored[name.replace("weight", "step")]
        assert step.shape == () and step.dtype == np.float32 and np.abs(stored[name]).max() == 127
        r = np.abs(plain[name]).max()
        np.testing.assert_array_equal(stored[name], printed.levels(plain[name].astype(float), r))
        assert_within(stored[name] * step, plain[name], step / 2 * 1.00001, name)
    for name in plain.keys() - codes:
        np.testing.assert_array_equal(stored[name], plain[name])


@every_head
def test_out_of_the_file_comes_what_went_in(tmp_path, head):
    for settings in ({}, {"mode": "dynamic"}, {"dtype": np.float32}, {"weight_bits": 3}):
        model, batch = trained(head, **settings)
        save_file(model.stored(), tmp_path / "model.safetensors")
        again = Q8Bert.from_stored(Q8BertConfig(**model.config.as_dict()), load_file(tmp_path / "model.safetensors"))
        run = Pass(needs=everything(model.config))
        for place, x in flat(model.int8()(batch, run)).items():
            np.testing.assert_array_equal(flat(again(batch, run))[place].array, x.array)
        for name, array in again.stored().items():
            np.testing.assert_array_equal(array, model.stored()[name])
            assert array.dtype == model.stored()[name].dtype


def test_a_file_of_integers_is_at_most_27_hundredths_of_one_of_float32(tmp_path):
    config = BertConfig(2, 128, 2, 512, vocabulary=3000, positions=128, head="sequence", labels=("a", "b"))
    model = Bert(config)
    batch = Batch(rng.integers(0, 3000, (2, 16)), np.ones((2, 16), bool), rows=np.arange(2))
    small = with_ranges(quantised(model), batch)
    save_file(model.arrays(), tmp_path / "float32.safetensors")
    save_file(small.stored(), tmp_path / "int8.safetensors")
    large, size = ((tmp_path / f"{name}.safetensors").stat().st_size for name in ("float32", "int8"))
    print(f"{size:,} of {large:,} bytes: {size / large:.4f}")
    assert 0.25 < size / large <= 0.27
    with no_grad():
        run = Pass(needs=Needs.of(logits=True))
        truth, found = (one(batch, run).logits.array for one in (model, small.int8()))
    assert np.abs(found - truth).max() < 0.05 * np.abs(truth).max()


def damaged(stored, name):
    """(changed arrays, what the line says)."""
    site, weight = "state.pooler.input", "layers.0.attention.query.weight"
    return {
        "a range too many": (stored | {"state.roof.input": stored[site]},
                             r"the ranges do not fit this model: roof.input \(\) has no place in it"),
        "a range of two": (stored | {site: np.ones(2)},
                           r"the ranges do not fit this model: pooler.input \(2,\) has no place in it"),
        "a weight floating": (stored | {weight: stored[weight].astype(np.float32)},
                              f"the weights do not fit this model: {weight} needs int8, got float32"),
        "a norm of integers": (stored | {"layers.0.attention_norm.weight": np.ones(12, np.int8)},
                               "the weights do not fit this model: layers.0.attention_norm.weight needs .*, got int8"),
        "a step missing": ({n: a for n, a in stored.items() if n != "pooler.step"},
                           r"the weights do not fit this model: missing \['pooler.step'\], unexpected none"),
        "another shape": (stored | {weight: stored[weight][:5]}, f"{weight} needs shape .12, 12., got .5, 12."),
    }[name]


@pytest.mark.parametrize("name", ["a range of two", "a range too many", "a weight floating", "a norm of integers",
                                  "a step missing", "another shape"])
def test_arrays_that_do_not_fit_are_named(name):
    model, _ = trained()
    arrays, line = damaged(model.stored(), name)
    with pytest.raises(Problem, match=line):
        Q8Bert.from_stored(model.config, arrays)


def test_what_needs_no_range_has_none_in_the_file():
    """A pass that never reads the pooler teaches it no range; there is none in "dynamic" mode."""
    batch, model = draw_batch("token"), build("token")
    model.learn(model(batch, Pass(needs=Needs.of(logits=True), training=True)).observed)
    stored = model.stored()
    assert {name for name in stored if name.startswith("state.")} == {
        f"state.{site}" for site in model.sites() if not site.startswith("pooler")}
    again, run = Q8Bert.from_stored(model.config, stored), Pass(needs=everything(model.config))
    assert again.state.keys() == model.state.keys()
    for place, x in flat(model.int8()(batch, run)).items():
        np.testing.assert_array_equal(flat(again(batch, run))[place].array, x.array)
    with pytest.raises(Problem, match="the ranges do not fit this model: .*has no place in it"):
        Q8Bert.from_stored(model.config.but(mode="dynamic"), stored)
