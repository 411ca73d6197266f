-- Wraps a statement that deletes vectors and returns the bytes of each. Subtracts these bytes from the namespace state, and
-- returns the number of deleted vectors.
WITH removed AS (
{removal}
), counted AS (
    UPDATE botwire.namespaces
    SET vectors = vectors - (SELECT sum(bytes) FROM removed)
    WHERE name = $1 AND EXISTS (SELECT FROM removed)
)
SELECT count(*) FROM removed;
