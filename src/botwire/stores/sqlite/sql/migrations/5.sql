-- The vectors of messages and entries, for search by meaning. The vectors of a session are adjacent and in order.
CREATE TABLE message_vectors (
    place INTEGER PRIMARY KEY,
    namespace INTEGER NOT NULL,
    model TEXT NOT NULL,
    vector BLOB NOT NULL
) STRICT;

CREATE TABLE entry_vectors (
    id INTEGER PRIMARY KEY,
    namespace INTEGER NOT NULL,
    key TEXT NOT NULL,
    model TEXT NOT NULL,
    vector BLOB NOT NULL,
    UNIQUE (namespace, key)
) STRICT;

-- The bytes of a namespace's vectors. The triggers below update it.
ALTER TABLE namespaces ADD COLUMN vectors INTEGER NOT NULL DEFAULT 0;

-- Any statement that deletes or replaces a text also deletes its vector.
CREATE TRIGGER message_deleted AFTER DELETE ON messages BEGIN
    DELETE FROM message_vectors WHERE place = old.place;
END;

CREATE TRIGGER entry_deleted AFTER DELETE ON entries BEGIN
    DELETE FROM entry_vectors WHERE namespace = old.namespace AND key = old.key;
END;

CREATE TRIGGER entry_replaced AFTER UPDATE OF value ON entries BEGIN
    DELETE FROM entry_vectors WHERE namespace = old.namespace AND key = old.key;
END;

CREATE TRIGGER message_vector_kept AFTER INSERT ON message_vectors BEGIN
    UPDATE namespaces SET vectors = vectors + octet_length(new.vector) WHERE id = new.namespace;
END;

CREATE TRIGGER entry_vector_kept AFTER INSERT ON entry_vectors BEGIN
    UPDATE namespaces SET vectors = vectors + octet_length(new.vector) WHERE id = new.namespace;
END;

CREATE TRIGGER message_vector_gone AFTER DELETE ON message_vectors BEGIN
    UPDATE namespaces SET vectors = vectors - octet_length(old.vector) WHERE id = old.namespace;
END;

CREATE TRIGGER entry_vector_gone AFTER DELETE ON entry_vectors BEGIN
    UPDATE namespaces SET vectors = vectors - octet_length(old.vector) WHERE id = old.namespace;
END;
