"""Agent runs without their callers: what a registered factory is asked, and what it must return."""

from __future__ import annotations

import asyncio

import pytest
from agents import Agent, RunConfig, RunHooks, function_tool
from durable_core.common import RetryPolicy
from durable_openai_agents import (
    CallOptions,
    Continuation,
    DurableRunner,
    RunOptions,
    UnfinishedRun,
    _recover,
    register_agent,
)
from support.agents_bench import ECHO, agent, call
from support.waiting import eventually

pytest_plugins = ["support.agents_fixtures"]
pytestmark = pytest.mark.needs_a_store


class Desk:
    """An agent with one tool, which can be held; and the runs that it was left with."""

    def __init__(self, bench) -> None:
        self.bench = bench
        self.held = False
        self.asked: list[UnfinishedRun] = []

    def agent(self) -> Agent:
        @function_tool
        async def stamp(paper: str) -> str:
            self.bench.ran.append(paper)
            if self.held:
                await asyncio.Event().wait()

            return f"{paper} stamped"

        return agent("Desk", call("stamp", paper="a"), ECHO, tools=[stamp])

    def leave(self, input="hi", **arguments) -> None:
        """Start a run in a loop that ends while its tool is held."""

        async def main():
            run = asyncio.create_task(
                DurableRunner.run(self.agent(), input, workflow_id="run", **arguments)
            )
            await eventually(lambda: self.bench.ran or run.done(), "the tool to begin")
            assert not run.done()

        self.held = True
        asyncio.run(main())
        self.held = False
        self.bench.ran.clear()

    def make(self, run: UnfinishedRun) -> Agent:
        self.asked.append(run)
        return self.agent()

    def recover(self) -> list[str]:
        return asyncio.run(DurableRunner.recover(wait=True))


@pytest.fixture
def desk(bench, monkeypatch):
    for name, value in bench.server.environment().items():
        monkeypatch.setenv(name, value)

    monkeypatch.setattr(_recover, "_factories", {})
    return Desk(bench)


def test_the_factory_is_told_what_is_known_of_the_run(desk):
    items = [{"role": "user", "content": "stamp it"}]
    desk.leave(items, options=RunOptions(metadata={"tenant": "acme"}))
    register_agent("Desk", desk.make)
    assert desk.recover() == ["run"]
    (asked,) = desk.asked
    assert (asked.workflow_id, asked.agent, asked.input) == ("run", "Desk", items)
    assert asked.metadata == {"tenant": "acme"}
    assert desk.bench.ran == ["a"]
    assert desk.bench.status() == "COMPLETED"
    assert len(desk.bench.requests()) == 2, "the first answer was recorded"


def test_an_async_factory_is_awaited(desk):
    async def make(run: UnfinishedRun) -> Continuation:
        await asyncio.sleep(0)
        return Continuation(agent=desk.make(run))

    desk.leave()
    register_agent("Desk", make)
    desk.recover()
    assert desk.bench.status() == "COMPLETED"


def test_an_agent_of_another_name_is_not_asked_for(desk):
    desk.leave()
    register_agent("Other", desk.make)
    assert desk.recover() == []
    assert desk.asked == []
    assert desk.bench.status() == "RUNNING"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("context", lambda: {"user": "ann"}),
        ("hooks", RunHooks),
        ("run_config", lambda: RunConfig(workflow_name="desk")),
        ("error_handlers", dict),
        ("options", lambda: RunOptions(tools={"stamp": CallOptions(retry_policy=RetryPolicy())})),
    ],
    ids=["context", "hooks", "run_config", "error_handlers", "options"],
)
def test_a_run_waits_for_its_caller_unless_the_factory_brings_what_that_brought(
    desk, name, value, caplog
):
    desk.leave(**{name: value()})
    register_agent("Desk", desk.make)
    assert desk.recover() == []
    assert f"run 'run' waits for its caller: it was started with {name}" in caplog.text
    assert "durable show run" in caplog.text
    assert desk.bench.ran == []

    _recover._factories.clear()
    register_agent("Desk", lambda run: Continuation(agent=desk.make(run), **{name: value()}))
    assert desk.recover() == ["run"]
    assert desk.bench.status() == "COMPLETED"


def test_options_that_say_nothing_of_calls_need_no_factory_to_bring_them(desk):
    desk.leave(options=RunOptions(on_failed="raise", on_cancel="detach"))
    register_agent("Desk", desk.make)
    desk.recover()
    assert desk.bench.status() == "COMPLETED"


@pytest.mark.parametrize(("given", "status"), [(None, "FAILED"), (2, "COMPLETED")])
def test_the_number_of_turns_is_recorded_unless_the_factory_says_another(desk, given, status):
    desk.leave(max_turns=1)
    register_agent("Desk", lambda run: Continuation(agent=desk.make(run), max_turns=given))
    desk.recover()
    assert desk.bench.status() == status


def raising(_: UnfinishedRun) -> Agent:
    raise ConnectionError("no database")


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        (raising, "no database"),
        (lambda _: Agent(name="Desk 2"), "returned an agent named 'Desk 2'"),
        (lambda _: None, "returned NoneType: it has to return an Agent or a Continuation"),
    ],
    ids=["raises", "other name", "nothing"],
)
def test_a_factory_that_fails_leaves_the_run_as_it_is(desk, factory, said, caplog):
    desk.leave()
    register_agent("Desk", factory)
    assert desk.recover() == []
    assert "run 'run' cannot be recovered" in caplog.text
    assert said in caplog.text
    assert desk.bench.ran == []
    result = asyncio.run(DurableRunner.run(desk.agent(), "hi", workflow_id="run"))
    assert result.final_output == '["a stamped"]'


def test_a_caller_joins_a_run_that_is_being_recovered(desk):
    desk.leave()
    register_agent("Desk", desk.make)

    async def main():
        await DurableRunner.recover()
        return await DurableRunner.run(desk.agent(), "hi", workflow_id="run")

    result = asyncio.run(main())
    assert (result.final_output, result.workflow_id) == ('["a stamped"]', "run")
    assert desk.bench.ran == ["a"]


def test_what_is_no_factory_is_refused(desk):
    with pytest.raises(TypeError, match=r"'Desk'.*function that makes the agent.*lambda run"):
        register_agent("Desk", desk.agent())


def test_a_second_factory_of_a_name_is_refused(desk):
    register_agent("Desk", lambda run: desk.agent())
    with pytest.raises(ValueError, match=r"'Desk' is registered already.*run\.metadata"):
        register_agent("Desk", lambda run: desk.agent())


def test_a_factory_whose_module_is_loaded_again_replaces_itself():
    source = "def make(run): ..."
    for _ in range(2):
        names = {"__name__": "cell"}
        exec(source, names)
        register_agent("Cell", names["make"])

    assert _recover._factories.pop("Cell") is names["make"]
