"""What workflow code may ask about its run: who it is, what time it is, and chance."""

from __future__ import annotations

from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

from durable_core import _clock
from durable_core.adapter import Capabilities
from durable_core.payloads import _json
from durable_core.workflow import _calls

if TYPE_CHECKING:
    from collections.abc import Mapping

    from durable_core.history import Start

    from ._profile import Profile

__all__ = ["Facts"]

_CAPABILITIES = Capabilities(
    name="embedded",
    durable=True,
    atomic=True,
    identity_matching=True,
    resources=True,
    requests=True,
    waits=True,
    streams=True,
)


class _Converter:
    def from_payload(self, payload: bytes, type_hint: Any = None) -> Any:
        """Return the value that a payload holds."""
        if type_hint is None:
            return _json.decode_untyped(payload, what="a payload")

        return _json.decode(payload, type_hint, what="a payload")

    def to_payload(self, value: Any) -> bytes:
        """Return a value as it would be recorded."""
        return _json.encode(value, what="a payload")


class Facts:
    """A run as its code sees it.

    Attributes:
        start: Its start record.
        time: Time of the last activation.
        resources: Live objects that were attached to the run in this process, by role.
        payload_converter: Makes values of recorded arguments, and the reverse.
        profile: What the run shows of itself.
    """

    profile: Profile
    payload_converter = _Converter()

    def __init__(self, start: Start, resources: Mapping[str, Any] | None) -> None:
        self.start = start
        self.time = start.time
        self.resources: Mapping[str, Any] = resources or {}
        self._random = Random(self.derived("random"))  # noqa: S311  # replayable, not secret
        self._uuids = Random(self.derived("uuid"))  # noqa: S311
        self._info: _calls.Info | None = None

    @property
    def read_only(self) -> bool:
        """Whether the code now running may only look."""
        return False

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""
        return _CAPABILITIES

    @property
    def workflow_id(self) -> str:
        """Id of the run, as its user chose it."""
        return self.start.workflow_id

    @property
    def run_id(self) -> str:
        """Unique id of the run."""
        return self.start.run_id

    def resource(self, role: str) -> Any:
        """Return a live object that was attached to the run in this process."""
        if role not in self.resources:
            raise LookupError(
                f"nothing is attached to run {self.workflow_id!r} as {role!r}; there are "
                f"{sorted(self.resources)}"
            )

        return self.resources[role]

    def now(self) -> float:
        """Return the time of the activation."""
        return self.time

    def random(self) -> Random:
        """Return the run's own random generator."""
        return Random() if self.read_only else self._random  # noqa: S311

    def uuid4(self) -> UUID:
        """Return a new UUID, equal on every replay."""
        uuids = Random() if self.read_only else self._uuids  # noqa: S311
        return UUID(int=uuids.getrandbits(128), version=4)

    def info(self) -> _calls.Info:
        """Return facts about the run, as of now."""
        attributes = self.profile.typed
        if self._info is None or self._info.typed_search_attributes is not attributes:
            start = self.start
            self._info = _calls.Info(
                namespace=start.namespace,
                workflow_id=start.workflow_id,
                run_id=start.run_id,
                workflow_type=start.workflow_type,
                task_queue=start.task_queue,
                start_time=_clock.from_timestamp(start.time),
                continued_run_id=start.continues or None,
                parent=None
                if start.parent is None
                else _calls.ParentInfo(
                    start.namespace, start.parent.run_id, start.parent.workflow_id
                ),
                typed_search_attributes=attributes,
            )

        return self._info

    def derived(self, label: str) -> int:
        """Return a number that is the same on every replay, and another for each label."""
        return int.from_bytes(
            blake2b(f"{self.start.seed}\0{label}".encode(), digest_size=8).digest(), "big"
        )
