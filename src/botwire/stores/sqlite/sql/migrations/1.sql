-- One row a namespace: its plan and its account. "version" numbers the changes of the namespace; no entry of it expires
-- before "expires".
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

-- A value of type TEXT is the JSON text of a JSON value, one of type BLOB is bytes.
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

-- "place" is the session's id * 2^32 + seq: the messages of a session lie side by side and in order in the table
-- itself. A composite primary key would do the same only WITHOUT ROWID, where rows over a quarter of a page, and
-- most chat messages are, spill into overflow pages.
CREATE TABLE messages (
    place INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    id TEXT NOT NULL,
    created INTEGER NOT NULL,
    data TEXT NOT NULL,
    UNIQUE (session, id)
) STRICT;

-- What was answered to writes that carried an idempotency key; the row ids grow with time, old rows are dropped.
CREATE TABLE answers (
    id INTEGER PRIMARY KEY,
    namespace INTEGER NOT NULL,
    idempotency_key TEXT NOT NULL,
    created INTEGER NOT NULL,
    results TEXT NOT NULL,
    UNIQUE (namespace, idempotency_key)
) STRICT;
