"""The command group, and what becomes of errors."""

from __future__ import annotations

from typing import IO, Any

import click

from durable_core.exceptions import DurableError

from ._act import cancel_run, resume_run, terminate_run
from ._doctor import examine
from ._format import one_line
from ._list import count_runs, list_runs
from ._requests import answer_request, approve_request, list_requests, reject_request
from ._show import show_run
from ._stand import pause_run, retry_run, unpause_run
from ._stream import streams
from ._talk import query_run, signal_run, update_run

__all__ = ["main"]


class _Failed(click.ClickException):
    """One of our errors: one line on stderr, exit code 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the error."""
        click.echo(f"durable: {self.format_message()}", file=file, err=True)


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. A bug of ours keeps its traceback; an expected error is one line."""
        try:
            return super().invoke(ctx)
        except DurableError as error:
            raise _Failed(one_line(str(error) or type(error).__name__)) from error


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Data goes to stdout, everything else to stderr. Exit codes: 0, 1 error, 2 usage.",
)
@click.option(
    "--url",
    metavar="URL",
    help="The store, such as sqlite:///orders.db. "
    "By default $DURABLE_URL, else sqlite:///.durable/durable.db.",
)
@click.version_option(package_name="durable-core", prog_name="durable")
@click.pass_context
def main(ctx: click.Context, url: str | None) -> None:
    """Look at durable runs, talk to them, and let them go on or end."""
    ctx.obj = url


_looking = (list_runs, count_runs, show_run, examine, list_requests, streams)
_acting = (
    *(query_run, signal_run, update_run, cancel_run, terminate_run),
    *(resume_run, pause_run, unpause_run, retry_run),
    *(approve_request, reject_request, answer_request),
)
for _command in (*_looking, *_acting):
    main.add_command(_command)
