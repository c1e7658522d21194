"""GLB files taken apart by the letter of the specification (glTF 2.0), without a reader's help."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def chunks(path: Path) -> tuple[dict[str, Any], bytes]:
    """JSON and binary part (section 4.4)."""
    data = path.read_bytes()
    size = struct.unpack("<I", data[12:16])[0]
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def view(tree: dict[str, Any], binary: bytes, index: int) -> bytes:
    """The bytes of a buffer view (section 3.6.1)."""
    found = tree["bufferViews"][index]
    return binary[found["byteOffset"] : found["byteOffset"] + found["byteLength"]]


def accessor(tree: dict[str, Any], binary: bytes, index: int) -> np.ndarray:
    """The rows of an accessor of floats (section 3.6.2)."""
    found = tree["accessors"][index]
    assert found["componentType"] == 5126
    width = {"VEC2": 2, "VEC3": 3, "VEC4": 4}[found["type"]]
    return np.frombuffer(view(tree, binary, found["bufferView"]), "<f4")[: found["count"] * width].reshape(-1, width)


def image(tree: dict[str, Any], binary: bytes, texture: int) -> np.ndarray:
    """The pixels of a texture (section 3.8)."""
    source = tree["images"][tree["textures"][texture]["source"]]
    return np.asarray(Image.open(io.BytesIO(view(tree, binary, source["bufferView"]))).convert("RGB"))
