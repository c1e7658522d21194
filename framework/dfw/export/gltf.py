"""Extensions of glTF that a file needs. The reader of meshes ignores those it does not know, and would show something else."""

from __future__ import annotations

import json
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dfw.errors import ConfigError

GEOMETRY = {"KHR_draco_mesh_compression": "DracoPy", "EXT_meshopt_compression": None, "KHR_mesh_quantization": None}
"""Extension that says where corners are -> the library with which it is read; None: it is not."""
TEXTURES = {
    "KHR_texture_transform": "moves its textures (KHR_texture_transform), which is not read: colours may lie at wrong places",
    "KHR_texture_basisu": "has textures of a kind that is not read (KHR_texture_basisu): their colours are left out",
}


def check_extensions(path: Path) -> list[str]:
    """Returns what is not read of the textures of a glTF file or GLB, as what follows its name in a sentence.

    Raises ConfigError if its corners cannot be read. What is no glTF at all has nothing to say here.
    """
    tree = _tree(path)
    used = {name for key in ("extensionsUsed", "extensionsRequired") for name in tree.get(key) or ()}
    for name, library in GEOMETRY.items():
        if name in used and (library is None or find_spec(library) is None):
            install = f", or install the library that reads it: pip install {library}" if library else ""
            raise ConfigError(f"{path}: is compressed ({name}); save it without compression{install}")
    return [said for name, said in TEXTURES.items() if name in used]


def _tree(path: Path) -> dict[str, Any]:
    """Returns the JSON of a glTF file or GLB (glTF 2.0, section 4.4); empty for anything else."""
    if path.suffix.lower() not in (".glb", ".gltf"):
        return {}
    data = path.read_bytes()
    if data[:4] == b"glTF" and len(data) >= 20:
        data = data[20 : 20 + struct.unpack("<I", data[12:16])[0]]
    try:
        tree = json.loads(data)
    except ValueError:  # the reader says it better
        return {}
    return tree if isinstance(tree, dict) else {}
