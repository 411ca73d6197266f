-- add_text
-- Index a text. Its terms are separated by spaces.
INSERT INTO texts (rowid, terms) VALUES (?2, ?1 || '_' || replace(?3, ' ', ' ' || ?1 || '_'));

-- replace_text
-- Replace the terms of an indexed text.
REPLACE INTO texts (rowid, terms) VALUES (?2, ?1 || '_' || replace(?3, ' ', ' ' || ?1 || '_'));

-- delete_text
-- Remove a text from the index.
DELETE FROM texts WHERE rowid = ?1;

-- delete_texts
-- Remove the texts in a range of ids from the index.
DELETE FROM texts WHERE rowid BETWEEN ?1 AND ?2;

-- delete_some_texts
-- Remove some texts in a range of ids from the index.
DELETE FROM texts WHERE rowid IN (SELECT rowid FROM texts WHERE rowid BETWEEN ?1 AND ?2 LIMIT ?3);

-- delete_texts_of_entries
-- Remove the entries in the range of a prefix from the index.
DELETE FROM texts WHERE rowid IN (SELECT id FROM entry_texts WHERE namespace = ?1 AND key >= ?2 AND key < ?3);

-- delete_entry_texts
-- Delete the records of indexed entries in the range of a prefix.
DELETE FROM entry_texts WHERE namespace = ?1 AND key >= ?2 AND key < ?3;

-- delete_some_texts_of_entries
-- Remove some entries of a namespace from the index.
DELETE FROM texts WHERE rowid IN (SELECT id FROM entry_texts WHERE namespace = ?1 ORDER BY key LIMIT ?2);

-- delete_some_entry_texts
-- Delete the records of the same entries.
DELETE FROM entry_texts WHERE id IN (SELECT id FROM entry_texts WHERE namespace = ?1 ORDER BY key LIMIT ?2);

-- delete_entry_text
-- Delete the record of an indexed entry.
DELETE FROM entry_texts WHERE id = ?1;

-- new_entry_text
-- Record the version at which an entry is indexed.
INSERT INTO entry_texts (namespace, key, version) VALUES (?1, ?2, ?3) RETURNING id;

-- free_entry_text
-- The first text id in a range that no entry has, of any namespace.
SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM entry_texts WHERE id = ?1)
UNION ALL
SELECT (
    SELECT id + 1
    FROM entry_texts AS used
    WHERE id >= ?1 AND id < ?2 AND NOT EXISTS (SELECT 1 FROM entry_texts WHERE id = used.id + 1)
    ORDER BY id
    LIMIT 1
)
LIMIT 1;

-- renumber_entry_text
-- Give an indexed entry another text id.
UPDATE entry_texts SET id = ?2 WHERE id = ?1;

-- renew_entry_text
-- Record a new version at which an entry is indexed.
UPDATE entry_texts SET version = ?3 WHERE id = ?1 AND key = ?2;

-- entries_to_index
-- The indexed and the stored versions of the entries in a JSON list of keys, in its order, and those values that are not indexed.
SELECT wanted.value, entry_texts.id, entry_texts.version, entries.version,
    CASE WHEN entry_texts.version IS NOT entries.version THEN entries.value END
FROM json_each(?2) AS wanted
LEFT JOIN entry_texts ON entry_texts.namespace = ?1 AND entry_texts.key = wanted.value
LEFT JOIN entries ON entries.namespace = ?1 AND entries.key = wanted.value;

-- messages_to_index
-- The row ids of a JSON list, in its order, each with its message if that is not in the index.
SELECT wanted.value, data
FROM json_each(?1) AS wanted
LEFT JOIN messages ON place = wanted.value AND NOT EXISTS (SELECT 1 FROM texts_docsize WHERE id = wanted.value);

-- keys_to_index
-- Keys of a namespace after a key.
SELECT key FROM entries WHERE namespace = ?1 AND key > ?2 ORDER BY key LIMIT ?3;

-- sessions_from
-- The sessions of a namespace with ids from a given one on, and their numbers of messages.
SELECT id, last_seq FROM sessions WHERE namespace = ?1 AND id >= ?2 ORDER BY id LIMIT ?3;

-- count_texts
-- The number of texts that contain each term of a JSON list, for terms in at least one text.
SELECT wanted.key, terms.doc FROM json_each(?2) AS wanted CROSS JOIN terms ON terms.term = ?1 || '_' || wanted.value;

-- texts_with_each
-- The ids, within a range, of the texts that contain each term of a JSON list.
SELECT wanted.key, texts.rowid
FROM json_each(?2) AS wanted
CROSS JOIN texts ON texts.texts MATCH ('"' || ?1 || '_' || wanted.value || '"') AND texts.rowid BETWEEN ?3 AND ?4;

-- newest_texts_with
-- The ids, within a range, of the texts that contain a term, the newest first.
SELECT rowid FROM texts
WHERE texts MATCH ('"' || ?1 || '_' || ?2 || '"') AND rowid BETWEEN ?3 AND ?4
ORDER BY rowid DESC
LIMIT ?5;

-- newest_texts_with_both
-- The ids, within a range, of the texts that contain a term and one of a JSON list, the newest first.
SELECT rowid FROM texts
WHERE texts MATCH (
        '"' || ?1 || '_' || ?2 || '" AND (' ||
        (SELECT group_concat('"' || ?1 || '_' || value || '"', ' OR ') FROM json_each(?3)) || ')'
    ) AND rowid BETWEEN ?4 AND ?5
ORDER BY rowid DESC
LIMIT ?6;

-- messages_at
-- The messages in a JSON list of row ids.
SELECT place, sessions.name, place & 0xFFFFFFFF, messages.id, data, messages.created, edited, redacted
FROM json_each(?2) AS wanted
CROSS JOIN messages ON messages.place = wanted.value
CROSS JOIN sessions ON sessions.id = messages.session
WHERE sessions.namespace = ?1;

-- entries_at
-- The live entries of a JSON list of text ids, if the indexed version is the current one.
SELECT entry_texts.id, entries.key, entries.value, entries.version, created, updated, expires
FROM json_each(?2) AS wanted
CROSS JOIN entry_texts ON entry_texts.id = wanted.value
CROSS JOIN entries ON entries.namespace = entry_texts.namespace AND entries.key = entry_texts.key
    AND entries.version = entry_texts.version
WHERE entries.namespace = ?1 AND (expires IS NULL OR expires > ?3);

-- entries_named
-- The live entries in a JSON list of keys.
SELECT entries.key, entries.value, entries.version, created, updated, expires
FROM json_each(?2) AS wanted
CROSS JOIN entries ON entries.namespace = ?1 AND entries.key = wanted.value
WHERE expires IS NULL OR expires > ?3;

-- texts_of_entries
-- The text ids of some entries in the range of a prefix.
SELECT id FROM entry_texts WHERE namespace = ?1 AND key >= ?2 AND key < ?3 LIMIT ?4;

-- entries_without_vector
-- Live entries after a key that have no vector of a model.
SELECT entries.key, entries.version, entries.value
FROM entries
LEFT JOIN entry_vectors AS held ON held.namespace = ?1 AND held.key = entries.key AND held.model = ?2
WHERE entries.namespace = ?1 AND entries.key > ?3 AND (expires IS NULL OR expires > ?4) AND held.id IS NULL
ORDER BY entries.key
LIMIT ?5;

-- messages_without_vector
-- Messages after a row id that have no vector of a model, beginning with a session.
SELECT messages.place, sessions.name, messages.id, coalesce(edited, messages.created), data
FROM sessions
CROSS JOIN messages ON messages.place > max(?4, sessions.id << 32) AND messages.place <= (sessions.id << 32) + last_seq
LEFT JOIN message_vectors AS held ON held.place = messages.place AND held.model = ?2
WHERE sessions.namespace = ?1 AND sessions.id >= ?3 AND held.place IS NULL
ORDER BY sessions.id, messages.place
LIMIT ?5;

-- drop_entry_vectors
-- Delete the vectors of the entries in a JSON list of key, version and vector that still have that version.
DELETE FROM entry_vectors
WHERE namespace = ?1 AND key IN (
    SELECT entries.key
    FROM json_each(?2) AS wanted
    CROSS JOIN entries
        ON entries.namespace = ?1 AND entries.key = wanted.value ->> 0 AND entries.version = wanted.value ->> 1
);

-- keep_entry_vectors
-- Store the vectors in the same list, for the same entries.
INSERT INTO entry_vectors (namespace, key, model, vector)
SELECT ?1, entries.key, ?3, unhex(wanted.value ->> 2)
FROM json_each(?2) AS wanted
CROSS JOIN entries ON entries.namespace = ?1 AND entries.key = wanted.value ->> 0 AND entries.version = wanted.value ->> 1;

-- drop_message_vectors
-- Delete the vectors of the messages in a JSON list of session, id, version and vector that still have that version.
DELETE FROM message_vectors
WHERE place IN (
    SELECT messages.place
    FROM json_each(?2) AS wanted
    CROSS JOIN sessions ON sessions.namespace = ?1 AND sessions.name = wanted.value ->> 0
    CROSS JOIN messages ON messages.session = sessions.id AND messages.id = wanted.value ->> 1
        AND coalesce(edited, messages.created) = wanted.value ->> 2
);

-- keep_message_vectors
-- Store the vectors in the same list, for the same messages.
INSERT INTO message_vectors (place, namespace, model, vector)
SELECT messages.place, ?1, ?3, unhex(wanted.value ->> 3)
FROM json_each(?2) AS wanted
CROSS JOIN sessions ON sessions.namespace = ?1 AND sessions.name = wanted.value ->> 0
CROSS JOIN messages ON messages.session = sessions.id AND messages.id = wanted.value ->> 1
    AND coalesce(edited, messages.created) = wanted.value ->> 2;

-- delete_some_entry_vectors
-- Delete some vectors of the entries of a namespace.
DELETE FROM entry_vectors WHERE id IN (SELECT id FROM entry_vectors WHERE namespace = ?1 LIMIT ?2);

-- delete_some_message_vectors
-- Delete some vectors of messages between two row ids.
DELETE FROM message_vectors WHERE place IN (SELECT place FROM message_vectors WHERE place BETWEEN ?1 AND ?2 LIMIT ?3);

-- nearest_messages
-- The messages of some sessions whose vectors of a model are nearest to a vector.
SELECT place, vec_distance_cosine(vector, ?5) AS distance
FROM sessions
CROSS JOIN message_vectors ON place > sessions.id << 32 AND place <= (sessions.id << 32) + last_seq
WHERE sessions.namespace = ?1 AND sessions.id BETWEEN ?2 AND ?3 AND model = ?4
    AND octet_length(vector) = octet_length(?5)
ORDER BY distance NULLS LAST
LIMIT ?6;

-- nearest_entries
-- The live entries in the range of a prefix whose vectors of a model are nearest to a vector.
SELECT held.key, vec_distance_cosine(vector, ?5) AS distance
FROM entry_vectors AS held
CROSS JOIN entries ON entries.namespace = ?1 AND entries.key = held.key
WHERE held.namespace = ?1 AND held.key >= ?2 AND held.key < ?3 AND model = ?4
    AND octet_length(vector) = octet_length(?5) AND (expires IS NULL OR expires > ?7)
ORDER BY distance NULLS LAST
LIMIT ?6;

-- get_vector_bytes
-- The bytes of all vectors of a namespace, which triggers count.
SELECT vectors FROM namespaces WHERE id = ?1;
