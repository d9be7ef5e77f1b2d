-- Sample data for the Cello schema: 300 projects, 6,000 tokens, the same each time. Nothing is random: every choice is the
-- md5 of a seed. A few projects have a hundred tokens and more, many have only some, some none.

-- A number from 0 to n - 1 that only the seed decides.
CREATE FUNCTION pg_temp.roll(seed text, n integer) RETURNS integer LANGUAGE sql IMMUTABLE
RETURN ((('x' || substr(md5(seed), 1, 8))::bit(32)::bigint) % n)::integer;

-- The name of project number k.
CREATE FUNCTION pg_temp.project(k integer) RETURNS text LANGUAGE sql IMMUTABLE
RETURN (ARRAY['billing', 'search', 'checkout', 'identity', 'ledger', 'notify', 'metrics', 'edge', 'catalog', 'payroll'])[1 + k % 10]
       || '-' || (ARRAY['api', 'worker', 'web', 'infra', 'jobs', 'données'])[1 + k / 10 % 6] || CASE WHEN k >= 60 THEN '-' || k / 60 + 1 ELSE '' END;

INSERT INTO projects (project, repository)
SELECT pg_temp.project(k), 'https://github.com/example/' || translate(pg_temp.project(k), 'é', 'e')
FROM generate_series(0, 299) AS k;

-- Every tenth token was made on a whole second, every hundredth on a whole day: both keep their nine digits in DynamoDB.
INSERT INTO tokens (token_id, created_at, project, expires_at)
SELECT 'tkn-' || md5('token' || k)::uuid, since, pg_temp.project(pg_temp.roll('p' || k, 1 + pg_temp.roll('q' || k, 290))),
       since + (ARRAY[30, 90, 365])[1 + pg_temp.roll('d' || k, 3)] * interval '24 hours'
FROM (SELECT k, timestamptz '2021-03-01 00:00:00+00' + pg_temp.roll('day' || k, 1500) * interval '24 hours'
                + CASE WHEN k % 100 = 0 THEN interval '0' ELSE pg_temp.roll('s' || k, 86400) * interval '1 second' END
                + CASE WHEN k % 10 = 0 THEN interval '0' ELSE pg_temp.roll('u' || k, 1000000) * interval '1 microsecond' END AS since
      FROM generate_series(1, 6000) AS k) AS t;

DROP FUNCTION pg_temp.project(integer);
DROP FUNCTION pg_temp.roll(text, integer);

-- plan's estimates come from the statistics.
ANALYZE;
