-- Schema of an embedded durable-core store, version 1.
--
-- A run is one row in `run`, one in `start`, and one in `activation` per step. Bytes above 4 KiB are
-- rows in `item`, once per content and lineage. `pending` and `inbox` hold what is not history yet:
-- work without an outcome, and events that no activation has taken. Rows of `activation`, `start`
-- and `item` are never changed.

-- Who owns runs. A worker is dead if the lock on its own file beside the database can be taken, if the machine
-- was started anew (`boot`), or if it owns runs and did not renew its lease (`lease_until`, in seconds since the
-- machine was started). Whoever finds it so says so in `alive`; from then on nothing that it writes is accepted.
-- One that was shut down in order has `released` its runs, any other died with them.
CREATE TABLE worker (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    identity TEXT NOT NULL,
    lock_file TEXT NOT NULL,
    started REAL NOT NULL,
    boot TEXT NOT NULL,
    lease_until REAL NOT NULL,
    alive INTEGER NOT NULL DEFAULT 1,
    released INTEGER NOT NULL DEFAULT 0
);

-- One row per run. `fence` grows with every change of owner; an append names the fence it was made under.
-- Before `wake` nobody needs to claim a run that nobody owns, unless its inbox holds something. Nobody may claim
-- one that is `paused`. `first` is the first run of a chain of runs that
-- continue each other, `successor` the next one. A child names the run
-- that started it, the command by which it did, and what the end of that run does to it.
CREATE TABLE run (
    id TEXT PRIMARY KEY,
    namespace TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    workflow_type TEXT NOT NULL,
    task_queue TEXT NOT NULL,
    bound INTEGER NOT NULL,
    status TEXT NOT NULL,
    started REAL NOT NULL,
    closed REAL,
    fence INTEGER NOT NULL DEFAULT 0,
    owner INTEGER,
    next_number INTEGER NOT NULL DEFAULT 0,
    takeovers INTEGER NOT NULL DEFAULT 0,
    lineage TEXT NOT NULL,
    stall TEXT,
    wake REAL NOT NULL DEFAULT 0,
    paused TEXT,
    first TEXT NOT NULL,
    parent TEXT,
    parent_seq INTEGER NOT NULL DEFAULT 0,
    policy TEXT NOT NULL DEFAULT '',
    successor TEXT
) WITHOUT ROWID;

CREATE UNIQUE INDEX run_open_id ON run (namespace, workflow_id) WHERE status = 'running';
CREATE INDEX run_by_id ON run (namespace, workflow_id, started);
CREATE INDEX run_by_start ON run (namespace, started);
CREATE INDEX run_by_type ON run (namespace, workflow_type, started);
CREATE INDEX run_by_end ON run (namespace, closed, started) WHERE closed IS NOT NULL;
CREATE INDEX run_ended ON run (namespace, status, started) WHERE status <> 'running';
CREATE INDEX run_waiting ON run (namespace, task_queue, wake) WHERE status = 'running' AND bound = 0 AND owner IS NULL;
CREATE INDEX run_owned ON run (owner) WHERE owner IS NOT NULL;
CREATE INDEX run_chain ON run (first) WHERE first <> id;
CREATE INDEX run_children ON run (parent) WHERE parent IS NOT NULL AND status = 'running';
CREATE INDEX run_stalled ON run (namespace, task_queue) WHERE status = 'running' AND stall IS NOT NULL;
CREATE INDEX run_bound ON run (namespace, workflow_type) WHERE status = 'running' AND bound = 1;

-- Not WITHOUT ROWID, as the tables of small rows: there a row above 1 KiB would spill to a page of its own.
CREATE TABLE start (
    run TEXT PRIMARY KEY,
    data BLOB NOT NULL
);

CREATE TABLE activation (
    run TEXT NOT NULL,
    number INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    time REAL NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (run, number)
);

-- `codec` and `key` say what was done to the bytes; empty for plain JSON.
CREATE TABLE item (
    lineage TEXT NOT NULL,
    address TEXT NOT NULL,
    codec TEXT NOT NULL DEFAULT '',
    key TEXT NOT NULL DEFAULT '',
    data BLOB NOT NULL
);

CREATE UNIQUE INDEX item_address ON item (lineage, address);

-- Work without an outcome, so that nobody decodes a history to find it. Of a request to people `since` says when
-- they were asked.
CREATE TABLE pending (
    run TEXT NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    key TEXT NOT NULL,
    due REAL,
    data BLOB,
    since REAL,
    PRIMARY KEY (run, seq)
) WITHOUT ROWID;

CREATE INDEX pending_requests ON pending (since, run, seq) WHERE kind = 'request';

-- What became of the updates that were sent to a run, for whoever waits for it or asks again: `stage` is accepted,
-- then completed, or rejected from the start.
CREATE TABLE reply (
    run TEXT NOT NULL,
    request TEXT NOT NULL,
    stage TEXT NOT NULL,
    data BLOB,
    PRIMARY KEY (run, request)
);

-- Events that wait for an activation. `request` makes a repeated sending of one event harmless.
CREATE TABLE inbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT NOT NULL,
    request TEXT NOT NULL,
    arrived REAL NOT NULL,
    data BLOB NOT NULL,
    UNIQUE (run, request)
);

-- What a run shows of itself, if it shows anything: search attributes, memo, words for people. The history says the same.
CREATE TABLE profile (
    run TEXT PRIMARY KEY,
    data BLOB NOT NULL
);

-- The search attributes of `profile`, for filters: a list has a row for each of its texts, a text for people one for
-- each of its words. `namespace` and `started` are those of the run, so that the index has runs in order.
CREATE TABLE attribute (
    run TEXT NOT NULL,
    name TEXT NOT NULL,
    value NOT NULL,
    namespace TEXT NOT NULL,
    started REAL NOT NULL,
    PRIMARY KEY (run, name, value)
) WITHOUT ROWID;

CREATE INDEX attribute_value ON attribute (namespace, name, value, started, run);

-- The type that a search attribute got by its first use.
CREATE TABLE attribute_kind (
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    PRIMARY KEY (namespace, name)
) WITHOUT ROWID;

-- Queries of processes that do not know the code of a run, until they are answered or nobody waits any more.
CREATE TABLE question (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL,
    run TEXT NOT NULL,
    workflow_type TEXT NOT NULL,
    task_queue TEXT NOT NULL,
    name TEXT NOT NULL,
    args BLOB NOT NULL,
    until REAL NOT NULL,
    answer BLOB,
    failure TEXT
);

-- What runs and their activities wrote beside their histories, for whoever follows them. `length` is the offset that
-- comes next. `ended` is the activation in which it was ended, or -1. `seq` and `number` say who wrote last: an activity, by its number, and the run's code, by that of its
-- activation. Chunks before the offset `kept` were purged.
CREATE TABLE stream (
    id INTEGER PRIMARY KEY,
    run TEXT NOT NULL,
    name TEXT NOT NULL,
    length INTEGER NOT NULL,
    size INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    number INTEGER NOT NULL,
    kept INTEGER NOT NULL DEFAULT 0,
    UNIQUE (run, name)
);

CREATE INDEX stream_kept ON stream (run) WHERE kept < length;

-- `kind` is chunk, reset or end. Rows are added, and never changed. See `_streams.py` for who wrote them.
CREATE TABLE chunk (
    stream INTEGER NOT NULL,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    fence INTEGER NOT NULL,
    time REAL NOT NULL,
    seq INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    number INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (stream, position)
);
