"""torchdistill 1.1.5: KDLoss leaves T^2 out where alpha is 0.

torchdistill/losses/mid_level.py: the docstring (line 142) says alpha L_CE + (1 - alpha) tau^2 L_KL; lines 185 and 186
return L_KL for alpha 0, None, or no targets. The loss jumps by tau^2 between alpha = 0 and the least alpha above it.
"""

import torch
from torchdistill.losses.mid_level import KDLoss

student, teacher = ({"out": {"output": torch.tensor([[0.0, z]])}} for z in (0.0, 4.0))
none, least = (KDLoss("out", "output", "out", "output", temperature=2.0, alpha=alpha)(student, teacher,
               torch.tensor([1])).item() for alpha in (0.0, 1e-12))
p = 1 / (1 + torch.e ** -2.0)                                       # of the teacher's second class, at T = 2
expected = 4 * (p * torch.log(torch.tensor(2 * p)) + (1 - p) * torch.log(torch.tensor(2 * (1 - p)))).item()
print(f"expected {expected:.6f}, got {none:.6f} for alpha = 0 and {least:.6f} for alpha = 1e-12")
