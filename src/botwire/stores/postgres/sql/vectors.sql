-- The vectors of texts, for search by meaning: of the messages, side by side and in order as these are, and of the entries. Not
-- a migration, because it takes the extension pgvector, which is not everywhere: made when somebody first asks for vectors.
-- {pgvector} is the schema in which the extension is.
--
-- A vector is of its text as that was at "version": that of the entry, or when the message was stored. Whoever writes removes
-- the vectors of what he removes or replaces; a process of an older botwire, which does not know of them, makes them void.
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

-- Vectors of up to 1,000 numbers lie in their rows, and not in pieces beside them, from where it takes longer to read them.
DO $$
BEGIN
    FOR n IN 0..15 LOOP
        EXECUTE format('CREATE TABLE botwire.message_vectors_%s PARTITION OF botwire.message_vectors FOR VALUES WITH (MODULUS 16, REMAINDER %s) WITH (toast_tuple_target = 4080)', n, n);
        EXECUTE format('CREATE TABLE botwire.entry_vectors_%s PARTITION OF botwire.entry_vectors FOR VALUES WITH (MODULUS 16, REMAINDER %s) WITH (toast_tuple_target = 4080)', n, n);
    END LOOP;
END
$$;

-- Which vectors are frequent is of no use to anybody.
ALTER TABLE botwire.message_vectors ALTER COLUMN vector SET STATISTICS 0;
ALTER TABLE botwire.entry_vectors ALTER COLUMN vector SET STATISTICS 0;

-- How far two vectors are apart: 1 less the cosine of the angle between them. NULL when one is of zeros, or of another length.
CREATE FUNCTION botwire.distance(one {pgvector}.vector, other {pgvector}.vector) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN {pgvector}.vector_dims(one) = {pgvector}.vector_dims(other)
    THEN nullif(one OPERATOR({pgvector}.<=>) other, 'NaN')
END;

-- What a database that was restored without these tables had counted.
UPDATE botwire.namespaces SET vectors = 0 WHERE vectors <> 0;
