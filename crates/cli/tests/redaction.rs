//! Snapshots without what differs from run to run.

use insta::Settings;

/// Run names, times, durations, rates, ports, folders and identities are left out of the snapshots taken in `check`.
pub fn redacted(check: impl FnOnce()) {
    let filters = [
        (r"[^ ]*whimbrel-test-\w+", "[FOLDER]"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "[RUN]"),
        (r"(resume|retry) [0-9a-f]{8}\b", "$1 [RUN]"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z, .* ago or long", "[TIME], [DURATION] ago or long"),
        (r"begun \d{4}-\d\d-\d\dT[\d:.]+Z.*", "begun [TIME]"),
        (r"in [\d.]+ (s|min)\b", "in [DURATION]"),
        (r"about [\d.]+ (s|min|h)\b", "about [DURATION]"),
        (r"[\d,]+ records/s", "[RATE] records/s"),
        (r"\([\d.]+ (ms|s|min)\b[^)]*\)", "([DURATION])"),
        (r"[^\n]*warning[^\n]* free on the journal's disk[^\n]*\n", ""),
        (r"127\.0\.0\.1:\d+", "127.0.0.1:[PORT]"),
        (r"identity \d+:\d+", "identity [IDENTITY]"),
        (r"\d+ MiB free", "[SPACE] MiB free"),
        (r"PostgreSQL 17\.\d+", "PostgreSQL 17"),
    ];
    let mut settings = Settings::clone_current();
    for (pattern, text) in filters {
        settings.add_filter(pattern, text);
    }
    settings.bind(check);
}
