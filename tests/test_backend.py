"""Where NumPy and CuPy differ, and random numbers that are counted, not drawn."""

import math
import sys
import types

import numpy as np
import pytest
from scipy import stats

from tinydistill import backend
from tinydistill.errors import Problem, WrongUsage

rng = np.random.default_rng(0)
SEED, COUNTERS = 1234, (7, 11, 13)


# ---------------------------------------------------------------- libraries

def test_load_finds_both_libraries(strict_cupy):
    assert backend.load("numpy") is np
    assert backend.load("cupy") is strict_cupy


def test_an_unknown_backend_is_wrong_usage():
    with pytest.raises(WrongUsage, match="need a backend out of numpy, cupy; got 'torch'"):
        backend.load("torch")


def test_a_missing_cupy_is_one_line_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(Problem, match=r"pip install 'tinydistill\[gpu-cuda12\]'") as caught:
        backend.load("cupy")
    assert "\n" not in str(caught.value) and caught.value.exit_code == 1


def test_a_missing_gpu_is_one_line_that_says_so(monkeypatch):
    without_gpu = types.SimpleNamespace(cuda=types.SimpleNamespace(is_available=lambda: False))
    monkeypatch.setitem(sys.modules, "cupy", without_gpu)
    with pytest.raises(Problem, match="NVIDIA GPU.*use --backend numpy"):
        backend.load("cupy")


def test_every_array_knows_its_library(xp):
    x = xp.asarray(rng.standard_normal((2, 3)))
    assert backend.xp_of(x) is xp and backend.xp_of(x.sum()) is xp
    for other in ([1.0, 2.0], 3.0, None):
        with pytest.raises(TypeError, match=f"need a NumPy or CuPy array, got {type(other).__name__}"):
            backend.xp_of(other)


def test_arrays_move_to_where_others_live(xp):
    x = rng.standard_normal((2, 3))
    moved = backend.asarray(x, like=xp.zeros(1))
    assert backend.xp_of(moved) is xp
    home = backend.to_host(moved)
    assert isinstance(home, np.ndarray)
    np.testing.assert_array_equal(home, x)
    assert backend.to_host(x) is x


def test_erf_is_erf(xp):
    x = np.concatenate([np.linspace(-6, 6, 41), [0.0, 1e-300, 30.0, -30.0]])
    found = backend.erf(xp.asarray(x))
    assert backend.xp_of(found) is xp
    np.testing.assert_allclose(backend.to_host(found), [math.erf(v) for v in x], rtol=1e-14)
    assert backend.erf(xp.asarray(x.astype(np.float32))).dtype == np.float32


def test_add_at_counts_every_repetition(xp):
    start, rows, values = rng.standard_normal((4, 2)), np.array([1, 3, 1, 1]), rng.standard_normal((4, 2))
    expected = start.copy()
    for row, value in zip(rows, values):
        expected[row] += value
    target = xp.asarray(start.copy())
    backend.add_at(target, xp.asarray(rows), xp.asarray(values))
    np.testing.assert_allclose(backend.to_host(target), expected, rtol=1e-12)


# ---------------------------------------------------------------- random bits

def philox(counter, key):
    """One block of Philox 4x64-10, from Salmon et al. 2011, figure 2 and table 2, in Python's own integers."""
    c, k, word = list(counter), list(key), 2 ** 64
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * c[0], word)
        high1, low1 = divmod(0xCA5A826395121157 * c[2], word)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B97F4A7C15) % word, (k[1] + 0xBB67AE8584CAA73B) % word]
    return c


def test_philox_gives_its_published_answers():
    """The known answers of the authors' own library (Random123, kat_vectors): the witness below is Philox."""
    assert philox([0] * 4, [0] * 2) == [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    ones = 2 ** 64 - 1
    assert philox([ones] * 4, [ones] * 2) == [0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6,
                                              0xA09CAEBF594F0BA0]


def test_random_bits_are_philox_at_the_counters():
    blocks = [philox([block, *COUNTERS], [SEED, 0]) for block in (1, 2, 3)]       # NumPy counts before it draws
    words = [word for block in blocks for word in block]
    expected = [word >> shift & 0xFFFF for word in words for shift in (0, 16, 32, 48)]
    for count in (48, 47, 5, 4, 1, 0):
        found = backend.random_bits(count, SEED, *COUNTERS)
        assert found.dtype == np.uint16 and found.tolist() == expected[:count]


def test_random_bits_never_change():
    assert backend.random_bits(6, 0).tolist() == [55451, 2276, 47716, 756, 50610, 40104]
    assert backend.random_bits(6, SEED, *COUNTERS).tolist() == [58316, 51606, 22146, 43712, 26562, 23454]
    assert backend.random_bits(3, 2 ** 63, np.int64(5), backend.stream("a")).tolist() == [61712, 42153, 51224]
    assert backend.stream("layers.0.attention.query.weight") == 2770525726


def test_every_seed_and_every_counter_gives_other_bits():
    """Equal by chance: 4096 / 65536 = 1/16 places of a pair; more than 8 has probability below 1e-13."""
    draws = [backend.random_bits(4096, SEED, *COUNTERS)]
    draws += [backend.random_bits(4096, SEED + 1, *COUNTERS)]
    for i in range(3):
        changed = list(COUNTERS)
        changed[i] += 1
        draws.append(backend.random_bits(4096, SEED, *changed))
    draws.append(backend.random_bits(4096, SEED, *COUNTERS[:2]))
    draws.append(backend.random_bits(4096, SEED, *COUNTERS[::-1]))
    for i, a in enumerate(draws):
        for b in draws[:i]:
            assert (a == b).sum() <= 8


def test_random_bits_are_uniform():
    """Chi-square of both bytes over 256 cells: a fair source fails one time in 1e9 (and this one is fixed)."""
    bits = backend.random_bits(1 << 16, SEED, 3)
    for byte in (bits & 0xFF, bits >> 8):
        counts = np.bincount(byte, minlength=256)
        chi_square = ((counts - 256) ** 2 / 256).sum()
        assert stats.chi2.isf(1 - 1e-9, 255) < chi_square < stats.chi2.isf(1e-9, 255)


def test_four_counters_are_too_many():
    with pytest.raises(ValueError, match="need at most three counters, got 4"):
        backend.random_bits(1, SEED, 1, 2, 3, 4)
    with pytest.raises(ValueError):
        backend.generator(SEED, 1, 2, 3, 4)


def test_a_generator_is_at_the_same_place_of_another_stream():
    first, again = backend.generator(SEED, *COUNTERS), backend.generator(SEED, *COUNTERS)
    np.testing.assert_array_equal(first.standard_normal(5), again.standard_normal(5))
    raw = backend.generator(SEED, *COUNTERS).bit_generator.random_raw(4).tolist()
    assert raw == philox([1, *COUNTERS], [SEED, 1]) != philox([1, *COUNTERS], [SEED, 0])
    assert backend.generator(SEED, 7).bit_generator.random_raw(4).tolist() == philox([1, 7, 0, 0], [SEED, 1])
