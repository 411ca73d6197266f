-- The newest records of the journal, one in each line.
ALTER TABLE botwire.namespaces ADD COLUMN recent text COLLATE "C" NOT NULL DEFAULT '';

-- Blocks of older records of the journals, for watchers. "since" is the version before the first record, and "version" is that of
-- the last. "number" counts the blocks of a namespace.
CREATE TABLE botwire.changes (
    namespace text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    since bigint NOT NULL,
    number bigint NOT NULL,
    records text COLLATE "C" NOT NULL,
    PRIMARY KEY (namespace, version)
) PARTITION BY HASH (namespace);

DO $$
BEGIN
    FOR n IN 0..15 LOOP
        EXECUTE format('CREATE TABLE botwire.changes_%s PARTITION OF botwire.changes FOR VALUES WITH (MODULUS 16, REMAINDER %s)', n, n);
    END LOOP;
END
$$;
