"""`durable resume`, `cancel`, `terminate` and `doctor`, as a user calls them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import apsw
import pytest
from durable_core import Client, Worker, _defaults, activity, workflow
from durable_core.exceptions import ApplicationError, WorkflowFailureError
from support.waiting import eventually

ran: list[str] = []
broken: set[str] = set()


@activity.defn
async def step(name: str) -> str:
    ran.append(name)
    if name in broken:
        raise ApplicationError(f"{name} is broken", non_retryable=True)

    return name


@workflow.defn
async def steps() -> str:
    await step("first")
    return await step("second")


@workflow.defn
async def waiting() -> str:
    try:
        await workflow.wait_condition(lambda: False)
    except asyncio.CancelledError:
        await step(f"cancelled: {workflow.cancellation_reason()}")
        raise


@workflow.defn
async def buggy() -> str:
    await step("before")
    if "bug" in broken:
        raise KeyError("a bug")

    return "fixed"


@pytest.fixture(autouse=True)
def _fresh():
    ran.clear()
    broken.clear()


def durable(*arguments, **environment):
    """Run the command line in a process of its own; return exit code, stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "durable_core.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONWARNINGS": "error", **environment},
    )
    return done.returncode, done.stdout, done.stderr


async def called(*arguments, **environment):
    return await asyncio.to_thread(durable, *arguments, **environment)


def serving(client):
    return Worker(client, task_queue="q", workflows=[steps, waiting, buggy], activities=[step])


def test_resume_continues_a_failed_run_before_its_failure(store_url):
    async def main():
        async with await Client.connect(store_url) as client, serving(client):
            broken.add("second")
            handle = await client.start_workflow(steps, id="w", task_queue="q")
            with pytest.raises(WorkflowFailureError):
                await handle.result()

            shown = await called("--url", store_url, "show", "w")
            assert "after: durable resume w" in shown[1]
            broken.clear()
            code, out, err = await called("resume", "w", "--url", store_url)
            assert (code, out) == (0, "")
            assert "'w' (failed) is open" in err
            assert await handle.result() == "second"
            code, _, err = await called("resume", "w", "--url", store_url)
            assert code == 1
            assert "is completed: there is nothing to resume" in err

    asyncio.run(main())
    assert ran == ["first", "second", "second"]


def test_resume_lets_a_stalled_run_be_tried_at_once(store_url, monkeypatch, caplog):
    monkeypatch.setattr(_defaults, "STALL_RETRY_FIRST", 60.0)

    async def main():
        async with await Client.connect(store_url) as client, serving(client):
            broken.add("bug")
            handle = await client.start_workflow(buggy, id="w", task_queue="q")
            while (row := await client.store.find("default", "w")).stall is None:
                await client.changes.wait(timeout=0.1, interval=0.01)

            broken.clear()
            assert json.loads(row.stall)["next_try"] > client.clock.now() + 30
            code, _, err = await called("resume", "w", "--url", store_url)
            assert (code, "'w' (stalled) is open" in err) == (0, True)
            assert await asyncio.wait_for(handle.result(), 10) == "fixed"

    asyncio.run(main())
    assert ran == ["before"]


def test_cancel_asks_a_run_to_end_and_terminate_ends_it(store_url):
    async def main():
        async with await Client.connect(store_url) as client, serving(client):
            for id in ("a", "b"):
                await client.start_workflow(waiting, id=id, task_queue="q")

            code, _, err = await called("cancel", "a", "--reason", "late", "--url", store_url)
            assert (code, "'a' was asked to end" in err) == (0, True)
            await eventually(lambda: ran == ["cancelled: late"], "the cleaning up")
            code, _, err = await called("terminate", "b", "--url", store_url)
            assert (code, "'b' is terminated" in err) == (0, True)
            listed = json.loads((await called("--url", store_url, "list", "--json"))[1])
            assert {r["workflow_id"]: r["status"] for r in listed} == {
                "a": "canceled",
                "b": "terminated",
            }
            code, _, err = await called("cancel", "b", "--url", store_url)
            assert code == 1
            assert "has ended (terminated)" in err
            shown = (await called("--url", store_url, "show", "a"))[1]
            assert "cancellation" in shown
            assert "late" in shown

    asyncio.run(main())


def test_an_id_that_does_not_exist_names_what_does(store_url):
    async def main():
        async with await Client.connect(store_url) as client:
            await client.start_workflow(waiting, id="order-1", task_queue="q")

        for command in ("resume", "cancel", "terminate"):
            code, _, err = await called(command, "order-2", "--url", store_url)
            assert code == 1
            assert "Similar: order-1" in err

        code, _, err = await called("resume", "order-1", "--url", store_url)
        assert code == 1
        assert "needs no resuming" in err

    asyncio.run(main())


# doctor


def test_doctor_finds_a_store_in_order(store_url):
    async def main():
        async with await Client.connect(store_url) as client, serving(client):
            await client.start_workflow(waiting, id="w", task_queue="q")
            return await called("doctor", "--url", store_url, "--json")

    code, out, err = asyncio.run(main())
    found = [f["what"] for f in json.loads(out)]

    assert (code, err) == (0, "")
    assert any("the store is sound" in what for what in found)
    assert any("1 living worker" in what for what in found)
    assert any("open runs: 1 running" in what for what in found)


def test_doctor_names_the_runs_that_do_not_move(store_url, caplog):
    async def main():
        async with await Client.connect(store_url) as client:
            async with serving(client):
                broken.add("bug")
                await client.start_workflow(buggy, id="stuck", task_queue="q")
                while (await client.store.find("default", "stuck")).stall is None:
                    await client.changes.wait(timeout=0.1, interval=0.01)

            return await called("doctor", "--url", store_url)

    code, out, _ = asyncio.run(main())

    assert code == 0
    assert "run 'stuck' is stalled: KeyError: 'a bug'" in out
    assert "durable show stuck" in out


def test_doctor_finds_damage_and_a_store_that_is_not_there(store_url, store_path):
    async def main():
        async with await Client.connect(store_url) as client, serving(client):
            for n in range(40):
                await client.execute_workflow(steps, id=f"w{n}", task_queue="q")

    asyncio.run(main())
    connection = apsw.Connection(str(store_path))
    connection.pragma("wal_checkpoint(TRUNCATE)")
    page = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'activation'").get
    size = connection.pragma("page_size")
    connection.close()
    with store_path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 200)

    code, out, _ = durable("doctor", "--url", store_url)
    assert code == 1
    assert "damaged" in out
    code, out, _ = durable("doctor", "--url", f"{store_url}-elsewhere")
    assert code == 1
    assert "there is no store at" in out


def test_doctor_warns_of_a_place_that_does_not_last(tmp_path):
    code, out, _ = durable(
        "--url", "sqlite:////dev/shm/nothing/durable.db", "doctor", KUBERNETES_SERVICE_HOST="1"
    )

    assert code == 1
    assert "lies in memory (tmpfs)" in out
