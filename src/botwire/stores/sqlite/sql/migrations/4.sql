-- Blocks of older records of the journals, for watchers. "since" is the version before the first record, and "version" is that of
-- the last. "number" counts the blocks of a namespace.
CREATE TABLE changes (
    namespace INTEGER NOT NULL,
    version INTEGER NOT NULL,
    since INTEGER NOT NULL,
    number INTEGER NOT NULL,
    records TEXT NOT NULL,
    PRIMARY KEY (namespace, version)
) STRICT, WITHOUT ROWID;

-- The newest records of the journal, one in each line.
ALTER TABLE namespaces ADD COLUMN recent TEXT NOT NULL DEFAULT '';
