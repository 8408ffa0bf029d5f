"""What an id means, what is refused, `run_sync`, and runs inside a workflow of one's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import (
    MaxTurnsExceeded,
    OpenAIProvider,
    RunConfig,
    Runner,
    SQLiteSession,
    function_tool,
)
from durable_core import embedded, workflow
from durable_core.exceptions import NotSupported, WorkflowAlreadyStartedError
from durable_openai_agents import DurableRunner
from openai import AsyncOpenAI
from openai.types.responses import ResponseOutputMessage, ResponseOutputText
from support.agents_bench import (
    ECHO,
    REPEAT,
    Bench,
    agent,
    call,
    say,
)
from support.agents_programs import refund_tool

pytest_plugins = ["support.agents_fixtures"]

BOTH_APIS = pytest.mark.parametrize("api", ["responses", "chat"])


# -- ids ---------------------------------------------------------------------------------------


@pytest.mark.needs_a_store
def test_other_input_under_a_known_id_is_explained(bench):
    greeter = agent("Greeter", say("hello"))
    bench.run_once(greeter, "one", workflow_id="chat-7")
    with pytest.raises(
        WorkflowAlreadyStartedError, match=r"other input.*one id per input.*'chat-7/2'"
    ) as raised:
        bench.run_once(greeter, "two", workflow_id="chat-7")

    assert raised.value.workflow_id == "chat-7"
    assert bench.run_once(greeter, "one", workflow_id="chat-7").final_output == "hello"
    assert len(bench.requests()) == 1


def test_an_item_of_the_input_may_be_an_object_of_the_client(bench):
    said = ResponseOutputMessage(
        id="msg_1",
        content=[ResponseOutputText(text="before", type="output_text", annotations=[])],
        role="assistant",
        status="completed",
        type="message",
    )
    items = [{"role": "user", "content": "one"}, said, {"role": "user", "content": "two"}]
    greeter = agent("Greeter", REPEAT)
    assert bench.compare(greeter, items, id="chat").recorded.final_output == "two"
    with pytest.raises(WorkflowAlreadyStartedError, match="other input"):
        bench.run_once(greeter, items[:2], workflow_id="chat")


def test_another_agent_under_a_known_id_is_explained(bench):
    bench.run_once(agent("Greeter", say("hello")), workflow_id="run")
    with pytest.raises(WorkflowAlreadyStartedError, match="other input"):
        bench.run_once(agent("Other", say("hello")), workflow_id="run")


@pytest.mark.needs_a_store
def test_an_id_of_a_workflow_is_not_that_of_an_agent_run(bench):
    asyncio.run(embedded.execute_workflow(Nothing.run, id="taken"))
    with pytest.raises(WorkflowAlreadyStartedError, match=r"'Nothing'.*another id"):
        bench.run_once(agent("Greeter", say("hello")), workflow_id="taken")


@workflow.defn
class Nothing:
    @workflow.run
    async def run(self) -> None:
        return None


def test_a_completed_run_comes_back_also_when_the_program_has_changed(bench):
    bench.run_once(
        agent("Greeter", call("refund", cents=1), ECHO, tools=[refund_tool(bench)]),
        workflow_id="run",
    )
    bench.forget()
    changed = agent("Greeter", say("something else"), model="m-9", tools=[refund_tool(bench)])
    assert bench.run_once(changed, workflow_id="run").final_output == '["1 back"]'
    assert bench.requests() == []


def test_runs_with_two_ids_go_on_side_by_side(bench):
    async def main() -> list[Any]:
        met = asyncio.Barrier(2)

        @function_tool
        async def meet() -> str:
            async with asyncio.timeout(10):
                await met.wait()

            return "met"

        worker = agent("Worker", call("meet"), REPEAT, tools=[meet])
        return await asyncio.gather(
            bench.run(worker, "a", workflow_id="run-a"), bench.run(worker, "b", workflow_id="run-b")
        )

    assert [r.final_output for r in asyncio.run(main())] == ["a", "b"]


@pytest.mark.needs_a_store
def test_the_same_id_twice_at_once_is_one_run(bench):
    worker = agent("Worker", call("refund", cents=1), ECHO, tools=[refund_tool(bench)])

    async def main() -> list[Any]:
        return await asyncio.gather(*(bench.run(worker, workflow_id="run") for _ in range(3)))

    results = asyncio.run(main())
    assert [r.final_output for r in results] == ['["1 back"]'] * 3
    assert all(r.last_agent is worker for r in results)
    assert bench.ran == [1]
    assert len(bench.requests()) == 2


@pytest.mark.needs_a_store
def test_a_caller_that_comes_later_joins_the_run_that_is_under_way(bench):
    worker = agent("Worker", call("slow"), ECHO, tools=[])

    async def main() -> Any:
        started, go_on = asyncio.Event(), asyncio.Event()

        @function_tool
        async def slow() -> str:
            started.set()
            await go_on.wait()
            return "done"

        worker.tools.append(slow)
        first = asyncio.create_task(bench.run(worker, workflow_id="run"))
        await started.wait()
        async with bench.config() as config:
            second = asyncio.create_task(
                DurableRunner.run(worker, "hi", run_config=config, workflow_id="run")
            )
            await asyncio.sleep(0)
            go_on.set()
            return [r.final_output for r in await asyncio.gather(first, second)]

    assert asyncio.run(main()) == ['["done"]'] * 2
    assert len(bench.requests()) == 2


def test_other_input_under_an_id_that_is_running_is_explained(bench):
    async def main() -> None:
        started, go_on = asyncio.Event(), asyncio.Event()

        @function_tool
        async def slow() -> str:
            started.set()
            await go_on.wait()
            return "done"

        worker = agent("Worker", call("slow"), ECHO, tools=[slow])
        first = asyncio.create_task(bench.run(worker, "one", workflow_id="run"))
        await started.wait()
        with pytest.raises(WorkflowAlreadyStartedError, match="other input"):
            await bench.run(worker, "two", workflow_id="run")

        go_on.set()
        assert (await first).final_output == '["done"]'

    asyncio.run(main())


# -- what is not supported ---------------------------------------------------------------------


def test_a_session_is_refused_with_the_remedy(bench):
    session = SQLiteSession("s")
    with pytest.raises(NotSupported, match=r"session=.*to_input_list\(\)"):
        bench.run_once(agent("Greeter", say("hello")), session=session)

    session.close()
    assert bench.requests() == []


def test_a_run_state_is_refused_with_the_remedy(bench):
    @function_tool(needs_approval=True)
    async def deploy() -> str:
        return "deployed"

    deployer = agent("Deployer", call("deploy"), say("ok"), tools=[deploy])
    state = bench.plainly(deployer).to_state()
    bench.forget()
    with pytest.raises(NotSupported, match=r"RunState.*the SDK's Runner"):
        bench.run_once(deployer, state)

    assert bench.requests() == []


def test_a_tool_that_needs_approval_is_refused_by_its_name(bench):
    @function_tool(needs_approval=True)
    async def deploy() -> str:
        bench.ran.append("deploy")
        return "deployed"

    deployer = agent("Deployer", call("deploy"), say("ok"), tools=[deploy])
    with pytest.raises(NotSupported, match=r"approval \(deploy\)"):
        bench.run_once(deployer, workflow_id="run")

    assert bench.ran == []


def test_streaming_is_refused_with_the_remedy(bench):
    with pytest.raises(NotSupported, match="use run"):
        DurableRunner.run_streamed(agent("Greeter", say("hello")), "hi")


def test_streaming_inside_a_workflow_is_refused(bench):
    async def program(config: Any) -> str:
        result = Runner.run_streamed(agent("Greeter", say("hello")), "hi", run_config=config)
        async for _ in result.stream_events():
            pass

        return result.final_output

    Programs.program = program
    with pytest.raises(NotSupported, match="streaming"):
        asyncio.run(_in_workflow(bench))


# -- run_sync ----------------------------------------------------------------------------------


@pytest.fixture
def sync_config(bench):
    """A run config whose client lives on the loop that `run_sync` makes the thread's default."""
    asyncio.set_event_loop(None)
    client = AsyncOpenAI(base_url=bench.server.base_url, api_key="sk-test")
    yield RunConfig(model_provider=OpenAIProvider(openai_client=client), tracing_disabled=True)
    loop = asyncio.get_event_loop_policy().get_event_loop()
    loop.run_until_complete(client.close())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    asyncio.set_event_loop(None)


def test_run_sync_works_several_times_in_a_row(bench, sync_config):
    worker = agent("Worker", call("refund", cents=1), ECHO, tools=[refund_tool(bench)])
    outputs = [
        runner.run_sync(worker, "hi", run_config=sync_config, **arguments).final_output
        for runner, arguments in (
            (DurableRunner, {}),
            (DurableRunner, {"workflow_id": "run"}),
            (DurableRunner, {}),
            (DurableRunner, {"workflow_id": "run"}),
            (Runner, {}),
        )
    ]
    assert outputs == ['["1 back"]'] * 5
    assert bench.ran == [1] * 4


# The SDK's own `run_sync` ends the generators of a loop that goes on; its HTTP client then warns.
@pytest.mark.filterwarnings("ignore:asynchronous generator:ResourceWarning")
def test_run_sync_works_after_that_of_the_sdk(bench, sync_config):
    worker = agent("Worker", call("refund", cents=1), ECHO, tools=[refund_tool(bench)])
    for runner in (Runner, DurableRunner, Runner, DurableRunner):
        assert runner.run_sync(worker, "hi", run_config=sync_config).final_output == '["1 back"]'


def test_run_sync_raises_what_run_raises(bench, sync_config):
    busy = agent("Busy", call("refund", cents=1), tools=[refund_tool(bench)])
    with pytest.raises(MaxTurnsExceeded):
        DurableRunner.run_sync(busy, "hi", run_config=sync_config, max_turns=2)

    done = agent("Busy", say("ok"))
    assert DurableRunner.run_sync(done, "hi", run_config=sync_config).final_output == "ok"


def test_run_sync_inside_a_running_loop_says_what_to_do(bench):
    async def main() -> None:
        with pytest.raises(RuntimeError, match="await run instead"):
            DurableRunner.run_sync(agent("Greeter", say("hello")), "hi")

    asyncio.run(main())


# -- inside a workflow of the user's own -------------------------------------------------------


class Programs:
    """What the workflow below does; set by each test."""

    program: Any = None
    config: Any = None


@workflow.defn
class OwnWorkflow:
    @workflow.run
    async def run(self, text: str) -> str:
        return await Programs.program(Programs.config)


async def _in_workflow(bench: Bench, id: str = "own") -> str:
    async with bench.config() as config:
        Programs.config = config
        return await embedded.execute_workflow(OwnWorkflow.run, "hi", id=id)


@pytest.mark.parametrize("runner", [DurableRunner, Runner])
def test_an_agent_inside_a_workflow_is_part_of_its_run(bench, runner):
    worker = agent("Worker", call("refund", cents=1), ECHO, tools=[refund_tool(bench)])

    async def program(config: Any) -> str:
        first = await runner.run(worker, "one", run_config=config)
        await asyncio.sleep(0.01)
        second = await runner.run(worker, "two", run_config=config)
        return first.final_output + second.final_output

    Programs.program = program
    assert asyncio.run(_in_workflow(bench)) == '["1 back"]["1 back"]'
    assert [a.name.rpartition(".")[2] for a in bench.activities("own")] == [
        "model",
        "tool",
        "model",
    ] * 2
    bench.forget()
    assert asyncio.run(_in_workflow(bench)) == '["1 back"]["1 back"]'
    assert bench.requests() == []
    assert bench.ran == []


def test_agents_side_by_side_inside_a_workflow_are_told_apart(bench):
    worker = agent("Worker", call("refund", cents=1), REPEAT, tools=[refund_tool(bench)])

    async def program(config: Any) -> str:
        results = await asyncio.gather(
            *(DurableRunner.run(worker, t, run_config=config) for t in "abc")
        )
        return "".join(r.final_output for r in results)

    Programs.program = program
    assert asyncio.run(_in_workflow(bench)) == "abc"
    bench.forget()
    assert asyncio.run(_in_workflow(bench)) == "abc"
    assert bench.requests() == []


def test_an_id_inside_a_workflow_is_refused_with_the_remedy(bench):
    async def program(config: Any) -> str:
        greeter = agent("Greeter", say("hello"))
        return (
            await DurableRunner.run(greeter, "hi", run_config=config, workflow_id="inner")
        ).final_output

    Programs.program = program
    with pytest.raises(NotSupported, match="leave the id out"):
        asyncio.run(_in_workflow(bench))


def test_an_agent_inside_a_workflow_may_use_the_default_client(bench, monkeypatch):
    async def program(config: Any) -> str:
        return (await DurableRunner.run(agent("Greeter", say("hello")), "hi")).final_output

    async def main() -> str:
        async with bench.provider() as provider:
            monkeypatch.setattr(
                "agents.models._openai_shared._default_openai_client", provider._client
            )
            return await embedded.execute_workflow(OwnWorkflow.run, "hi", id="own")

    Programs.program = program
    assert asyncio.run(main()) == "hello"


def test_a_tool_may_run_an_agent_durably_as_a_run_of_its_own(bench):
    async def main() -> Any:
        async with bench.config() as config:
            inner = agent("Inner", say("deep"))

            @function_tool
            async def ask() -> str:
                result = await DurableRunner.run(inner, "x", run_config=config, workflow_id="inner")
                return result.final_output

            outer = agent("Outer", call("ask"), ECHO, tools=[ask])
            return await DurableRunner.run(outer, "hi", run_config=config, workflow_id="outer")

    assert asyncio.run(main()).final_output == '["deep"]'
    assert [len(bench.activities(id)) for id in ("outer", "inner")] == [3, 1]


def test_plain_runs_of_the_sdk_stay_as_they_are(bench):
    worker = agent("Worker", call("refund", cents=1), ECHO, tools=[refund_tool(bench)])
    assert bench.plainly(worker).final_output == '["1 back"]'

    async def stream() -> None:
        async with bench.config() as config:
            result = Runner.run_streamed(worker, "hi", run_config=config)
            with pytest.raises(Exception, match="does not stream"):
                async for _ in result.stream_events():
                    pass

    asyncio.run(stream())
