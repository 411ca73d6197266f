-- find_session
-- A session by its name, with the rules and the plan of its namespace.
SELECT sessions.id, last_seq, sessions.version, created, updated, sessions.expires, retention, plan
FROM botwire.sessions
CROSS JOIN botwire.namespaces
WHERE sessions.namespace = $1 AND sessions.name = $2 AND namespaces.name = $1;

-- peek_session
-- The state of a session that a search needs.
SELECT id, last_seq, bytes, version, created, updated, expires FROM botwire.sessions WHERE namespace = $1 AND name = $2;

-- session_name
-- The name of a session.
SELECT name FROM botwire.sessions WHERE namespace = $1 AND id = $2;

-- get_session
-- A session with its details.
SELECT {columns}
FROM (SELECT * FROM botwire.sessions WHERE namespace = $1 AND name = $2) AS sessions
{details};

-- sessions_at
-- The sessions with ids in a JSON list, or with names in another.
SELECT {columns}
FROM (
    SELECT *
    FROM botwire.sessions
    WHERE namespace = $1 AND id = ANY (ARRAY(
        SELECT json_array_elements_text($2::json)::bigint
        UNION
        SELECT named.id
        FROM json_array_elements_text($3::json) AS wanted (name)
        CROSS JOIN LATERAL (
            SELECT id FROM botwire.sessions WHERE namespace = $1 AND name = wanted.name OFFSET 0
        ) AS named
    ))
) AS sessions
{details};

-- sessions_by_activity
-- Sessions before a time and an id in the index of activity, the newest first.
SELECT {columns}
FROM (
    SELECT *
    FROM botwire.sessions
    WHERE namespace = $1 AND (active, id) < ($2, $3)
    ORDER BY active DESC, id DESC
    LIMIT $4
) AS sessions
{details}
ORDER BY active DESC, id DESC;

-- sessions_of_owner
-- The same of an owner.
SELECT {columns}
FROM (
    SELECT *
    FROM botwire.sessions
    WHERE namespace = $1 AND owner = $5 AND (active, id) < ($2, $3)
    ORDER BY active DESC, id DESC
    LIMIT $4
) AS sessions
{details}
ORDER BY active DESC, id DESC;

-- sessions_named
-- The same in a range of names.
SELECT {columns}
FROM (
    SELECT *
    FROM (SELECT * FROM botwire.sessions WHERE namespace = $1 AND name >= $5 AND name < $6 OFFSET 0) AS named
    WHERE (active, id) < ($2, $3)
    ORDER BY active DESC, id DESC
    LIMIT $4
) AS sessions
{details}
ORDER BY active DESC, id DESC;

-- sessions_by_age
-- Sessions with lower ids than a given one, the newest first.
SELECT {columns}
FROM (
    SELECT * FROM botwire.sessions WHERE namespace = $1 AND id < $2 ORDER BY id DESC LIMIT $3
) AS sessions
{details}
ORDER BY id DESC;

-- sessions_by_age_named
-- The same in a range of names.
SELECT {columns}
FROM (
    SELECT *
    FROM (SELECT * FROM botwire.sessions WHERE namespace = $1 AND name >= $4 AND name < $5 OFFSET 0) AS named
    WHERE id < $2
    ORDER BY id DESC
    LIMIT $3
) AS sessions
{details}
ORDER BY id DESC;

-- fetch_sessions
-- The state of the sessions in a JSON list that a write needs.
SELECT name, id, last_seq, bytes, version, created, updated, expires
FROM botwire.sessions
WHERE namespace = $1 AND name = ANY (ARRAY(SELECT json_array_elements_text($2::json)));

-- free_session
-- The first session number in a range that no session of a namespace has.
SELECT $2::bigint AS free WHERE NOT EXISTS (SELECT FROM botwire.sessions WHERE namespace = $1 AND id = $2::bigint)
UNION ALL
(
    SELECT id + 1
    FROM botwire.sessions AS used
    WHERE namespace = $1 AND id >= $2::bigint AND id < $3::bigint
        AND NOT EXISTS (SELECT FROM botwire.sessions WHERE namespace = $1 AND id = used.id + 1)
    ORDER BY id
    LIMIT 1
)
ORDER BY free
LIMIT 1;

-- put_sessions
-- Insert or replace the sessions in a JSON list.
INSERT INTO botwire.sessions (namespace, name, id, last_seq, bytes, version, created, updated, active, expires)
SELECT $1, name, id, last_seq, bytes, version, created, updated, updated, expires
FROM json_to_recordset($2::json) AS given (
    name text, id bigint, last_seq bigint, bytes bigint, version bigint, created bigint, updated bigint, expires bigint
)
ON CONFLICT (namespace, name) DO UPDATE SET
    last_seq = excluded.last_seq, bytes = excluded.bytes, version = excluded.version, updated = excluded.updated,
    expires = excluded.expires;

-- rename_session
-- Give a session another name.
UPDATE botwire.sessions SET name = $3, owner = NULL WHERE namespace = $1 AND id = $2;

-- settle_sessions
-- Bring the index of activity up to date for the sessions with ids in a JSON list, or with names in another.
UPDATE botwire.sessions
SET active = updated
WHERE namespace = $1 AND active <> updated AND id = ANY (ARRAY(
    SELECT json_array_elements_text($2::json)::bigint
    UNION
    SELECT named.id
    FROM json_array_elements_text($3::json) AS wanted (name)
    CROSS JOIN LATERAL (
        SELECT id FROM botwire.sessions WHERE namespace = $1 AND name = wanted.name OFFSET 0
    ) AS named
));

-- delete_session
-- Delete a session.
DELETE FROM botwire.sessions WHERE namespace = $1 AND id = $2;

-- get_details
-- The details of a session.
SELECT known.version, owner, tags, about, origin, origin_seq, upto, summary
FROM botwire.sessions
CROSS JOIN LATERAL (SELECT * FROM botwire.details WHERE namespace = $1 AND session = $2 OFFSET 0) AS known
WHERE sessions.namespace = $1 AND id = $2;

-- get_summary
-- The summary of a session.
SELECT upto, summary FROM botwire.details WHERE namespace = $1 AND session = $2 AND summary IS NOT NULL;

-- put_details
-- Insert or replace the details of a session.
INSERT INTO botwire.details (namespace, session, version, tags, about, origin, origin_seq, upto, summary)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (namespace, session) DO UPDATE SET
    version = excluded.version, tags = excluded.tags, about = excluded.about, origin = excluded.origin,
    origin_seq = excluded.origin_seq, upto = excluded.upto, summary = excluded.summary;

-- set_owner
-- Write the owner of a session, if it is another.
UPDATE botwire.sessions SET owner = $3 WHERE namespace = $1 AND id = $2 AND owner IS DISTINCT FROM $3;

-- delete_details
-- Delete the details of a session.
DELETE FROM botwire.details WHERE namespace = $1 AND session = $2;

-- expired_sessions
-- Some sessions that have expired by their own time to live.
SELECT name, id, last_seq, bytes, version, created, updated, expires
FROM botwire.sessions
WHERE namespace = $1 AND expires <= $2
ORDER BY expires
LIMIT $3;

-- end_sessions
-- Let sessions of all namespaces that have expired by a time be expired at any time.
UPDATE botwire.sessions SET expires = 0 WHERE expires <= $1;

-- end_ruled_sessions
-- Let sessions that a rule or a plan has ended by a time be expired at any time. A JSON object has the limits of the plans.
UPDATE botwire.sessions
SET expires = 0
FROM botwire.namespaces
WHERE sessions.namespace = namespaces.name
    AND namespaces.name >= ' '
    AND (retention IS NOT NULL OR $2::json IS NOT NULL)
    AND sessions.name >= ' '
    AND (
        sessions.updated <= $1 - coalesce(($2::json ->> namespaces.plan)::bigint, ($2::json ->> '')::bigint)
        OR (
            SELECT sessions.updated <= $1 - (rule ->> 1)::bigint OR sessions.created <= $1 - (rule ->> 2)::bigint
            FROM json_array_elements(retention::json) WITH ORDINALITY AS given (rule, number)
            WHERE starts_with(sessions.name, rule ->> 0)
            ORDER BY number
            LIMIT 1
        )
    );

-- expect_ended_sessions
-- Let the next write of each namespace that may have such sessions remove them.
UPDATE botwire.namespaces SET sessions_due = 0 WHERE sessions_due > 0;

-- idle_sessions
-- Some sessions that were idle for longer than the first rule of a JSON list allows whose prefix they have.
WITH rules AS MATERIALIZED (
    SELECT number, item ->> 0 AS prefix, (item ->> 1)::bigint AS idle
    FROM json_array_elements($2::json) WITH ORDINALITY AS given (item, number)
), all_named AS MATERIALIZED (
    SELECT number, idle FROM rules WHERE prefix = '' ORDER BY number LIMIT 1
), of_all AS (
    SELECT *
    FROM botwire.sessions
    WHERE namespace = $1 AND active <= $4 - (SELECT idle FROM all_named) AND name >= ' ' AND updated <= $4 - (SELECT idle FROM all_named)
        AND NOT EXISTS (
            SELECT FROM rules WHERE number < (SELECT number FROM all_named) AND starts_with(sessions.name, prefix)
        )
    ORDER BY active
    LIMIT $5
), of_some AS (
    SELECT ended.*
    FROM rules
    CROSS JOIN LATERAL (
        SELECT *
        FROM botwire.sessions
        WHERE namespace = $1 AND name >= rules.prefix AND name < rules.prefix || repeat(U&'\+10FFFF', 128)
            AND active <= $3 AND updated <= $4 - rules.idle
            AND NOT EXISTS (
                SELECT FROM rules AS longer WHERE longer.number < rules.number AND starts_with(sessions.name, longer.prefix)
            )
        LIMIT $5
    ) AS ended
    WHERE rules.prefix <> '' AND rules.idle IS NOT NULL
    LIMIT $5
)
SELECT name, id, last_seq, bytes, version, created, updated, expires
FROM (SELECT * FROM of_all UNION ALL SELECT * FROM of_some) AS found
LIMIT $5;

-- old_sessions
-- Some sessions that are older than the first rule of a JSON list allows whose prefix they have.
WITH rules AS MATERIALIZED (
    SELECT number, item ->> 0 AS prefix, (item ->> 2)::bigint AS age
    FROM json_array_elements($2::json) WITH ORDINALITY AS given (item, number)
), all_named AS MATERIALIZED (
    SELECT number, age FROM rules WHERE prefix = '' ORDER BY number LIMIT 1
), of_all AS (
    SELECT *
    FROM botwire.sessions
    WHERE namespace = $1 AND created <= $3 - (SELECT age FROM all_named) AND name >= ' '
        AND NOT EXISTS (
            SELECT FROM rules WHERE number < (SELECT number FROM all_named) AND starts_with(sessions.name, prefix)
        )
    ORDER BY created
    LIMIT $4
), of_some AS (
    SELECT ended.*
    FROM rules
    CROSS JOIN LATERAL (
        SELECT *
        FROM botwire.sessions
        WHERE namespace = $1 AND name >= rules.prefix AND name < rules.prefix || repeat(U&'\+10FFFF', 128)
            AND created <= $3 - rules.age
            AND NOT EXISTS (
                SELECT FROM rules AS longer WHERE longer.number < rules.number AND starts_with(sessions.name, longer.prefix)
            )
        LIMIT $4
    ) AS ended
    WHERE rules.prefix <> '' AND rules.age IS NOT NULL
    LIMIT $4
)
SELECT name, id, last_seq, bytes, version, created, updated, expires
FROM (SELECT * FROM of_all UNION ALL SELECT * FROM of_some) AS found
LIMIT $4;

-- first_session_expiry
-- When the first session of a namespace with a time to live expires.
SELECT min(expires) FROM botwire.sessions WHERE namespace = $1 AND expires IS NOT NULL;

-- some_sessions
-- Some sessions of a namespace.
SELECT name, id, last_seq, bytes, version, created, updated, expires
FROM botwire.sessions
WHERE namespace = $1
ORDER BY id
LIMIT $2;

-- wrong_sessions
-- The sessions that count other messages or bytes than they have, and what is right. With gaps, the count of messages stays.
SELECT id, name, last_seq, bytes, messages, held
FROM (
    SELECT
        sessions.id, name, last_seq, sessions.bytes,
        CASE WHEN coalesce(found.highest, 0) = found.count THEN found.count ELSE last_seq END AS messages,
        (coalesce(found.bytes, 0) + coalesce(known.bytes, 0) + coalesce(octet_length(owner), 0))::bigint AS held
    FROM botwire.sessions
    CROSS JOIN LATERAL (
        SELECT
            count(*) AS count, max(place) - (sessions.id << 32) AS highest,
            sum(octet_length(messages.id) + octet_length(data)) AS bytes
        FROM botwire.messages
        WHERE namespace = $1 AND place > sessions.id << 32 AND place <= (sessions.id << 32) + 4294967295
    ) AS found
    LEFT JOIN LATERAL (
        SELECT octet_length(about) + octet_length(tags) + coalesce(octet_length(summary), 0) AS bytes
        FROM botwire.details
        WHERE namespace = $1 AND session = sessions.id
        OFFSET 0
    ) AS known ON true
    WHERE sessions.namespace = $1
) AS counted
WHERE bytes <> held OR last_seq <> messages;

-- correct_session
-- Write what the messages of a session have.
UPDATE botwire.sessions SET last_seq = $3, bytes = $4 WHERE namespace = $1 AND id = $2;
