"""Model calls as recorded units.

The model that the SDK resolved is wrapped, not replaced: everything but the call itself reaches the
original, so that settings, retry advice and prompt cache keys stay what they are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from agents import Model, ModelResponse, ModelSettings
from agents.models import _retry_runtime
from durable_core import activity
from durable_core.adapter import Items, Unit, UnitOptions, current_engine
from durable_core.common import RetryPolicy

from . import _defaults, _errors, _responses, _secrets
from ._scope import current_scope, kept, refusal
from ._tracing import Trail, trail_of

__all__ = ["MODEL_CALL", "DurableModel"]

MODEL_CALL = "openai_agents.model"

_OPTIONS = UnitOptions(
    # The client has a timeout of its own, which its user has chosen.
    start_to_close_timeout=None,
    retry_window=_defaults.MODEL_WINDOW,
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=_defaults.MODEL_FIRST_DELAY),
        maximum_interval=timedelta(seconds=_defaults.MODEL_LONGEST_DELAY),
        maximum_attempts=_defaults.MODEL_ATTEMPTS,
    ),
    decide=_errors.decide,
    lost_attempts_count=False,
)
_OFFERED = "offered"
_ONE_ATTEMPT = RetryPolicy(maximum_attempts=1)
_SHOWN_SETTINGS = (
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "tool_choice",
    "parallel_tool_calls",
    "truncation",
    "max_tokens",
    "verbosity",
    "store",
)


@dataclass(frozen=True, slots=True)
class _Request:
    """A call as the SDK made it; live objects, never recorded."""

    model: Model
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


async def call_model() -> dict[str, Any]:
    """Make the call; the body of the unit."""
    request: _Request = activity.resource("request")
    trail: Trail = activity.resource("trail")
    trail.catch_up()
    _, _, settings, tools, _, handoffs, _ = request.args
    try:
        with _retry_runtime.provider_managed_retries_disabled(True):
            response = await request.model.get_response(*request.args, **request.kwargs)
    except Exception as error:
        _errors.hide_headers(error)
        known = _secrets.secrets_of(request.model, settings, tools)
        _secrets.hide(error, known | _secrets.secrets_sent(error))
        raise

    record = _responses.dump(response)
    called = _responses.called(response) & _names(tools, handoffs)
    if called:
        record[_OFFERED] = sorted(called)

    return record


class DurableModel(Model):
    """A model whose calls are recorded; anything else is the wrapped model's."""

    def __init__(self, model: Model, agent_name: str) -> None:
        self._durable_model = model
        self._durable_agent = agent_name

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__") or name in _OWN:
            return object.__getattribute__(self, name)

        return getattr(self._durable_model, name)

    async def get_response(
        self,
        system_instructions: str | None,
        input: str | list[Any],
        model_settings: ModelSettings,
        tools: list[Any],
        output_schema: Any,
        handoffs: list[Any],
        tracing: Any,
        **kwargs: Any,
    ) -> ModelResponse:
        """Return the recorded response, after making the call if there is none."""
        engine = current_engine()
        args = (system_instructions, input, model_settings, tools, output_schema, handoffs, tracing)
        if engine is None:
            return await self._durable_model.get_response(*args, **kwargs)

        scope = current_scope()
        options = scope.options.model.apply(_OPTIONS)
        if model_settings.retry is not None and scope.options.model.retry_policy is None:
            # The user's own policy retries around this call; two layers would multiply.
            options = UnitOptions(
                start_to_close_timeout=options.start_to_close_timeout,
                retry_policy=_ONE_ATTEMPT,
                lost_attempts_count=False,
            )

        model_name = str(getattr(self._durable_model, "model", type(self._durable_model).__name__))
        record = await engine.schedule(
            Unit(
                name=MODEL_CALL,
                body=call_model,
                key=f"{scope.path}{self._durable_agent}",
                text={
                    "model": model_name,
                    "instructions": system_instructions,
                    "input": Items([input] if isinstance(input, str) else input, stream=scope.path),
                    "tools": [getattr(t, "name", type(t).__name__) for t in tools],
                    "handoffs": [h.tool_name for h in handoffs],
                    "output": None if output_schema is None else output_schema.name(),
                    "settings": _shown(model_settings),
                    "previous_response_id": kwargs.get("previous_response_id"),
                    "conversation_id": kwargs.get("conversation_id"),
                },
                strict=scope.options.strict,
                result_type=dict[str, Any],
                resources={
                    "request": _Request(self._durable_model, args, kwargs),
                    "trail": trail_of(engine),
                },
                options=options,
                summary=f"{self._durable_agent} asks {model_name}",
            )
        )
        names = _names(tools, handoffs)
        scope.offered.update(names)
        self._check_tools(record, names)
        return _responses.load(record)

    def _check_tools(self, record: dict[str, Any], names: set[str]) -> None:
        """Keep the run for mended code if its answer calls what was there when it was given.

        The SDK would blame the model for it, and fail the run.
        """
        gone = [name for name in record.get(_OFFERED, ()) if name not in names]
        if gone:
            raise kept(
                f"a recorded answer of the model calls {', '.join(map(repr, gone))}, which agent "
                f"{self._durable_agent!r} does not have any more: give it back under that name, or "
                "start the run anew under another id"
            )

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Refuse to stream inside a durable run; outside, stream as always."""
        if current_engine() is None:
            return self._durable_model.stream_response(*args, **kwargs)

        raise refusal("streaming is not supported inside a durable run yet: use Runner.run")


_OWN = frozenset(
    {"_durable_model", "_durable_agent", "_check_tools", "get_response", "stream_response"}
)


def _names(tools: list[Any], handoffs: list[Any]) -> set[str]:
    """Return the names by which the model can call something."""
    named = {getattr(tool, "name", "") for tool in tools}
    return named | {handoff.tool_name for handoff in handoffs}


def _shown(settings: ModelSettings) -> dict[str, Any]:
    """Return the settings that a reader wants to see; never headers, bodies or credentials."""
    values = {name: getattr(settings, name, None) for name in _SHOWN_SETTINGS}
    return {name: v for name, v in values.items() if isinstance(v, (bool, int, float, str))}
