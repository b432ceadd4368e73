"""Settings that do not go together, and values that no run can use: refused in one line."""

from __future__ import annotations

from typing import Any

from curator.config.flags import METHOD, Settings, hints
from curator.config.layers import is_frozen
from curator.config.values import nearest
from curator.engine.nets import NETS, OF_FEATURES, PRETRAINED
from curator.errors import CuratorError
from curator.methods import AUTO, METHODS, Method
from curator.methods.fields import ranges


def check_net(settings: Settings) -> None:
    """Refuse a net that is unknown, or does not read these rows."""
    net, frozen = str(settings.net), is_frozen(vars(settings))
    if settings.backbone is not None and settings.features_column is not None:
        raise CuratorError("--backbone makes features, --features-column reads them; give only one")
    if settings.text_column is not None and settings.image_column is not None:
        raise CuratorError("--image-column and --text-column: rows are read as one of them; give only one")
    if settings.text_column is not None and not frozen:  # of flags it is added, of a recipe it is not
        raise CuratorError("--text-column: expected --backbone in the recipe, too; add it, or --features-column")
    if net not in NETS:
        raise CuratorError(f"--net: expected one of {', '.join(NETS)}{nearest(net, NETS)}; found {net!r}")
    if (net in OF_FEATURES) != frozen:
        raise CuratorError(
            f"--net {net}: on frozen features it is mlp or linear; leave --net out, or the recipe that sets it"
            if frozen
            else f"--net {net} reads features: add --backbone or --features-column"
        )
    if settings.pretrained and net not in PRETRAINED:
        raise CuratorError(f"--pretrained is for --net {' or '.join(PRETRAINED)}; found --net {net}")


def check_method_object(method: Any, hyper: dict[str, Any]) -> None:
    """Refuse an object that is no method, and hyperparameters beside it."""
    if isinstance(method, type):
        raise CuratorError(f"method: expected an object, found the class {method.__name__}: call it, as X(epochs=9)")
    if hyper:
        raise CuratorError(
            f"method: {METHOD}{next(iter(hyper))} was given beside a method object; set it on the object"
        )
    if not isinstance(method, Method):
        raise CuratorError(
            f"method: expected a name or an object whose class inherits from curator.methods.Method, "
            f"found {type(method).__name__}"
        )


def check_auto(given: dict[str, Any]) -> None:
    """Refuse, beside --method auto, what is of one method."""
    fixed = (key for key in given if key in ("pred_probs", "recipe") or key.startswith(METHOD))
    if unfit := next((key for key in fixed if given[key] is not None), None):
        flag = unfit.replace("_", "-")
        raise CuratorError(
            f"--method {AUTO} picks the method, and --{flag} is of one: name that method, or leave --{flag} out"
        )


def check_ensemble(text: str, names: list[str], given: dict[str, Any], method: Method | None) -> None:
    """Refuse members that are not two methods, and settings of one method."""
    if AUTO in names:
        raise CuratorError(
            f"--ensemble {text}: {AUTO} picks one method by the rows; name the members, or --method {AUTO}"
        )
    wrong = next((name for name in names if name not in METHODS), None)
    if wrong is not None or len(names) < 2 or len(set(names)) < len(names):
        hint = nearest(wrong, METHODS) if wrong else ""
        raise CuratorError(f"--ensemble: expected two or more of {', '.join(METHODS)}, as a,b; found {text!r}{hint}")
    fixed = (key for key in given if key in ("method", "recipe") or key.startswith(METHOD))
    unfit = next((key for key in fixed if given[key] is not None), None)
    if method is not None or unfit:
        raise CuratorError(
            f"--ensemble {text}: every method takes its own recipe or defaults; leave --{unfit or 'method'} out"
        )


def check_ranges(settings: Settings, method: Method) -> None:
    """Refuse values outside the ranges on their fields, and flags that this method cannot heed."""
    if settings.public and settings.push_to_hub is None:
        raise CuratorError("--public is for --push-to-hub ID; add it, or leave --public out")
    if settings.crop_area is not None and settings.crop is None:
        raise CuratorError("--crop-area is of windows scaled to --crop PIXELS; add it, or leave --crop-area out")
    if settings.early_stop is not None and not method.early_stops:
        raise CuratorError(
            f"--early-stop watches the corrected labels, which --method {settings.method} fixes before its last nets "
            "are trained; leave it out, or shorten the training with --epochs"
        )
    for prefix, holder in (("", settings), (METHOD, method)):
        for name, hint in hints(type(holder)).items():
            value = getattr(holder, name)
            for wanted in ranges(hint):
                if value is not None and value not in wanted:
                    flag = f"--{prefix}{name.replace('_', '-')}"
                    raise CuratorError(f"{flag}: expected {wanted}, found {value}")
