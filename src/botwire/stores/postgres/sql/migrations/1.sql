-- Every key begins with the name of the namespace, and nothing spans two namespaces. So the tables can be split by namespace:
-- here into partitions, elsewhere over servers. Text sorts by its UTF-8 bytes.
CREATE SCHEMA IF NOT EXISTS botwire;

CREATE TABLE botwire.schema (version integer NOT NULL);
INSERT INTO botwire.schema VALUES (0);

-- One row a namespace: its plan and its account. "version" numbers the changes of the namespace, "sessions" the sessions it
-- ever had; no entry of it expires before "expires".
CREATE TABLE botwire.namespaces (
    name text COLLATE "C" PRIMARY KEY,
    plan text,
    day bigint NOT NULL,
    writes bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT 0,
    expires bigint,
    sessions bigint NOT NULL DEFAULT 0
) PARTITION BY HASH (name);

-- A value is JSON text or bytes. Not jsonb: that would change numbers and the order of keys.
CREATE TABLE botwire.entries (
    namespace text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    created bigint NOT NULL,
    updated bigint NOT NULL,
    expires bigint,
    text text COLLATE "C",
    bytes bytea,
    PRIMARY KEY (namespace, key),
    CHECK (num_nonnulls(text, bytes) = 1)
) PARTITION BY HASH (namespace);

CREATE INDEX entries_by_expiry ON botwire.entries (namespace, expires) WHERE expires IS NOT NULL;

CREATE TABLE botwire.sessions (
    namespace text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    id bigint NOT NULL,
    last_seq bigint NOT NULL,
    bytes bigint NOT NULL,
    created bigint NOT NULL,
    updated bigint NOT NULL,
    PRIMARY KEY (namespace, name),
    UNIQUE (namespace, id)
) PARTITION BY HASH (namespace);

-- "place" is the session's id * 2^32 + seq.
CREATE TABLE botwire.messages (
    namespace text COLLATE "C" NOT NULL,
    place bigint NOT NULL,
    session bigint NOT NULL,
    id text COLLATE "C" NOT NULL,
    created bigint NOT NULL,
    data text COLLATE "C" NOT NULL,
    PRIMARY KEY (namespace, place),
    UNIQUE (namespace, session, id)
) PARTITION BY HASH (namespace);

-- The responses to writes with an idempotency key.
CREATE TABLE botwire.answers (
    namespace text COLLATE "C" NOT NULL,
    idempotency_key text COLLATE "C" NOT NULL,
    created bigint NOT NULL,
    results text COLLATE "C" NOT NULL,
    PRIMARY KEY (namespace, idempotency_key)
) PARTITION BY HASH (namespace);

CREATE INDEX answers_by_age ON botwire.answers (namespace, created);

-- Rows that are often updated get free space in their page, so that their indexes need no update (HOT updates).
DO $$
BEGIN
    FOR n IN 0..15 LOOP
        EXECUTE format('CREATE TABLE botwire.namespaces_%s PARTITION OF botwire.namespaces FOR VALUES WITH (MODULUS 16, REMAINDER %s) WITH (fillfactor = 50)', n, n);
        EXECUTE format('CREATE TABLE botwire.entries_%s PARTITION OF botwire.entries FOR VALUES WITH (MODULUS 16, REMAINDER %s) WITH (fillfactor = 80)', n, n);
        EXECUTE format('CREATE TABLE botwire.sessions_%s PARTITION OF botwire.sessions FOR VALUES WITH (MODULUS 16, REMAINDER %s) WITH (fillfactor = 80)', n, n);
        EXECUTE format('CREATE TABLE botwire.messages_%s PARTITION OF botwire.messages FOR VALUES WITH (MODULUS 16, REMAINDER %s)', n, n);
        EXECUTE format('CREATE TABLE botwire.answers_%s PARTITION OF botwire.answers FOR VALUES WITH (MODULUS 16, REMAINDER %s)', n, n);
    END LOOP;
END
$$;
