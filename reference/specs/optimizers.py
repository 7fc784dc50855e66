"""Optimisers: conventions and cases. The sums: `optimizers.py`."""

import numpy as np

from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.numbers import exact
from tinydistill_reference.optimizers import (adadelta, adam_weight_decay, adamw, bert_adam, clip_joint_norm, lamb)

ADAMW = {
    "paper": Convention({}, "Loshchilov and Hutter 2019, algorithm 2, with a decay times the rate: torch.optim.AdamW"),
    "epsilon_hat": Convention({"eps_joins": "uncorrected"},
                              "Kingma and Ba 2015, end of section 2; tensorflow/tensorflow issue 9047"),
    "transformers": Convention({"eps_joins": "uncorrected", "decays": "after"},
                               "huggingface/transformers src/transformers/optimization.py AdamW, until version 4"),
}
GOOGLE = {"paper": Convention({}, "google-research/bert optimization.py AdamWeightDecayOptimizer")}
ALONE = {"paper": Convention({}, "pytorch_pretrained_bert optimization.py BertAdam, in TinyBERT and PKD")}
LAMB = {
    "paper": Convention({}, "google-research mobilebert/lamb_optimizer.py; cybertronai/pytorch-lamb, of version 3"),
    "corrected": Convention({"bias_correction": True}, "You et al. 2020, algorithm 2, as of ICLR (unverified)"),
    "clamped": Convention({"largest": 10.0}, "cybertronai/pytorch-lamb, in a later version"),
}
ADADELTA = {"paper": Convention({}, "Zeiler 2012, algorithm 1, with rate and decay as in torch.optim.Adadelta")}
CLIP = {
    "paper": Convention({}, "Pascanu et al. 2013, section 3.2; tf.clip_by_global_norm, of google-research/bert"),
    "torch": Convention({"epsilon": 1e-6}, "torch.nn.utils.clip_grad_norm_"),
}
SHAPE, OTHER = (5, 3), (4,)


def of_two(rule):
    """Of two tensors: what an optimiser does to one does not depend on the other."""
    def forward(weights, gradients, other_weights, other_gradients, rates, **settings):
        return {"after": rule(weights, gradients, rates, **settings),
                "other_after": rule(other_weights, other_gradients, rates, **settings)}
    return forward


def cases(two=False):
    """cases(numbers) of one tensor, or of two of different sizes."""
    def made(numbers):
        def case(id, comment, rates=(0.5, 0.2, 0.3), weights=1.0, gradients=1.0, wrong=0, **attrs):
            steps = len(rates)
            inputs = {"weights": exact(numbers.normal(*SHAPE) * weights),
                      "gradients": exact(numbers.normal(steps, *SHAPE[:-1], SHAPE[-1] + wrong) * gradients)}
            if two:
                inputs |= {"other_weights": exact(numbers.normal(*OTHER) * 3 * weights),
                           "other_gradients": exact(numbers.normal(steps, *OTHER) * 0.1 * gradients)}
            special = {"result": "error", "error": "(?i)shape|size"} if wrong else {}
            return Case(id, comment, inputs | {"rates": exact(rates)}, attrs, min_dtype="float32", **special)

        yield case("01-one", "one step", rates=(0.5,))
        yield case("02-three", "three steps, each with its rate")
        yield case("03-tiny", "gradients of 1e-7, beside which eps is large", gradients=1e-7)
        yield case("04-eps", "gradients of 1e-3 and an eps of 1e-3", gradients=1e-3, eps=1e-3)
        yield case("05-zero", "gradients of 0: the decay alone moves", gradients=0.0, decay=0.25)
        yield case("06-warm-up", "a warm-up, whose first rate is 0: the moments move, the weights do not",
                   rates=(0.0, 0.25, 0.5))
        yield case("07-no-decay", "a decay of 0", decay=0.0)
        yield case("08-strong", "a decay of 0.5", decay=0.5)
        yield case("09-large", "weights of 100", weights=100.0)
        yield case("10-from-0", "weights of 0", weights=0.0)
        yield case("11-still", "gradients of 0, and a decay of 0: nothing moves", gradients=0.0, decay=0.0)
        yield case("12-steep", "gradients of 1000", gradients=1000.0)
        yield case("13-long", "seven steps", rates=(0.1, 0.2, 0.3, 0.4, 0.3, 0.2, 0.1))
        yield case("20-shapes", "gradients of another shape", wrong=1)
    return made


def betas(cases):
    """With a case of other betas."""
    def made(numbers):
        for case in cases(numbers):
            yield case
            if case.id.startswith("13"):
                yield Case("14-betas", "other betas, both of them short", case.inputs, {"beta1": 0.5, "beta2": 0.75},
                           min_dtype="float32")
    return made


def clip_cases(numbers):
    def case(id, comment, one=1.0, other=1.0, clip=1.0, **settings):
        inputs = {"gradients": exact(numbers.normal(*SHAPE) * one),
                  "other_gradients": exact(numbers.normal(*OTHER) * other)}
        return Case(id, comment, inputs | settings, {"clip": clip}, min_dtype="float32")

    yield case("01-longer", "a joint norm of about 4, clipped to 1")
    yield case("02-shorter", "a joint norm below 10: nothing happens", clip=10.0)
    yield case("03-one-shorter", "one tensor alone would be short enough", other=0.01, clip=0.5)
    yield case("04-tiny", "gradients of 1e-6, clipped to 1e-6", one=1e-6, other=1e-6, clip=1e-6)
    yield case("05-zero", "gradients of 0", one=0.0, other=0.0)
    yield case("06-one-zero", "one tensor is 0", other=0.0, clip=0.5)
    yield case("07-steep", "gradients of 1000", one=1000.0, other=1000.0)
    yield case("08-equal", "a joint norm of exactly what is allowed", clip=5.0, gradients=np.array([[3.0, 0.0]]),
               other_gradients=np.array([0.0, -4.0, 0.0]))


def clipped(gradients, other_gradients, **settings):
    one, other = clip_joint_norm(gradients, other_gradients, **settings)
    return {"clipped": one, "other_clipped": other}


ONE = {"weights": "(I, O)", "gradients": "(steps, I, O)", "rates": "(steps,)"}
TWO = {"weights": "(I, O)", "gradients": "(steps, I, O)", "other_weights": "(N,)", "other_gradients": "(steps, N)",
       "rates": "(steps,)"}
BETAS = {"beta1": 0.9, "beta2": 0.999}


def equation(name, paper, where, formula, forward, attrs, conventions, made, two=False):
    return Equation(name, paper, where, formula, forward, None, TWO if two else ONE, (), made, attrs, conventions,
                    ("after", "other_after") if two else ("after",))


EQUATIONS = (
    equation("adamw", "Loshchilov and Hutter 2019", "algorithm 2",
             "w - r (mhat / (sqrt(vhat) + eps) + decay w), mhat = m / (1 - beta1^t), vhat = v / (1 - beta2^t)",
             adamw, {"eps": 1e-8, "decay": 0.01} | BETAS, ADAMW, betas(cases())),
    equation("adam_weight_decay", "Devlin et al. 2019", "appendix A.2, as google-research/bert computes it",
             "w - r (m / (sqrt(v) + eps) + decay w)", adam_weight_decay, {"eps": 1e-6, "decay": 0.01} | BETAS, GOOGLE,
             betas(cases())),
    equation("bert_adam", "no paper: pytorch_pretrained_bert", "BertAdam",
             "w - r (m / (sqrt(v) + eps) + decay w), moments of g min(1, clip / (|g| + 1e-6)), each tensor by itself",
             of_two(bert_adam), {"eps": 1e-6, "decay": 0.01, "clip": 1.0} | BETAS, ALONE, betas(cases(two=True)),
             two=True),
    equation("lamb", "You et al. 2020", "algorithm 2",
             "w - r |w| / |u| u, u = m / (sqrt(v) + eps) + decay w, norms of each tensor, a ratio of 1 where one is 0",
             of_two(lamb), {"eps": 1e-6, "decay": 0.01} | BETAS, LAMB, betas(cases(two=True)), two=True),
    equation("adadelta", "Zeiler 2012", "algorithm 1",
             "w - r d, d = sqrt(E[d^2] + eps) / sqrt(E[g^2] + eps) g, g with decay w in it, E a mean of decay rho",
             adadelta, {"eps": 1e-6, "decay": 0.0, "rho": 0.95}, ADADELTA, cases()),
    Equation("clip_joint_norm", "Pascanu et al. 2013", "section 3.2, algorithm 1", "g min(1, clip / |all gradients|)",
             clipped, None, {"gradients": "(I, O)", "other_gradients": "(N,)"}, (), clip_cases, {"clip": 1.0}, CLIP,
             ("clipped", "other_clipped")),
)
