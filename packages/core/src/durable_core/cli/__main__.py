"""``python -m durable_core.cli`` is ``durable``."""

from __future__ import annotations

from . import main

if __name__ == "__main__":
    main()
