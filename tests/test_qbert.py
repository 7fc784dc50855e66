"""Q-BERT: groups rounded as printed, a BERT with few bits, what it is stored as, and which layers need more of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import small_bert
import student_checks as check
from gradcheck import C, UNIT, assert_close64, assert_within
from oracle import qbert as oracle
from small_bert import draw_batch, everything, flat
from small_q8bert import build as build_quantised
from small_q8bert import check_against_oracle, with_ranges
from strategies import arrays
from tinydistill import Tensor, gradients, kernels, ops
from tinydistill.compress import qbert
from tinydistill.compress.qbert import (QBert, QBertConfig, allocate, hessian_vector, packed, quantised, sensitivity,
                                        top_eigenvalue, unpacked)
from tinydistill.errors import Problem, WrongUsage
from tinydistill.features import Needs, Pass
from tinydistill_reference import qbert as printed

HEADS = ("none", "masked-lm", "sequence", "token")
every_head = pytest.mark.parametrize("head", HEADS)
rng = np.random.default_rng(0)


def build(head="none", seed=0, **settings):
    """Four neurons a group where nothing else is said: 12 and 20 are the widths."""
    return build_quantised(head, seed, quantised, **{"groups": 2} | settings)


def fake(weight, groups, bits):
    return ops.fake_quantise_groups(weight, groups=groups, bits=bits).array


# ---------------------------------------------------------------- rounding

def test_golden_values():
    """Of 2 bits, in two groups and in one."""
    W = np.sin(0.7 * np.arange(12) + 0.2).reshape(4, 3)
    two = [-0.020032892925, 0.999573603042, 0.999573603042, 0.999573603042, -0.020032892925, -0.529836140908,
           -0.95160207389, -0.95160207389, -0.301420935313, 0.348760203263, 0.99894134184, 0.99894134184]
    one = [0.349181710731, 0.999573603042, 0.999573603042, 0.999573603042, 0.349181710731, -0.301210181579,
           -0.95160207389, -0.95160207389, -0.301210181579, 0.349181710731, 0.999573603042, 0.999573603042]
    np.testing.assert_allclose(fake(W, 2, 2).ravel(), two, rtol=1e-10)
    np.testing.assert_allclose(fake(W, 1, 2).ravel(), one, rtol=1e-10)


@pytest.mark.parametrize("choice", ["fused", "plain"])
@given(x=arrays(shape=(6, 5), scales=(1e-4, 1.0, 1e2), offsets=(0.0, 1.0), nasty=("zero", "minus zero", "large")),
       groups=st.sampled_from([1, 2, 3, 6]), bits=st.integers(1, 8))
def test_every_group_is_rounded_as_printed(choice, x, groups, bits):
    with kernels.use(choice):
        y = fake(x, groups, bits)
        assert_close64(y, printed.fake(x, groups, bits))
        grouped, rounded = x.reshape(groups, -1), y.reshape(groups, -1)
        np.testing.assert_allclose(rounded.min(axis=1), grouped.min(axis=1), rtol=1e-12, atol=1e-300)
        np.testing.assert_allclose(rounded.max(axis=1), grouped.max(axis=1), rtol=1e-9, atol=1e-12 * np.abs(x).max())
        step = np.ptp(grouped, axis=1, keepdims=True) / (2 ** bits - 1)
        assert (np.abs(rounded - grouped) <= step / 2 * (1 + 1e-9) + 1e-15 * np.abs(x).max()).all()
        np.testing.assert_allclose(fake(y, groups, bits), y, rtol=1e-12, atol=1e-12 * np.abs(x).max())
        for row in rounded:
            assert len(np.unique(row)) <= 2 ** bits


def test_one_number_is_left_as_it_is_and_groups_divide_the_rows():
    for value in (0.0, -3.7, 1e-30):
        np.testing.assert_array_equal(fake(np.full((4, 3), value), 2, 4), np.full((4, 3), value))
    with pytest.raises(ValueError, match=r"^need rows that 2 groups divide, got \(5, 3\)$"):
        fake(rng.standard_normal((5, 3)), 2, 4)


def test_the_gradient_is_the_complex_step_straight_through_of_the_printed_groups():
    W, direction, upstream = rng.standard_normal((3, 4, 3))
    tensor = Tensor(W, requires_grad=True)
    found, = gradients((ops.fake_quantise_groups(tensor, groups=2, bits=3) * upstream).sum(), [tensor])
    exact = (printed.fake(W + 1j * 1e-40 * direction, 2, 3) * upstream).sum().imag / 1e-40
    assert abs((found * direction).sum() - exact) <= C * UNIT * np.abs(found * direction).sum() and abs(exact) > 1e-3


# ---------------------------------------------------------------- the model

@pytest.mark.parametrize("settings", [{}, {"layer_bits": (2, 8, 3)}, {"groups": 4, "mode": "dynamic"}], ids=str)
@every_head
def test_features_and_gradients_are_those_of_the_equations_in_pytorch(head, settings):
    batch, model = draw_batch(head), build(head, **settings)
    check_against_oracle(model, batch)
    if model.config.mode == "ema":
        check_against_oracle(with_ranges(model, batch, 0.5), batch)


def test_each_layer_has_its_bits_and_the_rest_eight():
    model = build("sequence", layer_bits=[2, 8, 3])
    bits = {name: part.bits for name, part in model.named_modules() if isinstance(part, qbert.QuantisedLinear)}
    assert {name.split(".")[1]: b for name, b in bits.items() if name != "pooler"} == {"0": 2, "1": 8, "2": 3}
    assert bits["pooler"] == 8 == model.embeddings.word.bits
    grouped = [name for name, part in model.named_modules() if isinstance(part, qbert.GroupedQuantisedLinear)]
    assert grouped == [name for name in bits if name != "pooler"] and len(grouped) == 18
    values = model.layers[0].attention.key.quantised_weight().array
    assert len(np.unique(values[:6])) <= 4 and len(np.unique(values)) > 4


def test_counts_padding_dtypes_and_device(strict_cupy):
    for head in HEADS:
        model, batch = build(head), draw_batch(head)
        check.check_counts(model, qbert.parameter_count)
        check.check_padding(model, head)
        check.check_device(build(head), batch, strict_cupy)
        check.check_float32_stays(build(head, dtype=np.float32), batch)
    check.check_shards(with_ranges(build("token"), draw_batch("token")), "token", 2)


def test_a_config_says_what_it_is():
    config = QBertConfig(12, 768, 12, 3072)
    assert (str(config), config.model_type, config.layer_bits, config.weight_bits, config.activation_bits) == (
        "Q-BERT 12x768", "qbert", 4, 8, 8)
    assert config.groups_each == 24 and 768 // config.groups_each == 32                 # d/2A output neurons
    assert config.bits_by_layer == (4,) * 12 and config.but(groups=128).groups_each == 128
    mixed = config.but(layers=2, layer_bits=[2, 3], head="sequence", labels=["a"])
    assert mixed.bits_by_layer == mixed.layer_bits == (2, 3) and QBertConfig(**mixed.as_dict()) == mixed


@pytest.mark.parametrize("changes, text", [
    ({"layer_bits": (2, 3)}, r"need layer_bits from 1 to 8, one number or one for each of 3 layers; got \(2, 3\)"),
    ({"layer_bits": 9}, "need layer_bits from 1 to 8, one number or one for each of 3 layers; got 9"),
    ({"groups": 5}, "need groups that divide 12 and 24 neurons, got 5"),
    ({"groups": 8}, "need groups that divide 12 and 24 neurons, got 8"),
    ({"mode": "static"}, "need a mode out of ema, dynamic; got 'static'")])
def test_a_quantisation_that_cannot_be_is_refused(changes, text):
    with pytest.raises(WrongUsage, match=f"^{text}$"):
        QBertConfig(3, 12, 3, 24).but(**changes)


# ---------------------------------------------------------------- files

@given(st.integers(1, 8), st.integers(0, 50), st.integers(0, 99))
def test_numbers_are_packed_without_gaps(bits, count, seed):
    codes = np.random.default_rng(seed).integers(0, 2 ** bits, count).astype(np.uint8)
    stored = packed(codes, bits)
    assert stored.dtype == np.uint8 and stored.shape == (-(-count * bits // 8),)
    np.testing.assert_array_equal(unpacked(stored, bits, count), codes)
    assert "".join(f"{byte:08b}" for byte in stored)[:count * bits] == "".join(f"{c:0{bits}b}" for c in codes)


@every_head
def test_out_of_the_file_comes_what_went_in(tmp_path, head):
    """The same levels; the numbers up to the last bit of a group's step."""
    odd = {"hidden": 5, "heads": 1, "feed_forward": 5}                  # 75 bits are ten bytes
    for settings in ({"layer_bits": (1, 3, 8)}, {"mode": "dynamic"}, {"dtype": np.float32},
                     {"layer_bits": 3, "groups": 1, "changes": odd}):
        model, batch = build(head, **settings), draw_batch(head)
        if model.config.mode == "ema":
            with_ranges(model, batch)
        save_file(model.stored(), tmp_path / "model.safetensors")
        again = QBert.from_stored(QBertConfig(**model.config.as_dict()), load_file(tmp_path / "model.safetensors"))
        assert type(again) is QBert and again.parameters()[0].dtype == model.parameters()[0].dtype
        for (name, one), (_, two) in zip(model._parts(), again._parts(), strict=True):
            weight = getattr(one, "quantised_weight", getattr(one, "table", None))().array
            unit = np.finfo(weight.dtype).eps * np.abs(weight).max()
            assert_within(two.weight.array, weight, 4 * unit, name)
            assert_within(getattr(two, "quantised_weight", getattr(two, "table", None))().array, weight, 8 * unit, name)
        for name, array in again.stored().items():
            if array.dtype.kind in "iu":
                np.testing.assert_array_equal(array, model.stored()[name], err_msg=name)
        assert again.state.keys() == model.state.keys()
        if settings.get("dtype") is None:
            run = Pass(needs=everything(model.config))
            for place, x in flat(model(batch, run)).items():
                assert_close64(flat(again(batch, run))[place].array, x.array, str(place))


def test_a_layer_takes_its_bits_and_little_more():
    config = QBertConfig(2, 64, 2, 256, vocabulary=50, positions=16, layer_bits=(2, 4), pooler=False)
    stored = QBert(config).stored()
    numbers = 12 * 64 * 64
    for l, bits in enumerate(config.layer_bits):
        held = {name: array for name, array in stored.items() if name.startswith(f"layers.{l}.")}
        assert sum(array.nbytes for name, array in held.items() if array.dtype == np.uint8) == numbers * bits // 8
        ranges = sum(array.nbytes for name, array in held.items() if name.endswith((".lowest", ".step")))
        assert ranges == 6 * 4 * 2 * 4              # maps, groups, lowest and step, bytes


@pytest.mark.parametrize("name, change, line", [
    ("layers.0.attention.query.lowest", None, "missing layers.0.attention.query.lowest"),
    ("layers.0.attention.query.weight", lambda a: a[:-1], r"query.weight needs uint8 \(72,\), got uint8 \(71,\)"),
    ("layers.0.attention.query.weight", lambda a: a.astype(np.float32), r"needs uint8 \(72,\), got float32 \(72,\)"),
    ("layers.0.attention.query.step", lambda a: a[:1], r"query.step needs float64 \(2, 1\), got float64 \(1, 1\)"),
    ("pooler.step", lambda a: a.astype(np.float32), r"pooler.step needs float64 \(\), got float32 \(\)"),
    ("embeddings.norm.weight", None, "embeddings.norm.weight needs float32 or float64, is missing"),
    ("embeddings.norm.weight", lambda a: a.astype(int), "needs float32 or float64, got int64"),
    ("pooler.weight", lambda a: a.astype(np.float32), r"pooler.weight needs int8 \(12, 12\), got float32 \(12, 12\)"),
    ("layers.1.attention_norm.weight", None, r"missing \['layers.1.attention_norm.weight'\], unexpected none"),
    ("state.pooler.output", lambda a: np.ones(3), r"the ranges do not fit .* pooler.output \(3,\) has no place in it")])
def test_arrays_that_do_not_fit_are_named(name, change, line):
    model = with_ranges(build(), draw_batch())
    stored = model.stored()
    array = stored.pop(name)
    with pytest.raises(Problem, match=line):
        QBert.from_stored(model.config, stored | ({name: change(array)} if change else {}))


# ---------------------------------------------------------------- sensitivity

def symmetric(eigenvalues, seed=0):
    Q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(eigenvalues),) * 2))
    return Q @ np.diag(eigenvalues) @ Q.T


def test_a_hessian_vector_product_and_an_eigenvalue_of_a_known_hessian():
    """L = x^T H x / 2 + sum x^3 / 100 over two parameters: a third derivative the differences must not see."""
    for eigenvalues in ([5.0, 2.0, 1.0, -1.0, 0.1], [-7.0, 3.0, 1.0, 0.5, 0.0]):
        H, parameters = symmetric(eigenvalues), [Tensor(rng.standard_normal(shape), True) for shape in ((1, 2), (3,))]
        before = [p.array for p in parameters]

        def gradient():
            x = np.concatenate([p.array.ravel() for p in parameters])
            g = H @ x + 0.03 * (x - x0) ** 2
            return [g[:2].reshape(1, 2), g[2:]]
        x0 = np.concatenate([p.array.ravel() for p in parameters])
        v = rng.standard_normal(5)
        found = hessian_vector(gradient, parameters, [v[:2].reshape(1, 2), v[2:]])
        assert_within(np.concatenate([f.ravel() for f in found]), H @ v, 1e-9 * np.abs(H @ v).max())
        assert abs(top_eigenvalue(gradient, parameters, tolerance=1e-12) - printed.top_eigenvalue(H)) < 1e-6
        assert all(p.array is b for p, b in zip(parameters, before))
    assert top_eigenvalue(lambda: [0 * p.array for p in parameters], parameters) == 0.0


def test_parameters_come_back_when_the_gradient_fails():
    parameter = Tensor(np.ones(3), True)
    before = parameter.array
    with pytest.raises(ZeroDivisionError):
        hessian_vector(lambda: 1 / 0, [parameter], [np.ones(3)])
    assert parameter.array is before


def test_omega_is_that_of_pytorchs_second_derivatives():
    model = small_bert.build("sequence", layers=2, hidden=4, heads=2, feed_forward=3)
    batches = [draw_batch("sequence", seed) for seed in (1, 2, 3)]

    def loss(model, batch):
        return ops.cross_entropy(model(batch, Pass(Needs.of(logits=True))).logits, batch.labels)
    found = sensitivity(model, loss, batches)
    before = model.arrays()
    for l, omega in enumerate(found):
        curvatures = [printed.top_eigenvalue(oracle.hessian(model, batch, l)) for batch in batches]
        assert abs(omega - printed.omega(curvatures)) <= 2e-3 * omega
    for name, array in model.arrays().items():
        assert array is before[name]
    for wrong in (small_bert.build("sequence", dtype=np.float32), build("sequence")):
        with pytest.raises(WrongUsage, match="need a BERT in float64: gradients are subtracted; got .*BERT 3x12"):
            sensitivity(wrong, loss, batches)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12), st.floats(2, 9),
       st.sampled_from([(2, 3, 4, 8), (2, 4), (2,)]))
def test_more_bits_go_where_the_loss_curves_more(omegas, average, choices):
    bits = allocate(omegas, average, choices)
    assert len(bits) == len(omegas) and set(bits) <= set(choices) and sum(bits) <= average * len(bits)
    for a, b in zip(omegas, bits):
        assert all(b >= other for o, other in zip(omegas, bits) if o < a)
    room = average * len(bits) - sum(bits)
    assert all(b == choices[-1] or choices[choices.index(b) + 1] - b > room for b in bits)


def test_fewer_bits_than_there_are_cannot_be_allocated():
    with pytest.raises(WrongUsage, match="^need an average of at least 2 bits, got 1.5$"):
        allocate([1.0, 2.0], 1.5)
    assert allocate([1.0, 1.0], 2.5) == [3, 2] and allocate([1.0, 0.9], 3) == [3, 3] and allocate([1.0], 8) == [8]
