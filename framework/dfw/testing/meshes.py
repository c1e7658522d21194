"""Textured meshes that the kit shows exporters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dfw.interfaces.mesh import Floats, Ints, Mesh, TexturedMesh

_CORNERS = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float32)
_FACES = np.array([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]])


def ball() -> TexturedMesh:
    """An octahedron, each face split into four, stretched by another factor along each axis and moved off the centre."""
    a, b, c = (_CORNERS[_FACES[:, k]] for k in range(3))
    ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
    corners = np.concatenate([np.stack(three, 1) for three in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]).reshape(
        -1, 3
    )
    vertices, faces = np.unique(corners / np.linalg.norm(corners, axis=1, keepdims=True), axis=0, return_inverse=True)
    return textured(vertices * np.array([0.5, 0.7, 0.9]) + np.array([0.1, -0.2, 0.3]), faces.reshape(-1, 3))


def shiny_ball() -> TexturedMesh:
    """The same with roughness, metallic and bumps as textures."""
    pixels = np.arange(8 * 8 * 3).reshape(8, 8, 3)
    shine = np.stack([np.full((8, 8), 255), pixels[..., 1], pixels[..., 2]], axis=-1)
    tilted = np.stack([128 + pixels[..., 0] % 50, 128 - pixels[..., 1] % 50, np.full((8, 8), 230)], axis=-1)
    return replace(ball(), metallic_roughness=shine.astype(np.uint8), normal_map=tilted.astype(np.uint8))


def triangles(count: int) -> TexturedMesh:
    """`count` triangles that share no corner, on a spiral: 3 `count` vertices."""
    turn = 2.4 * np.arange(count)
    middle = np.stack([np.cos(turn), np.sin(turn), np.linspace(-1, 1, count)], 1)
    shape = 0.1 * np.array([[0, 0, 1], [0.5, 0, -1], [-0.5, 0.3, -1]])
    return textured((middle[:, None] + shape).reshape(-1, 3), np.arange(3 * count).reshape(-1, 3))


def textured(vertices: Floats, faces: Ints) -> TexturedMesh:
    """A mesh with a small texture; each triangle has texture coordinates of its own."""
    count = faces.size
    uv = (np.arange(2 * count).reshape(-1, 2) * 0.37) % 1.0
    texture = (np.arange(8 * 8 * 3).reshape(8, 8, 3) * 5 % 256).astype(np.uint8)
    colour = (np.arange(3 * len(vertices)).reshape(-1, 3) * 7 % 256).astype(np.uint8)
    own = np.arange(count).reshape(-1, 3)
    mesh = Mesh(vertices.astype(np.float32), faces.astype(np.int64))
    return TexturedMesh(mesh, faces.ravel().astype(np.int64), own, uv.astype(np.float32), texture, colour)
