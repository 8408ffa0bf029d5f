"""What users get wrong: each error names the value and the remedy, and nothing else is harmed."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import apsw
import durable_core
import pytest
from durable_core import Client, Worker, _defaults, activity, workflow
from durable_core.exceptions import (
    ActivityError,
    ArgumentError,
    CallError,
    DefinitionError,
    DuplicateNameError,
    EncodeError,
    EngineURLError,
    NotInActivityError,
    NotInWorkflowError,
    NotSupported,
    StoreCorruptError,
    StoreReadOnlyError,
    StoreVersionError,
    WorkflowFailureError,
    WorkflowNotFoundError,
)
from support.doubling import Double, double, run_once
from support.ledger import Ledger
from support.processes import TESTS
from support.rows import rows
from support.waiting import until


async def connect(url):
    async with await Client.connect(url):
        pass


def sqlite(path, sql):
    connection = apsw.Connection(str(path))
    try:
        return connection.execute(sql).get
    finally:
        connection.close()


# URLs


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mysql://host/db",
        "durable.db",
        "/srv/durable.db",
        "sqlite:///",
        "sqlite:////",
        "sqlite://host/durable.db",
        "sqlite://durable.db",
        "sqlite:durable.db",
        "sqlite:/durable.db",
        "sqlite:///durable.db?mode=ro",
        "sqlite:///durable.db#part",
    ],
)
def test_a_url_that_names_no_file_is_refused_with_the_form_it_should_have(url, tmp_path):
    with pytest.raises(EngineURLError) as caught:
        asyncio.run(connect(url))

    assert isinstance(caught.value, ValueError)
    assert repr(url) in str(caught.value)
    assert "sqlite:///relative/path or sqlite:////absolute/path" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["postgresql://host/db", "postgres://host/db", "temporal://host"])
def test_a_url_of_an_engine_to_come_says_that_it_is_not_there_yet(url):
    with pytest.raises(NotSupported, match="not supported by this version yet; use sqlite:///path"):
        asyncio.run(connect(url))


def test_sqlite_in_memory_names_the_store_in_memory():
    with pytest.raises(NotSupported, match="use memory://"):
        asyncio.run(connect("sqlite:///:memory:"))


def test_a_url_may_be_relative_absolute_and_quoted(tmp_path):
    for url, file in (
        ("sqlite:///a.db", "a.db"),
        (f"sqlite:///{tmp_path}/b.db", "b.db"),
        ("sqlite:///new/folders/c.db", "new/folders/c.db"),
        ("sqlite:///50%25%20%23%3F.db", "50% #?.db"),
    ):
        asyncio.run(connect(url))
        assert (tmp_path / file).exists(), url


def test_a_path_with_characters_that_mean_something_in_a_url_works_as_default(
    tmp_path, monkeypatch
):
    folder = tmp_path / "100%25 #1? ü"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert run_once(None) == 8
    assert (folder / ".durable/durable.db").exists()
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]


# The default store


def test_the_default_store_is_in_a_folder_that_git_ignores(tmp_path):
    assert run_once(None) == 8
    folder = tmp_path / ".durable"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / ".gitignore").read_text() == "*\n"
    assert (folder / "durable.db").stat().st_mode & 0o777 == 0o600


def test_the_default_store_keeps_a_gitignore_that_is_there(tmp_path):
    (tmp_path / ".durable").mkdir()
    (tmp_path / ".durable/.gitignore").write_text("*.tmp\n")
    asyncio.run(connect(None))
    assert (tmp_path / ".durable/.gitignore").read_text() == "*.tmp\n"


def test_durable_url_takes_the_place_of_the_default_and_an_argument_the_place_of_both(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("DURABLE_URL", "sqlite:///variable.db")
    run_once(None)
    run_once("sqlite:///argument.db")
    assert {p.name for p in tmp_path.glob("*.db")} == {"variable.db", "argument.db"}
    assert not (tmp_path / ".durable").exists()


def test_a_file_in_the_place_of_the_default_folder_is_named(tmp_path):
    (tmp_path / ".durable").write_text("mine")
    with pytest.raises(StoreReadOnlyError, match=r"\.durable.*DURABLE_URL=sqlite:///path"):
        asyncio.run(connect(None))

    assert (tmp_path / ".durable").read_text() == "mine"


# Files that cannot be used


AS_NOBODY = """
import os, sys
import asyncio
sys.path[:] = {path!r}
from durable_core import Client
from durable_core.exceptions import StoreError
import durable_core
from support.doubling import Double

os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    print(asyncio.run(durable_core.execute_workflow(Double.run, 4, id="nobody", url=sys.argv[1])))
except StoreError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def as_nobody(processes, tmp_path):
    """Runs a workflow as a user who may do nothing, and returns what it printed."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")

    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)

    path = [str(TESTS), *sys.path]

    def run(store):
        return processes.run(AS_NOBODY.format(path=path), f"sqlite:///{store}").checked().output

    return run


@pytest.fixture
def shared(tmp_path):
    """A store in a folder that everybody may write."""
    folder = tmp_path / "shared"
    folder.mkdir()
    store = folder / "s.db"
    run_once(f"sqlite:///{store}")
    folder.chmod(0o777)
    store.chmod(0o666)
    (folder / "s.db-workers").chmod(0o777)
    return store


def test_a_user_with_permission_can_use_a_store_of_another(as_nobody, shared):
    assert as_nobody(shared) == "8\n"


def test_a_read_only_database_is_found_at_once(as_nobody, shared):
    shared.chmod(0o444)
    printed = as_nobody(shared)
    assert printed.startswith(f"StoreReadOnlyError {shared} cannot be written")
    assert "write permission on the file and its folder" in printed


def test_a_database_that_cannot_be_read_is_named(as_nobody, shared):
    shared.chmod(0)
    assert as_nobody(shared).startswith(f"StoreReadOnlyError {shared} cannot be opened")


def test_a_read_only_folder_is_found_at_once(as_nobody, shared):
    shared.parent.chmod(0o555)
    printed = as_nobody(shared)
    assert printed.startswith(f"StoreReadOnlyError {shared} cannot be")
    assert "DURABLE_URL=sqlite:///path" in printed


def test_a_read_only_folder_for_a_new_database_is_named(as_nobody, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    printed = as_nobody(folder / "new.db")
    assert printed.startswith(f"StoreReadOnlyError cannot create {folder}/new.db")


def test_a_folder_of_workers_of_another_user_is_named(as_nobody, shared):
    (shared.parent / "s.db-workers").chmod(0o700)
    printed = as_nobody(shared)
    assert printed.startswith("StoreReadOnlyError")
    assert "s.db-workers" in printed
    assert "write permission" in printed


def test_a_folder_in_the_place_of_the_database_is_named(tmp_path):
    (tmp_path / "s.db").mkdir()
    with pytest.raises(StoreReadOnlyError, match=r"s\.db"):
        run_once("sqlite:///s.db")


@pytest.mark.parametrize("content", [b"hello, world\n" * 100, b"\0" * 4096, b"SQLite format 3\0"])
def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path, content):
    (tmp_path / "s.db").write_bytes(content)
    with pytest.raises(StoreCorruptError, match=r"s\.db is damaged or not .*backup, or move it"):
        run_once("sqlite:///s.db")

    assert (tmp_path / "s.db").read_bytes() == content


def test_a_half_overwritten_database_is_reported_as_damaged(tmp_path):
    for i in range(30):
        run_once("sqlite:///s.db", id=f"w{i}")

    content = (tmp_path / "s.db").read_bytes()
    half = len(content) // 2
    (tmp_path / "s.db").write_bytes(content[:4096] + b"\xaa" * half + content[4096 + half :])
    with pytest.raises(StoreCorruptError, match=r"s\.db is damaged.*Restore it from a backup"):
        run_once("sqlite:///s.db", id="w3")


def test_a_database_of_something_else_is_refused_and_kept(tmp_path):
    sqlite(tmp_path / "s.db", "CREATE TABLE mine (x); INSERT INTO mine VALUES (1)")
    before = (tmp_path / "s.db").read_bytes()
    with pytest.raises(StoreCorruptError, match=r"something else .*1 tables.*DURABLE_URL"):
        run_once("sqlite:///s.db")

    assert (tmp_path / "s.db").read_bytes() == before


def test_a_database_of_a_newer_version_is_refused_and_kept(tmp_path):
    run_once("sqlite:///s.db")
    sqlite(tmp_path / "s.db", "PRAGMA user_version = 999")
    before = (tmp_path / "s.db").read_bytes()
    with pytest.raises(StoreVersionError, match=r"version 999.*knows 1.*pip install -U durable"):
        run_once("sqlite:///s.db")

    assert (tmp_path / "s.db").read_bytes() == before


def test_a_store_that_was_refused_can_be_used_once_it_is_mended(tmp_path):
    run_once("sqlite:///s.db")
    sqlite(tmp_path / "s.db", "PRAGMA user_version = 999")

    async def main():
        with pytest.raises(StoreVersionError):
            await durable_core.execute_workflow(Double.run, 4, id="w", url="sqlite:///s.db")

        sqlite(tmp_path / "s.db", "PRAGMA user_version = 1")
        return await durable_core.execute_workflow(Double.run, 4, id="w", url="sqlite:///s.db")

    assert asyncio.run(main()) == 8


# Values that cannot be recorded


def test_a_result_that_cannot_be_encoded_fails_the_activity_without_a_retry(tmp_path, store_url):
    ledger = Ledger(tmp_path / "ledger")

    @activity.defn
    async def opens() -> object:
        ledger.write()
        return object()

    @workflow.defn
    class Opening:
        @workflow.run
        async def run(self) -> None:
            await workflow.execute_activity(opens)

    with pytest.raises(WorkflowFailureError) as caught:
        asyncio.run(durable_core.execute_workflow(Opening.run, id="w", url=store_url))

    error = caught.value.cause
    assert isinstance(error, ActivityError)
    assert error.attempts == 1
    assert "the result of activity 'opens'" in str(error.cause)
    assert ledger.counts() == {"opens": 1}


def test_an_input_that_cannot_be_encoded_is_refused_before_anything_is_written(store_url):
    async def main():
        with pytest.raises(EncodeError, match=r"the input of workflow 'Double'.*Pass data"):
            await durable_core.execute_workflow(Double.run, object(), id="w", url=store_url)

        async with await Client.connect(store_url) as client:
            with pytest.raises(EncodeError, match="the input of workflow 'Double'"):
                await client.start_workflow(Double.run, {1j}, id="w", task_queue="q")

            with pytest.raises(WorkflowNotFoundError, match=r"workflow id 'w'.*durable list"):
                await client.get_workflow_handle("w").describe()

    asyncio.run(main())


def test_an_activity_argument_that_cannot_be_encoded_is_a_bug_of_the_workflow(store_url):
    @workflow.defn
    class Passing:
        @workflow.run
        async def run(self) -> None:
            await workflow.execute_activity(double, lambda: 1)

    async def main():
        with pytest.raises(EncodeError, match="the arguments of activity 'double'"):
            await durable_core.execute_workflow(Passing.run, id="w", url=store_url)

        async with await Client.connect(store_url) as client:
            described = await client.get_workflow_handle("w").describe()
            assert "the arguments of activity 'double'" in described.stalled
            assert described.history_length == 0

    asyncio.run(main())


@workflow.defn
class Summing:
    @workflow.run
    async def run(self, numbers: list[int], factor: float = 1) -> float:
        return sum(numbers) * factor


def refusals(args):
    """Return what each way to start a workflow says of these arguments; nothing is written."""
    url = "sqlite:///refusals.db"

    async def main():
        async with await Client.connect(url) as client:
            worker = Worker(client, task_queue="served", workflows=[Summing])
            starts = (
                lambda: durable_core.execute_workflow(Summing.run, args=args, id="w", url=url),
                lambda: client.start_workflow(Summing.run, args=args, id="w", task_queue="nobody"),
                lambda: client.start_workflow("Summing", args=args, id="w", task_queue="served"),
                lambda: client.execute_workflow(Summing, args=args, id="w", task_queue="served"),
            )
            async with worker:
                for start in starts:
                    with pytest.raises(CallError) as caught:
                        await start()

                    found.append(caught.value)
                    with pytest.raises(WorkflowNotFoundError):
                        await client.get_workflow_handle("w").describe()

    found = []
    asyncio.run(main())
    assert len(found) == 4
    return found


def test_a_wrong_number_of_arguments_of_a_workflow_is_refused_before_anything_is_written():
    for args, got in (([], "none"), ([[1], 2.5, 3], "3: [1], 2.5, 3")):
        for error in refusals(args):
            assert isinstance(error, ArgumentError)
            assert str(error).startswith(
                "workflow 'Summing' takes 2 arguments (numbers, factor=…), "
                f"got {got}. Pass one argument"
            )


def test_an_argument_of_a_workflow_that_does_not_fit_is_refused_before_anything_is_written():
    for args, says in (
        (
            [["a"]],
            "argument 'numbers' of workflow 'Summing' does not fit list[int]: Expected `int`",
        ),
        ([(1, 2)], "argument 'numbers' of workflow 'Summing' would not come back"),
        ([[1], "2"], "argument 'factor' of workflow 'Summing' does not fit float"),
    ):
        for error in refusals(args):
            assert isinstance(error, EncodeError)
            assert says in str(error)


def test_an_input_that_is_too_large_is_refused_before_anything_is_written(monkeypatch):
    monkeypatch.setattr(_defaults, "PAYLOAD_LIMIT", 1000)
    for error in refusals([[1] * 1000]):
        assert isinstance(error, EncodeError)
        assert "the input of workflow 'Summing' has 2,003 bytes, the limit is 1,000" in str(error)


def test_an_input_of_a_workflow_that_is_known_only_by_its_name_may_not_be_too_large_either(
    store_url, monkeypatch
):
    monkeypatch.setattr(_defaults, "PAYLOAD_LIMIT", 1000)

    async def main():
        async with await Client.connect(store_url) as client:
            with pytest.raises(EncodeError, match="the input of workflow 'Unknown' has"):
                await client.start_workflow("Unknown", "x" * 1000, id="w", task_queue="q")

            # What its arguments are is for its worker to say.
            await client.start_workflow("Unknown", args=[1, (2,)], id="w", task_queue="q")

    asyncio.run(main())


def test_a_result_that_is_too_large_fails_the_activity_and_stalls_the_workflow(
    store_url, monkeypatch
):
    monkeypatch.setattr(_defaults, "PAYLOAD_LIMIT", 1000)

    @activity.defn
    def large() -> str:
        return "x" * 1000

    @workflow.defn
    class Large:
        @workflow.run
        async def run(self, from_activity: bool) -> str:
            return await workflow.execute_activity(large) if from_activity else "x" * 1000

    async def main():
        with pytest.raises(WorkflowFailureError) as caught:
            await durable_core.execute_workflow(Large.run, True, id="a", url=store_url)

        with pytest.raises(EncodeError, match="the result of workflow 'Large' has 1,002 bytes"):
            await durable_core.execute_workflow(Large.run, False, id="b", url=store_url)

        return caught.value.cause

    error = asyncio.run(main())
    assert (type(error), error.attempts) == (ActivityError, 1)
    assert "the result of activity 'large' has 1,002 bytes, the limit is 1,000" in str(error.cause)


def test_a_result_that_does_not_fit_its_annotation_fails_the_activity_without_a_retry(
    tmp_path, store_url
):
    ledger = Ledger(tmp_path / "ledger")

    @activity.defn
    async def counts() -> list[int]:
        ledger.write()
        return ("one",)

    @workflow.defn
    class Counting:
        @workflow.run
        async def run(self) -> None:
            await workflow.execute_activity(counts)

    with pytest.raises(WorkflowFailureError) as caught:
        asyncio.run(durable_core.execute_workflow(Counting.run, id="w", url=store_url))

    assert caught.value.cause.attempts == 1
    assert "the result of activity 'counts' does not fit list[int]" in str(caught.value.cause.cause)
    assert ledger.counts() == {"counts": 1}


# Names


def test_two_workflows_or_two_activities_of_one_name_are_refused(store_url):
    @workflow.defn(name="Double")
    class Other:
        @workflow.run
        async def run(self) -> None: ...

    @activity.defn(name="double")
    async def other() -> None: ...

    async def main():
        async with await Client.connect(store_url) as client:
            with pytest.raises(DuplicateNameError, match=r"'Double'.*Other.*workflow\.defn\(name"):
                Worker(client, task_queue="q", workflows=[Double, Other])

            with pytest.raises(DuplicateNameError, match=r"'double'.*other.*activity\.defn\(name"):
                Worker(client, task_queue="q", activities=[double, other])

            Worker(client, task_queue="q", workflows=[Double, Double], activities=[double, double])

    try:
        asyncio.run(main())
    finally:
        # Defined last, so it was the one that embedded runs find by name.
        activity.defn(double)


def test_what_is_no_workflow_or_no_activity_is_refused(store_url):
    async def main():
        async with await Client.connect(store_url) as client:
            with pytest.raises(DefinitionError, match=r"is no workflow.*@workflow\.defn"):
                Worker(client, task_queue="q", workflows=[int])

            with pytest.raises(DefinitionError, match=r"is no activity.*@activity\.defn"):
                Worker(client, task_queue="q", activities=[print])

            with pytest.raises(DefinitionError, match="is no workflow"):
                await client.start_workflow(print, id="w", task_queue="q")

            with pytest.raises(ValueError, match="one argument positionally or several by args="):
                await client.start_workflow(Double.run, 1, args=[1], id="w", task_queue="q")

            with pytest.raises(ValueError, match="max_concurrent_activities must be 1 or more"):
                Worker(client, task_queue="q", max_concurrent_activities=0)

    asyncio.run(main())


def test_calls_outside_of_workflows_and_activities_say_so():
    with pytest.raises(NotInWorkflowError, match="not inside a workflow"):
        workflow.now()

    with pytest.raises(NotInWorkflowError, match="not inside a workflow"):
        asyncio.run(workflow.execute_activity(double, 1))

    with pytest.raises(NotInActivityError, match="not inside an activity"):
        activity.info()

    with pytest.raises(CallError):
        workflow.uuid4()


SERVE = """
import asyncio, sys
from durable_core import Client, Worker
from support.doubling import Double, double

async def main():
    known = [double] if "double" in sys.argv else []
    async with await Client.connect() as client:
        await Worker(client, task_queue="q", workflows=[Double], activities=known).run()

asyncio.run(main())
"""


def test_a_run_whose_activity_is_not_registered_stalls_and_goes_on_where_it_is(
    processes, store_url
):
    async def main():
        async with await Client.connect(store_url) as client:
            handle = await client.start_workflow("Double", 4, id="w", task_queue="q")
            ignorant = processes.start(SERVE, DURABLE_URL=store_url)
            while (described := await handle.describe()).stalled is None:
                await client.changes.wait(timeout=1.0, interval=0.01)

            assert "does not know an activity 'double'" in described.stalled
            assert "Worker(activities=[…])" in described.stalled
            until(lambda: "stalled" in ignorant.output, "the log of the worker")
            ignorant.kill()
            processes.start(SERVE, "double", DURABLE_URL=store_url)
            assert await handle.result() == 8
            assert (await handle.describe()).stalled is None

    asyncio.run(main())


# Workflow ids


@pytest.mark.parametrize("id", ["", "x" * 10_000])
def test_a_workflow_id_that_is_empty_or_endless_is_refused(id, store_url):
    async def main():
        with pytest.raises(ValueError, match="a workflow id has 1 to 1000 characters") as one:
            await durable_core.execute_workflow(Double.run, 1, id=id, url=store_url)

        async with await Client.connect(store_url) as client:
            with pytest.raises(ValueError, match="1 to 1000 characters"):
                await client.start_workflow(Double.run, 1, id=id, task_queue="q")

        assert len(str(one.value)) < 200

    asyncio.run(main())


@pytest.mark.parametrize("id", ["x" * 1000, "a/b c'\"\\;--%", "日本語 🙂", " ", "\n", "[1, 2]"])
def test_a_workflow_id_may_hold_any_character(id, store_path, store_url):
    assert run_once(store_url, id=id) == 8
    assert run_once(store_url, id=id) == 8
    assert rows(store_path, "SELECT workflow_id FROM run") == [(id,)]
