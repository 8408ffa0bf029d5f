"""Looking through the code of a workflow asks its user's objects for nothing, and sees shadows."""

from __future__ import annotations

from time import time as early_time

from durable_core.engine._unguarded import unguarded_calls
from durable_core.workflow._defn import Definition


class Lazy:
    """Like Django's settings: nothing can be asked of it before it is configured."""

    def _unconfigured(self, *_):
        raise RuntimeError("not configured")

    __class__ = property(_unconfigured)
    __bool__ = __getattr__ = __eq__ = __hash__ = _unconfigured


settings = Lazy()


def test_objects_of_the_user_are_asked_for_nothing():
    array = Lazy()

    class Configured:
        options = settings

        async def run(self):
            return settings.DEBUG, array, array.shape

    assert unguarded_calls(Definition("W", Configured, Configured.run)) == []


def test_a_variable_of_the_name_of_an_unguarded_function_is_no_alarm():
    now = early_time

    async def code():
        def shadowed(now):
            return now + 1

        def captured():
            now = 1
            return lambda: shadowed(now)

        return captured(), lambda: now

    (found,) = unguarded_calls(Definition("W", None, code))
    assert f":{code.__code__.co_firstlineno + 8} uses time.time" in found
