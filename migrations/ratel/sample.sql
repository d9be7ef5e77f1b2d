-- Sample data for the Ratel schema: about 30,000 rows, the same each time. Nothing is random: every choice is the
-- md5 of a seed, so that two machines, two versions of PostgreSQL and two runs agree.

-- A number from 0 to n - 1 that only the seed decides.
CREATE FUNCTION pg_temp.roll(seed text, n integer) RETURNS integer LANGUAGE sql IMMUTABLE
RETURN ((('x' || substr(md5(seed), 1, 8))::bit(32)::bigint) % n)::integer;

-- The same, with small numbers far more often: a few users and feeds are popular, most are not.
CREATE FUNCTION pg_temp.skew(seed text, n integer) RETURNS integer LANGUAGE sql IMMUTABLE
RETURN pg_temp.roll(seed, 1 + pg_temp.roll(seed || '/', 1 + pg_temp.roll(seed || '//', n)));

-- Ids have gaps, and a jump where an older shard was merged in, so that slices by key range are put to the test. Popular
-- ones (k near 0) are spread over the whole range.
CREATE FUNCTION pg_temp.user_id(k integer) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN CASE WHEN k * 1543 % 2400 < 2000 THEN 1001 + 3 * (k * 1543 % 2400) ELSE 4000000 + 7 * (k * 1543 % 2400) END;
CREATE FUNCTION pg_temp.space_id(k integer) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN 301 + 2 * (k * 271 % 400);
CREATE FUNCTION pg_temp.feed_id(k integer) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN 20001 + 5 * (k * 1327 % 2000);

-- Seconds since 1970 between July 2023 and June 2025.
CREATE FUNCTION pg_temp.moment(seed text) RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN 1688169600 + pg_temp.roll(seed, 63072000);

CREATE TEMPORARY TABLE words AS SELECT
    ARRAY['Minji', 'Aarav', 'Zoë', 'Łukasz', 'Jürgen', 'Noor', 'Kwame', '지우', '서준', 'Siobhán', 'Mateo', 'さくら',
          'Thảo', 'Ólafur', 'Fatma', 'Иван', 'Chloé', 'Adaeze', 'Søren', 'Beatriz', '李娜', 'Yusuf', 'Emma', 'Δήμητρα'] AS given,
    ARRAY['Kim', 'Sharma', 'van der Berg', 'Kowalski', 'Müller', 'Haddad', 'Mensah', 'Park', 'Lee', 'O''Brien', 'García',
          'Tanaka', 'Nguyễn', 'Jónsson', 'Yılmaz', 'Petrov', 'Dubois', 'Okafor', 'Ødegård', 'Silva', 'Wang', 'Rossi',
          'Smith-Jones', 'Papadopoulos'] AS family,
    ARRAY['Crypto', 'Social', 'DAO Treasury', 'Gaming', 'Infrastructure', 'Payments', 'Policy & Regulation', 'Education',
          'Energy', 'Health', 'Real Estate', 'Supply Chain', 'Art & NFT', 'Music', 'Climate', 'Research', 'Journalism',
          'Public Goods', '부동산', 'Identity'] AS industries,
    ARRAY['Early Voter', 'Top Contributor', 'Beta Tester', 'Deliberator', 'Bridge Builder', '첫 발자국', 'Fact Checker',
          'Storyteller', 'Moderator', 'Translator', 'Patron', 'Anniversary 1', 'Verified Expert', 'Bug Hunter', 'Ambassador',
          'Quiet Hero', 'Founding Space', 'Transparent', 'Inclusive', 'Well Moderated', 'Open Data', 'Youth', 'Civic',
          'Carbon Neutral'] AS badges,
    ARRAY['policy', 'vote', 'budget', 'governance', 'defi', 'privacy', 'open-source', 'climate', 'housing', 'transit',
          'tax', 'youth', '투표', 'café', 'AMA', 'research'] AS tags,
    ARRAY['Should stablecoin reserves be audited monthly?', 'A citizens'' assembly on digital assets',
          'How we counted 12,480 votes in one evening', '가상자산 기본법, 무엇이 달라지나', 'Notes from the treasury call',
          'Public transport, paid by public goods funding', 'Three questions before you vote', 'Open letter to the committee',
          'What "final" means: settlement explained', 'Draft budget 2025 – please comment', 'Weekly digest 📬',
          'Privacy by default or privacy on request?', 'Minutes of the working group', 'The case against quadratic voting',
          'Call for translators: 日本語, Türkçe, العربية', 'Retrospective: one year of deliberation'] AS titles,
    ARRAY['I read the draft twice and still cannot find who pays for the audits.',
          'The numbers in section 3 do not add up: 45 + 27 + 30 is more than 100 %.', 'Strong support from our side. 👏',
          'Could somebody link the original vote, please?', '이 제안에 찬성합니다. 다만 시행 시기는 다시 논의해야 합니다.',
          'We tried the same in Reykjavík and it took a year longer than planned.',
          'Thank you for writing this down so clearly — it helps newcomers a lot.',
          'My only worry is the cost for small teams; a threshold would help.', 'Sources: [1] the white paper, [2] the hearing.',
          'This is <b>not</b> what was agreed on in the call.', 'Let''s keep the quorum at 10 % & revisit it in spring.',
          'Как это повлияет на тех, кто голосует с телефона?', 'Sounds good, but what happens to the old tokens?',
          'A table would make this easier to compare.', 'Agreed in principle; details in the thread below.',
          'Das Protokoll ist unvollständig, der Anhang fehlt.', '¿Habrá una versión en español?', 'No.', '+1',
          'The appendix lists every transaction, with its hash, its block and who approved it.',
          'It would be fairer to weigh by participation than by holdings.', 'Emoji test: 👩‍👩‍👧‍👦 🇰🇷 ✅',
          'Please move this to the discussion on Thursday.', 'Let us not confuse transparency with surveillance.'] AS phrases;

INSERT INTO industries (id, created_at, updated_at, name)
SELECT k, 1688169600 + k, 1704067200 + k, industries[k] FROM words, generate_series(1, 20) AS k;

INSERT INTO badges (id, created_at, updated_at, name, scope, image_url, contract, token_id)
SELECT 700 + k, 1688169600 + k, 1688169600 + 86400 * k, badges[k], CASE WHEN k <= 16 THEN 'user' ELSE 'space' END,
       'https://cdn.example.com/badges/' || k || '.png',
       CASE WHEN k % 3 = 0 THEN '0x' || substr(md5('contract' || k) || md5('c' || k), 1, 40) END,
       CASE WHEN k % 3 = 0 THEN 9007199254740993 + k END
FROM words, generate_series(1, 24) AS k;

INSERT INTO users (id, created_at, updated_at, username, nickname, email, principal, user_type, profile_url, html_contents,
                   evm_address, reputation, term_agreed, informed, interests, settings, premium_until, last_seen_at)
SELECT pg_temp.user_id(k), since, since + pg_temp.roll('uu' || k, 9000000), 'user' || k, nickname,
       'user' || k || '@example.com', md5('principal' || k)::uuid, 1 + pg_temp.skew('ut' || k, 4),
       CASE WHEN k % 5 > 0 THEN 'https://cdn.example.com/profiles/' || md5('p' || k) || '.webp' END,
       CASE WHEN k % 4 = 0 THEN '' ELSE '<p>' || phrases[1 + pg_temp.roll('ub' || k, 24)] || '</p>' END,
       CASE WHEN k % 3 = 0 THEN '0x' || substr(md5('evm' || k) || md5('e' || k), 1, 40) END,
       (pg_temp.roll('ur' || k, 2000000) - 50000) / 100.0, k % 50 > 0,
       CASE k % 3 WHEN 0 THEN true WHEN 1 THEN false END,
       tags[1 + pg_temp.roll('ui' || k, 13) : pg_temp.roll('ui' || k, 13) + k % 4],
       jsonb_build_object('theme', CASE WHEN k % 2 = 0 THEN 'dark' ELSE 'light' END, 'language', CASE WHEN k % 3 = 0 THEN 'ko' ELSE 'en' END,
                          'notifications', jsonb_build_object('email', k % 2 = 0, 'push', k % 3 = 0, 'digest_hour', k % 24)),
       CASE WHEN k % 10 = 0 THEN date '2025-01-01' + k END,
       CASE WHEN k % 7 > 0 THEN to_timestamp(since) + pg_temp.roll('us' || k, 8000000) * interval '1 second' + pg_temp.roll('um' || k, 1000000) * interval '1 microsecond' END
FROM (SELECT k, pg_temp.moment('user' || k) AS since, tags, phrases,
             given[1 + pg_temp.roll('g' || k, 24)] || ' ' || family[1 + pg_temp.roll('f' || k, 24)] AS nickname
      FROM words, generate_series(0, 2399) AS k) AS u;

INSERT INTO followers (user_id, follower_id, created_at)
SELECT user_id, follower_id, pg_temp.moment('follow' || k)
FROM (SELECT k, pg_temp.user_id(pg_temp.skew('fu' || k, 2400)) AS user_id, pg_temp.user_id(pg_temp.roll('ff' || k, 2400)) AS follower_id
      FROM generate_series(1, 6600) AS k) AS f
WHERE user_id <> follower_id
ORDER BY k
ON CONFLICT DO NOTHING;

INSERT INTO user_badges (user_id, badge_id, created_at)
SELECT pg_temp.user_id(pg_temp.skew('bu' || k, 2400)), 701 + pg_temp.roll('bb' || k, 16), pg_temp.moment('badge' || k)
FROM generate_series(1, 1600) AS k ORDER BY k
ON CONFLICT DO NOTHING;

INSERT INTO user_industries (user_id, industry_id, created_at)
SELECT pg_temp.user_id(pg_temp.roll('iu' || k, 2400)), 1 + pg_temp.skew('ii' || k, 20), pg_temp.moment('industry' || k)
FROM generate_series(1, 2600) AS k ORDER BY k
ON CONFLICT DO NOTHING;

-- Some are untitled drafts, some belong to no industry; two owners found several spaces within the same second.
INSERT INTO spaces (id, created_at, updated_at, owner_id, industry_id, space_type, status, title, html_contents, is_public,
                    tags, files, booster_rate, quota, started_at, ended_at)
SELECT pg_temp.space_id(k), since, since + pg_temp.roll('su' || k, 5000000),
       pg_temp.user_id(CASE WHEN k < 12 THEN k % 2 ELSE pg_temp.skew('so' || k, 2400) END),
       CASE WHEN k % 6 > 0 THEN 1 + pg_temp.skew('si' || k, 20) END,
       (ARRAY['deliberation', 'poll', 'notice', 'commission'])[1 + pg_temp.roll('st' || k, 4)],
       (ARRAY['draft', 'in_progress', 'finished'])[1 + pg_temp.roll('ss' || k, 3)],
       CASE WHEN k % 17 > 0 THEN titles[1 + pg_temp.roll('sn' || k, 16)] END,
       '<h2>' || phrases[1 + pg_temp.roll('sa' || k, 24)] || '</h2><p>' || phrases[1 + pg_temp.roll('sb' || k, 24)] || '</p>',
       k % 8 > 0, tags[1 + k % 13 : k % 13 + k % 4],
       CASE WHEN k % 4 = 0 THEN jsonb_build_array(jsonb_build_object('name', 'agenda-' || k || '.pdf', 'size', 1000 + k * 7919, 'url', 'https://cdn.example.com/files/' || md5('file' || k))) END,
       CASE WHEN k % 5 = 0 THEN (1 + k) / 7.0 END,
       CASE WHEN k % 3 = 0 THEN 10 * (1 + pg_temp.roll('sq' || k, 100)) END,
       CASE WHEN k % 4 > 0 THEN to_timestamp(since + 86400) END,
       CASE WHEN k % 4 > 1 THEN to_timestamp(since + 1209600) END
FROM (SELECT k, CASE WHEN k < 12 THEN 1717200000 + k / 6 ELSE pg_temp.moment('space' || k) END AS since, titles, phrases, tags
      FROM words, generate_series(0, 399) AS k) AS s;

INSERT INTO space_members (space_id, user_id, created_at, role)
SELECT id, owner_id, created_at, 'owner' FROM spaces ORDER BY id;
INSERT INTO space_members (space_id, user_id, created_at, role)
SELECT pg_temp.space_id(pg_temp.skew('ms' || k, 400)), pg_temp.user_id(pg_temp.skew('mu' || k, 2400)), pg_temp.moment('member' || k),
       CASE WHEN k % 20 = 0 THEN 'admin' ELSE 'member' END
FROM generate_series(1, 2200) AS k ORDER BY k
ON CONFLICT DO NOTHING;

INSERT INTO space_likes (space_id, user_id, created_at)
SELECT pg_temp.space_id(pg_temp.skew('ls' || k, 400)), pg_temp.user_id(pg_temp.roll('lu' || k, 2400)), pg_temp.moment('space like' || k)
FROM generate_series(1, 1500) AS k ORDER BY k
ON CONFLICT DO NOTHING;

INSERT INTO space_badges (space_id, badge_id, created_at)
SELECT pg_temp.space_id(pg_temp.roll('xs' || k, 400)), 717 + pg_temp.roll('xb' || k, 8), pg_temp.moment('space badge' || k)
FROM generate_series(1, 320) AS k ORDER BY k
ON CONFLICT DO NOTHING;

-- Five are long reads of 30 to 105 thousand characters.
INSERT INTO feeds (id, created_at, updated_at, author_id, industry_id, space_id, feed_type, status, title, html_contents, url,
                   files, tags, rewards, score, published_at)
SELECT pg_temp.feed_id(k), since, since + pg_temp.roll('pu' || k, 3000000), pg_temp.user_id(pg_temp.skew('pa' || k, 2400)),
       CASE WHEN k % 5 > 0 THEN 1 + pg_temp.skew('pi' || k, 20) END,
       CASE WHEN k % 9 = 0 THEN pg_temp.space_id(pg_temp.roll('ps' || k, 400)) END,
       CASE WHEN k % 12 = 0 THEN 'repost' WHEN k % 23 = 0 THEN 'doc_review' ELSE 'post' END,
       CASE WHEN k % 15 = 0 THEN 'draft' ELSE 'published' END,
       CASE WHEN k % 12 > 0 THEN titles[1 + pg_temp.roll('pn' || k, 16)] END,
       '<p>' || phrases[1 + pg_temp.roll('p1' || k, 24)] || '</p><p>' || phrases[1 + pg_temp.roll('p2' || k, 24)] || ' '
             || phrases[1 + pg_temp.roll('p3' || k, 24)] || '</p>'
             || CASE WHEN k % 400 = 7 THEN repeat('<p>' || phrases[1 + pg_temp.roll('p4' || k, 24)] || ' ' || phrases[20] || '</p>', 250 + k / 4) ELSE '' END,
       CASE WHEN k % 12 = 0 THEN 'https://news.example.org/' || md5('url' || k) END,
       CASE WHEN k % 6 = 0 THEN jsonb_build_array(jsonb_build_object('name', 'chart ' || k || '.svg', 'size', 512 * k, 'ratio', 1.50)) END,
       CASE WHEN k % 3 > 0 THEN tags[1 + k % 14 : 1 + k % 14 + k % 3] END,
       CASE WHEN k % 10 = 0 THEN 100 * pg_temp.roll('pr' || k, 50) ELSE 0 END,
       CASE WHEN k % 11 > 0 THEN pg_temp.roll('pz' || k, 100000) / 977.0::double precision END,
       CASE WHEN k % 15 > 0 THEN to_timestamp(since) + pg_temp.roll('pm' || k, 1000000) * interval '1 microsecond' END
FROM (SELECT k, pg_temp.moment('feed' || k) AS since, titles, phrases, tags FROM words, generate_series(0, 1999) AS k) AS p;

INSERT INTO feed_likes (feed_id, user_id, created_at)
SELECT pg_temp.feed_id(pg_temp.skew('kf' || k, 2000)), pg_temp.user_id(pg_temp.roll('ku' || k, 2400)), pg_temp.moment('feed like' || k)
FROM generate_series(1, 4200) AS k ORDER BY k
ON CONFLICT DO NOTHING;

-- The first forty come from a forum that was imported: they are from before September 2001, when the seconds since 1970
-- had nine digits. Without a fixed width they would sort behind all others.
INSERT INTO comments (id, created_at, updated_at, parent_id, author_id, reply_to, html_contents)
SELECT 100 + k, since, since + CASE WHEN k % 9 = 0 THEN 3600 ELSE 0 END, pg_temp.feed_id(feed), pg_temp.user_id(pg_temp.skew('ca' || k, 2400)),
       CASE WHEN k % 4 = 0 THEN lag(100 + k) OVER (PARTITION BY feed ORDER BY since, k) END,
       phrases[1 + pg_temp.roll('c1' || k, 24)] || CASE WHEN k % 3 > 0 THEN ' ' || phrases[1 + pg_temp.roll('c2' || k, 24)] ELSE '' END
FROM (SELECT k, pg_temp.skew('cf' || k, 2000) AS feed, phrases,
             CASE WHEN k <= 40 THEN 915148800 + 1000000 * k + pg_temp.roll('cc' || k, 900000) ELSE pg_temp.moment('comment' || k) END AS since
      FROM words, generate_series(1, 4000) AS k) AS c;

INSERT INTO groups (id, created_at, updated_at, creator_id, name, image_url, permissions)
SELECT 50 + k, pg_temp.moment('group' || k), 1751241600, pg_temp.user_id(pg_temp.roll('gc' || k, 2400)),
       industries[1 + k % 20] || ' circle ' || k, CASE WHEN k % 3 > 0 THEN 'https://cdn.example.com/groups/' || k || '.png' END,
       CASE WHEN k % 10 = 0 THEN 9223372036854775807 ELSE (1::bigint << (k % 62)) - 1 END
FROM words, generate_series(1, 80) AS k;

INSERT INTO group_members (group_id, user_id, created_at)
SELECT 51 + pg_temp.skew('hg' || k, 80), pg_temp.user_id(pg_temp.roll('hu' || k, 2400)), pg_temp.moment('group member' || k)
FROM generate_series(1, 1000) AS k ORDER BY k
ON CONFLICT DO NOTHING;

INSERT INTO discussions (id, created_at, updated_at, space_id, creator_id, name, description, meeting_id, started_at, ended_at)
SELECT 9000 + k, since, since, pg_temp.space_id(pg_temp.skew('ds' || k, 400)), pg_temp.user_id(pg_temp.skew('dc' || k, 2400)),
       titles[1 + pg_temp.roll('dn' || k, 16)], CASE WHEN k % 5 > 0 THEN phrases[1 + pg_temp.roll('dd' || k, 24)] ELSE '' END,
       CASE WHEN k % 2 = 0 THEN md5('meeting' || k) END, to_timestamp(since + 86400), to_timestamp(since + 86400 + 1800 * (1 + k % 4))
FROM (SELECT k, pg_temp.moment('discussion' || k) AS since, titles, phrases FROM words, generate_series(1, 200) AS k) AS d;

INSERT INTO discussion_members (discussion_id, user_id, created_at, participant_id)
SELECT 9001 + pg_temp.skew('qd' || k, 200), pg_temp.user_id(pg_temp.roll('qu' || k, 2400)), pg_temp.moment('participant' || k),
       CASE WHEN k % 3 > 0 THEN md5('participant' || k) END
FROM generate_series(1, 1000) AS k ORDER BY k
ON CONFLICT DO NOTHING;

DROP TABLE words;
DROP FUNCTION pg_temp.user_id(integer);
DROP FUNCTION pg_temp.space_id(integer);
DROP FUNCTION pg_temp.feed_id(integer);
DROP FUNCTION pg_temp.moment(text);
DROP FUNCTION pg_temp.skew(text, integer);
DROP FUNCTION pg_temp.roll(text, integer);

-- plan's estimates come from the statistics.
ANALYZE;
