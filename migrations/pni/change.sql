-- A week of editing: one lesson in twenty with its passages and questions, and a program that touches every timestamp.
UPDATE lessons SET edition = edition + 1 WHERE id % 20 = 0;
UPDATE passages SET word_count = coalesce(word_count, 0) + 1 WHERE lesson_id % 20 = 0;
UPDATE questions SET points = coalesce(points, 0) + 1 WHERE lesson_id % 20 = 0;
UPDATE lessons SET updated_at = updated_at + interval '7 days';
UPDATE passages SET updated_at = updated_at + interval '7 days';
UPDATE questions SET updated_at = updated_at + interval '7 days';
ANALYZE;
