-- get_entry
-- One live entry.
SELECT key, value, version, created, updated, expires
FROM entries
WHERE namespace = (SELECT id FROM namespaces WHERE name = ?1) AND key = ?2 AND (expires IS NULL OR expires > ?3);

-- get_entries
-- The live ones of the keys in a JSON list, in its order. CROSS: else each key would be looked for among all entries.
SELECT entries.key, entries.value, version, created, updated, expires
FROM json_each(?2) AS wanted
CROSS JOIN entries ON entries.namespace = (SELECT id FROM namespaces WHERE name = ?1) AND entries.key = wanted.value
WHERE expires IS NULL OR expires > ?3
ORDER BY wanted.key;

-- list_keys
-- Live keys from a prefix to the end of its range, after a key. One bound: of two, the index might take the wrong one.
SELECT key
FROM entries
WHERE namespace = (SELECT id FROM namespaces WHERE name = ?1) AND key >= max(?2, ?4) AND key < ?3 AND +key > ?4
    AND (expires IS NULL OR expires > ?5)
ORDER BY key
LIMIT ?6;

-- list_entries
-- Live entries from a prefix to the end of its range, after a key. One bound: of two, the index might take the wrong one.
SELECT key, value, version, created, updated, expires
FROM entries
WHERE namespace = (SELECT id FROM namespaces WHERE name = ?1) AND key >= max(?2, ?4) AND key < ?3 AND +key > ?4
    AND (expires IS NULL OR expires > ?5)
ORDER BY key
LIMIT ?6;

-- count_entries
-- How many live entries there are from a prefix to the end of its range.
SELECT count(*)
FROM entries
WHERE namespace = (SELECT id FROM namespaces WHERE name = ?1) AND key >= ?2 AND key < ?3
    AND (expires IS NULL OR expires > ?4);

-- find_session
-- A session by its name.
SELECT sessions.id, last_seq
FROM sessions
WHERE namespace = (SELECT id FROM namespaces WHERE name = ?1) AND name = ?2;

-- messages_between
-- Messages in order, after a place and up to another.
SELECT place & 0xFFFFFFFF, id, data, created
FROM messages
WHERE place > ?1 AND place <= ?2
ORDER BY place
LIMIT ?3;

-- list_sessions
-- Sessions before a place, the newest first.
SELECT name, id, last_seq, created, updated
FROM sessions
WHERE namespace = (SELECT id FROM namespaces WHERE name = ?1) AND id < ?2
ORDER BY id DESC
LIMIT ?3;

-- list_namespaces
-- The names of namespaces after a name.
SELECT name FROM namespaces WHERE name > ?1 ORDER BY name LIMIT ?2;

-- get_version
-- The number of the last change of a namespace.
SELECT version FROM namespaces WHERE name = ?1;

-- entry_version
-- The version of a live entry.
SELECT version
FROM entries
WHERE namespace = (SELECT id FROM namespaces WHERE name = ?1) AND key = ?2 AND (expires IS NULL OR expires > ?3);

-- get_progress
-- The number of the last change of a namespace, and when its next entry expires.
SELECT version, expires FROM namespaces WHERE name = ?1;

-- get_journal
-- The newest lines of a namespace's journal.
SELECT id, version, recent FROM namespaces WHERE name = ?1;

-- journal_blocks
-- Blocks of a journal with lines after a version.
SELECT since, records FROM changes WHERE namespace = ?1 AND version > ?2 ORDER BY version LIMIT ?3;

-- add_journal_block
-- Add a block to a journal, if it is not there.
INSERT INTO changes (namespace, version, since, records, number)
VALUES (
    ?1, ?2, ?3, ?4,
    coalesce((SELECT number FROM changes WHERE namespace = ?1 ORDER BY version DESC LIMIT 1), 0) + 1
)
ON CONFLICT DO NOTHING
RETURNING number;

-- oldest_journal_block
-- The oldest block of a journal.
SELECT version, number FROM changes WHERE namespace = ?1 ORDER BY version LIMIT 1;

-- drop_journal_blocks
-- Drop the blocks of a journal up to a version.
DELETE FROM changes WHERE namespace = ?1 AND version <= ?2;

-- session_name
-- The name of a session.
SELECT name FROM sessions WHERE id = ?1;

-- get_account
-- A namespace's plan and account.
SELECT id, plan, day, writes, bytes, version, expires, recent, pending, behind, texts, words, vectors
FROM namespaces
WHERE name = ?1;

-- new_account
-- Begin a namespace, which has no index yet.
INSERT INTO namespaces (name, day, behind) VALUES (?1, ?2, 'entries ') RETURNING id;

-- set_account
-- Write the account of a namespace back.
UPDATE namespaces
SET
    day = ?2, writes = ?3, bytes = ?4, version = ?5, expires = ?6, recent = ?7, pending = ?8, behind = ?9, texts = ?10,
    words = ?11
WHERE id = ?1;

-- set_plan
-- Set the plan of a namespace.
UPDATE namespaces SET plan = ?2 WHERE id = ?1;

-- peek_entry
-- What a write must know of an entry before it replaces it, expired or not.
SELECT version, created, expires, octet_length(value) FROM entries WHERE namespace = ?1 AND key = ?2;

-- peek_value
-- The value of an entry, expired or not.
SELECT value FROM entries WHERE namespace = ?1 AND key = ?2;

-- put_entry
-- Set an entry, whether it is there or not.
INSERT INTO entries (namespace, key, version, created, updated, expires, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (namespace, key) DO UPDATE SET
    version = excluded.version, created = excluded.created, updated = excluded.updated, expires = excluded.expires,
    value = excluded.value;

-- delete_entry
-- Remove an entry.
DELETE FROM entries WHERE namespace = ?1 AND key = ?2;

-- measure_entries
-- How many live entries there are from a prefix to the end of its range, and the bytes of all of them.
SELECT coalesce(sum(expires IS NULL OR expires > ?4), 0), coalesce(sum(octet_length(key) + octet_length(value)), 0)
FROM entries
WHERE namespace = ?1 AND key >= ?2 AND key < ?3;

-- delete_entries
-- Remove the entries from a prefix to the end of its range.
DELETE FROM entries WHERE namespace = ?1 AND key >= ?2 AND key < ?3;

-- find_expired
-- Some expired entries and their bytes.
SELECT key, octet_length(key) + octet_length(value)
FROM entries
WHERE namespace = ?1 AND expires <= ?2
ORDER BY expires
LIMIT ?3;

-- first_expiry
-- When the next entry of a namespace expires.
SELECT min(expires) FROM entries WHERE namespace = ?1 AND expires IS NOT NULL;

-- peek_session
-- What a write must know of its session.
SELECT id, last_seq, bytes FROM sessions WHERE namespace = ?1 AND name = ?2;

-- new_session
-- Begin a session.
INSERT INTO sessions (namespace, name, created, updated) VALUES (?1, ?2, ?3, ?3) RETURNING id;

-- set_session
-- Set last seq, bytes and time of a session.
UPDATE sessions SET last_seq = ?2, bytes = ?3, updated = ?4 WHERE id = ?1;

-- delete_session
-- Remove a session.
DELETE FROM sessions WHERE id = ?1;

-- add_message
-- Add a message, unless the session holds its id.
INSERT INTO messages (place, session, id, created, data) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (session, id) DO NOTHING;

-- seq_of_message
-- Where a message is.
SELECT place & 0xFFFFFFFF FROM messages WHERE session = ?1 AND id = ?2;

-- delete_messages
-- Remove the messages after a place and up to another.
DELETE FROM messages WHERE place > ?1 AND place <= ?2;

-- find_response
-- What was answered under an idempotency key.
SELECT results FROM answers WHERE namespace = ?1 AND idempotency_key = ?2;

-- save_response
-- Remember an answer.
INSERT INTO answers (namespace, idempotency_key, created, results) VALUES (?1, ?2, ?3, ?4);

-- purge_responses
-- Drop a few of the oldest answers, as far as they are old enough.
DELETE FROM answers
WHERE created < ?1 AND id IN (
    SELECT id FROM answers ORDER BY id
    -- Nearly always there is none to drop.
    LIMIT iif((SELECT created FROM answers ORDER BY id LIMIT 1) < ?1, ?2, 0)
);

-- get_clock
-- The latest time on disk, and how often the file has gone back in time.
SELECT seen, turns FROM clock WHERE id = 1;

-- save_clock
-- Save the latest time.
UPDATE clock SET seen = max(seen, ?1) WHERE id = 1 RETURNING turns;

-- set_clock
-- Set an earlier time.
UPDATE clock SET seen = ?1, turns = ?2 WHERE id = 1;

-- release_expired
-- Give all namespaces the bytes back of what has expired.
UPDATE namespaces
SET
    version = version + 1,
    bytes = bytes - (
        SELECT coalesce(sum(octet_length(key) + octet_length(value)), 0)
        FROM entries
        WHERE entries.namespace = namespaces.id AND entries.expires <= ?1
    )
WHERE expires <= ?1;

-- delete_expired
-- Remove what has expired in all namespaces.
DELETE FROM entries WHERE namespace IN (SELECT id FROM namespaces WHERE expires <= ?1) AND expires <= ?1;

-- expect_expiries
-- Note when the next entry expires, in all namespaces where one had.
UPDATE namespaces
SET expires = (SELECT min(entries.expires) FROM entries WHERE entries.namespace = namespaces.id AND entries.expires > ?1)
WHERE expires <= ?1;

-- redate_responses
-- Let no answer be from the future.
UPDATE answers SET created = ?1 WHERE created > ?1;
