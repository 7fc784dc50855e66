"""One step of Adadelta (Zeiler 2012) as torch.optim.Adadelta defines it, in place.

    g = gradient + decay * parameter            v = rho v + (1 - rho) g^2
    d = sqrt(u + eps) / sqrt(v + eps) * g       u = rho u + (1 - rho) d^2
    parameter = parameter - lr * d

d is in the units of the parameter, so lr = 1 is the paper's; v and u are running means of squares, of gradients and of
steps. The decay is part of the gradient here, not decoupled from it. Shapes: parameter, gradient, v, u the same.
"""

from tinydistill.backend import xp_of
from tinydistill.kernels.adamw import CHUNK, _chunks, _in_order


def adadelta(parameter, gradient, v, u, lr, rho, eps, decay):
    sqrt = xp_of(parameter).sqrt
    g = gradient + decay * parameter
    v += (1 - rho) * (g * g - v)
    d = sqrt(u + eps) / sqrt(v + eps) * g
    u += (1 - rho) * (d * d - u)
    parameter -= lr * d


# ---------------------------------------------------------------- fused NumPy: the same in chunks that stay in cache

def adadelta_numpy(parameter, gradient, v, u, lr, rho, eps, decay):
    if not _in_order(parameter, v, u):
        return adadelta(parameter, gradient, v, u, lr, rho, eps, decay)
    for p, g, v1, u1 in _chunks(parameter, gradient, v, u, size=CHUNK // 2):    # larger temporaries leave the heap
        adadelta(p, g, v1, u1, lr, rho, eps, decay)
