"""``durable doctor``: whether this machine, the store and its runs are in order."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import msgspec

from durable_core import _defaults
from durable_core.client import _place, _url
from durable_core.exceptions import DurableError

from ._format import count, one_line
from ._store import Statuses, connected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable_core.client import Client

__all__ = ["examine"]

_PACKAGES = (
    "durable-core",
    "durable-openai-agents",
    "durable-pydantic-ai",
    "apsw",
    "openai-agents",
)
_LITTLE_SPACE = 1024**3
_SHOWN = 10


class _Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    level: Literal["ok", "note", "bad"]
    what: str
    remedy: str = ""


@click.command("doctor", short_help="Check this machine, the store and its runs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@click.option("--url", metavar="URL", help="As before the command.")
@click.pass_obj
def examine(outer_url: str | None, as_json: bool, url: str | None) -> None:  # noqa: FBT001
    """Check this machine, the store and its runs; exit with 1 if something is wrong.

    Nothing is changed.
    """
    findings = asyncio.run(_look(url or outer_url))
    if as_json:
        from ._stdout import print_json

        print_json([{"level": f.level, "what": f.what, "remedy": f.remedy} for f in findings])
    else:
        from ._screen import Line, Screen

        screen = Screen.of_stdout()
        styles = {"ok": "green", "note": "yellow", "bad": "bold red"}
        for finding in findings:
            line = Line.styled(f"{finding.level:<6}", styles[finding.level])
            screen.print(line + one_line(finding.what))
            if finding.remedy:
                screen.print(Line.styled(f"      {one_line(finding.remedy)}", "dim"))

    if any(f.level == "bad" for f in findings):
        sys.exit(1)


async def _look(url: str | None) -> list[_Finding]:
    found = [*_versions(), *_place_of(url)]
    try:
        async with connected(url) as client:
            return [*found, *await _store(client), *await _runs(client)]
    except DurableError as error:
        return [*found, _Finding("bad", str(error))]


def _versions() -> Iterator[_Finding]:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    versions: list[str] = []
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue

    yield _Finding("ok", f"{python} on {platform.system()}, {', '.join(versions)}")


def _place_of(url: str | None) -> Iterator[_Finding]:
    path = _url.resolve(url or _url.default_url())
    named = "--url" if url else f"${_defaults.URL_VARIABLE}"
    if not url and not os.environ.get(_defaults.URL_VARIABLE):
        named = "the default"

    yield _Finding("ok", f"store {path} ({named})")
    for warning in _place.warnings_of(path, named=named != "the default"):
        yield _Finding("note", warning)

    folder = next(p for p in (path, *path.parents) if p.exists())
    free = shutil.disk_usage(folder).free
    if free < _LITTLE_SPACE:
        yield _Finding("note", f"only {free // 1024**2:,} MiB are free on the disk of {path}")


async def _store(client: Client) -> list[_Finding]:
    path = Path(client.store.location)
    size = sum(p.stat().st_size for p in _place.files_of(path))
    health = await client.store.check()
    checked = _Finding("ok", f"the store is sound, {size / 1024**2:,.1f} MiB")
    if health.problems:
        remedy = "Restore it from a backup; keep a copy of what is there"
        checked = _Finding("bad", f"the store is damaged: {'; '.join(health.problems)}", remedy)

    living = f"{count(len(health.workers), 'living worker')}: {', '.join(health.workers)}"
    return [checked, _Finding("ok", living if health.workers else "no living worker")]


async def _runs(client: Client) -> list[_Finding]:
    statuses = Statuses(client)
    rows = await client.store.newest(
        client.namespace, workflow_type=None, status="running", limit=100_000
    )
    found: list[_Finding] = []
    counted: Counter[str] = Counter()
    for row in rows:
        status = await statuses.of(row)
        counted[status] += 1
        if status == "running" or counted[status] > _SHOWN:
            continue

        cause = ""
        if row.stall is not None:
            cause = f": {json.loads(row.stall)['cause']}"

        see = f"See: durable show {row.workflow_id}"
        found.append(_Finding("note", f"run {row.workflow_id!r} is {status}{cause}", see))

    for status, number in counted.items():
        if status != "running" and number > _SHOWN:
            more = f"and {number - _SHOWN} more are {status}"
            found.append(_Finding("note", more, f"See: durable list --status {status}"))

    summary = ", ".join(f"{n} {s}" for s, n in sorted(counted.items())) or "no open run"
    return [_Finding("ok", f"open runs: {summary}" if counted else summary), *found]
