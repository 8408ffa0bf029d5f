"""SIGKILL while a run changes what it shows: its row says what its history says, at any moment."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from durable_core import Client, _faults, history
from support.rows import rows

APP = Path(__file__).resolve().parents[1] / "support" / "shown_app.py"
MOST = 60
SLICE = {("store.commit.before", "works"), ("store.commit.after", "broken")}


async def look(url):
    """Return the run, what it shows, and its history; None if it is not there."""
    async with await Client.connect(url) as client:
        if await client.store.find("default", "w") is None:
            return None

        handle = client.get_workflow_handle("w")
        run = await handle.describe()
        return run, await run.memo(), await handle.fetch_history()


def told(recorded):
    """Return what the part of a history that is in force says, by reading it alone."""
    attributes, memo, details = {}, {}, ""
    for activation in history.effective(recorded.activations):
        for command in activation.commands:
            if isinstance(command, history.UpsertAttributes):
                for each in command.updates:
                    attributes[each.name] = each.value
            elif isinstance(command, history.UpsertMemo):
                (changes,) = json.loads(command.changes.data)
                memo.update(changes)

        for note in activation.notes:
            if note.name == "details":
                details = note.value.decode().strip('"')

    return (
        {name: value for name, value in attributes.items() if value is not None},
        {key: value for key, value in memo.items() if value is not None},
        details,
    )


def check(url, path):
    """Check a store after a kill; return how many activations the run has."""
    found = asyncio.run(look(url))
    if found is None:
        assert rows(path, "SELECT count(*) FROM profile") == [(0,)]
        assert rows(path, "SELECT count(*) FROM attribute") == [(0,)]
        return 0

    run, memo, recorded = found
    attributes, noted, details = told(recorded)
    shown = {
        pair.key.name: tuple(pair.value) if isinstance(pair.value, list) else pair.value
        for pair in run.typed_search_attributes
    }
    assert (shown, memo, run.current_details) == (attributes, noted, details)
    indexed = rows(path, "SELECT name, value FROM attribute ORDER BY name, value")
    values = [
        (name, int(each) if isinstance(each, bool) else each)
        for name, value in attributes.items()
        for each in (value if isinstance(value, tuple) else [value])
    ]
    assert indexed == sorted(values)
    return run.history_length


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ["works", "broken"])
@pytest.mark.parametrize("point", _faults.POINTS)
def test_what_a_run_shows_is_what_its_history_says_after_a_kill_at_every_point(
    point, how, processes, store_url, store_path, long
):
    """One kill at the first time that the point is reached, then at the second, and so on.

    A broken run fails first, and is then taken up and killed while it goes on.
    """
    if not long and (point, how) not in SLICE:
        pytest.skip("only with --long")

    if how == "broken":
        ended = processes.run(APP, "broken", DURABLE_URL=store_url)
        assert "failure" in ended.output
        assert check(store_url, store_path) == 4  # the fourth holds the failure

    killed, seen = 0, set()
    for n in range(1, MOST):
        ended = processes.run(APP, fault=f"{point}:{n}", DURABLE_URL=store_url)
        if not ended.killed:
            break

        killed += 1
        seen.add(check(store_url, store_path))

    assert killed >= 1
    last = processes.run(APP, DURABLE_URL=store_url)
    assert "result 4" in last.output
    check(store_url, store_path)
    run, memo, _ = asyncio.run(look(store_url))
    assert memo == {"step": 3, "at 2": 2, "at 3": 3}
    assert run.current_details == "step 3"
    assert dict(run.search_attributes) == {"Odd": [True], "Step": [3], "Tags": ["t3", "all"]}
    print(f"{killed} kills at {point}, with {sorted(seen)} activations")
