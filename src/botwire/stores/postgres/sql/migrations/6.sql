-- When the data of a message was last replaced, and the reason for which its text was removed.
ALTER TABLE botwire.messages ADD COLUMN edited bigint, ADD COLUMN redacted text COLLATE "C";

-- The columns of SQLite's migration 8. An append must not change an index, or its update of the session is not HOT. So "active" is
-- "updated" as the index has it: it is written when the journal's records of the session move to a block.
ALTER TABLE botwire.sessions
    ADD COLUMN version bigint NOT NULL DEFAULT 0,
    ADD COLUMN active bigint NOT NULL DEFAULT 0,
    ADD COLUMN expires bigint,
    ADD COLUMN owner text COLLATE "C";

-- This rewrites the table in less than half of the time of an UPDATE, and leaves no dead rows.
ALTER TABLE botwire.sessions ALTER COLUMN active TYPE bigint USING updated;

CREATE INDEX sessions_by_activity ON botwire.sessions (namespace, active, id);
CREATE INDEX sessions_by_creation ON botwire.sessions (namespace, created);
CREATE INDEX sessions_by_owner ON botwire.sessions (namespace, owner, active, id) WHERE owner IS NOT NULL;
CREATE INDEX sessions_by_expiry ON botwire.sessions (namespace, expires) WHERE expires IS NOT NULL;

CREATE TABLE botwire.details (
    namespace text COLLATE "C" NOT NULL,
    session bigint NOT NULL,
    version bigint NOT NULL,
    tags text COLLATE "C" NOT NULL,
    about text COLLATE "C" NOT NULL,
    origin text COLLATE "C",
    origin_seq bigint NOT NULL,
    upto bigint NOT NULL,
    summary text COLLATE "C",
    PRIMARY KEY (namespace, session)
) PARTITION BY HASH (namespace);

DO $$
BEGIN
    FOR n IN 0..15 LOOP
        EXECUTE format('CREATE TABLE botwire.details_%s PARTITION OF botwire.details FOR VALUES WITH (MODULUS 16, REMAINDER %s)', n, n);
    END LOOP;
END
$$;

ALTER TABLE botwire.namespaces
    ADD COLUMN retention text COLLATE "C",
    ADD COLUMN sessions_due bigint,
    ADD COLUMN destroyed bigint NOT NULL DEFAULT -1;
