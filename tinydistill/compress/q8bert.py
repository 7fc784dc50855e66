"""Q8BERT (Zafrir et al. 2019): a BERT whose maps compute in 8-bit integers, and fine-tuning that prepares it for that.

    M = 2^(bits - 1) - 1        fake(x) = clamp(round(x s), -M, M) / s        s = M / r        y = fake(x) fake(W)^T + b

r is max |W| of a weight, as it is at this step; of what a map reads or gives, an exponential moving average of max |x|
("ema"), or max |x| of this batch ("dynamic"). Quantised are the embeddings, queries, keys and values, attention's
output, both feed-forward maps and the pooler; layer norm, softmax, GELU, the products of attention and the heads are
not, but for the words that a masked-lm head is tied to. Gradients pass the rounding as if it were not there.

Three forms of one model. `quantised(bert)` trains: weights stay floating and are rounded at every pass. `stored()` is
what a file holds: each weight as int8 with the step that 1 in it stands for, all else as it is. `Int8Bert` infers from
those in exact integer products (kernels/integer_linear.py) and differs from the first by its 32-bit biases alone.
A site that has learned no range goes by the batch that it sees, as every site does in "dynamic" mode.

Not here: MobileBERT's own fake quantisation (asymmetric, decay 0.999, scores clipped to [-6, 60]), which wants relu6
and no_norm; a MobileBERT is not quantised. Nor is a `start_step`: weights are rounded from the first step on.

Source: Zafrir et al. 2019; IntelLabs/nlp-architect, nlp_architect/nn/torch/quantization.py and
nlp_architect/models/transformers/quantized_bert.py. What differs there: padding counts in max |x|; an average begins
and moves before a step uses it, here after, so that all shards of a batch use the same, and the first step rounds no
activations; whether a head or an output is quantised is a setting of each map.
"""

from dataclasses import dataclass

import numpy as np

from tinydistill import kernels, ops
from tinydistill.backend import asarray, to_host, xp_of
from tinydistill.compress.quantised import (QuantisedBert, QuantisedEmbedding, QuantisedLinear, converted, rebuilt,
                                            weight_range)
from tinydistill.errors import Problem, WrongUsage
from tinydistill.students import bert
from tinydistill.students.architecture import Architecture
from tinydistill.students.configs import BertConfig
from tinydistill.tensor import Tensor

MODES = ("ema", "dynamic")
STATE = "state."                                    # before the names of learned ranges in a file


@dataclass(frozen=True)
class Q8BertConfig(BertConfig):
    """The shape of a BERT, and how it is quantised."""

    weight_bits: int = 8
    activation_bits: int = 8
    mode: str = "ema"                               # one of MODES: where ranges of activations come from
    ema_decay: float = 0.9999
    requantise_output: bool = True                  # whether what a map gives is quantised, too

    title, model_type = "Q8BERT", "q8bert"

    def __post_init__(self):
        super().__post_init__()
        if self.mode not in MODES:
            raise WrongUsage(f"need a mode out of {', '.join(MODES)}; got {self.mode!r}")
        for name in ("weight_bits", "activation_bits"):
            if not 2 <= getattr(self, name) <= 8:
                raise WrongUsage(f"need {name} from 2 to 8, got {getattr(self, name)}")
        if not 0 <= self.ema_decay <= 1:
            raise WrongUsage(f"need an ema_decay from 0 to 1, got {self.ema_decay}")


# ---------------------------------------------------------------- parts that infer in integers

class Int8Linear(QuantisedLinear):
    """The same from integers. Shapes: weight (outputs, inputs) int8, step ()."""

    def __call__(self, x):
        flat, largest = x.array.reshape(-1, x.shape[-1]), self.ranges.at(f"{self.place}.input", x.array)
        y = kernels.of(flat).integer_linear(flat, largest, self.weight.array, self.step.array, self.bias.array,
                                            self.ranges.config.activation_bits)
        return self.requantised(Tensor(y.reshape(*x.shape[:-1], -1)))


class Int8Embedding(QuantisedEmbedding):
    """The same from integers. Shapes: weight (rows, width) int8, step ()."""

    def __call__(self, ids):
        return Tensor(ops.embedding(self.weight, ids).array * self.step.array)

    def table(self):
        return Tensor(self.weight.array * self.step.array)


def integers(part):
    """(the levels of a part's weight as int8, what 1 in them stands for as an array ())."""
    weight, largest = part.weight.array, weight_range(part.weight)
    xp = xp_of(weight)
    codes = kernels.of(weight).levels(weight, largest, part.bits).astype(xp.int8)
    return codes, xp.asarray(largest / (2 ** (part.bits - 1) - 1))


INT8 = {QuantisedLinear: Int8Linear, QuantisedEmbedding: Int8Embedding}


# ---------------------------------------------------------------- the model

class Q8Bert(QuantisedBert):
    """The form that is trained: floating weights, rounded at every pass."""

    def int8(self):
        """The same model as integers: what is stored, and what infers."""
        def change(path, part):
            if isinstance(part, Q8Bert):
                return Int8Bert, {"state": dict(part.state)}
            if type(part) not in INT8:
                return type(part), {}
            codes, step = integers(part)
            return INT8[type(part)], {"weight": Tensor(codes), "step": Tensor(step)}
        return rebuilt(self, change)

    def stored(self):
        """{name: NumPy array}: what a file holds. Weights are int8, NAME.step beside them; ranges are STATE + site."""
        return self.int8().stored()

    @classmethod
    def from_stored(cls, config, arrays):
        """The Int8Bert of a configuration and what `stored` gave. Raises: Problem where the arrays do not fit."""
        model = Q8Bert(config, seed=None).int8()
        return model.to(np, stored_dtype(arrays)).load(arrays)


def stored_dtype(arrays):
    """What is floating among stored arrays: float32 or float64. Raises: Problem where it is neither."""
    norm = arrays.get("embeddings.norm.weight")
    if norm is None or norm.dtype not in (np.float32, np.float64):
        raise Problem(f"the weights do not fit this model: embeddings.norm.weight needs float32 or float64, "
                      f"{'is missing' if norm is None else f'got {norm.dtype}'}")
    return norm.dtype


def ranges_from(arrays, model):
    """The ranges among stored arrays, as the model's state. Raises: Problem where one has no place in the model."""
    found = {name.removeprefix(STATE): array for name, array in arrays.items() if name.startswith(STATE)}
    like, known = model.embeddings.norm.weight.array, model.sites() if model.config.mode == "ema" else ()
    for site, r in found.items():
        if site not in known or r.shape != ():
            raise Problem(f"the ranges do not fit this model: {site} {r.shape} has no place in it")
    return {site: asarray(np.array(r, like.dtype), like) for site, r in found.items()}


class Int8Bert(Q8Bert):
    """Inference in integers. It is not trained: that is what the floating weights of a Q8Bert are for."""

    def __call__(self, batch, run):
        if run.training:
            raise Problem(f"an int8 {self.config} only infers: train the Q8BERT that it was stored from")
        return super().__call__(batch, run)

    def to(self, xp, dtype=None):
        super().to(xp, dtype)
        for _, part in self.named_modules():
            if hasattr(part, "step"):
                part.weight.array = part.weight.array.astype(xp.int8)   # integers of 8 bits: exact in any dtype between
        return self

    def int8(self):
        return self

    def stored(self):
        return self.arrays() | {STATE + site: to_host(r) for site, r in self.state.items()}

    def load(self, arrays):
        """As Module's, with ranges. Raises: Problem where names, shapes or a weight's int8 differ."""
        held = {name: array for name, array in arrays.items() if not name.startswith(STATE)}
        for name, parameter in self.named_parameters().items():
            came = held[name].dtype if name in held else parameter.dtype
            if (came == np.int8) != (parameter.dtype == np.int8):
                raise Problem(f"the weights do not fit this model: {name} needs {parameter.dtype}, got {came}")
        super().load(held)
        self.state = ranges_from(arrays, self)
        return self


def quantised(model, **changes):
    """The Q8Bert of a Bert: its weights and its configuration, with these changes. Its ranges are still to be learned.

    Raises: WrongUsage for any other architecture.
    """
    return converted(model, Q8Bert, Q8BertConfig, changes)


parameter_count, forward_flops = bert.parameter_count, bert.forward_flops       # the same numbers, in fewer bits
architecture = Architecture("Zafrir et al. 2019", Q8BertConfig, Q8Bert, parameter_count,
                            forward_flops)
