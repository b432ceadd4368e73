import zlib
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from torch.nn import functional as F
from torchvision.transforms import AutoAugment, AutoAugmentPolicy, InterpolationMode, RandAugment
from torchvision.transforms.autoaugment import _apply_op

from curator.engine.augment import (
    NUMBER,
    OPS,
    SIGNED,
    Draws,
    _magnitudes,
    augment,
    cutout,
    draw_auto_augment,
    draw_cutout,
    draw_rand_augment,
    draw_random_augment,
)

GEOMETRY = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
FACTORS = ("Brightness", "Contrast", "Color", "Sharpness")
SHAPES = [(c, *size) for c in (3, 1) for size in ((32, 32), (20, 28))]
SIZE = (20, 28)  # of the draws: height and width must not be confused


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(c, h, w):
    """64 images: random, smooth, of few values, constant."""
    g = seeded()
    random = torch.randint(0, 256, (24, c, h, w), dtype=torch.uint8, generator=g)
    smooth = F.interpolate(torch.rand((24, c, 4, 4), generator=g), size=(h, w), mode="bicubic")
    few = 85 * torch.randint(0, 4, (8, c, h, w), dtype=torch.uint8, generator=g)
    constant = torch.tensor([0, 1, 2, 77, 128, 200, 254, 255], dtype=torch.uint8).view(8, 1, 1, 1).expand(8, c, h, w)
    return torch.cat([random, (255 * smooth).clamp(0, 255).to(torch.uint8), few, constant])


def magnitudes(name, h, w, n):
    """Magnitudes of the operation's whole range, one an image."""
    spans = dict.fromkeys(FACTORS, (0.05, 1.9)) | {"Posterize": (4, 8), "Solarize": (0, 255), "Rotate": (-30, 30)}
    spans |= {"ShearX": (-0.3, 0.3), "ShearY": (-0.3, 0.3)}
    spans |= {"TranslateX": (-0.45 * w, 0.45 * w), "TranslateY": (-0.45 * h, 0.45 * h)}
    return torch.linspace(*spans.get(name, (0, 0)), n)[torch.randperm(n, generator=seeded(1))]


def drawn(name, magnitude):
    """Draws of one step, of the same operation for every image."""
    return Draws(torch.full((len(magnitude), 1), NUMBER[name]), magnitude[:, None])


def to_pil(image):
    array = image.permute(1, 2, 0).numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def to_tensor(image):
    return torch.from_numpy(np.array(image)).view(*image.size[::-1], -1).permute(2, 0, 1)


def with_pillow(image, name, m, fill):
    p = to_pil(image)
    fill = fill if p.mode == "L" else (fill,) * 3
    matrices = {
        "ShearX": (1, m, 0, 0, 1, 0), "ShearY": (1, 0, 0, m, 1, 0),
        "TranslateX": (1, 0, m, 0, 1, 0), "TranslateY": (1, 0, 0, 0, 1, m),
    }  # fmt: skip
    if name in matrices:
        p = p.transform(p.size, Image.Transform.AFFINE, matrices[name], Image.Resampling.NEAREST, fillcolor=fill)
    elif name == "Rotate":
        p = p.rotate(m, fillcolor=fill)
    elif name in FACTORS:
        p = getattr(ImageEnhance, name)(p).enhance(m)
    elif name in ("Posterize", "Solarize"):
        p = getattr(ImageOps, name.lower())(p, int(m) if name == "Posterize" else m)
    elif name != "Identity":
        p = getattr(ImageOps, name.lower())(p)
    return to_tensor(p)


def check(name, got, expected, share=1.0):
    """Geometry: a hundredth of the pixels may differ; others: by 1/255, at a share of the places."""
    assert got.shape == expected.shape and got.dtype == torch.uint8
    if name in GEOMETRY:
        assert (got != expected).any(1).float().mean() <= 0.01
    else:
        assert (got.int() - expected.int()).abs().max() <= 1
        assert (got != expected).float().mean() <= share


@pytest.mark.parametrize("shape", [*SHAPES, (3, 9, 13)])  # in the last, 255 grey levels are more than the pixels
@pytest.mark.parametrize("name", OPS)
def test_operations_are_those_of_pillow(name, shape):
    x = images(*shape)
    m = magnitudes(name, *shape[1:], len(x))
    for fill in (0, 128) if name in GEOMETRY else (0,):
        expected = torch.stack([with_pillow(i, name, float(v), fill) for i, v in zip(x, m, strict=True)])
        check(name, augment(x, drawn(name, m), fill), expected, share=0.01)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OPS)
def test_operations_are_those_of_torchvision(name, shape):
    x = images(*shape)
    m = magnitudes(name, *shape[1:], len(x))
    theirs = m
    if name in FACTORS:
        theirs = m - 1
    elif name.startswith("Translate"):  # torchvision moves the image, by whole pixels; ours the place it is read from
        m = m.trunc()
        theirs = -m
    expected = [
        _apply_op(i, name, float(v), InterpolationMode.NEAREST, fill=None) for i, v in zip(x, theirs, strict=True)
    ]
    check(name, augment(x, drawn(name, m)), torch.stack(expected))


def test_directions():
    x = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)
    x[0, 0, 1, 3] = 255
    for name, magnitude, place in (
        ("Identity", 0, (1, 3)),
        ("TranslateX", 2, (1, 1)),
        ("TranslateY", -2, (3, 3)),
        ("Rotate", 90, (1, 1)),
        ("Rotate", -90, (3, 3)),
    ):
        out = augment(x, drawn(name, torch.tensor([float(magnitude)])))
        assert out.nonzero().tolist() == [[0, 0, *place]], name


@pytest.mark.parametrize("c", [1, 3])
def test_constant_grey_stays(c):
    x = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, c, 17, 16)
    for name in ("Identity", "AutoContrast", "Equalize", "Contrast", "Color", "Sharpness"):
        assert torch.equal(augment(x, drawn(name, torch.full((256,), 0.3))), x), name


def test_fill_shows_only_where_the_image_was_moved_away():
    x = torch.full((1, 3, 8, 8), 7, dtype=torch.uint8)
    out = augment(x, drawn("TranslateX", torch.tensor([3.0])), fill=128)
    assert (out[..., :5] == 7).all() and (out[..., 5:] == 128).all()


@pytest.mark.parametrize("c", [1, 3])
def test_every_image_has_its_own_steps_in_their_order(c):
    x = images(c, *SIZE)
    draws = draw_random_augment(len(x), SIZE, seeded())
    out = augment(x, draws)
    for i, image in enumerate(x):
        alone = image[None]
        for step in range(3):
            alone = augment(alone, Draws(draws.op[i : i + 1, step, None], draws.magnitude[i : i + 1, step, None]))
        assert torch.equal(alone[0], out[i])
    assert (out != x).flatten(1).any(1).float().mean() > 0.8


def by_name(draws):
    """All magnitudes drawn, by operation."""
    return {name: draws.magnitude[draws.op == i] for i, name in enumerate(OPS) if (draws.op == i).any()}


def check_draws(draw, steps):
    """Fourteen operations, equally often, and every image and step by itself."""
    draws = draw(50_000, SIZE, seeded())
    assert draws.op.shape == draws.magnitude.shape == (50_000, steps)
    assert draws.op.dtype == torch.int64 and draws.magnitude.dtype == torch.float32
    found = Counter(draws.op.flatten().tolist())
    assert set(found) == {i for i, name in enumerate(OPS) if name != "Invert"}
    for count in found.values():
        assert count / draws.op.numel() == pytest.approx(1 / 14, abs=0.004)
    assert (draws.op[1:] == draws.op[:-1]).float().mean() == pytest.approx(1 / 14, abs=0.004)
    assert (draws.op[:, 1] == draws.op[:, 0]).float().mean() == pytest.approx(1 / 14, abs=0.006)
    again, other = draw(50_000, SIZE, seeded()), draw(50_000, SIZE, seeded(1))
    assert all(torch.equal(a, b) and not torch.equal(a, c) for a, b, c in zip(draws, again, other, strict=True))
    return draws


def test_draws_of_promix():
    ranges = dict.fromkeys(FACTORS, (0.05, 0.95)) | {"Posterize": (4, 8), "Solarize": (0, 256), "Rotate": (-30, 30)}
    ranges |= {"ShearX": (-0.3, 0.3), "ShearY": (-0.3, 0.3), "TranslateX": (-8.4, 8.4), "TranslateY": (-6, 6)}
    draws = check_draws(draw_random_augment, 3)
    # Of two equal operations of an image only those without a magnitude have the same.
    (op, other), (m, other_m) = draws.op[:, :2].T, draws.magnitude[:, :2].T
    assert (m == other_m)[op == other].float().mean() == pytest.approx(3 / 14, abs=0.03)
    for name, m in by_name(draws).items():
        if name not in ranges:
            assert not m.any()
            continue
        low, high = ranges[name]
        share = (m - low) / (high - low)
        # Uniform: every tenth of the range has a tenth of the draws.
        assert -1e-6 <= share.min() < 0.01 and 0.99 < share.max() <= 1 + 1e-6
        assert share.clamp(0, 1).histc(10, 0, 1).div(len(m)).sub(0.1).abs().max() < 0.015, name


def strengths(space, name, level, whole=True):
    """Torchvision's strength at a level as the set of our magnitudes."""
    table, signed = space[name]
    m = float(table[level]) if table.ndim else 0.0
    m = int(m) if whole and name.startswith("Translate") else m  # torchvision cuts the pixels off where it uses them
    assert signed == (name in SIGNED)
    return {round((name in FACTORS) + s * m, 4) for s in ((-1, 1) if signed else (1,))}


def test_draws_of_rand_augment_are_torchvisions():
    for name, m in by_name(check_draws(draw_rand_augment, 2)).items():
        if name in SIGNED:
            assert (m > (name in FACTORS)).float().mean() == pytest.approx(0.5, abs=0.03)
    for bins in (31, 10):
        space = RandAugment()._augmentation_space(bins, SIZE)
        for level in range(bins):
            draws = draw_rand_augment(500, SIZE, seeded(), magnitude=level, bins=bins)
            found = by_name(draws)
            assert set(found) == set(space)
            for name, m in found.items():
                assert {round(v, 4) for v in m.tolist()} == strengths(space, name, level), (name, level)


@pytest.mark.parametrize("policy", ["cifar10", "imagenet"])
def test_draws_of_auto_augment_are_torchvisions(policy):
    theirs = AutoAugment(AutoAugmentPolicy(policy))
    # The policies as they were when this was written: others would change results without a word.
    known = {"cifar10": 3254467930, "imagenet": 135116760}
    assert zlib.crc32(repr(theirs.policies).encode()) == known[policy]

    # How often each pair of (operation, magnitude) must be drawn.
    space = theirs._augmentation_space(10, SIZE)
    expected = Counter()
    for pair in theirs.policies:
        outcomes = []
        for name, p, level in pair:
            values = strengths(space, name, level, whole=False)
            outcomes.append([("Identity", 0.0, 1 - p)] + [(name, m, p / len(values)) for m in values])
        for name0, m0, p0 in outcomes[0]:
            for name1, m1, p1 in outcomes[1]:
                expected[name0, m0, name1, m1] += p0 * p1 / 25
    n = 100_000
    draws = draw_auto_augment(n, SIZE, seeded(), policy=policy)
    assert draws.op.shape == draws.magnitude.shape == (n, 2)
    found = Counter()
    for ops, ms in zip(draws.op.tolist(), draws.magnitude.tolist(), strict=True):
        names = [OPS[i] for i in ops]
        ms = [0.0 if name == "Identity" else round(m, 4) for name, m in zip(names, ms, strict=True)]
        found[names[0], ms[0], names[1], ms[1]] += 1 / n
    assert all(expected[key] > 0 for key in found)
    assert max(abs(found[key] - p) for key, p in expected.items()) < 0.004


def test_translations_of_augdmix():
    """Of a side of 32 pixels they move by the nearest whole number of 150 / 331 of the side times the level / 9."""
    moved, ramp = [], torch.arange(32, dtype=torch.uint8).expand(1, 1, 32, 32)
    for x in _magnitudes(["TranslateX"], 10, (32, 32), whole_pixels=False)[0].tolist():
        left, right = (augment(ramp, drawn("TranslateX", torch.tensor([m])))[0, 0, 0].tolist() for m in (x, -x))
        moved.append(left[0])
        assert right[-1] == 31 - left[0]
    assert moved == [0, 2, 3, 5, 6, 8, 10, 11, 13, 15]


def test_cutout_boxes():
    h, w = SIZE
    left, top, right, bottom = boxes = draw_cutout(20_000, SIZE, seeded()).T
    assert boxes.dtype == torch.int64 and boxes.shape == (4, 20_000)
    assert (boxes >= 0).all() and (left < w).all() and (right <= w).all() and (top < h).all() and (bottom <= h).all()
    wide, high = right - left, bottom - top
    assert wide.min() == 0 and wide.max() == 13  # sides in (0, 14)
    # Square where not cut by the right or lower edge, and so not shortened at the left and upper one.
    uncut = (right < w) & (bottom < h)
    assert (wide == high)[uncut].all()
    for at_edge in (left == 0, top == 0):
        assert at_edge.float().mean() > 0.1 and high[uncut & at_edge].max() == 13
    assert (wide < high)[(right == w) & (bottom < h)].any() and (wide > high)[(right < w) & (bottom == h)].any()
    tiny = draw_cutout(20_000, SIZE, seeded(), largest=1e-6)  # where the centre is: as released in (1, w), not (0, w)
    assert tiny.amin(0).tolist() == [1, 1, 1, 1] and tiny.amax(0).tolist() == [w - 1, h - 1, w - 1, h - 1]
    assert draw_cutout(2000, SIZE, seeded(), largest=0.25)[:, [0, 2]].diff().max() == 6


def test_cutout_covers_what_the_rule_covers():
    """The rule one box at a time, drawn by Pillow from fractional corners."""
    h, w = SIZE
    n = 20_000
    rng = np.random.default_rng(0)
    expected = np.zeros(SIZE)
    for _ in range(n):
        side, x, y = rng.uniform(0, 0.5 * w), rng.uniform(1, w), rng.uniform(1, h)
        left, top = int(max(0, x - side / 2)), int(max(0, y - side / 2))
        canvas = Image.new("L", (w, h))
        ImageDraw.Draw(canvas).rectangle((left, top, min(w, left + side), min(h, top + side)), 1)
        expected += np.asarray(canvas)
    boxes = draw_cutout(n, SIZE, seeded())
    covered = cutout(torch.zeros(1, 3, h, w, dtype=torch.uint8), boxes, (1, 1, 1))[:, 0].float().mean(0)
    assert np.abs(covered.numpy() - expected / n).max() < 0.015


@pytest.mark.parametrize("c", [1, 3])
def test_cutout_paints_as_pillow_does(c):
    x, (h, w) = images(c, *SIZE), SIZE
    xs = torch.randint(0, w + 1, (64, 2), generator=seeded()).sort(1).values
    ys = torch.randint(0, h + 1, (64, 2), generator=seeded(1)).sort(1).values
    boxes = torch.stack([xs[:, 0], ys[:, 0], xs[:, 1], ys[:, 1]], 1)
    boxes[0] = torch.tensor([4, 5, 4, 5])  # one pixel
    for colour in ((125, 123, 114), (9, 200, 30)):
        ink = colour if c == 3 else Image.new("RGB", (1, 1), colour).convert("L").getpixel((0, 0))
        out = cutout(x, boxes, colour)
        assert out.shape == x.shape and out.dtype == torch.uint8
        for image, box, painted in zip(x, boxes, out, strict=True):
            expected = to_pil(image)
            ImageDraw.Draw(expected).rectangle(box.tolist(), ink)
            assert torch.equal(painted, to_tensor(expected))
    assert torch.equal(cutout(x, boxes), cutout(x, boxes, (125, 123, 114)))


@pytest.mark.parametrize("c", [1, 3])
def test_compiles_without_graph_breaks(c):
    x = images(c, *SIZE)
    draws, boxes = draw_random_augment(64, SIZE, seeded()), draw_cutout(64, SIZE, seeded())
    for function, arguments in ((augment, (x, draws)), (cutout, (x, boxes))):
        compiled = torch.compile(function, fullgraph=True, backend="eager")
        assert torch.equal(compiled(*arguments), function(*arguments))


@pytest.mark.parametrize("size", [(1, 4), (2, 2), (2, 5)])
def test_tiny_images(size):
    images = torch.randint(0, 256, (8, 3, *size), dtype=torch.uint8)
    draws = draw_random_augment(8, size, torch.Generator().manual_seed(0))
    assert augment(images, draws).shape == images.shape
