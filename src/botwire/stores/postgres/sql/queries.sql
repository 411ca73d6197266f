-- get_entry
-- One live entry.
SELECT key, text, bytes, version, created, updated, expires
FROM botwire.entries
WHERE namespace = $1 AND key = $2 AND (expires IS NULL OR expires > $3);

-- get_entries
-- The live entries of a JSON list of keys, in the order of the list, until they fill some bytes.
SELECT key, text, bytes, version, created, updated, expires
FROM (
    SELECT
        held.*, place,
        sum(100 + coalesce(octet_length(text) / 2, octet_length(bytes)))
            OVER (ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM json_array_elements_text($2::json) WITH ORDINALITY AS wanted (name, place)
    CROSS JOIN LATERAL (
        SELECT key, text, bytes, version, created, updated, expires
        FROM botwire.entries
        WHERE namespace = $1 AND key = wanted.name AND (expires IS NULL OR expires > $3)
        OFFSET 0
    ) AS held
) AS page
WHERE coalesce(before, 0) < $4
ORDER BY place;

-- list_keys
-- Live keys after a key, in the range of a prefix, until they fill some bytes.
SELECT key
FROM (
    SELECT
        key,
        sum(100 + octet_length(key) / 2) OVER (ORDER BY key ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM botwire.entries
    WHERE namespace = $1 AND key >= $2 AND key < $3 AND key > $4 AND (expires IS NULL OR expires > $5)
    ORDER BY key
    LIMIT nullif($6::bigint, -1)
) AS page
WHERE coalesce(before, 0) < $7
ORDER BY key;

-- list_entries
-- Live entries after a key, in the range of a prefix, until they fill some bytes. No value is read to know its length.
SELECT key, text, bytes, version, created, updated, expires
FROM (
    SELECT
        key, text, bytes, version, created, updated, expires,
        sum(100 + coalesce(octet_length(text) / 2, octet_length(bytes)))
            OVER (ORDER BY key ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM botwire.entries
    WHERE namespace = $1 AND key >= $2 AND key < $3 AND key > $4 AND (expires IS NULL OR expires > $5)
    ORDER BY key
    LIMIT nullif($6::bigint, -1)
) AS page
WHERE coalesce(before, 0) < $7
ORDER BY key;

-- count_entries
-- The number of live entries in the range of a prefix.
SELECT count(*)
FROM botwire.entries
WHERE namespace = $1 AND key >= $2 AND key < $3 AND (expires IS NULL OR expires > $4);

-- messages_between
-- Messages in order, after one row id and up to another, until they fill some bytes.
SELECT place & 4294967295, id, data, created, edited, redacted
FROM (
    SELECT
        place, id, data, created, edited, redacted,
        sum(100 + octet_length(data) / 2) OVER (ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM botwire.messages
    WHERE namespace = $1 AND place > $2 AND place <= $3
    ORDER BY place
    LIMIT nullif($4::bigint, -1)
) AS page
WHERE coalesce(before, 0) < $5
ORDER BY place;

-- list_namespaces
-- The names of namespaces after a name.
SELECT name FROM botwire.namespaces WHERE name > $1 AND version > destroyed ORDER BY name LIMIT nullif($2::bigint, -1);

-- get_version
-- The version of a namespace.
SELECT version FROM botwire.namespaces WHERE name = $1;

-- entry_version
-- The version of a live entry.
SELECT version FROM botwire.entries WHERE namespace = $1 AND key = $2 AND (expires IS NULL OR expires > $3);

-- rely_on_guards
-- Block changes to the access rules until this transaction ends.
SELECT pg_advisory_xact_lock_shared(1112495191, 1);

-- change_guarded
-- Wait until no transaction relies on the access rules, and block new ones that do.
SELECT pg_advisory_xact_lock(1112495191, 1);

-- get_progress
-- The version of a namespace, and the time at which something in it may expire next.
SELECT version, least(expires, sessions_due) FROM botwire.namespaces WHERE name = $1;

-- get_journal
-- The newest records of a namespace's journal.
SELECT name, version, recent FROM botwire.namespaces WHERE name = $1;

-- journal_blocks
-- Blocks of a journal with records after a version.
SELECT since, records FROM botwire.changes WHERE namespace = $1 AND version > $2 ORDER BY version LIMIT $3;

-- add_blocks
-- Add the missing blocks of a JSON list to a journal, and delete its oldest blocks above a maximum number.
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

-- get_state
-- The namespace state.
SELECT name, plan, day, writes, bytes, version, expires, recent, pending, behind, texts, words, vectors,
    retention, sessions_due
FROM botwire.namespaces
WHERE name = $1;

-- lock_state
-- Lock and read the namespace state. A database that was restored without pgvector has no vectors.
SELECT
    name, plan, day, writes, bytes, version, expires, recent, pending, behind, texts, words,
    CASE WHEN vectors > 0 AND to_regclass('botwire.entry_vectors') IS NOT NULL THEN vectors ELSE 0 END,
    retention, sessions_due, sessions, entry_texts
FROM botwire.namespaces
WHERE name = $1
FOR NO KEY UPDATE;

-- add_state
-- Create a namespace. Fails if another client has created it since this transaction read that it does not exist.
INSERT INTO botwire.namespaces (
    name, day, writes, bytes, version, expires, recent, pending, behind, texts, words, sessions, entry_texts,
    sessions_due
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- set_state
-- Write the namespace state.
UPDATE botwire.namespaces
SET day = $2, writes = $3, bytes = $4, version = $5, expires = $6, recent = $7, pending = $8, behind = $9, texts = $10,
    words = $11, sessions = $12, entry_texts = $13, sessions_due = $14
WHERE name = $1;

-- set_plan
-- Set the plan of a namespace.
UPDATE botwire.namespaces SET plan = $2 WHERE name = $1;

-- set_retention
-- Write the rules for how long sessions are kept.
UPDATE botwire.namespaces SET retention = $2 WHERE name = $1;

-- fetch_entries
-- The metadata of the entries in a JSON list that a write needs before it replaces them, expired or not.
SELECT key, version, created, expires, coalesce(octet_length(text), octet_length(bytes))
FROM botwire.entries
WHERE namespace = $1 AND key = ANY (ARRAY(SELECT json_array_elements_text($2::json)));

-- fetch_values
-- The values of the entries in a JSON list, expired or not, if they may be numbers: not longer than MAX_NUMBER_BYTES.
SELECT key, text, bytes
FROM botwire.entries
WHERE namespace = $1 AND key = ANY (ARRAY(SELECT json_array_elements_text($2::json)))
    AND coalesce(octet_length(text), octet_length(bytes)) <= 4400;

-- put_entries
-- Insert or replace the entries in a JSON list.
INSERT INTO botwire.entries (namespace, key, version, created, updated, expires, text, bytes)
SELECT $1, key, version, created, updated, expires, text, decode(bytes, 'base64')
FROM json_to_recordset($2::json)
    AS given (key text, version bigint, created bigint, updated bigint, expires bigint, text text, bytes text)
ON CONFLICT (namespace, key) DO UPDATE SET
    version = excluded.version, created = excluded.created, updated = excluded.updated, expires = excluded.expires,
    text = excluded.text, bytes = excluded.bytes;

-- drop_entries
-- Delete the entries in a JSON list.
DELETE FROM botwire.entries
WHERE namespace = $1 AND key = ANY (ARRAY(SELECT json_array_elements_text($2::json)));

-- measure_entries
-- The number of entries in the range of a prefix, of live ones, and the bytes of all.
SELECT
    count(*),
    count(*) FILTER (WHERE expires IS NULL OR expires > $4),
    coalesce(sum(octet_length(key) + coalesce(octet_length(text), octet_length(bytes))), 0)::bigint
FROM botwire.entries
WHERE namespace = $1 AND key >= $2 AND key < $3;

-- has_more_entries
-- A row if more entries than this are in the range of a prefix.
SELECT 1 FROM botwire.entries WHERE namespace = $1 AND key >= $2 AND key < $3 LIMIT 1 OFFSET $4;

-- first_entries
-- The first keys in the range of a prefix, their bytes with their values, and whether they are live.
SELECT key, octet_length(key) + coalesce(octet_length(text), octet_length(bytes)), expires IS NULL OR expires > $4
FROM botwire.entries
WHERE namespace = $1 AND key >= $2 AND key < $3
ORDER BY key
LIMIT $5;

-- delete_entries
-- Delete the entries in the range of a prefix.
DELETE FROM botwire.entries WHERE namespace = $1 AND key >= $2 AND key < $3;

-- find_expired
-- Some expired entries and their bytes.
SELECT key, octet_length(key) + coalesce(octet_length(text), octet_length(bytes))
FROM botwire.entries
WHERE namespace = $1 AND expires <= $2
ORDER BY expires
LIMIT nullif($3::bigint, -1);

-- first_expiry
-- The time of the next expiry in a namespace.
SELECT min(expires) FROM botwire.entries WHERE namespace = $1 AND expires IS NOT NULL;

-- fetch_messages
-- The sequence numbers of the messages that exist, of a JSON list of sessions and ids.
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
INSERT INTO botwire.messages (namespace, place, session, id, created, data, edited, redacted)
SELECT $1, place, place >> 32, id, created, data, edited, redacted
FROM json_to_recordset($2::json)
    AS given (place bigint, id text, created bigint, data text, edited bigint, redacted text);

-- copy_messages
-- Copy the messages after one row id and up to another to a session, at a distance of row ids.
INSERT INTO botwire.messages (namespace, place, session, id, created, data, edited, redacted)
SELECT $1, place + $4, $5, id, created, data, edited, redacted
FROM botwire.messages
WHERE namespace = $1 AND place > $2 AND place <= $3;

-- peek_message
-- The id of a message, when it was created and edited, and the bytes of its data.
SELECT id, created, edited, octet_length(data) FROM botwire.messages WHERE namespace = $1 AND place = $2;

-- edit_message
-- Replace the data of a message.
UPDATE botwire.messages SET data = $3, edited = $4, redacted = $5 WHERE namespace = $1 AND place = $2;

-- newest_messages
-- Messages after one row id and up to another, the newest first, until they fill some bytes.
SELECT place & 4294967295, id, data, created, edited, redacted
FROM (
    SELECT
        place, id, data, created, edited, redacted,
        sum(100 + octet_length(data) / 2)
            OVER (ORDER BY place DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM botwire.messages
    WHERE namespace = $1 AND place > $2 AND place <= $3
    ORDER BY place DESC
) AS page
WHERE coalesce(before, 0) < $4
ORDER BY place DESC;

-- measure_messages
-- The number and the bytes of the messages after one row id and up to another.
SELECT count(*), coalesce(sum(octet_length(id) + octet_length(data)), 0)::bigint
FROM botwire.messages
WHERE namespace = $1 AND place > $2 AND place <= $3;

-- last_messages
-- The newest messages after one row id and up to another, and their bytes.
SELECT place & 4294967295, octet_length(id) + octet_length(data)
FROM botwire.messages
WHERE namespace = $1 AND place > $2 AND place <= $3
ORDER BY place DESC
LIMIT $4;

-- delete_messages
-- Delete the messages after one row id and up to another.
DELETE FROM botwire.messages WHERE namespace = $1 AND place > $2 AND place <= $3;

-- fetch_responses
-- The stored responses for the idempotency keys in a JSON list.
SELECT idempotency_key, results
FROM botwire.answers
WHERE namespace = $1 AND idempotency_key = ANY (ARRAY(SELECT json_array_elements_text($2::json)));

-- add_responses
-- Save the responses in a JSON list.
INSERT INTO botwire.answers (namespace, idempotency_key, created, results)
SELECT $1, idempotency_key, created, results
FROM json_to_recordset($2::json) AS given (idempotency_key text, created bigint, results text);

-- purge_responses
-- Delete some of the oldest responses of a namespace, if they are older than a time.
DELETE FROM botwire.answers
WHERE namespace = $1 AND idempotency_key = ANY (ARRAY(
    SELECT idempotency_key FROM botwire.answers WHERE namespace = $1 AND created < $2 ORDER BY created LIMIT $3
));

-- sweep_responses
-- Delete some responses and popped messages of any namespace that are older than a time, and return how many.
WITH old_responses AS (
    DELETE FROM botwire.answers
    WHERE (namespace, idempotency_key) IN (
        SELECT namespace, idempotency_key FROM botwire.answers WHERE created < $1 LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    RETURNING 1
), old_popped AS (
    DELETE FROM botwire.popped
    WHERE (namespace, upto) IN (
        SELECT namespace, upto FROM botwire.popped WHERE created < $1 LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    RETURNING 1
)
SELECT (SELECT count(*) FROM old_responses) + (SELECT count(*) FROM old_popped);

-- last_popped
-- The sum of the bytes of all popped messages that a namespace has kept.
SELECT max(upto) FROM botwire.popped WHERE namespace = $1;

-- find_popped
-- The messages that a pop returned.
SELECT messages FROM botwire.popped WHERE namespace = $1 AND upto = $2 AND version = $3;

-- keep_popped
-- Keep the messages that a pop returned.
INSERT INTO botwire.popped (namespace, upto, version, session, created, messages) VALUES ($1, $2, $3, $4, $5, $6);

-- drop_popped
-- Delete the oldest popped messages of a namespace.
DELETE FROM botwire.popped WHERE namespace = $1 AND upto <= $2;

-- erase_popped
-- Delete the popped messages of a session.
DELETE FROM botwire.popped WHERE namespace = $1 AND session = $2;

-- forget_popped
-- Delete the popped messages of a namespace.
DELETE FROM botwire.popped WHERE namespace = $1;

-- forget_responses
-- Delete the idempotency records of a namespace.
DELETE FROM botwire.answers WHERE namespace = $1;

-- forget_changes
-- Delete the blocks of the journal of a namespace.
DELETE FROM botwire.changes WHERE namespace = $1;

-- mark_destroyed
-- Mark a namespace as destroyed at a version, without rules.
UPDATE botwire.namespaces SET destroyed = $2, retention = NULL WHERE name = $1;

-- purge_popped
-- Delete some of the oldest popped messages of a namespace, if they are older than a time.
DELETE FROM botwire.popped
WHERE namespace = $1 AND created < $2 AND upto = ANY (ARRAY(
    SELECT upto FROM botwire.popped WHERE namespace = $1 ORDER BY upto LIMIT $3
));

-- expiring
-- The names of namespaces after a name in which an entry expires before a time.
SELECT name FROM botwire.namespaces WHERE expires <= $1 AND name > $2 ORDER BY name LIMIT $3;

-- redate_responses
-- Set the time of responses in the future to now.
UPDATE botwire.answers SET created = $1 WHERE created > $1;

-- redate_popped
-- Set the time of popped messages in the future to now.
UPDATE botwire.popped SET created = $1 WHERE created > $1;

-- held_bytes
-- The bytes of the entries, messages and details of sessions of a namespace.
SELECT (
    (
        SELECT coalesce(sum(octet_length(key) + coalesce(octet_length(text), octet_length(bytes))), 0)
        FROM botwire.entries
        WHERE namespace = $1
    )
    + (SELECT coalesce(sum(octet_length(id) + octet_length(data)), 0) FROM botwire.messages WHERE namespace = $1)
    + (
        SELECT coalesce(sum(octet_length(about) + octet_length(tags) + coalesce(octet_length(summary), 0)), 0)
        FROM botwire.details
        WHERE namespace = $1
    )
    + (
        SELECT coalesce(sum(octet_length(owner)), 0) FROM botwire.sessions WHERE namespace = $1 AND owner IS NOT NULL
    )
)::bigint;

-- held_vector_bytes
-- The bytes of the vectors of a namespace.
SELECT (
    (SELECT coalesce(sum(bytes), 0) FROM botwire.entry_vectors WHERE namespace = $1)
    + (SELECT coalesce(sum(bytes), 0) FROM botwire.message_vectors WHERE namespace = $1)
)::bigint;

-- set_vector_bytes
-- Write the bytes of the vectors of a namespace.
UPDATE botwire.namespaces SET vectors = $2 WHERE name = $1;
