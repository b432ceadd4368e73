import pytest
import torch
from torch.nn import functional as F

from curator.engine.views import crop_flip, mixup, normalise


def images(b=64, h=12, w=10):
    return torch.randint(0, 256, (b, 3, h, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def all_views(image: torch.Tensor, padding: int, flip: bool) -> list[torch.Tensor]:
    """Every crop of the padded image, and their mirror images."""
    c, h, w = image.shape
    padded = F.pad(image, (padding,) * 4)
    crops = [padded[:, y : y + h, x : x + w] for y in range(2 * padding + 1) for x in range(2 * padding + 1)]
    return crops + [c.flip(-1) for c in crops] * flip


@pytest.mark.parametrize("flip", [False, True])
def test_every_row_is_a_crop_of_its_image(flip):
    x = images()
    out = crop_flip(x, torch.Generator().manual_seed(1), padding=2, flip=flip)
    assert out.shape == x.shape and out.dtype == torch.uint8
    assert out.is_contiguous(memory_format=torch.channels_last)
    found = [
        [i for i, v in enumerate(all_views(row, 2, flip)) if torch.equal(v, o)] for row, o in zip(x, out, strict=True)
    ]
    assert all(found)
    assert len({f[0] for f in found}) > 15  # each row drew for itself


def test_without_padding_half_is_mirrored():
    x = images(2000)
    out = crop_flip(x, torch.Generator().manual_seed(1), padding=0, flip=True)
    mirrored = (out == x.flip(-1)).flatten(1).all(1)
    kept = (out == x).flatten(1).all(1)
    assert (mirrored | kept).all() and 0.45 < mirrored.float().mean() < 0.55


def test_same_generator_same_views():
    x = images()
    a, b, c = (crop_flip(x, torch.Generator().manual_seed(s), padding=2, flip=True) for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_normalise():
    x = images()
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])
    expected = (x.float() / 255 - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    torch.testing.assert_close(normalise(x, mean, std), expected, atol=1e-5, rtol=0)
    rows = torch.randn(5, 3)
    torch.testing.assert_close(normalise(rows, mean, std), (rows - mean) / std)


def test_mixup_worked_numbers():
    x = torch.tensor([[1.0, 2], [3, 4], [5, 6]])
    partner = torch.tensor([2, 0, 1])
    mixed, targets = mixup(x, torch.eye(3), torch.tensor(0.7), partner)
    torch.testing.assert_close(mixed, torch.tensor([[2.2, 3.2], [2.4, 3.4], [4.4, 5.4]]))
    torch.testing.assert_close(targets, torch.tensor([[0.7, 0, 0.3], [0.3, 0.7, 0], [0, 0.3, 0.7]]))
    mixed, _ = mixup(x, torch.eye(3), torch.tensor(0.3), partner)
    torch.testing.assert_close(mixed, torch.tensor([[3.8, 4.8], [1.6, 2.6], [3.6, 4.6]]))
    loss = F.cross_entropy(torch.tensor([[1.0, 0, -1]]), targets[:1])
    assert loss.item() == pytest.approx(1.007606, abs=1e-5)


def test_views_compile_without_graph_breaks():
    mean = std = torch.tensor([0.5, 0.5, 0.5])
    x = images(8)
    targets, partner, weight = torch.eye(8), torch.arange(7, -1, -1), torch.tensor(0.3)

    def view(x):
        return mixup(normalise(x, mean, std), targets, weight, partner)

    report = torch._dynamo.explain(view)(x)
    assert report.graph_break_count == 0
