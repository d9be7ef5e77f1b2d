use super::{Filled, all, lines};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use whimbrel_store::conformance::context;
use whimbrel_store::{Comparison, Condition, Literal, ReadRequest};

fn compare(column: &str, comparison: Comparison, text: &str) -> Condition {
    Condition::Compare(column.to_owned(), comparison, Literal::Text(text.to_owned()))
}

fn equal(column: &str, text: &str) -> Condition {
    compare(column, Comparison::Equal, text)
}

fn starts(column: &str, prefix: &str) -> Condition {
    Condition::StartsWith(column.to_owned(), prefix.to_owned())
}

/// What the engine would decide of columns that are read as text.
fn holds(condition: &Condition, row: &Map<String, Value>) -> bool {
    let text = |column: &String| row[column].as_str();
    match condition {
        Condition::All(conditions) => conditions.iter().all(|condition| holds(condition, row)),
        Condition::Any(conditions) => conditions.iter().any(|condition| holds(condition, row)),
        Condition::Present(column) => text(column).is_some(),
        Condition::StartsWith(column, prefix) => text(column).is_some_and(|text| text.starts_with(prefix)),
        Condition::Compare(column, comparison, Literal::Text(bound)) => text(column).is_some_and(|text| {
            let order = text.cmp(bound.as_str());
            match comparison {
                Comparison::Equal => order.is_eq(),
                Comparison::Less => order.is_lt(),
                Comparison::LessOrEqual => order.is_le(),
                Comparison::Greater => order.is_gt(),
                Comparison::GreaterOrEqual => order.is_ge(),
            }
        }),
        Condition::Compare(..) => panic!("only text here"),
    }
}

#[tokio::test]
async fn a_pushed_filter_loses_nothing_that_the_engine_takes() {
    let values = [
        json!({"S": "5"}),
        json!({"N": "5"}),
        json!({"S": "true"}),
        json!({"BOOL": true}),
        json!({"NULL": true}),
        json!({"B": "AP8="}),
        json!({"S": "AP8="}),
        json!({"SS": ["5"]}),
        json!({"L": [{"N": "1"}]}),
        json!({"M": {}}),
        json!({"S": ""}),
        json!({"S": "zzz"}),
    ];
    let item = |(number, value): (usize, &Value)| json!({"id": {"S": format!("k{number}")}, "a": value});
    let mut items: Vec<Value> = values.iter().enumerate().map(item).collect();
    items.push(json!({"id": {"S": "without"}}));
    let table = Filled::with(&[("id", "S")], &[], &items).await;
    let everything = table.rows(&["a"], Condition::All(Vec::new())).await;
    assert_eq!(everything.len(), items.len());
    for condition in [
        equal("a", "5"),
        equal("a", "true"),
        equal("a", "AP8="),
        equal("a", "{}"),
        equal("a", ""),
        compare("a", Comparison::Less, "6"),
        compare("a", Comparison::LessOrEqual, "5"),
        compare("a", Comparison::Greater, "t"),
        compare("a", Comparison::GreaterOrEqual, "zzz"),
        starts("a", "["),
        starts("a", "t"),
        Condition::Present("a".to_owned()),
        Condition::Any(vec![equal("a", "zzz"), starts("id", "without")]),
        Condition::All(vec![Condition::Present("a".to_owned()), compare("id", Comparison::Greater, "k5")]),
    ] {
        let left = table.rows(&["a"], condition.clone()).await;
        let ids = |rows: &[Map<String, Value>]| -> BTreeSet<String> {
            rows.iter().filter(|row| holds(&condition, row)).map(|row| row["id"].to_string()).collect()
        };
        assert_eq!(ids(&left), ids(&everything), "{condition:?}");
        assert!(
            left.len() < items.len() || condition == equal("a", ""),
            "something is left out: {condition:?}"
        );
    }
}

#[tokio::test]
async fn numbers_and_truth_values_are_filtered_where_they_are_declared() {
    let item = |(id, n, flag): (&str, Value, Value)| json!({"id": {"S": id}, "n": n, "flag": flag});
    let items = [
        ("a", json!({"N": "5.0"}), json!({"BOOL": true})),
        ("b", json!({"N": "6"}), json!({"BOOL": false})),
        ("c", json!({"S": "5"}), json!({"S": "true"})),
    ];
    let table = Filled::with(&[("id", "S")], &[], &items.map(item)).await;
    for (column, word, literal) in
        [("n", "number", Literal::Number("5".to_owned())), ("flag", "boolean", Literal::Boolean(true))]
    {
        let request = ReadRequest {
            columns: [(column.to_owned(), word.to_owned())].into(),
            condition: Some(Condition::Compare(column.to_owned(), Comparison::Equal, literal)),
            ..table.request(&[column])
        };
        let source = table.source(request);
        assert!(!source.describe().await.unwrap().sees_all);
        let part = source.slices(1).await.unwrap().remove(0);
        let rows = lines(&all(&*source, &part, None, &context()).await.unwrap());
        let ids: BTreeSet<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
        assert_eq!(ids, BTreeSet::from(["a", "c"]), "{column}");
    }
}

#[tokio::test]
async fn whoever_wants_all_gets_all() {
    let items: Vec<_> = (0..10).map(|id| json!({"id": {"S": format!("k{id}")}})).collect();
    let table = Filled::with(&[("id", "S")], &[], &items).await;
    let request = ReadRequest { condition: Some(starts("id", "k1")), wants_all: true, ..table.request(&[]) };
    let source = table.source(request);
    assert!(source.describe().await.unwrap().sees_all);
    let part = source.slices(1).await.unwrap().remove(0);
    assert_eq!(lines(&all(&*source, &part, None, &context()).await.unwrap()).len(), 10);
}

#[tokio::test]
async fn keys_are_looked_up_and_the_rest_is_not_read() {
    let item = |number: usize| {
        let (pk, sk) = (format!("P#{}", number % 4), format!("S#{number:03}"));
        json!({"pk": {"S": pk}, "sk": {"S": sk}, "g": {"S": pk}, "pad": {"S": "x".repeat(500)}})
    };
    let items: Vec<_> = (0..80).map(item).collect();
    let table = Filled::with(&[("pk", "S"), ("sk", "S")], &[("by_g", &[("g", "S")])], &items).await;
    let two = Condition::Any(vec![
        Condition::All(vec![equal("pk", "P#1"), starts("sk", "S#00")]),
        Condition::All(vec![equal("pk", "P#2"), equal("sk", "S#002")]),
    ]);
    let between = Condition::All(vec![
        equal("pk", "P#0"),
        compare("sk", Comparison::Greater, "S#010"),
        compare("sk", Comparison::LessOrEqual, "S#020"),
    ]);
    let filtered = Condition::All(vec![equal("g", "P#3"), starts("sk", "S#07")]);
    for (condition, place, expected) in [
        (equal("pk", "P#1"), "the table", 20),
        (equal("pk", "nobody"), "the table", 0),
        (two, "the table", 4),
        (between, "the table", 3),
        (equal("g", "P#3"), "index by_g", 20),
        (filtered, "index by_g", 3),
    ] {
        let request = ReadRequest { condition: Some(condition.clone()), ..table.request(&["pad"]) };
        let source = table.source(request);
        let description = source.describe().await.unwrap();
        assert!(!description.sees_all);
        let note = &description.notes[0];
        assert!(note.starts_with(&format!("Query on {place}: ")), "{note}");
        let context = context();
        let mut rows = Vec::new();
        for part in source.slices(4).await.unwrap() {
            rows.extend(lines(&all(&*source, &part, None, &context).await.unwrap()));
        }
        assert_eq!(rows.len(), expected, "{condition:?}");
        assert!(rows.iter().all(|row| row["pad"].is_string()));
        assert!(context.meter.capacity().read_units <= 3.0, "{:?}", context.meter.capacity());
    }
}
