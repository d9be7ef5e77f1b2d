use crate::fixture::{Table, definition_file, endpoint, records, request, store_at, store_with, table_name};
use crate::proxy::{Act, Proxy};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use serde_json::{Value, json};
use whimbrel_dynamodb::{DynamoConfig, DynamoStore};
use whimbrel_model::Logical;
use whimbrel_store::{Creation, Held, KeyPattern, Mode, Store, StoreErrorKind, TargetPlan, WriteRequest};

fn single_table() -> Value {
    let name = |name: &str| json!({"AttributeName": name, "AttributeType": "S"});
    let hash = |name: &str| json!({"AttributeName": name, "KeyType": "HASH"});
    let range = |name: &str| json!({"AttributeName": name, "KeyType": "RANGE"});
    json!({
        "TableName": "somewhere",
        "AttributeDefinitions": [name("pk"), name("sk"), name("gsi1pk")],
        "KeySchema": [hash("pk"), range("sk")],
        "GlobalSecondaryIndexes": [{"IndexName": "gsi1", "KeySchema": [hash("gsi1pk"), range("sk")],
            "Projection": {"ProjectionType": "ALL"}, "ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 3}}],
        "BillingMode": "PROVISIONED",
        "ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 5}
    })
}

fn text(names: &[&str]) -> Schema {
    Schema::new(names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect::<Vec<_>>())
}

async fn plan(request: WriteRequest, schema: &Schema) -> whimbrel_store::Result<TargetPlan> {
    let store = store_with(&endpoint(), &[(&request.table, &definition_file(&single_table()))]);
    store.target(request).unwrap().plan(schema).await
}

#[tokio::test]
async fn create_makes_waits_and_compares() {
    let name = table_name();
    let store = store_with(&endpoint(), &[(&name, &definition_file(&single_table()))]);
    let target = store.target(request(&name, Mode::Upsert)).unwrap();
    assert_eq!(target.identity().await.unwrap(), None);
    assert_eq!(target.create().await.unwrap(), Creation::Created(name.clone()));
    assert_eq!(
        target.create().await.unwrap(),
        Creation::Existed { name: name.clone(), differences: Vec::new() }
    );
    let identity = target.identity().await.unwrap().unwrap();
    assert!(identity.as_str().contains(&name), "{identity}");

    let store = store_with(&endpoint(), &[(&name, &json!({"key": "pk"}))]);
    let other = store.target(request(&name, Mode::Upsert)).unwrap();
    let Creation::Existed { differences, .. } = other.create().await.unwrap() else { panic!("it was there") };
    let differences = differences.join("\n");
    for part in [
        "its key is (pk S HASH, sk S RANGE)",
        "billed provisioned with 5",
        "index `gsi1` that the definition lacks",
    ] {
        assert!(differences.contains(part), "{differences}");
    }
}

#[tokio::test]
async fn a_spec_alone_is_enough() {
    let name = table_name();
    let config = json!({"region": "us-east-1", "endpoint": endpoint(), "tables": {&name: {"key": "id"}}});
    // No credentials are given and the server is on this machine: made-up ones do, unless there are real ones.
    let store = DynamoStore::new("ddb".into(), DynamoConfig::from_value(&config).unwrap());
    let target = store.target(request(&name, Mode::Upsert)).unwrap();
    assert_eq!(target.create().await.unwrap(), Creation::Created(name));
    assert!(target.state().await.unwrap().empty);
    assert!(store.check().await.iter().all(|finding| finding.ok));
    assert_eq!(store.location(), format!("dynamodb://us-east-1 at {}", endpoint()));
}

#[tokio::test]
async fn a_profile_that_is_named_and_missing_is_an_error() {
    let profile = Some("no such profile".to_owned());
    let config = DynamoConfig { profile, endpoint: Some(endpoint()), ..DynamoConfig::default() };
    let error = DynamoStore::new("ddb".into(), config).identity().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unauthenticated);
    assert!(error.hint().unwrap().contains("--aws-profile"), "{:?}", error.hint());
}

#[tokio::test]
async fn what_is_shown_instead_of_a_port_is_part_of_the_identity() {
    let config = DynamoConfig {
        region: Some("us-east-1".into()),
        endpoint: Some(endpoint()),
        shown_as: Some("embedded:data/app.dynamodb".into()),
        ..DynamoConfig::default()
    };
    let store = DynamoStore::new("ddb".into(), config);
    assert_eq!(store.location(), "dynamodb://us-east-1 at embedded:data/app.dynamodb");
    assert_eq!(store.identity().await.unwrap().as_str(), "dynamodb us-east-1 at embedded:data/app.dynamodb");
}

#[tokio::test]
async fn the_plan_of_a_table_to_be_made() {
    let request = request(&table_name(), Mode::Upsert);
    let plan = plan(request, &text(&["pk", "sk", "name"])).await.unwrap();
    assert!(!plan.exists);
    assert!(plan.ddl[0].contains("\"IndexName\": \"gsi1\""), "{}", plan.ddl[0]);
    let hot: Vec<_> = plan.hot_keys.iter().map(|hot| (hot.place.as_str(), hot.column.as_str())).collect();
    assert_eq!(hot, [("table", "pk"), ("gsi1", "gsi1pk")]);
    assert!(plan.notes.iter().any(|note| note.contains("not in gsi1")), "{:?}", plan.notes);
    assert_eq!(plan.fidelity.len(), 3);
}

#[tokio::test]
async fn the_plan_of_a_table_that_is_there() {
    let name = table_name();
    let store = store_with(&endpoint(), &[(&name, &definition_file(&single_table()))]);
    let target = store.target(request(&name, Mode::Upsert)).unwrap();
    target.create().await.unwrap();
    let plan = target.plan(&text(&["pk", "sk", "gsi1pk"])).await.unwrap();
    assert!(plan.exists && plan.ddl.is_empty());
    assert_eq!(plan.write_units_per_second, Some(8.0));
    assert!(
        plan.notes.iter().any(|note| note.contains("provisioned with 5 write units")),
        "{:?}",
        plan.notes
    );
}

#[tokio::test]
async fn a_plan_says_where_point_in_time_recovery_is_off() {
    const OFF: &str = r#"{"ContinuousBackupsDescription": {"ContinuousBackupsStatus": "ENABLED",
        "PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": "DISABLED"}}}"#;
    const ON: &str = r#"{"ContinuousBackupsDescription": {"ContinuousBackupsStatus": "ENABLED",
        "PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": "ENABLED"}}}"#;
    let table = Table::new().await;
    let forbidden = Act::Refuse { status: 400, code: "AccessDeniedException" };
    for (answer, expected) in [(Act::Answer(OFF), true), (Act::Answer(ON), false), (forbidden, false)] {
        let proxy = Proxy::start(&endpoint(), vec![("DescribeContinuousBackups", answer)]).await;
        let target = store_at(&proxy.url).target(request(&table.name, Mode::Upsert)).unwrap();
        let plan = target.plan(&text(&["id"])).await.unwrap();
        let note = plan.notes.iter().any(|note| note.contains("point-in-time recovery"));
        assert_eq!(note, expected, "{:?}", plan.notes);
        assert_eq!(proxy.seen("DescribeContinuousBackups"), 1);
    }
}

#[tokio::test]
async fn plans_that_cannot_work_say_why() {
    let name = table_name();
    let base = || request(&name, Mode::Upsert);
    let at = Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true);
    let with_time =
        Schema::new(vec![Field::new("pk", DataType::Utf8, true), Field::new("sk", DataType::Utf8, true), at]);
    let number =
        Schema::new(vec![Field::new("pk", DataType::Int64, true), Field::new("sk", DataType::Utf8, true)]);
    let json = Schema::new(vec![Field::new("pk", DataType::Utf8, true), Logical::Json.field("sk", true)]);
    let form =
        |column: &str, form: &str| WriteRequest { forms: [(column.into(), form.into())].into(), ..base() };
    let cases = [
        (base(), text(&["pkey", "sk"]), "no column \"pk\""),
        (base(), number, "type S, and the column would arrive as N"),
        (base(), json, "would arrive as M"),
        (
            WriteRequest { key: vec!["id".into()], ..base() },
            text(&["pk", "sk"]),
            "is (pk, sk), the flow says (id)",
        ),
        (form("at", "epoch_s"), with_time.clone(), "would lose something"),
        (form("at", "epoch"), with_time.clone(), "no form `epoch`"),
        (form("pk", "string_set"), with_time.clone(), "does not fit its type"),
        (form("att", "epoch_s"), with_time.clone(), "no column \"att\""),
        (WriteRequest { ignore: vec!["tim".into()], ..base() }, with_time.clone(), "`ignore` names it"),
    ];
    for (request, schema, word) in cases {
        let error = plan(request, &schema).await.unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
    let error = plan(base(), &text(&["pkey", "sk"])).await.unwrap_err();
    assert_eq!(error.hint(), Some("the nearest column is \"pkey\""));
    let allowed = WriteRequest { allow_lossy: vec!["at".into()], ..form("at", "epoch_s") };
    assert!(plan(allowed, &with_time).await.is_ok());
}

#[tokio::test]
async fn a_missing_table_is_named_with_those_that_are_there() {
    let there = Table::new().await;
    let target = there.store.target(request(&table_name(), Mode::Upsert)).unwrap();
    let error = target.state().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NotFound);
    assert!(
        error.to_string().contains("there are ") && error.hint().unwrap().contains("--create"),
        "{error}"
    );
    for error in [target.create().await.unwrap_err(), target.plan(&text(&["id"])).await.unwrap_err()] {
        assert_eq!(error.kind(), StoreErrorKind::NotFound);
        assert!(error.hint().unwrap().contains("tables:"), "{:?}", error.hint());
    }
}

#[tokio::test]
async fn a_path_that_cannot_be_read_is_refused() {
    let store = store_at(&endpoint());
    let wrong = WriteRequest { ignore: vec!["a[x].b".into()], ..request("t", Mode::Upsert) };
    let error = store.target(wrong).err().unwrap();
    assert_eq!(error.kind(), StoreErrorKind::Unsupported);
    assert!(error.to_string().contains("\"a[x].b\" is no path"), "{error}");
}

#[tokio::test]
async fn a_scope_outside_of_the_key_is_refused() {
    let table = Table::new().await;
    let schema = records(0..1, "a").schema();
    for (column, fits) in [("id", true), ("text", false)] {
        let scope = [(column.to_owned(), "x".to_owned())].into();
        let target =
            table.store.target(WriteRequest { scope, ..request(&table.name, Mode::Upsert) }).unwrap();
        match target.plan(&schema).await {
            Ok(_) => assert!(fits, "{column}"),
            Err(error) => assert!(!fits && error.to_string().contains("not there yet"), "{column}: {error}"),
        }
    }
}

#[tokio::test]
async fn counting_by_constants() {
    let table = Table::new().await;
    table.write(Mode::Upsert, &records(0..12, "a")).await;
    table.write(Mode::Upsert, &records(12..20, "b")).await;
    let target = table.target(Mode::Upsert);
    let pattern =
        |column: &str, text: &str, whole| KeyPattern { column: column.into(), text: text.into(), whole };
    for (patterns, expected) in [
        (vec![], 20),
        (vec![pattern("text", "a", true)], 12),
        (vec![pattern("id", "id0001", false)], 10),
        (vec![pattern("id", "id0001", false), pattern("text", "b", true)], 8),
        (vec![pattern("id", "id00003", true)], 1),
        (vec![pattern("id", "id00003", true), pattern("text", "b", false)], 0),
    ] {
        let held = target.count(std::slice::from_ref(&patterns)).await.unwrap();
        assert_eq!(held, Held { flows: vec![expected], others: 20 - expected }, "{patterns:?}");
    }
}
