-- Wraps a statement that removes vectors and returns the bytes of each. Subtracts these from the namespace's bytes of vectors, and
-- returns the number of vectors.
WITH removed AS (
{removal}
), counted AS (
    UPDATE botwire.namespaces
    SET vectors = vectors - (SELECT sum(bytes) FROM removed)
    WHERE name = $1 AND EXISTS (SELECT FROM removed)
)
SELECT count(*) FROM removed;
