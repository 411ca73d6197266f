-- The bytes of a namespace's vectors, which lie in tables of their own (vectors.sql) once there are some.
ALTER TABLE botwire.namespaces ADD COLUMN vectors bigint NOT NULL DEFAULT 0;
