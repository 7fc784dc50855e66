"""A BERT that computes with quantised weights and activations: what Q8BERT and Q-BERT have in common.

A site is a place where activations come by: what a map reads, what it gives. Modules hold nothing that changes during a
run, so every pass is made by a copy of the model whose parts know the ranges of that pass, and share its Tensors.
"""

from dataclasses import fields

from tinydistill import kernels, ops
from tinydistill.backend import to_host, xp_of
from tinydistill.errors import WrongUsage
from tinydistill.nn import Embedding, FeedForward, Linear, Module, SelfAttention
from tinydistill.students.bert import Bert


# ---------------------------------------------------------------- ranges

class Ranges:
    """Of one pass: the range of each site, and in training what each site saw.

    Shapes: x (B, T, D) is what comes by at a site, of which real tokens count, or (B, D); a range ().
    """

    def __init__(self, config, learned, mask, training):
        self.config, self.learned, self.mask = config, learned, mask
        self.learning = training and config.mode == "ema"
        self.observed = {}                          # {site: max |x|}

    def at(self, site, x):
        """r: what is learned, or where nothing is yet, that of this x."""
        return self.learned[site] if site in self.learned else self._largest(x)

    def quantised(self, site, x):
        """fake(x); x itself where the site learns and has not begun, for then every shard would have its own range."""
        if self.learning:
            self.observed[site] = self._largest(x.array)
            if site not in self.learned:
                return x
        return ops.fake_quantise(x, largest=self.at(site, x.array), bits=self.config.activation_bits)

    def _largest(self, x):
        return kernels.of(x).largest_magnitude(x, self.mask if x.ndim == 3 else None)


# ---------------------------------------------------------------- parts, in the places of BERT's

class QuantisedLinear(Linear):
    """fake(x) fake(W)^T + b, and fake() of that. `place`: its name in the model; `ranges`: those of its pass."""

    def __call__(self, x):
        y = ops.linear(self.ranges.quantised(f"{self.place}.input", x), self.quantised_weight(), self.bias)
        return self.requantised(y)

    def quantised_weight(self):
        """fake(W)."""
        return ops.fake_quantise(self.weight, largest=weight_range(self.weight), bits=self.bits)

    def requantised(self, y):
        """fake(y), where the configuration wants that."""
        return self.ranges.quantised(f"{self.place}.output", y) if self.ranges.config.requantise_output else y

    def sites(self, config):
        """Where this map needs a range."""
        return [f"{self.place}.input"] + [f"{self.place}.output"] * config.requantise_output


class QuantisedEmbedding(Embedding):
    """Rows of fake(W): those that are read, rounded after they are read."""

    def __call__(self, ids):
        return ops.fake_quantise(ops.embedding(self.weight, ids), largest=weight_range(self.weight), bits=self.bits)

    def table(self):
        """fake(W), all rows."""
        return ops.fake_quantise(self.weight, largest=weight_range(self.weight), bits=self.bits)


class QuantisedAttention(SelfAttention):
    """Three maps with ranges of their own; the products between them are as they were."""

    def project(self, x):
        B, T, _ = x.shape
        return tuple(part(x).reshape(B, T, self.heads, -1).transpose(0, 2, 1, 3)        # (B, A, T, K)
                     for part in (self.query, self.key, self.value))


class QuantisedFeedForward(FeedForward):
    """The activation reads what the first map gives, bias and all."""

    def __call__(self, x):
        return self.outer(getattr(ops, self.activation)(self.inner(x)))


def weight_range(weight):
    """r of a weight: its largest magnitude as it is now."""
    return kernels.of(weight.array).largest_magnitude(weight.array, None)


QUANTISED = {Linear: QuantisedLinear, Embedding: QuantisedEmbedding, SelfAttention: QuantisedAttention,
             FeedForward: QuantisedFeedForward}


def rebuilt(module, change, path=""):
    """A copy of a tree of modules, Tensors shared: change(path, part) is (the class of the copy, more attributes)."""
    kind, more = change(path, module)
    copy, path = object.__new__(kind), path and f"{path}."
    for name, value in vars(module).items():
        if isinstance(value, Module):
            value = rebuilt(value, change, path + name)
        elif isinstance(value, list):
            value = [rebuilt(part, change, f"{path}{name}.{i}") for i, part in enumerate(value)]
        setattr(copy, name, value)
    vars(copy).update(more)
    return copy


# ---------------------------------------------------------------- the model

class QuantisedBert(Bert):
    """A Bert that computes with quantised weights and activations: the form that is trained.

    `state` {site: range, shape ()} is what "ema" has learned; `learn` moves it after a step, by what all shards saw
    (`Features.observed`). So in the first step activations are not rounded.
    """

    def __init__(self, config, seed=0):
        super().__init__(config, seed)
        vars(self).update(vars(rebuilt(self, self.quantiser)))
        self.state = {}

    def quantiser(self, path, part):
        """What stands in the place of a part of BERT: heads stay as they are."""
        if type(part) not in QUANTISED or path.startswith("head."):
            return type(part), {}
        return QUANTISED[type(part)], {"place": path, "bits": self.config.weight_bits}

    def __call__(self, batch, run):
        ranges = Ranges(self.config, self.state, batch.mask, run.training)
        within = rebuilt(self, lambda path, part: (type(part), {"ranges": ranges} if hasattr(part, "place") else {}))
        features = Bert.__call__(within, batch, run)
        return features.has(observed=ranges.observed)

    def logits(self, x, batch, run):
        """As Bert's; the decoder of a masked-lm head is tied to the quantised words."""
        if self.config.head in ("masked-lm", "pretraining"):
            return self.head(x, batch.positions, self.embeddings.word.table())
        return super().logits(x, batch, run)

    def learn(self, observed):
        """r <- r - (1 - decay) (r - max |x|), and max |x| itself where nothing was learned before."""
        for site, largest in observed.items():
            r = self.state.get(site, largest)
            self.state[site] = xp_of(largest).asarray(r - (1 - self.config.ema_decay) * (r - largest))

    def sites(self):
        """Where ranges are needed."""
        maps = [part for _, part in self.named_modules() if isinstance(part, QuantisedLinear)]
        return [site for part in maps for site in part.sites(self.config)]

    def to(self, xp, dtype=None):
        super().to(xp, dtype)
        self.state = {site: xp.asarray(to_host(r).astype(dtype or r.dtype)) for site, r in self.state.items()}
        return self


def converted(model, kind, config_kind, changes):
    """The model of a quantised kind with a Bert's weights, and its configuration with these changes."""
    if type(model) is not Bert:
        raise WrongUsage(f"need a BERT to quantise, got {model.config}")
    same = {field.name: getattr(model.config, field.name) for field in fields(model.config)}
    like = model.parameters()[0].array
    return kind(config_kind(**same | changes), seed=None).to(xp_of(like), like.dtype).load(model.arrays())
