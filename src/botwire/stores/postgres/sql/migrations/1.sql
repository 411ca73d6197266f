-- Every key begins with the name of the namespace, and no row belongs to two namespaces. So the tables can be partitioned by
-- namespace. Text is ordered by its UTF-8 bytes.
CREATE SCHEMA IF NOT EXISTS botwire;

CREATE TABLE botwire.schema (version integer NOT NULL);
INSERT INTO botwire.schema VALUES (0);

-- The state of each namespace. "version" counts its changes, and "sessions" counts all sessions it ever had. "expires" is the
-- time of the next expiry or earlier.
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

-- A value is JSON text or bytes. It is not jsonb, because jsonb changes numbers and the order of keys.
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

-- The row id, "place", is session id * 2^32 + seq.
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

-- The idempotency records: responses to writes with an idempotency key.
CREATE TABLE botwire.answers (
    namespace text COLLATE "C" NOT NULL,
    idempotency_key text COLLATE "C" NOT NULL,
    created bigint NOT NULL,
    results text COLLATE "C" NOT NULL,
    PRIMARY KEY (namespace, idempotency_key)
) PARTITION BY HASH (namespace);

CREATE INDEX answers_by_age ON botwire.answers (namespace, created);

-- Pages with frequently updated rows have free space, so that an update does not change the indexes (HOT updates).
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
