"""``durable stream tail``: what a run writes beside its history, while it writes it."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from ._act import find, of_a_run
from ._format import clean, finite
from ._stdout import is_unicode, prepare
from ._store import connected

if TYPE_CHECKING:
    from durable_core.streams import StreamItem

__all__ = ["streams"]


@click.group("stream", short_help="Follow what a run writes beside its history.")
def streams() -> None:
    """Follow streams of a run: tokens, progress."""


@streams.command("tail", short_help="Print a stream, and what is added to it.")
@of_a_run
@click.argument("name", metavar="NAME")
@click.option(
    "--from-offset", metavar="N", type=click.IntRange(min=0), default=0, help="Begin here."
)
@click.option("--json", "as_json", is_flag=True, help="Every item, one JSON object per line.")
def tail(
    outer_url: str | None,
    workflow_id: str,
    run_id: str | None,
    url: str | None,
    name: str,
    from_offset: int,
    as_json: bool,  # noqa: FBT001  # click's way
) -> None:
    """Print the stream NAME of the run of the workflow ID until it ends: Ctrl-C stops before.

    Texts are printed as they are, other values as a line of JSON each. On stderr it says where what
    was printed does not count any more, because an activity is tried again.
    """
    prepare()

    async def main() -> None:
        async with connected(url or outer_url) as client:
            handle, _ = await find(client, workflow_id, run_id)
            try:
                reader = handle.stream(name, from_offset=from_offset)
            except ValueError as error:
                raise click.BadParameter(str(error), param_hint="NAME") from error

            printed = _Plain()
            async for item in reader.items():
                if as_json:
                    _line(item.to_json_dict())
                else:
                    printed.show(item)

            printed.finish()

    asyncio.run(main())


class _Plain:
    """Prints a stream for people."""

    def __init__(self) -> None:
        self._in_line = False

    def show(self, item: StreamItem[Any]) -> None:
        """Print an item."""
        if item.kind == "chunk" and isinstance(item.value, str):
            sys.stdout.write(clean(item.value))
            sys.stdout.flush()
            if item.value:
                self._in_line = not item.value.endswith("\n")
        elif item.kind == "chunk":
            self.finish()
            _line(item.value)
        elif item.kind == "reset":
            self.finish()
            click.echo(f"durable: {_void(item)}", err=True)

    def finish(self) -> None:
        """End the line."""
        if self._in_line:
            self._in_line = False
            sys.stdout.write("\n")
            sys.stdout.flush()


def _void(item: StreamItem[Any]) -> str:
    if item.since is not None:
        return "the run went back: what it wrote since does not count"

    return (
        f"attempt {item.attempt} of activity {item.activity_id} did not complete: what it wrote "
        "does not count"
    )


def _line(value: Any) -> None:
    text = json.dumps(finite(value), ensure_ascii=not is_unicode(), allow_nan=False)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
