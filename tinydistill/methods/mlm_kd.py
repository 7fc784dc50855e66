"""MLM-KD: soft targets of masked tokens, the baseline that MiniLM is compared with (Wang et al. 2020, section 4.3)."""

from tinydistill.losses import TERMS
from tinydistill.methods import minilm
from tinydistill.methods.stage import MASKED, Method, Stage


def stages(temperature):
    """KL with the teacher at masked places, at temperature T."""
    return (Stage("distil", reads=MASKED, head="masked-lm", recipes=minilm.RECIPES,
                  terms=((1.0, TERMS["soft_labels.masked"].but(temperature=temperature)),)),)


method = Method("mlm-kd", "Wang et al. 2020, MiniLM, section 4.3: soft-label distillation of masked tokens",
                on_text=stages, settings={"temperature": 1.0})
