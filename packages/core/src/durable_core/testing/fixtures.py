"""Pytest fixtures: name this module in a ``conftest.py``.

::

    pytest_plugins = ["durable_core.testing.fixtures"]

Every test then has a store of its own in its ``tmp_path``, and none touches the default file.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from durable_core import _defaults

__all__ = ["durable_url"]


@pytest.fixture(autouse=True)
def durable_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    """Keep the test off the default store, and yield the URL of the one that it has instead."""
    url = f"sqlite:///{tmp_path / _defaults.STORE_FILE}"
    monkeypatch.setenv(_defaults.URL_VARIABLE, url)
    yield url  # noqa: PT022  # for as long as the variable is set
