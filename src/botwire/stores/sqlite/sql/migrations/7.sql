-- A table with row ids. To find a key in a table WITHOUT ROWID, SQLite reads whole rows on the way, with all of their overflow pages:
-- beside values of 15 MB, each read and write of any small entry in the file took 20 ms.
CREATE TABLE new_entries (
    namespace INTEGER NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    expires INTEGER,
    value ANY NOT NULL,
    UNIQUE (namespace, key)
) STRICT;

INSERT INTO new_entries (namespace, key, version, created, updated, expires, value)
SELECT namespace, key, version, created, updated, expires, value FROM entries ORDER BY namespace, key;

DROP TABLE entries;

ALTER TABLE new_entries RENAME TO entries;

CREATE INDEX entries_by_expiry ON entries (namespace, expires) WHERE expires IS NOT NULL;

CREATE TRIGGER entry_deleted AFTER DELETE ON entries BEGIN
    DELETE FROM entry_vectors WHERE namespace = old.namespace AND key = old.key;
END;

CREATE TRIGGER entry_replaced AFTER UPDATE OF value ON entries BEGIN
    DELETE FROM entry_vectors WHERE namespace = old.namespace AND key = old.key;
END;
