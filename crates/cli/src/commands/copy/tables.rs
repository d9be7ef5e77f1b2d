//! A copy of a whole database: all of its tables, with keys, indexes and foreign keys.

use super::draft::{Draft, quoted, sql, word};
use super::look::{refused, select};
use crate::args::CopyArgs;
use crate::store_url::Place;
use crate::workspace::Opened;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use whimbrel_engine::EngineError;
use whimbrel_model::{FlowName, StoreName};
use whimbrel_store::structure::{Structure, TableStructure};
use whimbrel_store::{Mode, Nulls, Store, StoreErrorKind, WriteRequest};

/// The file that makes the tables, beside the spec.
pub const SCRIPT: &str = "schema.sql";

/// What becomes of tables that are there, where the target says so.
const WITHOUT_KEYS: &str = "tables that are there and empty are without their foreign keys while they are filled; the keys are \
    made again, and checked, after the load";

/// The tables of a copy, with what makes those that are missing.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    flows: Vec<TableFlow>,
    /// SQL for the target.
    pub script: Option<String>,
}

/// The flow of one table.
#[derive(Clone, Debug)]
struct TableFlow {
    name: String,
    table: String,
    /// Columns with the words that are declared for them.
    columns: Vec<(String, String)>,
    /// What chooses the columns that are written, where not all are.
    transform: Option<String>,
    /// The flows that must be complete before.
    after: Vec<String>,
}

impl Tables {
    /// The tables that are still to be found; `None` where the places name one.
    ///
    /// # Errors
    /// One place is a database and the other is none, or something is asked that is for one table.
    pub fn of(args: &CopyArgs, from: &Place, into: &Place) -> Result<Option<Self>, EngineError> {
        match (from.is_whole(), into.is_whole()) {
            (false, false) => return Ok(None),
            (true, true) => {}
            (from_whole, _) => {
                let end = if from_whole { "FROM" } else { "TO" };
                return Err(EngineError::refused(
                    format!("{end} names no table, and the other end is no database of tables"),
                    format!("add `?table=NAME` to {end}, behind `?` or `&`"),
                ));
            }
        }
        let single = [
            ("--where", args.filter.is_some()),
            ("--select", args.select.is_some()),
            ("--key", !args.key.is_empty()),
            ("--columns", !args.columns.is_empty()),
        ];
        match single.iter().find(|(_, is_given)| *is_given) {
            None => Ok(Some(Self::default())),
            Some((flag, _)) => Err(EngineError::refused(
                format!("`{flag}` is for one table, and a whole database is copied"),
                "name a table on both sides with `?table=NAME`, or `copy --spec` and change the spec",
            )),
        }
    }

    /// Asks the source for its tables and the target for those that are missing.
    ///
    /// # Errors
    /// A store cannot be asked, cannot say or cannot make them, or there are none.
    pub async fn look(
        &mut self,
        draft: &mut Draft,
        opened: &Opened,
        create: bool,
    ) -> Result<(), EngineError> {
        if draft.one_store() {
            return Err(EngineError::refused("both ends are the same database", "name another target"));
        }
        let store = |name: &str| {
            let found = opened.stores.get(&StoreName::new(name)).cloned();
            found.ok_or_else(|| EngineError::Internal("a copy has a source and a target".to_owned()))
        };
        let (source, target) = (store("source")?, store("target")?);
        let mut structure = source.structure().await.map_err(refused)?;
        if structure.tables.is_empty() {
            return Err(EngineError::refused(
                format!("{} holds no tables", source.location()),
                "look at the path: an empty database was opened",
            ));
        }
        let waits = structure.order_by_dependency();
        let missing = missing(&target, &structure).await?;
        let is_own = matches!((&draft.from, &draft.into), (Place::Postgres { .. }, Place::Postgres { .. }));
        if is_own && let Some(name) = missing.first() {
            return Err(missing_in_postgres(name, &target));
        }
        if !create && let Some(name) = missing.first() {
            let message = format!("the table `{name}` is missing in {}", target.location());
            return Err(EngineError::refused(message, "leave `--no-create` out, and it is made"));
        }
        let is_missing = |table: &&TableStructure| missing.contains(&table.name);
        let wanted = Structure {
            tables: structure.tables.iter().filter(is_missing).cloned().collect(),
            ..Structure::default()
        };
        let definition = target.define(&wanted).map_err(refused)?;
        self.flows = flows(&structure, &waits, |table| definition.is_enforced || !missing.contains(table));
        let keys_go = matches!(&draft.into, Place::Postgres { database, .. }
            if database.says("foreign_keys", "after_load"));
        if matches!(&draft.into, Place::Postgres { .. }) && missing.len() < structure.tables.len() {
            // A role that may not read all of it goes on: a column that takes no values is refused where it is written.
            match target.structure().await {
                Ok(there) => draft.notes.extend(self.leave_out_generated(&structure, &there)),
                Err(error) => tracing::debug!(%error, "the target's columns could not be looked at"),
            }
        }
        self.script = (!missing.is_empty()).then_some(definition.sql);
        draft.notes.push(made(structure.tables.len(), missing.len()));
        let there = structure.tables.len() - missing.len();
        match &draft.into {
            Place::Postgres { .. } if keys_go && there > 0 => draft.notes.push(WITHOUT_KEYS.to_owned()),
            Place::Postgres { .. } => draft.notes.extend(in_circles(&structure, &waits, &missing)),
            _ => {}
        }
        draft.notes.extend(structure.others);
        // Of what is there already nothing is left out.
        draft.notes.extend(if is_own { Vec::new() } else { structure.notes });
        draft.notes.extend(definition.notes);
        Ok(())
    }

    /// Leaves out what the target's tables work out themselves; says of which.
    fn leave_out_generated(&mut self, source: &Structure, target: &Structure) -> Option<String> {
        let generated = |table: &str| {
            let found = target.tables.iter().find(|there| there.name == table);
            let columns = found.into_iter().flat_map(|there| &there.columns);
            columns
                .filter(|column| column.is_generated)
                .map(|column| column.field.name())
                .collect::<BTreeSet<_>>()
        };
        let mut left_out = Vec::new();
        for (flow, table) in self.flows.iter_mut().zip(&source.tables) {
            let generated = generated(&table.name);
            let names = table.columns.iter().map(|column| column.field.name());
            let (out, written): (Vec<_>, Vec<_>) = names.cloned().partition(|name| generated.contains(name));
            if !out.is_empty() {
                flow.transform = Some(select(&[], written.iter()));
                left_out.extend(out.iter().map(|column| format!("{}.{column}", table.name)));
            }
        }
        let said = |left_out: String| format!("left out, as the target works them out itself: {left_out}");
        (!left_out.is_empty()).then(|| said(left_out.join(", ")))
    }

    /// Writes what follows the stores in the spec.
    pub fn write(&self, text: &mut String, mode: &str) {
        if self.script.is_some() {
            let _ = writeln!(text, "    schema: {SCRIPT}");
        }
        text.push_str("\nflows:\n");
        // Before the tables are known, the spec only says which stores there are.
        let unknown = TableFlow {
            name: "tables".to_owned(),
            table: "tables".to_owned(),
            columns: Vec::new(),
            transform: None,
            after: Vec::new(),
        };
        let known = if self.flows.is_empty() { std::slice::from_ref(&unknown) } else { &self.flows };
        for flow in known {
            let _ = writeln!(text, "  {}:", quoted(&flow.name));
            if !flow.after.is_empty() {
                let names: Vec<_> = flow.after.iter().map(quoted).collect();
                let _ = writeln!(text, "    after: [{}]", names.join(", "));
            }
            let table = quoted(named(&flow.table));
            let _ = writeln!(text, "    from: {{ store: source, table: {table} }}");
            if !flow.columns.is_empty() {
                let columns: Vec<_> =
                    flow.columns.iter().map(|(name, word)| format!("{}: {word}", quoted(name))).collect();
                let _ = writeln!(text, "    columns: {{ {} }}", columns.join(", "));
            }
            if let Some(transform) = &flow.transform {
                let _ = writeln!(text, "    transform: {}", sql(transform, 6));
            }
            let _ = writeln!(text, "    into: {{ store: target, table: {table}, mode: {mode} }}");
        }
    }

    /// The script, for a spec that is only printed.
    pub fn script_as_comment(&self) -> String {
        let Some(script) = &self.script else { return String::new() };
        let lines: String = script.lines().map(|line| format!("#   {line}\n")).collect();
        format!("\n# {SCRIPT}, beside this spec:\n{lines}")
    }
}

/// PostgreSQL's tables are made for PostgreSQL by its own program: their own types (enums, domains, `varchar(n)`) and
/// defaults would become others on the way.
fn missing_in_postgres(table: &str, target: &Arc<dyn Store>) -> EngineError {
    EngineError::refused(
        format!("the table `{table}` is missing in {}", target.location()),
        "make the tables with `pg_dump --schema-only SOURCE | psql TARGET`, with all that is theirs; then copy all of them, \
         or one with `?table=NAME` on both sides",
    )
}

/// Tables that no order puts behind all that they refer to: what that means where their keys are there already.
fn in_circles(structure: &Structure, waits: &[BTreeSet<String>], missing: &[String]) -> Option<String> {
    let is_in_one = |table: &TableStructure, waits: &BTreeSet<String>| {
        let mut parents = table.foreign_keys.iter().map(|key| &key.parent);
        parents.any(|parent| structure.table(parent).is_some() && !waits.contains(parent))
    };
    let there = structure.tables.iter().zip(waits).filter(|(table, _)| !missing.contains(&table.name));
    let found = there.filter(|(table, waits)| is_in_one(table, waits));
    let names: Vec<_> = found.map(|(table, _)| format!("`{}`", table.name)).collect();
    (!names.is_empty()).then(|| {
        format!(
            "{} may refer to records that come after their own, which the target's foreign keys refuse; with \
             `foreign_keys=after_load` among TO's parameters, behind its `?` or `&`, empty tables are without their \
             keys while they are filled",
            names.join(", ")
        )
    })
}

/// The tables that the target does not have.
async fn missing(target: &Arc<dyn Store>, structure: &Structure) -> Result<Vec<String>, EngineError> {
    let mut missing = Vec::new();
    for table in &structure.tables {
        let request = WriteRequest {
            flow: FlowName::new("tables"),
            table: named(&table.name),
            key: Vec::new(),
            mode: Mode::Insert,
            nulls: Nulls::Omit,
            forms: BTreeMap::new(),
            ignore: Vec::new(),
            scope: BTreeMap::new(),
            allow_lossy: Vec::new(),
            shape: None,
            collection: None,
        };
        match target.target(request)?.state().await {
            Ok(_) => {}
            Err(error) if error.kind() == StoreErrorKind::NotFound => missing.push(table.name.clone()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(missing)
}

fn flows(
    structure: &Structure,
    waits: &[BTreeSet<String>],
    is_enforced: impl Fn(&String) -> bool,
) -> Vec<TableFlow> {
    let mut taken = BTreeSet::new();
    let mut names = BTreeMap::new();
    for table in &structure.tables {
        let plain = word(&table.name);
        let numbered = (2_u32..).map(|number| format!("{plain}-{number}"));
        let name = std::iter::once(plain.clone()).chain(numbered).find(|name| taken.insert(name.clone()));
        names.insert(&table.name, name.unwrap_or(plain));
    }
    let flow = |(table, waits): (&TableStructure, &BTreeSet<String>)| TableFlow {
        name: names.get(&table.name).cloned().unwrap_or_default(),
        table: table.name.clone(),
        columns: table
            .columns
            .iter()
            .filter_map(|column| Some((column.field.name().clone(), column.declared.clone()?)))
            .collect(),
        transform: None,
        after: match is_enforced(&table.name) {
            true => waits.iter().filter_map(|parent| names.get(parent).cloned()).collect(),
            false => Vec::new(),
        },
    };
    structure.tables.iter().zip(waits).map(flow).collect()
}

/// A table's name as stores take it: one with a dot or a quote would be read as something else.
fn named(table: &str) -> String {
    if table.contains(['.', '"']) { format!("\"{}\"", table.replace('"', "\"\"")) } else { table.to_owned() }
}

fn made(all: usize, missing: usize) -> String {
    let tables = |count: usize| if count == 1 { "1 table".to_owned() } else { format!("{count} tables") };
    match missing {
        0 => format!("{}, all of them there already", tables(all)),
        _ if missing == all => {
            format!("{}, all of them made, with keys, indexes and foreign keys", tables(all))
        }
        _ => format!("{}, of which {missing} are made", tables(all)),
    }
}
