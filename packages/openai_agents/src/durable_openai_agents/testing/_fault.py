"""Failures on demand: what can go wrong with a request, and which requests it happens to."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias, cast, get_args

from ._json import JsonObject

FaultKind: TypeAlias = Literal["status", "delay", "hang", "cut", "hold"]
Endpoint: TypeAlias = Literal["model", "ledger"]


_TYPES: Mapping[str, tuple[type, ...]] = {
    "kind": (str,),
    "status": (int,),
    "retry_after": (int, float, type(None)),
    "seconds": (int, float, type(None)),
    "message": (str,),
    "endpoint": (str,),
    "contains": (str, type(None)),
    "turn": (int, type(None)),
    "nth": (int,),
    "times": (int, type(None)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One failure.

    Args:
        kind: `status` answers with an HTTP error. `delay` waits, then answers as usual. `hang`
            never answers; it ends when the client goes away. `cut` closes the connection in the
            middle of the answer. `hold` keeps the request as if it were still on its way: it is
            not logged as received and not answered until `seconds` are over, and is forgotten
            when the client goes away before that.
        status: The HTTP status of kind `status`: 401, 429, 500, 503, …
        retry_after: Seconds for the Retry-After header of kind `status`.
        seconds: How long to wait first. Needed by `delay`; `hold` without it waits for ever.
        message: The text of the error in the body of kind `status`.
    """

    kind: FaultKind
    status: int = 500
    retry_after: float | None = None
    seconds: float | None = None
    message: str = "injected fault"

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind):
            raise ValueError(
                f"unknown fault kind {self.kind!r}; known: {', '.join(get_args(FaultKind))}"
            )

        if self.kind == "delay" and self.seconds is None:
            raise ValueError("a delay needs `seconds`")

    def summary(self) -> dict[str, object]:
        """Return what a log line says about the fault."""
        known = {"kind": self.kind, "seconds": self.seconds}
        if self.kind == "status":
            known |= {"status": self.status, "retry_after": self.retry_after}

        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRule:
    """Which requests a fault happens to, counted from the moment the rule is added.

    Args:
        fault: What happens.
        endpoint: Requests to the model, or lines written to the ledger. A ledger line is appended
            before its fault happens (except `hold`).
        contains: Only requests whose raw body contains this text.
        turn: Only model requests whose conversation holds this many model outputs.
        nth: The first matching request that it happens to; 1 is the next one.
        times: How many matching requests in a row it happens to; None is every one from then on.
    """

    fault: Fault
    endpoint: Endpoint = "model"
    contains: str | None = None
    turn: int | None = None
    nth: int = 1
    times: int | None = 1

    def __post_init__(self) -> None:
        if self.endpoint not in get_args(Endpoint):
            known = ", ".join(get_args(Endpoint))
            raise ValueError(f"unknown endpoint {self.endpoint!r} of a fault; known: {known}")

    def matches(self, endpoint: Endpoint, body: str, turn: int | None) -> bool:
        """Return whether the rule speaks of such a request, whatever its number."""
        return (
            endpoint == self.endpoint
            and (self.contains is None or self.contains in body)
            and (self.turn is None or self.turn == turn)
        )

    def to_json(self) -> dict[str, object]:
        """Return the rule as one flat JSON object, as `from_json` reads it."""
        rule = {name: value for name, value in asdict(self).items() if name != "fault"}
        return asdict(self.fault) | rule

    @classmethod
    def from_json(cls, document: JsonObject) -> FaultRule:
        """Return the rule in a flat JSON object such as `{"kind": "status", "status": 429}`.

        Raises:
            ValueError: A name is unknown or a value is not of the kind it should be.
        """
        unknown = set(document) - set(_TYPES)
        if unknown:
            raise ValueError(f"unknown in a fault: {', '.join(sorted(unknown))}")

        for name, value in document.items():
            if not isinstance(value, _TYPES[name]) or isinstance(value, bool):
                raise ValueError(f"{name} of a fault cannot be {value!r}")  # noqa: TRY004

        # Every value was checked against the table, which a type checker cannot follow.
        values = cast("dict[str, Any]", dict(document))
        about_fault = {field.name for field in fields(Fault)} & set(values)
        if "kind" not in about_fault:
            raise ValueError(f"a fault needs a `kind`: {', '.join(get_args(FaultKind))}")

        fault = Fault(**{name: values.pop(name) for name in about_fault})
        return cls(fault=fault, **values)


class FaultPlan:
    """The rules in force; safe to use from the server's threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[FaultRule] = []
        self._seen: list[int] = []

    def add(self, rule: FaultRule) -> None:
        """Add a rule; earlier rules win where both apply."""
        with self._lock:
            self._rules.append(rule)
            self._seen.append(0)

    def clear(self) -> None:
        """Forget every rule."""
        with self._lock:
            self._rules.clear()
            self._seen.clear()

    def pick(self, endpoint: Endpoint, body: str, turn: int | None = None) -> Fault | None:
        """Return the fault that happens to this request, and count the request."""
        picked: Fault | None = None
        with self._lock:
            for index, rule in enumerate(self._rules):
                if not rule.matches(endpoint, body, turn):
                    continue

                self._seen[index] += 1
                past = self._seen[index] - rule.nth
                applies = past >= 0 and (rule.times is None or past < rule.times)
                if applies and picked is None:
                    picked = rule.fault

        return picked
