"""Changed workflows: each mismatch is found, at its activation, and described.

The table is in `support.engine_changes`.
"""

from __future__ import annotations

import pytest
from durable_core.exceptions import NonDeterminismError
from support import engine_changes
from support.engine_changes import CHANGES
from support.engine_runs import Driver, flow

TABLE = engine_changes.__file__


def mismatch(old, new, *, order="first"):
    driver = Driver(flow(old)).run_to_end(order)
    with pytest.raises(NonDeterminismError) as caught:
        driver.replay(flow(new))

    return caught.value


@pytest.mark.parametrize("case", CHANGES, ids=lambda case: case.__name__)
def test_a_change_of_the_workflow_is_found_and_described(case):
    activation, expected, got, path = case.says

    error = mismatch(case.old, case.new, order=getattr(case, "order", "first"))

    assert error.activation == activation
    assert expected is ... or error.expected == expected
    assert got is ... or error.got == got
    assert error.path == path


@pytest.mark.parametrize("case", CHANGES, ids=lambda case: case.__name__)
def test_the_message_names_every_fact_and_a_line_of_the_workflow(case):
    error = mismatch(case.old, case.new, order=getattr(case, "order", "first"))

    message = str(error)
    assert f"in activation {error.activation}:" in message
    assert f"recorded {error.expected or 'nothing more'}" in message
    assert f"got {error.got or 'nothing more'}" in message
    assert error.path is None or f"they differ at {error.path}" in message
    assert message.endswith("or start it anew under another id")
    if error.got in {"completion of the run", "failure of the run"}:
        # There is no line left at which the code could be.
        assert error.location is None
        return

    first = case.new.__code__.co_firstlineno
    file, _, rest = error.location.partition(":")
    line, _, function = rest.partition(" in ")
    assert (file, function) in {(TABLE, "new"), (TABLE, "ask"), (TABLE, "keyed")}
    assert function != "new" or first < int(line) < first + 12


@pytest.mark.parametrize("case", CHANGES, ids=lambda case: case.__name__)
def test_the_unchanged_workflow_is_no_mismatch(case):
    driver = Driver(flow(case.old)).run_to_end(getattr(case, "order", "first"))

    driver.check_replays()
