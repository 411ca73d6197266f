-- The messages that pops with an idempotency key returned, for their repeats. "upto" is the sum of the bytes of these messages and of
-- all kept before them, so that the newest can be kept up to a number of bytes. "version" is the version of the namespace after the
-- pop.
CREATE TABLE botwire.popped (
    namespace text COLLATE "C" NOT NULL,
    upto bigint NOT NULL,
    version bigint NOT NULL,
    session text COLLATE "C" NOT NULL,
    created bigint NOT NULL,
    messages text COLLATE "C" NOT NULL,
    PRIMARY KEY (namespace, upto)
) PARTITION BY HASH (namespace);

CREATE INDEX popped_by_session ON botwire.popped (namespace, session);

DO $$
BEGIN
    FOR n IN 0..15 LOOP
        EXECUTE format('CREATE TABLE botwire.popped_%s PARTITION OF botwire.popped FOR VALUES WITH (MODULUS 16, REMAINDER %s)', n, n);
    END LOOP;
END
$$;
