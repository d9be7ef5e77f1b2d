//! The DynamoDB target against a DynamoDB: an embedded one, or the one that `WHIMBREL_TEST_DYNAMODB_ENDPOINT`
//! names (Amazon's DynamoDB Local); and through a proxy that does what neither does by itself.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

mod capacity;
mod catalog;
mod changed;
mod conformance;
mod faults;
mod fixture;
mod held;
mod limits;
mod modes;
mod proxy;
mod source;
mod storms;
mod updates;
