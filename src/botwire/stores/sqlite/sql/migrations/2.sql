-- One row. "seen" is the latest time of a write, updated every few seconds. "turns" counts how often the clock was set back.
CREATE TABLE clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seen INTEGER NOT NULL,
    turns INTEGER NOT NULL
) STRICT;

INSERT INTO clock (id, seen, turns) VALUES (1, 0, 0);
