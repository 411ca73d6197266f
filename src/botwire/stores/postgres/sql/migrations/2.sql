-- The words of what is stored, for search. The id of a message's text is its place; the ids of entries' texts are below 2^32,
-- where no place is. Their rows have the key and version of the entry. A term is the hash of the namespace and the word, so that
-- no namespace's search meets the postings of another. It takes 8 bytes, and a collision is found when the text is read.
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

-- Statistics on hashes are useless, and took ANALYZE a second.
ALTER TABLE botwire.texts ALTER COLUMN terms SET STATISTICS 0;

CREATE UNIQUE INDEX texts_by_key ON botwire.texts (namespace, key) WHERE key IS NOT NULL;
-- New texts wait in a list of at most a megabyte, which a search scans, and enter the index together.
CREATE INDEX texts_by_term ON botwire.texts USING gin (terms) WITH (gin_pending_list_limit = 1024);

-- As in SQLite, and "entry_texts": how many ids were given to texts of entries. The default is for existing
-- namespaces, so that their rows need not be written.
ALTER TABLE botwire.namespaces
    ADD COLUMN pending text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN behind text COLLATE "C" DEFAULT 'entries ',
    ADD COLUMN texts bigint NOT NULL DEFAULT 0,
    ADD COLUMN words bigint NOT NULL DEFAULT 0,
    ADD COLUMN entry_texts bigint NOT NULL DEFAULT 0;
ALTER TABLE botwire.namespaces ALTER COLUMN behind DROP DEFAULT;
UPDATE botwire.namespaces SET behind = 'off' WHERE name = E'\x01access';
