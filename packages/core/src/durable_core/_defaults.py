"""The defaults, in one table; docs/defaults.md says the same in words, and a test compares.

Times are in seconds, sizes in bytes.
"""

from __future__ import annotations

from typing import Final

# The store
STORE_FOLDER: Final = ".durable"
STORE_FILE: Final = "durable.db"
URL_VARIABLE: Final = "DURABLE_URL"
FILE_MODE: Final = 0o600
PAGE_CACHE: Final = 16 * 1024 * 1024
INLINE_LIMIT: Final = 4096
PAYLOAD_LIMIT: Final = 64 * 1024 * 1024
RETENTION_DAYS: Final = 30.0
RETENTION_VARIABLE: Final = "DURABLE_RETENTION_DAYS"
PURGE_FIRST: Final = 1.0
PURGE_EVERY: Final = 3600.0

# Names
NAMESPACE: Final = "default"
TASK_QUEUE: Final = "default"
ID_LENGTH: Final = 1000

# Activities; the policy of retries is `common.RetryPolicy`
START_TO_CLOSE: Final = 600.0
COMMITTED_BACKOFF: Final = 1.0
LOSSES_AT_ONCE: Final = 2
HEARTBEAT_EVERY: Final = 1.0

# Workers
THREADS: Final = 32
SWITCH_INTERVAL: Final = 0.0001
BODIES_AT_ONCE: Final = 200
CACHED_RUNS: Final = 1000
CACHED_RUNS_VARIABLE: Final = "DURABLE_MAX_CACHED_WORKFLOWS"
EVICT_AFTER: Final = 10.0
LEASE: Final = 10.0
LEASE_MARGIN: Final = 0.1
CRASH_LOOP_TAKEOVERS: Final = 5
STALL_RETRY_FIRST: Final = 1.0
STALL_RETRY_MAX: Final = 600.0
RECOVER_EVERY: Final = 5.0
RECOVERED_AT_ONCE: Final = 100
POLL_WAITING: Final = 0.005
POLL_LATE: Final = 0.05
POLL_IDLE: Final = 0.1
CHILD_DEPTH: Final = 100
HISTORY_SUGGESTED: Final = 4000
SPIN_LIMIT: Final = 100_000
BLOCKED_AFTER: Final = 2.0

# What is told of runs
ATTRIBUTES: Final = 100
ATTRIBUTE_NAME: Final = 255
ATTRIBUTE_SIZE: Final = 2048
ATTRIBUTES_SIZE: Final = 40_960
MEMO_CHANGES: Final = 262_144
SUMMARY: Final = 400
DETAILS: Final = 20_000
PAGE: Final = 1000
QUERY_TIMEOUT: Final = 10.0


# Streams
STREAM_EVERY: Final = 0.05
STREAM_LOOK: Final = 0.01
STREAM_CHUNK: Final = 256 * 1024
STREAM_SIZE: Final = 64 * 1024 * 1024
STREAM_LENGTH: Final = 1_000_000
STREAMS: Final = 1000
STREAM_NAME: Final = 200
STREAM_RETENTION_DAYS: Final = 1.0
STREAM_RETENTION_VARIABLE: Final = "DURABLE_STREAM_RETENTION_DAYS"

NEVER: Final = 1e15
"""A time that does not come."""
