use super::{batches, by_key, expected, flow, held, target, to_arrive, write};
use crate::source::Filled;
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, StructArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use std::sync::Arc;
use whimbrel_model::Logical;
use whimbrel_store::conformance::context;
use whimbrel_store::{Nulls, WriteRequest};

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// Columns with a field each.
type Columns = Vec<(Field, ArrayRef)>;

fn plain(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

/// Three records: ordinary values, edges, and as much NULL as can be.
fn records() -> RecordBatch {
    let columns = [texts_and_numbers(), documents(), moments(), nested()].concat();
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn texts_and_numbers() -> Columns {
    let digits = "-12345678901234567890123456789012345678";
    let cents = [Some(100), Some(-99_999_999_999_999_999_999_999_999_999_999_999_999), None];
    let cents = Decimal128Array::from(cents.to_vec()).with_precision_and_scale(38, 2).unwrap();
    let number = |name: &str| Logical::Number.field(name, true);
    vec![
        (plain("pk", DataType::Utf8), texts(&[Some("ключ 🗝"), Some("NUL\u{0}"), Some("\"\\")])),
        (number("n"), texts(&[Some("1.50"), Some(digits), Some("-0")])),
        (plain("text", DataType::Utf8), texts(&[Some("ü \u{0} \" \\ \n 😀"), Some(""), None])),
        (number("exact"), texts(&[Some("0.000100"), Some("9.9e125"), None])),
        (plain("count", DataType::Int64), Arc::new(Int64Array::from(vec![Some(0), Some(i64::MIN), None]))),
        (plain("decimal", DataType::Decimal128(38, 2)), Arc::new(cents)),
        (plain("float", DataType::Float64), Arc::new(Float64Array::from(vec![Some(1e-7), Some(-0.0), None]))),
        (plain("single", DataType::Float32), Arc::new(Float32Array::from(vec![Some(0.1), Some(3e30), None]))),
        (plain("flag", DataType::Boolean), Arc::new(BooleanArray::from(vec![Some(false), Some(true), None]))),
        (
            plain("bytes", DataType::Binary),
            Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), Some(b""), None])),
        ),
        (plain("base64", DataType::Utf8), texts(&[Some("AP8="), Some(""), None])),
        (plain("nothing", DataType::Utf8), texts(&[None, None, None])),
    ]
}

fn documents() -> Columns {
    let document = r#"{"z":[1.50,null,true,"",{"b":1,"a":1e2}],"a":{"b":12345678901234567890.12},"é":-0.0}"#;
    let json = |name: &str| Logical::Json.field(name, true);
    vec![
        (json("doc"), texts(&[Some(document), Some(r#"{"S":"looks like a type"}"#), None])),
        (json("any"), texts(&[Some("[]"), Some("{}"), Some("null")])),
        (json("scalar"), texts(&[Some("\"text\""), Some("1e-130"), Some("false")])),
        (json("numbers"), texts(&[Some("[10, 2.50, 3e5]"), Some("[0]"), None])),
    ]
}

fn moments() -> Columns {
    let day = Date32Array::from(vec![Some(19_000), Some(-1), None]);
    let time = Time64MicrosecondArray::from(vec![Some(1), Some(86_400_000_000), None]);
    let moment = TimestampMicrosecondArray::from(vec![Some(1_700_000_000_123_456), Some(-1), None]);
    let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let instant: ArrayRef = Arc::new(moment.clone().with_timezone("UTC"));
    vec![
        (plain("day", DataType::Date32), Arc::new(day)),
        (plain("time", DataType::Time64(TimeUnit::Microsecond)), Arc::new(time)),
        (plain("at", zoned.clone()), Arc::clone(&instant)),
        (plain("epoch", zoned), instant),
        (plain("local", DataType::Timestamp(TimeUnit::Microsecond, None)), Arc::new(moment)),
    ]
}

fn nested() -> Columns {
    let mut list = ListBuilder::new(StringBuilder::new());
    list.append_value([Some("b"), None, Some("")]);
    list.append_value(Vec::<Option<&str>>::new());
    list.append_null();
    let mut set = ListBuilder::new(StringBuilder::new());
    set.append_value([Some("z"), Some(""), Some("ü")]);
    set.append_value([Some("only")]);
    set.append_null();
    let fields = Fields::from(vec![plain("z", DataType::Utf8), plain("a", DataType::Int64)]);
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, None]));
    let inner = vec![texts(&[Some("x"), None, None]), numbers];
    let structure = StructArray::new(fields.clone(), inner, Some(vec![true, true, false].into()));
    vec![
        (plain("list", DataType::new_list(DataType::Utf8, true)), Arc::new(list.finish())),
        (plain("set", DataType::new_list(DataType::Utf8, true)), Arc::new(set.finish())),
        (plain("structure", DataType::Struct(fields)), Arc::new(structure)),
    ]
}

#[tokio::test]
async fn every_type_comes_back_as_it_was_sent() {
    for nulls in [Nulls::Omit, Nulls::Null] {
        let table = Filled::with(&[("pk", "S"), ("n", "N")], &[], &[]).await;
        let forms = [
            ("set", "string_set"),
            ("numbers", "number_set"),
            ("base64", "binary"),
            ("epoch", "epoch_ms"),
            ("count", "text"),
        ];
        let (target, request) = target(&table, |request| WriteRequest {
            nulls,
            forms: forms.map(|(name, form)| (name.to_owned(), form.to_owned())).into(),
            allow_lossy: vec!["epoch".into()],
            ..request
        });
        let records = records();
        target.plan(&records.schema()).await.unwrap();
        write(&*target, &records).await;
        let flow = flow(&records, &request, &[]);
        assert_eq!(held(&*target, std::slice::from_ref(&flow)).await, to_arrive(&*target, &records, 0));

        let found = target.look_up(&records, &context()).await.unwrap();
        assert_eq!(found.rows, [Some(0), Some(1), Some(2)]);
        assert_eq!(by_key(&[found.held]), to_arrive(&*target, &records, 0));
    }
}

#[tokio::test]
async fn a_record_shows_its_key() {
    let table = Filled::with(&[("pk", "S"), ("n", "N")], &[], &[]).await;
    let (target, request) = target(&table, |request| request);
    let records = records().project(&[0, 1, 2]).unwrap().slice(0, 1);
    write(&*target, &records).await;
    let read = batches(&*target, &[flow(&records, &request, &[])], 1, &context()).await;
    let found = target.look_up(&records, &context()).await.unwrap();
    for held in [&read[0], &found.held] {
        assert_eq!(held.records[0].fingerprint, expected(&*target, &records)[0]);
        let key = serde_json::Value::Object(held.contents.key(0)).to_string();
        assert!(
            key.contains("\"pk\":\"ключ 🗝\"") && key.contains("\"n\":1.5") && !key.contains("text"),
            "{key}"
        );
    }
}
