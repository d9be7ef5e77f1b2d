-- The PostgreSQL side of pni, derived from the guide: it names three tables and says that questions belong to lessons
-- and passages, that some columns hold JSON, that there are timestamps, and that values may be missing. Names and types
-- are ours.
CREATE TABLE lessons (
    id           integer PRIMARY KEY,
    title        text NOT NULL,
    topic        text,                       -- NULL: general
    level        text,                       -- of the CEFR, A1 to C2; NULL: unrated
    description  text,
    content      json,                       -- what editors typed: every digit and every shape of it
    vocabulary   text,                       -- JSON in a text, as old tables have it
    minutes      integer,
    is_published boolean,
    edition      integer NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL
);

CREATE TABLE passages (
    id         integer PRIMARY KEY,
    lesson_id  integer NOT NULL REFERENCES lessons (id),
    position   integer NOT NULL,
    title      text NOT NULL,
    body       text NOT NULL,
    word_count integer,
    audio      jsonb,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

-- A question belongs to a lesson, and perhaps to one of its passages.
CREATE TABLE questions (
    id          integer PRIMARY KEY,
    lesson_id   integer NOT NULL REFERENCES lessons (id),
    passage_id  integer REFERENCES passages (id),
    position    integer NOT NULL,
    kind        text,                        -- NULL: multiple_choice
    prompt      text NOT NULL,
    options     json,
    answer      jsonb,
    points      numeric(6, 2),
    explanation text,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL
);

CREATE INDEX passages_by_lesson ON passages (lesson_id);
CREATE INDEX questions_by_lesson ON questions (lesson_id);
CREATE INDEX questions_by_passage ON questions (passage_id);
