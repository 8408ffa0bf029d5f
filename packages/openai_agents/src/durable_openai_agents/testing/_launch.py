"""Start the model server without importing the package around it.

`python -m durable_openai_agents.testing.server` imports `durable_openai_agents` first, and with it
the Agents SDK, which takes seconds that tests would spend on every server. The server needs
neither, so an empty package that only knows where its modules are stands in for the real one, until
a policy asks for more.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

NAME = "durable_openai_agents"


def of_the_real_one(name: str) -> Any:
    """Return what the package has: the file of the policy also has an agent to test."""
    if name.startswith("__"):
        raise AttributeError(name)

    stand_in = sys.modules.pop(NAME)
    try:
        return getattr(importlib.import_module(NAME), name)
    except ImportError:
        sys.modules[NAME] = stand_in
        raise


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    # Modules of this folder must not shadow others, as they would in the path of a script.
    sys.path = [entry for entry in sys.path if entry != str(here)]
    package = ModuleType(NAME)
    package.__path__ = [str(here.parent)]
    package.__getattr__ = of_the_real_one  # type: ignore[method-assign]
    sys.modules[package.__name__] = package

    from durable_openai_agents.testing.server import main

    sys.exit(main())
