"""A workflow that shows what it is told to show, and what tests of that need."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from durable_core import Worker, workflow
from durable_core.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

QUEUE = "shown"
CUSTOMER = SearchAttributeKey.for_keyword("Customer")
ABOUT = SearchAttributeKey.for_text("About")
AMOUNT = SearchAttributeKey.for_int("Amount")
SCORE = SearchAttributeKey.for_float("Score")
OPEN = SearchAttributeKey.for_bool("Open")
DUE = SearchAttributeKey.for_datetime("Due")
TAGS = SearchAttributeKey.for_keyword_list("Tags")
ALL = {
    CUSTOMER: "ann",
    ABOUT: "A long Story",
    AMOUNT: -7,
    SCORE: 2.5,
    OPEN: False,
    DUE: datetime(2026, 1, 31, 12, tzinfo=UTC),
    TAGS: ["b", "a"],
}


@dataclass
class Progress:
    done: int
    of: int = 10


def attributes(pairs):
    return TypedSearchAttributes([SearchAttributePair(k, v) for k, v in pairs.items()])


@workflow.defn
class Shows:
    """Shows what it is told to show, until it is told to end."""

    def __init__(self) -> None:
        self.ends = False

    @workflow.run
    async def run(self) -> dict[str, object]:
        await workflow.wait_condition(lambda: self.ends)
        return {
            "memo": workflow.memo(),
            "details": workflow.get_current_details(),
            "search": workflow.info().search_attributes.get("Amount"),
        }

    @workflow.signal
    def end(self) -> None:
        self.ends = True

    @workflow.update
    def amount(self, value: int | None) -> int | None:
        before = workflow.info()
        change = AMOUNT.value_unset() if value is None else AMOUNT.value_set(value)
        workflow.upsert_search_attributes([change])
        assert workflow.info().typed_search_attributes.get(AMOUNT) == value
        # What was asked for before is as it was.
        return before.typed_search_attributes.get(AMOUNT)

    @workflow.update
    def note(self, key: str, done: int | None) -> list[str]:
        workflow.upsert_memo({key: None if done is None else Progress(done)})
        return sorted(workflow.memo())

    @workflow.update
    def say(self, words: str) -> str:
        before = workflow.get_current_details()
        workflow.set_current_details(words)
        return before

    @workflow.query
    def progress(self, key: str) -> Progress | None:
        return workflow.memo_value(key, None, type_hint=Progress)

    @workflow.query
    def meddle(self) -> None:
        workflow.upsert_memo({"a": 1})

    @workflow.query
    def amount_now(self) -> int | None:
        return workflow.info().typed_search_attributes.get(AMOUNT)


def serving(client, cached=1000, code=None):
    return Worker(client, task_queue=QUEUE, workflows=code or [Shows], max_cached_workflows=cached)


def begin(client, code, *args, id="w", **more):
    return client.start_workflow(code, args=args, id=id, task_queue=QUEUE, **more)


async def listed(client, query=None):
    return [e.id async for e in client.list_workflows(query)]
