//! The log: a file in each run's folder, and on standard error where that is asked for.

use crate::args::{Common, LogFormat};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use whimbrel_engine::EngineError;
use whimbrel_spec::Redactor;

/// The levels of others unless they are named: what they find alarming, and of some only what is wrong.
const OTHERS: &str = "pglite_oxide=error,dynoxide=error,wasmer=error,aws_config=error";
/// Variables that set the levels, the first one first.
const VARIABLES: [&str; 2] = ["WHIMBREL_LOG", "RUST_LOG"];

/// What is logged, in the language of `RUST_LOG`: directives with comma between them, each a level, or a target
/// with its level. A level alone is ours. Other crates' finest levels show what they send and receive, values of
/// records among it: they are logged from `info` up unless a directive names them.
fn filter(asked: Option<&str>) -> String {
    let asked = asked.map(str::trim).filter(|asked| !asked.is_empty()).unwrap_or("info");
    let directives = asked.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    let (levels, named): (Vec<_>, Vec<_>) =
        directives.partition(|directive| directive.parse::<LevelFilter>().is_ok());
    let ours = levels.last().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO);
    if ours == LevelFilter::OFF && named.is_empty() {
        return "off".to_owned();
    }
    let others = match ours {
        LevelFilter::DEBUG | LevelFilter::TRACE => LevelFilter::INFO,
        level => level.min(LevelFilter::WARN),
    };
    [format!("{others},{OTHERS},whimbrel={ours}"), named.join(",")].join(",").trim_end_matches(',').to_owned()
}

/// The log of this process. The file comes later, when the run has a folder.
#[derive(Clone, Debug, Default)]
pub struct Log {
    file: Arc<OnceLock<Mutex<File>>>,
    secrets: Arc<OnceLock<Redactor>>,
}

impl Log {
    /// Starts logging, as the flags say.
    #[must_use]
    pub fn start(common: &Common) -> Self {
        let log = Self::default();
        let asked =
            VARIABLES.iter().find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()));
        // Directives that cannot be read are as good as none.
        let filter =
            EnvFilter::try_new(filter(asked.as_deref())).unwrap_or_else(|_| EnvFilter::new(filter(None)));
        let file = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(log.clone());
        let stderr = |format| (common.log == Some(format)).then(|| Stderr(log.clone()));
        let text = stderr(LogFormat::Text).map(|writer| tracing_subscriber::fmt::layer().with_writer(writer));
        let json =
            stderr(LogFormat::Json).map(|writer| tracing_subscriber::fmt::layer().json().with_writer(writer));
        tracing_subscriber::registry().with(filter).with(file).with(text).with(json).init();
        log
    }

    /// From now on the log goes to `run.log` in this folder as well; secrets are taken out.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn keep_in(&self, folder: &Path, secrets: &Redactor) -> Result<(), EngineError> {
        let path = folder.join("run.log");
        let open = || {
            std::fs::create_dir_all(folder)?;
            File::options().create(true).append(true).open(&path)
        };
        let file = open().map_err(|source| EngineError::file("write", &path, source))?;
        let _ = self.secrets.set(secrets.clone());
        let _ = self.file.set(Mutex::new(file));
        Ok(())
    }

    /// The line without secrets. Before the spec is read nothing secret is known, nor logged.
    fn hide(&self, line: &[u8]) -> String {
        let text = String::from_utf8_lossy(line);
        let shown = self.secrets.get().map_or_else(|| text.clone(), |secrets| secrets.redact(&text));
        whimbrel_spec::mask_url_passwords(&shown).into_owned()
    }
}

/// Writes log lines to standard error.
#[derive(Clone, Debug)]
struct Stderr(Log);

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        std::io::stderr().lock().write_all(self.0.hide(line).as_bytes()).map(|()| line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().lock().flush()
    }
}

/// Writes one log line to the run's file.
#[derive(Debug)]
pub struct LineWriter<'a>(&'a Log);

impl<'a> MakeWriter<'a> for Log {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter(self)
    }
}

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        if let Some(file) = self.0.file.get() {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            // A log that cannot be written must not stop a run; the journal would, on the same full disk.
            let _ = file.write_all(self.0.hide(line).as_bytes());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn a_level_alone_is_ours_and_others_stay_at_info() {
        let others = "pglite_oxide=error,dynoxide=error,wasmer=error,aws_config=error";
        for (asked, expected) in [
            (None, format!("warn,{others},whimbrel=info")),
            (Some("trace"), format!("info,{others},whimbrel=trace")),
            (
                Some("debug,tokio_postgres=debug"),
                format!("info,{others},whimbrel=debug,tokio_postgres=debug"),
            ),
            (Some("error"), format!("error,{others},whimbrel=error")),
            (Some("off"), "off".to_owned()),
            (Some("whimbrel_postgres=trace"), format!("warn,{others},whimbrel=info,whimbrel_postgres=trace")),
            (Some(" "), format!("warn,{others},whimbrel=info")),
        ] {
            assert_eq!(filter(asked), expected, "{asked:?}");
            assert!(tracing_subscriber::EnvFilter::try_new(&expected).is_ok(), "{expected}");
        }
    }
}
