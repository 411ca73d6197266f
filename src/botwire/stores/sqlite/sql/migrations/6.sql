-- The messages that pops with an idempotency key returned, for their repeats. Row ids increase with time. "upto" is the sum of the bytes
-- of these messages and of all kept before them, so that the newest can be kept up to a number of bytes. "version" is the version of
-- the namespace after the pop.
CREATE TABLE popped (
    id INTEGER PRIMARY KEY,
    namespace INTEGER NOT NULL,
    upto INTEGER NOT NULL,
    version INTEGER NOT NULL,
    session TEXT NOT NULL,
    created INTEGER NOT NULL,
    messages TEXT NOT NULL,
    UNIQUE (namespace, upto)
) STRICT;

CREATE INDEX popped_by_session ON popped (namespace, session);
