//! A workspace in a temporary folder, and the program run in it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use seedmill::session::{OpenOptions, Workspace};
use seedmill::stores::{Stores, Variables};
use tempfile::TempDir;

/// A workspace that is gone when it is dropped.
pub struct Scratch {
    _folder: TempDir,
    /// The workspace: the folder, or one in it.
    root: PathBuf,
    /// The environment of the programs and sessions, beside the process's own.
    variables: Vec<(String, String)>,
}

impl Scratch {
    /// An empty folder.
    #[cfg(feature = "peers")]
    pub fn empty() -> Self {
        Self::below("")
    }

    /// An empty folder of this name.
    fn below(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = if name.is_empty() { folder.path().to_owned() } else { folder.path().join(name) };
        std::fs::create_dir_all(&root).unwrap();
        Scratch { _folder: folder, root, variables: Vec::new() }
    }

    /// With one model, `m`, at this address.
    pub fn new(url: &str, max_in_flight: usize, more: &str) -> Self {
        Self::in_folder("", url, max_in_flight, more)
    }

    /// The same in a folder of this name.
    pub fn in_folder(name: &str, url: &str, max_in_flight: usize, more: &str) -> Self {
        let scratch = Self::below(name);
        scratch.write(
            "seedmill.toml",
            &format!(
                "[models.m]\nprovider = \"openai\"\nbase_urls = [\"{url}\"]\nmodel = \"m-1\"\nmax_retries = 1\n\
                 max_in_flight = {max_in_flight}\n{more}"
            ),
        );
        scratch
    }

    pub fn with_variables(mut self, variables: &[(String, String)]) -> Self {
        self.variables.extend_from_slice(variables);
        self
    }

    pub fn path(&self) -> &Path {
        &self.root
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seedmill"));
        command.arg("-w").arg(self.path()).args(arguments).current_dir(self.path()).stdin(Stdio::null());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs the program to its end with a variable in its environment.
    pub fn run_with(&self, variable: (&str, &str), arguments: &[&str]) -> Output {
        self.command(arguments).env(variable.0, variable.1).output().unwrap()
    }

    /// Standard output of a run that must succeed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// One value from SQL.
    pub fn value(&self, sql: &str) -> String {
        let out = self.ok(&["sql", "--format", "csv", "-c", sql]);
        out.lines().nth(1).unwrap_or_else(|| panic!("{sql}: {out}")).to_owned()
    }

    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// A session of its own in this process: opened, used by `work`, and finished as the program does it.
    pub fn session<T>(&self, options: OpenOptions, work: impl AsyncFnOnce(&Workspace) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let stores = (!self.variables.is_empty()).then(|| Stores::new(Variables::of(self.variables.clone())));
            let options = OpenOptions { root: Some(self.path().to_owned()), stores, ..options };
            let workspace = Workspace::open(options).await.unwrap();
            let result = work(&workspace).await;
            assert_eq!(workspace.runtime.finish(Duration::from_secs(60)).await.unwrap(), 0);
            result
        })
    }

    /// The result of SQL in a session of its own in this process.
    pub fn batches(&self, sql: &str) -> Vec<RecordBatch> {
        self.session(OpenOptions::default(), async |workspace| {
            workspace.sql(sql).await.unwrap().collect().await.unwrap()
        })
    }

    /// The same as texts, row by row.
    pub fn texts(&self, sql: &str) -> Vec<Vec<String>> {
        let options = FormatOptions::default().with_null("NULL");
        let mut rows = Vec::new();
        for batch in self.batches(sql) {
            let columns: Vec<_> =
                batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
            rows.extend(
                (0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect()),
            );
        }
        rows
    }

    /// One number, in this process.
    pub fn number(&self, sql: &str) -> usize {
        self.texts(sql)[0][0].parse().unwrap()
    }
}
