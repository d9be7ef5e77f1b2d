//! A connection as those use it who ask it something, and the statements that it is asked again and again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_postgres::{Client, Error, Statement};

/// A connection to ask, which several may hold.
#[derive(Clone)]
pub(crate) struct Line {
    client: Arc<Client>,
    /// What has been prepared on it, by its text.
    prepared: Arc<Mutex<HashMap<String, Statement>>>,
}

impl Line {
    pub(super) fn new(client: Client) -> Self {
        Self { client: Arc::new(client), prepared: Arc::default() }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The statement of this text, which the server has read and need not read anew for each batch. Meant for texts of
    /// which there are few: each stays as long as the connection.
    ///
    /// # Errors
    /// The server refuses it, or is gone.
    pub(crate) async fn prepared(&self, sql: &str) -> Result<Statement, Error> {
        let prepared = || self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        let known = prepared().get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        prepared().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}
