//! Searches in the target, in its own SQL, as its users send them.

use super::distance::Metric;
use super::text;
use arrow::array::Array as _;
use futures::StreamExt as _;
use std::fmt::Write as _;
use std::time::Instant;
use whimbrel_model::StoreName;
use whimbrel_query::{QueryError, Session};
use whimbrel_store::WriteRequest;

/// A record that a search finds.
#[derive(Clone, Debug)]
pub(super) struct Hit {
    /// What tells it apart.
    pub id: String,
    /// How far it is.
    pub distance: Option<f64>,
}

/// The statement of a search, around the vector.
pub(super) struct Sql {
    before: String,
    between: String,
    after: String,
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Sql {
    /// `into`: the type of the column, `vector(3)`.
    pub(super) fn new(
        request: &WriteRequest,
        id: &str,
        vector: &str,
        into: &str,
        metric: Metric,
        top: u32,
    ) -> Self {
        let table = match request.table.split_once('.') {
            Some((schema, name)) if !request.table.starts_with('"') => {
                format!("{}.{}", quoted(schema), quoted(name))
            }
            None if !request.table.starts_with('"') => quoted(&request.table),
            _ => request.table.clone(),
        };
        let mut conditions = String::new();
        for (at, (column, value)) in request.scope.iter().enumerate() {
            let word = if at == 0 { " WHERE" } else { " AND" };
            let value = value.replace('\'', "''");
            // In langchain's tables a tenant is a member of the metadata.
            let member = column.split_once('.').filter(|_| request.collection.is_some());
            let held = match member {
                Some((column, key)) => format!("{} ->> '{}'", quoted(column), key.replace('\'', "''")),
                None => quoted(column),
            };
            let _ = write!(conditions, "{word} {held} = '{value}'");
        }
        let cast = into.split('(').next().unwrap_or(into);
        let (id, vector, operator) = (quoted(id), quoted(vector), metric.operator());
        Self {
            before: format!("SELECT {id}::text AS id, ({vector} {operator} '["),
            between: format!(
                "]'::{cast})::float8 AS distance FROM {table}{conditions} ORDER BY {vector} {operator} '["
            ),
            after: format!("]'::{cast} LIMIT {top}"),
        }
    }

    fn of(&self, vector: &[f32]) -> String {
        let mut floats = String::new();
        for (at, float) in vector.iter().enumerate() {
            let _ = if at == 0 { write!(floats, "{float}") } else { write!(floats, ",{float}") };
        }
        [&self.before, &floats, &self.between, &floats, &self.after].map(String::as_str).concat()
    }
}

/// The store that is searched.
pub(super) struct Target<'a> {
    pub store: &'a StoreName,
    pub session: Session,
    pub sql: Sql,
}

impl Target<'_> {
    /// The nearest of a vector, and how many milliseconds it took until all were here.
    pub(super) async fn search(&self, vector: &[f32]) -> Result<(Vec<Hit>, f64), QueryError> {
        let sql = self.sql.of(vector);
        let begun = Instant::now();
        let answer = self.session.ask_store(self.store, &sql, None).await?;
        let mut batches = answer.batches;
        let mut hits = Vec::new();
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            for row in 0..batch.num_rows() {
                let distance = batch.column(1);
                let distance = if distance.is_null(row) { None } else { text(distance, row) };
                hits.push(Hit {
                    id: text(batch.column(0), row).unwrap_or_default(),
                    distance: distance.and_then(|distance| distance.parse().ok()),
                });
            }
        }
        Ok((hits, begun.elapsed().as_secs_f64() * 1_000.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use whimbrel_store::{Mode, Nulls};

    #[test]
    fn a_search_is_written_as_its_users_write_it() {
        let request = WriteRequest {
            flow: "f".into(),
            table: "app.docs".to_owned(),
            key: Vec::new(),
            mode: Mode::Insert,
            nulls: Nulls::Omit,
            forms: BTreeMap::new(),
            ignore: Vec::new(),
            scope: BTreeMap::from([("tenant".to_owned(), "o'x".to_owned())]),
            allow_lossy: Vec::new(),
            shape: None,
            collection: None,
        };
        let sql = Sql::new(&request, "id", "embedding", "vector(2)", Metric::Cosine, 5).of(&[1.0, -0.5]);
        assert_eq!(
            sql,
            "SELECT \"id\"::text AS id, (\"embedding\" <=> '[1,-0.5]'::vector)::float8 AS distance \
             FROM \"app\".\"docs\" WHERE \"tenant\" = 'o''x' ORDER BY \"embedding\" <=> '[1,-0.5]'::vector LIMIT 5"
        );
    }
}
