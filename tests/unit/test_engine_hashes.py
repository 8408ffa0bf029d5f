"""Which hashes the objects of a run have, and what has no say in them."""

from __future__ import annotations

import asyncio
import gc
import sys

import anyio
import pytest
from anyio._backends import _asyncio as backend
from durable_core import workflow
from durable_core.engine import _ordered
from support.engine_asking import answer, begun, call
from support.engine_runs import Driver


@pytest.fixture
def late_anyio(monkeypatch):
    """Return what imports anyio, as if nobody had done so yet."""
    modules = {name: module for name, module in sys.modules.items() if name.startswith("anyio")}
    for name in modules:
        monkeypatch.delitem(sys.modules, name)

    init = getattr(backend.CancelScope.__init__, "__wrapped__", backend.CancelScope.__init__)
    monkeypatch.setattr(backend.CancelScope, "__init__", init)
    monkeypatch.setattr(backend.CancelScope, "__hash__", object.__hash__)
    monkeypatch.setattr(_ordered, "_installed", _ordered._installed - {"anyio"})
    return lambda: sys.modules.update(modules)


def test_anyio_may_be_imported_by_workflow_code(late_anyio):
    async def code():
        late_anyio()
        with anyio.move_on_after(5), anyio.move_on_after(3):
            await call("a")

        return [hash(asyncio.create_task(call("b"))) for _ in range(2)]

    driver = begun(code)
    answer(driver, "a")
    # On replay anyio is known from the beginning.
    driver.check_replays()


def test_a_process_without_anyio_runs_workflows(late_anyio, monkeypatch):
    monkeypatch.setitem(sys.modules, "anyio", None)

    async def code():
        return "x"

    assert begun(code).result == "x"
    assert gc.isenabled()


def test_what_was_made_outside_keeps_its_hash_inside():
    async def main():
        gathered = asyncio.gather(asyncio.sleep(0))
        scope = anyio.CancelScope()
        known = {gathered, scope}

        async def code():
            return [gathered in known, scope in known]

        begun(code)  # before the next one everything is replaced
        assert begun(code).result == [True, True]
        assert gathered in known
        await gathered

    asyncio.run(main())


def test_a_query_does_not_move_the_hashes_of_what_comes_later():
    @workflow.defn
    class Asked:
        @workflow.query
        def look(self) -> bool:
            loop = asyncio.get_running_loop()
            scopes = {backend.CancelScope() for _ in range(2)}
            return len({loop.create_future() for _ in range(3)} | scopes) == 5

        @workflow.run
        async def run(self) -> list[int]:
            await call("a")
            with anyio.CancelScope() as scope:
                return [hash(asyncio.create_task(call("b"))), hash(scope)]

    results = []
    for queries in range(2):
        driver = Driver(Asked)
        driver.begin()
        for _ in range(queries):
            assert driver.run.query("look", b"[]") == b"true"

        results.append(answer(driver, "a") and driver.result)

    assert results[0] == results[1]


def test_a_handler_of_exceptions_hears_nothing_from_the_garbage_collector():
    heard = []

    async def code():
        async def fail():
            raise KeyError("nobody looks")

        asyncio.get_running_loop().set_exception_handler(lambda _, about: heard.append(about))
        for _ in range(100):  # so many that the loop forgets those that have ended
            task = asyncio.create_task(fail())
            task.itself = task  # only the collector finds it

        del task
        await call("a")

    driver = begun(code)
    gc.collect()

    assert heard == []
    driver.check_replays()
