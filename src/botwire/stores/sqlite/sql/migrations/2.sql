-- One row: the latest time by which the file was written, kept roughly, and how often it has gone back in time since.
CREATE TABLE clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seen INTEGER NOT NULL,
    turns INTEGER NOT NULL
) STRICT;

INSERT INTO clock (id, seen, turns) VALUES (1, 0, 0);
