"""tinydistill: the reference implementation of Transformer distillation. The map of the house is in README.md."""

from tinydistill.tensor import RowSparse, Tensor, gradients, no_grad
from tinydistill import ops

__version__ = "0.1.0"
__all__ = ["RowSparse", "Tensor", "gradients", "no_grad", "ops"]
