"""A run that changes what it shows at every step, for kills; prints what it shows at its end.

It fails once halfway, if it is told to, and then goes on.
"""

from __future__ import annotations

import asyncio
import json
import sys

from durable_core import activity, workflow
from durable_core.common import SearchAttributeKey
from durable_core.embedded import execute_workflow
from durable_core.exceptions import ApplicationError, WorkflowFailureError

STEP = SearchAttributeKey.for_int("Step")
TAGS = SearchAttributeKey.for_keyword_list("Tags")
ODD = SearchAttributeKey.for_bool("Odd")


@activity.defn
async def work(step: int) -> int:
    if step == 2 and sys.argv[1:] == ["broken"]:
        raise ApplicationError("broken", non_retryable=True)

    return step


@workflow.defn
async def shows(steps: int) -> int:
    for step in range(steps):
        workflow.upsert_search_attributes(
            [
                STEP.value_set(step),
                TAGS.value_set([f"t{step}", "all"]),
                ODD.value_set(True) if step % 2 else ODD.value_unset(),
            ]
        )
        workflow.upsert_memo({"step": step, f"at {step}": step, f"at {step - 2}": None})
        workflow.set_current_details(f"step {step}")
        await work(step)

    return steps


if __name__ == "__main__":
    try:
        print("result", asyncio.run(execute_workflow(shows, 4, id="w", on_failed="resume")))
    except WorkflowFailureError as error:
        print("failure", json.dumps(str(error.cause)))
