"""Fixtures of every test: how many hypothesis examples, the strict stand-in for CuPy, and no state left behind."""

import os
import sys

import hypothesis
import pytest

import strict_device

hypothesis.settings.register_profile("dev", max_examples=25, deadline=None, derandomize=True)
hypothesis.settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("nightly", max_examples=5000, deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("TINYDISTILL_HYPOTHESIS", "dev"))


@pytest.fixture
def strict_cupy():
    """The stand-in for CuPy, installed as `cupy` while the test runs."""
    with strict_device.installed() as cupy:
        yield cupy


@pytest.fixture(params=["numpy", "cupy"])
def xp(request):
    """The array library, NumPy and then the stand-in for CuPy: a test that takes `xp` runs on both."""
    from tinydistill import backend
    if request.param == "numpy":
        yield backend.load("numpy")
    else:
        with strict_device.installed():
            yield backend.load("cupy")


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """A test that switches gradients off, forces a set of kernels or leaves a `cupy` behind fails, not the next one."""
    before = sys.modules.get("cupy")
    yield
    assert sys.modules.get("cupy") is before, "the test left another cupy installed"
    if tensor := sys.modules.get("tinydistill.tensor"):
        assert tensor.grad_enabled(), "the test left gradients switched off"
    if kernels := sys.modules.get("tinydistill.kernels"):
        assert kernels._choice == "fused", "the test left the kernels set to plain"
