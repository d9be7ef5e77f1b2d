//! What a source is told that nobody looks at is not read.

use crate::server::{Fixture, column, on_each_server, read_all, request};
use futures::FutureExt as _;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use whimbrel_store::{Comparison, Condition, Literal, ReadRequest, Relation, Source, Store as _};

const TABLE: &str = "CREATE TABLE people (id int PRIMARY KEY, name text, note varchar(20), code char(4), is_active boolean, born date); \
    INSERT INTO people VALUES (1, 'Ann', 'a', 'x', true, NULL), (2, 'ann', NULL, 'x ', false, NULL), (3, 'äpfel', 'b%', 'y', NULL, NULL), \
    (4, NULL, 'b%c', 'z', true, NULL), (-5, 'Zoe', '', NULL, false, NULL), (6, 'apple', 'B', NULL, true, NULL)";

fn source(fixture: &Fixture, of: ReadRequest) -> Arc<dyn Source> {
    fixture.store.source(of).expect("a source")
}

fn named(names: &[&str]) -> Option<BTreeSet<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

async fn columns(source: &Arc<dyn Source>) -> Vec<String> {
    let schema = source.describe().await.unwrap_or_else(|error| panic!("{error}: {error:?}")).schema;
    schema.fields().iter().map(|field| field.name().clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_nobody_wants_are_left_where_they_are() {
    on_each_server(|fixture| {
        async {
            fixture.run(TABLE).await;
            let table = || request(Relation::Table("people".to_owned()));
            let some = source(fixture, ReadRequest { wanted: named(&["name", "born"]), ..table() });
            assert_eq!(columns(&some).await, ["id", "name", "born"], "the key is always read");
            assert_eq!(column(&read_all(&*some, 2).await, "id").len(), 6);
            // Whoever asks for what is not there is told what there is.
            let wrong = source(fixture, ReadRequest { wanted: named(&["nmae"]), ..table() });
            assert_eq!(columns(&wrong).await.len(), 6);
            let nothing = source(fixture, ReadRequest { wanted: named(&[]), ..table() });
            assert_eq!(columns(&nothing).await, ["id"]);
            let query = |sql: &str| request(Relation::Query(sql.to_owned()));
            let sql = "SELECT p.*, 1 AS one FROM people p WHERE {slice}";
            let by_key =
                ReadRequest { slice_by: vec!["p.id".to_owned()], wanted: named(&["one"]), ..query(sql) };
            let by_key = source(fixture, by_key);
            assert_eq!(columns(&by_key).await, ["id", "one"]);
            assert_eq!(column(&read_all(&*by_key, 3).await, "one"), vec![json!(1); 6]);
            let counted =
                source(fixture, ReadRequest { wanted: named(&[]), ..query("SELECT name, id FROM people") });
            assert_eq!(columns(&counted).await, ["name"]);
        }
        .boxed_local()
    })
    .await;
}

fn compare(name: &str, comparison: Comparison, value: Literal) -> Condition {
    Condition::Compare(name.to_owned(), comparison, value)
}

fn text(text: &str) -> Literal {
    Literal::Text(text.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn records_beyond_the_condition_are_left_where_they_are() {
    on_each_server(|fixture| {
        async {
            fixture.run(TABLE).await;
            use Comparison::{Equal, Greater, Less, LessOrEqual};
            let present = |name: &str| Condition::Present(name.to_owned());
            let starts = |name: &str, with: &str| Condition::StartsWith(name.to_owned(), with.to_owned());
            for (condition, expected) in [
                (compare("id", Equal, Literal::Number("3".into())), vec![3]),
                (compare("id", Less, Literal::Number("2".into())), vec![-5, 1]),
                // What is no whole number is left to whimbrel, as are numbers over text.
                (compare("id", Less, Literal::Number("1.5".into())), vec![-5, 1, 2, 3, 4, 6]),
                (compare("name", Less, Literal::Number("1".into())), vec![-5, 1, 2, 3, 4, 6]),
                (compare("name", Equal, text("ann")), vec![2]),
                // By bytes, whatever the collation.
                (compare("name", Less, text("a")), vec![-5, 1]),
                (compare("name", Greater, text("b")), vec![3]),
                (compare("note", LessOrEqual, text("B")), vec![-5, 6]),
                (starts("note", "b%"), vec![3, 4]),
                // A text of fixed length is padded here and not there.
                (compare("code", Equal, text("x   ")), vec![-5, 1, 2, 3, 4, 6]),
                (compare("is_active", Equal, Literal::Boolean(false)), vec![-5, 2]),
                (present("name"), vec![-5, 1, 2, 3, 6]),
                (
                    Condition::All(vec![
                        present("note"),
                        compare("code", Equal, text("x")),
                        starts("name", "A"),
                    ]),
                    vec![1],
                ),
                (
                    Condition::Any(vec![
                        starts("name", "Z"),
                        compare("id", Equal, Literal::Number("6".into())),
                    ]),
                    vec![-5, 6],
                ),
                // Of an alternative one side is not enough.
                (
                    Condition::Any(vec![starts("name", "Z"), compare("code", Equal, text("x"))]),
                    vec![-5, 1, 2, 3, 4, 6],
                ),
                (compare("name", Equal, text("it's \\ ")), vec![]),
            ] {
                let relations = [
                    (Relation::Table("people".to_owned()), vec![]),
                    (Relation::Query("SELECT * FROM people WHERE {slice}".to_owned()), vec!["id".to_owned()]),
                ];
                for (relation, slice_by) in relations {
                    let of =
                        ReadRequest { condition: Some(condition.clone()), slice_by, ..request(relation) };
                    let all = ReadRequest { wants_all: true, ..of.clone() };
                    let source = source(fixture, of);
                    let mut found: Vec<Value> = column(&read_all(&*source, 2).await, "id");
                    found.sort_by_key(Value::as_i64);
                    assert_eq!(
                        found,
                        expected.iter().map(|id| json!(id)).collect::<Vec<_>>(),
                        "{condition:?}"
                    );
                    let count = source.describe().await.expect("a description").records;
                    assert_eq!(count, u64::try_from(expected.len()).ok(), "{condition:?}");
                    let all = self::source(fixture, all);
                    assert_eq!(column(&read_all(&*all, 2).await, "id").len(), 6, "they are to be counted");
                }
            }
        }
        .boxed_local()
    })
    .await;
}
