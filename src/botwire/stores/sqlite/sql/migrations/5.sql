-- The vectors of texts, for search by meaning: of the messages, side by side and in order as these are, and of the entries.
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

-- The bytes of a namespace's vectors, which the triggers below keep.
ALTER TABLE namespaces ADD COLUMN vectors INTEGER NOT NULL DEFAULT 0;

-- A vector goes with the text that it is of, whatever removes or replaces that.
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
