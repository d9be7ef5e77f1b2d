//! The type table, attribute value → Arrow.
//!
//! | declared | Arrow | taken from |
//! | --- | --- | --- |
//! | nothing, `text` | text | S as it is; N its digits; BOOL `true` or `false`; B base64; M and L plain JSON where that loses nothing, else, as sets, DynamoDB JSON |
//! | a key attribute, undeclared | text, number or binary | S, N or B, as the table defines it |
//! | `json` | json | M, L, N, BOOL; S: the document that it is the text of where that is an object or an array, else a JSON string; sets are arrays, B is base64 |
//! | `boolean` | boolean | BOOL; S `true` or `false` |
//! | `integer` | 64 bits | N and S without a fraction |
//! | `number` | number | N; S that is a decimal number |
//! | `float` | 64 bits | N and S whose value the float prints again; S `NaN`, `Infinity`, `-Infinity` |
//! | `timestamp` | microseconds, UTC | S in RFC 3339 with its zone, down to microseconds |
//! | `date` | day | S `YYYY-MM-DD` |
//! | `uuid` | uuid | S of 8-4-4-4-12 hexadecimal digits |
//! | `binary` | binary | B |
//! | (the column `_item`) | json | the whole item in DynamoDB JSON: nothing is lost, NULL and missing stay apart |
//!
//! NULL and a missing attribute are NULL in every column but `_item`. Whatever else an attribute holds is
//! refused with its reason, and never read as NULL. The names of maps are sorted, as maps have no order.

mod attribute;
mod canonical;
mod column;

pub(crate) use attribute::{Attribute, Place, Text, dynamodb_json, entries};
pub(crate) use column::{Reading, Values};
