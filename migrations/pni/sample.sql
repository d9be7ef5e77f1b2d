-- 2,000 lessons, 5,000 passages and 50,000 questions, the same each time. Some of the JSON is odd: numbers that no
-- float holds, documents in documents as text, bare texts and numbers, lists of everything, escapes, NULLs.
CREATE TEMP TABLE size AS SELECT 2000 AS lessons;

INSERT INTO lessons
SELECT k,
       'Lesson ' || k || ': ' || (ARRAY['At the market', 'A letter home', 'The lighthouse', 'Wading birds', 'Night trains'])[1 + k % 5],
       CASE WHEN k % 17 <> 0 THEN (ARRAY['travel', 'nature', 'work', 'family', 'food', 'history', 'sport', 'music'])[1 + k % 8] END,
       CASE WHEN k % 23 <> 0 THEN (ARRAY['A1', 'A2', 'B1', 'B2', 'C1', 'C2'])[1 + (k / 8) % 6] END,
       CASE WHEN k % 11 <> 0 THEN 'About ' || repeat('reading, listening and speaking; ', 1 + k % 4) END,
       (CASE k % 40
           WHEN 1 THEN '{"exact": 12345678901234567890123456789.0123456, "small": 1e-30, "trailing": 0.1000}'
           WHEN 2 THEN '"just a text"'
           WHEN 3 THEN '42'
           WHEN 4 THEN '[]'
           WHEN 5 THEN '{"blocks": [], "notes": null, "flags": {"draft": false, "n/a": [null, ""]}}'
           WHEN 6 THEN '{"double": "{\"encoded\": [1, 2, \"three\"]}"}'
           WHEN 7 THEN '[1, "two", null, true, [[], {}], {"deep": {"deeper": {"deepest": ["caf\u00e9", "\ud83d\udc26", "</script>"]}}}]'
           WHEN 8 THEN NULL
           ELSE '{"blocks": [{"kind": "intro", "text": "' || md5(k::text) || '"}, {"kind": "audio", "seconds": ' || k % 300
                || ', "levels": [' || k || ', ' || k || '.50]}], "version": ' || k % 7 || '}'
       END)::json,
       CASE WHEN k % 13 = 0 THEN NULL WHEN k % 29 = 0 THEN '[]'
            ELSE '["' || md5('a' || k) || '", {"word": "' || substr(md5('b' || k), 1, 8) || '", "count": ' || k % 90 || '}]' END,
       CASE WHEN k % 7 <> 0 THEN 10 + k % 50 END,
       CASE WHEN k % 19 <> 0 THEN k % 3 <> 0 END,
       1,
       timestamptz '2023-01-01 08:00:00+00' + k * interval '17 minutes 3.25 seconds',
       timestamptz '2024-01-01 08:00:00+02' + k * interval '5 minutes 0.000125 seconds'
FROM size, generate_series(1, size.lessons) AS k;

-- Two or three a lesson.
INSERT INTO passages
SELECT k, 1 + (k - 1) % size.lessons, 1 + (k - 1) / size.lessons, 'Passage ' || k,
       'It was ' || md5(k::text) || '. ' || repeat('The tide came in over the flats, and the birds moved on. ', 4 + k % 12),
       CASE WHEN k % 9 <> 0 THEN 40 + k % 160 END,
       CASE WHEN k % 4 = 0 THEN jsonb_build_object('file', 'audio/' || k || '.mp3', 'seconds', 30 + k % 90, 'voices', jsonb_build_array('anna', 'ben')) END,
       timestamptz '2023-02-01 00:00:00+00' + k * interval '3 minutes',
       timestamptz '2024-02-01 00:00:00+00' + k * interval '1 minute'
FROM size, generate_series(1, size.lessons * 5 / 2) AS k;

-- Ten a lesson, and six a passage.
INSERT INTO questions
SELECT k, CASE WHEN k % 5 < 2 THEN 1 + k / 5 % size.lessons ELSE p.lesson_id END,
       CASE WHEN k % 5 < 2 THEN NULL ELSE p.id END,
       k % 10,
       CASE WHEN k % 6 <> 0 THEN (ARRAY['multiple_choice', 'true_false', 'gap', 'open'])[1 + k % 4] END,
       'Question ' || k || ': what did ' || substr(md5(k::text), 1, 6) || ' see?',
       (CASE k % 50
           WHEN 1 THEN 'null'
           WHEN 2 THEN '"none of them"'
           WHEN 3 THEN '{"a": 0.10, "b": 1.0E+2, "c": -0, "d": 98765432109876543210}'
           WHEN 4 THEN NULL
           ELSE '["a heron", "a ' || substr(md5('q' || k), 1, 7) || '", {"text": "a whimbrel", "weight": 0.' || k % 10 || '0}]'
       END)::json,
       CASE WHEN k % 8 = 0 THEN NULL ELSE jsonb_build_object('index', k % 3, 'accepted', jsonb_build_array(k % 3, 'whimbrel')) END,
       CASE WHEN k % 10 <> 0 THEN (k % 40) / 4.0 END,
       CASE WHEN k % 3 = 0 THEN 'See line ' || k % 30 || '.' END,
       timestamptz '2023-03-01 00:00:00+00' + k * interval '31 seconds',
       timestamptz '2024-03-01 00:00:00+00' + k * interval '7 seconds'
FROM size, generate_series(1, size.lessons * 25) AS k
JOIN passages AS p ON p.id = 1 + k % (SELECT lessons * 5 / 2 FROM size);

DROP TABLE size;
ANALYZE;
