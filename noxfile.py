"""Every check of this repository, one session each.

With nox: ``nox -s tests``. Without it: ``python3 noxfile.py tests``, which needs Python 3.11, pip
and nothing else. Run like that, this file makes a private virtual environment with nox and uv in
.nox/, leaves the system's Python alone, and hands over to nox.

``python3 noxfile.py demo`` is the first thing to try; ``python3 noxfile.py tests`` is what CI runs;
``python3 noxfile.py tests -- tests/unit -k replay`` runs what you are working on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import NamedTuple, NoReturn


class Tier(NamedTuple):
    """Some tests, the seconds that they may take on two cores, and how pytest runs them."""

    name: str
    limit: int
    paths: tuple[str, ...]
    options: tuple[str, ...] = ()


BOTH_CORES = ("-n", "2")
ADAPTER = ("tests/integration/test_openai_[!t]*.py", "tests/integration/test_openai_tool*.py")

# They start interpreters by the dozen, each of which imports the SDK.
TRACES = (
    "tests/integration/test_openai_trace_exit.py",
    "tests/integration/test_openai_trace_recovery.py",
)

# Fast ones first.
TIERS = (
    Tier("unit", 120, ("tests/unit",), BOTH_CORES),
    Tier(
        "integration",
        330,
        ("tests/integration",),
        (*(f"--ignore={path}" for path in TRACES), *BOTH_CORES),
    ),
    Tier("traces", 120, TRACES, BOTH_CORES),
    # A slice of the session `replay`.
    Tier(
        "replay",
        120,
        (
            # Those of newer features replay by themselves.
            "tests/integration/test_ca*.py",
            "tests/integration/test_changed*.py",
            "tests/integration/test_cl*.py",
            "tests/integration/test_e*.py",
            "tests/integration/test_openai_mended.py",
            "tests/integration/test_openai_runs.py",
            "tests/integration/test_openai_tools.py",
            "tests/integration/test_t*.py",
        ),
        ("--replay-always", *BOTH_CORES),
    ),
    Tier("positional", 150, ADAPTER, ("--positional", *BOTH_CORES)),
    Tier("acceptance", 250, ("tests/acceptance",), BOTH_CORES),
    Tier("crash", 420, ("tests/crash",), BOTH_CORES),
)
FAST = TIERS[:1]
LONGER = ("tests/crash", "tests/acceptance", TRACES[1])
ENGINE = Tier("engine", 240, ("tests/unit/test_engine*.py",), BOTH_CORES)
LOWEST_SDK = Tier("lowest SDK", 180, ("tests/unit/test_openai*.py", *ADAPTER), BOTH_CORES)

ROOT = Path(__file__).resolve().parent
SOURCES = {path.parents[1]: path for path in sorted(ROOT.glob("packages/*/src/durable_*"))}
BOOTSTRAP = ("nox>=2025.11.12,<2027", "uv>=0.9,<1")
MODULE_LINES = 600


def main(arguments: list[str]) -> NoReturn:
    """Hand over to nox, the first argument being a session."""
    if sys.version_info < (3, 11):  # noqa: UP036 - run as a script, this is any python3
        sys.exit(_too_old(arguments))

    python = _bootstrap()
    if arguments and not arguments[0].startswith("-"):
        arguments = ["--session", *arguments]

    for name, value in _index_of_pip().items():
        os.environ.setdefault(name, value)

    # The tests start hundreds of interpreters, each of which would compile all that it imports.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [str(python), "-m", "nox", "--noxfile", str(ROOT / "noxfile.py"), *arguments]
    if os.name == "nt":  # execv returns to the shell at once there, while the child still runs
        sys.exit(subprocess.call(command))

    os.execv(python, command)  # noqa: S606


def _too_old(arguments: list[str]) -> str:
    message = f"noxfile.py needs Python 3.11 or newer, this is {sys.version.split()[0]}"
    for minor in range(20, 10, -1):
        name = f"python3.{minor}"
        if shutil.which(name) and not _failure([name, "--version"]):
            return f"{message}; try: {' '.join([name, sys.argv[0], *arguments])}"

    return message


def _bootstrap() -> Path:
    """Return the Python of an environment that holds nox and uv, made now if need be."""
    folder = ROOT / ".nox" / f"bootstrap-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    # Written last, so that an environment whose making was interrupted is not taken for whole.
    stamp = folder / "made-from.txt"
    made_from = "\n".join([sys.base_prefix, *BOOTSTRAP])
    if (
        stamp.is_file()
        and stamp.read_text() == made_from
        and not _failure([str(python), "-c", "import nox, uv"])
    ):
        return python

    print(f"Preparing {folder.relative_to(ROOT)} with {', '.join(BOOTSTRAP)}", file=sys.stderr)
    # Without pip at first: Debian's Python makes no environment with pip unless python3-venv is
    # installed. `pip --python` does not touch the environment that pip itself is in (PEP 668).
    failures = [_failure([sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)])]
    if not any(failures):
        install = ["install", "--quiet", "--disable-pip-version-check", *BOOTSTRAP]
        own_pip = [sys.executable, "-m", "pip", "--python", str(python), *install]
        bundled_pip = [str(python), "-m", "pip", *install]
        failures = [_failure(own_pip)]
        if failures[0]:
            failures.append(_failure([str(python), "-m", "ensurepip"]) or _failure(bundled_pip))

    if all(failures):
        sys.exit(
            "noxfile.py could not prepare its environment:\n\n"
            + "\n\n".join(failures)
            + f"\n\nIt needs the venv module and pip for {sys.executable} (on Debian and Ubuntu: "
            "apt install python3-pip python3-venv) and a package index that pip can reach."
        )

    stamp.write_text(made_from)

    return python


def _failure(command: list[str]) -> str:
    """Run a command and return what went wrong, empty if nothing did."""
    environment = {**os.environ, "PIP_USER": "0"}  # a user install cannot go where we want it
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        return f"$ {' '.join(command)}\n{error}"

    if done.returncode == 0:
        return ""

    said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-5:]

    return "\n".join([f"$ {' '.join(command)}", *said])


def _index_of_pip() -> dict[str, str]:
    """Return pip's settings that uv needs too: behind a mirror or a proxy only pip is set up."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    names = {"index-url": "UV_DEFAULT_INDEX", "cert": "SSL_CERT_FILE"}
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition("=")
        name = names.get(key.rpartition(".")[2])
        if name:
            found[name] = value.strip("'\"")

    return found


if __name__ == "__main__":
    main(sys.argv[1:])

import nox  # noqa: E402 - the script part must run where nox is not installed

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["tests"]


@nox.session(reuse_venv=True)
def demo(session: nox.Session) -> None:
    """Crash an agent in the middle of its work and see it continue."""
    _install_editable(session, "core", "openai_agents")
    # The recipe answers Ctrl-C itself, and takes a moment.
    session.run(
        "python",
        "cookbook/01_crash_demo/demo.py",
        *session.posargs,
        interrupt_timeout=10,
        terminate_timeout=10,
    )


@nox.session(reuse_venv=False)
def tests(session: nox.Session) -> None:
    """Run all of CI; with arguments, only pytest with them."""
    if session.posargs:
        _install_wheels(session)
        session.run("pytest", *session.posargs)
        return

    # In environments of their own: what the checkers bring along must not hide a dependency that
    # a package forgot to declare.
    session.run(
        *(sys.executable, "-m", "nox", "--noxfile", __file__, "--session", "lint", "types"),
        external=True,
    )
    _install_wheels(session)
    _run_tiers(session, TIERS)
    session.run(
        *(sys.executable, "-m", "nox", "--noxfile", __file__, "--session", "sdk", "pythons"),
        external=True,
    )


@nox.session(reuse_venv=True)
def lint(session: nox.Session) -> None:
    """Check style, format and the size of modules."""
    session.install("--group", "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    too_long = [
        f"{path.relative_to(ROOT)} has over {MODULE_LINES} lines"
        for folder in (*SOURCES.values(), ROOT / "tests")
        for path in sorted(folder.rglob("*.py"))
        if len(path.read_text(encoding="utf-8").splitlines()) > MODULE_LINES
    ]
    if too_long:
        session.error("\n".join(too_long))


@nox.session(reuse_venv=True)
def types(session: nox.Session) -> None:
    """Check types with mypy and pyright, both strict."""
    session.install("--group", "types")
    _install_editable(session, *(package.name for package in SOURCES))
    sources = [str(source.relative_to(ROOT)) for source in SOURCES.values()]
    session.run("mypy", *sources)
    if (ROOT / "tests/typing").is_dir():
        session.run("mypy", "tests/typing")
        sources.append("tests/typing")

    session.run("pyright", *sources)


@nox.session(reuse_venv=False)
def crash(session: nox.Session) -> None:
    """Run the tests that are longer with --long, or run only with it: kills above all."""
    _install_wheels(session)
    session.run("pytest", *LONGER, "--long", *session.posargs)


@nox.session(reuse_venv=False)
def soak(session: nox.Session) -> None:
    """Load one process for half an hour, or --minutes, and check that what it holds levels off."""
    _install_wheels(session)
    session.run("python", "tests/soak/soak.py", *session.posargs)


@nox.session(reuse_venv=False)
def crowds(session: nox.Session) -> None:
    """Ten thousand sleeping runs, and a thousand signals a second, over kills (4 minutes)."""
    _install_wheels(session)
    session.run("python", "tests/soak/sleepers.py")
    session.run("python", "tests/soak/signals.py")


@nox.session(reuse_venv=False)
def replay(session: nox.Session) -> None:
    """Run all tests with every run replayed from its start at each of its steps."""
    _install_wheels(session)
    session.run(
        *("pytest", "tests/unit", "tests/integration", "--replay-always", *BOTH_CORES),
        *session.posargs,
    )


@nox.session(reuse_venv=False)
def sdk(session: nox.Session) -> None:
    """Run the adapter's tests with the oldest SDK that it allows; all others have the newest."""
    project = nox.project.load_toml(ROOT / "packages/openai_agents/pyproject.toml")["project"]
    (sdk,) = [name for name in project["dependencies"] if name.startswith("openai-agents")]
    _install_wheels(session, sdk.replace(">=", "=="))
    _run_tiers(session, (LOWEST_SDK,))


@nox.session(reuse_venv=False)
def pythons(session: nox.Session) -> None:
    """Run the engine's tests on every other Python of this machine."""
    wheels = _build_wheels(session)
    for minor, python in _other_pythons().items():
        own = Path(session.create_tmp()) / minor
        session.run(
            *("uv", "venv", "--quiet", "--clear", "--python", python, str(own)), external=True
        )
        interpreter = str(own / "bin" / "python")
        session.run(
            *("uv", "pip", "install", "--quiet", "--python", interpreter, *wheels),
            *("--group", "test"),
            external=True,
        )
        _run_tiers(session, (ENGINE._replace(name=f"engine on {minor}"),), interpreter, "-m")


@nox.session(reuse_venv=True)
def bench(session: nox.Session) -> None:
    """Measure beside the ceiling and DBOS, and write docs/performance.md (10 minutes)."""
    _install_editable(session, "core", "openai_agents")
    session.install("--group", "bench")
    session.run("python", "benchmarks/run.py", *session.posargs)
    session.run("python", "benchmarks/report.py")
    session.run("python", "benchmarks/guard.py")


@nox.session(reuse_venv=False)
def wheel(session: nox.Session) -> None:
    """Build the wheels into dist/ and run the fast tests on them."""
    _install_wheels(session)
    _run_tiers(session, FAST)


@nox.session(reuse_venv=False)
def lowest(session: nox.Session) -> None:
    """Run the fast tests with the oldest dependencies that the packages allow."""
    # Named here, since uv takes the dependencies of a wheel for indirect ones.
    projects = [nox.project.load_toml(folder / "pyproject.toml")["project"] for folder in SOURCES]
    required = [name for project in projects for name in project["dependencies"]]
    ours = tuple(project["name"] for project in projects)
    dependencies = [name for name in required if not name.startswith(ours)]
    _install_wheels(session, "--resolution=lowest-direct", *dependencies)
    _run_tiers(session, FAST)


def _install_editable(session: nox.Session, *packages: str) -> None:
    session.install(*(part for package in packages for part in ("-e", f"packages/{package}")))


def _other_pythons() -> dict[str, str]:
    """Return the newer Pythons on the path, or kept by pyenv, by minor version."""
    path = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep)]
    # What pyenv puts on the path works only for the versions that are switched on.
    kept = [bin_ for folder in path for bin_ in folder.parent.glob("versions/*/bin")]
    folders = [*path, *sorted(kept)]
    found: dict[str, str] = {}
    for minor in range(sys.version_info.minor + 1, 20):
        names = (shutil.which(f"python3.{minor}", path=folder) for folder in folders)
        # A name may be that of a version manager, which does not have it after all.
        works = (name for name in names if name and not _failure([name, "--version"]))
        python = next(works, None)
        if python is not None:
            found[f"3.{minor}"] = python

    return found


def _install_wheels(session: nox.Session, *arguments: str) -> None:
    """Install the wheel of every package beside the test tools."""
    session.install(*arguments, *_build_wheels(session), "--group", "test")


def _build_wheels(session: nox.Session) -> list[str]:
    """Build the wheel of every package into dist/, check it and return its path."""
    folder = ROOT / "dist"
    for old in folder.glob("*.whl"):
        old.unlink()

    session.run(
        *("uv", "build", "--quiet", "--all-packages", "--wheel", "--out-dir", str(folder)),
        external=True,
    )
    wheels = {path.name.partition("-")[0]: path for path in folder.glob("*.whl")}
    for source in SOURCES.values():
        _check_contents(session, wheels[source.name], source)

    return [str(path) for path in wheels.values()]


def _check_contents(session: nox.Session, built: Path, source: Path) -> None:
    """Check that a wheel holds the files of its source folder, neither fewer nor others."""
    expected = {
        path.relative_to(source.parent).as_posix()
        for path in source.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    with zipfile.ZipFile(built) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}

    if packed != expected:
        session.error(f"{built.name} and {source} differ: {sorted(packed ^ expected)}")

    if f"{source.name}/py.typed" not in packed:
        session.error(f"{built.name} has no py.typed")


def _run_tiers(session: nox.Session, tiers: tuple[Tier, ...], *python: str) -> None:
    for tier in tiers:
        start = time.monotonic()
        paths = [str(p.relative_to(ROOT)) for name in tier.paths for p in sorted(ROOT.glob(name))]
        command = (*python, "pytest", *paths, *tier.options, f"--session-timeout={tier.limit}")
        session.run(*command, external=bool(python))
        session.log(f"{tier.name}: {time.monotonic() - start:.0f} s of {tier.limit} s")
