-- The words of what is stored, for search. The id of a message's text is its place; the ids of entries' texts are below
-- 2^32, where no place is. Terms come ready made, each with its namespace in front, so that no namespace's search meets the
-- postings of another.
CREATE VIRTUAL TABLE texts USING fts5(
    terms, content = '', contentless_delete = 1, detail = none, tokenize = "ascii tokenchars '_'"
);

CREATE VIRTUAL TABLE terms USING fts5vocab (texts, row);

-- Which entry a text is of, and at which version: at any other it is out of date.
CREATE TABLE entry_texts (
    id INTEGER PRIMARY KEY,
    namespace INTEGER NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    UNIQUE (namespace, key)
) STRICT;

-- "pending": what was written since the index was last brought up to date, a line each; search reads it anew.
-- "behind": where to go on with what is older than the index; NULL: nowhere; "off": nothing is indexed.
-- "texts" and "words": how many there are in the index, as far as ranking needs to know.
ALTER TABLE namespaces ADD COLUMN pending TEXT NOT NULL DEFAULT '';
ALTER TABLE namespaces ADD COLUMN behind TEXT;
ALTER TABLE namespaces ADD COLUMN texts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE namespaces ADD COLUMN words INTEGER NOT NULL DEFAULT 0;

UPDATE namespaces SET behind = 'entries ';
