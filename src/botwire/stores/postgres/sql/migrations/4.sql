-- The bytes of a namespace's vectors, which have tables of their own (vectors.sql).
ALTER TABLE botwire.namespaces ADD COLUMN vectors bigint NOT NULL DEFAULT 0;
