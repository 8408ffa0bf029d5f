"""Classes by the names that a record holds, without importing or running anything for it.

A record may name anything, so what it names is only looked for in modules that the code itself
chose, and there only among what is bound by name: no attribute is asked for, since a module may
import on that occasion. A class is found if such a module

- defines it,
- names it, by ``from errors import Declined``, or
- names the module beside it, of the same package or folder, that defines it, by ``import errors``.

All of it is the same in every process that can run the code, so a failure comes back as the same
class live and on replay; what else happens to be loaded makes no difference. A library's class is
found only if the user's code names the class itself.
"""

from __future__ import annotations

import builtins
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["find_class", "find_exception", "qualified_name"]

_MAIN = "__main__"


def qualified_name(cls: type) -> str:
    """Return the name under which a class is recorded; builtins go without their module."""
    return (
        cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    )


def find_exception(name: str, modules: Iterable[str]) -> type[BaseException] | None:
    """Return the exception class of that name, if it is a builtin or one of these modules knows it.

    Only what a body can fail with: neither ``SystemExit`` nor ``KeyboardInterrupt``.
    """
    found: Any = vars(builtins).get(name) if "." not in name else find_class(name, modules)
    allowed = (Exception, BaseExceptionGroup)
    return found if isinstance(found, type) and issubclass(found, allowed) else None


def find_class(name: str, modules: Iterable[str], *, anywhere: bool = False) -> type | None:
    """Return the class of that name, if one of these modules knows it.

    Args:
        name: The name that is recorded.
        modules: Where to look.
        anywhere: Whether a module that one of them names by ``import`` need not lie beside it: for
            data, which comes from everywhere.
    """
    for module in list(modules):
        namespace = _names_of(module, anywhere=anywhere)
        for wanted in _spellings(name, module):
            for cls in namespace:
                found = _inside(cls, wanted)
                if found is not None:
                    return found

    return None


def _names_of(module: str, *, anywhere: bool) -> list[type]:
    """Return the classes that a module names, and those of the modules that it names."""
    loaded = sys.modules.get(module)
    if loaded is None:
        return []

    found: list[type] = []
    for value in list(vars(loaded).values()):
        if isinstance(value, type):
            found.append(value)
        elif isinstance(value, types.ModuleType) and (anywhere or _is_beside(loaded, value)):
            found += (inner for inner in list(vars(value).values()) if isinstance(inner, type))

    return found


def _is_beside(one: types.ModuleType, other: types.ModuleType) -> bool:
    package = _package(one)
    if package and package == _package(other):
        return True

    folder = _folder(one)
    return bool(folder) and folder == _folder(other)


def _package(module: types.ModuleType) -> str:
    """Return the outermost package of a module; nothing for one that is in none."""
    own = vars(module)
    name = str(getattr(own.get("__spec__"), "name", None) or own.get("__name__"))
    return name.partition(".")[0] if "." in name or "__path__" in own else ""


def _folder(module: types.ModuleType) -> str:
    file = str(vars(module).get("__file__") or "").replace("\\", "/")
    return file.rpartition("/")[0]


def _spellings(name: str, module: str) -> Iterator[str]:
    """Yield the names that a class of a module may be recorded by.

    The module that a script is has another name there than where a worker imports it.
    """
    yield name
    head, _, rest = name.partition(".")
    if head == _MAIN:
        yield f"{module}.{rest}"
    elif module == _MAIN:
        main: Any = sys.modules.get(_MAIN)
        spec = getattr(getattr(main, "__spec__", None), "name", None)
        file = str(getattr(main, "__file__", None) or "").rpartition("/")[2]
        for own in (spec, file.removesuffix(".py")):
            if own and name.startswith(f"{own}."):
                yield f"{_MAIN}{name.removeprefix(own)}"


def _inside(cls: type, wanted: str) -> type | None:
    """Return the class of that name, if it is this one or nested in it."""
    try:
        own = qualified_name(cls)
    except Exception:  # noqa: BLE001  # of a user's metaclass
        return None

    if wanted == own:
        return cls

    if not wanted.startswith(f"{own}."):
        return None

    found: Any = cls
    for part in wanted.removeprefix(f"{own}.").split("."):
        found = vars(found).get(part) if isinstance(found, type) else None

    return found if isinstance(found, type) else None
