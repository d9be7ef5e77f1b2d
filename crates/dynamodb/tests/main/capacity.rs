//! Capacity that is raised and put back, and backups.

use crate::fixture::{definition_file, endpoint, request, store_at, store_with, table_name};
use crate::proxy::{Act, Proxy};
use arrow::datatypes::Schema;
use serde_json::json;
use whimbrel_dynamodb::{DuringRun, DynamoConfig, DynamoStore, StaticCredentials};
use whimbrel_store::{Mode, Provisioned, Raise, Store, StoreErrorKind};

fn store(write: Option<u64>) -> DynamoStore {
    let config = DynamoConfig {
        region: Some("us-east-1".into()),
        endpoint: Some(endpoint()),
        credentials: Some(StaticCredentials::dummy()),
        capacity: Some(DuringRun { read: Some(4), write }),
        ..DynamoConfig::default()
    };
    DynamoStore::new("ddb".into(), config)
}

async fn make(billing: serde_json::Value) -> String {
    let name = table_name();
    let mut table = json!({
        "TableName": name,
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}, {"AttributeName": "at", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "GlobalSecondaryIndexes": [{"IndexName": "by-at", "KeySchema": [{"AttributeName": "at", "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "KEYS_ONLY"}}]
    });
    if let Some(throughput) = billing.as_object() {
        table["ProvisionedThroughput"] = json!(throughput);
        table["GlobalSecondaryIndexes"][0]["ProvisionedThroughput"] = json!(throughput);
    } else {
        table["BillingMode"] = "PAY_PER_REQUEST".into();
    }
    let store = store_with(&endpoint(), &[(&name, &definition_file(&table))]);
    let target = store.target(request(&name, Mode::Upsert)).unwrap();
    target
        .plan(&Schema::new(vec![arrow::datatypes::Field::new("id", arrow::datatypes::DataType::Utf8, true)]))
        .await
        .unwrap();
    target.create().await.unwrap();
    name
}

fn of_table(raise: &[Provisioned]) -> (u64, u64) {
    (raise[0].read, raise[0].write)
}

#[tokio::test]
async fn a_table_is_raised_and_put_back() {
    let name = make(json!({"ReadCapacityUnits": 5, "WriteCapacityUnits": 6})).await;
    let store = store(Some(60));
    let raises = store.raises(&[name.clone(), "not_there".to_owned()]).await.unwrap();
    let [raise] = &raises[..] else { panic!("one table is raised: {raises:?}") };
    assert_eq!((of_table(&raise.before), of_table(&raise.during)), ((5, 6), (5, 60)), "nothing is lowered");
    assert_eq!(raise.during[1], Provisioned { index: Some("by-at".to_owned()), read: 5, write: 60 });
    // Not every server raises indexes.
    let raises_indexes = store.provision(raise, false).await.unwrap_or(false);
    let again = store.raises(std::slice::from_ref(&name)).await.unwrap();
    assert_eq!(again.is_empty(), raises_indexes, "{again:?}");
    assert!(again.iter().all(|again| of_table(&again.before) == (5, 60)), "{again:?}");
    assert!(store.provision(raise, true).await.unwrap());
    assert_eq!(store.raises(std::slice::from_ref(&name)).await.unwrap(), raises, "it is as it was");
    assert!(store.provision(raise, true).await.unwrap(), "it may be asked for again");
}

#[tokio::test]
async fn what_somebody_else_has_set_stays() {
    let name = make(json!({"ReadCapacityUnits": 5, "WriteCapacityUnits": 6})).await;
    let store = store(Some(60));
    let raise = store.raises(std::slice::from_ref(&name)).await.unwrap().remove(0);
    let _ = store.provision(&raise, false).await;
    let theirs = |write: u64| {
        let mut during = raise.during.clone();
        during[0].write = write;
        Raise { before: raise.during.clone(), during, ..raise.clone() }
    };
    let _ = store.provision(&theirs(90), false).await;
    assert!(!store.provision(&raise, true).await.unwrap());
    let now = store.raises(std::slice::from_ref(&name)).await.unwrap();
    assert!(now.iter().all(|now| of_table(&now.before) == (5, 90)), "{now:?}");
    // Another table of the name is none of the run's business either.
    let other = Raise { identity: "another".to_owned(), ..raise };
    assert!(!store.provision(&other, true).await.unwrap());
}

#[tokio::test]
async fn what_is_billed_on_demand_is_left() {
    let name = make(json!(null)).await;
    assert_eq!(store(Some(60)).raises(&[name]).await.unwrap(), []);
}

#[tokio::test]
async fn a_backup_is_waited_for() {
    const MADE: &str = r#"{"BackupDetails": {"BackupArn": "arn:aws:dynamodb:us-east-1:1:table/t/backup/1", "BackupName": "b",
        "BackupStatus": "CREATING", "BackupType": "USER", "BackupCreationDateTime": 1}}"#;
    const DONE: &str = r#"{"BackupDescription": {"BackupDetails": {"BackupArn": "arn:aws:dynamodb:us-east-1:1:table/t/backup/1",
        "BackupName": "b", "BackupStatus": "AVAILABLE", "BackupType": "USER", "BackupCreationDateTime": 1}}}"#;
    let name = make(json!(null)).await;
    let script = vec![("CreateBackup", Act::Answer(MADE)), ("DescribeBackup", Act::Answer(DONE))];
    let proxy = Proxy::start(&endpoint(), script).await;
    let made = store_at(&proxy.url).back_up(&[name, "not_there".to_owned()], "whimbrel 1").await.unwrap();
    assert_eq!(made, Some(vec!["arn:aws:dynamodb:us-east-1:1:table/t/backup/1".to_owned()]));
    assert_eq!((proxy.seen("CreateBackup"), proxy.seen("DescribeBackup")), (1, 1));
}

#[tokio::test]
async fn a_backup_that_is_not_allowed_says_what_it_takes() {
    let name = make(json!(null)).await;
    let forbidden = Act::Refuse { status: 400, code: "AccessDeniedException" };
    let proxy = Proxy::start(&endpoint(), vec![("CreateBackup", forbidden)]).await;
    let error = store_at(&proxy.url).back_up(&[name], "b").await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Forbidden);
    assert!(error.hint().is_some_and(|hint| hint.contains("dynamodb:CreateBackup")), "{error:?}");
}
