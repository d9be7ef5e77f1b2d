//! Rules of `verify` have one kind each and what belongs to it, and name what exists.

use super::Findings;
use crate::column_path;
use crate::elements::verify::VerifyElement;
use crate::error::Position;
use crate::names::suggest;
use crate::spec::Spec;
use crate::sql::{self, Finding};

pub(super) fn check(spec: &Spec, findings: &mut Findings) {
    for (index, rule) in spec.document().verify.iter().enumerate() {
        let index = index.to_string();
        let rule = Rule { spec, rule, index: &index };
        rule.only(findings);
        match rule.rule.kinds().as_slice() {
            [] => {
                let hint = "give it one of `count: true`, `records`, `sql`, `compare`, `not_empty`, `json`, `overlap` and `latency`";
                findings.add(spec.position(&["verify", &index]), "a verify rule has no kind", hint);
            }
            [kind] => rule.kind(kind, findings),
            kinds => {
                let mut kinds = kinds.to_vec();
                kinds.sort_by_key(|kind| rule.key(kind));
                let message =
                    format!("a verify rule is `{}` already and cannot be `{}` too", kinds[0], kinds[1]);
                findings.add(rule.key(kinds[1]), message, format!("make `{}` a rule of its own", kinds[1]));
            }
        }
    }
}

struct Rule<'a> {
    spec: &'a Spec,
    rule: &'a VerifyElement,
    index: &'a str,
}

impl Rule<'_> {
    fn at(&self, path: &[&str]) -> Position {
        self.spec.position(&[&["verify", self.index], path].concat())
    }

    fn key(&self, key: &str) -> Position {
        self.spec.key_position(&["verify", self.index, key])
    }

    fn only(&self, findings: &mut Findings) {
        let flows = &self.spec.document().flows;
        let groups = flows.values().filter_map(|flow| flow.group.as_deref());
        let names: Vec<&str> = flows.keys().map(String::as_str).chain(groups).collect();
        for (at, name) in self.rule.only.iter().flatten().enumerate() {
            if !names.contains(&name.as_str()) {
                let message = format!("there is no flow and no group `{name}`");
                let hint = suggest(name, "flows and groups", names.iter().copied());
                findings.add(self.at(&["only", &at.to_string()]), message, hint);
            }
        }
    }

    fn kind(&self, kind: &str, findings: &mut Findings) {
        for (key, kinds) in self.rule.beside() {
            if !kinds.contains(&kind) {
                let belongs = kinds.iter().map(|kind| format!("`{kind}`")).collect::<Vec<_>>().join(" and ");
                let (message, hint) = match key {
                    "name" => {
                        ("`compare` is the rule's name already".to_owned(), "leave `name` out".to_owned())
                    }
                    _ => (
                        format!("`{key}` belongs to {belongs}, not to `{kind}`"),
                        format!("leave `{key}` out, or make it a rule of its own"),
                    ),
                };
                findings.add(self.key(key), message, hint);
            }
        }
        match kind {
            "sql" => self.sql(findings),
            "compare" => self.compare(findings),
            "not_empty" | "json" => self.columns(kind, findings),
            "overlap" | "latency" => self.vectors(kind, findings),
            _ => {}
        }
    }

    fn sql(&self, findings: &mut Findings) {
        let expected: Vec<&str> = self.rule.expected().into_iter().map(|(key, _)| key).collect();
        if expected.is_empty() && !self.rule.no_rows {
            let hint = "add `equals`, `less`, `less_or_equal`, `greater` or `greater_or_equal` with a value, or \
                        `no_rows: true`";
            findings.add(self.key("sql"), "`sql` does not say what is expected of its answer", hint);
        }
        let beside = |first: &str| expected.iter().find(|key| **key != first).copied();
        let pairs = [
            (self.rule.no_rows, "no_rows", expected.first().copied()),
            (self.rule.equals.is_some(), "equals", beside("equals")),
            (self.rule.less.is_some(), "less", self.rule.less_or_equal.is_some().then_some("less_or_equal")),
            (
                self.rule.greater.is_some(),
                "greater",
                self.rule.greater_or_equal.is_some().then_some("greater_or_equal"),
            ),
        ];
        for (there, key, other) in pairs {
            let Some(other) = other.filter(|_| there) else { continue };
            let at = self.key(key).max(self.key(other));
            findings.add(at, format!("`{key}` has no place beside `{other}`"), "keep one of them");
        }
        if let Some(store) = &self.rule.store {
            self.own_sql(store, findings);
        }
    }

    /// A query in a store's own SQL.
    fn own_sql(&self, store: &str, findings: &mut Findings) {
        self.store(store, self.at(&["store"]), findings);
        if self.spec.document().stores.get(store).is_some_and(|store| store.dynamodb.is_some()) {
            let message = format!("the store `{store}` is `dynamodb`, which has no SQL of its own");
            let hint = format!("leave `store` out, and write `FROM {store}.table`");
            findings.add(self.key("store"), message, hint);
        }
        let Some(node) = self.spec.tree.find(&["verify", self.index, "sql"]) else { return };
        let Some(text) = node.text() else { return };
        for finding in sql::scan(text) {
            if let Finding::Named { at, .. } = finding {
                let hint = "write the table's name, or leave `store` out";
                let message = "with `store` a table's name cannot be a variable";
                findings.add(node.span().at_byte(text, at), message, hint);
            }
        }
    }

    /// A store that a rule names must be one that flows use: no other is opened.
    fn store(&self, name: &str, at: Position, findings: &mut Findings) {
        let document = self.spec.document();
        if !document.stores.contains_key(name) {
            let hint = suggest(name, "stores", document.stores.keys().map(String::as_str));
            findings.add(at, format!("there is no store `{name}`"), hint);
            return;
        }
        let used = column_path::used_stores(self.spec);
        if !used.contains(name) {
            let hint = suggest(name, "stores of the flows", used.iter().copied());
            findings.add(at, format!("no flow uses the store `{name}`"), hint);
        }
    }

    fn compare(&self, findings: &mut Findings) {
        let needed = [
            (
                "by",
                self.rule.by.is_some(),
                "add `by`: the column, or a list of columns, that both queries share",
            ),
            ("left", self.rule.left.is_some(), "add `left: SELECT …`"),
            ("right", self.rule.right.is_some(), "add `right: SELECT …`"),
        ];
        for (key, _, hint) in needed.into_iter().filter(|(_, there, _)| !there) {
            findings.add(self.key("compare"), format!("`compare` has no `{key}`"), hint);
        }
        let by = self.rule.by.iter().flat_map(|by| by.as_slice()).enumerate();
        for (at, column) in by {
            let columns = self.rule.by.iter().flat_map(|by| by.as_slice());
            if columns.take(at).any(|other| other == column) {
                let message = format!("`by` names `{column}` twice");
                findings.add(self.at(&["by", &at.to_string()]), message, "keep one of them");
            }
        }
    }

    /// A rule about vectors names the flow that writes them, into a store that searches.
    fn vectors(&self, kind: &str, findings: &mut Findings) {
        match (&self.rule.queries, &self.rule.embed) {
            (Some(_), None) => {
                let hint = "add `embed: { model: voyage-3.5-lite, key: \"${env:VOYAGE_API_KEY}\" }`, or look for stored \
                            vectors: `stored: 100`";
                findings.add(self.key("queries"), "nothing turns `queries` into vectors", hint);
            }
            (None, Some(_)) => {
                findings.add(
                    self.key("embed"),
                    "`embed` belongs to `queries`",
                    "add `queries`, or leave it out",
                );
            }
            (Some(_), Some(_)) if self.rule.stored.is_some() => {
                let hint = "keep one of them";
                findings.add(self.key("stored"), "`stored` has no place beside `queries`", hint);
            }
            _ => {}
        }
        let name = self.rule.overlap.as_ref().or(self.rule.latency.as_ref()).map_or("", String::as_str);
        let document = self.spec.document();
        let Some(flow) = document.flows.get(name) else {
            let hint = suggest(name, "flows", document.flows.keys().map(String::as_str));
            findings.add(self.at(&[kind]), format!("there is no flow `{name}`"), hint);
            return;
        };
        let stores = flow.into.iter().flat_map(|into| into.as_slice()).filter_map(|into| into.store.as_ref());
        let is_searched =
            |name: &String| document.stores.get(name).is_none_or(|store| store.postgres.is_some());
        if !stores.clone().all(is_searched) || stores.count() > 1 {
            let message =
                format!("the flow `{name}` does not write into one `postgres` store, which is searched");
            findings.add(self.at(&[kind]), message, "name a flow that writes vectors into PostgreSQL");
        }
    }

    fn columns(&self, kind: &str, findings: &mut Findings) {
        let written = match kind {
            "json" => &self.rule.json,
            _ => &self.rule.not_empty,
        };
        let Some(written) = written else { return };
        for (index, column) in written.as_slice().iter().enumerate() {
            let index = index.to_string();
            let at = if written.is_list() { self.at(&[kind, &index]) } else { self.at(&[kind]) };
            match column_path::read(self.spec, &column.0) {
                Ok(path) => self.store(path.store, at, findings),
                Err((message, hint)) => findings.add(at, message, hint),
            }
        }
    }
}
