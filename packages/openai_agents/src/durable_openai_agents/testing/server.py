"""Run the model server: `python -m durable_openai_agents.testing.server --policy … --log …`.

It prints its URL, or writes it to `--announce FILE`, and serves until it is told to stop
(SIGTERM, Ctrl-C) or until the process named by `--parent` is gone.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from ._fault import FaultRule
from ._http import ModelHTTPServer
from ._json import parse_object
from ._log import RequestLog
from ._policy import load_policy


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve as the command line says; return the exit status."""
    options = _parser().parse_args(arguments)
    # `module:function` is looked up from where the command is run.
    sys.path.insert(0, str(Path.cwd()))
    log = RequestLog(options.log)
    policy = load_policy(options.policy)
    with ModelHTTPServer(policy, log, port=options.port, latency=options.latency) as server:
        for rule in options.fault:
            server.faults.add(rule)

        if options.parent is not None:
            _stop_without(options.parent)

        signal.signal(signal.SIGTERM, _interrupt)
        _announce(server.url, options.announce)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0

    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m durable_openai_agents.testing.server",
        description="A model server for tests: the OpenAI APIs on loopback, answered by a policy.",
    )
    parser.add_argument(
        "--policy",
        required=True,
        help="module:function, path/to/file.py:function, or a script of answers, file.json",
    )
    parser.add_argument("--log", required=True, type=Path, help="request log, JSON lines")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--announce", type=Path, help="file to write the URL to, atomically")
    parser.add_argument("--parent", type=int, help="exit when this process is gone")
    parser.add_argument(
        "--latency", type=float, default=0.0, help="seconds that every model call takes"
    )
    parser.add_argument(
        "--fault",
        type=_rule,
        action="append",
        default=[],
        metavar="JSON",
        help='such as {"kind": "status", "status": 429, "retry_after": 1, "nth": 2}',
    )
    return parser


def _rule(text: str) -> FaultRule:
    try:
        return FaultRule.from_json(parse_object(text))
    except (ValueError, json.JSONDecodeError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _interrupt(_signum: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _announce(url: str, path: Path | None) -> None:
    if path is None:
        print(url, flush=True)  # noqa: T201 - the URL is this command's output
        return

    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(url, encoding="utf-8")
    draft.replace(path)


def _stop_without(parent: int) -> None:
    """Exit this process as soon as another one is gone, from a thread that watches it."""
    watch = threading.Thread(target=_watch, args=(parent,), daemon=True, name="parent watch")
    watch.start()


def _watch(parent: int) -> None:
    if sys.platform == "linux":
        try:
            handle = os.pidfd_open(parent)
        except ProcessLookupError:
            os._exit(0)

        select.select([handle], [], [])
    else:
        while _alive(parent):
            time.sleep(0.2)

    # Every line of the log is on disk already, and nobody is left to wait for an answer.
    os._exit(0)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True

    return True


if __name__ == "__main__":
    sys.exit(main())
