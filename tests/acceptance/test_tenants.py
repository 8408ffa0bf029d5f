"""Agents of one name, each with its tenant's tools, killed and continued."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from support import tenants_app
from support.waiting import until

pytest_plugins = ["support.agents_fixtures"]

APP = Path(tenants_app.__file__)
EACH = Counter({"find": 1, "refund": 2})
SAID = [f'{tenant} ["Ann of {tenant}", "{tenant} refunded Ann"]' for tenant in tenants_app.TENANTS]


@pytest.fixture
def killed(houses):
    """Two runs whose process was killed in their second tools."""
    house = houses("tenants", APP)
    process = house.start("call", HOLD="1")
    until(lambda: process.output.count("holding") == 2, "both tenants' tools")
    process.kill()
    return house


def check(house) -> None:
    """No tool of one tenant ran for the other; only the one in flight ran again."""
    expected = {f"{n}:{tenant}": k for n, k in EACH.items() for tenant in tenants_app.TENANTS}
    assert house.effects() == expected
    assert sum(house.asked().values()) == 6, "no answer was bought twice"


def test_calls_with_their_ids_bring_each_run_its_own_tools(killed):
    assert killed.run("call").checked().output.splitlines() == SAID
    check(killed)


def test_a_registered_factory_recovers_the_runs_in_a_new_process(killed):
    served = killed.run("serve").checked().output.splitlines()
    assert served == ["recovered acme-1 globex-1"]
    check(killed)
    assert killed.run("call").checked().output.splitlines() == SAID, "their results are there"
    check(killed)


def test_a_service_that_is_killed_while_it_recovers_is_recovered_from(killed):
    service = killed.start("serve", HOLD="1")
    until(lambda: service.output.count("holding") == 2, "both tenants' tools again")
    service.kill()
    killed.run("serve").checked()
    assert killed.effects() == {
        f"{name}:{tenant}": times
        for name, times in {"find": 1, "refund": 3}.items()
        for tenant in tenants_app.TENANTS
    }
    assert sum(killed.asked().values()) == 6


def test_two_services_that_start_at_once_share_the_runs(killed):
    both = [killed.start("serve") for _ in range(2)]
    for process in both:
        process.wait().checked()

    check(killed)
