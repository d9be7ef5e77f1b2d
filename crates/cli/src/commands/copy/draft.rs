//! The spec that a copy is: its text, out of what was typed and what the stores were found to hold.

use super::tables::Tables;
use crate::args::CopyArgs;
use crate::store_url::{Database, Place, absolute};
use std::fmt::Write as _;
use whimbrel_engine::EngineError;

/// The most characters that a migration's name, of at most 64, has of each end's.
const RELATION: usize = 28;

/// A spec on its way.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Where records come from.
    pub from: Place,
    /// Where they go.
    pub into: Place,
    /// The format of the file that is read, where it is said.
    pub from_format: Option<String>,
    /// The format of the file that is written, where it is said.
    pub into_format: Option<String>,
    /// What a person should know of how the spec came to be.
    pub notes: Vec<String>,
    /// Columns of the source with the types that are declared for them.
    pub columns: Vec<(String, String)>,
    /// `SELECT … FROM input`.
    pub transform: Option<String>,
    /// The target's key.
    pub key: Vec<String>,
    /// How a DynamoDB table is made: attributes with their types, one or two.
    pub table_key: Vec<(String, &'static str)>,
    /// Forms of columns in the target.
    pub forms: Vec<(String, &'static str)>,
    /// All tables of a database, where none is named.
    pub tables: Option<Tables>,
    filter: Option<String>,
    mode: &'static str,
}

/// How records are written whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// As items of a table, each attribute with its type.
    Table,
    /// As items in DynamoDB's own JSON.
    Items,
    /// As objects of plain JSON.
    Objects,
}

/// Which end of the copy, by the name of its store in the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where records come from.
    Source,
    /// Where they go.
    Target,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }

    /// The variable that holds its password.
    pub fn password(self) -> String {
        format!("{}_password", self.name())
    }
}

impl Draft {
    /// What was typed, nothing asked of a store yet.
    ///
    /// # Errors
    /// A place cannot be read, or the format belongs to none.
    pub fn new(args: &CopyArgs) -> Result<Self, EngineError> {
        let place = |text: &str, word: &str| {
            let place = Place::parse(text);
            place.map_err(|wrong| EngineError::refused(format!("{word}: {}", wrong.message), wrong.hint))
        };
        let (from, into) = (place(&args.from, "FROM")?, place(&args.to, "TO")?);
        let into = if into.is_whole() && is_table(&from) { into.of_table(from.relation()) } else { into };
        let tables = Tables::of(args, &from, &into)?;
        let mut draft = Self {
            from,
            into,
            from_format: None,
            into_format: None,
            notes: Vec::new(),
            columns: args.columns.clone(),
            transform: args.select.as_ref().map(|sql| sql.trim().to_owned()),
            key: args.key.clone(),
            table_key: Vec::new(),
            forms: Vec::new(),
            tables,
            filter: args.filter.clone(),
            mode: args.mode.as_str(),
        };
        draft.take_format(args.format.map(crate::args::CopyFormat::as_str))?;
        Ok(draft)
    }

    /// `--format` is for the files whose names say none, else for the one file that there is.
    fn take_format(&mut self, format: Option<&str>) -> Result<(), EngineError> {
        let (from, into) = (says_no_format(&self.from), says_no_format(&self.into));
        let standard = |place: &Place| (*place == Place::Standard).then(|| "ndjson".to_owned());
        let Some(format) = format else {
            (self.from_format, self.into_format) = (standard(&self.from), standard(&self.into));
            return Ok(());
        };
        let (from, into) = match (from, into, is_file(&self.from), is_file(&self.into)) {
            (false, false, true, false) => (true, false),
            (false, false, false, true) => (false, true),
            (false, false, true, true) => {
                let message = "`--format` could mean either file, and both names say their format";
                return Err(EngineError::refused(message, "leave it out, or rename one of the files"));
            }
            (false, false, false, false) => {
                return Err(EngineError::refused(
                    "`--format` is for files, and none is named",
                    "leave it out",
                ));
            }
            (from, into, ..) => (from, into),
        };
        self.from_format = from.then(|| format.to_owned());
        self.into_format = into.then(|| format.to_owned());
        Ok(())
    }

    /// The passwords that the URLs held, as values of the spec's variables.
    pub fn passwords(&self) -> Vec<(String, String)> {
        let ends = [(End::Source, &self.from), (End::Target, &self.into)];
        let ends = ends.into_iter().filter(|(end, _)| *end == End::Source || !self.one_store());
        ends.filter_map(|(end, place)| Some((end.password(), place.password()?.0.clone()))).collect()
    }

    /// Whether what is written is lossless DynamoDB JSON.
    pub fn writes_items(&self) -> bool {
        match &self.into_format {
            Some(format) => format == "dynamodb-json",
            None => is_file(&self.into) && is_tagged(self.into.relation()),
        }
    }

    /// Whether what is read is CSV, by its name or by `--format`.
    pub fn reads_csv(&self) -> bool {
        is_file(&self.from)
            && self.from_format.clone().or_else(|| suffix(&self.from)).as_deref() == Some("csv")
    }

    /// How records can be written whole, whatever they hold; `None`: column by column.
    pub fn takes_whole(&self) -> Option<Whole> {
        match (&self.into, self.into_format.clone().or_else(|| suffix(&self.into)).as_deref()) {
            // An update names what it sets.
            (Place::DynamoDb { .. }, _) => (self.mode != "update").then_some(Whole::Table),
            (place, _) if is_file(place) && self.writes_items() => Some(Whole::Items),
            (place, Some("json" | "ndjson" | "jsonl")) if is_file(place) => Some(Whole::Objects),
            _ => None,
        }
    }

    /// Whether `--where` says this name.
    pub fn filters_by(&self, name: &str) -> bool {
        self.filter.as_ref().is_some_and(|filter| filter.contains(name))
    }

    /// Whether only some of the records are asked for.
    pub fn is_filtered(&self) -> bool {
        self.filter.is_some()
    }

    /// The migration's name, of what is copied.
    pub fn migration(&self) -> String {
        let short = |name: &str| word(name).chars().take(RELATION).collect::<String>();
        format!("copy-{}-{}", short(self.from.relation()), short(self.into.relation()))
    }

    /// The text of the spec. `anywhere`: paths are absolute, so that it does not matter where it lies.
    pub fn text(&self, anywhere: bool) -> String {
        let mut text = String::from("# Written by `whimbrel copy`.\n");
        for note in &self.notes {
            let _ = writeln!(text, "# {}", note.replace(['\n', '\r'], " "));
        }
        let _ = writeln!(text, "migration: {}", self.migration());
        self.variables(&mut text);
        text.push_str("\nstores:\n");
        let same = self.one_store();
        store(
            &mut text,
            End::Source,
            &self.from,
            self.from_format.as_deref(),
            &self.table_definition(same),
            anywhere,
        );
        if !same {
            let tables = self.table_definition(true);
            store(&mut text, End::Target, &self.into, self.into_format.as_deref(), &tables, anywhere);
        }
        if let Some(tables) = &self.tables {
            tables.write(&mut text, self.mode);
            return text;
        }
        self.flow(&mut text, if same { End::Source } else { End::Target });
        if self.filter.is_some() {
            // The others are left where they are, as was asked for.
            text.push_str("unmatched: ignore\n");
        }
        text
    }

    /// Whether both ends are one store: an embedded database takes one client.
    pub fn one_store(&self) -> bool {
        match (&self.from, &self.into) {
            (Place::Sqlite { path, .. }, Place::Sqlite { path: other, .. }) => path == other,
            (Place::Postgres { database, .. }, Place::Postgres { database: other, .. }) => database == other,
            (
                Place::DynamoDb { region, endpoint, profile, .. },
                Place::DynamoDb {
                    region: other_region,
                    endpoint: other_endpoint,
                    profile: other_profile,
                    ..
                },
            ) => (region, endpoint, profile) == (other_region, other_endpoint, other_profile),
            _ => false,
        }
    }

    fn variables(&self, text: &mut String) {
        let ends = [(End::Source, &self.from), (End::Target, &self.into)];
        let held = ends.into_iter().filter(|(_, place)| place.password().is_some());
        let held: Vec<End> =
            held.map(|(end, _)| end).filter(|end| *end == End::Source || !self.one_store()).collect();
        if held.is_empty() {
            return;
        }
        text.push_str("\nvariables:\n");
        for end in held {
            let (name, upper) = (end.password(), end.password().to_uppercase());
            let default = format!("${{env:{upper}:-${{prompt:Password of the {}}}}}", end.name());
            let _ = writeln!(text, "  {name}: {{ default: \"{default}\", secret: true }}");
        }
    }

    /// `tables` of the DynamoDB store that is written to.
    fn table_definition(&self, is_target: bool) -> String {
        let mut text = String::new();
        let Some(((partition, kind), rest)) = self.table_key.split_first().filter(|_| is_target) else {
            return text;
        };
        let attribute = |name: &str, kind: &str| match kind {
            "text" => quoted(name),
            _ => format!("{{ name: {}, type: {kind} }}", quoted(name)),
        };
        let _ = writeln!(text, "      tables:\n        {}:", quoted(self.into.relation()));
        let _ = writeln!(text, "          key: {}", attribute(partition, kind));
        for (name, kind) in rest {
            let _ = writeln!(text, "          sort_key: {}", attribute(name, kind));
        }
        text.push_str("          billing: on_demand\n");
        text
    }

    fn flow(&self, text: &mut String, target: End) {
        let key = |place: &Place| if is_file(place) { "path" } else { "table" };
        let _ = writeln!(text, "\nflows:\n  {}:", word(self.from.relation()));
        let _ = writeln!(text, "    from:\n      store: source");
        let from_key = if matches!(self.from, Place::Chroma { .. }) { "collection" } else { key(&self.from) };
        let _ = writeln!(
            text,
            "      {from_key}: {}",
            quoted(self.name_in(&self.from, &self.from_format, "stdin"))
        );
        if let Some(filter) = &self.filter {
            let _ = writeln!(text, "      where: {}", sql(filter, 8));
        }
        if !self.columns.is_empty() {
            text.push_str("    columns:\n");
            for (name, kind) in &self.columns {
                let _ = writeln!(text, "      {}: {kind}", quoted(name));
            }
        }
        if let Some(transform) = &self.transform {
            let _ = writeln!(text, "    transform: {}", sql(transform, 6));
        }
        let _ = writeln!(text, "    into:\n      store: {}", target.name());
        let name = self.name_in(&self.into, &self.into_format, "stdout");
        let _ = writeln!(text, "      {}: {}", key(&self.into), quoted(name));
        if !self.key.is_empty() {
            let names: Vec<_> = self.key.iter().map(quoted).collect();
            let _ = writeln!(text, "      key: [{}]", names.join(", "));
        }
        let _ = writeln!(text, "      mode: {}", self.mode);
        if !self.forms.is_empty() {
            let forms: Vec<_> =
                self.forms.iter().map(|(name, form)| format!("{}: {form}", quoted(name))).collect();
            let _ = writeln!(text, "      as: {{ {} }}", forms.join(", "));
        }
    }

    fn name_in(&self, place: &Place, format: &Option<String>, standard: &str) -> String {
        match place {
            Place::Standard => standard_name(standard, format.as_deref()),
            _ => place.relation().to_owned(),
        }
    }
}

/// The name of the file that stands in for a standard stream.
pub fn standard_name(stream: &str, format: Option<&str>) -> String {
    format!("{stream}.{}", format.unwrap_or("ndjson"))
}

fn store(text: &mut String, end: End, place: &Place, format: Option<&str>, tables: &str, anywhere: bool) {
    let path = |path: &str| match anywhere && !path.contains("://") {
        true => absolute(path),
        false => path.to_owned(),
    };
    let _ = writeln!(text, "  {}:", end.name());
    let parts: Vec<(&str, String)> = match place {
        Place::Postgres { database: Database::Url(url), .. } => {
            let _ = writeln!(text, "    postgres: {}", quoted(url.replace("${", "$${")));
            return;
        }
        Place::Postgres { database: Database::Parts { parts, .. }, .. } => {
            text.push_str("    postgres:\n");
            let parts = parts.iter().map(|(name, value)| (name.as_str(), value.replace("${", "$${")));
            parts.chain([("password", format!("${{{}}}", end.password()))]).collect()
        }
        Place::DynamoDb { region, endpoint, profile, .. } => {
            let parts = [("region", region), ("endpoint", endpoint), ("profile", profile)];
            let parts = parts.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
            let parts: Vec<_> = parts.map(|(name, value)| (name, value.replace("${", "$${"))).collect();
            text.push_str(if parts.is_empty() && tables.is_empty() {
                "    dynamodb: {}\n"
            } else {
                "    dynamodb:\n"
            });
            parts
        }
        Place::Sqlite { path: file, .. } => {
            let _ = writeln!(text, "    sqlite: {}", quoted(path(file).replace("${", "$${")));
            return;
        }
        Place::Chroma { path: url, .. } if url.contains("://") => {
            let _ = writeln!(text, "    chroma:\n      url: {}", quoted(url.replace("${", "$${")));
            text.push_str("      token: \"${env:CHROMA_TOKEN:-}\"\n");
            return;
        }
        Place::Chroma { path: folder, .. } => {
            let _ = writeln!(text, "    chroma: {}", quoted(path(folder)));
            return;
        }
        Place::File { root, endpoint: None, region: None, .. } => {
            let _ = writeln!(text, "    files: {}", quoted(path(root).replace("${", "$${")));
            Vec::new()
        }
        Place::File { root, endpoint, region, .. } => {
            text.push_str("    files:\n");
            let others = [("endpoint", endpoint), ("region", region)];
            let others = others.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
            [("path", path(root))].into_iter().chain(others).collect()
        }
        Place::Standard => {
            // It lies beside the spec.
            text.push_str("    files: .\n");
            Vec::new()
        }
    };
    for (name, value) in parts {
        let _ = writeln!(text, "      {name}: {}", quoted(value));
    }
    text.push_str(tables);
    if let Some(format) = format {
        let _ = writeln!(text, "    format: {format}");
    }
}

/// Whether a place is a table, by its name.
fn is_table(place: &Place) -> bool {
    matches!(place, Place::Postgres { .. } | Place::DynamoDb { .. } | Place::Sqlite { .. })
        && !place.is_whole()
}

/// Whether a place is a file or a standard stream.
pub fn is_file(place: &Place) -> bool {
    matches!(place, Place::File { .. } | Place::Standard)
}

/// What a file's name ends with, behind its last point but that of a compression.
fn suffix(place: &Place) -> Option<String> {
    let Place::File { name, .. } = place else { return None };
    let (_, name) = whimbrel_files::Compression::of_name(name);
    name.rsplit_once('.').map(|(_, suffix)| suffix.to_ascii_lowercase())
}

/// Whether a file's name does not say how its records are written. A folder's files may say it.
fn says_no_format(place: &Place) -> bool {
    match place {
        Place::Standard => true,
        Place::File { .. } => {
            let suffix = suffix(place).unwrap_or_default();
            let others = ["arrows", "ipc", "feather"];
            whimbrel_files::Format::of_word(&suffix).is_none() && !others.contains(&suffix.as_str())
        }
        _ => false,
    }
}

/// Whether a file's name says DynamoDB JSON: `users.dynamodb.json.gz`.
fn is_tagged(name: &str) -> bool {
    let (_, name) = whimbrel_files::Compression::of_name(name);
    let name = name.to_ascii_lowercase();
    let stem =
        ["json", "ndjson", "jsonl"].iter().find_map(|suffix| name.strip_suffix(suffix)?.strip_suffix('.'));
    stem.is_some_and(|stem| stem.ends_with(".dynamodb") || stem.ends_with(".ddb"))
}

/// A name that migrations and flows can have.
pub fn word(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let word: String = name.chars().map(keep).collect();
    let word: String = word.trim_matches('-').chars().take(40).collect();
    match word.chars().next() {
        None => "records".to_owned(),
        Some(first) if first.is_ascii_alphabetic() => word,
        // Exports of DynamoDB are folders whose names begin with a number, as do files of a day.
        Some(_) => format!("f-{word}"),
    }
}

/// A text as YAML takes it: in double quotes, unless it is a plain word.
pub fn quoted(text: impl AsRef<str>) -> String {
    let text = text.as_ref();
    let is_plain = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text);
    if is_plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// SQL as a block where it has more than one line.
pub fn sql(text: &str, indent: usize) -> String {
    let text = text.trim();
    if !text.contains('\n') {
        return serde_json::Value::from(text).to_string();
    }
    let mut block = String::from("|");
    for line in text.lines() {
        let _ = write!(block, "\n{:indent$}{}", "", line.trim_end());
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser as _;

    fn draft(arguments: &[&str]) -> Result<Draft, String> {
        let cli = Cli::try_parse_from(["whimbrel", "copy"].iter().chain(arguments))
            .map_err(|error| error.to_string())?;
        let Command::Copy(args) = cli.command else { panic!("a copy") };
        Draft::new(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn a_password_becomes_a_variable() {
        let url = "postgres://ann:hu%24sh@h:5433/db?table=t&sslmode=require";
        for arguments in
            [[url, "dynamodb://t"], ["dynamodb://t?region=r", url], [url, &url.replace("table=t", "table=u")]]
        {
            let draft = draft(&arguments).unwrap();
            let text = draft.text(true);
            assert!(!text.contains("hu%24sh") && !text.contains("hu$sh"), "{text}");
            let end = if arguments[0] == url { "source" } else { "target" };
            assert_eq!(draft.passwords(), [(format!("{end}_password"), "hu$sh".to_owned())]);
            assert!(text.contains(&format!("password: \"${{{end}_password}}\"")), "{text}");
            let spec = whimbrel_spec::parse(&text, "copy.yaml").unwrap();
            assert_eq!(spec.variable_names(), [format!("{end}_password")]);
        }
    }

    #[test]
    fn any_name_makes_a_spec() {
        for (from, into) in [
            ("embedded:a b/${x}.pg?table=we\"ird", "dynamodb://T.x-1?endpoint=http://l:8000&profile=p"),
            ("s3://b/k/x y.csv?endpoint=http://l:1&region=r", "out/${y}/true.json"),
            ("-", "null.ndjson"),
            ("b/AWSDynamoDB/01695353076000-a06188f4", "_2024.json"),
        ] {
            let draft =
                draft(&[from, into, "--where", "a = 'x:y'\n  AND b", "--select", "SELECT a\nFROM input"])
                    .unwrap();
            let text = draft.text(false);
            if let Err(error) = whimbrel_spec::parse(&text, "copy.yaml") {
                panic!("{error}\n{text}");
            }
        }
    }

    #[test]
    fn a_format_is_for_the_file_that_needs_it() {
        let formats =
            |arguments: &[&str]| draft(arguments).map(|draft| (draft.from_format, draft.into_format));
        let format = |word: &str| Some(word.to_owned());
        assert_eq!(formats(&["-", "x.csv"]), Ok((format("ndjson"), None)));
        assert_eq!(formats(&["-", "x.csv", "--format", "json"]), Ok((format("json"), None)));
        assert_eq!(
            formats(&["dynamodb://t", "x.json", "--format", "dynamodb-json"]),
            Ok((None, format("dynamodb-json")))
        );
        assert_eq!(formats(&["folder", "x.csv", "--format", "json"]), Ok((format("json"), None)));
        assert!(formats(&["x.csv", "y.csv", "--format", "json"]).is_err());
        assert!(formats(&["dynamodb://t", "dynamodb://u", "--format", "json"]).is_err());
        assert!(draft(&["dynamodb://t", "x.dynamodb.ndjson.gz"]).is_ok_and(|draft| draft.writes_items()));
    }
}
