//! Every type at its extremes and at random, with PostgreSQL's own text as the oracle.
//!
//! The oracle is the type's output function (`format('%s', v)`), written by the server beside the value that
//! the source reads. Values at random come from the server's generator with a seed that a failure names;
//! `WHIMBREL_TEST_SEED` repeats it.

use crate::server::{Fixture, on_each_server, read_all, request};
use arrow::array::{Array, ArrayRef, AsArray as _};
use arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use futures::FutureExt as _;
use whimbrel_model::logical;
use whimbrel_store::{ReadBatch, Relation, Store as _, StoreErrorKind};

/// A type, values of it as SQL literals, and an expression that makes one at random (`n` counts from 1).
pub type Case = (&'static str, &'static [&'static str], &'static str);

/// How many values at random each type has.
const RANDOM: usize = 60;

pub const CASES: [Case; 62] = [
    ("boolean", &["true", "false"], "random() < 0.5"),
    ("smallint", &["-32768", "32767", "0"], "((random() - 0.5) * 65535)::int2"),
    ("integer", &["-2147483648", "2147483647"], "((random() - 0.5) * 4294967295)::int4"),
    ("bigint", &["-9223372036854775808", "9223372036854775807"], "((random() - 0.5) * 1.8e19)::int8"),
    ("oid", &["0", "4294967295"], "((random() * 4294967295)::int8)::oid"),
    (
        "real",
        &["NaN", "Infinity", "-Infinity", "-0", "1e-45", "3.4028235e38"],
        "(random() * 10.0 ^ (n % 70 - 35))::float4",
    ),
    (
        "double precision",
        &["NaN", "Infinity", "-Infinity", "-0", "5e-324", "1.7976931348623157e308"],
        "random() * 10.0::float8 ^ (n * 9 % 600 - 300)",
    ),
    (
        "numeric",
        &[
            "NaN",
            "0",
            "0.000",
            "-0.1000",
            "1e-1000",
            "1e1000",
            "9999",
            "10000",
            "99999999.9999",
            "123456789012345678901234567890.123456789",
        ],
        "(random() - 0.5)::numeric * 10::numeric ^ (n % 80 - 40)",
    ),
    ("numeric(12,4)", &["1", "-99999999.9999", "0.0001", "NaN"], "((random() - 0.5) * 1e8)::numeric(12,4)"),
    (
        "money",
        &["-92233720368547758.08", "92233720368547758.07", "0", "0.01"],
        "((random() - 0.5) * 1e9)::numeric::money",
    ),
    ("text", &["", "it's", "ü🐦\n\t\\", "NULL"], "repeat(chr(32 + (random() * 50000)::int), n)"),
    ("varchar(5)", &["abc", ""], "left(md5(n::text), n % 6)"),
    ("char(6)", &["abc", ""], "left(md5(n::text), n % 6)"),
    ("name", &["a name"], "md5(n::text)::name"),
    ("\"char\"", &["x", "", "1"], "chr(32 + n)::\"char\""),
    ("bytea", &["", "\\x00ff"], "decode(md5(random()::text), 'hex')"),
    (
        "uuid",
        &["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
        "md5(random()::text)::uuid",
    ),
    (
        "json",
        &["{\"a\" : 1.50, \"a\":2}", "null", "1e400"],
        "json_build_object('n', random(), 't', md5(n::text))",
    ),
    (
        "jsonb",
        &["{\"b\": 1.50, \"a\": [1, 12345678901234567890.5]}", "\"x\""],
        "jsonb_build_object('n', random()::numeric, 'l', ARRAY[n])",
    ),
    (
        "date",
        &[
            "infinity",
            "-infinity",
            "4713-01-01 BC",
            "5874897-12-31",
            "0001-01-01",
            "0001-12-31 BC",
            "9999-12-31",
            "10000-01-01",
        ],
        "date '4713-01-01 BC' + (random() * 2147000000)::int",
    ),
    (
        "time",
        &["00:00:00", "24:00:00", "23:59:59.999999", "12:34:56.5"],
        "time '00:00' + random() * interval '1 day'",
    ),
    (
        "timetz",
        &["00:00:00+15:59", "24:00:00-15:59", "12:34:56.789-03:30:15"],
        "('12:00'::time + random() * interval '6 hours')::timetz",
    ),
    (
        "timestamp",
        &[
            "infinity",
            "-infinity",
            "4713-01-01 00:00:00 BC",
            "1970-01-01 00:00:00",
            "2024-02-29 12:34:56.789012",
            "1969-12-31 23:59:59.999999",
            "294246-12-31 23:59:59",
        ],
        "timestamp '4713-01-01 BC' + random() * interval '290000 years'",
    ),
    (
        "timestamptz",
        &[
            "infinity",
            "-infinity",
            "0044-03-15 12:00:00+00 BC",
            "2024-02-29 12:34:56.7+05:30",
            "10000-01-01 00:00:00+00",
        ],
        "timestamptz '4713-01-01 00:00+00 BC' + random() * interval '290000 years'",
    ),
    (
        "timestamp(3)",
        &["2024-02-29 12:34:56.789"],
        "(timestamp '2000-01-01' + random() * interval '1 year')::timestamp(3)",
    ),
    (
        "interval",
        &[
            "00:00:00",
            "178000000 years",
            "-178000000 years",
            "1 year -2 mons 3 days -04:05:06.789",
            "2147483647 days",
            "-2147483647:00:00",
        ],
        "make_interval(months => n - 30, days => n * 7, secs => (random() - 0.5) * 1e6)",
    ),
    (
        "inet",
        &["1.2.3.4", "1.2.3.4/8", "::1", "::ffff:1.2.3.4/96", "0.0.0.0/0"],
        "'0.0.0.0'::inet + (random() * 4294967295)::int8",
    ),
    (
        "cidr",
        &["10.0.0.0/8", "1.2.3.4/32", "2001:db8::/32", "::/0"],
        "network(set_masklen('0.0.0.0'::inet + (random() * 4294967295)::int8, n % 33))",
    ),
    ("macaddr", &["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"], "left(md5(n::text), 12)::macaddr"),
    ("macaddr8", &["08:00:2b:01:02:03:04:05"], "left(md5(n::text), 16)::macaddr8"),
    ("bit(5)", &["10101", "00000"], "(n % 32)::bit(5)"),
    ("bit varying", &["", "1", "10110101011"], "(n::bit(64))::varbit"),
    ("xml", &["<a b=\"1\">ü</a>", "x"], "('<a>' || n || '</a>')::xml"),
    ("point", &["(NaN,Infinity)", "(-0,1e300)"], "point(random(), random())"),
    ("line", &["{1,-1,0}"], "line(point(0, 0), point(1, random()))"),
    ("lseg", &["[(0,0),(1,1)]"], "lseg(point(0, 0), point(n, random()))"),
    ("box", &["(1,1),(0,0)"], "box(point(0, 0), point(n, random()))"),
    ("path", &["[(0,0),(1,1)]", "((0,0),(1,1),(2,0))"], "('((0,0),(' || n || ',1))')::path"),
    ("polygon", &["((0,0),(1,1),(2,0))"], "polygon(box(point(0, 0), point(n, 1)))"),
    ("circle", &["<(0,0),1.5>"], "circle(point(0, 0), random())"),
    ("int4range", &["empty", "(,)", "[1,10)", "(,5)"], "int4range(n, n + 1 + (random() * 9)::int)"),
    ("numrange", &["[1.10,2.20]", "empty"], "numrange(random()::numeric, 2)"),
    (
        "tsrange",
        &["[\"2020-01-01 00:00:00\",infinity)"],
        "tsrange(timestamp '2000-01-01', timestamp '2000-01-02' + random() * interval '1 year')",
    ),
    ("daterange", &["[2020-01-01,2020-02-01)"], "daterange('2000-01-01', date '2000-01-02' + n)"),
    ("int8multirange", &["{}", "{[1,3),[5,9)}"], "int8multirange(int8range(n, n + 5))"),
    ("tsvector", &["'a':1A 'it''s':2"], "to_tsvector('simple', md5(n::text))"),
    ("tsquery", &["'a' & !'b'"], "to_tsquery('simple', md5(n::text))"),
    ("pg_lsn", &["0/0", "FFFFFFFF/FFFFFFFF"], "('0/' || to_hex(n))::pg_lsn"),
    ("regclass", &["pg_class"], "'pg_type'::regclass"),
    ("regtype", &["integer", "text[]"], "'bigint'::regtype"),
    ("xid", &["0", "4294967295"], "n::text::xid"),
    ("tid", &["(0,1)", "(4294967295,65535)"], "('(' || n || ',1)')::tid"),
    ("int2vector", &["1 2 3"], "(n::text || ' 2')::int2vector"),
    ("jsonpath", &["$.\"a\"[*]?(@ > 1)"], "('$.\"a' || n || '\"')::jsonpath"),
    ("txid_snapshot", &["10:20:10,14"], "'1:2:'::txid_snapshot"),
    ("mood", &["happy", "so so"], "(ARRAY['happy', 'so so']::mood[])[1 + n % 2]"),
    ("positive", &["7"], "n::positive"),
    (
        "address",
        &["(1,\"a \"\"b\"\", ü\",)", "(,,)", "(7,\"\",1.2.3.4)"],
        "ROW(n, md5(n::text), NULL)::address",
    ),
    ("addresses", &["(1,x,)"], "ROW(n, md5(n::text), NULL)::addresses"),
    ("host", &["1.2.3.4", "::1/64"], "('10.0.0.' || n)::host"),
    ("matrix", &["{{1,2},{3,4}}", "[0:1]={5,6}", "{}"], "ARRAY[ARRAY[n, n]]::matrix"),
    ("oidvector", &["1 2"], "(n::text || ' 2')::oidvector"),
];

pub const DEFINITIONS: &str = "CREATE TYPE mood AS ENUM ('happy', 'so so'); \
    CREATE DOMAIN positive AS int CHECK (VALUE > 0); CREATE TYPE address AS (n int, street text, host inet); \
    CREATE DOMAIN addresses AS address; CREATE DOMAIN host AS inet; CREATE DOMAIN matrix AS int[][]";

fn seed() -> f64 {
    let from_clock = || f64::from(std::time::UNIX_EPOCH.elapsed().expect("after 1970").subsec_micros()) / 1e6;
    std::env::var("WHIMBREL_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(from_clock)
}

/// What PostgreSQL writes of the value.
fn oracle_of(type_name: &str, value: &str) -> String {
    match type_name {
        // Its own text would be that of a locale.
        "money" => format!("{value}::numeric::text"),
        _ => format!("format('%s', {value})"),
    }
}

async fn fill(fixture: &Fixture, (type_name, values, random): Case, seed: f64) {
    let literals = values.iter().map(|value| format!("('{}'::{type_name})", value.replace('\'', "''")));
    let literals = literals.collect::<Vec<_>>().join(", ");
    fixture
        .run(&format!(
            "SELECT setseed({seed}); CREATE TABLE one (n int PRIMARY KEY, v {type_name}); \
             INSERT INTO one SELECT row_number() OVER (), v FROM (VALUES {literals}) AS t(v); \
             INSERT INTO one SELECT 1000 + n, {random} FROM generate_series(1, {RANDOM}) AS n; \
             INSERT INTO one VALUES (5000, NULL); \
             CREATE VIEW oracle AS SELECT n, {} AS o, v IS NULL AND n = 5000 AS is_null FROM one; {}",
            oracle_of(type_name, "v"),
            if has_lists(type_name) { LISTS } else { "" },
        ))
        .await;
}

/// A list of each value, NULL and the value again.
const LISTS: &str = "CREATE TABLE lists AS SELECT one.n, ARRAY[v, NULL, v] AS v, o.o FROM one JOIN oracle o USING (n) WHERE n < 5000; \
    ALTER TABLE lists ADD PRIMARY KEY (n)";

/// Whether there are arrays of a type whose elements are those of the type.
pub fn has_lists(type_name: &str) -> bool {
    !matches!(type_name, "matrix" | "int2vector" | "oidvector")
}

/// Old servers lack some types.
pub async fn has_type(fixture: &Fixture, name: &str) -> bool {
    let sql = format!("SELECT (to_regtype('{name}') IS NOT NULL)::int");
    fixture.store.query_scalar_i64(&sql).await.expect("an answer") == Some(1)
}

fn texts(batches: &[ReadBatch], name: &str) -> Vec<Option<String>> {
    let text = |batch: &ReadBatch| {
        let column = batch.records.column_by_name(name).expect("the column is there");
        (0..column.len()).map(|row| text_of(column, row)).collect::<Vec<_>>()
    };
    batches.iter().flat_map(text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_what_the_database_says() {
    on_each_server(|fixture| {
        async {
            let seed = seed();
            fixture.run(DEFINITIONS).await;
            let has_xml = fixture.store.execute_script("SELECT '<a/>'::xml").await.is_ok();
            for case in CASES.into_iter().filter(|case| has_xml || case.0 != "xml") {
                if has_type(fixture, case.0).await {
                    compare(fixture, case, seed).await;
                }
            }
        }
        .boxed_local()
    })
    .await;
}

async fn compare(fixture: &Fixture, case: Case, seed: f64) {
    let type_name = case.0;
    fill(fixture, case, seed).await;
    let batches = read_all(&*fixture.table("one"), 3).await;
    assert!(batches.iter().all(|batch| batch.unreadable.is_empty()), "{type_name}, seed {seed}");
    let oracle = read_all(&*fixture.query("SELECT o, is_null FROM oracle ORDER BY n", &[]), 1).await;
    let (ours, mut theirs) = (texts(&batches, "v"), texts(&oracle, "o"));
    assert_eq!(texts(&oracle, "is_null").last(), Some(&Some("t".to_owned())));
    *theirs.last_mut().expect("at least the NULL") = None;
    assert_eq!(ours.len(), case.1.len() + RANDOM + 1, "{type_name}");
    assert_same(type_name, &batches, &ours, &theirs, seed);
    // As text by the spec's wish.
    let mut as_text = request(Relation::Table("one".to_owned()));
    as_text.columns.insert("v".to_owned(), "text".to_owned());
    let as_text = fixture.store.source(as_text).expect("a source");
    let schema = as_text.describe().await.expect("a description").schema;
    let field = schema.field_with_name("v").expect("the column is there");
    assert_eq!(*field.data_type(), DataType::Utf8, "{type_name}");
    assert_ne!(logical::type_name(field), "text[]");
    let as_text = texts(&read_all(&*as_text, 1).await, "v");
    if type_name == "boolean" {
        assert!(as_text.iter().flatten().all(|text| text == "true" || text == "false"));
    } else {
        assert_eq!(as_text, theirs, "{type_name} as text, seed {seed}");
    }
    // In a list, where the type has arrays of its own.
    if has_lists(type_name) {
        let batches = read_all(&*fixture.table("lists"), 1).await;
        let oracle = read_all(&*fixture.query("SELECT o FROM lists ORDER BY n", &[]), 1).await;
        let theirs: Vec<_> =
            texts(&oracle, "o").into_iter().flat_map(|text| [text.clone(), None, text]).collect();
        let elements: Vec<_> = batches.iter().flat_map(elements).collect();
        assert_same(&format!("{type_name}[]"), &batches, &elements, &theirs, seed);
    }
    fixture.run("DROP VIEW oracle; DROP TABLE one; DROP TABLE IF EXISTS lists").await;
}

fn elements(batch: &ReadBatch) -> Vec<Option<String>> {
    let lists = batch.records.column_by_name("v").expect("the column is there");
    let lists = lists.as_list::<i32>();
    let list = |row| {
        let values = lists.value(row);
        (0..values.len()).map(|at| text_of(&values, at)).collect::<Vec<_>>()
    };
    (0..lists.len()).flat_map(list).collect()
}

/// Floats are the same where their bits are; all else where the text is.
fn assert_same(
    what: &str,
    batches: &[ReadBatch],
    ours: &[Option<String>],
    theirs: &[Option<String>],
    seed: f64,
) {
    let field = batches[0].records.schema_ref().field_with_name("v").expect("the column is there").clone();
    let data_type = match field.data_type() {
        DataType::List(element) => element.data_type().clone(),
        other => other.clone(),
    };
    let normal = |text: &Option<String>| match data_type {
        DataType::Float32 => text.as_ref().map(|text| text.parse::<f32>().expect("a float").to_string()),
        DataType::Float64 => text.as_ref().map(|text| text.parse::<f64>().expect("a float").to_string()),
        _ => text.clone(),
    };
    let (ours, theirs): (Vec<_>, Vec<_>) =
        (ours.iter().map(normal).collect(), theirs.iter().map(normal).collect());
    assert_eq!(ours, theirs, "{what}, seed {seed}");
}

/// An Arrow value in the words of PostgreSQL.
fn text_of(column: &ArrayRef, row: usize) -> Option<String> {
    if column.is_null(row) {
        return None;
    }
    Some(match column.data_type() {
        DataType::Boolean => if column.as_boolean().value(row) { "t" } else { "f" }.to_owned(),
        DataType::Int16 => column.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float32 => column.as_primitive::<Float32Type>().value(row).to_string(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).to_string(),
        DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
        DataType::Binary => {
            let bytes = column.as_binary::<i32>().value(row);
            format!("\\x{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
        DataType::Date32 => match column.as_primitive::<Date32Type>().value(row) {
            i32::MAX => "infinity".to_owned(),
            i32::MIN => "-infinity".to_owned(),
            days => {
                let (date, era) = date_text(i64::from(days));
                date + era
            }
        },
        DataType::Time64(_) => time_text(column.as_primitive::<Time64MicrosecondType>().value(row)),
        DataType::Timestamp(_, zone) => match column.as_primitive::<TimestampMicrosecondType>().value(row) {
            i64::MAX => "infinity".to_owned(),
            i64::MIN => "-infinity".to_owned(),
            micros => {
                let (date, era) = date_text(micros.div_euclid(86_400_000_000));
                let zone = if zone.is_some() { "+00" } else { "" };
                format!("{date} {}{zone}{era}", time_text(micros.rem_euclid(86_400_000_000)))
            }
        },
        other => panic!("no text for {other}"),
    })
}

fn time_text(micros: i64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = format!(".{fraction:06}");
    text + fraction.trim_end_matches('0').trim_end_matches('.')
}

/// The proleptic Gregorian calendar, and whether it is before Christ.
fn date_text(days: i64) -> (String, &'static str) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    if year > 0 {
        (format!("{year:04}-{month:02}-{day:02}"), "")
    } else {
        (format!("{:04}-{month:02}-{day:02}", 1 - year), " BC")
    }
}

/// Types of extensions, where the server has them.
const EXTENSIONS: [(&str, Case); 6] = [
    ("hstore", ("hstore", &["", "\"a b\"=>\"1\", \"c\"=>NULL"], "hstore('n', n::text)")),
    ("citext", ("citext", &["Ab", ""], "md5(n::text)::citext")),
    ("ltree", ("ltree", &["a.b.c", ""], "('a.' || n)::ltree")),
    ("cube", ("cube", &["(1, 2)"], "cube(random())")),
    ("vector", ("sparsevec(5)", &["{1:1.5,3:-2}/5", "{}/5"], "('{1:' || n || '}/5')::sparsevec")),
    ("isn", ("isbn", &["0-393-04002-X"], "'0-393-04002-X'::isbn")),
];

async fn has_extension(fixture: &Fixture, name: &str) -> bool {
    let sql = format!("SELECT count(*) FROM pg_available_extensions WHERE name = '{name}'");
    fixture.store.query_scalar_i64(&sql).await.expect("a count") == Some(1)
        && fixture.store.execute_script(&format!("CREATE EXTENSION IF NOT EXISTS {name}")).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn types_of_extensions() {
    on_each_server(|fixture| {
        async {
            let seed = seed();
            for (extension, case) in EXTENSIONS {
                if has_extension(fixture, extension).await {
                    compare(fixture, case, seed).await;
                }
            }
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_are_lists_bit_for_bit() {
    on_each_server(|fixture| {
        async {
            if !has_extension(fixture, "vector").await {
                return;
            }
            fixture
                .run(
                    "CREATE TABLE v (id int PRIMARY KEY, a vector(3), b vector, c halfvec(2), d vector[]); \
                     INSERT INTO v VALUES (1, '[-0,1e-45,3.4028235e38]', '[0.1]', '[65504,-0.00006103515625]', ARRAY['[1,2]'::vector]), (2, NULL, NULL, NULL, NULL); \
                     INSERT INTO v SELECT n, ARRAY[random(), random(), random()]::vector, NULL, ARRAY[random(), 1]::halfvec, NULL FROM generate_series(3, 200) n",
                )
                .await;
            let batches = read_all(&*fixture.table("v"), 1).await;
            let records = &batches[0].records;
            let floats = |name: &str, row| {
                let lists = records.column_by_name(name).unwrap().as_list::<i32>();
                lists.is_valid(row).then(|| lists.value(row).as_primitive::<Float32Type>().values().to_vec())
            };
            let bits = |floats: Vec<f32>| floats.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            assert_eq!(floats("a", 0).map(bits), Some(bits(vec![-0.0, f32::from_bits(1), f32::MAX])));
            assert_eq!((floats("b", 0), floats("c", 0)), (Some(vec![0.1]), Some(vec![65_504.0, -0.000_061_035_156])));
            assert_eq!((floats("a", 1), floats("c", 1)), (None, None));
            assert_eq!(logical::type_name(records.schema_ref().field_with_name("a").unwrap()), "vector(3)");
            let oracle = read_all(&*fixture.query("SELECT a::real[] AS a, c::vector::real[] AS c FROM v ORDER BY id", &[]), 1).await;
            for name in ["a", "c"] {
                let all = |batches: &[ReadBatch]| {
                    let column = |batch: &ReadBatch| batch.records.column_by_name(name).unwrap().as_list::<i32>().clone();
                    batches.iter().map(column).collect::<Vec<_>>()
                };
                assert_eq!(all(&batches), all(&oracle), "{name}");
            }
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arrays_of_any_shape() {
    on_each_server(|fixture| {
        async {
            fixture
                .run(
                    "CREATE TABLE a (n int PRIMARY KEY, flat int[], deep int[][]); INSERT INTO a VALUES \
                     (1, '{1,NULL}', '{{1,2},{3,NULL}}'), (2, '{{1},{2}}', '{}'), (3, '[2:3]={5,6}', '[-1:0][2:2]={{1},{2}}'), (4, '{}', NULL)",
                )
                .await;
            let batches = read_all(&*fixture.table("a"), 1).await;
            let deep = texts(&batches, "deep");
            assert_eq!(deep, [Some("{{1,2},{3,NULL}}"), Some("{}"), Some("[-1:0][2:2]={{1},{2}}"), None].map(|t| t.map(str::to_owned)));
            let rows: Vec<_> = batches[0].unreadable.iter().map(|value| value.row).collect();
            assert_eq!(rows, [1, 2], "a list holds one dimension from 1 on");
            assert!(batches[0].unreadable[0].reason.contains("`columns: { flat: text }`"));
            let mut declared = request(Relation::Table("a".to_owned()));
            declared.columns = [("flat", "text"), ("deep", "json")].map(|(n, t)| (n.to_owned(), t.to_owned())).into();
            let batches = read_all(&*fixture.store.source(declared).unwrap(), 1).await;
            assert!(batches[0].unreadable.is_empty());
            assert_eq!(texts(&batches, "flat")[2].as_deref(), Some("[2:3]={5,6}"));
            assert_eq!(texts(&batches, "deep")[0].as_deref(), Some("[[1,2],[3,null]]"));
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_columns_declares_is_taken_or_refused() {
    on_each_server(|fixture| {
        async {
            fixture
                .run(
                    "CREATE TABLE d (n int PRIMARY KEY, doc text NOT NULL, at timestamp NOT NULL); INSERT INTO d VALUES \
                     (1, '{\"a\": 1.50}', '294276-12-31 23:59:59.999999'), (2, 'no json', 'infinity')",
                )
                .await;
            let with = |columns: &[(&str, &str)]| {
                let mut request = request(Relation::Table("d".to_owned()));
                request.columns = columns.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
                fixture.store.source(request).unwrap()
            };
            let batches = read_all(&*with(&[("doc", "json"), ("at", "text"), ("n", "number")]), 1).await;
            assert_eq!(texts(&batches, "at"), ["294276-12-31 23:59:59.999999", "infinity"].map(|t| Some(t.to_owned())));
            assert_eq!(texts(&batches, "doc"), [Some("{\"a\": 1.50}".to_owned()), None]);
            assert_eq!(texts(&batches, "n"), ["1", "2"].map(|t| Some(t.to_owned())));
            assert_eq!(batches[0].unreadable[0].raw, b"no json");
            let error = with(&[("doc", "boolean")]).describe().await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Unsupported);
            assert!(error.hint().unwrap().contains("text, json"), "{error:?}");
            let error = with(&[("dok", "json")]).describe().await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::NotFound);
            assert!(error.hint().unwrap().contains("are doc"), "{error:?}");
            // A change of a column that is read in another form is still seen.
            let source = with(&[("at", "text")]);
            let part = source.slices(1).await.unwrap().remove(0);
            fixture.run("ALTER TABLE d ALTER COLUMN at TYPE timestamptz").await;
            let error = source.read(&part, None, &whimbrel_store::conformance::context()).await.err().unwrap();
            assert_eq!(error.kind(), StoreErrorKind::Drift);
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_says_where_its_point_stands() {
    on_each_server(|fixture| {
        async {
            fixture.run("CREATE TABLE m (n int PRIMARY KEY, price money); INSERT INTO m VALUES (1, 12.34::numeric)").await;
            let description = fixture.table("m").describe().await.unwrap();
            assert!(description.notes.iter().any(|note| note.contains("`price`") && note.contains("2 digits")), "{:?}", description.notes);
            let field = description.schema.field_with_name("price").unwrap();
            assert_eq!((logical::type_name(field).as_str(), logical::Logical::of(field)), ("money", Some(logical::Logical::Number)));
        }
        .boxed_local()
    })
    .await;
}
