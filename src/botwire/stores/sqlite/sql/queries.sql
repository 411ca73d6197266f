-- get_entry
-- One live entry.
SELECT key, value, version, created, updated, expires
FROM entries
WHERE namespace = (SELECT id FROM namespaces WHERE name = ?1) AND key = ?2 AND (expires IS NULL OR expires > ?3);

-- get_entries
-- The live entries of a JSON list of keys, in the order of the list. CROSS JOIN makes SQLite use the index for each key, and no sorter reads all values.
SELECT entries.key, entries.value, version, created, updated, expires
FROM json_each(?2) AS wanted
CROSS JOIN entries ON entries.namespace = (SELECT id FROM namespaces WHERE name = ?1) AND entries.key = wanted.value
WHERE expires IS NULL OR expires > ?3
ORDER BY wanted.rowid;

-- list_keys
-- Live keys after a key, in the range of a prefix. The index gets one lower bound, because of two SQLite may choose the worse one.
SELECT key
FROM entries
WHERE namespace = (SELECT id FROM namespaces WHERE name = ?1) AND key >= max(?2, ?4) AND key < ?3 AND +key > ?4
    AND (expires IS NULL OR expires > ?5)
ORDER BY key
LIMIT ?6;

-- list_entries
-- Live entries after a key, in the range of a prefix. The index gets one lower bound, because of two SQLite may choose the worse one.
SELECT key, value, version, created, updated, expires
FROM entries
WHERE namespace = (SELECT id FROM namespaces WHERE name = ?1) AND key >= max(?2, ?4) AND key < ?3 AND +key > ?4
    AND (expires IS NULL OR expires > ?5)
ORDER BY key
LIMIT ?6;

-- count_entries
-- The number of live entries in the range of a prefix.
SELECT count(*)
FROM entries
WHERE namespace = (SELECT id FROM namespaces WHERE name = ?1) AND key >= ?2 AND key < ?3
    AND (expires IS NULL OR expires > ?4);

-- find_session
-- A session by its name, with the rules and the plan of its namespace.
SELECT sessions.id, last_seq, sessions.version, created, updated, sessions.expires, retention, plan
FROM namespaces
CROSS JOIN sessions ON sessions.namespace = namespaces.id
WHERE namespaces.name = ?1 AND sessions.name = ?2;

-- messages_between
-- Messages in order, after one row id and up to another.
SELECT place & 0xFFFFFFFF, id, data, created, edited, redacted
FROM messages
WHERE place > ?1 AND place <= ?2
ORDER BY place
LIMIT ?3;

-- newest_messages
-- Messages after one row id and up to another, the newest first.
SELECT place & 0xFFFFFFFF, id, data, created, edited, redacted
FROM messages
WHERE place > ?1 AND place <= ?2
ORDER BY place DESC;

-- get_session
-- A session with its details.
SELECT name, sessions.id, last_seq, created, updated, sessions.version, bytes, expires, active,
    details.version, owner, tags, about, origin, origin_seq, upto
FROM sessions
LEFT JOIN details ON details.session = sessions.id
WHERE namespace = ?1 AND name = ?2;

-- sessions_at
-- The sessions with ids in a JSON list, or with names in another.
SELECT name, sessions.id, last_seq, created, updated, sessions.version, bytes, expires, active,
    details.version, owner, tags, about, origin, origin_seq, upto
FROM sessions
LEFT JOIN details ON details.session = sessions.id
WHERE sessions.id IN (
    SELECT value FROM json_each(?2)
    UNION ALL
    SELECT named.id FROM json_each(?3) AS wanted CROSS JOIN sessions AS named ON named.namespace = ?1 AND named.name = wanted.value
) AND namespace = ?1;

-- sessions_by_activity
-- Sessions before a time and an id in the index of activity, the newest first.
SELECT name, sessions.id, last_seq, created, updated, sessions.version, bytes, expires, active,
    details.version, owner, tags, about, origin, origin_seq, upto
FROM sessions INDEXED BY sessions_by_activity
LEFT JOIN details ON details.session = sessions.id
WHERE namespace = ?1 AND (active, sessions.id) < (?2, ?3)
ORDER BY active DESC, sessions.id DESC
LIMIT ?4;

-- sessions_of_owner
-- The same of an owner.
SELECT name, sessions.id, last_seq, created, updated, sessions.version, bytes, expires, active,
    details.version, owner, tags, about, origin, origin_seq, upto
FROM sessions INDEXED BY sessions_by_owner
LEFT JOIN details ON details.session = sessions.id
WHERE namespace = ?1 AND owner = ?5 AND (active, sessions.id) < (?2, ?3)
ORDER BY active DESC, sessions.id DESC
LIMIT ?4;

-- sessions_named
-- The same in a range of names.
SELECT name, sessions.id, last_seq, created, updated, sessions.version, bytes, expires, active,
    details.version, owner, tags, about, origin, origin_seq, upto
FROM sessions
LEFT JOIN details ON details.session = sessions.id
WHERE namespace = ?1 AND name >= ?5 AND name < ?6 AND (+active, sessions.id) < (?2, ?3)
ORDER BY active DESC, sessions.id DESC
LIMIT ?4;

-- sessions_by_age
-- Sessions with lower ids than a given one, the newest first.
SELECT name, sessions.id, last_seq, created, updated, sessions.version, bytes, expires, active,
    details.version, owner, tags, about, origin, origin_seq, upto
FROM sessions INDEXED BY sessions_by_age
LEFT JOIN details ON details.session = sessions.id
WHERE namespace = ?1 AND sessions.id < ?2
ORDER BY sessions.id DESC
LIMIT ?3;

-- sessions_by_age_named
-- The same in a range of names.
SELECT name, sessions.id, last_seq, created, updated, sessions.version, bytes, expires, active,
    details.version, owner, tags, about, origin, origin_seq, upto
FROM sessions
LEFT JOIN details ON details.session = sessions.id
WHERE namespace = ?1 AND name >= ?4 AND name < ?5 AND +sessions.id < ?2
ORDER BY sessions.id DESC
LIMIT ?3;

-- get_summary
-- The summary of a session.
SELECT upto, summary FROM details WHERE session = ?1 AND summary IS NOT NULL;

-- list_namespaces
-- The names of namespaces after a name.
SELECT name FROM namespaces WHERE name > ?1 AND version > destroyed ORDER BY name LIMIT ?2;

-- get_version
-- The version of a namespace.
SELECT version FROM namespaces WHERE name = ?1;

-- entry_version
-- The version of a live entry.
SELECT version
FROM entries
WHERE namespace = (SELECT id FROM namespaces WHERE name = ?1) AND key = ?2 AND (expires IS NULL OR expires > ?3);

-- get_progress
-- The version of a namespace, and the time of its next expiry.
SELECT version, iif(expires IS NULL OR sessions_due < expires, coalesce(sessions_due, expires), expires) FROM namespaces WHERE name = ?1;

-- get_journal
-- The newest records of a namespace's journal.
SELECT id, version, recent FROM namespaces WHERE name = ?1;

-- journal_blocks
-- Blocks of a journal with records after a version.
SELECT since, records FROM changes WHERE namespace = ?1 AND version > ?2 ORDER BY version LIMIT ?3;

-- add_journal_block
-- Add a block to a journal, unless it exists.
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
-- Delete the blocks of a journal up to a version.
DELETE FROM changes WHERE namespace = ?1 AND version <= ?2;

-- session_name
-- The name of a session of a namespace.
SELECT name FROM sessions WHERE id = ?2 AND namespace = ?1;

-- get_state
-- The namespace state.
SELECT id, plan, day, writes, bytes, version, expires, recent, pending, behind, texts, words, vectors, retention, sessions_due
FROM namespaces
WHERE name = ?1;

-- new_state
-- Create a namespace without an index.
INSERT INTO namespaces (name, day, behind) VALUES (?1, ?2, 'entries ') RETURNING id;

-- set_state
-- Write the namespace state.
UPDATE namespaces
SET
    day = ?2, writes = ?3, bytes = ?4, version = ?5, expires = ?6, recent = ?7, pending = ?8, behind = ?9, texts = ?10,
    words = ?11, sessions_due = ?12
WHERE id = ?1;

-- set_plan
-- Set the plan of a namespace.
UPDATE namespaces SET plan = ?2 WHERE id = ?1;

-- peek_entry
-- The metadata of an entry that a write needs before it replaces it, expired or not.
SELECT version, created, expires, octet_length(value) FROM entries WHERE namespace = ?1 AND key = ?2;

-- peek_value
-- The value of an entry, expired or not.
SELECT value FROM entries WHERE namespace = ?1 AND key = ?2;

-- put_entry
-- Insert or replace an entry.
INSERT INTO entries (namespace, key, version, created, updated, expires, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (namespace, key) DO UPDATE SET
    version = excluded.version, created = excluded.created, updated = excluded.updated, expires = excluded.expires,
    value = excluded.value;

-- delete_entry
-- Delete an entry.
DELETE FROM entries WHERE namespace = ?1 AND key = ?2;

-- measure_entries
-- The number of entries in the range of a prefix, of live ones, and the bytes of all.
SELECT count(*), coalesce(sum(expires IS NULL OR expires > ?4), 0), coalesce(sum(octet_length(key) + octet_length(value)), 0)
FROM entries
WHERE namespace = ?1 AND key >= ?2 AND key < ?3;

-- has_more_entries
-- A row if more entries than this are in the range of a prefix.
SELECT 1 FROM entries WHERE namespace = ?1 AND key >= ?2 AND key < ?3 LIMIT 1 OFFSET ?4;

-- first_entries
-- The first keys in the range of a prefix, their bytes with their values, and whether they are live.
SELECT key, octet_length(key) + octet_length(value), expires IS NULL OR expires > ?4
FROM entries
WHERE namespace = ?1 AND key >= ?2 AND key < ?3
ORDER BY key
LIMIT ?5;

-- delete_entries
-- Delete the entries in the range of a prefix.
DELETE FROM entries WHERE namespace = ?1 AND key >= ?2 AND key < ?3;

-- find_expired
-- Some expired entries and their bytes.
SELECT key, octet_length(key) + octet_length(value)
FROM entries
WHERE namespace = ?1 AND expires <= ?2
ORDER BY expires
LIMIT ?3;

-- first_expiry
-- The time of the next expiry in a namespace.
SELECT min(expires) FROM entries WHERE namespace = ?1 AND expires IS NOT NULL;

-- peek_session
-- The state of a session that a write or a search needs.
SELECT id, last_seq, bytes, version, created, updated, expires FROM sessions WHERE namespace = ?1 AND name = ?2;

-- new_session
-- Create a session.
INSERT INTO sessions (namespace, name, created, updated, active, version) VALUES (?1, ?2, ?3, ?3, ?3, ?4) RETURNING id;

-- free_session
-- The first session number in a range that no session has, of any namespace.
SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM sessions WHERE id = ?1)
UNION ALL
SELECT (
    SELECT id + 1
    FROM sessions AS used
    WHERE id >= ?1 AND id < ?2 AND NOT EXISTS (SELECT 1 FROM sessions WHERE id = used.id + 1)
    ORDER BY id
    LIMIT 1
)
LIMIT 1;

-- renumber_session
-- Give a session without messages another number.
UPDATE sessions SET id = ?2 WHERE id = ?1;

-- set_last_session
-- Set the number after which the next session is numbered.
UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'sessions';

-- set_session
-- Write the last seq, bytes and time of a session.
UPDATE sessions SET last_seq = ?2, bytes = ?3, updated = ?4 WHERE id = ?1;

-- delete_session
-- Delete a session.
DELETE FROM sessions WHERE id = ?1;

-- set_session_version
-- Write the version of a session.
UPDATE sessions SET version = ?2 WHERE id = ?1;

-- set_session_expiry
-- Write when a session expires.
UPDATE sessions SET expires = ?2 WHERE id = ?1;

-- rename_session
-- Give a session another name.
UPDATE sessions SET name = ?3, owner = NULL WHERE namespace = ?1 AND id = ?2;

-- settle_sessions
-- Bring the index of activity up to date for the sessions with ids in a JSON list, or with names in another.
UPDATE sessions
SET active = updated
WHERE id IN (
    SELECT value FROM json_each(?2)
    UNION ALL
    SELECT named.id FROM json_each(?3) AS wanted CROSS JOIN sessions AS named ON named.namespace = ?1 AND named.name = wanted.value
) AND namespace = ?1 AND active <> updated;

-- get_details
-- The details of a session.
SELECT details.version, owner, tags, about, origin, origin_seq, upto, summary
FROM details
CROSS JOIN sessions ON sessions.id = session
WHERE session = ?2 AND namespace = ?1;

-- put_details
-- Insert or replace the details of a session.
INSERT INTO details (session, version, tags, about, origin, origin_seq, upto, summary)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
ON CONFLICT (session) DO UPDATE SET
    version = excluded.version, tags = excluded.tags, about = excluded.about, origin = excluded.origin,
    origin_seq = excluded.origin_seq, upto = excluded.upto, summary = excluded.summary;

-- set_owner
-- Write the owner of a session, if it is another.
UPDATE sessions SET owner = ?2 WHERE id = ?1 AND owner IS NOT ?2;

-- delete_details
-- Delete the details of a session.
DELETE FROM details WHERE session = ?1;

-- set_retention
-- Write the rules for how long sessions are kept.
UPDATE namespaces SET retention = ?2 WHERE id = ?1;

-- expired_sessions
-- Sessions whose own time to live has ended.
SELECT name, id, last_seq, bytes, version, created, updated, expires
FROM sessions
WHERE namespace = ?1 AND expires <= ?2
ORDER BY expires
LIMIT ?3;

-- idle_sessions
-- Some sessions that were idle for longer than the first rule of a JSON list allows whose prefix they have.
WITH rules AS MATERIALIZED (
    SELECT key AS number, value ->> 0 AS prefix, value ->> 1 AS idle FROM json_each(?2)
), all_named AS MATERIALIZED (
    SELECT number, idle FROM rules WHERE prefix = '' ORDER BY number LIMIT 1
)
SELECT *
FROM (
    SELECT name, id, last_seq, bytes, version, created, updated, expires
    FROM sessions INDEXED BY sessions_by_activity
    WHERE namespace = ?1 AND active <= ?4 - (SELECT idle FROM all_named) AND name >= ' ' AND updated <= ?4 - (SELECT idle FROM all_named)
        AND NOT EXISTS (
            SELECT 1 FROM rules WHERE number < (SELECT number FROM all_named) AND substr(name, 1, length(prefix)) = prefix
        )
    LIMIT ?5
)
UNION ALL
SELECT *
FROM (
    SELECT name, sessions.id, last_seq, bytes, version, created, updated, expires
    FROM rules
    CROSS JOIN sessions
    WHERE prefix <> '' AND namespace = ?1 AND name >= prefix
        AND name < prefix || replace(hex(zeroblob(64)), '0', char(1114111)) AND +active <= ?3 AND updated <= ?4 - idle
        AND NOT EXISTS (
            SELECT 1
            FROM rules AS longer
            WHERE longer.number < rules.number AND substr(name, 1, length(longer.prefix)) = longer.prefix
        )
    LIMIT ?5
)
LIMIT ?5;

-- old_sessions
-- Some sessions that are older than the first rule of a JSON list allows whose prefix they have.
WITH rules AS MATERIALIZED (
    SELECT key AS number, value ->> 0 AS prefix, value ->> 2 AS age FROM json_each(?2)
), all_named AS MATERIALIZED (
    SELECT number, age FROM rules WHERE prefix = '' ORDER BY number LIMIT 1
)
SELECT *
FROM (
    SELECT name, id, last_seq, bytes, version, created, updated, expires
    FROM sessions INDEXED BY sessions_by_creation
    WHERE namespace = ?1 AND created <= ?3 - (SELECT age FROM all_named) AND name >= ' '
        AND NOT EXISTS (
            SELECT 1 FROM rules WHERE number < (SELECT number FROM all_named) AND substr(name, 1, length(prefix)) = prefix
        )
    LIMIT ?4
)
UNION ALL
SELECT *
FROM (
    SELECT name, sessions.id, last_seq, bytes, version, created, updated, expires
    FROM rules
    CROSS JOIN sessions
    WHERE prefix <> '' AND namespace = ?1 AND name >= prefix
        AND name < prefix || replace(hex(zeroblob(64)), '0', char(1114111)) AND +created <= ?3 - age
        AND NOT EXISTS (
            SELECT 1
            FROM rules AS longer
            WHERE longer.number < rules.number AND substr(name, 1, length(longer.prefix)) = longer.prefix
        )
    LIMIT ?4
)
LIMIT ?4;

-- first_session_expiry
-- When the first session of a namespace with a time to live expires.
SELECT min(expires) FROM sessions WHERE namespace = ?1 AND expires IS NOT NULL;

-- some_sessions
-- Some sessions of a namespace.
SELECT name, id, last_seq, bytes, version, created, updated, expires
FROM sessions
WHERE namespace = ?1
ORDER BY id
LIMIT ?2;

-- peek_message
-- The id of a message, when it was created and edited, and the bytes of its data.
SELECT id, created, edited, octet_length(data) FROM messages WHERE place = ?1;

-- edit_message
-- Replace the data of a message.
UPDATE messages SET data = ?2, edited = ?3, redacted = ?4 WHERE place = ?1;

-- mark_edited
-- Write when a message had been edited.
UPDATE messages SET edited = ?2, redacted = ?3 WHERE place = ?1;

-- measure_messages
-- The number and the bytes of the messages after one row id and up to another.
SELECT count(*), coalesce(sum(octet_length(id) + octet_length(data)), 0) FROM messages WHERE place > ?1 AND place <= ?2;

-- copy_messages
-- Copy the messages after one row id and up to another to a session, at a distance of row ids.
INSERT INTO messages (place, session, id, created, data, edited, redacted)
SELECT place + ?3, ?4, id, created, data, edited, redacted
FROM messages
WHERE place > ?1 AND place <= ?2
ORDER BY place;

-- add_message
-- Add a message, unless the session has a message with its id.
INSERT INTO messages (place, session, id, created, data) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (session, id) DO NOTHING;

-- seq_of_message
-- The sequence number of a message.
SELECT place & 0xFFFFFFFF FROM messages WHERE session = ?1 AND id = ?2;

-- last_messages
-- The newest messages after one row id and up to another, and their bytes.
SELECT place & 0xFFFFFFFF, octet_length(id) + octet_length(data)
FROM messages
WHERE place > ?1 AND place <= ?2
ORDER BY place DESC
LIMIT ?3;

-- delete_messages
-- Delete the messages after one row id and up to another.
DELETE FROM messages WHERE place > ?1 AND place <= ?2;

-- find_response
-- The stored response for an idempotency key.
SELECT results FROM answers WHERE namespace = ?1 AND idempotency_key = ?2;

-- save_response
-- Store a response.
INSERT INTO answers (namespace, idempotency_key, created, results) VALUES (?1, ?2, ?3, ?4);

-- purge_responses
-- Delete some of the oldest responses, if they are older than a time.
DELETE FROM answers
WHERE created < ?1 AND id IN (
    SELECT id FROM answers ORDER BY id
    -- Usually no response is old enough.
    LIMIT iif((SELECT created FROM answers ORDER BY id LIMIT 1) < ?1, ?2, 0)
);

-- last_popped
-- The sum of the bytes of all popped messages that a namespace has kept.
SELECT max(upto) FROM popped WHERE namespace = ?1;

-- find_popped
-- The messages that a pop returned.
SELECT messages FROM popped WHERE namespace = ?1 AND upto = ?2 AND version = ?3;

-- keep_popped
-- Keep the messages that a pop returned.
INSERT INTO popped (namespace, upto, version, session, created, messages) VALUES (?1, ?2, ?3, ?4, ?5, ?6);

-- drop_popped
-- Delete the oldest popped messages of a namespace.
DELETE FROM popped WHERE namespace = ?1 AND upto <= ?2;

-- erase_popped
-- Delete the popped messages of a session.
DELETE FROM popped WHERE namespace = ?1 AND session = ?2;

-- forget_responses
-- Delete the idempotency records of a namespace.
DELETE FROM answers WHERE namespace = ?1;

-- forget_popped
-- Delete the popped messages of a namespace.
DELETE FROM popped WHERE namespace = ?1;

-- forget_changes
-- Delete the blocks of the journal of a namespace.
DELETE FROM changes WHERE namespace = ?1;

-- forget_entry_texts
-- Delete what is left in the index of the entries of a namespace.
DELETE FROM entry_texts WHERE namespace = ?1;

-- mark_destroyed
-- Mark a namespace as destroyed at a version, without rules.
UPDATE namespaces SET destroyed = ?2, retention = NULL, vectors = 0 WHERE id = ?1;

-- purge_popped
-- Delete some of the oldest popped messages, if they are older than a time.
DELETE FROM popped
WHERE created < ?1 AND id IN (
    SELECT id FROM popped ORDER BY id
    LIMIT iif((SELECT created FROM popped ORDER BY id LIMIT 1) < ?1, ?2, 0)
);

-- get_clock
-- The latest time on disk, and the number of times that the clock was set back.
SELECT seen, turns FROM clock WHERE id = 1;

-- save_clock
-- Write the latest time.
UPDATE clock SET seen = max(seen, ?1) WHERE id = 1 RETURNING turns;

-- set_clock
-- Write an earlier time.
UPDATE clock SET seen = ?1, turns = ?2 WHERE id = 1;

-- release_expired
-- Subtract the bytes of expired entries, in all namespaces.
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
-- Delete expired entries, in all namespaces.
DELETE FROM entries WHERE namespace IN (SELECT id FROM namespaces WHERE expires <= ?1) AND expires <= ?1;

-- expect_expiries
-- Write the time of the next expiry, in all namespaces that had one.
UPDATE namespaces
SET expires = (SELECT min(entries.expires) FROM entries WHERE entries.namespace = namespaces.id AND entries.expires > ?1)
WHERE expires <= ?1;

-- end_sessions
-- Let sessions that have expired by a time be expired at any time.
UPDATE sessions
SET expires = 0
WHERE namespace IN (SELECT id FROM namespaces WHERE sessions_due <= ?1) AND expires <= ?1;

-- end_ruled_sessions
-- Let sessions that a rule or a plan has ended by a time be expired at any time. A JSON object has the limits of the plans.
UPDATE sessions
SET expires = 0
WHERE name >= ' '
    AND namespace IN (SELECT id FROM namespaces WHERE name >= ' ' AND (retention IS NOT NULL OR ?2 IS NOT NULL))
    AND EXISTS (
        SELECT 1
        FROM namespaces
        WHERE namespaces.id = sessions.namespace AND (
            sessions.updated <= ?1 - coalesce(
                (SELECT value FROM json_each(?2) WHERE key = namespaces.plan), (SELECT value FROM json_each(?2) WHERE key = '')
            )
            OR (
                SELECT sessions.updated <= ?1 - (value ->> 1) OR sessions.created <= ?1 - (value ->> 2)
                FROM json_each(namespaces.retention)
                WHERE substr(sessions.name, 1, length(value ->> 0)) = value ->> 0
                ORDER BY key
                LIMIT 1
            )
        )
    );

-- expect_ended_sessions
-- Let the next write of each namespace that may have such sessions remove them.
UPDATE namespaces SET sessions_due = 0 WHERE sessions_due > 0;

-- redate_responses
-- Set the time of responses in the future to now.
UPDATE answers SET created = ?1 WHERE created > ?1;

-- redate_popped
-- Set the time of popped messages in the future to now.
UPDATE popped SET created = ?1 WHERE created > ?1;

-- wrong_sessions
-- The sessions that count other messages or bytes than they have, and what is right. With gaps, the count of messages stays.
SELECT id, name, last_seq, bytes, messages, held
FROM (
    SELECT
        sessions.id AS id,
        name,
        last_seq,
        bytes,
        iif(coalesce(max(place) - (sessions.id << 32), 0) = count(place), count(place), last_seq) AS messages,
        coalesce(sum(octet_length(messages.id) + octet_length(data)), 0) + coalesce((
            SELECT octet_length(about) + octet_length(tags) + coalesce(octet_length(owner), 0) + coalesce(octet_length(summary), 0)
            FROM details
            WHERE details.session = sessions.id
        ), 0) AS held
    FROM sessions
    LEFT JOIN messages ON place > sessions.id << 32 AND place <= (sessions.id << 32) + 4294967295
    WHERE sessions.namespace = ?1
    GROUP BY sessions.id
)
WHERE bytes <> held OR last_seq <> messages;

-- correct_session
-- Write what the messages of a session have.
UPDATE sessions SET last_seq = ?3, bytes = ?4 WHERE namespace = ?1 AND id = ?2;

-- held_bytes
-- The bytes of the entries, messages and details of sessions of a namespace.
SELECT
    (SELECT coalesce(sum(octet_length(key) + octet_length(value)), 0) FROM entries WHERE namespace = ?1)
    + (
        SELECT coalesce(sum(octet_length(messages.id) + octet_length(data)), 0)
        FROM sessions
        CROSS JOIN messages ON place > sessions.id << 32 AND place <= (sessions.id << 32) + 4294967295
        WHERE sessions.namespace = ?1
    )
    + (
        SELECT coalesce(sum(octet_length(about) + octet_length(tags) + coalesce(octet_length(owner), 0) + coalesce(octet_length(summary), 0)), 0)
        FROM sessions
        CROSS JOIN details ON details.session = sessions.id
        WHERE sessions.namespace = ?1
    );

-- held_vector_bytes
-- The bytes of the vectors of a namespace.
SELECT
    (SELECT coalesce(sum(octet_length(vector)), 0) FROM entry_vectors WHERE namespace = ?1)
    + (
        SELECT coalesce(sum(octet_length(vector)), 0)
        FROM sessions
        CROSS JOIN message_vectors ON place > sessions.id << 32 AND place <= (sessions.id << 32) + 4294967295
        WHERE sessions.namespace = ?1
    );

-- set_vector_bytes
-- Write the bytes of the vectors of a namespace.
UPDATE namespaces SET vectors = ?2 WHERE id = ?1;
