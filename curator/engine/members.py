"""Several nets of one kind that train at once: their weights lie stacked, a row a member."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from curator.engine.nets import Net

How = Literal["vmap", "loop"]


class Members(nn.Module):
    """The logits of m nets: in training of a batch each, in evaluation all of the same rows.

    One optimizer over the stacked parameters does what one a member would do, as long as it works number by number
    (SGD, Adam).
    """

    template: Net

    def __init__(self, nets: Sequence[Net], how: How):
        super().__init__()
        self.how, self.count = how, len(nets)
        parameters, buffers = stack_module_state(list(nets))
        self.names, self.buffer_names = list(parameters), list(buffers)
        self.stacked = nn.ParameterList(p.detach().requires_grad_() for p in parameters.values())
        for i, buffer in enumerate(buffers.values()):
            self.register_buffer(f"buffer{i}", buffer)
        template = copy.deepcopy(nets[0])
        for module in template.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):  # under vmap it cannot read bf16 beside float32
                module.register_forward_pre_hook(lambda _, inputs: tuple(x.float() for x in inputs))
        object.__setattr__(self, "template", template)  # no child: its own weights are never used

    def restart(self, nets: Sequence[Net]) -> None:
        """Take the weights of other nets of the kind, in place."""
        with torch.no_grad():
            parameters, buffers = stack_module_state(list(nets))
            for mine, theirs in zip(self.stacked, parameters.values(), strict=True):
                mine.copy_(theirs)
            for i, theirs in enumerate(buffers.values()):
                getattr(self, f"buffer{i}").copy_(theirs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (m, b, k) of x: float (m, b, ...) in training mode, (b, ...) in evaluation mode."""
        self.template.train(self.training)
        buffers = {name: getattr(self, f"buffer{i}") for i, name in enumerate(self.buffer_names)}
        if self.how == "vmap":
            parameters = dict(zip(self.names, self.stacked, strict=True))
            places = (0, 0, 0 if self.training else None)
            # cuDNN's batch normalisation asks for the layout of channels-last rows, which vmap cannot tell.
            return torch.func.vmap(self._one, places, randomness="different")(parameters, buffers, x.contiguous())
        own = [p.unbind() for p in self.stacked]  # its gradient is one stack, not a full tensor a member
        return torch.stack(
            [
                self._one(
                    dict(zip(self.names, (p[i] for p in own), strict=True)),
                    {name: buffer[i] for name, buffer in buffers.items()},
                    x[i] if self.training else x,
                )
                for i in range(self.count)
            ]
        )

    def _one(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(self.template, {**parameters, **buffers}, (x,)).logits


def best_way(device: torch.device) -> How:
    """One batched pass on GPUs; on a CPU one net after another is faster, MLPs, too (bench/pudistill.py)."""
    return "loop" if device.type == "cpu" else "vmap"
