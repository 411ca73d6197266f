-- The bytes of a namespace's vectors. The vectors are in separate tables (vectors.sql).
ALTER TABLE botwire.namespaces ADD COLUMN vectors bigint NOT NULL DEFAULT 0;
