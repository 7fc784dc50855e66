"""Every published MobileBERT at toy width, for `small_bert`'s batches: what the tests of that architecture share."""

import numpy as np

import small_bert
from small_bert import DEPTH, LABELS, VOCABULARY
from tinydistill.features import Needs
from tinydistill.students.mobilebert import PUBLISHED, MobileBert, MobileBertConfig

WIDTHS = {"layers": DEPTH, "hidden": 12, "heads": 2, "feed_forward": 7, "embedding": 5}


def shape(name, head="none", **changes):
    """The published shape with its widths made small, all of them different."""
    config = MobileBertConfig(**PUBLISHED[name] | WIDTHS)
    return config.but(bottleneck=8 if config.bottleneck < 512 else 16, vocabulary=VOCABULARY, positions=11, head=head,
                      labels=LABELS if head in ("sequence", "token") else ()).but(**changes)


def build(name="mobilebert", head="none", seed=0, dtype=np.float64, **changes):
    """That model, its every parameter some random number: biases and norms, too."""
    config = shape(name, head, **changes)
    model = MobileBert(config, seed=None).to(np, dtype)
    rng = np.random.default_rng(seed)
    for parameter in model.parameters():
        spread = 0.8 / parameter.shape[-1] ** 0.5 if parameter.ndim == 2 else 0.3
        parameter.array = parameter.array + (spread * rng.standard_normal(parameter.shape)).astype(dtype)
    return model


def everything(config):
    """All that this model can compute: pooled, too, be there a pooler or not."""
    return small_bert.everything(config) | Needs.of(pooled=True)
