"""BERT's own two stages (Devlin et al. 2019): masked language modelling, then fine-tuning. No teacher."""

from tinydistill.losses import hard_labels
from tinydistill.methods.stage import Recipe, Stage

# Appendix A.2: 1,000,000 steps of 256 sequences of up to 512 tokens, learning rate 1e-4, warm-up 10,000, decay 0.01.
# The laptop recipe masks 20 % (`--mask-rate`): short rows leave little else to learn from.
pretrain = Stage("pretrain", terms=((1.0, hard_labels.masked_lm),), recipes={
    "paper": Recipe(steps=1_000_000, batch_size=256, learning_rate=1e-4, warmup=10_000, max_length=512),
    "laptop": Recipe(steps=2_300, batch_size=32, learning_rate=2e-3, warmup=230, max_length=64)})

# Appendix A.3: batch 16 or 32, learning rate 5e-5, 3e-5 or 2e-5, 2 to 4 epochs; steps follow from the epochs.
finetune = Stage("finetune", terms=((1.0, hard_labels.classes),), recipes={
    "paper": Recipe(steps=300, batch_size=32, learning_rate=3e-5, warmup=30, max_length=128),
    "laptop": Recipe(steps=300, batch_size=32, learning_rate=1e-4, warmup=30, max_length=128)})
EPOCHS = 3
