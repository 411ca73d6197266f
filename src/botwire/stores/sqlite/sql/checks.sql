-- namespace_bytes
-- Namespaces whose bytes differ from the sum of their rows.
SELECT format('namespace %s: its state counts %d bytes, but its rows have %d', name, bytes, held)
FROM (
    SELECT
        name,
        bytes,
        (SELECT coalesce(sum(octet_length(key) + octet_length(value)), 0) FROM entries WHERE namespace = namespaces.id)
        + (SELECT coalesce(sum(bytes), 0) FROM sessions WHERE namespace = namespaces.id) AS held
    FROM namespaces
)
WHERE bytes <> held;

-- sessions
-- Sessions whose counts differ from their messages, or whose messages have gaps.
SELECT format(
    'session %s: it counts %d messages with %d bytes, but it has %d with %d bytes, numbered %d to %d',
    name, last_seq, bytes, count, held, lowest, highest
)
FROM (
    SELECT
        sessions.name AS name,
        last_seq,
        bytes,
        count(place) AS count,
        coalesce(sum(octet_length(messages.id) + octet_length(data)), 0) + coalesce((
            SELECT octet_length(about) + octet_length(tags) + coalesce(octet_length(owner), 0) + coalesce(octet_length(summary), 0)
            FROM details
            WHERE details.session = sessions.id
        ), 0) AS held,
        coalesce(min(place & 0xFFFFFFFF), 0) AS lowest,
        coalesce(max(place & 0xFFFFFFFF), 0) AS highest
    FROM sessions
    LEFT JOIN messages ON place > sessions.id << 32 AND place <= (sessions.id << 32) + 4294967295
    GROUP BY sessions.id
)
WHERE last_seq <> count OR bytes <> held OR highest <> count OR lowest <> (count > 0);

-- entries_without_namespace
-- Entries whose namespace does not exist.
SELECT format('entry %s: its namespace %d does not exist', key, namespace)
FROM entries
WHERE namespace NOT IN (SELECT id FROM namespaces);

-- sessions_without_namespace
-- Sessions whose namespace does not exist.
SELECT format('session %s: its namespace %d does not exist', name, namespace)
FROM sessions
WHERE namespace NOT IN (SELECT id FROM namespaces);

-- messages_without_session
-- Messages whose session does not exist, or differs from the session in their row id.
SELECT format('message %d of session %d: the session does not exist', place & 0xFFFFFFFF, session)
FROM messages
WHERE session <> place >> 32 OR session NOT IN (SELECT id FROM sessions);

-- details_without_session
-- Details whose session does not exist, or whose summary ends after its last message.
SELECT format('details of session %d: the session does not exist, or has fewer than %d messages', session, upto)
FROM details
WHERE upto > coalesce((SELECT last_seq FROM sessions WHERE id = session), -1);

-- versions
-- Entries with a higher version than their namespace.
SELECT format('entry %s: its version %d is higher than version %d of its namespace', key, entries.version, namespaces.version)
FROM entries
JOIN namespaces ON namespaces.id = namespace
WHERE entries.version > namespaces.version;

-- expiries
-- Namespaces with an entry that expires before the recorded next expiry.
SELECT format('namespace %s: an entry expires at %d, but the recorded next expiry is %d', name, first, expires)
FROM (SELECT name, expires, (SELECT min(expires) FROM entries WHERE namespace = namespaces.id) AS first FROM namespaces)
WHERE first IS NOT NULL AND (expires IS NULL OR expires > first);

-- values
-- Values that are neither JSON nor bytes.
SELECT format('entry %s: the value is not JSON', key)
FROM entries
WHERE typeof(value) NOT IN ('text', 'blob') OR (typeof(value) = 'text' AND NOT json_valid(value));

-- data
-- Messages that are not JSON.
SELECT format('message %d of session %d: the data is not JSON', place & 0xFFFFFFFF, session)
FROM messages
WHERE NOT json_valid(data);

-- vectors_without_text
-- Vectors whose text does not exist, or belongs to another namespace.
SELECT format('vector of message %d of session %d: the message does not exist', place & 0xFFFFFFFF, place >> 32)
FROM message_vectors
WHERE place NOT IN (SELECT place FROM messages)
    OR namespace NOT IN (SELECT sessions.namespace FROM sessions WHERE sessions.id = place >> 32)
UNION ALL
SELECT format('vector of entry %s: the entry does not exist in namespace %d', key, namespace)
FROM entry_vectors
WHERE NOT EXISTS (SELECT 1 FROM entries WHERE namespace = entry_vectors.namespace AND key = entry_vectors.key);

-- vector_bytes
-- Namespaces whose bytes of vectors differ from the sum of their rows.
SELECT format('namespace %s: its state counts %d bytes of vectors, but its rows have %d', name, vectors, held)
FROM (
    SELECT
        name,
        vectors,
        (SELECT coalesce(sum(octet_length(vector)), 0) FROM entry_vectors WHERE namespace = namespaces.id)
        + (SELECT coalesce(sum(octet_length(vector)), 0) FROM message_vectors WHERE namespace = namespaces.id) AS held
    FROM namespaces
)
WHERE vectors <> held;
