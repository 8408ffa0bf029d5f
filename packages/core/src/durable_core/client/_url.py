"""Engine URLs, and the default one."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from durable_core import _defaults
from durable_core.exceptions import EngineURLError, NotSupported, StoreReadOnlyError

__all__ = ["default_url", "location", "memory_name", "resolve"]

_log = logging.getLogger("durable_core.client")
_logged: set[Path] = set()
_LATER = {
    "postgresql": "PostgreSQL",
    "postgres": "PostgreSQL",
    "temporal": "Temporal",
}


def resolve(url: str | None) -> Path:
    """Return the database file that a URL names; without one, ``$DURABLE_URL`` or the default file.

    Raises:
        EngineURLError: The URL is malformed or its scheme is unknown.
        NotSupported: The scheme is known and its engine is not there yet.
        StoreError: The default folder cannot be made.
    """
    if url is None:
        url = os.environ.get(_defaults.URL_VARIABLE) or None

    path = _default_file() if url is None else _parse(url)
    path = path.absolute()
    if path not in _logged:
        _logged.add(path)
        _log.info("durable store: %s", path)

    return path


def memory_name(url: str | None) -> str | None:
    """Return the name of the store in memory that a URL names; None if it names another place.

    Raises:
        EngineURLError: It is malformed.
    """
    given = url or os.environ.get(_defaults.URL_VARIABLE) or ""
    parts = urlsplit(given)
    if parts.scheme != "memory":
        return None

    if not given.lower().startswith("memory://") or parts.path.strip("/") or parts.query:
        raise EngineURLError(f"{given!r} is no store in memory: use memory:// or memory://name")

    return parts.netloc


def location(url: str | None) -> str:
    """Return what tells the store that a URL names from others.

    Raises:
        As `resolve`.
    """
    name = memory_name(url)
    return str(resolve(url)) if name is None else f"memory://{name}"


def default_url() -> str:
    """Return the URL that is in force when none is given."""
    return (
        os.environ.get(_defaults.URL_VARIABLE)
        or f"sqlite:///{_defaults.STORE_FOLDER}/{_defaults.STORE_FILE}"
    )


def _parse(url: str) -> Path:
    parts = urlsplit(url)
    if parts.scheme == "memory":
        raise NotSupported(
            f"{url!r} is a store in the memory of one process, which no other can see: use "
            "sqlite:///path"
        )

    if parts.scheme in _LATER:
        raise NotSupported(
            f"{url!r}: {_LATER[parts.scheme]} is not supported by this version yet; use sqlite:///path"
        )

    if parts.scheme != "sqlite":
        raise EngineURLError(
            f"{url!r} has the unknown scheme {parts.scheme!r}; use sqlite:///relative/path or sqlite:////absolute/path"
        )

    # `sqlite:file` and `sqlite:/file` parse as well, with the slashes at another place.
    spelt = url.lower().startswith("sqlite:///")
    if not spelt or not parts.path.strip("/") or parts.query or parts.fragment:
        raise EngineURLError(
            f"{url!r} does not name a file; use sqlite:///relative/path or "
            "sqlite:////absolute/path (three or four slashes, no host, no options)"
        )

    if parts.path == "/:memory:":
        raise NotSupported(
            f"{url!r}: SQLite in memory has no file that processes could share; use memory://"
        )

    return Path(unquote(parts.path[1:]))


def _default_file() -> Path:
    folder = Path(_defaults.STORE_FOLDER)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            _write(ignore, "*\n")
    except OSError as error:
        from durable_core.stores.sqlite import _open

        if error.errno in _open.NO_SPACE:
            raise _open.disk_full(folder.absolute(), error.strerror) from error

        raise StoreReadOnlyError(
            f"cannot make the folder {folder.absolute()} for the durable store ({error.strerror}). "
            "Name another place by DURABLE_URL=sqlite:///path"
        ) from error

    return folder / _defaults.STORE_FILE


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError:
        # An empty one would ignore nothing, and would be kept.
        path.unlink(missing_ok=True)
        raise
