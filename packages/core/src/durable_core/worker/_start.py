"""The start record and the row of a new run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable_core import _clock, _defaults, _ids
from durable_core._arguments import check_workflow_id
from durable_core._search_attributes import lowered_pairs
from durable_core.engine import python_version
from durable_core.engine._profile import check_memo, check_words
from durable_core.history import Attribute, Payload, Start
from durable_core.payloads import _faithful, _json
from durable_core.payloads._input import digest_of, encoded_input
from durable_core.stores import RunRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from durable_core.common import TypedSearchAttributes
    from durable_core.workflow._defn import Definition

__all__ = ["new_start", "row_of"]


def new_start(
    definition: Definition,
    args: tuple[Any, ...],
    *,
    namespace: str,
    workflow_id: str,
    task_queue: str,
    client: str,
    bound: bool = False,
    memo: Mapping[str, Any] | None = None,
    search_attributes: TypedSearchAttributes | None = None,
    summary: str | None = None,
    details: str | None = None,
) -> Start:
    """Return the start record of a new run.

    Raises:
        ArgumentError: The workflow does not take so many arguments.
        CallError: Summary or details are too long.
        EncodeError: An argument, or the memo, cannot be recorded.
        SearchAttributeError: A search attribute cannot be kept.
        TypeError: The workflow id is no str.
        ValueError: The workflow id is empty or too long, or cannot be written as UTF-8.
    """
    check_workflow_id(workflow_id)
    run_id = _ids.uuid7()
    # Of one that is only named here, what its arguments are is for its worker to say.
    target = None if definition.cls is object else definition.signature
    data = encoded_input(definition.name, target, args)
    return Start(
        namespace=namespace,
        workflow_id=workflow_id,
        run_id=run_id,
        workflow_type=definition.name,
        task_queue=task_queue,
        time=_clock.now(),
        args=Payload(data=data),
        args_digest=digest_of(definition.name, target, args),
        seed=_ids.seed(),
        effect_scope=run_id,
        lineage=run_id,
        bound=bound,
        python=python_version(),
        client=client,
        memo=None if memo is None else _memo(memo),
        attributes=tuple(
            Attribute(name=name, kind=kind, value=value)
            for name, (kind, value) in sorted(lowered_pairs(search_attributes).items())
        ),
        summary=_words(summary, "the summary", _defaults.SUMMARY),
        details=_words(details, "the details", _defaults.DETAILS),
    )


def _memo(memo: Mapping[str, Any]) -> Payload:
    what = "the memo of a run"
    check_memo(memo)
    data = _json.encode(memo, what=what)
    _faithful.check_size(data, what=what)
    return Payload(data=data)


def _words(words: str | None, what: str, longest: int) -> str:
    check_words(words or "", what, longest)
    return words or ""


def row_of(start: Start) -> RunRow:
    """Return the row of a run that does not exist yet."""
    return RunRow(
        run_id=start.run_id,
        namespace=start.namespace,
        workflow_id=start.workflow_id,
        workflow_type=start.workflow_type,
        task_queue=start.task_queue,
        bound=start.bound,
        status="running",
        started=start.time,
        closed=None,
        fence=0,
        owner=None,
        next_number=0,
        takeovers=0,
        lineage=start.lineage,
        stall=None,
        first=start.run_id,
    )
