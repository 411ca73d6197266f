-- The search index. The text of a message has the row id of the message, and texts of entries have ids below 2^32, which no message
-- has. The row of an entry's text has the key and version of the entry. A term is a hash of the namespace and the word, so that a
-- search does not read the terms of other namespaces. It takes 8 bytes. A collision is detected when the text is read.
CREATE TABLE botwire.texts (
    namespace text COLLATE "C" NOT NULL,
    id bigint NOT NULL,
    key text COLLATE "C",
    version bigint,
    terms bigint[] NOT NULL,
    PRIMARY KEY (namespace, id)
) PARTITION BY HASH (namespace);

DO $$
BEGIN
    FOR n IN 0..15 LOOP
        EXECUTE format('CREATE TABLE botwire.texts_%s PARTITION OF botwire.texts FOR VALUES WITH (MODULUS 16, REMAINDER %s) WITH (fillfactor = 80)', n, n);
    END LOOP;
END
$$;

-- Statistics on hashes are useless and make ANALYZE slow.
ALTER TABLE botwire.texts ALTER COLUMN terms SET STATISTICS 0;

CREATE UNIQUE INDEX texts_by_key ON botwire.texts (namespace, key) WHERE key IS NOT NULL;
-- New texts are in a pending list of at most one megabyte, which a search scans. They are added to the index together.
CREATE INDEX texts_by_term ON botwire.texts USING gin (terms) WITH (gin_pending_list_limit = 1024);

-- The columns of SQLite's migration 3, and "entry_texts": the number of ids used for texts of entries. The default is for existing
-- namespaces, so that their rows are not rewritten.
ALTER TABLE botwire.namespaces
    ADD COLUMN pending text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN behind text COLLATE "C" DEFAULT 'entries ',
    ADD COLUMN texts bigint NOT NULL DEFAULT 0,
    ADD COLUMN words bigint NOT NULL DEFAULT 0,
    ADD COLUMN entry_texts bigint NOT NULL DEFAULT 0;
ALTER TABLE botwire.namespaces ALTER COLUMN behind DROP DEFAULT;
UPDATE botwire.namespaces SET behind = 'off' WHERE name = E'\x01access';
