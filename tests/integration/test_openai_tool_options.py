"""What `RunOptions` says about tools, and the tools that a durable run refuses."""

from __future__ import annotations

import asyncio
import datetime
import json
from typing import Any

import pytest
from agents import (
    ApplyPatchTool,
    CustomTool,
    FunctionTool,
    LocalShellTool,
    RunContextWrapper,
    ShellTool,
    ToolTimeoutError,
    UserError,
    WebSearchTool,
    function_tool,
)
from agents.mcp import MCPServerStdio
from durable_core import Client
from durable_core import exceptions as ex
from durable_core.common import RetryPolicy
from durable_core.exceptions import NotSupported
from durable_openai_agents import CallOptions, DurableRunner, RunOptions
from support.agents_bench import ECHO, agent, call, say
from support.waiting import eventually

pytest_plugins = ["support.agents_fixtures"]

SOON = datetime.timedelta(milliseconds=1)
THREE = CallOptions(retry_policy=RetryPolicy(initial_interval=SOON, maximum_attempts=3))


class Flaky(Exception):
    """An error of the user's own."""


def flaky_tool(bench, fails: int, **options: Any) -> FunctionTool:
    """Return a tool whose body fails so many times."""

    @function_tool(**options)
    async def flaky(text: str) -> str:
        bench.ran.append(text)
        if len(bench.ran) <= fails:
            raise Flaky(f"failure {len(bench.ran)}")

        return f"{text} at last"

    return flaky


def outcomes(bench) -> list[list[str]]:
    tools = bench.activities(name="openai_agents.tool")
    return [[attempt.outcome for attempt in tool.attempts] for tool in tools]


def run(bench, tool: FunctionTool, options: CallOptions = THREE, **arguments: Any) -> Any:
    worker = agent("Worker", call(tool.name, text="a"), ECHO, tools=[tool], **arguments)
    return bench.run_once(worker, workflow_id="run", options=RunOptions(tools={tool.name: options}))


# -- retries -----------------------------------------------------------------------------------


def explained(context: RunContextWrapper[Any], error: Exception) -> str:
    return f"sorry: {error}"


@pytest.mark.parametrize(
    "options", [{}, {"failure_error_function": explained}, {"failure_error_function": None}]
)
def test_a_tool_is_tried_again_when_the_user_says_so(bench, options):
    tool = flaky_tool(bench, 2, **options)
    assert json.loads(run(bench, tool).final_output) == ["a at last"]
    assert bench.ran == ["a"] * 3
    assert outcomes(bench) == [["failed", "failed", "completed"]]
    assert "failure 1" in bench.activities(name="openai_agents.tool")[0].attempts[0].failure.message
    bench.forget()
    assert json.loads(run(bench, tool).final_output) == ["a at last"]
    assert bench.ran == []


@pytest.mark.parametrize("options", [{}, {"failure_error_function": explained}])
def test_a_tool_that_fails_for_good_tells_the_model_what_it_would_without_retries(bench, options):
    plain = bench.plainly(
        agent("Worker", call("flaky", text="a"), ECHO, tools=[always(bench, **options)])
    )
    bench.forget()
    tool = always(bench, **options)
    live = run(bench, tool)
    assert bench.ran == ["a"] * 3
    assert outcomes(bench) == [["failed"] * 3]
    bench.forget()
    recorded = run(bench, tool)
    assert bench.ran == []
    assert bench.requests() == []
    assert live.final_output == recorded.final_output == plain.final_output


def always(bench, **options: Any) -> FunctionTool:
    @function_tool(**options)
    def flaky(text: str) -> str:
        bench.ran.append(text)
        raise ValueError("never")

    return flaky


def test_a_tool_without_a_failure_function_fails_the_run_after_its_attempts(bench):
    with pytest.raises(UserError, match="Error running tool flaky: never"):
        run(bench, always(bench, failure_error_function=None))

    assert bench.ran == ["a"] * 3


def test_a_failure_that_the_policy_names_is_told_at_once(bench):
    policy = RetryPolicy(
        initial_interval=SOON, maximum_attempts=3, non_retryable_error_types=["ValueError"]
    )
    result = run(
        bench, always(bench, failure_error_function=explained), CallOptions(retry_policy=policy)
    )
    assert json.loads(result.final_output) == ["sorry: never"]
    assert bench.ran == ["a"]


def test_a_timeout_of_the_tool_is_tried_again_and_then_raised(bench):
    @function_tool(timeout=0.05, timeout_behavior="raise_exception")
    async def slow(text: str) -> str:
        bench.ran.append(text)
        await asyncio.sleep(30)
        return "late"

    with pytest.raises(ToolTimeoutError):
        run(bench, slow)

    assert bench.ran == ["a"] * 3


def test_options_for_a_misspelled_tool_are_noticed(bench, caplog):
    @function_tool
    def charge(cents: int) -> str:
        return "charged"

    cashier = agent("Cashier", call("charge", cents=1), ECHO, tools=[charge])
    said = CallOptions(start_to_close_timeout=datetime.timedelta(seconds=9))
    options = RunOptions(tools={"chrage": said, "charge": said, "of another agent": said})
    for _ in range(2):
        bench.run_once(cashier, workflow_id="run", options=options)

    assert [r.getMessage() for r in caplog.records] == [
        "run 'run' has options for a tool 'chrage', which none of its agents had: is 'charge' meant?"
    ]


def test_other_tools_keep_one_attempt(bench):
    tool = always(bench)
    worker = agent("Worker", call("flaky", text="a"), ECHO, tools=[tool])
    bench.run_once(worker, options=RunOptions(tools={"another": THREE}))
    assert bench.ran == ["a"]


def test_the_users_tool_is_left_as_it_is(bench):
    tool = always(bench)
    before = dict(vars(tool))
    run(bench, tool)
    assert vars(tool) == before


def test_a_limit_on_one_attempt_is_told_to_the_model(bench):
    @function_tool
    async def slow(text: str) -> str:
        await asyncio.sleep(30)
        return "late"

    limit = CallOptions(start_to_close_timeout=datetime.timedelta(seconds=0.05))
    live = run(bench, slow, limit)
    assert "error occurred" in live.final_output
    bench.forget()
    assert run(bench, slow, limit).final_output == live.final_output
    assert outcomes(bench) == [["timed_out"]]


def test_agents_that_are_tools_pass_the_options_on(bench):
    inner = agent("Inner", call("flaky", text="b"), ECHO, tools=[flaky_tool(bench, 2)])
    outer = agent("Outer", call("ask", input="x"), ECHO, tools=[inner.as_tool("ask", "Ask")])
    result = bench.run_once(outer, options=RunOptions(tools={"flaky": THREE}))
    assert "b at last" in result.final_output


# -- what is refused ---------------------------------------------------------------------------


def local_tools(bench) -> dict[str, Any]:
    def executor(request: Any) -> str:
        bench.ran.append("executed")
        return "done"

    async def invoke(context: Any, text: str) -> str:
        bench.ran.append("invoked")
        return "done"

    return {
        "LocalShellTool": LocalShellTool(executor=executor),
        "ShellTool": ShellTool(executor=executor),
        "ApplyPatchTool": ApplyPatchTool(editor=object()),
        "CustomTool": CustomTool(name="c", description="d", on_invoke_tool=invoke),
    }


@pytest.mark.parametrize("kind", ["LocalShellTool", "ShellTool", "ApplyPatchTool", "CustomTool"])
def test_a_tool_whose_body_would_not_be_recorded_is_refused(bench, kind):
    worker = agent("Worker", say("ok"), tools=[local_tools(bench)[kind]])
    with pytest.raises(NotSupported, match=rf"'Worker' has {kind}.*function_tool"):
        bench.run_once(worker)

    assert bench.requests() == []


class Unreachable(MCPServerStdio):
    """An MCP server that must not be asked."""

    async def list_tools(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the MCP server was asked for its tools")


def test_an_mcp_server_is_refused_instead_of_waited_for(bench):
    server = Unreachable(params={"command": "false"}, name="unreachable")
    worker = agent("Worker", say("ok"), mcp_servers=[server])
    with pytest.raises(NotSupported, match=r"'Worker' has mcp_servers"):
        bench.run_once(worker)


def test_what_is_refused_is_found_behind_a_handoff_and_in_an_agent_tool(bench):
    shell = local_tools(bench)["ShellTool"]
    behind = agent("Behind", say("ok"), tools=[shell])
    for worker in (
        agent("Worker", call("transfer_to_behind"), handoffs=[behind]),
        agent(
            "Worker",
            call("ask", input="x"),
            tools=[behind.as_tool("ask", "Ask", failure_error_function=None)],
        ),
        # Here the SDK tells the model of the exception, and goes on.
        agent("Worker", call("ask", input="x"), ECHO, tools=[behind.as_tool("ask", "Ask")]),
    ):
        with pytest.raises(NotSupported, match=r"'Behind' has ShellTool"):
            bench.run_once(worker)


def test_an_agent_tool_that_streams_is_refused(bench):
    inner = agent("Inner", say("deep"))
    ask = inner.as_tool("ask", "Ask", on_stream=lambda event: None)
    with pytest.raises(NotSupported, match="streaming"):
        bench.run_once(agent("Worker", call("ask", input="x"), ECHO, tools=[ask]))


def test_an_approval_inside_an_agent_tool_is_refused_by_its_name(bench):
    @function_tool(needs_approval=True)
    async def deploy() -> str:
        bench.ran.append("deploy")
        return "deployed"

    inner = agent("Inner", call("deploy"), ECHO, tools=[deploy])
    # An input of its own: the SDK keeps the open question of a call by its id, in the process.
    outer = agent("Outer", call("ask", input="may I"), ECHO, tools=[inner.as_tool("ask", "Ask")])
    with pytest.raises(NotSupported, match=r"approval \(deploy\)"):
        bench.run_once(outer)

    assert bench.ran == []


def test_what_the_server_executes_is_not_refused(bench):
    worker = agent("Worker", say("ok"), tools=[WebSearchTool()])
    bench.compare(worker)
    hosted = ShellTool(environment={"type": "container_auto"})
    assert bench.run_once(agent("Worker", say("ok"), tools=[hosted])).final_output == "ok"


def test_runs_of_the_sdk_refuse_nothing(bench):
    worker = agent("Worker", say("ok"), tools=list(local_tools(bench).values()))
    assert bench.plainly(worker).final_output == "ok"


# -- what is not there yet ---------------------------------------------------------------------


def test_cancelling_the_await_cancels_the_run_as_in_the_sdk(bench):
    ended: list[str] = []

    async def main() -> None:
        started, go_on = asyncio.Event(), asyncio.Event()

        @function_tool
        async def slow() -> str:
            started.set()
            try:
                await go_on.wait()
                ended.append("finished")
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

            return "done"

        worker = agent("Worker", call("slow"), ECHO, tools=[slow])
        async with bench.config() as config:
            task = asyncio.create_task(DurableRunner.run(worker, "hi", run_config=config))
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

            go_on.set()
            await eventually(lambda: ended, "the end of the tool")

    asyncio.run(main())
    assert ended == ["cancelled"]


def test_the_cause_of_a_failed_tool_is_the_users_exception(bench):
    tool = flaky_tool(bench, 99, failure_error_function=None)
    worker = agent("Worker", call("flaky", text="a"), tools=[tool])
    for error in bench.compare_failures(worker):
        assert type(error.__cause__) is Flaky


@pytest.mark.needs_a_store
def test_a_run_that_somebody_else_cancels_does_not_cancel_its_callers_task(bench):
    async def main() -> None:
        started = asyncio.Event()

        @function_tool
        async def slow() -> str:
            started.set()
            await asyncio.sleep(60)
            return "done"

        worker = agent("Worker", call("slow"), ECHO, tools=[slow])
        async with bench.config() as config, await Client.connect(bench.store_url) as client:
            task = asyncio.create_task(
                DurableRunner.run(worker, "hi", run_config=config, workflow_id="run")
            )
            await started.wait()
            await client.get_workflow_handle("run").cancel(reason="no longer needed")
            with pytest.raises(ex.CancelledError, match="no longer needed.*durable show run"):
                await task

    asyncio.run(main())
