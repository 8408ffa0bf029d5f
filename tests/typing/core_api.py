"""User code that must type-check, with the types that its authors rely on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_type

import durable_core
from durable_core import Client, RetryPolicy, Worker, activity, workflow
from durable_core.client import (
    HumanRequest,
    WithStartWorkflowOperation,
    WorkflowExecution,
    WorkflowHandle,
    WorkflowUpdateHandle,
    WorkflowUpdateStage,
)
from durable_core.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
)
from durable_core.streams import Collected, StreamItem, StreamReader


@dataclass
class Receipt:
    order_id: str
    cents: int


@activity.defn
async def charge(order_id: str, cents: int) -> Receipt:
    activity.logger.info("key %s", activity.info().idempotency_key)
    return Receipt(order_id, cents)


@activity.defn(name="render", start_to_close_timeout=timedelta(seconds=5))
def render(receipt: Receipt) -> str:
    return receipt.order_id


@workflow.defn
class Order:
    @workflow.run
    async def run(self, order_id: str) -> str:
        receipt = await workflow.execute_activity(charge, args=[order_id, 4200])
        assert_type(receipt, Receipt)
        text = await workflow.execute_activity(
            render, receipt, retry_policy=RetryPolicy(maximum_attempts=3)
        )
        assert_type(text, str)
        handle = workflow.start_activity(charge, args=[order_id, 1])
        assert_type(await handle, Receipt)
        await workflow.sleep(timedelta(hours=1))
        await asyncio.sleep(1)
        return text


@workflow.defn
class Cart:
    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.update
    async def add(self, item: str) -> int:
        return len(item)

    @add.validator
    def check(self, item: str) -> None:
        assert item

    @workflow.update(name="take out")
    def remove(self, item: str) -> list[str]:
        return [item]


async def talk(client: Client) -> None:
    handle = client.get_workflow_handle("cart")
    assert_type(await handle.execute_update(Cart.add, "pen"), int)
    assert_type(await handle.execute_update(Cart.remove, "pen"), list[str])
    sent = await handle.start_update(
        Cart.add, "pen", wait_for_stage=WorkflowUpdateStage.ACCEPTED, id="1"
    )
    assert_type(sent, WorkflowUpdateHandle[int])
    assert_type(await sent.result(), int)
    start = WithStartWorkflowOperation(
        Order.run,
        "42",
        id="order-42",
        task_queue="q",
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
    )
    await client.execute_update_with_start_workflow("add", 1, start_workflow_operation=start)
    assert_type(await (await start.workflow_handle()).result(), str)


async def follow(client: Client) -> None:
    handle = client.get_workflow_handle("order")
    async for token in handle.stream("tokens", result_type=str):
        assert_type(token, str)

    shown = Collected[Receipt]()
    async for item in handle.stream("receipts", from_offset=3, result_type=Receipt).items():
        assert_type(item, StreamItem[Receipt])
        assert_type(shown.add(item), bool)

    assert_type(await handle.stream("receipts", result_type=Receipt).collect(), list[Receipt])
    assert_type(handle.stream("numbers"), StreamReader[Any])


@activity.defn
async def progress() -> None:
    activity.stream("progress").write(0.5)


@workflow.defn
async def reporting() -> None:
    report = workflow.stream("report")
    report.write({"step": 1})
    report.end()


async def main() -> None:
    assert_type(await durable_core.execute_workflow(Order.run, "42", id="order-42"), str)
    async with await Client.connect("sqlite:///orders.db") as client:
        async with Worker(client, task_queue="q", workflows=[Order], activities=[charge, render]):
            handle = await client.start_workflow(Order.run, "43", id="order-43", task_queue="q")
            assert_type(handle, WorkflowHandle[str])
            assert_type(await handle.result(), str)

        async for run in client.list_workflows(limit=10):
            assert_type(run, WorkflowExecution)

        key = SearchAttributeKey.for_int("Amount")
        tags = SearchAttributeKey.for_keyword_list("Tags")
        assert_type(key, SearchAttributeKey[int])
        shown = TypedSearchAttributes(
            [SearchAttributePair(key, 1), SearchAttributePair(tags, ["a"])]
        )
        assert_type(shown[key], int)
        assert_type(shown.get(key), int | None)
        assert_type(shown[tags], Sequence[str])
        workflow.upsert_search_attributes([key.value_set(2), tags.value_unset()])
        assert_type(workflow.memo_value("a", type_hint=str), str)
        assert_type((await client.count_workflows("Amount > 1")).count, int)
        handle = await client.start_workflow(
            Order.run, "44", id="44", task_queue="q", search_attributes=shown, memo={"a": 1}
        )
        assert_type(handle, WorkflowHandle[str])


@workflow.defn
async def asks() -> int:
    approved = await workflow.request("refund", {"cents": 5})
    assert_type(approved, workflow.Answer[bool])
    receipt = await workflow.request(
        "receipt", None, Receipt, timeout=timedelta(days=2), remind_after=3600, on_reminder=remind
    )
    assert_type(receipt, workflow.Answer[Receipt])
    assert_type(receipt.by, str)
    return receipt.value.cents


async def remind(number: int) -> None:
    assert_type(number, int)


async def answers(client: Client) -> None:
    async for request in client.list_requests(kind="refund", limit=5):
        assert_type(request, HumanRequest)
        await client.answer(request, value=True, by="ann", note="fine")

    handle = client.get_workflow_handle("w")
    assert_type(await handle.approve(by="ann"), HumanRequest)
    await handle.reject("1")
    await handle.answer(5, request_id="2")
