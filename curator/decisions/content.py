"""What a row shows, as a hash: by it a journal knows its rows again."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np


def content_of(value: dict[str, Any] | bytes | list[float] | None) -> str:
    """Hash of an encoded image, the bytes of a text, or a row of features."""
    if isinstance(value, dict):
        value = value.get("bytes") or b""
    content = value if isinstance(value, bytes) else np.asarray(value or [], np.float32).tobytes()
    return hashlib.blake2b(content, digest_size=8).hexdigest()
