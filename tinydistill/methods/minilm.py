"""MiniLM (Wang et al. 2020): the last layer's attention distributions and value relations, and nothing else.

No layer map, no projection, no labels: depth and width of the student are free, only the head counts must agree.
"""

from tinydistill.errors import WrongUsage
from tinydistill.losses import TERMS, minilm
from tinydistill.methods import layer_maps
from tinydistill.methods.stage import Method, Recipe, Stage


def equal_heads(student, teacher, **settings):
    """Relations are compared head by head (section 3.1)."""
    if student.heads != teacher.heads:
        width = teacher.heads * max(1, round(student.hidden / teacher.heads))           # the nearest that can have them
        raise WrongUsage(f"need the same number of attention heads, which are compared one by one: student "
                         f"{student.heads}, teacher {teacher.heads}; write the student as "
                         f"{student.layers}x{width}x{teacher.heads}, or without heads")


# Section 4.1: 400,000 steps of 256 sequences of 512 tokens, Adam (0.9, 0.999), warm-up 4,000, linear decay, decay 0.01;
# eps and clipping are not stated. 6x768 had batches of 1,024 and a rate of 5e-4.
RECIPES = {"paper": Recipe(steps=400_000, batch_size=256, learning_rate=3e-4, warmup=4_000, max_length=512),
           "laptop": Recipe(steps=600, batch_size=32, learning_rate=1e-3, warmup=60, max_length=64)}

# Tables 5 to 7: what the paper takes away or puts in another's place.
VARIANTS = {
    "paper": ((1.0, minilm.attention), (1.0, minilm.value_relation)),
    "attention-only": ((1.0, minilm.attention),),
    "value-mse": ((1.0, minilm.attention), (1.0, TERMS["minilm.value_mse"])),
    "hidden-relation": ((1.0, minilm.attention), (1.0, TERMS["minilm.hidden_relation"])),
    "layer-to-layer": ((1.0, minilm.attention), (1.0, minilm.value_relation)),
}


def stages(variant):
    """The last layer's terms, or a variant of tables 5 to 7."""
    if variant not in VARIANTS:
        raise WrongUsage(f"need a variant of minilm out of {', '.join(VARIANTS)}; got {variant!r}")
    return (Stage("distil", terms=VARIANTS[variant], recipes=RECIPES,
                  layer_map=layer_maps.uniform if variant == "layer-to-layer" else layer_maps.last),)


method = Method(
    "minilm", "Wang et al. 2020, MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression",
    on_text=stages, settings={"variant": "paper"}, check=equal_heads, equal_heads=True)
