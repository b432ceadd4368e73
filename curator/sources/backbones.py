"""What --backbone names: encoders with their weights, the size of images that each reads, and several of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

from curator.engine.encoders import UNLIKE, Backbone
from curator.engine.held import Held
from curator.engine.pretrained import MODES, load_encoder
from curator.errors import CuratorError
from curator.sources.images import OWN_SIZE, Access, choose_size
from curator.sources.pictures import Decoder, Scaling
from curator.sources.table import Table
from curator.sources.weights import Weights, fetch_weights, is_hub_id
from curator.text import Log

if TYPE_CHECKING:
    from curator.config.flags import Settings
    from curator.engine.hardware import Precision
    from curator.engine.texts import TextEncoder

Encoder = TypeVar("Encoder", Backbone, "TextEncoder")  # of images, or of texts
AUTO, SIDE = "timm/vit_small_patch14_dinov2.lvd142m", 224  # what auto is, for images


@dataclass
class Eye(Generic[Encoder]):
    """A backbone, and how the images of a table are decoded for it; of texts an encoder of them.

    Attributes:
        backbone: makes features of them.
        size: (h, w) that they are decoded to; None where that is not known and none of them can be decoded.
        access: to them.
        weights: of the Hub, if they are.
        auto: whether they are those of auto, and
        side: pixels a side of what it sees of an image.
        fingerprint: of the backbone, once the size is known.
    """

    backbone: Encoder
    size: tuple[int, ...] | None
    access: Access
    weights: Weights | None = None
    auto: bool = False
    side: int | None = None
    fingerprint: str = ""

    def facts(self) -> dict[str, Any]:
        """What a result says of it."""
        if self.weights is None:
            return {"given": str(self.backbone.name)}
        w, name = self.weights, "auto" if self.auto else self.weights.id
        known = {"id": w.id, "revision": w.commit, "license": w.license, "permissive": w.free}
        return {"given": f"{name}@{w.commit}", "px": self.side, **known}


def open_eyes(
    settings: Settings, table: Table, device: torch.device, precision: Precision, say: Log
) -> list[Eye[Backbone]]:
    """The backbones that a run names, with their weights.

    Raises:
        CuratorError: for those that are not to be had.
    """
    given = settings.backbone
    if given is None:
        return []
    names = [given] if isinstance(given, Held) else [part.strip() for part in given.split("+")]
    if "" in names or len(set(names)) < len(names):
        raise CuratorError(f"--backbone {given}: expected different backbones with + between them, as a+b")
    rows = len(table.rows) + sum(map(len, table.others.values()))
    return [_open(name, settings, table, device, precision, rows, say) for name in names]


def _open(
    name: str, settings: Settings, table: Table, device: torch.device, precision: Precision, rows: int, say: Log
) -> Eye[Backbone]:
    wanted, net = settings.image_size, str(settings.net)

    def sized(side: int | None) -> tuple[int, int] | None:
        return choose_size(table.data, str(table.image_column), table.rows, side, net, table.access)

    auto = name == "auto" or name.startswith("auto@")  # at a commit, as cards name it
    if isinstance(name, Held) or not (auto or is_hub_id(name)):
        backbone = Backbone(name, device, precision, rows=rows)
        return Eye(backbone, sized(wanted or backbone.side), table.access)
    weights = fetch_weights(AUTO + name.removeprefix("auto") if auto else name, default=name == "auto")
    encoder = load_encoder(weights.folder, name, wanted or (SIDE if auto else None))
    look = encoder.look
    known = weights.license or "unknown"
    say(f"backbone  {weights.id} at commit {weights.commit[:12]}, {look.side} px, license {known}")
    if not weights.free:
        say(weights.warning())
    own = sized(None)  # small images are scaled on the device
    size = own if own is not None and max(own) <= OWN_SIZE else (look.read, look.read)
    scaling = Scaling(MODES[look.interpolation], look.squash, 2 * look.read)
    access = replace(table.access, decoder=Decoder(table.access.decoder.memory, table.access.decoder.spans, scaling))
    pinned = f"{weights.id}@{weights.commit}"
    return Eye(Backbone(pinned, device, precision, encoder, rows), size, access, weights, auto, look.side)


def note_unlike(eyes: list[Eye], say: Log) -> None:
    """Say of which backbones no features are kept."""
    for eye in eyes:
        if eye.fingerprint.startswith(UNLIKE):
            say(
                f"note      nothing tells {eye.backbone.name} from another function: its features are not kept, "
                "and an interrupted run starts anew; give a function with a name of its own, or a module"
            )
