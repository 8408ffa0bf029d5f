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
from ._defn import defn, init, run
from ._external import (
    ExternalWorkflowHandle,
    get_external_workflow_handle,
    get_external_workflow_handle_for,
)
from ._handlers import HandlerUnfinishedPolicy, UpdateMethod, query, signal, update
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
    "ExternalWorkflowHandle",
    "HandlerUnfinishedPolicy",
    "Info",
    "LoggerAdapter",
    "PayloadConverter",
    "UpdateInfo",
    "UpdateMethod",
    "all_handlers_finished",
    "as_completed",
    "cancellation_reason",
    "current_update_info",
    "defn",
    "execute_activity",
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
    "now",
    "payload_converter",
    "query",
    "random",
    "run",
    "set_dynamic_query_handler",
    "set_dynamic_signal_handler",
    "set_dynamic_update_handler",
    "set_query_handler",
    "set_signal_handler",
    "set_update_handler",
    "signal",
    "sleep",
    "start_activity",
    "stream",
    "time",
    "time_ns",
    "unsafe",
    "update",
    "uuid4",
    "wait",
    "wait_condition",
]
