-- namespace_bytes
-- Accounts that do not say what the rows of their namespace hold.
SELECT format('namespace %s: the account says %d bytes, the rows hold %d', name, bytes, held)
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
-- Sessions that do not say what their messages are, or whose messages have holes.
SELECT format(
    'session %s: it says %d messages of %d bytes, there are %d of %d bytes, numbered %d to %d',
    name, last_seq, bytes, count, held, lowest, highest
)
FROM (
    SELECT
        sessions.name AS name,
        last_seq,
        bytes,
        count(place) AS count,
        coalesce(sum(octet_length(messages.id) + octet_length(data)), 0) AS held,
        coalesce(min(place & 0xFFFFFFFF), 0) AS lowest,
        coalesce(max(place & 0xFFFFFFFF), 0) AS highest
    FROM sessions
    LEFT JOIN messages ON place > sessions.id << 32 AND place < (sessions.id + 1) << 32
    GROUP BY sessions.id
)
WHERE last_seq <> count OR bytes <> held OR highest <> count OR lowest <> (count > 0);

-- entries_of_nobody
-- Entries whose namespace is not there.
SELECT format('entry %s: there is no namespace %d', key, namespace)
FROM entries
WHERE namespace NOT IN (SELECT id FROM namespaces);

-- sessions_of_nobody
-- Sessions whose namespace is not there.
SELECT format('session %s: there is no namespace %d', name, namespace)
FROM sessions
WHERE namespace NOT IN (SELECT id FROM namespaces);

-- messages_of_nobody
-- Messages whose session is not there, or is another one than their place says.
SELECT format('message %d of session %d: there is no such session', place & 0xFFFFFFFF, session)
FROM messages
WHERE session <> place >> 32 OR session NOT IN (SELECT id FROM sessions);

-- versions
-- Entries with a version that their namespace has not given yet.
SELECT format('entry %s: version %d, and its namespace is at %d', key, entries.version, namespaces.version)
FROM entries
JOIN namespaces ON namespaces.id = namespace
WHERE entries.version > namespaces.version;

-- expiries
-- Namespaces that have an entry which expires before they look for one.
SELECT format('namespace %s: an entry expires at %d, and it looks for one at %d', name, first, expires)
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

-- vectors_of_nobody
-- Vectors whose text is not there, or is of another namespace than they say.
SELECT format('vector of message %d of session %d: there is no such message', place & 0xFFFFFFFF, place >> 32)
FROM message_vectors
WHERE place NOT IN (SELECT place FROM messages)
    OR namespace NOT IN (SELECT sessions.namespace FROM sessions WHERE sessions.id = place >> 32)
UNION ALL
SELECT format('vector of entry %s: there is no such entry in namespace %d', key, namespace)
FROM entry_vectors
WHERE NOT EXISTS (SELECT 1 FROM entries WHERE namespace = entry_vectors.namespace AND key = entry_vectors.key);

-- vector_bytes
-- Namespaces that do not say what their vectors are.
SELECT format('namespace %s: it says %d bytes of vectors, there are %d', name, vectors, held)
FROM (
    SELECT
        name,
        vectors,
        (SELECT coalesce(sum(octet_length(vector)), 0) FROM entry_vectors WHERE namespace = namespaces.id)
        + (SELECT coalesce(sum(octet_length(vector)), 0) FROM message_vectors WHERE namespace = namespaces.id) AS held
    FROM namespaces
)
WHERE vectors <> held;
