"""What a function of an author takes and returns: names, types, and how many arguments fit.

Annotations are read as late as possible, since they may name what is defined further down, and as
early as necessary: a class defined inside a function is gone from sight once that function ran, so
the decorators call `remember_locals` while it is still there.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import types
import typing
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from .exceptions import ArgumentError, DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = [
    "Parameter",
    "Signature",
    "check_definition",
    "locals_of",
    "modules_of",
    "remember_locals",
    "short",
    "signature",
]

_LOCALS = "__durable_locals__"
_COUNTS = 16
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Parameter(msgspec.Struct, frozen=True):
    """One parameter that takes a positional argument.

    Attributes:
        name: Its name.
        type: Its annotation; `Any` without one.
        required: Whether it has no default.
        note: Why the annotation is unknown, if it is; empty if `Any` is what the author wrote.
    """

    name: str
    type: Any = Any
    required: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters of a function that arguments can be passed to by position, and its result.

    Attributes:
        parameters: In order.
        rest: What takes further arguments (``*rest``), if anything does.
        result: As a parameter named ``return``.
    """

    parameters: tuple[Parameter, ...]
    rest: Parameter | None
    result: Parameter
    _counted: dict[int, tuple[tuple[Parameter, ...], tuple[Any, ...]]] = field(
        default_factory=dict[int, tuple[tuple[Parameter, ...], tuple[Any, ...]]],
        compare=False,
        repr=False,
    )

    @property
    def types(self) -> tuple[Any, ...]:
        """The types of the parameters, without those of ``*rest``."""
        return tuple(p.type for p in self.parameters)

    def without_self(self) -> Signature:
        """Return the signature of a method for whoever does not pass its object."""
        return Signature(self.parameters[1:], self.rest, self.result)

    def parameters_for(self, count: int) -> tuple[Parameter, ...]:
        """Return the parameters that so many arguments go to, those beyond them included."""
        return self._of(count)[0]

    def types_for(self, count: int) -> tuple[Any, ...]:
        """Return the types of so many arguments."""
        return self._of(count)[1]

    def _of(self, count: int) -> tuple[tuple[Parameter, ...], tuple[Any, ...]]:
        # Asked at every call, mostly for one number of arguments.
        found = self._counted.get(count)
        if found is None:
            parameters = self._parameters_for(count)
            found = parameters, tuple(p.type for p in parameters)
            if len(self._counted) < _COUNTS:
                self._counted[count] = found

        return found

    def _parameters_for(self, count: int) -> tuple[Parameter, ...]:
        extra = count - len(self.parameters)
        if extra <= 0:
            return self.parameters[:count]

        rest = self.rest or Parameter("argument", note="it has no parameter")
        beyond = (msgspec.structs.replace(rest, name=f"{rest.name}[{i}]") for i in range(extra))
        return (*self.parameters, *beyond)

    def check_count(self, args: tuple[Any, ...], *, what: str) -> None:
        """Check that so many arguments can be passed.

        Args:
            args: The arguments.
            what: Who takes them, such as ``activity 'charge'``.

        Raises:
            ArgumentError: There are too few or too many.
        """
        count, most = len(args), len(self.parameters)
        if count == most:
            return

        least = sum(p.required for p in self.parameters)
        if count < least or (self.rest is None and count > most):
            raise ArgumentError(
                f"{what} takes {self._expected()}, got {_shown(args)}. Pass one argument "
                "positionally or several by args=[…]"
            )

    def _expected(self) -> str:
        names = [p.name if p.required else f"{p.name}=…" for p in self.parameters]
        if self.rest is not None:
            names.append(f"*{self.rest.name}")

        if not names:
            return "no arguments"

        count = len(self.parameters)
        number = "any number of arguments" if self.rest else f"{count} argument{'s'[: count != 1]}"
        return f"{number} ({', '.join(names)})"


_cache: weakref.WeakKeyDictionary[Any, dict[bool, Signature]] = weakref.WeakKeyDictionary()


def signature(fn: Callable[..., Any]) -> Signature:
    """Return the signature of a function, a method, a partial or a callable object.

    A parameter without annotation, or one whose annotation cannot be resolved, is `Any`.
    """
    bound = type(fn) is not types.FunctionType and inspect.ismethod(fn)
    key: Any = getattr(fn, "__func__", fn) if bound else fn
    try:
        known = _cache.get(key)
        if known is None:
            known = _cache[key] = {}
    except TypeError:  # not hashable, or no weak references to it
        known = {}

    if bound in known:
        return known[bound]

    found = _read(fn)
    if not any(p.note.startswith("its annotation") for p in (*found.parameters, found.result)):
        # What cannot be resolved now may be defined further down.
        known[bound] = found

    return found


def _read(fn: Callable[..., Any]) -> Signature:
    hints, failed = _hints(_annotated(fn))

    def of(name: str, *, required: bool = True) -> Parameter:
        if name in hints:
            return Parameter(name, hints[name], required)

        note = "it has no annotation"
        if name in failed:
            note = f"its annotation {failed[name]!r} names what cannot be found from here"

        return Parameter(name, Any, required, note)

    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):  # built in, and silent about what it takes
        return Signature((), Parameter("args", note="it has no annotation"), of("return"))

    empty = inspect.Parameter.empty
    positional = [of(p.name, required=p.default is empty) for p in parameters if _takes(p)]
    rest = [of(p.name) for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL]
    return Signature(tuple(positional), rest[0] if rest else None, of("return"))


def check_definition(fn: Callable[..., Any], what: str) -> None:
    """Check that everything that a function takes can be passed by position.

    Raises:
        DefinitionError: It has keyword-only parameters.
    """
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return

    # A partial shows what it was given by keyword as if it were still to be passed.
    given = fn.keywords if isinstance(fn, functools.partial) else {}
    only = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in given]
    if only:
        raise DefinitionError(
            f"{what} has keyword-only parameters ({', '.join(only)}), but arguments are recorded "
            "and passed by position: remove the * from its signature, or take one dataclass"
        )


def remember_locals(fn: Callable[..., Any]) -> None:
    """Keep the local classes that the annotations of a function may name; decorators call this."""
    found: dict[str, Any] = {}
    frame = sys._getframe(1)  # noqa: SLF001
    while frame is not None and frame.f_globals.get("__name__", "").startswith("durable_core."):
        frame = frame.f_back  # type: ignore[assignment]

    while frame is not None and frame.f_code.co_name != "<module>":
        for name, value in frame.f_locals.items():
            if _is_type(value):
                found.setdefault(name, value)

        if frame.f_code.co_flags & inspect.CO_OPTIMIZED:
            break  # a function; before it came the bodies of classes, which see its names

        frame = frame.f_back  # type: ignore[assignment]

    for target in (_annotated(fn), *found.values()) if found else ():
        # The classes name one another, in annotations that nobody else will be able to read.
        if any(isinstance(a, str) for a in _own_annotations(target).values()):
            with contextlib.suppress(AttributeError, TypeError):
                setattr(target, _LOCALS, found)


def _own_annotations(target: Any) -> dict[str, Any]:
    try:
        return inspect.get_annotations(target)
    except Exception:  # noqa: BLE001  # of what is neither a function nor a class
        return {}


def locals_of(target: object) -> Mapping[str, Any]:
    """Return the local classes that were in sight where a function or class was defined."""
    return {**_type_parameters(target), **getattr(target, _LOCALS, {})}


def modules_of(fn: Callable[..., Any]) -> tuple[str, ...]:
    """Return the modules that define a callable, and the class of its object if it is a method."""
    if type(fn) is types.FunctionType:
        return (fn.__module__,) if fn.__module__ else ()

    found = {getattr(_annotated(fn), "__module__", None): None}
    owner = getattr(fn, "__self__", None)
    if owner is not None:
        found[(owner if isinstance(owner, type) else type(owner)).__module__] = None

    return tuple(name for name in found if name)


def _type_parameters(target: object) -> dict[str, Any]:
    return {p.__name__: p for p in getattr(target, "__type_params__", ())}


def _is_type(value: object) -> bool:
    kinds = (type, typing.TypeVar, typing.NewType)
    return (
        isinstance(value, kinds)
        or typing.get_origin(value) is not None
        or type(value).__name__ == "TypeAliasType"
    )


def _takes(parameter: inspect.Parameter) -> bool:
    return parameter.kind in _POSITIONAL


def _annotated(fn: Any) -> Any:
    """Return the function whose annotations count."""
    while isinstance(fn, functools.partial):
        fn = fn.func

    if inspect.isfunction(fn) or inspect.isbuiltin(fn):
        return fn

    return fn.__func__ if inspect.ismethod(fn) else getattr(type(fn), "__call__", fn)  # noqa: B004


def _hints(fn: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the annotations that can be resolved, and the text of those that cannot."""
    scope = locals_of(fn)
    try:
        return typing.get_type_hints(fn, localns=dict(scope), include_extras=True), {}
    except Exception:  # noqa: BLE001  # user annotations may name what does not exist at run time
        found = dict(_resolvable(fn, scope))
        written: dict[str, Any] = getattr(fn, "__annotations__", {})
        return found, {name: str(written[name]) for name in written if name not in found}


def _resolvable(fn: Any, scope: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield those annotations that can be resolved: one that cannot must not spoil the others."""
    names = getattr(inspect.unwrap(fn), "__globals__", {})
    for name, annotation in getattr(fn, "__annotations__", {}).items():
        alone = types.SimpleNamespace(__annotations__={name: annotation})
        with contextlib.suppress(Exception):
            hints = typing.get_type_hints(alone, names, dict(scope), include_extras=True)
            yield name, hints[name]


def _shown(args: tuple[Any, ...]) -> str:
    if not args:
        return "none"

    return f"{len(args)}: {', '.join(short(a) for a in args)}"


def short(value: object, limit: int = 60) -> str:
    """Return a value for a message, whatever its ``repr`` does."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  # of a user's object
        text = object.__repr__(value)

    return text if len(text) <= limit else f"{text[: limit - 1]}…"
