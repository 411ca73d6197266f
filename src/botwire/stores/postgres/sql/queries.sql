-- get_entry
-- One live entry.
SELECT key, text, bytes, version, created, updated, expires
FROM botwire.entries
WHERE namespace = $1 AND key = $2 AND (expires IS NULL OR expires > $3);

-- get_entries
-- The live ones of the keys in a JSON list, in its order.
SELECT held.*
FROM json_array_elements_text($2::json) WITH ORDINALITY AS wanted (name, place)
CROSS JOIN LATERAL (
    SELECT key, text, bytes, version, created, updated, expires
    FROM botwire.entries
    WHERE namespace = $1 AND key = wanted.name AND (expires IS NULL OR expires > $3)
    OFFSET 0
) AS held
ORDER BY wanted.place;

-- list_keys
-- Live keys from a prefix to the end of its range, after a key.
SELECT key
FROM botwire.entries
WHERE namespace = $1 AND key >= $2 AND key < $3 AND key > $4 AND (expires IS NULL OR expires > $5)
ORDER BY key
LIMIT nullif($6::bigint, -1);

-- list_entries
-- Live entries from a prefix to the end of its range, after a key.
SELECT key, text, bytes, version, created, updated, expires
FROM botwire.entries
WHERE namespace = $1 AND key >= $2 AND key < $3 AND key > $4 AND (expires IS NULL OR expires > $5)
ORDER BY key
LIMIT nullif($6::bigint, -1);

-- count_entries
-- How many live entries there are from a prefix to the end of its range.
SELECT count(*)
FROM botwire.entries
WHERE namespace = $1 AND key >= $2 AND key < $3 AND (expires IS NULL OR expires > $4);

-- find_session
-- A session by its name.
SELECT id, last_seq FROM botwire.sessions WHERE namespace = $1 AND name = $2;

-- messages_between
-- Messages in order, after a place and up to another.
SELECT place & 4294967295, id, data, created
FROM botwire.messages
WHERE namespace = $1 AND place > $2 AND place <= $3
ORDER BY place
LIMIT nullif($4::bigint, -1);

-- list_sessions
-- Sessions before a place, the newest first.
SELECT name, id, last_seq, created, updated
FROM botwire.sessions
WHERE namespace = $1 AND id < $2
ORDER BY id DESC
LIMIT nullif($3::bigint, -1);

-- list_namespaces
-- The names of namespaces after a name.
SELECT name FROM botwire.namespaces WHERE name > $1 ORDER BY name LIMIT nullif($2::bigint, -1);

-- get_version
-- The number of the last change of a namespace.
SELECT version FROM botwire.namespaces WHERE name = $1;

-- entry_version
-- The version of a live entry.
SELECT version FROM botwire.entries WHERE namespace = $1 AND key = $2 AND (expires IS NULL OR expires > $3);

-- rest_on_access
-- Hold up changes to the rules of access until this transaction ends.
SELECT pg_advisory_xact_lock_shared(1112495191, 1);

-- change_access
-- Change the rules of access when no transaction rests on them, and let none begin to.
SELECT pg_advisory_xact_lock(1112495191, 1);

-- get_progress
-- The number of the last change of a namespace, and when its next entry expires.
SELECT version, expires FROM botwire.namespaces WHERE name = $1;

-- get_journal
-- The newest lines of a namespace's journal.
SELECT name, version, recent FROM botwire.namespaces WHERE name = $1;

-- changes_after
-- Blocks of a journal with lines after a version.
SELECT since, records FROM botwire.changes WHERE namespace = $1 AND version > $2 ORDER BY version LIMIT $3;

-- add_blocks
-- Add the blocks in a JSON list to a journal, those that are not there, and drop of the oldest what is more than so many.
WITH last AS (
    SELECT coalesce((SELECT number FROM botwire.changes WHERE namespace = $1 ORDER BY version DESC LIMIT 1), 0) AS number
), added AS (
    INSERT INTO botwire.changes (namespace, version, since, records, number)
    SELECT $1, given.version, given.since, given.records, last.number + given.place
    FROM last, json_to_recordset($2::json) AS given (place int, version bigint, since bigint, records text)
    ON CONFLICT DO NOTHING
    RETURNING number
)
DELETE FROM botwire.changes
WHERE namespace = $1
    AND version IN (
        SELECT version FROM botwire.changes WHERE namespace = $1 ORDER BY version LIMIT json_array_length($2::json)
    )
    AND number <= (SELECT max(number) FROM added) - $3;

-- session_name
-- The name of a session.
SELECT name FROM botwire.sessions WHERE namespace = $1 AND id = $2;

-- get_account
-- A namespace's plan and account.
SELECT name, plan, day, writes, bytes, version, expires, recent, pending, behind, texts, words, vectors
FROM botwire.namespaces
WHERE name = $1;

-- lock_account
-- A namespace's plan and account, for the one who writes next. A database that was restored without pgvector has no vectors.
SELECT
    name, plan, day, writes, bytes, version, expires, recent, pending, behind, texts, words,
    CASE WHEN vectors > 0 AND to_regclass('botwire.entry_vectors') IS NOT NULL THEN vectors ELSE 0 END,
    sessions, entry_texts
FROM botwire.namespaces
WHERE name = $1
FOR NO KEY UPDATE;

-- add_account
-- Begin a namespace. That somebody else began it meanwhile is an error: what this transaction knows of it is wrong.
INSERT INTO botwire.namespaces (
    name, day, writes, bytes, version, expires, recent, pending, behind, texts, words, sessions, entry_texts
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13);

-- set_account
-- Put down what a transaction did to a namespace.
UPDATE botwire.namespaces
SET day = $2, writes = $3, bytes = $4, version = $5, expires = $6, recent = $7, pending = $8, behind = $9, texts = $10,
    words = $11, sessions = $12, entry_texts = $13
WHERE name = $1;

-- set_plan
-- Put a namespace on a plan.
INSERT INTO botwire.namespaces (name, plan, day, behind) VALUES ($1, $2, $3, 'entries ')
ON CONFLICT (name) DO UPDATE SET plan = excluded.plan;

-- fetch_entries
-- What a transaction must know of the entries in a JSON list before it replaces them, expired or not.
SELECT key, version, created, expires, coalesce(octet_length(text), octet_length(bytes))
FROM botwire.entries
WHERE namespace = $1 AND key = ANY (ARRAY(SELECT json_array_elements_text($2::json)));

-- fetch_values
-- The values of the entries in a JSON list, expired or not.
SELECT key, text, bytes
FROM botwire.entries
WHERE namespace = $1 AND key = ANY (ARRAY(SELECT json_array_elements_text($2::json)));

-- put_entries
-- Set the entries in a JSON list, whether they are there or not.
INSERT INTO botwire.entries (namespace, key, version, created, updated, expires, text, bytes)
SELECT $1, key, version, created, updated, expires, text, decode(bytes, 'base64')
FROM json_to_recordset($2::json)
    AS given (key text, version bigint, created bigint, updated bigint, expires bigint, text text, bytes text)
ON CONFLICT (namespace, key) DO UPDATE SET
    version = excluded.version, created = excluded.created, updated = excluded.updated, expires = excluded.expires,
    text = excluded.text, bytes = excluded.bytes;

-- drop_entries
-- Remove the entries in a JSON list.
DELETE FROM botwire.entries
WHERE namespace = $1 AND key = ANY (ARRAY(SELECT json_array_elements_text($2::json)));

-- measure_entries
-- How many live entries there are from a prefix to the end of its range, and the bytes of all of them.
SELECT
    count(*) FILTER (WHERE expires IS NULL OR expires > $4),
    coalesce(sum(octet_length(key) + coalesce(octet_length(text), octet_length(bytes))), 0)::bigint
FROM botwire.entries
WHERE namespace = $1 AND key >= $2 AND key < $3;

-- delete_entries
-- Remove the entries from a prefix to the end of its range.
DELETE FROM botwire.entries WHERE namespace = $1 AND key >= $2 AND key < $3;

-- find_expired
-- Some expired entries and their bytes.
SELECT key, octet_length(key) + coalesce(octet_length(text), octet_length(bytes))
FROM botwire.entries
WHERE namespace = $1 AND expires <= $2
ORDER BY expires
LIMIT nullif($3::bigint, -1);

-- first_expiry
-- When the next entry of a namespace expires.
SELECT min(expires) FROM botwire.entries WHERE namespace = $1 AND expires IS NOT NULL;

-- fetch_sessions
-- What a transaction must know of the sessions in a JSON list.
SELECT name, id, last_seq, bytes
FROM botwire.sessions
WHERE namespace = $1 AND name = ANY (ARRAY(SELECT json_array_elements_text($2::json)));

-- put_sessions
-- Set the sessions in a JSON list, whether they are there or not.
INSERT INTO botwire.sessions (namespace, name, id, last_seq, bytes, created, updated)
SELECT $1, name, id, last_seq, bytes, updated, updated
FROM json_to_recordset($2::json) AS given (name text, id bigint, last_seq bigint, bytes bigint, updated bigint)
ON CONFLICT (namespace, name) DO UPDATE SET
    last_seq = excluded.last_seq, bytes = excluded.bytes, updated = excluded.updated;

-- delete_session
-- Remove a session.
DELETE FROM botwire.sessions WHERE namespace = $1 AND id = $2;

-- fetch_messages
-- Which of the messages in a JSON list of sessions and ids there are, and where.
SELECT held.session, held.id, held.place & 4294967295
FROM json_to_recordset($2::json) AS wanted (name text, id text)
CROSS JOIN LATERAL (
    SELECT id FROM botwire.sessions WHERE namespace = $1 AND name = wanted.name OFFSET 0
) AS begun
CROSS JOIN LATERAL (
    SELECT session, id, place FROM botwire.messages WHERE namespace = $1 AND session = begun.id AND id = wanted.id OFFSET 0
) AS held;

-- add_messages
-- Add the messages in a JSON list.
INSERT INTO botwire.messages (namespace, place, session, id, created, data)
SELECT $1, place, place >> 32, id, created, data
FROM json_to_recordset($2::json) AS given (place bigint, id text, created bigint, data text);

-- delete_messages
-- Remove the messages after a place and up to another.
DELETE FROM botwire.messages WHERE namespace = $1 AND place > $2 AND place <= $3;

-- fetch_answers
-- What was answered under the idempotency keys in a JSON list.
SELECT idempotency_key, results
FROM botwire.answers
WHERE namespace = $1 AND idempotency_key = ANY (ARRAY(SELECT json_array_elements_text($2::json)));

-- add_answers
-- Remember the answers in a JSON list.
INSERT INTO botwire.answers (namespace, idempotency_key, created, results)
SELECT $1, idempotency_key, created, results
FROM json_to_recordset($2::json) AS given (idempotency_key text, created bigint, results text);

-- purge_answers
-- Drop a few of the oldest answers of a namespace, as far as they are old enough.
DELETE FROM botwire.answers
WHERE namespace = $1 AND idempotency_key = ANY (ARRAY(
    SELECT idempotency_key FROM botwire.answers WHERE namespace = $1 AND created < $2 ORDER BY created LIMIT $3
));

-- peek_session
-- What a search must know of a session.
SELECT id, last_seq, bytes FROM botwire.sessions WHERE namespace = $1 AND name = $2;

-- add_texts
-- Index the texts in a JSON list by their terms, with spaces between.
INSERT INTO botwire.texts (namespace, id, key, version, terms)
SELECT $1, id, key, version, ARRAY(
    SELECT DISTINCT hashtextextended($1 || '_' || term, 0) FROM unnest(string_to_array(terms, ' ')) AS term
)
FROM json_to_recordset($2::json) AS given (id bigint, key text, version bigint, terms text)
ON CONFLICT (namespace, id) DO UPDATE SET version = excluded.version, terms = excluded.terms;

-- drop_texts
-- Take the texts of the ids in a JSON list out of the index.
DELETE FROM botwire.texts
WHERE namespace = $1 AND id = ANY (ARRAY(SELECT json_array_elements_text($2::json)::bigint));

-- delete_texts
-- Take the texts of a range of ids out of the index; how many they were.
WITH gone AS (DELETE FROM botwire.texts WHERE namespace = $1 AND id BETWEEN $2 AND $3 RETURNING id)
SELECT count(*) FROM gone;

-- delete_some_texts
-- Take some of the texts of a range of ids out of the index; how many they were.
WITH gone AS (
    DELETE FROM botwire.texts
    WHERE namespace = $1 AND id = ANY (ARRAY(
        SELECT id FROM botwire.texts WHERE namespace = $1 AND id BETWEEN $2 AND $3 LIMIT $4
    ))
    RETURNING id
)
SELECT count(*) FROM gone;

-- delete_texts_of_entries
-- Take the entries from a prefix to the end of its range out of the index; how many they were.
WITH gone AS (DELETE FROM botwire.texts WHERE namespace = $1 AND key >= $2 AND key < $3 RETURNING id)
SELECT count(*) FROM gone;

-- delete_some_texts_of_entries
-- Take some of the entries of a namespace out of the index; how many they were.
WITH gone AS (
    DELETE FROM botwire.texts
    WHERE namespace = $1 AND id = ANY (ARRAY(
        SELECT id FROM botwire.texts WHERE namespace = $1 AND id < 4294967296 LIMIT $2
    ))
    RETURNING id
)
SELECT count(*) FROM gone;

-- entries_to_index
-- For the keys in a JSON list, what is in the index and what is stored.
SELECT wanted.key, indexed.id, indexed.version, held.version, held.text, held.bytes
FROM json_array_elements_text($2::json) AS wanted (key)
LEFT JOIN LATERAL (
    SELECT id, version FROM botwire.texts WHERE namespace = $1 AND key = wanted.key OFFSET 0
) AS indexed ON true
LEFT JOIN LATERAL (
    SELECT version, text, bytes FROM botwire.entries WHERE namespace = $1 AND key = wanted.key OFFSET 0
) AS held ON true;

-- messages_to_index
-- Those of the messages at the places in a JSON list that are not in the index, in the order of their places.
SELECT place, data
FROM botwire.messages
WHERE namespace = $1 AND place = ANY (ARRAY(SELECT json_array_elements_text($2::json)::bigint))
    AND NOT EXISTS (SELECT FROM botwire.texts WHERE texts.namespace = $1 AND texts.id = place OFFSET 0)
ORDER BY place;

-- get_behind
-- Where the index of a namespace has to go on.
SELECT name, behind FROM botwire.namespaces WHERE name = $1;

-- keys_to_index
-- Keys of a namespace after one.
SELECT key FROM botwire.entries WHERE namespace = $1 AND key > $2 ORDER BY key LIMIT $3;

-- sessions_from
-- The sessions of a namespace from one on, and how many messages they have.
SELECT id, last_seq FROM botwire.sessions WHERE namespace = $1 AND id >= $2 ORDER BY id LIMIT $3;

-- count_texts
-- How many texts of a namespace hold each of the terms in a JSON list, those that none holds left out. More than 10,000 are
-- not counted, but told from the share that they have of the newest 1,000.
SELECT place - 1, CASE WHEN held.texts <= 10000 THEN held.texts ELSE greatest(held.texts, (
    SELECT count(*) FILTER (WHERE held.term = ANY (newest.terms)) * (SELECT texts FROM botwire.namespaces WHERE name = $1)
        / greatest(count(*), 1)
    FROM (SELECT terms FROM botwire.texts WHERE namespace = $1 ORDER BY id DESC LIMIT 1000) AS newest
)) END
FROM json_array_elements_text($2::json) WITH ORDINALITY AS wanted (term, place)
CROSS JOIN LATERAL (
    SELECT hashtextextended($1 || '_' || wanted.term, 0) AS term, count(*) AS texts
    FROM (
        SELECT FROM botwire.texts
        WHERE namespace = $1 AND terms @> ARRAY[hashtextextended($1 || '_' || wanted.term, 0)]
        LIMIT 10001
    ) AS few
) AS held
WHERE held.texts > 0;

-- texts_with_each
-- The ids in a range of the texts of a namespace that hold each of the terms in a JSON list.
SELECT place - 1, held.id
FROM json_array_elements_text($2::json) WITH ORDINALITY AS wanted (term, place)
CROSS JOIN LATERAL (
    SELECT id
    FROM botwire.texts
    WHERE namespace = $1 AND terms @> ARRAY[hashtextextended($1 || '_' || wanted.term, 0)] AND id BETWEEN $3 AND $4
    OFFSET 0
) AS held;

-- newest_texts_with
-- The ids in a range of the texts of a namespace that hold a term, the last first, of the newest 20,000.
SELECT id
FROM (
    SELECT id, terms FROM botwire.texts WHERE namespace = $1 AND id BETWEEN $3 AND $4 ORDER BY id DESC LIMIT 20000
) AS newest
WHERE hashtextextended($1 || '_' || $2, 0) = ANY (terms)
ORDER BY id DESC
LIMIT $5;

-- newest_texts_with_both
-- The ids in a range of the texts of a namespace that hold a term and one of those in a JSON list, the last first.
SELECT id
FROM botwire.texts
WHERE namespace = $1 AND terms @> ARRAY[hashtextextended($1 || '_' || $2, 0)]
    AND terms && ARRAY(SELECT hashtextextended($1 || '_' || term, 0) FROM json_array_elements_text($3::json) AS term)
    AND id BETWEEN $4 AND $5
ORDER BY id DESC
LIMIT $6;

-- messages_at
-- The messages of a namespace at the places in a JSON list.
SELECT place, sessions.name, place & 4294967295, messages.id, data, messages.created
FROM botwire.messages
JOIN botwire.sessions ON sessions.namespace = $1 AND sessions.id = messages.session
WHERE messages.namespace = $1 AND place = ANY (ARRAY(SELECT json_array_elements_text($2::json)::bigint));

-- entries_at
-- The live entries of a namespace whose texts have the ids in a JSON list, as far as these are of their last version.
SELECT texts.id, entries.key, text, entries.version, created, updated, expires
FROM botwire.texts
JOIN botwire.entries
    ON entries.namespace = $1 AND entries.key = texts.key AND entries.version = texts.version
WHERE texts.namespace = $1 AND texts.id = ANY (ARRAY(SELECT json_array_elements_text($2::json)::bigint))
    AND (expires IS NULL OR expires > $3);

-- entries_named
-- The live entries of a namespace under the keys in a JSON list.
SELECT key, text, bytes, version, created, updated, expires
FROM botwire.entries
WHERE namespace = $1 AND key = ANY (ARRAY(SELECT json_array_elements_text($2::json))) AND (expires IS NULL OR expires > $3);

-- some_texts_of_entries
-- The ids of the texts of some entries from a prefix to the end of its range.
SELECT id FROM botwire.texts WHERE namespace = $1 AND key >= $2 AND key < $3 LIMIT $4;

-- entries_without_vector
-- Live entries after a key that have no vector of a model.
SELECT entries.key, entries.version, text
FROM botwire.entries
LEFT JOIN (
    SELECT key, version FROM botwire.entry_vectors WHERE namespace = $1 AND key > $3 AND model = $2 ORDER BY key OFFSET 0
) AS held ON held.key = entries.key AND held.version = entries.version
WHERE namespace = $1 AND entries.key > $3 AND (expires IS NULL OR expires > $4) AND text IS NOT NULL AND held.key IS NULL
ORDER BY entries.key
LIMIT $5;

-- messages_without_vector
-- Messages after a place that have no vector of a model; beginning with a session.
SELECT
    messages.place, (SELECT name FROM botwire.sessions WHERE namespace = $1 AND sessions.id = session), id, created, data
FROM botwire.messages
LEFT JOIN (
    SELECT place, version
    FROM botwire.message_vectors
    WHERE namespace = $1 AND place > greatest($4, $3::bigint << 32) AND model = $2
    ORDER BY place
    OFFSET 0
) AS held ON held.place = messages.place AND held.version = messages.created
WHERE namespace = $1 AND messages.place > greatest($4, $3::bigint << 32) AND held.place IS NULL
ORDER BY messages.place
LIMIT $5;

-- keep_entry_vectors
-- Keep the vectors in a JSON list of key, version and vector, of a model, of those entries that are at that version.
WITH fit AS MATERIALIZED (
    SELECT held.key, held.version, (wanted.item ->> 2)::real[] AS vector
    FROM json_array_elements($2::json) AS wanted (item)
    CROSS JOIN LATERAL (
        SELECT key, version
        FROM botwire.entries
        WHERE namespace = $1 AND key = wanted.item ->> 0 AND version = (wanted.item ->> 1)::bigint
        OFFSET 0
    ) AS held
), before AS MATERIALIZED (
    SELECT coalesce(sum(bytes), 0) AS bytes
    FROM botwire.entry_vectors
    WHERE namespace = $1 AND key = ANY (ARRAY(SELECT key FROM fit))
), kept AS (
    INSERT INTO botwire.entry_vectors (namespace, key, version, model, bytes, vector)
    SELECT $1, key, version, $3, 4 * cardinality(vector), vector FROM fit
    ON CONFLICT (namespace, key) DO UPDATE SET
        version = excluded.version, model = excluded.model, bytes = excluded.bytes, vector = excluded.vector
    RETURNING bytes
), counted AS (
    UPDATE botwire.namespaces
    SET vectors = vectors + (SELECT coalesce(sum(bytes), 0) FROM kept) - (SELECT bytes FROM before)
    WHERE name = $1
)
SELECT count(*) FROM kept;

-- keep_message_vectors
-- Keep the vectors in a JSON list of session, id, time and vector, of a model, of those messages that are there since that time.
WITH fit AS MATERIALIZED (
    SELECT held.place, held.created, (wanted.item ->> 3)::real[] AS vector
    FROM json_array_elements($2::json) AS wanted (item)
    CROSS JOIN LATERAL (
        SELECT id FROM botwire.sessions WHERE namespace = $1 AND name = wanted.item ->> 0 OFFSET 0
    ) AS begun
    CROSS JOIN LATERAL (
        SELECT place, created
        FROM botwire.messages
        WHERE namespace = $1 AND session = begun.id AND id = wanted.item ->> 1 AND created = (wanted.item ->> 2)::bigint
        OFFSET 0
    ) AS held
), before AS MATERIALIZED (
    SELECT coalesce(sum(bytes), 0) AS bytes
    FROM botwire.message_vectors
    WHERE namespace = $1 AND place = ANY (ARRAY(SELECT place FROM fit))
), kept AS (
    INSERT INTO botwire.message_vectors (namespace, place, version, model, bytes, vector)
    SELECT $1, place, created, $3, 4 * cardinality(vector), vector FROM fit
    ON CONFLICT (namespace, place) DO UPDATE SET
        version = excluded.version, model = excluded.model, bytes = excluded.bytes, vector = excluded.vector
    RETURNING bytes
), counted AS (
    UPDATE botwire.namespaces
    SET vectors = vectors + (SELECT coalesce(sum(bytes), 0) FROM kept) - (SELECT bytes FROM before)
    WHERE name = $1
)
SELECT count(*) FROM kept;

-- drop_vectors
-- Remove the vectors of the entries in a JSON list, within removing_vectors.sql.
DELETE FROM botwire.entry_vectors
WHERE namespace = $1 AND key = ANY (ARRAY(SELECT json_array_elements_text($2::json)))
RETURNING bytes;

-- drop_vectors_of_entries
-- Remove the vectors of the entries from a prefix to the end of its range, within removing_vectors.sql.
DELETE FROM botwire.entry_vectors
WHERE namespace = $1 AND key >= $2 AND key < $3
RETURNING bytes;

-- drop_vectors_of_messages
-- Remove the vectors of the messages after a place and up to another, within removing_vectors.sql.
DELETE FROM botwire.message_vectors
WHERE namespace = $1 AND place > $2 AND place <= $3
RETURNING bytes;

-- delete_some_entry_vectors
-- Remove some of the vectors of the entries of a namespace, within removing_vectors.sql.
DELETE FROM botwire.entry_vectors
WHERE namespace = $1 AND key = ANY (ARRAY(SELECT key FROM botwire.entry_vectors WHERE namespace = $1 LIMIT $2))
RETURNING bytes;

-- delete_some_message_vectors
-- Remove some of the vectors between two places, within removing_vectors.sql.
DELETE FROM botwire.message_vectors
WHERE namespace = $1 AND place = ANY (ARRAY(
    SELECT place FROM botwire.message_vectors WHERE namespace = $1 AND place BETWEEN $2 AND $3 LIMIT $4
))
RETURNING bytes;

-- nearest_messages
-- The messages of some sessions of a namespace whose vectors of a model are nearest to one.
SELECT near.place, distance
FROM (
    SELECT place, version, botwire.distance(vector, $5) AS distance
    FROM botwire.message_vectors
    WHERE namespace = $1 AND place > $2::bigint << 32 AND place <= ($3::bigint << 32) + 4294967295 AND model = $4
    ORDER BY distance
    LIMIT $6
) AS near
CROSS JOIN LATERAL (
    SELECT FROM botwire.messages WHERE namespace = $1 AND messages.place = near.place AND created = near.version OFFSET 0
) AS held
ORDER BY distance;

-- nearest_entries
-- The live entries, from a prefix to the end of its range, whose vectors of a model are nearest to one.
SELECT near.key, botwire.distance(vector, $5) AS distance
FROM botwire.entry_vectors AS near
CROSS JOIN LATERAL (
    SELECT FROM botwire.entries
    WHERE namespace = $1 AND entries.key = near.key AND entries.version = near.version AND (expires IS NULL OR expires > $7)
    OFFSET 0
) AS held
WHERE near.namespace = $1 AND near.key >= $2 AND near.key < $3 AND model = $4
ORDER BY distance
LIMIT $6;

-- expiring
-- The names of namespaces in which something expires by a time, after a name.
SELECT name FROM botwire.namespaces WHERE expires <= $1 AND name > $2 ORDER BY name LIMIT $3;

-- redate_answers
-- Let no answer be from the future.
UPDATE botwire.answers SET created = $1 WHERE created > $1;
