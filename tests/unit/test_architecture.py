"""The rules of the house: who may import whom, what is public, how large a module may get."""

from __future__ import annotations

import ast
import importlib
import io
import re
import subprocess
import sys
import tokenize
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(ROOT.glob("packages/*/src/durable_*"))
MODULE_LINES = 600
CORE_LINES = 1500

# Rooms of durable_core from left to right: a module imports from its own room and from those left
# of it. A new module at the top of the package is entered here first.
ROOMS = {
    "base": {"_arguments", "_clock", "_codecs", "_defaults", "_outside", "_planted", "_signatures"}
    | {"_requests", "_search_attributes", "adapter", "common", "exceptions"},
    "authoring": {"activity", "workflow"},
    "record": {"history", "payloads"},
    "engine": {"engine"},
    "process": {"_faults", "_forks", "_ids"},
    "stores": {"stores"},
    "services": {"client", "embedded", "schedules", "streams", "versions", "worker"},
    "top": {"cli", "http", "testing"},
}
# Imports inside functions that may go right, with the reason.
LAZY_EXCEPTIONS: dict[tuple[str, str], str] = {}

# The engine and what it stands on compute; they neither wait nor touch the machine.
PURE_ROOMS = ("base", "authoring", "record", "engine")
IMPURE = {
    *("apsw", "sqlite3", "socket", "ssl", "select", "selectors"),
    *("subprocess", "multiprocessing", "threading", "pathlib", "shutil", "tempfile"),
}

PUBLIC_ROOMS = {
    *(
        "activity",
        "adapter",
        "client",
        "common",
        "embedded",
        "exceptions",
        "streams",
        "testing",
        "worker",
        "workflow",
    ),
}
NOT_ON_IMPORT = {
    *("apsw", "click", "cryptography", "http", "httpx", "httpx2", "jinja2", "pydantic"),
    *("rich", "starlette", "uvicorn"),
}
UNSAFE_ENCODERS = {"cloudpickle", "dill", "marshal", "pickle", "shelve"}
HOME_FOLDER = re.compile(r"/(?:home|Users)/\w+|/root\b/")


class Module(NamedTuple):
    name: str
    path: Path

    @property
    def package(self) -> str:
        """What a relative import starts from."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


class Import(NamedTuple):
    target: str  # the module, or the name inside it
    line: int
    inside_function: bool


@cache
def modules() -> dict[str, Module]:
    found = {}
    for source in SOURCES:
        for path in sorted(source.rglob("*.py")):
            parts = path.relative_to(source.parent).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = Module(name, path)

    return found


def module_names(*, of: str = "") -> list[str]:
    return [name for name in modules() if name == of or name.startswith(f"{of}." if of else "")]


@cache
def tree(module: Module) -> ast.Module:
    return ast.parse(module.path.read_text(encoding="utf-8"))


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imports(module: Module) -> list[Import]:
    found: list[Import] = []

    def visit(node: ast.AST, *, inside_function: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(name.name, node.lineno, inside_function) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = absolute(node, module)
            found.extend(
                Import(f"{origin}.{name.name}", node.lineno, inside_function) for name in node.names
            )

        children = node.orelse if is_for_type_checkers(node) else ast.iter_child_nodes(node)
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in children:
            visit(child, inside_function=inside_function or is_function)

    visit(tree(module), inside_function=False)

    return found


def absolute(node: ast.ImportFrom, module: Module) -> str:
    if not node.level:
        return node.module or ""

    base = module.package.split(".")
    kept = base[: len(base) - node.level + 1]

    return ".".join([*kept, *([node.module] if node.module else [])])


def room_of(name: str) -> str:
    head = name.split(".")[1]
    rooms = [room for room, heads in ROOMS.items() if head in heads]
    assert rooms, f"{name}: durable_core.{head} is in no room; enter it in ROOMS"

    return rooms[0]


def where(module: Module, found: Import) -> str:
    return f"{module.path.relative_to(ROOT)}:{found.line} imports {found.target}"


def imports_among(module: Module, forbidden: set[str]) -> list[str]:
    return [
        where(module, found)
        for found in imports(module)
        if not forbidden.isdisjoint({found.target, found.target.partition(".")[0]})
    ]


@pytest.mark.parametrize(
    "name", [name for name in module_names(of="durable_core") if name != "durable_core"]
)
def test_imports_go_left(name):
    module = modules()[name]
    order = list(ROOMS)
    wrong = []
    for found in imports(module):
        if found.target.partition(".")[0] != "durable_core":
            continue

        head = ".".join(found.target.split(".")[:2])
        if not module_names(of=head):
            wrong.append(f"{where(module, found)}, which the package only re-exports")
        elif order.index(room_of(head)) > order.index(room_of(name)) and not (
            found.inside_function and (name, head) in LAZY_EXCEPTIONS
        ):
            wrong.append(f"{where(module, found)}: {room_of(head)} is right of {room_of(name)}")

    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in module_names(of="durable_core")
        if name != "durable_core" and room_of(name) in PURE_ROOMS
    ],
)
def test_the_engine_and_what_it_stands_on_do_no_io(name):
    assert imports_among(modules()[name], IMPURE) == []


@pytest.mark.parametrize(
    "name", [name for name in module_names() if name.partition(".")[0] != "durable_core"]
)
def test_adapters_use_only_public_names_of_the_core(name):
    module = modules()[name]
    private = [
        where(module, found)
        for found in imports(module)
        if found.target.partition(".")[0] == "durable_core"
        and any(is_private(part) for part in found.target.split("."))
    ]

    assert not private


@pytest.mark.parametrize("name", module_names())
def test_nothing_imports_an_encoder_that_runs_code(name):
    assert imports_among(modules()[name], UNSAFE_ENCODERS) == []


@pytest.mark.parametrize("name", module_names())
def test_modules_stay_short(name):
    lines = len(modules()[name].path.read_text(encoding="utf-8").splitlines())

    assert lines <= MODULE_LINES, f"{name} has {lines} lines: split it by responsibility"


def code_lines(module: Module) -> int:
    """Return the number of lines that hold code: no blank ones, comments or docstrings."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    text = module.path.read_text(encoding="utf-8")
    lines = {
        number
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in _NO_CODE
        for number in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(tree(module)):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            doc = node.body[0]
            lines -= set(range(doc.lineno, (doc.end_lineno or doc.lineno) + 1))

    return len(lines)


_NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    tokenize.ENDMARKER,
}


def test_what_everything_rests_on_can_be_read_in_an_evening():
    names = ("_loop", "_run", "_facts", "_commands", "_match", "_guard")
    sizes = {name: code_lines(modules()[f"durable_core.engine.{name}"]) for name in names}
    assert min(sizes.values()) > 50
    assert sum(sizes.values()) < CORE_LINES, sizes


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def is_public_module(name: str) -> bool:
    package, *rest = name.split(".")
    if not rest:
        return True

    is_room = rest[0] in PUBLIC_ROOMS if package == "durable_core" else not is_private(rest[0])

    return is_room and len(rest) == 1


def bound_names(node: ast.AST) -> set[str]:
    """Return the names that a top-level statement binds, imports apart."""
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return {node.name}
        case ast.Assign():
            targets = node.targets
        case ast.AnnAssign():
            targets = [node.target]
        case _:
            return set()

    return {target.id for target in targets if isinstance(target, ast.Name)}


def exports(module: Module) -> set[str]:
    """Return what a module offers: what it defines and what it re-exports.

    A package re-exports what its `__init__` imports from inside itself. Other imports are exports
    only if repeated (`import x as x`).
    """
    names: set[str] = set()
    for node in tree(module).body:
        names |= bound_names(node)
        if not isinstance(node, ast.ImportFrom):
            continue

        origin = absolute(node, module)
        is_facade = module.path.name == "__init__.py"
        from_inside = is_facade and f"{origin}.".startswith(f"{module.name}.")
        names |= {
            alias.asname or alias.name
            for alias in node.names
            if from_inside or alias.asname == alias.name
        }

    return {name for name in names if not name.startswith("_")}


def sorting_key(name: str) -> tuple[object, ...]:
    """Sort like ruff's RUF022: constants, classes, the rest; digits by value."""
    group = 0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2
    parts = re.split(r"(\d+)", name)

    return (group, [(int(part), "") if part.isdigit() else (-1, part) for part in parts])


@pytest.mark.parametrize("name", [name for name in module_names() if is_public_module(name)])
def test_all_is_complete_and_sorted(name):
    module = modules()[name]
    offered = exports(module)
    imported = importlib.import_module(name)
    declared = list(getattr(imported, "__all__", []))

    assert {entry for entry in declared if not entry.startswith("__")} == offered
    assert declared == sorted(set(declared), key=sorting_key)
    assert [entry for entry in declared if not hasattr(imported, entry)] == []


def test_importing_the_core_is_light():
    code = "import durable_core, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}

    assert loaded & NOT_ON_IMPORT == set()
    assert {"durable_core.cli", "durable_core.http"}.isdisjoint(done.stdout.split())


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_packages_are_typed_and_carry_the_licence(source):
    assert (source / "py.typed").is_file()
    assert (source.parents[1] / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_no_file_names_a_home_folder():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")

    leaks = []
    for name in listed.stdout.split("\0"):
        path = ROOT / name
        if not path.is_file():
            continue

        text = path.read_bytes().decode("utf-8", errors="replace")
        leaks += [f"{name}: {match.group()}" for match in HOME_FOLDER.finditer(text)]

    assert not leaks
