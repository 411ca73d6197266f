-- What a statement of queries.sql that removes vectors is put into. It returns the bytes of each that it removes, and these are
-- taken from what the namespace has. How many vectors they were.
WITH gone AS (
{removal}
), counted AS (
    UPDATE botwire.namespaces
    SET vectors = vectors - (SELECT sum(bytes) FROM gone)
    WHERE name = $1 AND EXISTS (SELECT FROM gone)
)
SELECT count(*) FROM gone;
