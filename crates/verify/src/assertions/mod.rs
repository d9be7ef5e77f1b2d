//! The spec's own assertions: what must hold of what the stores hold, whatever the flows are.
//!
//! An assertion that does not hold is a finding; one that cannot be carried out is an error that names it. Every query
//! only reads, and variables in it are bound.

mod columns;
mod compare;
mod error;
mod sql;
mod value;

pub use error::VerifyError;

use crate::Assertion;
use std::collections::BTreeMap;
use std::time::Instant;
use whimbrel_engine::migration::Stores;
use whimbrel_query::{Answer, Bindings, Declared, Query, QueryError, Session, Settings};
use whimbrel_spec::resolved::{AssertKind, AssertRule, VerifyQuery, VerifyRule};
use whimbrel_store::{Patience, RunContext};

/// Examples that are kept of what does not hold.
const EXAMPLES: usize = 10;
/// Characters of an example.
const SHOWN: usize = 300;

/// What was found of an assertion.
#[derive(Debug, Default)]
struct Found {
    ok: bool,
    expected: String,
    value: String,
    examples: Vec<String>,
}

/// Carries out the assertions among the rules, one after the other, in the order of the spec. `declared` is what the
/// spec's flows say of columns ([`whimbrel_query::declared`]). Rules about flows are passed over: they are the
/// comparison's.
///
/// # Errors
/// The first assertion that cannot be carried out: its SQL does not fit what the stores hold, or a store fails.
pub async fn assertions(
    rules: &[VerifyRule],
    stores: &Stores,
    declared: &Declared,
    settings: &Settings,
) -> Result<Vec<Assertion>, VerifyError> {
    let names = stores.keys().cloned().collect();
    let session = Session::new(stores.clone(), names, declared.clone(), settings.clone());
    let asking = Asking { session, memory_bytes: settings.memory_bytes };
    let mut found = Vec::new();
    for rule in rules {
        let VerifyRule::Assert(rule) = rule else { continue };
        let begun = Instant::now();
        let Found { ok, expected, value, mut examples } = asking.patiently(rule, &settings.context).await?;
        examples.iter_mut().for_each(|example| *example = cut(example));
        let seconds = begun.elapsed().as_secs_f64();
        found.push(Assertion {
            name: rule.name.clone(),
            ok,
            expected,
            value: cut(&value),
            examples,
            seconds,
        });
    }
    Ok(found)
}

/// What assertions are asked of.
struct Asking {
    session: Session,
    /// Bytes that one of them may hold.
    memory_bytes: usize,
}

impl Asking {
    /// Carries an assertion out, from its beginning again while a store fails in a way that may pass: it only reads.
    async fn patiently(&self, rule: &AssertRule, context: &RunContext) -> Result<Found, VerifyError> {
        let mut patience: Option<Patience<'_>> = None;
        loop {
            let failed = match self.assertion(rule).await {
                Ok(found) => return Ok(found),
                Err(failed) => failed,
            };
            let (position, cause) = (failed.position(), failed.into_cause());
            let QueryError::Store(error) = cause else {
                return Err(VerifyError::new(&rule.name, position, cause));
            };
            let store = error.store().clone();
            let patience = patience.get_or_insert_with(|| Patience::new(context));
            let waited = patience.wait(&store, error).await;
            waited.map_err(|error| VerifyError::new(&rule.name, position, error.into()))?;
        }
    }

    async fn assertion(&self, rule: &AssertRule) -> Result<Found, VerifyError> {
        let about_columns =
            |(at, cause): columns::Failed| VerifyError::new(&rule.name, at.unwrap_or(rule.position), cause);
        match &rule.kind {
            AssertKind::Sql { store, query, expected } => {
                let fails = |cause| VerifyError::new(&rule.name, query.sql.span.start, cause);
                let answer = match store {
                    None => self.ask(query).await,
                    Some(store) => {
                        let sql = query.sql.as_str();
                        self.session.ask_store_bound(store, sql, &query.parameters, None).await
                    }
                };
                sql::examine(answer.map_err(fails)?, expected).await.map_err(fails)
            }
            AssertKind::Compare { by, left, right } => {
                let fails_at = |query: &VerifyQuery| {
                    let position = query.sql.span.start;
                    move |cause| VerifyError::new(&rule.name, position, cause)
                };
                let answer = self.ask(left).await.map_err(fails_at(left))?;
                let held = compare::Side::collect("left", answer, by, self.memory_bytes).await;
                let held = held.map_err(fails_at(left))?;
                // The first answer is read to its end before the second is asked for: a store may have one connection.
                let answer = self.ask(right).await.map_err(fails_at(right))?;
                compare::compare(held, answer, by).await.map_err(fails_at(right))
            }
            AssertKind::NotEmpty { columns, equals } => {
                let asked = columns::NotEmpty { equals: equals.as_ref() };
                columns::examine(&self.session, columns, &asked).await.map_err(about_columns)
            }
            AssertKind::Json { columns } => {
                columns::examine(&self.session, columns, &columns::Json).await.map_err(about_columns)
            }
        }
    }

    async fn ask(&self, query: &VerifyQuery) -> Result<Answer, QueryError> {
        let VerifyQuery { sql, parameters, tables } = query;
        let bindings = Bindings { parameters: parameters.clone(), tables: tables.clone() };
        self.session.answer_in_place(Query::bound(sql.as_str(), &bindings)?, None).await
    }
}

/// A text of a readable length.
fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// What is said of a query that an assertion cannot use.
fn unusable(message: impl Into<String>, hint: impl Into<String>) -> QueryError {
    QueryError::Sql { message: message.into(), hint: hint.into() }
}

/// A number with its noun.
fn counted(number: u64, one: &str, many: &str) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{grouped} {}", if number == 1 { one } else { many })
}

/// Examples, the first of them kept.
#[derive(Debug, Default)]
struct Examples(Vec<String>);

impl Examples {
    fn add(&mut self, example: impl FnOnce() -> String) {
        if self.0.len() < EXAMPLES {
            self.0.push(cut(&example()));
        }
    }
}

/// How often each thing was found, by what it is called.
type Tally = BTreeMap<String, u64>;

#[cfg(test)]
mod tests;
