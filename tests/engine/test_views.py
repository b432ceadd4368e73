from typing import get_args

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_pre_hook

from curator.engine.augment import (
    augment,
    cutout,
    draw_auto_augment,
    draw_cutout,
    draw_rand_augment,
    draw_random_augment,
    draw_square,
)
from curator.engine.nets import Net
from curator.engine.source import held
from curator.engine.views import (
    Strong,
    Views,
    crop_flip,
    cropped,
    fmix_masks,
    jitter,
    level_sets,
    low_frequency_images,
    mixup,
    normalise,
    normaliser_of,
    strengthen,
)
from curator.methods import METHODS
from tests.conftest import noisy


def images(b=64, h=12, w=10, c=3):
    return torch.randint(0, 256, (b, c, h, w), dtype=torch.uint8, generator=seeded(0))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def close(found, expected, atol=1e-6):
    torch.testing.assert_close(found, torch.tensor(expected, dtype=found.dtype), atol=atol, rtol=0)


def all_views(image: torch.Tensor, padding: int, flip: bool) -> list[torch.Tensor]:
    """Every crop of the padded image, and their mirror images."""
    c, h, w = image.shape
    padded = F.pad(image, (padding,) * 4)
    crops = [padded[:, y : y + h, x : x + w] for y in range(2 * padding + 1) for x in range(2 * padding + 1)]
    return crops + [c.flip(-1) for c in crops] * flip


@pytest.mark.parametrize("flip", [False, True])
def test_every_row_is_a_crop_of_its_image(flip):
    x = images()
    out = crop_flip(x, seeded(1), padding=2, flip=flip)
    assert out.shape == x.shape and out.dtype == torch.uint8
    assert out.is_contiguous(memory_format=torch.channels_last)
    found = [
        [i for i, v in enumerate(all_views(row, 2, flip)) if torch.equal(v, o)] for row, o in zip(x, out, strict=True)
    ]
    assert all(found)
    assert len({f[0] for f in found}) > 15  # each row drew for itself


def test_without_padding_half_is_mirrored():
    x = images(2000)
    out = crop_flip(x, seeded(1), padding=0, flip=True)
    mirrored = (out == x.flip(-1)).flatten(1).all(1)
    kept = (out == x).flatten(1).all(1)
    assert (mirrored | kept).all() and 0.45 < mirrored.float().mean() < 0.55


def test_windows_of_photos():
    """Resized to 256, cut to 224: anywhere in training, and without black; in the centre else."""
    x, views = images(300, 8, 7), Views(crop=5)
    out = views.window(x, seeded(1))
    h, w = x.shape[2:]
    assert out.shape == (300, 3, 5, 5)
    places = [(top, left) for top in range(h - 4) for left in range(w - 4)]
    found = set()
    for row, cut in zip(x, out, strict=True):
        windows = [row[:, top : top + 5, left : left + 5] for top, left in places]
        found.add(next(i for i, v in enumerate(windows + [v.flip(-1) for v in windows]) if torch.equal(v, cut)))
    assert len(found) == 2 * len(places)  # all of them, mirrored or not
    seen = normaliser_of(held(x, torch.device("cpu")), torch.device("cpu"), 5)
    mean, std = held(x, torch.device("cpu")).moments()
    top, left = round((h - 5) / 2), round((w - 5) / 2)
    assert torch.equal(seen(x), normalise(x[:, :, top : top + 5, left : left + 5], mean, std))
    assert torch.equal(seen(out), normalise(out, mean, std))  # what was cut in training


def test_windows_of_random_area():
    """Areas are uniform from the least one to the whole, shapes from 3:4 to 4:3, and pixels those of the window."""
    h, w, n = 40, 60, 2000
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    image = torch.stack([4 * x, 4 * y, torch.zeros_like(x)]).to(torch.uint8)
    views = Views(crop=20, crop_area=0.1, flip=True)
    out = views.window(image.expand(n, -1, -1, -1), seeded(1))
    assert out.shape == (n, 3, 20, 20) and out.dtype == torch.uint8
    out = out.float()
    across, down = out[:, 0].mean(1), out[:, 1].mean(2)  # (n, 20) each
    wide, high = ((v[:, -1] - v[:, 0]) / 19 * 20 / 4 for v in (across, down))
    assert 0.45 < (wide < 0).float().mean() < 0.55  # mirrored
    wide, area = wide.abs(), (wide.abs() * high) / (h * w)
    assert 0.07 < area.min() < 0.15 and area.max() > 0.6
    assert (wide / high).min() > 0.7 and (wide / high).max() < 1.4
    assert across.min() < 8 and across.max() > 4 * w - 12 and down.min() < 8 and down.max() > 4 * h - 12  # anywhere
    whole = Views(crop=20, crop_area=1.0, flip=False).window(torch.zeros(4, 3, 8, 90, dtype=torch.uint8), seeded(2))
    assert whole.shape == (4, 3, 20, 20)  # no shape fits: all of it


@pytest.mark.parametrize("name, settings", [
    ("ce", {}), ("promix", {"warmup": 1}), ("dividemix", {"warmup": 1, "augment": "augdmix"}), ("bootstrap", {}),
])  # fmt: skip
def test_nets_see_windows_alone(name, settings, make_run):
    data, _ = noisy(40, 2, size=8)
    run, shapes = make_run(views=Views(crop=6)), set()

    def note(module, inputs):
        shapes.update({tuple(inputs[0].shape[1:])} if isinstance(module, Net) else ())

    hook = register_module_forward_pre_hook(note)
    try:
        for found in METHODS[name](epochs=2, batch_size=20, **settings)(data, run):
            found.check(data)
    finally:
        hook.remove()
    assert shapes == {(3, 6, 6)}


def test_same_generator_same_views():
    x = images()
    a, b, c = (crop_flip(x, seeded(s), padding=2, flip=True) for s in (1, 1, 2))
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


def test_mixed_target_has_the_mixed_loss():
    logits, labels, partner = torch.tensor([[2.0, 0, 0], [0, 1, 0]]), torch.tensor([0, 1]), torch.tensor([1, 0])
    _, targets = mixup(logits, torch.eye(3)[labels], torch.tensor(0.3), partner)
    own, other = F.cross_entropy(logits, labels), F.cross_entropy(logits, labels[partner])
    close(torch.stack([own, other]), [0.395495, 1.895495], 1e-5)
    assert F.cross_entropy(logits, targets).item() == pytest.approx(1.445495, abs=1e-5)
    assert 0.3 * own + 0.7 * other == pytest.approx(1.445495, abs=1e-5)


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("kind", get_args(Strong))
def test_strong_views(kind, c):
    x = images(h=20, w=24, c=c)
    before = x.clone()
    a, b, other = (strengthen(x, kind, seeded(s)) for s in (1, 1, 2))
    assert a.shape == x.shape and a.dtype == torch.uint8 and torch.equal(x, before)
    assert torch.equal(a, b) and not torch.equal(a, other)
    assert (a != x).flatten(1).any(1).float().mean() > 0.5  # AutoAugment often leaves them
    # Every image has a draw of its own: the same image comes out in many ways.
    same = strengthen(x[:1].expand(64, -1, -1, -1), kind, seeded(1))
    assert len(same.flatten(1).unique(dim=0)) > 20


def test_kinds_of_strong_views():
    x, size = images(), (12, 10)
    expected = {
        "rand_augment": draw_rand_augment(64, size, seeded(1)),
        "auto_cifar10": draw_auto_augment(64, size, seeded(1), policy="cifar10"),
        "auto_imagenet": draw_auto_augment(64, size, seeded(1), policy="imagenet"),
    }
    for kind, draws in expected.items():
        assert torch.equal(strengthen(x, kind, seeded(1)), augment(x, draws)), kind
    g = seeded(1)
    view = augment(x, draw_auto_augment(64, size, g, policy="cifar10"))
    assert torch.equal(strengthen(x, "auto_cifar10_cutout", seeded(1)), cutout(view, draw_square(64, size, g)))
    g = seeded(1)
    view = augment(x, draw_random_augment(64, size, g))
    assert torch.equal(strengthen(x, "random_augment", seeded(1)), cutout(view, draw_cutout(64, size, g)))


def test_which_cut_out():
    painted = torch.tensor([125, 123, 114], dtype=torch.uint8).view(3, 1, 1)
    x = torch.zeros(64, 3, 12, 10, dtype=torch.uint8)
    for kind in get_args(Strong):
        has_box = (strengthen(x, kind, seeded(1)) == painted).all(1).flatten(1).any(1)
        assert has_box.all() if kind in ("random_augment", "auto_cifar10_cutout") else not has_box.any()


def test_jitter():
    x = torch.full((400, 50), 3.0)
    a, b, other = (jitter(x, seeded(s), noise=0.5, drop=0.2) for s in (1, 1, 2))
    assert a.shape == x.shape and torch.equal(a, b) and not torch.equal(a, other)
    kept = a[a != 0]
    assert 1 - len(kept) / x.numel() == pytest.approx(0.2, abs=0.015)
    assert kept.mean() == pytest.approx(3, abs=0.02) and kept.std() == pytest.approx(0.5, abs=0.02)
    assert torch.equal(jitter(x, seeded(1), noise=0, drop=0), x)


def test_level_sets_worked_numbers():
    grey = [[0.1, 0.8, 0.35, 0.62], [0.55, 0.2, 0.95, 0.05], [0.7, 0.4, 0.15, 0.88], [0.25, 0.5, 0.3, 0.75]]
    masks = level_sets(torch.tensor([grey, grey]), torch.tensor([0.3, 0.3]), torch.tensor([True, False]))
    assert masks.dtype == torch.bool and masks.shape == (2, 1, 4, 4)
    assert masks.int().tolist() == [
        [[[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1], [0, 0, 0, 1]]],  # 5 of 4.8 pixels
        [[[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1]]],  # 4 of 4.8 pixels
    ]


def test_level_sets_of_nothing_of_all_and_of_equals():
    grey = torch.zeros(3, 2, 2)
    share, up = torch.tensor([0.0, 1.0, 0.5]), torch.tensor([True, False, True])
    assert level_sets(grey, share, up).sum((1, 2, 3)).tolist() == [0, 4, 2]


FMIX = {  # rows 0 and 3, mean, largest pixel; rows and columns of the mask of one half; changes downwards and across
    "textbook": (
        [0.804011, 0.551374, 0.238776, 0.173078, 0.344776, 0.550812, 0.680460, 0.799407],
        [0.437354, 0.212154, 0.075802, 0.110276, 0.358798, 0.607200, 0.678758, 0.606181],
        (0.487537, 55),
        ([5, 4, 3, 3, 3, 4, 5, 5], [5, 3, 0, 0, 0, 8, 8, 8]),
        (0.0462, 0.0581),
    ),
    "released": (
        [0.931692, 0.692512, 0.397818, 0.220236, 0.263793, 0.502973, 0.797667, 0.975249],
        [0.301074, 0.053571, 0.043499, 0.276759, 0.616709, 0.864212, 0.874284, 0.641024],
        (0.515189, 15),
        ([4, 4, 4, 4, 3, 4, 4, 5], [5, 3, 3, 2, 3, 5, 6, 5]),
        (0.0417, 0.0608),
    ),
}


@pytest.mark.parametrize("spectrum", FMIX)
def test_fmix_worked_numbers(spectrum):
    row0, row3, (mean, largest), (rows, columns), _ = FMIX[spectrum]
    noise = torch.from_numpy(np.random.RandomState(0).randn(1, 8, 5, 2))
    grey = low_frequency_images(noise, (8, 8), decay=3, spectrum=spectrum)
    assert grey.shape == (1, 8, 8) and grey.min() == 0 and grey.max() == 1
    close(grey[0, 0], row0)
    close(grey[0, 3], row3)
    assert grey.mean().item() == pytest.approx(mean, abs=1e-6) and grey.argmax() == largest
    mask = level_sets(grey, torch.tensor([0.5]), torch.tensor([True]))[0, 0]
    assert mask.sum(1).tolist() == rows and mask.sum(0).tolist() == columns
    # In float32 as well: the default spectrum is the released one.
    if spectrum == "released":
        close(low_frequency_images(noise.float(), (8, 8))[0, 0], row0, 1e-5)


@pytest.mark.parametrize("spectrum", FMIX)
def test_orientation_of_fmix_masks(spectrum):
    """How often neighbours differ over 2000 masks; of both spectra, less often downwards than across."""
    noise = torch.from_numpy(np.random.RandomState(1).randn(2000, 32, 17, 2))
    half = torch.full((2000,), 0.5)
    masks = level_sets(low_frequency_images(noise, (32, 32), spectrum=spectrum), half, half > 0)[:, 0]
    downwards, across = (masks.diff(dim=d).float().mean().item() for d in (1, 2))
    assert (downwards, across) == pytest.approx(FMIX[spectrum][-1], abs=6e-5)


def test_fmix_masks():
    h, w = 7, 9
    share = torch.linspace(0, 1, 400)
    a, b, other = (fmix_masks(share, (h, w), seeded(s)) for s in (1, 1, 2))
    assert a.shape == (400, 1, h, w) and a.dtype == torch.bool
    assert torch.equal(a, b) and not torch.equal(a, other)
    area, exact = a.sum((1, 2, 3)), 63 * share
    up, down = area == exact.ceil(), area == exact.floor()
    assert (up | down).all() and 0.4 < up[1:-1].float().mean() < 0.6
    same = fmix_masks(torch.full((50,), 0.5), (h, w), seeded(1))
    assert len(same.flatten(1).unique(dim=0)) == 50  # one mask for each


def test_cuts_and_masks_compile_whole():
    x, g = images(8), seeded(1)
    for function, arguments in (
        (cropped, (x, torch.randint(9, (2, 8, 1), generator=g), torch.rand((8, 1), generator=g) < 0.5, 4)),
        (low_frequency_images, (torch.randn((8, 12, 6, 2), generator=g), (12, 10))),
        (level_sets, (torch.rand((8, 12, 10), generator=g), torch.rand(8, generator=g), torch.arange(8) % 2 == 0)),
    ):
        compiled = torch.compile(function, fullgraph=True, backend="eager")
        assert torch.equal(compiled(*arguments), function(*arguments)), function.__name__
