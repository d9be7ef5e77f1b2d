//! What the chosen flows do with a store's tables, as far as the spec says it.

use whimbrel_model::StoreName;
use whimbrel_spec::Resolved;
use whimbrel_spec::resolved::{Relation, WriteMode};
use whimbrel_store::{Mode, TableNeed};

/// Each table of a store once, in the order of the flows. What a query reads is asked for with its flow.
pub(super) fn of(resolved: &Resolved, store: &StoreName) -> Vec<TableNeed> {
    let mut needs: Vec<TableNeed> = Vec::new();
    let at = |needs: &mut Vec<TableNeed>, table: &str| {
        needs.iter().position(|need| need.table == table).unwrap_or_else(|| {
            needs.push(TableNeed { table: table.to_owned(), ..TableNeed::default() });
            needs.len() - 1
        })
    };
    for flow in &resolved.flows {
        if let (true, Relation::Table(table)) = (flow.from.store == *store, &flow.from.relation) {
            let place = at(&mut needs, table);
            needs[place].is_read = true;
        }
        if flow.into.store == *store {
            let place = at(&mut needs, &flow.into.table);
            let need = &mut needs[place];
            let mode = mode(flow.into.mode);
            if !need.modes.contains(&mode) {
                need.modes.push(mode);
            }
            need.is_deleted_from |= flow.into.delete_missing;
        }
    }
    needs
}

fn mode(mode: WriteMode) -> Mode {
    match mode {
        WriteMode::Insert => Mode::Insert,
        WriteMode::Upsert => Mode::Upsert,
        WriteMode::SkipExisting => Mode::SkipExisting,
        WriteMode::Changed => Mode::Changed,
        WriteMode::Update => Mode::Update,
    }
}
