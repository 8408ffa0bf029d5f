"""How long ``import durable_core`` takes in a process that has imported nothing else."""

from __future__ import annotations

import json
import sys
import time


def main() -> None:
    begun, used = time.perf_counter(), time.process_time()
    import durable_core

    figures = {
        "ms": (time.perf_counter() - begun) * 1000,
        "CPU ms": (time.process_time() - used) * 1000,
        "modules": len(sys.modules),
    }
    assert durable_core.Worker
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
