//! A report with fixed data, in which everything occurs.

use whimbrel_model::{Capacity, ColumnFidelity, Counts, Fidelity, Stage};
use whimbrel_report::Report;
use whimbrel_report::report::{
    AssertionFacts, AttributeFacts, ComparedFlow, CostFacts, DeletionFacts, DepthFacts, DifferenceFacts,
    FingerprintFacts, FlowFacts, FlowPlanFacts, Outcome, PatternFacts, PlannedCost, ProcessFacts,
    ReasonFacts, RejectFacts, RejectSample, RunFacts, SpecFacts, StoreFacts, StretchFacts, TableUndoneFacts,
    TargetFacts, Throughput, UndoneFacts, VerificationFacts,
};

/// Every text of others goes through `foreign`.
pub type Foreign = dyn Fn(&str) -> String;

/// As it is written.
pub fn plain(text: &str) -> String {
    text.to_owned()
}

/// A run with rejects, a resume, a plan, and a verification that found differences.
pub fn report(foreign: &Foreign) -> Report {
    let mut report = Report {
        migration: foreign("contramate"),
        environment: Some(foreign("live")),
        outcome: Outcome::Incomplete,
        exit_code: None,
        sentence: String::new(),
        next: Vec::new(),
        written: "2026-01-05T13:00:00Z".to_owned(),
        version: "0.1.0".to_owned(),
        spec: SpecFacts { path: foreign("migrations/contramate.yaml"), digest: "5f".repeat(32) },
        stores: vec![
            StoreFacts {
                name: foreign("app"),
                location: foreign("DynamoDB eu-west-1, account 123456789012"),
            },
            StoreFacts {
                name: foreign("main"),
                location: foreign("postgres://app@db.example:5432/contramate"),
            },
        ],
        run: Some(run(foreign)),
        verification: Some(verification(foreign)),
    };
    report.conclude();
    report
}

fn run(foreign: &Foreign) -> RunFacts {
    let conversations =
        Counts { read: 24_310, created: 24_298, rejected: 12, bytes: 9_800_000, ..Counts::default() };
    let messages = Counts {
        read: 241_077,
        created: 199_000,
        updated: 30_500,
        unchanged: 8_000,
        skipped: 2_000,
        rejected: 77,
        filtered: 1_500,
        bytes: 88_000_000,
    };
    let totals: Counts = [conversations, messages].into_iter().sum();
    RunFacts {
        id: "019b8e2f-0000-7000-8000-00000badcafe".to_owned(),
        retry_of: None,
        started: "2026-01-05T12:00:00Z".to_owned(),
        ended: Some("2026-01-05T12:31:40Z".to_owned()),
        seconds: 1_900.0,
        resumes: 1,
        slices_done: 64,
        slices: 64,
        process: Some(ProcessFacts {
            version: "0.1.0".to_owned(),
            seconds: 180.25,
            peak_memory_bytes: 183_500_800,
            retries: 41,
            throttles: 7,
        }),
        error: Some(foreign("store `main`: the connection was lost")),
        totals,
        balanced: true,
        success_rate: totals.success_rate(),
        flows: vec![
            flow(foreign, "conversations", conversations, true),
            flow(foreign, "messages", messages, false),
        ],
        throughput: throughput(),
        rejects: rejects(foreign),
        unmatched: vec![PatternFacts { pattern: foreign("sk=DRAFT#*"), records: 3 }],
        shared: 2,
        capacity: Capacity { read_units: 33_120.5, ..Capacity::default() },
        cost: CostFacts {
            planned: Some(PlannedCost {
                records: 265_000,
                capacity: Capacity { read_units: 33_000.0, ..Capacity::default() },
                usd: 0.004_125,
                seconds: 160.0,
            }),
            actual_usd: 0.004_14,
            at_least: false,
            projected_usd: Some(0.004_14),
            prices: "us-east-1 on demand, November 2024".to_owned(),
        },
        undone: Some(undone(foreign)),
    }
}

fn undone(foreign: &Foreign) -> UndoneFacts {
    let table = |table: &str, way: &str, conflicting: Vec<String>| TableUndoneFacts {
        store: foreign("main"),
        table: foreign(table),
        way: way.to_owned(),
        restored: 30_500,
        removed: 199_000,
        conflicts: u64::try_from(conflicting.len()).unwrap_or(0),
        conflicting,
    };
    UndoneFacts {
        ended: "2026-01-05T12:50:00Z".to_owned(),
        tables: vec![
            table("messages", "restore", vec![foreign("id 7")]),
            table("conversations", "remove", Vec::new()),
        ],
    }
}

fn flow(foreign: &Foreign, name: &str, counts: Counts, made: bool) -> FlowFacts {
    let column = |column: &str, from: &str, into: &str, fidelity| ColumnFidelity {
        column: foreign(column),
        from: foreign(from),
        into: foreign(into),
        fidelity,
    };
    FlowFacts {
        name: foreign(name),
        counts,
        balanced: counts.balanced(),
        expected: Some(counts.read),
        target: Some(TargetFacts { resource: foreign(name), made, empty: true }),
        fingerprints: FingerprintFacts { records: counts.created, digest: "a7".repeat(32) },
        deletions: (!made).then(|| DeletionFacts {
            deleted: 1_204,
            left: 1,
            first_left: vec![foreign("{\"id\": 9}: it was changed after it was read")],
            nothing: None,
        }),
        plan: Some(FlowPlanFacts {
            from: foreign("app: ConversationTable"),
            into: foreign(&format!("main: {name}")),
            mode: "upsert".to_owned(),
            key: vec![foreign("id")],
            columns: vec![
                column(
                    "id",
                    "text",
                    "uuid",
                    Fidelity::Reversible(foreign("hyphens and case are PostgreSQL's")),
                ),
                column("title", "text", "text", Fidelity::Exact),
                column("filter_values", "json", "jsonb", Fidelity::Lossy(foreign("the order of members"))),
                column(
                    "created_at",
                    "text",
                    "timestamptz",
                    Fidelity::Reversible(foreign("the instant in UTC")),
                ),
                column("is_active", "boolean", "boolean", Fidelity::Exact),
            ],
            notes: vec![foreign("no two records can have the same key")],
            ddl: if made {
                vec![foreign("CREATE TABLE conversations (\n  id uuid PRIMARY KEY\n)")]
            } else {
                Vec::new()
            },
        }),
    }
}

fn throughput() -> Throughput {
    let began_ms = 1_767_614_400_000_i64;
    let course = |from_ms: i64, records: u64, seconds: i64| -> Vec<(i64, u64, u64, u64)> {
        let sample = |second: i64| {
            let moved = u64::try_from(second * 1_400 - (second % 7) * 180).unwrap_or(0);
            (from_ms + second * 1_000, records + moved, moved / 3_000, (records + moved) * 360)
        };
        (0..=seconds).map(sample).collect()
    };
    Throughput {
        mean_per_s: Some(1_396.6),
        peak_per_s: Some(1_858.4),
        working_seconds: 189.0,
        stretches: vec![
            StretchFacts {
                began: "2026-01-05T12:00:00Z".to_owned(),
                ended: "2026-01-05T12:02:00Z".to_owned(),
                samples: course(began_ms, 0, 120),
            },
            StretchFacts {
                began: "2026-01-05T12:30:30Z".to_owned(),
                ended: "2026-01-05T12:31:39Z".to_owned(),
                samples: course(began_ms + 1_830_000, 168_000, 69),
            },
        ],
    }
}

fn rejects(foreign: &Foreign) -> RejectFacts {
    let reason = |flow: &str, stage, reason: &str, count, example: &str| ReasonFacts {
        flow: foreign(flow),
        stage,
        reason: foreign(reason),
        count,
        example: foreign(example),
    };
    let sample = |flow: &str, key: &str, reason: &str| RejectSample {
        flow: foreign(flow),
        stage: Stage::Check,
        key: foreign(key),
        reason: foreign(reason),
    };
    RejectFacts {
        count: 89,
        file: Some(foreign(".whimbrel/runs/019b8e2f/rejects.ndjson")),
        reasons: vec![
            reason("messages", Stage::Check, "Missing role field", 41, "pk USER#7, sk MSG#1#2"),
            reason(
                "messages",
                Stage::Write,
                "conversation_id names no conversation",
                30,
                "pk USER#9, sk MSG#4#4",
            ),
            reason(
                "conversations",
                Stage::Check,
                "Invalid UUID format: CONV#172",
                12,
                "pk USER#7, sk CONV#172",
            ),
        ],
        other: 6,
        samples: vec![
            sample("conversations", "pk USER#7, sk CONV#172", "Invalid UUID format: CONV#172"),
            sample("messages", "pk USER#7, sk MSG#1#2", "Missing role field"),
        ],
    }
}

fn verification(foreign: &Foreign) -> VerificationFacts {
    let attribute = |name: &str, source: Option<&str>, target: Option<&str>| AttributeFacts {
        name: foreign(name),
        source: source.map(foreign),
        target: target.map(foreign),
    };
    let compared = |name: &str, compared, missing, different| ComparedFlow {
        name: foreign(name),
        compared,
        missing,
        extra: 0,
        different,
        kept: 0,
        rejected: 12,
    };
    let assertion = |name: &str, ok, expected: &str, value: &str, examples: Vec<String>| AssertionFacts {
        name: foreign(name),
        ok,
        expected: foreign(expected),
        value: foreign(value),
        examples,
        seconds: 0.42,
    };
    VerificationFacts {
        equal: false,
        depth: DepthFacts::Sample { records: 1_000, seed: u64::MAX.to_string() },
        ended: "2026-01-05T12:33:00Z".to_owned(),
        seconds: 78.5,
        capacity: Capacity { read_units: 33_120.5, ..Capacity::default() },
        flows: vec![compared("conversations", 93, 0, 1), compared("messages", 907, 1, 0)],
        assertions: vec![
            assertion("no orphans", true, "= 0", "0", Vec::new()),
            assertion(
                "every item has an owner",
                false,
                "no NULL",
                "2",
                vec![foreign("items 17"), foreign("items 19")],
            ),
        ],
        others: 1,
        difference_count: 3,
        differences: vec![
            DifferenceFacts {
                flow: Some(foreign("conversations")),
                kind: "different".to_owned(),
                key: foreign("id 0a6f2c1e-7c1b-4c39-9a51-6a7f6b9a4c11"),
                since: Some("target_changed".to_owned()),
                attributes: vec![
                    attribute(
                        "amount",
                        Some("12345678901234567890123456789012345678"),
                        Some("12345678901234567890123456789012345679"),
                    ),
                    attribute("tags", Some("[]"), None),
                ],
            },
            DifferenceFacts {
                flow: None,
                kind: "extra".to_owned(),
                key: foreign("id 7"),
                since: None,
                attributes: Vec::new(),
            },
        ],
        differences_file: Some(foreign(".whimbrel/runs/019b8e2f/differences.ndjson")),
        notes: vec![foreign("Column `note` is ignored, as the spec says.")],
    }
}
