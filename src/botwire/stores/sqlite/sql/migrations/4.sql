-- Blocks of older lines of the journals, for those who watch; "since": the version before the first line, "version": that of
-- the last, "number": 1, 2, 3, ….
CREATE TABLE changes (
    namespace INTEGER NOT NULL,
    version INTEGER NOT NULL,
    since INTEGER NOT NULL,
    number INTEGER NOT NULL,
    records TEXT NOT NULL,
    PRIMARY KEY (namespace, version)
) STRICT, WITHOUT ROWID;

-- The newest lines of the journal.
ALTER TABLE namespaces ADD COLUMN recent TEXT NOT NULL DEFAULT '';
