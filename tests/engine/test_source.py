import pytest
import torch

from curator.engine.source import Features, Resident, Sample
from curator.errors import CuratorError


def test_resident():
    images = torch.randint(0, 256, (5000, 3, 4, 6), dtype=torch.uint8)
    source = Resident(images)
    assert len(source) == 5000 and source.shape == (3, 4, 6) and source.kind == "images"
    assert torch.equal(source.batch(torch.tensor([7, 2])), images[[7, 2]])
    mean, std = source.moments()
    x = images.double() / 255
    torch.testing.assert_close(mean.double(), x.mean((0, 2, 3)), atol=1e-6, rtol=0)
    torch.testing.assert_close(std.double(), x.std((0, 2, 3), correction=0), atol=1e-6, rtol=0)


def test_constant_channels_do_not_divide_by_zero():
    _, std = Resident(torch.full((3, 3, 4, 4), 9, dtype=torch.uint8)).moments()
    assert std.tolist() == [1, 1, 1]
    _, std = Features(torch.ones(4, 2)).moments()
    assert std.tolist() == [1, 1]


def test_features():
    rows = torch.randn(20, 5, dtype=torch.float16)
    source = Features(rows)
    assert source.batch(torch.tensor([3])).dtype == torch.float32 and source.shape == (5,)


def test_refusals():
    with pytest.raises(CuratorError, match="expected uint8"):
        Resident(torch.zeros(2, 3, 4, 4))
    with pytest.raises(CuratorError, match="shape"):
        Features(torch.zeros(4))
    with pytest.raises(CuratorError, match="NaN or infinity in row 1"):
        Features(torch.tensor([[1.0], [float("nan")]]))


def test_a_sample_reads_its_own_rows():
    images = torch.arange(5 * 4, dtype=torch.uint8).view(5, 1, 2, 2)
    whole = Resident(images)
    some = Sample(whole, torch.tensor([4, 1, 3]))
    assert len(some) == 3 and some.kind == "images" and some.shape == (1, 2, 2)
    assert torch.equal(some.batch(torch.tensor([2, 0])), images[[3, 4]])
    assert all(torch.equal(a, b) for a, b in zip(some.moments(), whole.moments(), strict=True))
    asked: list[list[int]] = []
    whole.expect = lambda parts: asked.extend(part.tolist() for part in parts)  # type: ignore[method-assign]
    some.expect([torch.tensor([0]), torch.tensor([1, 2])])
    assert asked == [[4], [1, 3]]
