"""What becomes of the profile of a run when it moves on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_core.engine._profile import DETAILS
from durable_core.history import Rewound, UpsertAttributes, UpsertMemo
from durable_core.stores import profile_row

if TYPE_CHECKING:
    from durable_core.engine import Run
    from durable_core.history import Activation
    from durable_core.stores import ProfileRow

__all__ = ["profile_of"]


def profile_of(run: Run, activation: Activation) -> ProfileRow | None:
    """Return what a run shows of itself after an activation; None if that stays as it is.

    A run that goes on after an end shows what the part of its history says that is in force: what
    was set aside is taken back with the first activation that goes on.
    """
    changes = (UpsertAttributes, UpsertMemo)
    if (
        any(isinstance(command, changes) for command in activation.commands)
        or any(note.name == DETAILS for note in activation.notes)
        or any(isinstance(event, Rewound) for event in activation.events)
    ):
        return profile_row(run.start.namespace, run.profile.record())

    return None
