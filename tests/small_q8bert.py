"""A small quantised BERT for `small_bert`'s batches: what the tests of Q8BERT and Q-BERT share."""

import numpy as np

import small_bert
from gradcheck import assert_close64
from oracle import q8bert as oracle
from small_bert import dense, everything, flat, inner
from student_checks import random_upstream
from tinydistill.compress import q8bert
from tinydistill.features import Pass
from tinydistill.tensor import gradients


def build(head="none", seed=0, quantised=q8bert.quantised, dtype=np.float64, changes=None, **settings):
    """A quantised model of that shape. settings: of the quantisation; changes: of the shape."""
    model = small_bert.build(head, seed, dtype, **changes or {})
    return quantised(model, **settings)


def with_ranges(model, batch, share=1.0):
    """The model after one step's learning: what it saw in this batch, times `share`."""
    seen = model(batch, Pass(needs=everything(model.config), training=True)).observed
    model.learn({site: r * share for site, r in seen.items()})
    return model


def check_against_oracle(model, batch):
    """Every feature, every parameter's gradient for a random upstream, and every observed range."""
    ours = model(batch, Pass(needs=everything(model.config)))
    truth, observed = oracle.features(model, batch, model.state)
    found = flat(ours)
    assert found.keys() == truth.keys()
    for place, x in found.items():
        assert_close64(x.array, truth[place], str(place))
    upstream = random_upstream(ours, 3)
    theirs = oracle.gradients(model, batch, upstream, model.state)
    for name, gradient in zip(theirs, gradients(inner(ours, upstream), model.parameters()), strict=True):
        assert np.abs(theirs[name]).max() > 1e-5, f"{name}: nothing is compared"
        assert_close64(dense(gradient), theirs[name], name)
    return observed
