"""A ProMix step written the straightforward way: what bench/step.py measures ours against.

float32 and NCHW, views made per sample by torchvision on PIL images, boolean gathers, masks and permutations in numpy
on the CPU, and `.item()` in every step. Published codes also fetch the loss of every row, one scalar after the other,
for each net once an epoch: a step pays for its rows. The same nets, batch and losses as ours.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from curator.engine.nets import build_net

TAU, RHO, ALPHA, MOMENTUM, TEMPERATURE = 0.99, 0.9, 0.8, 0.9999, 0.5


class Rows(Dataset):
    """One row: its weak view, its strong view, its one-hot label and its number."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, classes: int):
        mean, std = (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)
        crop = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
        tensor = [transforms.ToTensor(), transforms.Normalize(mean, std)]
        self.weak = transforms.Compose([*crop, *tensor])
        self.strong = transforms.Compose(
            [transforms.RandAugment(num_ops=3), *crop, *tensor, transforms.RandomErasing(p=1, scale=(0.01, 0.2))]
        )
        self.images, self.labels, self.classes = images, labels, classes

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, Tensor, int]:
        from PIL import Image

        image = Image.fromarray(self.images[i])
        label = torch.zeros(self.classes)
        label[self.labels[i]] = 1
        return self.weak(image), self.strong(image), label, i


def fmix_mask(share: float, size: int, decay: float = 3.0) -> np.ndarray:
    """One binary mask (size, size)."""
    fx, fy = np.fft.rfftfreq(size), np.fft.fftfreq(size)[:, None]
    frequency = np.maximum(np.sqrt(fx**2 + fy**2), 1 / size)
    noise = np.random.randn(2, *frequency.shape)
    grey = np.fft.irfft2((noise[0] + 1j * noise[1]) / frequency**decay, (size, size))
    count = math.ceil(share * size**2) if random.random() > 0.5 else math.floor(share * size**2)
    mask = np.zeros(size**2, np.float32)
    mask[grey.ravel().argsort()[::-1][:count]] = 1
    return mask.reshape(size, size)


class Reference:
    """Two nets, one optimizer, four priors, and the step."""

    def __init__(self, images, labels, classes: int, batch: int, flags: Tensor, workers: int, net: str):
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.nets = nn.ModuleList(build_net(net, (3, 32, 32), classes, auxiliary=True) for _ in range(2))
        self.nets.to(self.device).train()
        self.optimizer = torch.optim.SGD(self.nets.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
        self.priors = [[torch.full((classes,), 1 / classes, device=self.device) for _ in range(2)] for _ in range(2)]
        self.flags, self.classes = flags, classes
        self.losses = np.zeros((2, batch))
        self.loader = DataLoader(
            Rows(images, labels, classes), batch, shuffle=True, drop_last=True, num_workers=workers
        )

    def steps(self) -> Iterator[float]:
        """Train for ever; each yield is the loss of a step."""
        while True:
            for weak, strong, labels, index in self.loader:
                weak, strong, labels = (t.to(self.device) for t in (weak, strong, labels))
                yield self.step(weak, strong, labels, self.flags[:, index].to(self.device))

    def step(self, weak: Tensor, strong: Tensor, labels: Tensor, flags: Tensor) -> float:
        """One step of both nets."""
        seen = [(net(weak), net(strong)) for net in self.nets]
        probs = [out.logits.detach().softmax(1) for out, _ in seen]
        total = torch.zeros((), device=self.device)
        for i, net in enumerate(self.nets):
            clean, targets = flags[i].bool() | (probs[i][labels.bool()] > TAU), labels.clone()
            self.guess(i, clean, targets, probs)
            prior, rest = (p.log() * ALPHA for p in self.priors[i])
            pseudo = (F.softmax(seen[i][0].logits.detach() - rest, 1) ** (1 / TEMPERATURE)).clamp_min(1e-12)
            pseudo = pseudo / pseudo.sum(1, keepdim=True)
            for head in ("logits", "auxiliary"):
                for view in seen[i]:
                    z = getattr(view, head)
                    total = total + F.cross_entropy(z[clean] + prior, targets[clean])
                    if head == "auxiliary" and (~clean).any():
                        total = total + 0.05 * F.cross_entropy(z[~clean] + rest, pseudo[~clean])
                x, y = weak[clean], targets[clean]
                weight = np.random.beta(4, 4)
                weight, partner = max(weight, 1 - weight), torch.randperm(len(x))
                z = getattr(net(weight * x + (1 - weight) * x[partner]), head) + prior
                total = total + F.cross_entropy(z, weight * y + (1 - weight) * y[partner])
                share, partner = np.random.beta(1, 1), torch.randperm(len(x))
                mask = torch.from_numpy(fmix_mask(share, 32)).to(self.device)
                z = getattr(net(mask * x + (1 - mask) * x[partner]), head) + prior
                total = total + share * F.cross_entropy(z, y) + (1 - share) * F.cross_entropy(z, y[partner])
            for group, mask in enumerate((clean, ~clean)):
                if mask.any():
                    mean = probs[i][mask].mean(0)
                    self.priors[i][group] = MOMENTUM * self.priors[i][group] + (1 - MOMENTUM) * mean
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        for i, (out, _) in enumerate(seen):
            losses = F.cross_entropy(out.logits.detach(), labels, reduction="none")
            for row in range(len(losses)):
                self.losses[i][row] = losses[row].item()
        return total.item()

    def guess(self, i: int, clean: Tensor, targets: Tensor, probs: list[Tensor]) -> None:
        """Add rows that both nets are sure of."""
        room = int(RHO * len(clean)) - int(clean.sum().item())
        (top0, guess0), (top1, guess1) = (p.max(1) for p in probs)
        agreed = torch.where(~clean & (top0 > TAU) & (top1 > TAU) & (guess0 == guess1))[0]
        best = (top0 + top1)[agreed].argsort(descending=True)[: max(room, 0)]
        added = agreed[best]
        clean[added] = True
        debiased = (probs[i][added].log() - ALPHA * self.priors[i][0].log()).argmax(1)
        targets[added] = F.one_hot(debiased, self.classes).float()
