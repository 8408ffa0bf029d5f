-- Lists and counts of runs. What `{…}` stands for is put together by `_visibility.py` of statements and parts of
-- this file; values are always bound.

-- name: list
-- A page of runs: their rows, their profiles, and what the list is ordered by.
SELECT {run}, coalesce((SELECT p.data FROM profile AS p WHERE p.run = run.id), x''), {value}
FROM {source}
WHERE {where}
ORDER BY {order} LIMIT :limit;

-- name: count
-- How many runs there are of each status.
SELECT run.status, count(*) FROM {source} WHERE {where} GROUP BY run.status;

-- name: kinds
-- The types of the search attributes of a namespace.
SELECT name, kind FROM attribute_kind WHERE namespace = ?1;

-- name: profile
-- What a run shows of itself.
SELECT data FROM profile WHERE run = ?1;

-- name: from_runs
-- All runs of a namespace.
run

-- name: from_attribute
-- The runs that have an attribute, in its order: CROSS JOIN keeps SQLite from turning the two around.
attribute AS led CROSS JOIN run ON run.id = led.run

-- name: in_namespace
-- For `from_runs`.
run.namespace = :namespace

-- name: led
-- For `from_attribute`.
led.namespace = :namespace AND led.name = :led

-- name: test_attribute
-- Whether an attribute holds; of few runs.
EXISTS (SELECT 1 FROM attribute AS a WHERE a.run = run.id AND a.name = {name} AND {test})

-- name: find_attribute
-- Whether an attribute holds; of many runs, by its index.
run.id IN (SELECT a.run FROM attribute AS a WHERE a.namespace = :namespace AND a.name = {name} AND {test})
