"""TextBrewer 0.2.1.post1: att_mse_loss without a mask takes every score of -0.001 or less for 0.

textbrewer/losses.py, lines 50 and 51: `torch.where(attention_S <= -1e-3, torch.zeros_like(attention_S), attention_S)`.
The docstring promises "the mse loss between `attention_S` and `attention_T`" and calls the arguments logits. TinyBERT's
code, which has this step to drop padded keys (scores near -10000), compares with -1e2.
"""

import torch
from textbrewer.losses import att_mse_loss

student, teacher = torch.tensor([[[[-1.0, 2.0]]]]), torch.tensor([[[[-3.0, 5.0]]]])
expected, got = 6.5, att_mse_loss(student, teacher).item()          # ((-1 + 3)^2 + (2 - 5)^2) / 2
print(f"expected {expected}, got {got}")                            # ((0 - 0)^2 + (2 - 5)^2) / 2 = 4.5
