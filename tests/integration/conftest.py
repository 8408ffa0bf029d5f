"""Fixtures of more than one of these files."""

from __future__ import annotations

import uuid

import pytest
from support.rows import opened_store


@pytest.fixture(params=["sqlite", "memory"])
def url(request, store_url):
    """Return the URL of a fresh store, of each kind in turn."""
    return f"memory://{uuid.uuid4()}" if request.param == "memory" else store_url


@pytest.fixture(params=["sqlite", "memory"])
def store(request, tmp_path):
    """Return what opens a fresh store, of each kind in turn."""
    return lambda: opened_store(request.param, tmp_path / "store.db")
