"""What every test gets: its own folder, no settings of the person who runs it, and `--long`."""

from __future__ import annotations

import os

import hypothesis
import pytest
from support import positional
from support.processes import Processes

# Deadlines measure the machine, not the code; a failure prints how to repeat it.
hypothesis.settings.register_profile("here", deadline=None, database=None, print_blob=True)
hypothesis.settings.load_profile("here")


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run the long crash suite")
    parser.addoption(
        "--trial", default="", help="run one trial of the random kills again: SEED/NUMBER, or SEED"
    )
    parser.addoption(
        "--positional",
        action="store_true",
        help="run agents on the engine that matches by position",
    )
    parser.addoption(
        "--replay-always", action="store_true", help="replay runs from the start at every step"
    )


def pytest_collection_modifyitems(config, items):
    for option, marker, reason in (
        ("--replay-always", "counts_executions", "counts how often code runs or is told of"),
        ("--positional", "needs_a_store", "looks at what is recorded, or goes on in a new process"),
    ):
        if config.getoption(option):
            for item in items:
                if item.get_closest_marker(marker):
                    item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path, monkeypatch, request):
    """Keep the test off the default store, and off settings that it did not make."""
    for name in [name for name in os.environ if name.startswith("DURABLE_")]:
        monkeypatch.delenv(name)

    # Servers of tests speak plain HTTP: every client would read the certificates of the machine.
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))

    if request.config.getoption("--replay-always"):
        monkeypatch.setenv("DURABLE_MAX_CACHED_WORKFLOWS", "0")

    if request.config.getoption("--positional"):
        positional.install(monkeypatch)

    monkeypatch.chdir(tmp_path)


@pytest.fixture
def long(request):
    return request.config.getoption("--long")


@pytest.fixture
def store_path(tmp_path):
    return tmp_path / "store.db"


@pytest.fixture
def store_url(store_path):
    """The URL of a database file that does not exist yet."""
    return f"sqlite:///{store_path}"


@pytest.fixture
def processes(tmp_path):
    """Starts processes that end with the test at the latest."""
    with Processes(tmp_path) as started:
        yield started
