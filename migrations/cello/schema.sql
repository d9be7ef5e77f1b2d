-- The PostgreSQL side of Cello, with the columns that its migration guide extracts. The guide gives no types; the time
-- columns are timestamptz, since the guide shows them as `2022-02-02 18:01:49.345261+00`.
--
-- Runs once on an empty database.

-- "projects: project and repository fields".
CREATE TABLE projects (
    project    text PRIMARY KEY,
    repository text NOT NULL
);

-- "tokens: token_id, created_at, project and expires_at fields".
CREATE TABLE tokens (
    token_id   text PRIMARY KEY,
    created_at timestamptz NOT NULL,
    project    text NOT NULL REFERENCES projects (project),
    expires_at timestamptz NOT NULL
);
