"""Where a store lies: what is told of places that do not last."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from durable_core.client import _place
from durable_core.exceptions import StoreError

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
tmpfs /run tmpfs rw 0 0
server:/home /mnt/my\\040files nfs4 rw 0 0
/dev/sdb /mnt/my\\040files/local ext4 rw 0 0
"""


@pytest.fixture(autouse=True)
def _mounts(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda path, **_: MOUNTS)
    monkeypatch.setattr(_place, "_warned", set())
    for name in (*_place._SERVERLESS, "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)


def told(path, url=None):
    return _place.warnings_of(Path(path), named=url is not None)


def test_an_ordinary_disk_is_no_news():
    assert told("/var/lib/app/durable.db") == []


def test_a_file_in_memory_is_told_even_if_it_was_named():
    (warning,) = told("/run/me/durable.db", "sqlite:////run/me/durable.db")

    assert "/run/me/durable.db lies in memory (tmpfs)" in warning
    assert "DURABLE_URL" in warning


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("AWS_LAMBDA_FUNCTION_NAME", "AWS Lambda"),
        ("K_SERVICE", "Cloud Run"),
        ("KUBERNETES_SERVICE_HOST", "Kubernetes pod"),
    ],
)
def test_a_default_file_that_ends_with_its_machine_is_told(monkeypatch, variable, said):
    monkeypatch.setenv(variable, "x")

    (warning,) = told("/app/durable.db")
    assert said in warning
    assert told("/app/durable.db", "sqlite:////app/durable.db") == []


def test_a_network_file_system_is_refused_and_a_disk_mounted_below_it_is_not():
    with pytest.raises(StoreError, match=r"network file system \(nfs4\)"):
        _place.check(Path("/mnt/my files/durable.db"), None)

    _place.check(Path("/mnt/my files/local/durable.db"), None)


def test_the_warning_comes_once_per_file(caplog, monkeypatch):
    monkeypatch.delenv("DURABLE_URL", raising=False)
    with caplog.at_level(logging.WARNING, "durable_core.client"):
        for _ in range(3):
            _place.check(Path("/run/a.db"), None)

    assert len(caplog.records) == 1
