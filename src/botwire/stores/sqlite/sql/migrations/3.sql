-- The search index. The text of a message has the row id of the message, and texts of entries have ids below 2^32, which no message
-- has. botwire computes the terms. Each term begins with its namespace, so that a search does not read the terms of other namespaces.
CREATE VIRTUAL TABLE texts USING fts5(
    terms, content = '', contentless_delete = 1, detail = none, tokenize = "ascii tokenchars '_'"
);

CREATE VIRTUAL TABLE terms USING fts5vocab (texts, row);

-- The entry of each text, and the version of the entry that is indexed. If the entry has another version, the index is out of date.
CREATE TABLE entry_texts (
    id INTEGER PRIMARY KEY,
    namespace INTEGER NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    UNIQUE (namespace, key)
) STRICT;

-- "pending" lists the texts written since the last update of the index, one in each line. Search reads these texts from their rows.
-- "behind" is the position at which indexing of existing data continues. NULL: all is indexed. "off": the index is disabled.
-- "texts" and "words" are the numbers of texts and words in the index, for ranking.
ALTER TABLE namespaces ADD COLUMN pending TEXT NOT NULL DEFAULT '';
ALTER TABLE namespaces ADD COLUMN behind TEXT;
ALTER TABLE namespaces ADD COLUMN texts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE namespaces ADD COLUMN words INTEGER NOT NULL DEFAULT 0;

UPDATE namespaces SET behind = 'entries ';
