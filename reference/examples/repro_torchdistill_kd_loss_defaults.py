"""torchdistill 1.1.5: KDLoss cannot be made with its own defaults, alpha=None and beta=None.

torchdistill/losses/mid_level.py, line 174: `self.beta = 1 - alpha if beta is None else beta`. Line 185 has a branch for
alpha None, which is reached where beta is given. The docstring calls alpha a float; the signature makes it None.
"""

from torchdistill.losses.mid_level import KDLoss

try:
    got = KDLoss("out", "output", "out", "output", temperature=2.0)
except TypeError as problem:
    got = f"TypeError: {problem}"
print(f"expected a KDLoss, got {got}")
