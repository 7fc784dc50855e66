"""Q-BERT (Shen et al. 2020): few bits for the weights of a layer, the fewer the less its loss curves there.

    fake(W) = l + d round((W - l) / d)      d = (h - l) / (2^bits - 1)      of each group of a matrix, l and h its own
    Omega_l = |mean_j lambda_lj| + std_j lambda_lj

A group is a run of output neurons: of a head's sub-matrix d/2A of them, two groups a head. lambda_lj is the largest
eigenvalue of the Hessian of the loss on the j-th subset of the data, towards the weights of layer l. Embeddings,
pooler and activations are as in Q8BERT, in 8 bits.

Unverified, from memory, all but the grouping; no code was published. Ours: two groups a head in every matrix of a layer
(the experiments have 128 groups), how `allocate` turns Omega into bits, and the Hessian by differences of gradients.
"""

from dataclasses import dataclass

import numpy as np

from tinydistill import kernels, ops
from tinydistill.backend import generator, stream, to_host, xp_of
from tinydistill.compress.q8bert import STATE, Q8BertConfig, integers, ranges_from, stored_dtype
from tinydistill.compress.quantised import QuantisedBert, QuantisedEmbedding, QuantisedLinear, converted
from tinydistill.errors import Problem, WrongUsage
from tinydistill.students import bert
from tinydistill.students.architecture import Architecture
from tinydistill.students.bert import Bert
from tinydistill.tensor import gradients


@dataclass(frozen=True)
class QBertConfig(Q8BertConfig):
    """The shape of a BERT, and how it is quantised. weight_bits: of embeddings and pooler."""

    layer_bits: int | tuple = 4                     # of the weights of every layer, or of each
    groups: int = 0                                 # of each matrix of a layer; 0: two a head

    title, model_type = "Q-BERT", "qbert"

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.layer_bits, int):
            object.__setattr__(self, "layer_bits", tuple(self.layer_bits))      # a list, where it comes from a file
        bits = self.bits_by_layer
        if len(bits) != self.layers or not all(1 <= b <= 8 for b in bits):
            raise WrongUsage(f"need layer_bits from 1 to 8, one number or one for each of {self.layers} layers; "
                             f"got {self.layer_bits}")
        if self.hidden % self.groups_each or self.feed_forward % self.groups_each:
            raise WrongUsage(f"need groups that divide {self.hidden} and {self.feed_forward} neurons, "
                             f"got {self.groups_each}")

    @property
    def bits_by_layer(self):
        return (self.layer_bits,) * self.layers if isinstance(self.layer_bits, int) else self.layer_bits

    @property
    def groups_each(self):
        return self.groups or 2 * self.heads


class GroupedQuantisedLinear(QuantisedLinear):
    """fake(x) fake(W)^T + b, W in `groups` of its rows."""

    def quantised_weight(self):
        return ops.fake_quantise_groups(self.weight, groups=self.groups, bits=self.bits)


class QBert(QuantisedBert):
    """A Bert that computes with quantised weights and activations, the weights of its layers in groups."""

    def quantiser(self, path, part):
        kind, more = super().quantiser(path, part)
        if kind is not QuantisedLinear or not path.startswith("layers."):
            return kind, more
        bits = self.config.bits_by_layer[int(path.split(".")[1])]
        return GroupedQuantisedLinear, more | {"bits": bits, "groups": self.config.groups_each}

    def stored(self):
        """{name: NumPy array}: what a file holds. The weight of a layer's map is its levels, `bits` bits each, with
        NAME.lowest and NAME.step (groups, 1); an embedding's and the pooler's is int8, with NAME.step ()."""
        arrays = self.arrays()
        for path, part in self._parts():
            if isinstance(part, GroupedQuantisedLinear):
                grouped = part.weight.array.reshape(part.groups, -1)                    # (G, F/G D)
                lowest, highest = grouped.min(axis=1, keepdims=True), grouped.max(axis=1, keepdims=True)
                codes = kernels.of(grouped).levels_between(grouped, lowest, highest, part.bits)
                step = (highest - lowest) / (2 ** part.bits - 1)
                arrays[f"{path}.weight"] = packed(to_host(codes).astype(np.uint8), part.bits)
                arrays |= {f"{path}.lowest": to_host(lowest), f"{path}.step": to_host(step)}
            else:
                codes, step = integers(part)
                arrays |= {f"{path}.weight": to_host(codes), f"{path}.step": to_host(step)}
        return arrays | {STATE + site: to_host(r) for site, r in self.state.items()}

    @classmethod
    def from_stored(cls, config, arrays):
        """The QBert of a configuration and what `stored` gave, its weights the numbers that were stored.

        Raises: Problem where the arrays do not fit.
        """
        model, held = cls(config, seed=None), {name: x for name, x in arrays.items() if not name.startswith(STATE)}
        dtype = stored_dtype(held)
        for path, part in model._parts():
            grouped, shape = isinstance(part, GroupedQuantisedLinear), part.weight.shape
            names = [f"{path}.{name}" for name in ("weight", "step", "lowest")[:2 + grouped]]
            if missing := [name for name in names if name not in held]:
                raise Problem(f"the weights do not fit this model: missing {missing[0]}")
            size = shape[0] * shape[1]
            whole = (np.dtype(np.uint8), ((size * part.bits + 7) // 8,)) if grouped else (np.dtype(np.int8), shape)
            a_group = dtype, (part.groups, 1) if grouped else ()
            for name, (kind, need) in zip(names, (whole, a_group, a_group)):
                if (held[name].dtype, held[name].shape) != (kind, need):
                    raise Problem(f"the weights do not fit this model: {name} needs {kind} {need}, "
                                  f"got {held[name].dtype} {held[name].shape}")
            codes, step, *lowest = (held.pop(name) for name in names)
            if grouped:
                codes = unpacked(codes, part.bits, size).reshape(part.groups, -1)
            values = codes.astype(dtype) * step
            held[names[0]] = (values + lowest[0] if grouped else values).reshape(shape)
        model.to(np, dtype).load(held)
        model.state = ranges_from(arrays, model)
        return model

    def _parts(self):
        """(name, part) of all that is stored in integers."""
        return [(path, part) for path, part in self.named_modules()
                if isinstance(part, (QuantisedLinear, QuantisedEmbedding))]


def packed(codes, bits):
    """Numbers below 2^bits, one behind the other without gaps, the high bit first. Shapes: (...) uint8 -> (bytes,)."""
    return np.packbits(np.unpackbits(codes.reshape(-1, 1), axis=1)[:, -bits:])


def unpacked(stored, bits, count):
    """The `count` numbers again, uint8."""
    each = np.unpackbits(stored, count=count * bits).reshape(count, bits)
    return (each @ (1 << np.arange(bits)[::-1])).astype(np.uint8)


def quantised(model, **changes):
    """The QBert of a Bert: its weights and its configuration, with these changes. Its ranges are still to be learned.

    Raises: WrongUsage for any other architecture.
    """
    return converted(model, QBert, QBertConfig, changes)


# ---------------------------------------------------------------- how sensitive layers are, and how many bits they get

def hessian_vector(gradient, parameters, vectors, step=1e-4):
    """H v = (g(w + e v) - g(w - e v)) / 2e, off by e^2: no derivative of a derivative.

    gradient(): arrays, dL/dparameter at what the parameters are now. vectors: arrays of their shapes, e = step.
    """
    before, ends = [p.array for p in parameters], []
    try:
        for side in (step, -step):
            for parameter, w, v in zip(parameters, before, vectors):
                parameter.array = w + side * v
            ends.append(gradient())
    finally:
        for parameter, w in zip(parameters, before):
            parameter.array = w
    return [(up - down) / (2 * step) for up, down in zip(*ends)]


def top_eigenvalue(gradient, parameters, seed=0, iterations=100, tolerance=1e-6):
    """The Hessian's eigenvalue of largest magnitude, by power iteration: v <- H v / |H v|, lambda = v^T H v."""
    random = generator(seed, stream("power iteration"))
    v = [xp_of(p.array).asarray(random.standard_normal(p.shape)) for p in parameters]
    found = 0.0
    for _ in range(iterations):
        length = _dot(v, v) ** 0.5
        if length == 0:
            return 0.0
        v = [x / length for x in v]
        Hv = hessian_vector(gradient, parameters, v)
        before, found = found, _dot(v, Hv)
        if abs(found - before) <= tolerance * abs(found):
            break
        v = Hv
    return found


def _dot(a, b):
    return float(sum((x * y).sum() for x, y in zip(a, b)))


def sensitivity(model, loss, batches, seed=0):
    """[Omega of each layer] of a float64 Bert that is not quantised yet. loss(model, batch) is a scalar Tensor; each of
    `batches` is a subset of the data.

    Raises: WrongUsage where the model is another.
    """
    if type(model) is not Bert or model.parameters()[0].dtype != np.float64:
        raise WrongUsage(f"need a BERT in float64: gradients are subtracted; got {model.config}, "
                         f"{model.parameters()[0].dtype}")
    omegas = []
    for layer in model.layers:
        matrices = [p for p in layer.parameters() if p.ndim == 2]
        curvatures = [top_eigenvalue(lambda: gradients(loss(model, batch), matrices), matrices, seed)
                      for batch in batches]
        omegas.append(abs(float(np.mean(curvatures))) + float(np.std(curvatures)))
    return omegas


def allocate(omegas, average, choices=(2, 3, 4, 8)):
    """The bits of each layer: more to the larger Omega, and no more than `average` in the mean.

    Ours, for the paper's choice is by hand: from the fewest bits on, the layer where Omega / 4^bits is largest, the
    curvature times the square of a level, gets the next more, as long as the mean allows.
    Raises: WrongUsage where not even the fewest bits do.

    >>> allocate([5.0, 0.1, 1.0], average=3)
    [4, 2, 3]
    """
    bits = [choices[0]] * len(omegas)
    if choices[0] > average:
        raise WrongUsage(f"need an average of at least {choices[0]} bits, got {average}")
    more = dict(zip(choices, choices[1:]))
    while True:
        room = average * len(bits) - sum(bits)
        open_ = [l for l, b in enumerate(bits) if b in more and more[b] - b <= room]
        if not open_:
            return bits
        best = max(open_, key=lambda l: omegas[l] / 4 ** bits[l])
        bits[best] = more[bits[best]]


parameter_count, forward_flops = bert.parameter_count, bert.forward_flops       # the same numbers, in fewer bits
architecture = Architecture("Shen et al. 2020", QBertConfig, QBert, parameter_count, forward_flops)
