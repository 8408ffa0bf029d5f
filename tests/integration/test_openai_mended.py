"""The same call again after its script was mended or changed: what goes on, what is kept, what is said."""

from __future__ import annotations

import asyncio
import sys

import openai
import pytest
from agents import (
    MaxTurnsExceeded,
    ModelBehaviorError,
    ModelSettings,
    RunHooks,
    UserError,
    function_tool,
)
from durable_core.exceptions import (
    NotSupported,
    StoreError,
    TerminatedError,
    WorkflowBugError,
)
from durable_openai_agents import RunOptions
from pydantic import BaseModel, create_model
from support.agents_bench import ECHO, REPEAT, agent, call, say, say_json
from support.waiting import eventually

pytest_plugins = ["support.agents_fixtures"]
pytestmark = pytest.mark.needs_a_store

TWO_STEPS = (call("stamp", paper="a"), call("stamp", paper="b"), ECHO)
DONE = '["a stamped", "b stamped"]'


class Office:
    """The tools of a script; what they did is in ``bench.ran``."""

    def __init__(self, bench) -> None:
        self.bench = bench
        self.held: str | None = None

        @function_tool
        async def stamp(paper: str) -> str:
            bench.ran.append(paper)
            if paper == self.held:
                await asyncio.Event().wait()

            return f"{paper} stamped"

        @function_tool
        def shred(paper: str) -> str:
            bench.ran.append(f"shred {paper}")
            return f"{paper} is gone"

        self.stamp, self.shred = stamp, shred

    def clerk(self, *script, tools=None, name="Clerk", **fields):
        return agent(
            name, *(script or TWO_STEPS), tools=[self.stamp] if tools is None else tools, **fields
        )

    def interrupt(self, clerk, paper: str, **arguments) -> None:
        """Run an agent in a loop that ends while a tool is at work on a paper."""

        async def main():
            run = asyncio.create_task(self.bench.run(clerk, workflow_id="run", **arguments))
            await eventually(lambda: paper in self.bench.ran or run.done(), "the tool to begin")
            assert not run.done()

        self.held = paper
        asyncio.run(main())
        self.held = None

    def again(self, clerk, **arguments):
        """Make the same call, by the given script."""
        return self.bench.run_once(clerk, workflow_id="run", **arguments)

    def asked(self) -> int:
        return len(self.bench.requests())


@pytest.fixture
def office(bench):
    return Office(bench)


# A bug, a wrong key, too few turns


class BrokenHooks(RunHooks):
    async def on_tool_end(self, context, agent, tool, result) -> None:
        raise KeyError("a bug of the script")


def test_a_bug_after_a_tool_stalls_with_its_traceback_and_the_mended_script_continues(
    office, caplog
):
    with pytest.raises(UserError, match="a bug of the script") as raised:
        office.again(office.clerk(), hooks=BrokenHooks())

    assert "it continues. See: durable show run" in "".join(raised.value.__notes__)
    assert "stalled: agents.exceptions.UserError" in caplog.text
    stall = office.bench._of("run", lambda handle: handle.describe()).stalled
    assert "a bug of the script" in stall
    history = office.bench.history()
    assert "in on_tool_end" in history.stall["stack"]
    assert office.again(office.clerk(), hooks=RunHooks()).final_output == DONE
    assert office.bench.ran == ["a", "b"], "the result that met the bug was kept"
    assert office.asked() == 3


def test_a_wrong_key_and_then_the_right_one(office):
    office.bench.fault("status", status=401, turn=1)
    with pytest.raises(openai.AuthenticationError):
        office.again(office.clerk())

    assert office.bench.status() == "FAILED"
    assert office.again(office.clerk()).final_output == DONE
    assert office.bench.ran == ["a", "b"]
    assert office.asked() == 4, "one of them was refused"


@pytest.mark.parametrize("later", [False, True], ids=["first call", "later call"])
def test_a_call_that_cannot_be_made_as_it_was_written_and_then_mended(office, later):
    wrong = ModelSettings(extra_args={"top_kk": 1})
    script = TWO_STEPS if later else (say("fine"),)
    if later:
        office.interrupt(office.clerk(), "a")

    with pytest.raises(TypeError, match="top_kk"):
        office.again(office.clerk(*script, model_settings=wrong))

    assert office.bench.status() == "FAILED", "mended code would only meet the failure again"
    result = office.again(office.clerk(*script))
    assert result.final_output == (DONE if later else "fine")


def test_what_somebody_ended_says_what_it_takes_to_go_on(office):
    office.interrupt(office.clerk(), "b")
    office.bench._of("run", lambda handle: handle.terminate(reason="enough"))
    for _ in range(2):
        with pytest.raises(
            TerminatedError, match=r"'run' was terminated: enough.*show run"
        ) as ended:
            office.again(office.clerk())

        (note,) = ended.value.__notes__
        assert "somebody ended it; after `durable resume run` the same call continues it" in note


def test_a_failure_that_is_raised_again_says_so(office):
    office.bench.fault("status", status=401, turn=1)
    options = RunOptions(on_failed="raise")
    for _ in range(2):
        with pytest.raises(openai.AuthenticationError) as raised:
            office.again(office.clerk(), options=options)

        assert 'on_failed="resume" continues it' in raised.value.__notes__[0]


def test_a_store_that_cannot_be_used_promises_no_run(office, monkeypatch):
    monkeypatch.setenv("DURABLE_URL", "sqlite:////proc/no/store.db")
    with pytest.raises(StoreError) as raised:
        office.again(office.clerk())

    assert not getattr(raised.value, "__notes__", [])


def test_too_few_turns_and_then_enough(office):
    with pytest.raises(MaxTurnsExceeded):
        office.again(office.clerk(), max_turns=2)

    assert office.again(office.clerk(), max_turns=3).final_output == DONE
    assert office.bench.ran == ["a", "b"]
    assert office.asked() == 3


# Tools that come and go


def test_a_tool_that_was_added_in_between_is_offered_from_now_on(office, caplog):
    caplog.set_level("INFO")
    office.interrupt(office.clerk(), "b")
    changed = office.clerk(
        *TWO_STEPS[:2], call("shred", paper="c"), ECHO, tools=[office.stamp, office.shred]
    )
    result = office.again(changed)
    assert result.final_output == '["a stamped", "b stamped", "c is gone"]'
    assert office.bench.ran == ["a", "b", "b", "shred c"], "b was in flight"
    assert "other tools" in caplog.text


def test_a_tool_that_a_recorded_answer_names_is_missed(office):
    office.interrupt(office.clerk(), "b")
    asked = office.asked()
    with pytest.raises(WorkflowBugError, match=r"calls 'stamp', which agent 'Clerk' does not have"):
        office.again(office.clerk(tools=[office.shred]))

    assert "'stamp'" in office.bench._of("run", lambda handle: handle.describe()).stalled
    assert office.asked() == asked
    assert office.again(office.clerk()).final_output == DONE
    assert office.bench.ran == ["a", "b", "b"], "b was in flight"


def test_a_tool_of_a_nested_agent_is_missed_too(office):
    def outer(tools):
        expert = office.clerk(*TWO_STEPS, tools=tools, name="Expert")
        script = (call("ask", input="?"), ECHO)
        return office.clerk(*script, tools=[expert.as_tool("ask", "Ask an expert.")])

    office.interrupt(outer([office.stamp]), "b")
    with pytest.raises(WorkflowBugError, match=r"'stamp', which agent 'Expert' does not have"):
        office.again(outer([office.shred]))

    assert office.again(outer([office.stamp])).final_output == f"[{DONE!r}]".replace(
        DONE, DONE.replace('"', '\\"')
    ).replace("'", '"')


def test_a_handoff_that_a_recorded_answer_names_is_missed(office):
    def front(handoffs):
        return agent("Front", call("transfer_to_clerk"), say("alone"), handoffs=handoffs)

    clerk = agent("Clerk", call("stamp", paper="a"), REPEAT, offset=1, tools=[office.stamp])
    office.interrupt(front([clerk]), "a")
    with pytest.raises(WorkflowBugError, match=r"'transfer_to_clerk', which agent 'Front'"):
        office.again(front([]))

    assert office.again(front([clerk])).final_output == "hi"


def test_a_tool_that_never_was_is_the_models_mistake(office):
    for error in office.bench.compare_failures(office.clerk(call("fly"))):
        assert isinstance(error, ModelBehaviorError)


# What is completed


class Verdict(BaseModel):
    good: bool


@pytest.mark.parametrize(
    ("last", "fields", "output"),
    [(ECHO, {}, DONE), (say_json({"good": True}), {"output_type": Verdict}, Verdict(good=True))],
    ids=["text", "structured"],
)
def test_a_completed_run_gives_its_output_also_to_a_script_that_cannot_replay_it(
    office, last, fields, output, caplog
):
    full = office.again(office.clerk(*TWO_STEPS[:2], last, **fields))
    assert full.final_output == output
    office.bench.forget()
    changed = office.clerk(*TWO_STEPS[:2], last, tools=[office.shred], **fields)
    result = office.again(changed)
    assert (result.final_output, result.workflow_id) == (output, "run")
    assert (office.asked(), office.bench.ran) == (0, [])
    assert "run 'run' is completed, and its code has changed" in caplog.text
    assert str(output) in str(result)
    with pytest.raises(NotSupported, match=r"only its final_output is known.*Restore"):
        result.to_input_list()

    with pytest.raises(NotSupported, match="last_agent"):
        _ = result.last_agent

    assert not hasattr(result, "new_items")
    assert result.interruptions == []
    assert result != full


def test_a_completed_run_gives_its_output_also_if_its_type_has_changed(office, monkeypatch):
    fields = {"output_type": Verdict}
    office.again(office.clerk(*TWO_STEPS[:2], say_json({"good": True}), **fields))
    changed = create_model("Verdict", good=(bool, ...), why=(str, ...), __module__=__name__)
    monkeypatch.setattr(sys.modules[__name__], "Verdict", changed)
    result = office.again(office.clerk(*TWO_STEPS[:2], say_json({"good": True}), tools=[]))
    assert result.final_output == {"good": True}


def test_a_failed_run_is_not_continued_by_a_script_that_cannot_replay_it(office):
    office.bench.fault("status", status=401, turn=2)
    with pytest.raises(openai.AuthenticationError):
        office.again(office.clerk())

    with pytest.raises(WorkflowBugError, match="'stamp'"):
        office.again(office.clerk(tools=[]))

    assert office.bench.status() == "FAILED"
    assert office.again(office.clerk()).final_output == DONE


def test_a_script_that_asks_otherwise_where_it_must_not_is_told_at_once(office):
    office.interrupt(office.clerk(), "b")
    with pytest.raises(WorkflowBugError, match="instructions"):
        office.again(office.clerk(*TWO_STEPS[:2], say("new")), options=RunOptions(strict=True))
