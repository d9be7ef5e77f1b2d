//! Columns whose texts are made before the first record is written: all of a column, then the next.
//!
//! What a value is need then not be asked for each of them. With every column so, a record is put together out of pieces
//! that lie ready, whatever their types, and so is its canonical form. A column in which one value is odd (a float that is
//! no number, a number with an exponent) is written value by value in that batch.

use super::cells::{Cells, Writing, csv_text, escaped, is_plain_csv, is_plain_float, is_plain_text, quoted};
use super::moments::{Day, Moments};
use super::text::TextBuffer;
use arrow::array::{Array as _, BooleanArray, StringArray};
use arrow::buffer::NullBuffer;
use whimbrel_model::canonical::{Canonical, Name};
use whimbrel_model::decimal::Decimal;
use whimbrel_model::float::{self, Float};
use whimbrel_model::forms::Values;
use whimbrel_model::piece::Piece;
use whimbrel_model::texts::Texts;

/// A column that is ready.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) nulls: Option<NullBuffer>,
    /// What stands in front of a value, behind the column's name.
    pub(super) before: &'static str,
    pub(super) behind: Behind,
    pub(super) texts: Texts,
    counts: Counts,
}

/// Room for so many bytes is made for each text at first.
const MOSTLY_BYTES: usize = 32;

/// What stands behind a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    Nothing,
    Quote,
    QuoteAndBrace,
    Brace,
}

impl Behind {
    /// All that there are.
    pub(super) const ALL: [Self; 4] = [Self::Nothing, Self::Quote, Self::QuoteAndBrace, Self::Brace];

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Quote => "\"",
            Self::QuoteAndBrace => "\"}",
            Self::Brace => "}",
        }
    }
}

/// Where a value's canonical form comes from.
#[derive(Debug)]
enum Counts {
    /// It is that of this text.
    Words(Texts),
    /// It is that of the number with these digits.
    Digits(Texts),
    /// It lies here whole.
    Form(Texts),
}

impl Ready {
    /// `None`: the column is to be written value by value.
    pub(super) fn new(cells: &Cells, writing: Writing) -> Option<Self> {
        let (nulls, texts, counts, kind) = match cells {
            Cells::Text(array) | Cells::Printed { texts: array, is_number: false } => {
                (array.nulls().cloned(), written(array, writing)?, Counts::Words(Texts::of(array)), "S")
            }
            Cells::Number(array) | Cells::Printed { texts: array, is_number: true } => {
                let counts = match writing {
                    Writing::Csv => Counts::Words(Texts::of(array)),
                    _ => Counts::Digits(digits_of(array)?),
                };
                (array.nulls().cloned(), written(array, writing)?, counts, "N")
            }
            Cells::Int(values) => {
                let put = |row: usize, into: &mut TextBuffer| {
                    into.push_str(itoa::Buffer::new().format(values.values()[row]));
                };
                let texts = made(values.len(), values.nulls(), put)?;
                (values.nulls().cloned(), texts.clone(), number(texts, writing), "N")
            }
            Cells::Float32(values) => floats(values.values(), values.nulls(), writing)?,
            Cells::Float64(values) => floats(values.values(), values.nulls(), writing)?,
            // All have one length, and NULL has it, too.
            Cells::Moment(moments) if writing == Writing::Typed => {
                let forms = typed(moments)?;
                (moments.nulls().cloned(), forms.clone(), Counts::Form(forms), "S")
            }
            Cells::Moment(moments) => {
                let mut day = Day::default();
                let put = |row: usize, into: &mut TextBuffer| moments.append_near(row, &mut day, into);
                let texts = made(moments.len(), moments.nulls(), put)?;
                (moments.nulls().cloned(), texts.clone(), Counts::Words(texts), "S")
            }
            Cells::Bool(values) => {
                let texts = truths(values, b"falsetrue", &[0, 5, 9]);
                let counts = match writing {
                    Writing::Csv => Counts::Words(texts.clone()),
                    _ => Counts::Form(truth_forms(values)),
                };
                (values.nulls().cloned(), texts, counts, "BOOL")
            }
            Cells::Null | Cells::Json(_) | Cells::Binary(_) | Cells::List { .. } | Cells::Struct { .. } => {
                return None;
            }
        };
        let (before, behind) = around(kind, writing);
        Some(Self { nulls, before, behind, texts, counts })
    }

    #[inline]
    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Appends a value that is not NULL with what stands around it, but for its name.
    #[inline]
    pub(super) fn append(&self, row: usize, into: &mut TextBuffer) {
        let (bytes, place) = self.texts.within(row);
        into.push_str(self.before);
        into.push_within(bytes, place);
        into.push_str(self.behind.text());
    }

    /// Appends the canonical form of a value that is not NULL.
    #[inline]
    pub(super) fn append_form(&self, row: usize, canonical: &mut Canonical) {
        match &self.counts {
            Counts::Words(texts) => {
                let (bytes, place) = texts.within(row);
                canonical.text_within(bytes, place);
            }
            Counts::Digits(texts) => {
                let (bytes, place) = texts.within(row);
                canonical.digits_within(bytes, place);
            }
            Counts::Form(texts) => {
                let (bytes, place) = texts.within(row);
                canonical.form_within(bytes, place);
            }
        }
    }

    /// The canonical forms of the values that are not NULL, with the column's name.
    pub(super) fn values(&self, name: &Name) -> Values {
        let values = match &self.counts {
            Counts::Words(texts) => Values::texts(Some(name), texts.clone()),
            Counts::Digits(texts) => Values::digits(Some(name), texts.clone()),
            Counts::Form(forms) => Values::forms(Some(name), forms.clone()),
        };
        values.where_valid(self.nulls.clone())
    }
}

/// Texts that `put` appends, which is called for each row that is not NULL. `None`: they are too long together.
fn made(
    rows: usize,
    nulls: Option<&NullBuffer>,
    mut put: impl FnMut(usize, &mut TextBuffer),
) -> Option<Texts> {
    let mut text = TextBuffer::default();
    text.reserve(rows * MOSTLY_BYTES);
    let mut bounds = Vec::with_capacity(rows + 1);
    bounds.push(0);
    for row in 0..rows {
        if nulls.is_none_or(|nulls| nulls.is_valid(row)) {
            put(row, &mut text);
        }
        bounds.push(u32::try_from(text.len()).ok()?);
    }
    Some(Texts::between(text.into_bytes(), &bounds))
}

/// Texts as they are written, without what stands around them: as they are, where that can be told of all at once.
fn written(array: &StringArray, writing: Writing) -> Option<Texts> {
    let bounds = array.value_offsets();
    let at = |bound: Option<&i32>| bound.and_then(|bound| usize::try_from(*bound).ok()).unwrap_or(0);
    let all = &array.value_data()[at(bounds.first())..at(bounds.last())];
    let is_empty = |row: usize| bounds[row] == bounds[row + 1] && !array.is_null(row);
    let (is_plain, put): (bool, fn(&str, &mut TextBuffer)) = match writing {
        Writing::Typed => (true, |_, _| ()),
        Writing::Json | Writing::DynamoDb => (is_plain_text(all), escaped),
        Writing::Csv => (is_plain_csv(all) && !(0..array.len()).any(is_empty), csv_text),
    };
    if is_plain {
        return Some(Texts::of(array));
    }
    made(array.len(), array.nulls(), |row, into| put(array.value(row), into))
}

/// The digits of numbers, where each is one of JSON and begins with its normal form.
fn digits_of(array: &StringArray) -> Option<Texts> {
    Texts::of(array).cut(|row| {
        if array.is_null(row) {
            return Some(0);
        }
        // What begins with its normal form is a number of JSON, but for one that ends with its point.
        let plain = Decimal::plain(array.value(row)).filter(|_| !array.value(row).ends_with('.'))?;
        Some(plain.len())
    })
}

/// How numbers count that stand in their normal form.
fn number(texts: Texts, writing: Writing) -> Counts {
    if writing == Writing::Csv { Counts::Words(texts) } else { Counts::Digits(texts) }
}

/// The canonical forms of moments as a typed file holds them. `None`: one of them is to be written as text.
fn typed(moments: &Moments) -> Option<Texts> {
    let (mut forms, rows) = (Canonical::default(), moments.len());
    if !(0..rows).all(|row| moments.append_typed(row, &mut forms)) {
        return None;
    }
    let length = forms.len().checked_div(rows).unwrap_or(0);
    Some(Texts::of_length(forms.into_bytes(), u32::try_from(length).ok()?))
}

type Parts = (Option<NullBuffer>, Texts, Counts, &'static str);

fn floats<F: Float>(values: &[F], nulls: Option<&NullBuffer>, writing: Writing) -> Option<Parts> {
    let is_valid = |row: usize| nulls.is_none_or(|nulls| nulls.is_valid(row));
    let is_odd = |(row, value): (usize, &F)| {
        is_valid(row) && !(is_plain_float(*value) && float::is_shortest_normal((*value).into()))
    };
    if values.iter().enumerate().any(is_odd) {
        return None;
    }
    let put = |row: usize, into: &mut TextBuffer| float::shortest(values[row], |text| into.push_str(text));
    let texts = made(values.len(), nulls, put)?;
    Some((nulls.cloned(), texts.clone(), number(texts, writing), "N"))
}

/// The canonical forms of truth values.
fn truth_forms(values: &BooleanArray) -> Texts {
    let mut forms = Canonical::default();
    forms.bool(false);
    forms.bool(true);
    truths(values, forms.bytes(), &[0, 1, 2])
}

/// For each truth value what stands for it among these bytes: between the first two of the bounds, or the last two.
fn truths(values: &BooleanArray, bytes: &[u8], bounds: &[u32; 3]) -> Texts {
    Texts::between(bytes.to_vec(), bounds).chosen(values.values().iter().map(usize::from))
}

/// What stands around a value of this kind, as DynamoDB JSON names kinds.
fn around(kind: &str, writing: Writing) -> (&'static str, Behind) {
    match (writing, kind) {
        (Writing::Json, "S") => ("\"", Behind::Quote),
        (Writing::DynamoDb, "BOOL") => ("{\"BOOL\":", Behind::Brace),
        (Writing::DynamoDb, "S") => ("{\"S\":\"", Behind::QuoteAndBrace),
        (Writing::DynamoDb, _) => ("{\"N\":\"", Behind::QuoteAndBrace),
        (Writing::Json | Writing::Csv | Writing::Typed, _) => ("", Behind::Nothing),
    }
}

/// A column's name in front of a value: behind another value, and as the first.
pub(super) fn heads(name: &str, writing: Writing) -> [Piece; 2] {
    let mut head = TextBuffer::default();
    head.push(',');
    if matches!(writing, Writing::Json | Writing::DynamoDb) {
        quoted(name, &mut head);
        head.push(':');
    }
    [Piece::new(head.as_bytes()), Piece::new(&head.as_bytes()[1..])]
}

#[cfg(test)]
mod tests {
    use super::super::record::{Compared, Encoder};
    use crate::format::Format;
    use crate::types::encode::TextBuffer;
    use arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Float32Array, Float64Array, Int32Array, Int64Array,
        ListArray, RecordBatch, StringArray, TimestampMicrosecondArray, TimestampNanosecondArray,
        TimestampSecondArray, UInt64Array,
    };
    use arrow::compute::concat_batches;
    use arrow::datatypes::{Field, Int32Type, Schema};
    use std::sync::Arc;
    use whimbrel_model::{FingerprintKey, Logical};
    use whimbrel_store::Nulls;

    const FORMATS: [Format; 5] =
        [Format::NdJson, Format::Json, Format::DynamoDbJson, Format::Csv, Format::Parquet];

    /// Columns of moments in other units.
    fn moments(odd: bool) -> Vec<(&'static str, ArrayRef)> {
        let last = if odd { i64::MAX } else { 1 };
        let nanos = vec![Some(i64::MIN), Some(-1), None, Some(1_600_000_000_123_456_789), Some(i64::MAX)];
        let seconds = vec![Some(0), None, Some(-62_167_219_201), Some(1_600_000_000), Some(last)];
        vec![
            ("nano", Arc::new(TimestampNanosecondArray::from(nanos))),
            ("second", Arc::new(TimestampSecondArray::from(seconds))),
        ]
    }

    /// Columns of all kinds, a NULL in each; some values of `odd` have another form in some of the formats.
    fn batch(odd: bool) -> RecordBatch {
        let long = "long ".repeat(20);
        let texts = if odd {
            ["a \"b\"\n", "", "\u{1}\\,;", "ü€😀"]
        } else {
            ["a", "thirty-two characters, about it!", &long, "ü€😀"]
        };
        let numbers = if odd {
            ["1e5", "NaN", "-0", "0.10"]
        } else {
            ["1.50", "100.00", "-7", "12345678901234567890.5"]
        };
        let floats = if odd { [f64::NAN, f64::INFINITY, -0.0, 1e-12] } else { [0.0, -1.5, 0.1 + 0.2, 1e15] };
        let some = |values: [&str; 4]| {
            let [a, b, c, d] = values.map(Some);
            Arc::new(StringArray::from(vec![a, b, None, c, d])) as ArrayRef
        };
        let [a, b, c, d] = floats.map(Some);
        let lists = [Some(vec![Some(1), None]), None, Some(vec![]), Some(vec![Some(2)]), Some(vec![])];
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("text", some(texts)),
            ("number", some(numbers)),
            ("int", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(0), Some(7), Some(i64::MAX)]))),
            ("small", Arc::new(Int32Array::from(vec![1, -2, 3, -4, 5]))),
            ("large", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None, Some(0), Some(1), Some(2)]))),
            ("wide", Arc::new(Float64Array::from(vec![a, b, None, c, d]))),
            (
                "narrow",
                Arc::new(Float32Array::from(vec![Some(0.1), None, Some(-2.5), Some(1e10), Some(3.0)])),
            ),
            ("truth", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true), None]))),
            ("day", Arc::new(Date32Array::from(vec![Some(0), None, Some(-1), Some(i32::MAX), Some(20_000)]))),
            (
                "moment",
                Arc::new(
                    TimestampMicrosecondArray::from(vec![
                        Some(0),
                        Some(i64::MIN),
                        None,
                        Some(1),
                        Some(1_600_000_000_120_000),
                    ])
                    .with_timezone("UTC"),
                ),
            ),
            (
                "bytes",
                Arc::new(BinaryArray::from(vec![
                    Some(&b"\0\xff"[..]),
                    None,
                    Some(b""),
                    Some(b"a"),
                    Some(b"b"),
                ])),
            ),
            (
                "a list whose name is longer than thirty-two bytes",
                Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists)),
            ),
        ];
        let columns = [columns, moments(odd)].concat();
        let field = |(name, column): &(&str, ArrayRef)| match *name {
            "number" => Logical::Number.field(name, true),
            _ => Field::new(*name, column.data_type().clone(), true),
        };
        let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
        RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, column)| column).collect())
            .unwrap()
    }

    #[test]
    fn what_is_made_at_once_is_what_is_written_value_by_value() {
        let (key, ignore) = (["int".to_owned(), "text".to_owned()], ["small".to_owned()]);
        let compared = Compared { key: &key, ignore: &ignore };
        let secret = FingerprintKey::new([3; 32]);
        for (format, nulls) in
            FORMATS.into_iter().flat_map(|format| [(format, Nulls::Omit), (format, Nulls::Null)])
        {
            let all_ready = batch(false).project(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13]).unwrap();
            let some_odd = batch(true).project(&[9, 0, 2]).unwrap();
            for batch in [
                batch(false),
                batch(true),
                batch(false).slice(1, 3),
                batch(true).slice(2, 0),
                all_ready.slice(1, 4),
                concat_batches(all_ready.schema_ref(), &vec![all_ready.clone(); 120]).unwrap(),
                all_ready,
                some_odd,
            ] {
                let encoder = || Encoder::new(format, nulls, &compared, &batch, &secret).unwrap();
                let (mut at_once, mut singly) = (TextBuffer::default(), TextBuffer::default());
                let prints = if format.is_text() {
                    encoder().all(&mut at_once, "\n")
                } else {
                    encoder().fingerprints()
                };
                let mut one = encoder();
                for (row, print) in prints.into_iter().enumerate() {
                    assert_eq!(
                        print.unwrap(),
                        one.append(row, &mut singly).unwrap(),
                        "{format:?} {nulls:?} {row}"
                    );
                    singly.push('\n');
                }
                assert!(!format.is_text() || at_once.as_str() == singly.as_str(), "{format:?} {nulls:?}");
            }
        }
    }

    #[test]
    fn columns_are_made_ready() {
        let odd = ["number", "wide"];
        for (batch, without) in [(batch(false), &[][..]), (batch(true), &odd[..])] {
            for name in ["text", "number", "int", "small", "wide", "narrow", "truth", "day", "moment"] {
                let place = batch.schema_ref().index_of(name).unwrap();
                let cells = super::Cells::new(batch.schema_ref().field(place), batch.column(place)).unwrap();
                let ready = super::Ready::new(&cells, super::Writing::Json);
                assert_eq!(ready.is_some(), !without.contains(&name), "{name}");
            }
        }
    }
}
