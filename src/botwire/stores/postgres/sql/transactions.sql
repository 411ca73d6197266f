-- begin
-- Begin a transaction that reads and writes.
BEGIN;

-- begin_snapshot
-- Begin a transaction whose reads see the same data.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;

-- pin_session
-- Let a name without a schema mean PostgreSQL's own object, and a commit wait for the disk, for the rest of this session.
-- Everything here names its schema, because it runs before that is so.
SELECT
    pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false),
    CASE
        WHEN pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off'
        THEN pg_catalog.set_config('synchronous_commit', 'on', false)
    END;

-- pin
-- As pin_session, for the rest of this transaction.
SELECT
    pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true),
    CASE
        WHEN pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off'
        THEN pg_catalog.set_config('synchronous_commit', 'on', true)
    END;

-- plan_once
-- Use one generic plan for all values of each statement, so that none is planned again, for all partitions.
-- It never scans a whole table. A scan is cheap only while the table is small, and the plan is kept while the table grows.
SELECT set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true);

-- plan_custom
-- Plan each statement for its values, for a search: the best plan for a term depends on the number of texts in the namespace.
-- Parallel workers and the JIT compiler take longer to start than it takes to compare the vectors.
SELECT
    set_config('plan_cache_mode', 'force_custom_plan', true),
    set_config('enable_seqscan', 'off', true),
    set_config('max_parallel_workers_per_gather', '0', true),
    set_config('jit', 'off', true);

-- plan_merge
-- Read two tables in the same order, with one pass over both, even if the statistics are old.
SELECT
    set_config('plan_cache_mode', 'force_custom_plan', true),
    set_config('enable_seqscan', 'off', true),
    set_config('enable_nestloop', 'off', true),
    set_config('enable_hashjoin', 'off', true);

-- limit_times
-- Set the limits of a transaction in milliseconds, plan as plan_once does, and return the time in microseconds since 1970.
SELECT
    set_config('lock_timeout', $1, true),
    set_config('statement_timeout', $1, true),
    set_config('idle_in_transaction_session_timeout', $1, true),
    set_config('plan_cache_mode', 'force_generic_plan', true),
    set_config('enable_seqscan', 'off', true),
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;

-- time
-- The time in microseconds since 1970.
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;

-- get_ready_to_commit
-- Remove the timeout, and return whether any process listens.
-- A COMMIT that a timeout cancels while it waits for its replica reports success. While a process listens, the exclusive lock is
-- not granted. It is released at once, because another writer would treat this one as a listener.
SELECT
    set_config('statement_timeout', '0', true),
    CASE WHEN pg_try_advisory_lock(1112495191, 2) THEN NOT pg_advisory_unlock(1112495191, 2) ELSE true END;

-- commit
-- Commit the transaction.
COMMIT;

-- rollback
-- Undo the transaction.
ROLLBACK;

-- server_process
-- The id of the process that serves this connection.
SELECT pg_catalog.pg_backend_pid();

-- listen
-- Receive the notifications of botwire.
LISTEN botwire;

-- register_listener
-- Hold the lock by which writers know that they must notify, as long as this connection is open.
SELECT pg_advisory_lock_shared(1112495191, 2);

-- notify
-- Send a notification.
SELECT pg_notify('botwire', $1);
