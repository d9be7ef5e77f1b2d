//! The type table, values of DynamoDB JSON and of plain JSON → Arrow.
//!
//! | declared | Arrow | taken from |
//! | --- | --- | --- |
//! | nothing, `text` | text | S as it is; N its digits; BOOL `true` or `false`; B base64; M and L plain JSON where that loses nothing, else, as sets, DynamoDB JSON |
//! | `json` | json | M, L, N, BOOL; S: the document that it is the text of where that is an object or an array, else a JSON string; sets are arrays, B is base64 |
//! | `boolean` | boolean | BOOL; S `true` or `false` |
//! | `integer` | 64 bits | N and S without a fraction |
//! | `number` | number | N; S that is a decimal number |
//! | `float` | 64 bits | N and S whose value the float prints again; S `NaN`, `Infinity`, `-Infinity` |
//! | `timestamp` | microseconds, UTC | S in RFC 3339 with its zone, down to microseconds |
//! | `date` | day | S `YYYY-MM-DD` |
//! | `uuid` | uuid | S of 8-4-4-4-12 hexadecimal digits |
//! | `binary` | binary | B; in plain JSON and CSV a text in base64 |
//! | (the column `_item`) | json | the whole item in DynamoDB JSON, names sorted; a record of plain JSON as it was written |
//!
//! A value of plain JSON is read as the attribute that it would be: a string as S, a number as N with the digits
//! that it was written with, true and false as BOOL, an object or an array as a document, which is text as it was
//! written; so is a field of CSV, as S.
//!
//! NULL and what is missing are NULL in every column but `_item`. Whatever else a value holds is refused with its
//! reason, and never read as NULL. The names of DynamoDB's maps are sorted, as maps have no order.

mod column;
mod rows;
mod value;

pub use column::{Reading, Values};
pub use rows::{Column, Refused, Rows, raw_value};
pub use value::{Attribute, Text, dynamodb_json, item_to_plain, plain_to_item};

/// The column that holds a record whole.
pub const ITEM: &str = "_item";
