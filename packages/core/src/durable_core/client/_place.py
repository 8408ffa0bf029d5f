"""Where a database file lies, and whether it outlives the process there."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from durable_core import _defaults
from durable_core.exceptions import StoreError

__all__ = ["check", "files_of", "warnings_of"]

_log = logging.getLogger("durable_core.client")
_warned: set[Path] = set()

_IN_MEMORY = {"tmpfs", "ramfs"}
_NETWORK = {"afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "lustre", "nfs", "nfs4", "smb3"}
_SERVERLESS = {
    "AWS_LAMBDA_FUNCTION_NAME": "AWS Lambda",
    "FUNCTIONS_WORKER_RUNTIME": "Azure Functions",
    "K_SERVICE": "Cloud Run",
    "VERCEL": "Vercel",
}


def check(path: Path, url: str | None) -> None:
    """Warn once in the log if a file may not outlive the process.

    Args:
        path: Of the database.
        url: That named it; None if its user named none here.

    Raises:
        StoreError: It lies on a network file system, where SQLite cannot lock it reliably.
    """
    if _kind(path) in _NETWORK:
        raise StoreError(
            f"{path} lies on a network file system ({_kind(path)}), where SQLite's locks and its "
            "write-ahead log do not work: name a local disk by DURABLE_URL=sqlite:////path"
        )

    if path in _warned:
        return

    _warned.add(path)
    named = bool(url or os.environ.get(_defaults.URL_VARIABLE))
    for warning in warnings_of(path, named=named):
        _log.warning("%s", warning)


def warnings_of(path: Path, *, named: bool) -> list[str]:
    """Return why a file may not outlive the process, each with what to do."""
    found: list[str] = []
    kind = _kind(path)
    remedy = "name a lasting disk by DURABLE_URL=sqlite:////path"
    if kind in _IN_MEMORY:
        found.append(f"the durable store {path} lies in memory ({kind}) and ends with it: {remedy}")

    if named:
        return found

    serverless = next((name for v, name in _SERVERLESS.items() if os.environ.get(v)), None)
    if serverless is not None:
        found.append(
            f"this is {serverless}, whose files end with the instance: the durable store {path} "
            f"does, too; {remedy}"
        )
    elif os.environ.get("KUBERNETES_SERVICE_HOST"):
        found.append(
            f"this is a Kubernetes pod, whose files end with it unless they lie on a volume: the "
            f"durable store is {path}; {remedy}"
        )

    return found


def files_of(path: Path) -> list[Path]:
    """Return the files of a database that exist."""
    names = (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm"))
    return [name for name in names if name.exists()]


def _kind(path: Path) -> str:
    """Return the kind of file system that a path is on, empty if that is not known."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

    best, kind = -1, ""
    for line in mounts.splitlines():
        _, point, found, *_ = line.split(" ")
        # Spaces and the like are written as octal numbers there.
        place = Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), point))
        if len(place.parts) >= best and path.is_relative_to(place):
            best, kind = len(place.parts), found

    return kind
