-- The state of each namespace. "version" counts its changes. "expires" is the time of the next expiry or earlier.
CREATE TABLE namespaces (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    plan TEXT,
    day INTEGER NOT NULL,
    writes INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 0,
    expires INTEGER
) STRICT;

-- A value of type TEXT is JSON, and a value of type BLOB is bytes.
CREATE TABLE entries (
    namespace INTEGER NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    expires INTEGER,
    value ANY NOT NULL,
    PRIMARY KEY (namespace, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX entries_by_expiry ON entries (namespace, expires) WHERE expires IS NOT NULL;

CREATE TABLE sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace INTEGER NOT NULL,
    name TEXT NOT NULL,
    last_seq INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    UNIQUE (namespace, name)
) STRICT;

CREATE INDEX sessions_by_age ON sessions (namespace, id);

-- The row id, "place", is session id * 2^32 + seq, so the messages of a session are adjacent and in order. A composite primary key
-- would need WITHOUT ROWID for this, and then rows larger than a quarter of a page, as most chat messages are, need overflow pages.
CREATE TABLE messages (
    place INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    id TEXT NOT NULL,
    created INTEGER NOT NULL,
    data TEXT NOT NULL,
    UNIQUE (session, id)
) STRICT;

-- The idempotency records: responses to writes with an idempotency key. Row ids increase with time. Old rows are deleted.
CREATE TABLE answers (
    id INTEGER PRIMARY KEY,
    namespace INTEGER NOT NULL,
    idempotency_key TEXT NOT NULL,
    created INTEGER NOT NULL,
    results TEXT NOT NULL,
    UNIQUE (namespace, idempotency_key)
) STRICT;
