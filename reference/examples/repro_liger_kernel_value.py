"""liger-kernel 0.8.5: the losses of chunked_loss give a value of float32 for inputs of float64.

liger_kernel/chunked_loss/fused_linear_distillation.py, line 205:
`loss_acc = torch.zeros((), device=student_input.device)` has no dtype, so that it is float32: what one wants for
float16, and less than float64 has. Its users train in bfloat16. Gradients keep the dtype of the inputs.
"""

import torch
from liger_kernel.chunked_loss.jsd_loss import LigerFusedLinearJSDLoss

loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0, compiled=False)
student, teacher = (torch.tensor(z, dtype=torch.float64) for z in ([[0.0, 1.0]], [[2.0, 0.0]]))
same = torch.eye(2, dtype=torch.float64)
log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
expected, got = (log_p.exp() * (log_p - log_q)).sum(), loss(student, same, teacher, same, torch.tensor([0]))
print(f"expected {expected.item():.15f} ({expected.dtype}), got {got.item():.15f} ({got.dtype})")
