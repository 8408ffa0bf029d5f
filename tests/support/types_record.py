"""The way of one value into the record and back, without a run."""

from __future__ import annotations

from typing import Any

from durable_core._signatures import Parameter
from durable_core.payloads import _faithful, _json

WHAT = "the result of activity 'x'"


def encoded(value: Any, annotation: Any) -> bytes:
    return _faithful.encode_result(value, Parameter("return", annotation), what=WHAT)


def again(value: Any, annotation: Any) -> Any:
    return _json.decode(encoded(value, annotation), annotation, what=WHAT)
