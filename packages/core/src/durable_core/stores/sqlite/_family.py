"""The children and successors of runs that end, inside the transaction that ends them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from durable_core import history
from durable_core.stores import _family

if TYPE_CHECKING:
    import apsw

__all__ = ["end_children", "end_run", "hand_over"]


def end_run(
    connection: apsw.Connection,
    sql: Mapping[str, str],
    run_id: str,
    number: int,
    fence: int,
    time: float,
    data: bytes,
) -> None:
    """End an open run from outside, by the activation with these bytes.

    What it has not read stays in its inbox, for it may be taken up again.
    """
    connection.execute(sql["insert_activation"], (run_id, number, fence, time, data))
    connection.execute(sql["end_run"], (run_id, time, "terminated"))
    connection.execute(sql["drop_pending"], (run_id,))


def end_children(
    connection: apsw.Connection, sql: Mapping[str, str], ended: Mapping[str, float]
) -> None:
    """Do to the open children of runs what their policies say, and to those of the children.

    Args:
        connection: Its transaction is open.
        sql: The statements.
        ended: When each run ended, in seconds since the epoch, by its unique id.
    """
    while ended:
        rows: list[Any] = connection.execute(
            sql["children_of"], (json.dumps(list(ended)),)
        ).fetchall()
        terminated: dict[str, float] = {}
        for parent_run, parent, run_id, policy, number, fence, lineage in rows:
            time = ended[parent_run]
            if policy == "request_cancel":
                row = _family.asked_to_end(parent, parent_run, time)
                values = (run_id, row.request, row.arrived, row.data)
                connection.execute(sql["put_inbox"], values)
                continue

            data = _family.ended(parent, lineage=lineage, number=number, fence=fence + 1, time=time)
            end_run(connection, sql, run_id, number, fence + 1, time, data)
            terminated[run_id] = time

        ended = terminated


def hand_over(
    connection: apsw.Connection, sql: Mapping[str, str], run_id: str, successor: str
) -> None:
    """Let the run that takes the place of another one have what that has not read.

    Invariant: items are of one lineage, so an event that refers to some has them inside afterwards.
    """
    rows: list[Any] = connection.execute(sql["inbox"], (run_id,)).fetchall()
    for number, data in rows:
        event = history.event_from(data)
        if not _family.is_passed_on(event):
            connection.execute(sql["drop_event"], (number,))
            continue

        if not history.may_refer(data):
            continue

        wanted = json.dumps(history.references(event))
        items: Any = connection.execute(sql["items_of_run"], (run_id, wanted)).fetchall()
        whole = history.Packer.pack_whole(history.resolve(event, dict(items)))
        connection.execute(sql["rewrite_inbox"], (number, whole))

    connection.execute(sql["move_inbox"], (run_id, successor))
    connection.execute(sql["stay_paused"], (run_id, successor))
    connection.execute(sql["succeed"], (run_id, successor))
