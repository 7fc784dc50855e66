"""Q-BERT (Shen et al. 2020): fine-tuning of a BERT with few bits for the weights of its layers.

    L = CE(labels), as for Q8BERT, each group of neurons of a layer's weights rounded between its own two ends

bits: "4" for all layers, or "2,4,3" for each of three: what `compress.qbert.allocate` makes of their sensitivities.
groups: of each matrix, 0 for two a head. The hyper-parameters of fine-tuning are BERT's; the paper's are unverified.
"""

from dataclasses import replace
from functools import partial

from tinydistill.compress import qbert
from tinydistill.errors import WrongUsage
from tinydistill.methods import bert
from tinydistill.methods.q8bert import begun, require_bert
from tinydistill.methods.stage import Method


def layer_bits(bits):
    """The numbers of "4" or "2,4,3".

    >>> layer_bits("4"), layer_bits("2,4,3")
    (4, (2, 4, 3))
    """
    try:
        each = tuple(int(b) for b in bits.split(","))
    except ValueError:
        raise WrongUsage(f"need bits such as 4, or 2,4,3 for each layer; got {bits!r}") from None
    return each if len(each) > 1 else each[0]


def check(student, teacher, bits, groups):
    """A BERT whose neurons the groups divide, with bits for each of its layers."""
    require_bert("q-bert", student, teacher)
    qbert.QBertConfig(student.layers, student.hidden, student.heads, student.feed_forward,
                      layer_bits=layer_bits(bits), groups=groups)


def stages(bits, groups):
    """BERT's fine-tuning."""
    return (replace(bert.finetune, before=partial(begun, quantised=qbert.quantised, layer_bits=layer_bits(bits),
                                                  groups=groups)),)


method = Method("q-bert", "Shen et al. 2020, Q-BERT: Hessian Based Ultra Low Precision Quantization of BERT",
                on_task=stages, check=check, settings={"bits": "4", "groups": 0}, start="first-layers",
                grid=bert.GRIDS["bert"], notes="from memory, unverified; the allocation of bits is ours")
