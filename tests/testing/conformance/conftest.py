"""What the kit's own checks are to pytest here."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The kit's CUDA check has the marker of all tests that need such a device; the kit itself knows no markers."""
    for item in items:
        if getattr(item, "originalname", "") == "test_cuda":
            item.add_marker("cuda")
