"""What a worker knows: its workflows, its activities, and how exceptions travel."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from durable_core.activity import _defn as activity_defn
from durable_core.engine._unguarded import unguarded_calls
from durable_core.exceptions import DefinitionError, DuplicateNameError, NotRegisteredError
from durable_core.payloads._failures import Registry
from durable_core.workflow import _defn as workflow_defn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from durable_core.adapter import Unit

__all__ = ["Registered"]

_log = logging.getLogger("durable_core.worker")
_said: set[str] = set()


class Registered:
    """The workflows and activities of one worker.

    Args:
        workflows: Workflow classes and functions.
        activities: Functions with `activity.defn`; None lets workflow code use any that is defined
            in the process, which is what embedded use without a `Worker` does.
        any_workflow: Whether workflows that are defined in the process may run, too.

    Raises:
        DuplicateNameError: Two of them have one name.
        DefinitionError: One of them is not decorated.
    """

    def __init__(
        self,
        workflows: Sequence[Callable[..., Any]],
        activities: Sequence[Callable[..., Any]] | None,
        *,
        any_workflow: bool = False,
    ) -> None:
        self.failures = Registry()
        self._workflows: dict[str, workflow_defn.Definition] = {}
        self._activities: dict[str, activity_defn.Definition] = {}
        self._any_activity = activities is None
        self._any_workflow = any_workflow
        for workflow in workflows:
            self.add_workflow(workflow_defn.definition_of(workflow))

        for fn in activities or ():
            self._add_activity(fn)

    def add_workflow(self, definition: workflow_defn.Definition) -> None:
        """Add a workflow; adding the same one again does nothing."""
        known = self._workflows.get(definition.name)
        if known is not None and known.target is not definition.target:
            raise DuplicateNameError(
                f"two workflows are named {definition.name!r}: {_where(known.target)} and "
                f"{_where(definition.target)}. Give one of them another name: "
                "@workflow.defn(name=…)"
            )

        if known is None:
            _warn(definition)

        self._workflows[definition.name] = definition
        if not self._any_activity:
            # Else what a failure comes back as would depend on what else ran in this process.
            self.failures.allow_module(definition.module)

    def workflow(self, name: str) -> workflow_defn.Definition:
        """Return a workflow by name.

        Raises:
            NotRegisteredError: There is none.
        """
        found = self._workflows.get(name)
        if found is None and self._any_workflow and (known := workflow_defn.known(name)):
            # What a run went on as, or started, in a process that has ended.
            self.add_workflow(known)
            return known

        if found is None:
            raise NotRegisteredError(
                f"this worker does not know a workflow {name!r}; it knows "
                f"{_list(self._workflows)}. Add its class to Worker(workflows=[…])"
            )

        return found

    @property
    def workflow_names(self) -> list[str]:
        """Names of the workflows that it may run."""
        others = workflow_defn.known_names() if self._any_workflow else ()
        return list({**self._workflows, **dict.fromkeys(others)})

    def knows_workflow(self, name: str) -> bool:
        """Return whether it may run a workflow of that name."""
        known = self._any_workflow and workflow_defn.known(name) is not None
        return known or name in self._workflows

    def activity(self, name: str) -> activity_defn.Definition:
        """Return an activity by name.

        Raises:
            NotRegisteredError: There is none.
        """
        found = self._activities.get(name)
        if found is None and self._any_activity:
            found = activity_defn.known(name)

        if found is None:
            raise NotRegisteredError(
                f"this worker does not know an activity {name!r}; it knows "
                f"{_list(self._activities)}. Add the function to Worker(activities=[…])"
            )

        return found

    def child(self, workflow: str | workflow_defn.Definition) -> workflow_defn.Definition | None:
        """Return what a child runs, if that is known here; where any is allowed, it is added."""
        if isinstance(workflow, str):
            found = self._workflows.get(workflow)
            if found is None and self._any_activity:
                found = workflow_defn.known(workflow)
        else:
            found = workflow

        if found is not None and self._any_activity:
            self.add_workflow(found)

        return found

    def check_body(self, unit: Unit) -> None:
        """Check that a callable that workflow code named may run here.

        Raises:
            NotRegisteredError: The worker was given a list of activities and it is not on it.
        """
        if unit.body is None:
            return

        if activity_defn.definition_of(unit.body) is not None and not self._any_activity:
            self.activity(unit.name)

    def _add_activity(self, fn: Callable[..., Any]) -> None:
        definition = activity_defn.definition_of(fn)
        if definition is None:
            raise DefinitionError(f"{fn!r} is no activity: decorate it with @activity.defn")

        known = self._activities.get(definition.name)
        if known is not None and known.fn != definition.fn:
            raise DuplicateNameError(
                f"two activities are named {definition.name!r}: {_where(known.fn)} and "
                f"{_where(definition.fn)}. Give one of them another name: @activity.defn(name=…)"
            )

        self._activities[definition.name] = definition
        self.failures.allow_module(fn.__module__)


def _warn(definition: workflow_defn.Definition) -> None:
    """Say, once in this process, what the code of a workflow reads past the guard."""
    for found in unguarded_calls(definition):
        if found not in _said:
            _said.add(found)
            _log.warning("workflow %r: %s", definition.name, found)


def _where(target: object) -> str:
    return f"{getattr(target, '__module__', '?')}.{getattr(target, '__qualname__', target)}"


def _list(names: dict[str, Any]) -> str:
    return ", ".join(repr(n) for n in sorted(names)) or "none"
