-- The vectors of messages and entries, for search by meaning. This is not a migration, because not every server has the extension
-- pgvector. The first call that needs vectors runs it. {pgvector} is the schema of the extension.
--
-- "version" is the version of the entry, or the time at which the message was stored or last edited. A write deletes the vectors of the texts that
-- it deletes or replaces. An older botwire does not delete them, but then their version no longer matches.
CREATE TABLE botwire.message_vectors (
    namespace text COLLATE "C" NOT NULL,
    place bigint NOT NULL,
    version bigint NOT NULL,
    model text COLLATE "C" NOT NULL,
    bytes integer NOT NULL,
    vector {pgvector}.vector NOT NULL,
    PRIMARY KEY (namespace, place) INCLUDE (model, version)
) PARTITION BY HASH (namespace);

CREATE TABLE botwire.entry_vectors (
    namespace text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    model text COLLATE "C" NOT NULL,
    bytes integer NOT NULL,
    vector {pgvector}.vector NOT NULL,
    PRIMARY KEY (namespace, key) INCLUDE (model, version)
) PARTITION BY HASH (namespace);

-- Vectors of up to 1,000 numbers are stored in their rows, because reading them from the TOAST table takes longer.
DO $$
BEGIN
    FOR n IN 0..15 LOOP
        EXECUTE format('CREATE TABLE botwire.message_vectors_%s PARTITION OF botwire.message_vectors FOR VALUES WITH (MODULUS 16, REMAINDER %s) WITH (toast_tuple_target = 4080)', n, n);
        EXECUTE format('CREATE TABLE botwire.entry_vectors_%s PARTITION OF botwire.entry_vectors FOR VALUES WITH (MODULUS 16, REMAINDER %s) WITH (toast_tuple_target = 4080)', n, n);
    END LOOP;
END
$$;

-- Statistics on vectors are useless.
ALTER TABLE botwire.message_vectors ALTER COLUMN vector SET STATISTICS 0;
ALTER TABLE botwire.entry_vectors ALTER COLUMN vector SET STATISTICS 0;

-- The cosine distance of two vectors. NULL if one contains only zeros, or their lengths differ.
CREATE FUNCTION botwire.distance(one {pgvector}.vector, other {pgvector}.vector) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN {pgvector}.vector_dims(one) = {pgvector}.vector_dims(other)
    THEN nullif(one OPERATOR({pgvector}.<=>) other, 'NaN')
END;

-- A database that was restored without these tables may still have counted vectors.
UPDATE botwire.namespaces SET vectors = 0 WHERE vectors <> 0;
