-- Lists and counts of runs. What `{…}` stands for is put together by `_visibility.py` of statements and parts of
-- this file; values are always bound.

-- name: page
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
-- All runs.
run

-- name: from_attribute
-- The runs that have an attribute, in its order: CROSS JOIN keeps SQLite from turning the two around.
attribute AS led CROSS JOIN run ON run.id = led.run

-- name: from_few_runs
-- The runs that a condition leaves.
({few}) AS few CROSS JOIN run ON run.id = few.run

-- name: from_few_attribute
-- The runs that a condition leaves and that have an attribute.
({few}) AS few CROSS JOIN run ON run.id = few.run CROSS JOIN attribute AS led ON led.run = run.id

-- name: in_namespace
-- What holds of all runs that are looked at.
run.namespace = :namespace

-- name: led
-- What holds of the attribute in whose order runs are gone through.
led.namespace = :namespace AND led.name = :led

-- name: few_runs
-- The runs that a condition leaves, for `from_few_runs`.
SELECT r.id AS run FROM run AS r WHERE r.namespace = :namespace AND {test}

-- name: few_attributes
-- The runs that a condition of an attribute leaves, for `from_few_runs`.
SELECT DISTINCT a.run FROM attribute AS a WHERE a.namespace = :namespace AND a.name = {name} AND {test}

-- name: probe
-- How many runs a condition leaves, as far as they are few.
SELECT count(*) FROM (SELECT 1 FROM ({few}) LIMIT :few);

-- name: has_attribute
-- Whether a run has such an attribute.
EXISTS (SELECT 1 FROM attribute AS a WHERE a.run = run.id AND a.name = {name} AND {test})
