-- Every statement of the SQLite store. `-- name: x` begins one, the next comment line says what it does.
-- Batches arrive as one JSON array (?1) of rows, and blobs as one byte string (?2) with offset and
-- length in the row: a batch is then one step per statement, whatever its size.

-- name: start_runs
-- Insert runs whose workflow id is not in use; returns those inserted. An id is in use by an open run, and, if
-- column 8 says so, by one that has ended: "never" again, or again if it "failed".
INSERT INTO run (id, namespace, workflow_id, workflow_type, task_queue, bound, status, started, lineage,
    first, parent, parent_seq, policy)
SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2, j.value ->> 3, j.value ->> 4, j.value ->> 5, 'running',
       j.value ->> 6, j.value ->> 7, j.value ->> 9, j.value ->> 10, j.value ->> 11, j.value ->> 12
FROM json_each(?1) AS j
WHERE j.value ->> 8 = 'always'
   OR NOT EXISTS (
        SELECT 1 FROM run AS r
        WHERE r.namespace = j.value ->> 1 AND r.workflow_id = j.value ->> 2
          AND (j.value ->> 8 = 'never' OR r.status = 'completed'))
ON CONFLICT DO NOTHING
RETURNING id;

-- name: start_records
-- Insert the start records of new runs.
INSERT INTO start (run, data)
SELECT j.value ->> 0, substr(?2, 1 + (j.value ->> 1), j.value ->> 2) FROM json_each(?1) AS j;

-- name: advance_runs
-- Move runs on, each only if fence and number are as the writer believes; returns those moved.
-- Columns: 0 run, 1 expected fence, 2 fence, 3 claim, 4 owner, 5 number or null, 6 status, 7 closed, 8 stall,
-- 9 inbox rows consumed, 10 release, 11 reopen, 12 wake, 13 requests withdrawn, or null: none may have an unread answer. A claim also needs the run to have no other living
-- owner, must not meet a pause, and counts as a takeover if the owner died; the end of a run needs an inbox that holds nothing but
-- what this append consumes, unless another run takes its place.
UPDATE run
SET fence = j.value ->> 2,
    owner = CASE WHEN j.value ->> 6 = 'running' AND NOT j.value ->> 10 THEN j.value ->> 4 END,
    next_number = run.next_number + (j.value ->> 5 IS NOT NULL),
    takeovers = CASE
        WHEN j.value ->> 5 IS NOT NULL THEN 0
        ELSE run.takeovers + (
            j.value ->> 3 AND EXISTS (SELECT 1 FROM worker AS w WHERE w.id = run.owner AND NOT w.alive AND NOT w.released))
        END,
    status = j.value ->> 6,
    closed = j.value ->> 7,
    stall = j.value ->> 8,
    wake = j.value ->> 12,
    paused = CASE WHEN j.value ->> 6 IN ('running', 'continued_as_new') THEN run.paused END
FROM json_each(?1) AS j
WHERE run.id = j.value ->> 0
  AND run.fence = j.value ->> 1
  AND (run.status = 'running' OR (
        j.value ->> 11 AND run.status NOT IN ('completed', 'continued_as_new')
        AND NOT EXISTS (
            SELECT 1 FROM run AS r
            WHERE r.namespace = run.namespace AND r.workflow_id = run.workflow_id AND r.status = 'running')))
  AND (j.value ->> 5 IS NULL OR run.next_number = j.value ->> 5)
  AND (
    CASE j.value ->> 3
        WHEN 1 THEN run.paused IS NULL AND (
            run.owner IS NULL OR run.owner = j.value ->> 4
            OR NOT EXISTS (SELECT 1 FROM worker AS w WHERE w.id = run.owner AND w.alive))
        ELSE run.owner = j.value ->> 4
    END)
  AND (j.value ->> 13 IS NULL OR NOT EXISTS (
        SELECT 1 FROM json_each(j.value, '$[13]') AS w
        JOIN inbox AS i ON i.run = run.id AND i.request = 'answer:' || w.value))
  AND (j.value ->> 6 IN ('running', 'continued_as_new') OR (SELECT count(*) FROM inbox AS i WHERE i.run = run.id) = j.value ->> 9)
RETURNING id;

-- name: insert_activations
-- Insert the activations of runs that moved on.
INSERT INTO activation (run, number, fence, time, data)
SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2, j.value ->> 3, substr(?2, 1 + (j.value ->> 4), j.value ->> 5)
FROM json_each(?1) AS j;

-- name: insert_activation
-- Insert one activation.
INSERT INTO activation (run, number, fence, time, data) VALUES (?1, ?2, ?3, ?4, ?5);

-- name: insert_items
-- Insert items; equal content is kept once.
INSERT INTO item (lineage, address, data)
SELECT j.value ->> 0, j.value ->> 1, substr(?2, 1 + (j.value ->> 2), j.value ->> 3)
FROM json_each(?1) AS j
WHERE true
ON CONFLICT DO NOTHING;

-- name: delete_pending
-- Remove work that has an outcome.
DELETE FROM pending
WHERE (run, seq) IN (SELECT j.value ->> 0, j.value ->> 1 FROM json_each(?1) AS j);

-- name: put_pending
-- Add work, or replace what is known of it.
INSERT INTO pending (run, seq, kind, name, key, due, since, data)
SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2, j.value ->> 3, j.value ->> 4, j.value ->> 5, j.value ->> 6,
       substr(?2, 1 + (j.value ->> 7), j.value ->> 8)
FROM json_each(?1) AS j
WHERE true
ON CONFLICT (run, seq) DO UPDATE SET due = excluded.due, data = excluded.data;

-- name: delete_inbox
-- Remove events that an activation has taken.
DELETE FROM inbox WHERE id IN (SELECT j.value FROM json_each(?1) AS j);

-- name: insert_inbox
-- Add events; one that was sent before is ignored.
INSERT INTO inbox (run, request, arrived, data)
SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2, substr(?2, 1 + (j.value ->> 3), j.value ->> 4)
FROM json_each(?1) AS j
WHERE true
ON CONFLICT DO NOTHING;

-- name: insert_sent
-- Add events that came from outside, each only if its run is open; an update only if it has no reply.
INSERT INTO inbox (run, request, arrived, data)
SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2, substr(?2, 1 + (j.value ->> 3), j.value ->> 4)
FROM json_each(?1) AS j
WHERE EXISTS (SELECT 1 FROM run AS r WHERE r.id = j.value ->> 0 AND r.status = 'running')
  AND NOT EXISTS (SELECT 1 FROM reply AS p WHERE p.run = j.value ->> 0 AND p.request = j.value ->> 1)
ON CONFLICT DO NOTHING;

-- name: insert_answer
-- Add the answer to a request (?2) of a run, unless the request is not open or has an answer; returns its id.
INSERT INTO inbox (run, request, arrived, data)
SELECT r.id, ?3, ?4, ?5 FROM run AS r JOIN pending AS p ON p.run = r.id
WHERE r.id = ?1 AND r.status = 'running' AND p.seq = ?2 AND p.kind = 'request'
ON CONFLICT DO NOTHING
RETURNING id;

-- name: requests
-- Requests that nobody has answered, those that wait longest first: of the workflow ?2, the workflow id ?3, the run ?4
-- and the kind ?5, or any where that is null; from after the request ?8 of the run ?7 that was made at ?6.
SELECT r.id, r.workflow_id, r.workflow_type, r.lineage, p.seq, p.since, p.data
FROM pending AS p JOIN run AS r ON r.id = p.run
WHERE p.kind = 'request' AND r.namespace = ?1 AND r.status = 'running'
  AND (?2 IS NULL OR r.workflow_type = ?2) AND (?3 IS NULL OR r.workflow_id = ?3) AND (?4 IS NULL OR r.id = ?4)
  AND (?5 IS NULL OR p.name = ?5)
  AND (p.since, p.run, p.seq) > (?6, ?7, ?8)
  AND NOT EXISTS (SELECT 1 FROM inbox AS i WHERE i.run = p.run AND i.request = 'answer:' || p.seq)
ORDER BY p.since, p.run, p.seq LIMIT ?9;

-- name: put_replies
-- Note what became of updates; an end stays as it is.
INSERT INTO reply (run, request, stage, data)
SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2, substr(?2, 1 + (j.value ->> 3), j.value ->> 4)
FROM json_each(?1) AS j
WHERE true
ON CONFLICT (run, request) DO UPDATE SET stage = excluded.stage, data = excluded.data WHERE reply.stage = 'accepted';

-- name: reply
-- What became of an update.
SELECT request, stage, coalesce(data, x'') FROM reply WHERE run = ?1 AND request = ?2;

-- name: rejected
-- The updates of a run that were rejected.
SELECT request FROM reply WHERE run = ?1 AND stage = 'rejected';

-- name: find_targets
-- The open runs that posts ?1 (rows of namespace, workflow id, run id or '', and whether it is for that very run, not
-- for another of the chain that begins with it) are for: the place of each, and its run.
SELECT j.key, r.id FROM json_each(?1) AS j
JOIN run AS r ON r.namespace = j.value ->> 0 AND r.workflow_id = j.value ->> 1 AND r.status = 'running'
WHERE j.value ->> 2 = r.id OR (NOT j.value ->> 3 AND j.value ->> 2 IN ('', r.first));

-- name: children_of
-- The open children of the runs ?1 (a JSON array) that their end concerns: parent, its workflow id, and of the child
-- its id, policy, number, fence and lineage.
SELECT r.parent, p.workflow_id, r.id, r.policy, r.next_number, r.fence, r.lineage
FROM run AS r JOIN run AS p ON p.id = r.parent
WHERE r.parent IN (SELECT j.value FROM json_each(?1) AS j) AND r.status = 'running' AND r.policy <> 'abandon';

-- name: tell_parent
-- Add an event to the inbox of the run whose child ?1 is, if that is open.
INSERT INTO inbox (run, request, arrived, data)
SELECT p.id, ?2, ?3, ?4 FROM run AS r JOIN run AS p ON p.id = r.parent WHERE r.id = ?1 AND p.status = 'running'
ON CONFLICT DO NOTHING;

-- name: open_runs
-- Those of the runs ?1 (a JSON array) that are open.
SELECT id FROM run WHERE status = 'running' AND id IN (SELECT j.value FROM json_each(?1) AS j);

-- name: run_to_end
-- Number and fence of an open run that is to be ended from outside.
SELECT next_number, fence FROM run WHERE id = ?1 AND status = 'running';

-- name: end_run
-- End a run from outside: ?2 time, ?3 status.
UPDATE run SET status = ?3, closed = ?2, fence = fence + 1, next_number = next_number + 1, owner = NULL, stall = NULL,
    paused = NULL
WHERE id = ?1;

-- name: drop_pending
-- Remove the work of a run that has ended.
DELETE FROM pending WHERE run = ?1;

-- name: drop_inbox
-- Remove the unread events of a run that has ended.
DELETE FROM inbox WHERE run = ?1;

-- name: revive_run
-- Let any worker try a run now: a stalled one, or, if ?2, one that ended without a result; returns its id.
UPDATE run SET status = 'running', closed = NULL, wake = 0,
    stall = CASE WHEN stall IS NULL THEN NULL ELSE json_set(stall, '$.next_try', 0, '$.revived', 1) END
WHERE id = ?1
  AND ((status = 'running' AND stall IS NOT NULL) OR (
        ?2 AND status IN ('failed', 'canceled', 'terminated')
        AND NOT EXISTS (
            SELECT 1 FROM run AS r
            WHERE r.namespace = run.namespace AND r.workflow_id = run.workflow_id AND r.status = 'running')))
RETURNING id;

-- name: revive_chain
-- Open the last run of the chain that begins with the run ?1, if that ended without a result.
UPDATE run SET status = 'running', closed = NULL, wake = 0
WHERE (id = ?1 OR (first = ?1 AND first <> id)) AND successor IS NULL
  AND status IN ('failed', 'canceled', 'terminated')
  AND NOT EXISTS (
        SELECT 1 FROM run AS r
        WHERE r.namespace = run.namespace AND r.workflow_id = run.workflow_id AND r.status = 'running');

-- name: move_inbox
-- Hand what a run has not read to the run ?2.
UPDATE inbox SET run = ?2 WHERE run = ?1;

-- name: drop_event
-- Remove one event.
DELETE FROM inbox WHERE id = ?1;

-- name: succeed
-- Note which run takes the place of another one.
UPDATE run SET successor = ?2, paused = NULL WHERE id = ?1;

-- name: stay_paused
-- Pause a run as the one is whose place it takes.
UPDATE run SET paused = (SELECT p.paused FROM run AS p WHERE p.id = ?1) WHERE id = ?2;

-- name: rewrite_inbox
-- Write an event anew.
UPDATE inbox SET data = ?2 WHERE id = ?1;

-- name: pause_run
-- Pause an open run, for the reason ?2, unless it is paused; returns its id.
UPDATE run SET paused = ?2 WHERE id = ?1 AND status = 'running' AND paused IS NULL RETURNING id;

-- name: unpause_run
-- Let a paused run go on; returns its id.
UPDATE run SET paused = NULL WHERE id = ?1 AND status = 'running' AND paused IS NOT NULL RETURNING id;

-- name: put_inbox
-- Add one event; one that was sent before is ignored.
INSERT INTO inbox (run, request, arrived, data) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING;

-- name: register_worker
-- Add a worker; returns its id.
INSERT INTO worker (identity, lock_file, started, boot, lease_until) VALUES (?1, ?2, ?3, ?4, ?5) RETURNING id;

-- name: renew_leases
-- Renew the leases of workers that nobody has found dead; returns their ids. Columns: 0 worker, 1 until.
UPDATE worker SET lease_until = j.value ->> 1 FROM json_each(?1) AS j
WHERE worker.id = j.value ->> 0 AND worker.alive
RETURNING id;

-- name: living
-- Those of the workers ?1 (a JSON array) that nobody has found dead.
SELECT id FROM worker WHERE alive AND id IN (SELECT j.value FROM json_each(?1) AS j);

-- name: bury_worker
-- Mark a worker as dead, or as shut down (?2), unless it renewed the lease that ended at ?3 (if that is given);
-- returns its id if it was alive until now.
UPDATE worker SET alive = 0, released = ?2 WHERE id = ?1 AND alive AND (?3 IS NULL OR lease_until = ?3) RETURNING id;

-- name: worker
-- One worker that nobody has found dead, as `living_workers`.
SELECT id, identity, lock_file, boot, lease_until, EXISTS (SELECT 1 FROM run AS r WHERE r.owner = w.id)
FROM worker AS w WHERE w.id = ?1 AND w.alive;

-- name: living_workers
-- Workers that nobody has found dead, and whether they own runs.
SELECT id, identity, lock_file, boot, lease_until, EXISTS (SELECT 1 FROM run AS r WHERE r.owner = w.id)
FROM worker AS w WHERE w.alive;

-- name: run_newest
-- The newest run of a workflow id.
SELECT {run} FROM run WHERE namespace = ?1 AND workflow_id = ?2
ORDER BY status = 'running' DESC, started DESC, successor IS NULL DESC, id DESC LIMIT 1;

-- name: run_of_chain
-- The last run of the chain that began with the run ?2, which may be purged.
SELECT {run} FROM run WHERE namespace = ?1 AND (id = ?2 OR (first = ?2 AND first <> id)) AND successor IS NULL LIMIT 1;

-- name: run_by_run_id
-- One run by its unique id.
SELECT {run} FROM run WHERE namespace = ?1 AND id = ?2;

-- name: runs_claimable
-- Open runs of a queue and of some workflows (?4, a JSON array) that nobody alive owns and nobody has paused, oldest first: those whose
-- time (?5) has come, whose inbox holds something, whose owner died, or that stalled and need not rest: the
-- same as `may_try` of `_stalls.py` for the worker ?6, started at ?7, of the build ?8.
SELECT {run} FROM run
WHERE id IN (
    SELECT id FROM run
    WHERE namespace = ?1 AND task_queue = ?2 AND status = 'running' AND bound = 0 AND owner IS NULL AND wake <= ?5
      AND stall IS NULL
    UNION
    SELECT r.id FROM inbox AS i JOIN run AS r ON r.id = i.run
    WHERE r.namespace = ?1 AND r.task_queue = ?2 AND r.status = 'running' AND r.bound = 0 AND r.owner IS NULL
      AND r.stall IS NULL
    UNION
    SELECT r.id FROM run AS r
    WHERE r.owner IS NOT NULL AND r.namespace = ?1 AND r.task_queue = ?2 AND r.status = 'running' AND r.bound = 0
      AND r.owner NOT IN (SELECT w.id FROM worker AS w WHERE w.alive)
    UNION
    SELECT r.id FROM run AS r
    WHERE r.namespace = ?1 AND r.task_queue = ?2 AND r.status = 'running' AND r.stall IS NOT NULL AND r.bound = 0
      AND r.owner IS NULL
      AND (
        coalesce(r.stall ->> '$.next_try', 0) <= ?5
        OR (
            coalesce(r.stall ->> '$.instance', '') <> ?6
            AND (r.stall ->> '$.time' < ?7 OR coalesce(r.stall ->> '$.build', '') <> ?8))))
  AND workflow_type IN (SELECT j.value FROM json_each(?4) AS j) AND paused IS NULL
ORDER BY started, id LIMIT ?3;

-- name: waiting_types
-- The workflows of which open runs of a queue are owned by nobody, and not paused.
SELECT DISTINCT workflow_type FROM run
WHERE namespace = ?1 AND task_queue = ?2 AND status = 'running' AND bound = 0 AND owner IS NULL AND paused IS NULL;

-- name: runs_orphaned
-- Open bound runs of a workflow that no living worker owns, oldest first, from after the run ?5 started at ?4.
SELECT {run} FROM run
WHERE namespace = ?1 AND workflow_type = ?2 AND status = 'running' AND bound = 1 AND (started, id) > (?4, ?5)
  AND paused IS NULL
  AND (owner IS NULL OR owner NOT IN (SELECT w.id FROM worker AS w WHERE w.alive))
ORDER BY started, id LIMIT ?3;

-- name: runs_closed
-- Runs of the queue ?4 that ended before the time ?2, the oldest first.
SELECT id FROM run
WHERE namespace = ?1 AND task_queue = ?4 AND status <> 'running' AND closed < ?2
ORDER BY closed, id LIMIT ?3;

-- name: forget_runs
-- Remove those of the runs ?1 (a JSON array) that ended before the time ?2; returns them with their lineages.
DELETE FROM run
WHERE id IN (SELECT j.value FROM json_each(?1) AS j) AND status <> 'running' AND closed < ?2
RETURNING id, lineage;

-- name: forget_starts
-- Remove the start records of runs.
DELETE FROM start WHERE run IN (SELECT j.value FROM json_each(?1) AS j);

-- name: forget_activations
-- Remove the activations of runs.
DELETE FROM activation WHERE run IN (SELECT j.value FROM json_each(?1) AS j);

-- name: forget_pending
-- Remove the work of runs.
DELETE FROM pending WHERE run IN (SELECT j.value FROM json_each(?1) AS j);

-- name: forget_inbox
-- Remove the events that came for runs.
DELETE FROM inbox WHERE run IN (SELECT j.value FROM json_each(?1) AS j);

-- name: forget_replies
-- Remove what became of the updates of runs.
DELETE FROM reply WHERE run IN (SELECT j.value FROM json_each(?1) AS j);

-- name: forget_items
-- Remove the items of those of the lineages ?1 (a JSON array) that no run is left of.
DELETE FROM item
WHERE lineage IN (
    SELECT j.value FROM json_each(?1) AS j
    EXCEPT
    SELECT r.lineage FROM run AS r);

-- name: forget_workers
-- Remove workers that are gone and that no run names any more; returns their lock files.
DELETE FROM worker WHERE NOT alive AND id NOT IN (SELECT r.owner FROM run AS r WHERE r.owner IS NOT NULL)
RETURNING lock_file;

-- name: shrink
-- Give pages that hold nothing back to the file system, at most 8 MiB at a time.
PRAGMA incremental_vacuum(2048);

-- name: next_wake
-- When the first sleeping run of a queue is due.
SELECT min(wake) FROM run
WHERE namespace = ?1 AND task_queue = ?2 AND status = 'running' AND bound = 0 AND owner IS NULL AND paused IS NULL;

-- name: arrivals
-- The open runs of an owner, whether each is paused, and its unread events.
SELECT r.id, r.paused IS NOT NULL, i.id, i.data FROM run AS r LEFT JOIN inbox AS i ON i.run = r.id
WHERE r.owner = ?1 AND r.status = 'running' ORDER BY i.id;

-- name: runs_newest
-- Runs, newest first.
SELECT {run} FROM run WHERE namespace = ?1 AND (?2 IS NULL OR workflow_type = ?2) AND (?3 IS NULL OR status = ?3)
ORDER BY started DESC, id DESC LIMIT ?4;

-- name: start
-- The start record of a run.
SELECT data FROM start WHERE run = ?1;

-- name: activations
-- The activations of a run from a number on, in order.
SELECT number, data FROM activation WHERE run = ?1 AND number >= ?2 ORDER BY number;

-- name: activation_fence
-- Under which fence an activation was written, if it was.
SELECT fence FROM activation WHERE run = ?1 AND number = ?2;

-- name: pending
-- The work of a run that has no outcome.
SELECT seq, kind, name, key, due, data, since FROM pending WHERE run = ?1 ORDER BY seq;

-- name: inbox
-- The events of a run that no activation has taken, in order of arrival.
SELECT id, data FROM inbox WHERE run = ?1 ORDER BY id;

-- name: items
-- Items by address (?2 is a JSON array).
SELECT address, data FROM item WHERE lineage = ?1 AND address IN (SELECT j.value FROM json_each(?2) AS j);

-- name: items_of_run
-- Items by address (?2 is a JSON array), of the lineage of a run.
SELECT address, data FROM item
WHERE lineage = (SELECT lineage FROM run WHERE id = ?1) AND address IN (SELECT j.value FROM json_each(?2) AS j);


-- name: known_kinds
-- The types of search attributes that were used before (?1 is a JSON array of namespace and name).
SELECT k.namespace, k.name, k.kind FROM json_each(?1) AS j
JOIN attribute_kind AS k ON k.namespace = j.value ->> 0 AND k.name = j.value ->> 1;

-- name: put_kinds
-- Note the types of search attributes; the first use decides.
INSERT INTO attribute_kind (namespace, name, kind)
SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2 FROM json_each(?1) AS j
WHERE true
ON CONFLICT DO NOTHING;

-- name: put_profiles
-- Write what runs show of themselves.
INSERT INTO profile (run, data)
SELECT j.value ->> 0, substr(?2, 1 + (j.value ->> 1), j.value ->> 2) FROM json_each(?1) AS j
WHERE true
ON CONFLICT (run) DO UPDATE SET data = excluded.data;

-- name: drop_attributes
-- Remove the attributes of runs, which are written anew.
DELETE FROM attribute WHERE run IN (SELECT j.value FROM json_each(?1) AS j);

-- name: put_attributes
-- Write the attributes of runs.
INSERT INTO attribute (run, name, value, namespace, started)
SELECT r.id, j.value ->> 1, j.value ->> 2, r.namespace, r.started
FROM json_each(?1) AS j JOIN run AS r ON r.id = j.value ->> 0;

-- name: forget_profiles
-- Remove what runs showed of themselves.
DELETE FROM profile WHERE run IN (SELECT j.value FROM json_each(?1) AS j);

-- name: forget_attributes
-- Remove the attributes of runs.
DELETE FROM attribute WHERE run IN (SELECT j.value FROM json_each(?1) AS j);

-- name: forget_questions
-- Remove the questions about runs.
DELETE FROM question WHERE run IN (SELECT j.value FROM json_each(?1) AS j);

-- name: put_question
-- Put a question; returns its number.
INSERT INTO question (namespace, run, workflow_type, task_queue, name, args, until)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) RETURNING id;

-- name: drop_late_questions
-- Remove the questions for whose answer nobody waits any more.
DELETE FROM question WHERE until < ?1;

-- name: questions
-- The questions about runs of a queue that nobody has answered, and somebody waits for.
SELECT namespace, run, workflow_type, task_queue, name, args, until, id FROM question
WHERE namespace = ?1 AND task_queue = ?2 AND until >= ?3 AND answer IS NULL ORDER BY id;

-- name: put_answer
-- Answer a question that has no answer.
UPDATE question SET answer = ?2, failure = ?3 WHERE id = ?1 AND answer IS NULL;

-- name: answer
-- The answer of a question, if it has one.
SELECT answer, failure FROM question WHERE id = ?1 AND answer IS NOT NULL;

-- name: drop_question
-- Remove a question.
DELETE FROM question WHERE id = ?1;


-- name: extend_streams
-- Make room at the end of streams, which come to be by it. Columns: 0 run, 1 name, 2 count, 3 bytes, 4 in which
-- activation it is ended or -1, 5 last activity, 6 last activation, 7 from which activation on an earlier end is not
-- in force, or null.
INSERT INTO stream (run, name, length, size, ended, seq, number)
SELECT j.value ->> 0, j.value ->> 1, j.value ->> 2, j.value ->> 3, j.value ->> 4, j.value ->> 5, j.value ->> 6
FROM json_each(?1) AS j
WHERE true
ON CONFLICT (run, name) DO UPDATE
SET length = stream.length + excluded.length, size = stream.size + excluded.size,
    ended = CASE
        WHEN excluded.ended >= 0 THEN excluded.ended
        WHEN stream.ended >= (
            SELECT j.value ->> 7 FROM json_each(?1) AS j
            WHERE j.value ->> 0 = excluded.run AND j.value ->> 1 = excluded.name) THEN -1
        ELSE stream.ended
    END,
    seq = max(stream.seq, excluded.seq), number = max(stream.number, excluded.number);

-- name: insert_chunks
-- Add chunks in the room that was made. Column 2 counts from the end of the stream.
INSERT INTO chunk (stream, position, kind, fence, time, seq, attempt, number, data)
SELECT s.id, s.length - (j.value ->> 2), j.value ->> 3, j.value ->> 4, j.value ->> 5, j.value ->> 6, j.value ->> 7,
       j.value ->> 8, coalesce(substr(?2, 1 + (j.value ->> 9), j.value ->> 10), x'')
FROM json_each(?1) AS j JOIN stream AS s ON s.run = j.value ->> 0 AND s.name = j.value ->> 1;

-- name: stream_rows
-- The streams of a run.
SELECT name, length, size, ended, seq, number, kept FROM stream WHERE run = ?1 ORDER BY name;

-- name: stream_row
-- The run of a stream and, if there is one, the stream.
SELECT r.status, s.id, s.name, s.length, s.size, s.ended, s.seq, s.number, s.kept
FROM run AS r LEFT JOIN stream AS s ON s.run = r.id AND s.name = ?2 WHERE r.id = ?1;

-- name: chunks
-- A part of a stream: ?2 from which offset on, ?3 how many at most.
SELECT kind, fence, time, seq, attempt, number, data, position FROM chunk
WHERE stream = ?1 AND position >= ?2 ORDER BY position LIMIT ?3;

-- name: stream_marks
-- How far the streams ?1 (rows of run and name) are, and their runs.
SELECT r.status, s.length, s.ended >= 0 FROM json_each(?1) AS j
LEFT JOIN run AS r ON r.id = j.value ->> 0
LEFT JOIN stream AS s ON s.run = r.id AND s.name = j.value ->> 1
ORDER BY j.key;

-- name: streams_closed
-- Streams with chunks whose runs, of the queue ?4, ended before the time ?2.
SELECT s.id FROM stream AS s JOIN run AS r ON r.id = s.run
WHERE s.kept < s.length AND r.namespace = ?1 AND r.task_queue = ?4 AND r.status <> 'running' AND r.closed < ?2
LIMIT ?3;

-- name: purge_stream_rows
-- Note that streams are purged of all that they hold, if their runs ended before the time ?2; returns their ids.
UPDATE stream SET kept = length
WHERE id IN (SELECT j.value FROM json_each(?1) AS j)
  AND EXISTS (SELECT 1 FROM run AS r WHERE r.id = stream.run AND r.status <> 'running' AND r.closed < ?2)
RETURNING id;

-- name: purge_chunks
-- Remove the chunks of streams.
DELETE FROM chunk WHERE stream IN (SELECT j.value FROM json_each(?1) AS j);

-- name: forget_chunks
-- Remove the chunks of runs.
DELETE FROM chunk
WHERE stream IN (SELECT s.id FROM stream AS s WHERE s.run IN (SELECT j.value FROM json_each(?1) AS j));

-- name: forget_streams
-- Remove the streams of runs.
DELETE FROM stream WHERE run IN (SELECT j.value FROM json_each(?1) AS j);
