//! A folder to work in, and the program run there.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What is awaited comes within this time, or the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of its own, removed with the test.
pub struct Place(TempDir);

/// A migration that comes with whimbrel.
pub struct Shipped {
    folder: PathBuf,
    name: String,
}

impl Shipped {
    pub fn named(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations").join(name);
        Self { folder, name: name.to_owned() }
    }

    /// What makes and fills its source.
    pub fn script(&self) -> String {
        let read =
            |file: &str| std::fs::read_to_string(self.folder.join(file)).expect("a file of the migration");
        format!("{}\n{}", read("schema.sql"), read("sample.sql"))
    }

    /// The path of its spec.
    pub fn spec(&self) -> String {
        self.file(&format!("{}.yaml", self.name))
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    /// `None` where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Place {
    pub fn new() -> Self {
        Self(tempfile::Builder::new().prefix("whimbrel-test-").tempdir().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("the folder can be made");
        std::fs::write(path, text).expect("the file can be written");
    }

    /// The program with these arguments, free of what this machine's environment says of databases and accounts.
    pub fn whimbrel(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_whimbrel"));
        command.args(arguments);
        self.bare(&mut command);
        command
    }

    /// Frees any command of that, and lets it work in this folder.
    pub fn bare(&self, command: &mut Command) {
        let ours = |name: &str| {
            ["AWS_", "CHROMA_", "PG", "DATABASE_", "DYNAMODB_", "WHIMBREL_"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        };
        for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
            command.env_remove(name);
        }
        command
            .current_dir(self.0.path())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_SHARED_CREDENTIALS_FILE", self.path("no-credentials"))
            .env("AWS_CONFIG_FILE", self.path("no-config"))
            .env("PGPASSFILE", self.path("no-passwords"))
            .env("COLUMNS", "100")
            .stdin(Stdio::null());
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.whimbrel(arguments).output().expect("the program starts"))
    }

    /// Starts the program and goes on beside it.
    pub fn start(&self, arguments: &[&str]) -> Running {
        self.start_with(arguments, |_| {})
    }

    /// The same with an environment of its own.
    pub fn start_with(&self, arguments: &[&str], environment: impl FnOnce(&mut Command)) -> Running {
        let mut command = self.whimbrel(arguments);
        environment(&mut command);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Running(Some(child.expect("the program starts")))
    }

    /// The folder of the one run in the journal `.whimbrel`.
    pub fn only_run(&self) -> PathBuf {
        let mut runs = folders(&self.path(".whimbrel/runs"));
        assert_eq!(runs.len(), 1, "one run is expected: {runs:?}");
        runs.remove(0)
    }
}

impl Ended {
    /// The exit code must be this one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        self
    }

    /// Standard output, which must be one line with one JSON object.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.out.lines().count(), 1, "one line is expected on standard output:\n{}", self.out);
        let value: Value = serde_json::from_str(&self.out).expect("standard output is JSON");
        assert!(value.is_object(), "an object is expected: {value}");
        value
    }

    /// Standard error must hold exactly one error.
    #[track_caller]
    pub fn one_error(&self) {
        let errors = self.err.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "one error is expected:\n{}", self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }
}

/// A program that was run by other means than these.
pub fn ended(output: Output) -> Ended {
    let text = |bytes| String::from_utf8(bytes).expect("the program writes UTF-8");
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A program at work. It is killed with the test.
pub struct Running(Option<Child>);

impl Running {
    fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("it was not awaited yet")
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child().try_wait().expect("the child can be asked").is_some()
    }

    /// Sends a signal by its name, as `INT`.
    pub fn signal(&mut self, name: &str) {
        let id = self.child().id().to_string();
        let sent = Command::new("kill").args([format!("-{name}"), id]).status().expect("kill is there");
        assert!(sent.success(), "the signal {name} reaches the program");
    }

    /// SIGKILL, and its end.
    pub fn kill(mut self) -> Ended {
        self.child().kill().expect("the program can be killed");
        self.wait()
    }

    /// Its end.
    pub fn wait(mut self) -> Ended {
        let child = self.0.take().expect("it was not awaited yet");
        ended(child.wait_with_output().expect("the program ends"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Asks again and again until there is an answer.
#[track_caller]
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: in vain for {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The entries of a folder, sorted; none where there is no folder.
pub fn folders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}
