"""Write workflows: define them, and call what they may call.

Workflow code is ordinary asyncio code that runs on a deterministic event loop. Everything with an
effect, and everything that may answer differently the next time, goes through an activity.
"""

from __future__ import annotations

from ._activities import (
    ActivityCancellationType,
    ActivityHandle,
    execute_activity,
    start_activity,
)
from ._calls import (
    Info,
    LoggerAdapter,
    ParentInfo,
    PayloadConverter,
    UpdateInfo,
    cancellation_reason,
    current_update_info,
    in_workflow,
    info,
    instance,
    logger,
    now,
    payload_converter,
    random,
    sleep,
    time,
    time_ns,
    unsafe,
    uuid4,
    wait_condition,
)
from ._children import (
    ChildWorkflowCancellationType,
    ChildWorkflowHandle,
    ParentClosePolicy,
    execute_child_workflow,
    start_child_workflow,
)
from ._continuing import ContinueAsNewError, continue_as_new
from ._defn import defn, init, run
from ._external import (
    ExternalWorkflowHandle,
    get_external_workflow_handle,
    get_external_workflow_handle_for,
)
from ._handlers import HandlerUnfinishedPolicy, UpdateMethod, query, signal, update
from ._people import Answer, request
from ._profile import (
    get_current_details,
    memo,
    memo_value,
    set_current_details,
    upsert_memo,
    upsert_search_attributes,
)
from ._setting import (
    all_handlers_finished,
    get_dynamic_query_handler,
    get_dynamic_signal_handler,
    get_dynamic_update_handler,
    get_query_handler,
    get_signal_handler,
    get_update_handler,
    set_dynamic_query_handler,
    set_dynamic_signal_handler,
    set_dynamic_update_handler,
    set_query_handler,
    set_signal_handler,
    set_update_handler,
)
from ._streams import stream
from ._waiting import as_completed, wait

__all__ = [
    "ActivityCancellationType",
    "ActivityHandle",
    "Answer",
    "ChildWorkflowCancellationType",
    "ChildWorkflowHandle",
    "ContinueAsNewError",
    "ExternalWorkflowHandle",
    "HandlerUnfinishedPolicy",
    "Info",
    "LoggerAdapter",
    "ParentClosePolicy",
    "ParentInfo",
    "PayloadConverter",
    "UpdateInfo",
    "UpdateMethod",
    "all_handlers_finished",
    "as_completed",
    "cancellation_reason",
    "continue_as_new",
    "current_update_info",
    "defn",
    "execute_activity",
    "execute_child_workflow",
    "get_current_details",
    "get_dynamic_query_handler",
    "get_dynamic_signal_handler",
    "get_dynamic_update_handler",
    "get_external_workflow_handle",
    "get_external_workflow_handle_for",
    "get_query_handler",
    "get_signal_handler",
    "get_update_handler",
    "in_workflow",
    "info",
    "init",
    "instance",
    "logger",
    "memo",
    "memo_value",
    "now",
    "payload_converter",
    "query",
    "random",
    "request",
    "run",
    "set_current_details",
    "set_dynamic_query_handler",
    "set_dynamic_signal_handler",
    "set_dynamic_update_handler",
    "set_query_handler",
    "set_signal_handler",
    "set_update_handler",
    "signal",
    "sleep",
    "start_activity",
    "start_child_workflow",
    "stream",
    "time",
    "time_ns",
    "unsafe",
    "update",
    "upsert_memo",
    "upsert_search_attributes",
    "uuid4",
    "wait",
    "wait_condition",
]
