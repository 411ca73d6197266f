-- When the data of a message was last replaced, and the reason for which its text was removed.
ALTER TABLE messages ADD COLUMN edited INTEGER;
ALTER TABLE messages ADD COLUMN redacted TEXT;

-- An edited text has another meaning, so its vector is deleted.
CREATE TRIGGER message_edited AFTER UPDATE OF data ON messages BEGIN
    DELETE FROM message_vectors WHERE place = old.place;
END;

-- "version" is that of the namespace at the last change but an append. "active" is "updated" as the index has it: it is written when
-- the journal's records of the session move to a block, so that an append changes no index.
ALTER TABLE sessions ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN active INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN expires INTEGER;
ALTER TABLE sessions ADD COLUMN owner TEXT;

UPDATE sessions SET active = updated;

CREATE INDEX sessions_by_activity ON sessions (namespace, active, id);
CREATE INDEX sessions_by_creation ON sessions (namespace, created);
CREATE INDEX sessions_by_owner ON sessions (namespace, owner, active, id) WHERE owner IS NOT NULL;
CREATE INDEX sessions_by_expiry ON sessions (namespace, expires) WHERE expires IS NOT NULL;

-- What few sessions have. "version" is that of the namespace when owner, tags (a JSON list) and about (title and data) were set; the
-- session's column "owner" is the same, for its index. "origin" is the session that it was forked from. "summary" replaces the
-- messages up to "upto".
CREATE TABLE details (
    session INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,
    tags TEXT NOT NULL,
    about TEXT NOT NULL,
    origin TEXT,
    origin_seq INTEGER NOT NULL,
    upto INTEGER NOT NULL,
    summary TEXT
) STRICT;

CREATE TRIGGER session_deleted AFTER DELETE ON sessions BEGIN
    DELETE FROM details WHERE session = old.id;
END;

-- "retention": rules for how long sessions are kept, as JSON. "sessions_due": when some may have expired. "destroyed": the version at
-- which the namespace was destroyed; it is listed again from its next version on.
ALTER TABLE namespaces ADD COLUMN retention TEXT;
ALTER TABLE namespaces ADD COLUMN sessions_due INTEGER;
ALTER TABLE namespaces ADD COLUMN destroyed INTEGER NOT NULL DEFAULT -1;
