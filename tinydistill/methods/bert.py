"""BERT's own two stages (Devlin et al. 2019): masked language modelling, then fine-tuning. No teacher."""

from tinydistill.losses import hard_labels
from tinydistill.methods.stage import MASKED, TASK, Recipe, Stage

# Appendix A.2: 1,000,000 steps of 256 sequences of up to 512 tokens, learning rate 1e-4, warm-up 10,000, decay 0.01.
# The laptop recipe masks 20 % (`--mask-rate`): short rows leave little else to learn from. A masked language model of
# this size first learns word frequencies and stays there for a thousand updates; many small batches bring it past that.
PRETRAIN = {
    "paper": Recipe(steps=1_000_000, batch_size=256, learning_rate=1e-4, warmup=10_000, max_length=512),
    "laptop": Recipe(steps=4_600, batch_size=16, learning_rate=1e-3, warmup=460, beta2=0.98, max_length=64)}
pretrain = Stage("pretrain", terms=((1.0, hard_labels.masked_lm),), reads=MASKED, head="masked-lm", recipes=PRETRAIN)
pretrain_pairs = Stage("pretrain", terms=((1.0, hard_labels.masked_lm), (1.0, hard_labels.next_sentence)), reads=MASKED,
                       head="pretraining", recipes=PRETRAIN)

# Appendix A.3: batch 16 or 32, learning rate 5e-5, 3e-5 or 2e-5, 2 to 4 epochs; the warm-up is a tenth of the steps.
FINETUNE = {
    "paper": Recipe(steps=100, batch_size=32, learning_rate=3e-5, warmup=10, max_length=128, epochs=3),
    "laptop": Recipe(steps=100, batch_size=32, learning_rate=1e-4, warmup=10, max_length=128, epochs=3)}
finetune = Stage("finetune", terms=((1.0, hard_labels.classes),), reads=TASK, head="task", recipes=FINETUNE)
# What papers searched in fine-tuning: BERT's appendix A.3, and MiniLM's for its students (CoLA, RTE and MRPC up to 10 epochs).
GRIDS = {"bert": {"lr": (5e-5, 3e-5, 2e-5), "epochs": (2, 3, 4), "batch_size": (16, 32)},
         "minilm": {"lr": (2e-5, 3e-5, 4e-5, 5e-5), "epochs": (3, 4, 5), "batch_size": (32,)},
         # cbenge509/BERTVision searched rates from 1e-6 to 1e-3, seeds and its pooler's width; these are the decades.
         "bert-vision": {"lr": (1e-6, 1e-5, 1e-4, 1e-3), "seed": (0, 1, 2)}}
