-- The PostgreSQL side of the Ratel platform, derived from its migration guide. The guide names the entities, the
-- relationships and the denormalised attributes, and no column list; what it does not say is chosen here so that a
-- social platform of users, spaces and feeds can live on it.
--
-- Times: created_at and updated_at are seconds since 1970 as bigint, since the guide's example of a comment's sort key,
-- COMMENT#1234567890#999, holds exactly that. Times that people set (published, started, ended, seen) are timestamptz.
--
-- Runs once on an empty database.

-- "USER#{id} METADATA". followers_count and followings_count are not columns: they are counted while migrating.
CREATE TABLE users (
    id            bigint PRIMARY KEY,
    created_at    bigint NOT NULL,
    updated_at    bigint NOT NULL,
    username      text NOT NULL UNIQUE,
    nickname      text NOT NULL,
    email         text NOT NULL UNIQUE,
    principal     uuid NOT NULL UNIQUE,
    user_type     smallint NOT NULL DEFAULT 1 CHECK (user_type BETWEEN 1 AND 4),
    profile_url   text,
    html_contents text NOT NULL DEFAULT '',
    evm_address   varchar(42),
    reputation    numeric(12, 2) NOT NULL DEFAULT 0,
    term_agreed   boolean NOT NULL DEFAULT false,
    informed      boolean,
    interests     text[] NOT NULL DEFAULT '{}',
    settings      jsonb NOT NULL DEFAULT '{}',
    premium_until date,
    last_seen_at  timestamptz
);

-- "USER#123, FOLLOWER#456: user 456 follows user 123"; read from both sides: followers by the primary key, followings
-- by the index.
CREATE TABLE followers (
    user_id     bigint NOT NULL REFERENCES users (id),
    follower_id bigint NOT NULL REFERENCES users (id),
    created_at  bigint NOT NULL,
    PRIMARY KEY (user_id, follower_id),
    CHECK (user_id <> follower_id)
);
CREATE INDEX followers_by_follower ON followers (follower_id);

-- The badges that users and spaces can have: "USER#123, BADGE#789".
CREATE TABLE badges (
    id         bigint PRIMARY KEY,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    name       text NOT NULL UNIQUE,
    scope      text NOT NULL CHECK (scope IN ('user', 'space')),
    image_url  text NOT NULL,
    contract   varchar(42),
    token_id   bigint
);

-- "USER#{id} BADGE#{badge_id}".
CREATE TABLE user_badges (
    user_id    bigint NOT NULL REFERENCES users (id),
    badge_id   bigint NOT NULL REFERENCES badges (id),
    created_at bigint NOT NULL,
    PRIMARY KEY (user_id, badge_id)
);

-- Its name goes into spaces and feeds as industry_name.
CREATE TABLE industries (
    id         bigint PRIMARY KEY,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    name       text NOT NULL UNIQUE
);

-- "USER#{id} INDUSTRY#{industry_id}".
CREATE TABLE user_industries (
    user_id     bigint NOT NULL REFERENCES users (id),
    industry_id bigint NOT NULL REFERENCES industries (id),
    created_at  bigint NOT NULL,
    PRIMARY KEY (user_id, industry_id)
);

-- "SPACE#{id} METADATA"; its owner finds it through gsi1. owner_nickname and industry_name come from joins.
CREATE TABLE spaces (
    id            bigint PRIMARY KEY,
    created_at    bigint NOT NULL,
    updated_at    bigint NOT NULL,
    owner_id      bigint NOT NULL REFERENCES users (id),
    industry_id   bigint REFERENCES industries (id),
    space_type    text NOT NULL CHECK (space_type IN ('deliberation', 'poll', 'notice', 'commission')),
    status        text NOT NULL CHECK (status IN ('draft', 'in_progress', 'finished')),
    title         text,
    html_contents text NOT NULL DEFAULT '',
    is_public     boolean NOT NULL DEFAULT true,
    tags          text[] NOT NULL DEFAULT '{}',
    files         jsonb,
    booster_rate  numeric,
    quota         integer,
    started_at    timestamptz,
    ended_at      timestamptz
);

-- "SPACE#{id} MEMBER#{user_id}".
CREATE TABLE space_members (
    space_id   bigint NOT NULL REFERENCES spaces (id),
    user_id    bigint NOT NULL REFERENCES users (id),
    created_at bigint NOT NULL,
    role       text NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
    PRIMARY KEY (space_id, user_id)
);

-- "SPACE#{id} LIKE#{user_id}".
CREATE TABLE space_likes (
    space_id   bigint NOT NULL REFERENCES spaces (id),
    user_id    bigint NOT NULL REFERENCES users (id),
    created_at bigint NOT NULL,
    PRIMARY KEY (space_id, user_id)
);

-- "SPACE#{id} BADGE#{badge_id}".
CREATE TABLE space_badges (
    space_id   bigint NOT NULL REFERENCES spaces (id),
    badge_id   bigint NOT NULL REFERENCES badges (id),
    created_at bigint NOT NULL,
    PRIMARY KEY (space_id, badge_id)
);

-- "FEED#{id} METADATA"; its author finds it through gsi1. author_nickname and industry_name come from joins.
CREATE TABLE feeds (
    id            bigint PRIMARY KEY,
    created_at    bigint NOT NULL,
    updated_at    bigint NOT NULL,
    author_id     bigint NOT NULL REFERENCES users (id),
    industry_id   bigint REFERENCES industries (id),
    space_id      bigint REFERENCES spaces (id),
    feed_type     text NOT NULL CHECK (feed_type IN ('post', 'repost', 'doc_review')),
    status        text NOT NULL CHECK (status IN ('draft', 'published')),
    title         text,
    html_contents text NOT NULL,
    url           text,
    files         jsonb,
    tags          text[],
    rewards       bigint NOT NULL DEFAULT 0,
    score         double precision,
    published_at  timestamptz
);

-- "FEED#{id} LIKE#{user_id}".
CREATE TABLE feed_likes (
    feed_id    bigint NOT NULL REFERENCES feeds (id),
    user_id    bigint NOT NULL REFERENCES users (id),
    created_at bigint NOT NULL,
    PRIMARY KEY (feed_id, user_id)
);

-- "FEED#{parent_id} COMMENT#{timestamp}#{comment_id}". author_nickname and author_profile_url come from a join.
CREATE TABLE comments (
    id            bigint PRIMARY KEY,
    created_at    bigint NOT NULL,
    updated_at    bigint NOT NULL,
    parent_id     bigint NOT NULL REFERENCES feeds (id),
    author_id     bigint NOT NULL REFERENCES users (id),
    reply_to      bigint REFERENCES comments (id),
    html_contents text NOT NULL
);

-- The guide maps a group's members only; a group's own data follows the guide's general rule {ENTITY_TYPE}#{ID} METADATA.
CREATE TABLE groups (
    id          bigint PRIMARY KEY,
    created_at  bigint NOT NULL,
    updated_at  bigint NOT NULL,
    creator_id  bigint NOT NULL REFERENCES users (id),
    name        text NOT NULL,
    image_url   text,
    permissions bigint NOT NULL
);

-- "GROUP#{id} MEMBER#{user_id}".
CREATE TABLE group_members (
    group_id   bigint NOT NULL REFERENCES groups (id),
    user_id    bigint NOT NULL REFERENCES users (id),
    created_at bigint NOT NULL,
    PRIMARY KEY (group_id, user_id)
);

-- As for groups: the guide maps the participants, the discussion itself follows the general rule.
CREATE TABLE discussions (
    id          bigint PRIMARY KEY,
    created_at  bigint NOT NULL,
    updated_at  bigint NOT NULL,
    space_id    bigint NOT NULL REFERENCES spaces (id),
    creator_id  bigint NOT NULL REFERENCES users (id),
    name        text NOT NULL,
    description text NOT NULL DEFAULT '',
    meeting_id  text,
    started_at  timestamptz NOT NULL,
    ended_at    timestamptz NOT NULL,
    CHECK (started_at < ended_at)
);

-- "DISCUSSION#{id} MEMBER#{user_id}".
CREATE TABLE discussion_members (
    discussion_id  bigint NOT NULL REFERENCES discussions (id),
    user_id        bigint NOT NULL REFERENCES users (id),
    created_at     bigint NOT NULL,
    participant_id text,
    PRIMARY KEY (discussion_id, user_id)
);
