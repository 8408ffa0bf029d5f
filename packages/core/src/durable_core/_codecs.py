"""How exceptions that are not ours are recorded and rebuilt; adapters add to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ExceptionCodec", "exception_codecs", "register_exception"]


class ExceptionCodec(msgspec.Struct, frozen=True):
    """How exceptions of one class and its subclasses are recorded and rebuilt.

    Attributes:
        cls: The class.
        to_state: Returns what rebuilds an exception; must be encodable.
        from_state: Rebuilds it.
    """

    cls: type[BaseException]
    to_state: Callable[[Any], Any]
    from_state: Callable[[Any], BaseException]


exception_codecs: dict[type[BaseException], ExceptionCodec] = {}


def register_exception(codec: ExceptionCodec) -> None:
    """Let exceptions of a class come back from the record as they were raised, in every run."""
    exception_codecs[codec.cls] = codec
