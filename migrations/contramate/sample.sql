-- Sample data for Contramate: 110,048 items of one DynamoDB table, the same each time. Nothing is random: every choice
-- is the md5 of a seed. README.md beside this file lists what is wrong with which of them, and how many arrive.

-- A number from 0 to n - 1 that only the seed decides.
CREATE FUNCTION pg_temp.roll(seed text, n integer) RETURNS integer LANGUAGE sql IMMUTABLE
RETURN ((('x' || substr(md5(seed), 1, 8))::bit(32)::bigint) % n)::integer;

CREATE FUNCTION pg_temp.id(kind text, k integer) RETURNS text LANGUAGE sql IMMUTABLE
RETURN md5(kind || k)::uuid::text;

CREATE FUNCTION pg_temp.owner(k integer) RETURNS text LANGUAGE sql IMMUTABLE
RETURN 'user' || (100 + pg_temp.roll('owner' || k, 260));

-- When conversation k began: a second of the year 2025.
CREATE FUNCTION pg_temp.began(k integer) RETURNS timestamp LANGUAGE sql IMMUTABLE
RETURN timestamp '2025-01-06 07:00:00' + make_interval(secs => pg_temp.roll('began' || k, 28000000));

-- The same moment as the application's several versions wrote it: in UTC, with microseconds, with nine digits of which
-- the last three are zeros, in the time of Seoul and of Lima.
CREATE FUNCTION pg_temp.written(at timestamp, way integer) RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE way % 10
    WHEN 0 THEN to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS') || '.' || lpad((way * 7919 % 1000000)::text, 6, '0') || 'Z'
    WHEN 1 THEN to_char(at + interval '9 hours', 'YYYY-MM-DD"T"HH24:MI:SS') || '+09:00'
    WHEN 2 THEN to_char(at - interval '5 hours', 'YYYY-MM-DD"T"HH24:MI:SS') || '-05:00'
    WHEN 3 THEN to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS') || '.125000000Z'
    ELSE to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
END;

CREATE TABLE conversations (
    pk text NOT NULL, sk text NOT NULL, user_id text NOT NULL, title text, filter_values jsonb, is_active boolean,
    created_at text NOT NULL, updated_at text NOT NULL, PRIMARY KEY (pk, sk)
);
CREATE TABLE messages (
    k integer PRIMARY KEY, pk text NOT NULL, sk text NOT NULL, user_id text NOT NULL, role text NOT NULL, content text NOT NULL,
    feedback text, filter_values jsonb, is_user_filter_text boolean, msg_metadata jsonb,
    created_at text NOT NULL, updated_at text NOT NULL
);
-- Attributes are JSON: what is NULL here is missing there, and 'null' is of the type NULL.
CREATE TABLE odd_items (
    n integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, pk text NOT NULL, sk text NOT NULL,
    "userId" json, title json, "filterValues" json, "isActive" json, role json, content json, feedback json,
    "isUserFilterText" json, "msgMetadata" json, metadata json, "createdAt" json, "updatedAt" json
);
CREATE TABLE items_with_sets (
    pk text NOT NULL, sk text NOT NULL, user_id text NOT NULL, title text, role text, content text,
    filter_values text[], tags text[], pages integer[], created_at text NOT NULL, updated_at text NOT NULL, PRIMARY KEY (pk, sk)
);
CREATE TABLE others (pk text NOT NULL, sk text NOT NULL, name text, PRIMARY KEY (pk, sk));

CREATE TEMPORARY TABLE words AS SELECT
    ARRAY['Contract Review Session', 'Clause Analysis', 'Renewal terms of the framework agreement', 'NDA, second round',
          'Haftung und Gewährleistung', '계약 해지 조건', 'Which law applies?', 'Payment terms & penalties', 'データ処理契約',
          'Data processing addendum', 'Liability cap "super cap"', 'Sub-contractors 📎', 'Résiliation anticipée', 'Pricing annex',
          'Service levels', 'Договор аренды'] AS titles,
    ARRAY['What are the payment terms?', 'Summarise the termination clause.', 'Who bears the cost of the audit?',
          'Does the cap apply to breaches of confidentiality?', 'List all dates in the contract.', 'Is there an exclusivity clause?',
          'Quels sont les délais de paiement ?', '해지 통보 기간은 얼마인가요?', 'Compare section 4.2 with the previous version.',
          'Which parties signed the annex?', 'Translate clause 12 into plain English.', 'Was ist bei Zahlungsverzug vereinbart?',
          'What happens on a change of control?', 'Find every mention of "force majeure".', '👍', 'And in the amendment of 2023?'] AS questions,
    ARRAY['Payment is due within 30 days of the invoice (section 5.1); late payments bear interest of 1.5 % a month.',
          'Either party may terminate with 90 days'' notice; section 14.3 adds a right to terminate at once for cause.',
          'The audit is paid by the customer unless it finds a deviation of more than 5 %.',
          E'There are two caps:\n\n1. a general one, the fees of twelve months;\n2. a higher one for data protection.',
          'I found no exclusivity clause in the documents that you selected.',
          'Die Zahlung ist innerhalb von 14 Tagen fällig; danach gelten die gesetzlichen Verzugszinsen.',
          '계약서 제8조에 따라 60일 전에 서면으로 통보해야 합니다.', 'Section 4.2 is unchanged but for its last sentence.',
          'The annex was signed by all three parties on 3 March 2024.', 'Clause 12 says: each side pays its own lawyers.',
          'On a change of control the customer may terminate within six months.', 'There are four mentions: §§ 2.4, 9.1, 9.2 and 17.',
          'The amendment keeps the term and doubles the fee.', 'I cannot answer this from the documents alone.',
          E'| date | event |\n| --- | --- |\n| 2024-01-01 | start |\n| 2026-12-31 | end |', 'Yes.'] AS answers,
    ARRAY['NDA', 'MSA', 'lease', 'license', 'DPA'] AS kinds;

-- 1. What is as it should be: 5,200 conversations and 104,000 messages. One message in five was written by a colleague,
-- and lies in that colleague's partition: a scan may well come to it before it comes to its conversation.
INSERT INTO conversations
SELECT 'USER#' || pg_temp.owner(k), 'CONV#' || pg_temp.id('conversation', k), pg_temp.owner(k),
       CASE WHEN k % 50 = 0 THEN NULL WHEN k % 97 = 0 THEN '' WHEN k = 123 THEN repeat('é', 499) || '📎'
            ELSE titles[1 + pg_temp.roll('title' || k, 16)] || ' #' || k END,
       CASE WHEN k % 3 = 0 THEN jsonb_build_object('contract_type', kinds[1 + k % 5], 'parties', jsonb_build_array('Acme', 'Müller & Söhne'),
            'value', jsonb_build_object('min', 1000.50 + k, 'max', 12345678901234567890.123456789 + k), 'open', k % 2 = 0, 'note', NULL) END,
       CASE k % 4 WHEN 0 THEN NULL WHEN 1 THEN false ELSE true END,
       pg_temp.written(pg_temp.began(k), k), pg_temp.written(pg_temp.began(k) + interval '3 hours', k)
FROM words, generate_series(1, 5200) AS k;

INSERT INTO messages
SELECT k, 'USER#' || author, 'MSG#' || pg_temp.id('conversation', c) || '#' || pg_temp.id('message', k), author,
       CASE WHEN k % 2 = 1 THEN 'user' ELSE 'assistant' END,
       CASE WHEN k % 2 = 1 THEN questions[1 + pg_temp.roll('question' || k, 16)] ELSE answers[1 + pg_temp.roll('answer' || k, 16)] END,
       CASE WHEN k % 34 = 0 THEN 'like' WHEN k % 58 = 0 THEN 'dislike' END,
       CASE WHEN k % 7 = 1 THEN jsonb_build_object('contract_type', kinds[1 + k % 5], 'years', jsonb_build_array(2023, 2024)) END,
       CASE WHEN k % 7 = 1 THEN true WHEN k % 11 = 0 THEN false END,
       CASE WHEN k % 2 = 0 THEN jsonb_build_object('model', 'assistant-2', 'tokens', 200 + k % 900, 'cost', 0.000125 * (k % 17),
            'sources', jsonb_build_array(jsonb_build_object('page', 1 + k % 40, 'score', 0.5 + (k % 50) / 100.0))) END,
       pg_temp.written(pg_temp.began(c) + make_interval(mins => k / 5200), k),
       pg_temp.written(pg_temp.began(c) + make_interval(mins => k / 5200), k)
FROM words, (SELECT k, c, CASE WHEN k % 5 = 0 THEN pg_temp.owner(k % 4999) ELSE pg_temp.owner(c) END AS author
             FROM (SELECT k, 1 + (k::bigint * 7919 % 5200)::integer AS c FROM generate_series(1, 104000) AS k) AS m) AS m;

-- 2. What is odd. `odd` numbers the items of one kind from 1 on; a conversation and a message as they should be are made
-- first, and then one thing is changed.
CREATE TEMPORARY TABLE odd_conversations AS SELECT what, k, 'USER#' || pg_temp.owner(k) AS pk, 'CONV#' || pg_temp.id(what, k) AS sk,
       to_json(pg_temp.owner(k)) AS "userId", to_json('Odd: ' || what || ' ' || k) AS title, NULL::json AS "filterValues", 'true'::json AS "isActive",
       to_json(pg_temp.written(pg_temp.began(k), 9)) AS "createdAt", to_json(pg_temp.written(pg_temp.began(k), 9)) AS "updatedAt"
FROM (VALUES ('no uuid', 24), ('no userId', 12), ('no createdAt', 8), ('no updatedAt', 7), ('userId is NULL', 3), ('long title', 10),
             ('impossible date', 6), ('nine digits', 5), ('createdAt is a number', 2), ('U+0000 in title', 4), ('broken JSON', 6),
             ('isActive yes', 3), ('isActive 1', 2), ('long userId', 2),
             -- These arrive.
             ('title is a number', 2), ('isActive as text', 30), ('JSON in text', 30), ('userId is a number', 3), ('title is NULL', 5),
             ('capitals', 4)) AS kinds (what, n), generate_series(1, n) AS k;

UPDATE odd_conversations SET sk = CASE k % 3 WHEN 0 THEN 'CONV#not-a-uuid-' || k WHEN 1 THEN 'CONV#' || md5('x' || k) ELSE 'CONV#' || left(md5('y' || k), k - 2) END
    WHERE what = 'no uuid';
UPDATE odd_conversations SET "userId" = NULL WHERE what = 'no userId';
UPDATE odd_conversations SET "createdAt" = NULL WHERE what = 'no createdAt';
UPDATE odd_conversations SET "updatedAt" = NULL WHERE what = 'no updatedAt';
UPDATE odd_conversations SET "userId" = 'null' WHERE what = 'userId is NULL';
UPDATE odd_conversations SET title = to_json(repeat('A title that never ends. ', 20 + k)) WHERE what = 'long title';
UPDATE odd_conversations SET "createdAt" = to_json((ARRAY['2025-02-30T10:00:00Z', '2025-13-01T10:00:00Z', '2025-11-31T10:00:00Z',
    '2025-00-10T10:00:00Z', '2023-02-29T00:00:00Z', '2025-06-00T10:00:00Z'])[k]) WHERE what = 'impossible date';
UPDATE odd_conversations SET "updatedAt" = to_json('2025-11-30T10:00:00.12345678' || k || 'Z') WHERE what = 'nine digits';
UPDATE odd_conversations SET "createdAt" = to_json(1764496800 + k) WHERE what = 'createdAt is a number';
UPDATE odd_conversations SET title = '"zero \u0000 byte"' WHERE what = 'U+0000 in title';
UPDATE odd_conversations SET "filterValues" = to_json((ARRAY['{"contract_type": "NDA"', '[1, 2', 'contract_type=NDA', '{]', 'undefined', ''])[k])
    WHERE what = 'broken JSON';
UPDATE odd_conversations SET "isActive" = '"yes"' WHERE what = 'isActive yes';
UPDATE odd_conversations SET "isActive" = '1' WHERE what = 'isActive 1';
UPDATE odd_conversations SET "userId" = to_json(repeat('u', 255 + k)) WHERE what = 'long userId';
UPDATE odd_conversations SET title = to_json(42 + k) WHERE what = 'title is a number';
UPDATE odd_conversations SET "isActive" = CASE WHEN k % 3 = 0 THEN '"false"'::json ELSE '"true"' END WHERE what = 'isActive as text';
UPDATE odd_conversations SET "filterValues" = to_json('{"contract_type": "NDA", "min": ' || k || '.50}') WHERE what = 'JSON in text';
UPDATE odd_conversations SET "userId" = to_json(900000 + k) WHERE what = 'userId is a number';
UPDATE odd_conversations SET title = 'null' WHERE what = 'title is NULL';
UPDATE odd_conversations SET sk = 'CONV#' || upper(substr(sk, 6)) WHERE what = 'capitals';

-- The same conversation under a second user: five more.
INSERT INTO odd_conversations
SELECT 'second of its id', k, 'USER#copy-of-' || pg_temp.owner(k), 'CONV#' || pg_temp.id('conversation', 50 + 12 * k), to_json(pg_temp.owner(k)), to_json('A copy'::text),
       NULL, 'true', '"2025-11-30T10:00:00Z"', '"2025-11-30T10:00:00Z"' FROM generate_series(1, 5) AS k;

INSERT INTO odd_items (pk, sk, "userId", title, "filterValues", "isActive", "createdAt", "updatedAt")
SELECT pk, sk, "userId", title, "filterValues", "isActive", "createdAt", "updatedAt" FROM odd_conversations ORDER BY what, k;

CREATE TEMPORARY TABLE odd_messages AS SELECT what, k, 'USER#' || pg_temp.owner(k) AS pk,
       pg_temp.id('conversation', 1000 + k) AS conversation, pg_temp.id(what, k) AS id, NULL::text AS sk,
       to_json(pg_temp.owner(k)) AS "userId", '"user"'::json AS role, to_json('Odd: ' || what || ' ' || k) AS content, NULL::json AS feedback,
       NULL::json AS "filterValues", NULL::json AS "isUserFilterText", NULL::json AS "msgMetadata", NULL::json AS metadata,
       to_json(pg_temp.written(pg_temp.began(k), 9)) AS "createdAt", to_json(pg_temp.written(pg_temp.began(k), 9)) AS "updatedAt"
FROM (VALUES ('SK with two parts', 5), ('SK with four parts', 5), ('conversation no uuid', 8), ('message no uuid', 12), ('no userId', 15),
             ('no role', 6), ('no content', 9), ('no createdAt', 5), ('no updatedAt', 5), ('content is NULL', 4), ('long role', 6),
             ('orphan', 40), ('impossible date', 10), ('nine digits', 8), ('U+0000 in content', 9), ('U+0000 in metadata', 3),
             ('long feedback', 4), ('isUserFilterText maybe', 3), ('broken JSON', 5), ('createdAt is a number', 3),
             -- Second of their ids.
             ('under a second user', 12), ('in a second conversation', 6), ('in capitals', 3),
             -- These arrive.
             ('empty content', 10), ('content is a number', 3), ('metadata', 15), ('isUserFilterText as text', 10), ('conversation in capitals', 4),
             ('feedback is NULL', 6), ('JSON in text', 10)) AS kinds (what, n), generate_series(1, n) AS k;

UPDATE odd_messages SET sk = 'MSG#' || id WHERE what = 'SK with two parts';
UPDATE odd_messages SET sk = 'MSG#' || conversation || '#' || id || '#' || k WHERE what = 'SK with four parts';
UPDATE odd_messages SET conversation = 'conv-uuid-' || k WHERE what = 'conversation no uuid';
UPDATE odd_messages SET id = 'msg-' || k WHERE what = 'message no uuid';
UPDATE odd_messages SET "userId" = NULL WHERE what = 'no userId';
UPDATE odd_messages SET role = NULL WHERE what = 'no role';
UPDATE odd_messages SET content = NULL WHERE what = 'no content';
UPDATE odd_messages SET "createdAt" = NULL WHERE what = 'no createdAt';
UPDATE odd_messages SET "updatedAt" = NULL WHERE what = 'no updatedAt';
UPDATE odd_messages SET content = 'null' WHERE what = 'content is NULL';
UPDATE odd_messages SET role = to_json(repeat('assistant ', 5) || k) WHERE what = 'long role';
UPDATE odd_messages SET conversation = pg_temp.id('nowhere', k % 10) WHERE what = 'orphan';
UPDATE odd_messages SET "createdAt" = to_json((ARRAY['2025-02-30T10:00:00Z', '2025-13-01T10:00:00Z', 'yesterday', '2025-11-30T25:00:00Z', '30.11.2025',
    '2025-11-30T10:61:00Z', '', '2025-11-30T10:00:00+banana', '0000-00-00T00:00:00Z', '2025-11-31T10:00:00Z'])[k]) WHERE what = 'impossible date';
UPDATE odd_messages SET "createdAt" = to_json('2025-11-30T10:00:00.00000000' || k || 'Z') WHERE what = 'nine digits';
UPDATE odd_messages SET content = '"zero \u0000 byte"' WHERE what = 'U+0000 in content';
UPDATE odd_messages SET "msgMetadata" = '{"model": "zero \u0000 byte"}' WHERE what = 'U+0000 in metadata';
UPDATE odd_messages SET feedback = to_json(repeat('very ', 10) || 'good') WHERE what = 'long feedback';
UPDATE odd_messages SET "isUserFilterText" = '"maybe"' WHERE what = 'isUserFilterText maybe';
UPDATE odd_messages SET "filterValues" = to_json((ARRAY['{"a": 1', '{"a": 1}}', 'null', '42', '"text"'])[k]) WHERE what = 'broken JSON';
UPDATE odd_messages SET "createdAt" = to_json(1764496800 + k) WHERE what = 'createdAt is a number';
UPDATE odd_messages SET id = pg_temp.id('message', k), conversation = pg_temp.id('conversation', 1 + k * 7919 % 5200), pk = 'USER#copy-of-' || pg_temp.owner(k)
    WHERE what = 'under a second user';
UPDATE odd_messages SET id = pg_temp.id('message', 100 + k) WHERE what = 'in a second conversation';
UPDATE odd_messages SET id = upper(pg_temp.id('message', 200 + k)) WHERE what = 'in capitals';
UPDATE odd_messages SET content = '""' WHERE what = 'empty content';
UPDATE odd_messages SET content = '12345678901234567890123456789012345678' WHERE what = 'content is a number';
UPDATE odd_messages SET metadata = ('{"model": "assistant-1", "tokens": ' || k || '}')::json WHERE what = 'metadata';
UPDATE odd_messages SET "isUserFilterText" = CASE WHEN k % 2 = 0 THEN '"false"'::json ELSE '"true"' END WHERE what = 'isUserFilterText as text';
UPDATE odd_messages SET conversation = upper(conversation) WHERE what = 'conversation in capitals';
UPDATE odd_messages SET feedback = 'null' WHERE what = 'feedback is NULL';
UPDATE odd_messages SET "filterValues" = to_json('{"years": [2023, ' || 2024 + k || ']}') WHERE what = 'JSON in text';

-- Two messages in each conversation that is itself rejected: 140 of those above, 6 of those with sets.
INSERT INTO odd_messages
SELECT 'of a rejected conversation', n, pk, substr(sk, 6), pg_temp.id('of a rejected conversation ' || sk, n), NULL, '"user1"', '"user"', '"Is anybody there?"',
       NULL, NULL, NULL, NULL, NULL, '"2025-11-30T10:01:00Z"', '"2025-11-30T10:01:00Z"'
FROM (SELECT pk, sk FROM odd_conversations
      WHERE what IN ('no userId', 'no createdAt', 'no updatedAt', 'userId is NULL', 'long title', 'impossible date', 'nine digits',
                     'createdAt is a number', 'U+0000 in title', 'broken JSON', 'isActive yes', 'isActive 1', 'long userId')
      UNION ALL SELECT 'USER#user1', 'CONV#' || pg_temp.id('filterValues is a set', k) FROM generate_series(1, 3) AS k) AS rejected,
     generate_series(1, 2) AS n;

INSERT INTO odd_items (pk, sk, "userId", role, content, feedback, "filterValues", "isUserFilterText", "msgMetadata", metadata, "createdAt", "updatedAt")
SELECT pk, coalesce(sk, 'MSG#' || conversation || '#' || id), "userId", role, content, feedback, "filterValues", "isUserFilterText", "msgMetadata", metadata,
       "createdAt", "updatedAt" FROM odd_messages ORDER BY what, k, id;

-- 3. Sets: as filterValues of three conversations a mistake, as tags of twenty not looked at, and as the metadata of five
-- messages an array.
INSERT INTO items_with_sets
SELECT 'USER#user1', 'CONV#' || pg_temp.id('filterValues is a set', k), 'user1', 'Odd: filterValues is a set', NULL, NULL, ARRAY['NDA', 'MSA'], NULL, NULL::integer[],
       '2025-11-30T10:00:00Z', '2025-11-30T10:00:00Z' FROM generate_series(1, 3) AS k
UNION ALL
SELECT 'USER#' || pg_temp.owner(k), 'CONV#' || pg_temp.id('tags', k), pg_temp.owner(k), 'Odd: tags ' || k, NULL, NULL, NULL, ARRAY['urgent', 'tag' || k], NULL,
       '2025-11-30T10:00:00Z', '2025-11-30T10:00:00Z' FROM generate_series(1, 20) AS k
UNION ALL
SELECT 'USER#' || pg_temp.owner(k), 'MSG#' || pg_temp.id('conversation', k) || '#' || pg_temp.id('pages', k), pg_temp.owner(k), NULL, 'assistant', 'See the pages.',
       NULL, NULL, ARRAY[k, 40 + k, 400 + k], '2025-11-30T10:00:00Z', '2025-11-30T10:00:00Z' FROM generate_series(1, 5) AS k;

-- 4. Other kinds in the same table, and a key in lower case: 257 items that no flow takes.
INSERT INTO others
SELECT 'USER#user' || (99 + k), 'PROFILE', 'User ' || k FROM generate_series(1, 200) AS k
UNION ALL SELECT 'USER#user' || (99 + k), 'SETTINGS#theme', 'dark' FROM generate_series(1, 40) AS k
UNION ALL SELECT 'ORG#' || k, 'METADATA', 'Organisation ' || k FROM generate_series(1, 12) AS k
UNION ALL SELECT 'USER#user' || (99 + k), 'conv#' || pg_temp.id('lower', k), NULL FROM generate_series(1, 5) AS k;

DROP TABLE words, odd_conversations, odd_messages;
DROP FUNCTION pg_temp.written(timestamp, integer);
DROP FUNCTION pg_temp.began(integer);
DROP FUNCTION pg_temp.owner(integer);
DROP FUNCTION pg_temp.id(text, integer);
DROP FUNCTION pg_temp.roll(text, integer);

-- plan's estimates come from the statistics.
ANALYZE;
