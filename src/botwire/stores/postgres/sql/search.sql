-- add_texts
-- Index the texts in a JSON list. Their terms are separated by spaces.
INSERT INTO botwire.texts (namespace, id, key, version, terms)
SELECT $1, id, key, version, ARRAY(
    SELECT DISTINCT hashtextextended($1 || '_' || term, 0) FROM unnest(string_to_array(terms, ' ')) AS term
)
FROM json_to_recordset($2::json) AS given (id bigint, key text, version bigint, terms text)
ON CONFLICT (namespace, id) DO UPDATE SET version = excluded.version, terms = excluded.terms;

-- drop_texts
-- Remove the texts with the ids in a JSON list from the index.
DELETE FROM botwire.texts
WHERE namespace = $1 AND id = ANY (ARRAY(SELECT json_array_elements_text($2::json)::bigint));

-- delete_texts
-- Remove the texts in a range of ids from the index. Returns their number.
WITH removed AS (DELETE FROM botwire.texts WHERE namespace = $1 AND id BETWEEN $2 AND $3 RETURNING id)
SELECT count(*) FROM removed;

-- delete_some_texts
-- Remove some texts in a range of ids from the index. Returns their number.
WITH removed AS (
    DELETE FROM botwire.texts
    WHERE namespace = $1 AND id = ANY (ARRAY(
        SELECT id FROM botwire.texts WHERE namespace = $1 AND id BETWEEN $2 AND $3 LIMIT $4
    ))
    RETURNING id
)
SELECT count(*) FROM removed;

-- delete_texts_of_entries
-- Remove the entries in the range of a prefix from the index. Returns their number.
WITH removed AS (DELETE FROM botwire.texts WHERE namespace = $1 AND key >= $2 AND key < $3 RETURNING id)
SELECT count(*) FROM removed;

-- delete_some_texts_of_entries
-- Remove some entries of a namespace from the index. Returns their number.
WITH removed AS (
    DELETE FROM botwire.texts
    WHERE namespace = $1 AND id = ANY (ARRAY(
        SELECT id FROM botwire.texts WHERE namespace = $1 AND id < 4294967296 LIMIT $2
    ))
    RETURNING id
)
SELECT count(*) FROM removed;

-- free_entry_text
-- The first text id of an entry in a range that no text of a namespace has.
SELECT $2::bigint AS free WHERE NOT EXISTS (SELECT FROM botwire.texts WHERE namespace = $1 AND id = $2::bigint)
UNION ALL
(
    SELECT id + 1
    FROM botwire.texts AS used
    WHERE namespace = $1 AND id >= $2::bigint AND id < $3::bigint
        AND NOT EXISTS (SELECT FROM botwire.texts WHERE namespace = $1 AND id = used.id + 1)
    ORDER BY id
    LIMIT 1
)
ORDER BY free
LIMIT 1;

-- entries_to_index
-- The indexed and the stored versions of the entries in a JSON list of keys, and values to index, until these have some bytes.
WITH wanted AS MATERIALIZED (
    SELECT each.number, each.key, indexed.id AS text, indexed.version AS indexed, held.version,
        sum(held.length) FILTER (WHERE indexed.version IS DISTINCT FROM held.version) OVER (
            ORDER BY number ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS before
    FROM json_array_elements_text($2::json) WITH ORDINALITY AS each (key, number)
    LEFT JOIN LATERAL (
        SELECT id, version FROM botwire.texts WHERE namespace = $1 AND key = each.key OFFSET 0
    ) AS indexed ON true
    LEFT JOIN LATERAL (
        SELECT version, coalesce(octet_length(text), octet_length(bytes)) AS length
        FROM botwire.entries
        WHERE namespace = $1 AND key = each.key
        OFFSET 0
    ) AS held ON true
)
SELECT wanted.key, wanted.text, indexed, version, held.text, held.bytes
FROM wanted
LEFT JOIN LATERAL (
    SELECT text, bytes
    FROM botwire.entries
    WHERE namespace = $1 AND key = wanted.key AND indexed IS DISTINCT FROM wanted.version
    OFFSET 0
) AS held ON true
WHERE before IS NULL OR before < $3
ORDER BY number;

-- messages_to_index
-- The row ids of a JSON list, each with its message if that is not in the index, until these have some bytes.
WITH wanted AS MATERIALIZED (
    SELECT each.number, each.place, length,
        sum(length) OVER (ORDER BY number ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM (
        SELECT number, id::bigint AS place FROM json_array_elements_text($2::json) WITH ORDINALITY AS item (id, number)
    ) AS each
    LEFT JOIN LATERAL (
        SELECT octet_length(data) AS length
        FROM botwire.messages
        WHERE namespace = $1 AND messages.place = each.place
            AND NOT EXISTS (SELECT FROM botwire.texts WHERE texts.namespace = $1 AND texts.id = each.place OFFSET 0)
        OFFSET 0
    ) AS held ON true
)
SELECT wanted.place, data
FROM wanted
LEFT JOIN LATERAL (
    SELECT data FROM botwire.messages WHERE namespace = $1 AND messages.place = wanted.place AND length IS NOT NULL OFFSET 0
) AS held ON true
WHERE before IS NULL OR before < $3
ORDER BY number;

-- keys_to_index
-- Keys of a namespace after a key.
SELECT key FROM botwire.entries WHERE namespace = $1 AND key > $2 ORDER BY key LIMIT $3;

-- sessions_from
-- The sessions of a namespace with ids from a given one on, and their numbers of messages.
SELECT id, last_seq FROM botwire.sessions WHERE namespace = $1 AND id >= $2 ORDER BY id LIMIT $3;

-- count_texts
-- The number of texts that contain each term of a JSON list, for terms in at least one text. Above 10,000, it is estimated from the newest 1,000 texts.
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
-- The ids, within a range, of the texts that contain each term of a JSON list.
SELECT place - 1, held.id
FROM json_array_elements_text($2::json) WITH ORDINALITY AS wanted (term, place)
CROSS JOIN LATERAL (
    SELECT id
    FROM botwire.texts
    WHERE namespace = $1 AND terms @> ARRAY[hashtextextended($1 || '_' || wanted.term, 0)] AND id BETWEEN $3 AND $4
    OFFSET 0
) AS held;

-- newest_texts_with
-- The ids, within a range, of the newest 20,000 texts that contain a term, the newest first.
SELECT id
FROM (
    SELECT id, terms FROM botwire.texts WHERE namespace = $1 AND id BETWEEN $3 AND $4 ORDER BY id DESC LIMIT 20000
) AS newest
WHERE hashtextextended($1 || '_' || $2, 0) = ANY (terms)
ORDER BY id DESC
LIMIT $5;

-- newest_texts_with_both
-- The ids, within a range, of the texts that contain a term and one of a JSON list, the newest first.
SELECT id
FROM botwire.texts
WHERE namespace = $1 AND terms @> ARRAY[hashtextextended($1 || '_' || $2, 0)]
    AND terms && ARRAY(SELECT hashtextextended($1 || '_' || term, 0) FROM json_array_elements_text($3::json) AS term)
    AND id BETWEEN $4 AND $5
ORDER BY id DESC
LIMIT $6;

-- messages_at
-- The messages in a JSON list of row ids, in its order, until they have some bytes.
WITH wanted AS MATERIALIZED (
    SELECT number, place, sum(length) OVER (ORDER BY number ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM json_array_elements_text($2::json) WITH ORDINALITY AS item (id, number)
    CROSS JOIN LATERAL (
        SELECT place, octet_length(data) AS length FROM botwire.messages WHERE namespace = $1 AND place = item.id::bigint OFFSET 0
    ) AS held
)
SELECT place, sessions.name, place & 4294967295, held.id, data, held.created, edited, redacted
FROM wanted
CROSS JOIN LATERAL (
    SELECT session, id, data, created, edited, redacted
    FROM botwire.messages
    WHERE namespace = $1 AND place = wanted.place
    OFFSET 0
) AS held
JOIN botwire.sessions ON sessions.namespace = $1 AND sessions.id = held.session
WHERE before IS NULL OR before < $3
ORDER BY number;

-- entries_at
-- The live entries of a JSON list of text ids, in its order, if the indexed version is the current one, until they have some bytes.
WITH wanted AS MATERIALIZED (
    SELECT number, item.id::bigint AS id, held.key,
        sum(length) OVER (ORDER BY number ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM json_array_elements_text($2::json) WITH ORDINALITY AS item (id, number)
    CROSS JOIN LATERAL (
        SELECT key, version FROM botwire.texts WHERE namespace = $1 AND texts.id = item.id::bigint OFFSET 0
    ) AS indexed
    CROSS JOIN LATERAL (
        SELECT key, octet_length(text) AS length
        FROM botwire.entries
        WHERE namespace = $1 AND key = indexed.key AND version = indexed.version AND (expires IS NULL OR expires > $3)
        OFFSET 0
    ) AS held
)
SELECT id, key, text, version, created, updated, expires
FROM wanted
CROSS JOIN LATERAL (
    SELECT text, version, created, updated, expires FROM botwire.entries WHERE namespace = $1 AND key = wanted.key OFFSET 0
) AS held
WHERE before IS NULL OR before < $4
ORDER BY number;

-- entries_named
-- The live entries in a JSON list of keys, in its order, until they have some bytes.
WITH wanted AS MATERIALIZED (
    SELECT number, item.key, sum(length) OVER (ORDER BY number ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM json_array_elements_text($2::json) WITH ORDINALITY AS item (key, number)
    CROSS JOIN LATERAL (
        SELECT coalesce(octet_length(text), octet_length(bytes)) AS length
        FROM botwire.entries
        WHERE namespace = $1 AND entries.key = item.key AND (expires IS NULL OR expires > $3)
        OFFSET 0
    ) AS held
)
SELECT key, text, bytes, version, created, updated, expires
FROM wanted
CROSS JOIN LATERAL (
    SELECT text, bytes, version, created, updated, expires
    FROM botwire.entries
    WHERE namespace = $1 AND key = wanted.key
    OFFSET 0
) AS held
WHERE before IS NULL OR before < $4
ORDER BY number;

-- texts_of_entries
-- The text ids of some entries in the range of a prefix.
SELECT id FROM botwire.texts WHERE namespace = $1 AND key >= $2 AND key < $3 LIMIT $4;

-- entries_without_vector
-- Live entries after a key that have no vector of a model, until they fill some bytes.
SELECT key, version, text
FROM (
    SELECT
        entries.key, entries.version, text,
        sum(100 + octet_length(text) / 2)
            OVER (ORDER BY entries.key ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM botwire.entries
    LEFT JOIN (
        SELECT key, version
        FROM botwire.entry_vectors
        WHERE namespace = $1 AND key > $3 AND model = $2
        ORDER BY key
        OFFSET 0
    ) AS held ON held.key = entries.key AND held.version = entries.version
    WHERE namespace = $1 AND entries.key > $3 AND (expires IS NULL OR expires > $4) AND text IS NOT NULL
        AND held.key IS NULL
    ORDER BY entries.key
    LIMIT $5
) AS page
WHERE coalesce(before, 0) < $6
ORDER BY key;

-- messages_without_vector
-- Messages after a row id that have no vector of a model, beginning with a session, until they fill some bytes.
SELECT
    place, (SELECT name FROM botwire.sessions WHERE namespace = $1 AND sessions.id = page.session), id, version, data
FROM (
    SELECT
        messages.place, session, id, coalesce(edited, created) AS version, data,
        sum(100 + octet_length(data) / 2)
            OVER (ORDER BY messages.place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM botwire.messages
    LEFT JOIN (
        SELECT place, version
        FROM botwire.message_vectors
        WHERE namespace = $1 AND place > greatest($4, $3::bigint << 32) AND model = $2
        ORDER BY place
        OFFSET 0
    ) AS held ON held.place = messages.place AND held.version = coalesce(edited, created)
    WHERE namespace = $1 AND messages.place > greatest($4, $3::bigint << 32) AND held.place IS NULL
    ORDER BY messages.place
    LIMIT $5
) AS page
WHERE coalesce(before, 0) < $6
ORDER BY place;

-- keep_entry_vectors
-- Store the vectors in a JSON list of key, version and vector, for entries that still have that version.
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
-- Store the vectors in a JSON list of session, id, version and vector, for messages that still have that version.
WITH fit AS MATERIALIZED (
    SELECT held.place, held.version, (wanted.item ->> 3)::real[] AS vector
    FROM json_array_elements($2::json) AS wanted (item)
    CROSS JOIN LATERAL (
        SELECT id FROM botwire.sessions WHERE namespace = $1 AND name = wanted.item ->> 0 OFFSET 0
    ) AS begun
    CROSS JOIN LATERAL (
        SELECT place, coalesce(edited, created) AS version
        FROM botwire.messages
        WHERE namespace = $1 AND session = begun.id AND id = wanted.item ->> 1
            AND coalesce(edited, created) = (wanted.item ->> 2)::bigint
        OFFSET 0
    ) AS held
), before AS MATERIALIZED (
    SELECT coalesce(sum(bytes), 0) AS bytes
    FROM botwire.message_vectors
    WHERE namespace = $1 AND place = ANY (ARRAY(SELECT place FROM fit))
), kept AS (
    INSERT INTO botwire.message_vectors (namespace, place, version, model, bytes, vector)
    SELECT $1, place, version, $3, 4 * cardinality(vector), vector FROM fit
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
-- Delete the vectors of the entries in a JSON list. Used within removing_vectors.sql.
DELETE FROM botwire.entry_vectors
WHERE namespace = $1 AND key = ANY (ARRAY(SELECT json_array_elements_text($2::json)))
RETURNING bytes;

-- drop_vectors_of_entries
-- Delete the vectors of the entries in the range of a prefix. Used within removing_vectors.sql.
DELETE FROM botwire.entry_vectors
WHERE namespace = $1 AND key >= $2 AND key < $3
RETURNING bytes;

-- drop_vectors_of_messages
-- Delete the vectors of the messages after one row id and up to another. Used within removing_vectors.sql.
DELETE FROM botwire.message_vectors
WHERE namespace = $1 AND place > $2 AND place <= $3
RETURNING bytes;

-- delete_some_entry_vectors
-- Delete some vectors of the entries of a namespace. Used within removing_vectors.sql.
DELETE FROM botwire.entry_vectors
WHERE namespace = $1 AND key = ANY (ARRAY(SELECT key FROM botwire.entry_vectors WHERE namespace = $1 LIMIT $2))
RETURNING bytes;

-- delete_some_message_vectors
-- Delete some vectors of messages between two row ids. Used within removing_vectors.sql.
DELETE FROM botwire.message_vectors
WHERE namespace = $1 AND place = ANY (ARRAY(
    SELECT place FROM botwire.message_vectors WHERE namespace = $1 AND place BETWEEN $2 AND $3 LIMIT $4
))
RETURNING bytes;

-- nearest_messages
-- The messages of some sessions whose vectors of a model are nearest to a vector.
SELECT near.place, distance
FROM (
    SELECT place, version, botwire.distance(vector, $5) AS distance
    FROM botwire.message_vectors
    WHERE namespace = $1 AND place > $2::bigint << 32 AND place <= ($3::bigint << 32) + 4294967295 AND model = $4
    ORDER BY distance
    LIMIT $6
) AS near
CROSS JOIN LATERAL (
    SELECT FROM botwire.messages
    WHERE namespace = $1 AND messages.place = near.place AND coalesce(edited, created) = near.version
    OFFSET 0
) AS held
ORDER BY distance;

-- nearest_entries
-- The live entries in the range of a prefix whose vectors of a model are nearest to a vector.
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

-- get_vector_bytes
-- The bytes of all vectors of a namespace.
SELECT vectors FROM botwire.namespaces WHERE name = $1;
