"""Fixtures of the tests of the OpenAI adapter; a module that wants them names this one a plugin."""

from __future__ import annotations

import pytest

from support.agents_bench import Bench, bench_server
from support.agents_house import shown, street


@pytest.fixture(scope="session")
def _agents_server(tmp_path_factory):
    with bench_server(tmp_path_factory.mktemp("model-server")) as found:
        yield found


@pytest.fixture
def bench(_agents_server, store_url, monkeypatch):
    """A model server that answers as the instructions of the agents say, and a store of its own."""
    monkeypatch.setenv("DURABLE_URL", store_url)
    monkeypatch.setenv("OPENAI_AGENTS_DISABLE_TRACING", "1")
    server, bodies = _agents_server
    yield Bench(server, bodies, store_url)
    server.clear_faults()


@pytest.fixture
def houses(tmp_path):
    with street(tmp_path) as make:
        yield make


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """What the plain runner gives, and how often it calls what."""
    with street(tmp_path_factory.mktemp("plain")) as make:
        house = make("plain")
        result = shown(house.run("plain"))
        return result, house.asked() + house.effects()
