//! What a spec says, element by element: one file each, with its type, its defaults and its words.
//!
//! The JSON Schema is derived from these types and is the one source of what is allowed where: the checker
//! walks the YAML against it before anything is read into them. Three extensions carry what JSON Schema cannot
//! say: `x-label` (what a person calls the element), `x-text` (what a text is: see [`text`]) and `x-keys` (how the
//! keys of a mapping may look).

pub mod checks;
pub mod environments;
pub mod flows;
pub mod from;
pub mod into;
pub mod langchain;
pub mod limits;
pub mod prices;
pub mod stores;
pub mod text;
pub mod variables;
pub mod verify;

use environments::Environment;
use flows::{Defaults, Flow};
use limits::Limits;
use prices::Price;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use stores::Store;
use variables::Variable;
use verify::VerifyElement;

/// A migration: what is read from where, how it is changed, and where it goes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "whimbrel migration", extend("x-label" = "the spec"))]
pub struct Document {
    /// The migration's name. It names the journal, the tags and the reports.
    #[schemars(extend("x-text" = "name"))]
    pub migration: String,
    /// Values with names, used as `${name}` outside SQL and as `$name` in SQL.
    #[serde(default)]
    #[schemars(extend("x-keys" = "variable", "x-label" = "`variables`"))]
    pub variables: BTreeMap<String, Variable>,
    /// Sets of values for variables, one of which a command works in.
    #[serde(default)]
    #[schemars(extend("x-keys" = "name", "x-label" = "`environments`"))]
    pub environments: BTreeMap<String, Environment>,
    /// The databases that flows read from and write to.
    #[schemars(extend("x-keys" = "name", "minProperties" = 1, "x-label" = "`stores`"))]
    pub stores: BTreeMap<String, Store>,
    /// Merged into every flow; a flow's own keys win.
    #[serde(default)]
    pub defaults: Defaults,
    /// The streams of records, run in the order of `after`, else side by side.
    #[schemars(extend("x-keys" = "name", "minProperties" = 1, "x-label" = "`flows`"))]
    pub flows: BTreeMap<String, Flow>,
    /// What becomes of the items of a scanned table that no flow takes.
    #[serde(default)]
    pub unmatched: Unmatched,
    /// What `verify` compares.
    #[serde(default)]
    pub verify: Vec<VerifyElement>,
    /// When a run gives up.
    #[serde(default)]
    pub limits: Limits,
    /// Prices by region, `eu-west-1`, that take the place of the built-in, dated table; `default` stands for every
    /// region that is not named.
    #[serde(default)]
    #[schemars(extend("x-keys" = "name", "x-label" = "`prices`"))]
    pub prices: BTreeMap<String, Price>,
    /// Whether before-images are journalled, so that the run can be undone.
    #[serde(default)]
    pub undo: bool,
}

/// What becomes of the items of a scanned table that no flow takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unmatched {
    /// They are counted, listed by key pattern, and the exit code says so.
    #[default]
    Reject,
    /// They are left alone.
    Ignore,
}
