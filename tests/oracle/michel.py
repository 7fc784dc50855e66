"""transformers' BERT with an explicit gate on every head: what importance and pruned models are compared with."""

import torch

from oracle import bert


class Gated:
    """The twin with the context of its heads multiplied by gates: one array for each layer, as (B, A, T, K) or less."""

    def __init__(self, twin, gates):
        self.twin, self.gates = twin, [torch.tensor(g, requires_grad=True) for g in gates]

    def __enter__(self):
        heads = self.twin.config.num_attention_heads

        def hook(gate):
            def multiply(module, inputs, output):
                context = output[0].unflatten(-1, (heads, -1)).transpose(1, 2)          # (B, A, T, K)
                return (context * gate).transpose(1, 2).flatten(2), *output[1:]
            return multiply
        self.hooks = [layer.attention.self.register_forward_hook(hook(gate))
                      for layer, gate in zip(self.twin.base_model.encoder.layer, self.gates)]
        return self

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()

    def features(self, batch):
        return bert.features(self.twin, batch)

    def gradients(self, batch, upstream):
        """{their name: gradient}."""
        return bert.gradients(self.twin, batch, upstream)[1]

    def of_gates(self, batch):
        """d sum_x L(x) / d gate for the cross-entropy of each example, by layer."""
        logits = bert.graph(self.twin, batch)["logits", None]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(batch.labels).long(), reduction="sum")
        return [g.numpy() for g in torch.autograd.grad(loss, self.gates)]
