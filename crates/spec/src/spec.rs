//! A spec that has been read and is known to be coherent. Nothing is resolved yet and nothing was asked of
//! anybody.

use crate::check::{self, Texts};
use crate::coherence;
use crate::defaults;
use crate::elements::Document;
use crate::elements::environments::Environment;
use crate::error::{Position, Result, SpecError, SpecErrorKind};
use crate::node::{self, Node};
use crate::schema::json_schema;
use std::path::{Path, PathBuf};

/// A spec, read and checked.
#[derive(Clone, Debug)]
pub struct Spec {
    path: PathBuf,
    text: String,
    document: Document,
    /// The tree with `defaults` merged into every flow.
    pub(crate) tree: Node,
}

/// An environment of a spec, for lists and for choosing one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentSummary {
    /// Its name.
    pub name: String,
    /// Whether it is taken where none is chosen.
    pub default: bool,
    /// Whether destructive acts need `--confirm` with its name.
    pub protected: bool,
    /// Whether it names embedded stores, so that it can be tried without any server.
    pub embedded: bool,
}

/// Reads and checks a spec.
///
/// # Errors
/// The first mistake, with file, line, column and what to write instead.
pub fn load(path: impl AsRef<Path>) -> Result<Spec> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|error| {
        let hint = "give the path of a spec, as in `whimbrel plan migrations/ratel/ratel.yaml`";
        SpecError::at(SpecErrorKind::Unreadable, None, format!("the spec cannot be read: {error}"), hint)
            .caused_by(error)
            .in_file(path)
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let hint = "save the file as UTF-8";
        SpecError::at(SpecErrorKind::Syntax, Position { line, column }, "the text is not UTF-8", hint)
            .in_file(path)
    })?;
    parse(&text, path)
}

/// Checks a spec whose text is at hand; `path` is where it says it is from, and what its own paths are
/// relative to.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, path: impl AsRef<Path>) -> Result<Spec> {
    let path = path.as_ref();
    read(text, path).map_err(|error| error.in_file(path))
}

fn read(text: &str, path: &Path) -> Result<Spec> {
    let tree = node::parse(text)?;
    let texts: Texts = check::check(&tree, &json_schema())?;
    let tree = defaults::merged(tree);
    let document: Document = serde_json::from_value(tree.to_json()).map_err(|error| {
        let hint = "this is a mistake in whimbrel: the schema allows what cannot be read; please report it";
        SpecError::invalid(Position::START, format!("the spec cannot be read: {error}"), hint)
    })?;
    let spec = Spec { path: path.to_owned(), text: text.to_owned(), document, tree };
    coherence::check(&spec, &texts)?;
    Ok(spec)
}

impl Spec {
    /// The migration's name.
    #[must_use]
    pub fn migration(&self) -> &str {
        &self.document.migration
    }

    /// The file it was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that its paths are relative to.
    #[must_use]
    pub fn base_dir(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }

    /// The text as it was read.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it says, with `defaults` merged into every flow.
    #[must_use]
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// The environments, in the order of the file.
    #[must_use]
    pub fn environments(&self) -> Vec<EnvironmentSummary> {
        let Some(environments) = self.tree.get("environments") else { return Vec::new() };
        let named = environments.entries().iter();
        named
            .filter_map(|entry| {
                let environment = self.document.environments.get(&entry.key)?;
                Some(EnvironmentSummary {
                    name: entry.key.clone(),
                    default: environment.default,
                    protected: environment.protected,
                    embedded: names_embedded_stores(environment),
                })
            })
            .collect()
    }

    /// The first environment that names embedded stores: how to try the migration without any server.
    #[must_use]
    pub fn embedded_environment(&self) -> Option<String> {
        self.environments()
            .into_iter()
            .find(|environment| environment.embedded)
            .map(|environment| environment.name)
    }

    /// The flows' names, in the order of the file.
    #[must_use]
    pub fn flow_names(&self) -> Vec<&str> {
        let flows = self.tree.get("flows").map(Node::entries).unwrap_or_default();
        flows.iter().map(|entry| entry.key.as_str()).collect()
    }

    /// The variables that have a value or can be given one, sorted: the spec's own and the environments'.
    #[must_use]
    pub fn variable_names(&self) -> Vec<&str> {
        let own = self.document.variables.keys();
        let others = self.document.environments.values().flat_map(|environment| environment.variables.keys());
        let mut names: Vec<&str> = own.chain(others).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Where a value stands, by the keys and indexes that lead to it: `["flows", "users", "into", "key", "0"]`.
    /// A value that is not there stands where the nearest one around it does.
    #[must_use]
    pub fn position(&self, path: &[&str]) -> Position {
        let mut node = &self.tree;
        for step in path {
            match node.find(&[step]) {
                Some(next) => node = next,
                None => break,
            }
        }
        node.position
    }

    /// Where a key stands; see [`Spec::position`].
    #[must_use]
    pub fn key_position(&self, path: &[&str]) -> Position {
        let parent = path.split_last().and_then(|(key, parents)| self.tree.find(parents)?.entry(key));
        parent.map_or_else(|| self.position(path), |entry| entry.key_position)
    }

    /// A mistake at a place of this spec, for what only later stages can find.
    pub fn error(&self, at: Position, message: impl Into<String>, hint: impl Into<String>) -> SpecError {
        SpecError::invalid(at, message, hint).in_file(&self.path)
    }
}

pub(crate) fn names_embedded_stores(environment: &Environment) -> bool {
    environment.variables.values().any(|value| value.0.starts_with("embedded:"))
}
