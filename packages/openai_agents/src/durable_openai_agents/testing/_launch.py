"""Start the model server without importing the package around it.

`python -m durable_openai_agents.testing.server` imports `durable_openai_agents` first, and with it
the Agents SDK, which takes seconds that tests would spend on every server. The server needs
neither, so an empty package that only knows where its modules are stands in for the real one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    # Modules of this folder must not shadow others, as they would in the path of a script.
    sys.path = [entry for entry in sys.path if entry != str(here)]
    package = ModuleType("durable_openai_agents")
    package.__path__ = [str(here.parent)]
    sys.modules[package.__name__] = package

    from durable_openai_agents.testing.server import main

    sys.exit(main())
