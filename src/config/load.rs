//! Reads `seedmill.toml`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use thiserror::Error;
use url::Url;

use super::section::{Section, parse};
use super::{
    Api, Budget, CONFIG_FILE, Config, DatasetConfig, LedgerConfig, ModelConfig, Price, Provider, RunCode, TasksConfig,
};

/// The value of a variable `@name`; its type is the type it has in SQL.
#[derive(Debug, Clone, PartialEq)]
pub enum Variable {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
}

/// What is wrong with a configuration: one sentence that names file and key.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl Config {
    /// The configuration of `root` (a folder): its `seedmill.toml`, or the defaults where it has none.
    pub fn load(root: &Path) -> Result<Config, ConfigError> {
        Self::load_apart(root, root)
    }

    /// The configuration of a folder for a workspace elsewhere. Relative paths of what is read (tasks, tables, data roots,
    /// datasets, weights, keys) are of the folder; those of what is written (the ledger, the cache, runs) are of the
    /// workspace.
    pub fn load_apart(folder: &Path, workspace: &Path) -> Result<Config, ConfigError> {
        let absolute_folder =
            |path: &Path| std::path::absolute(path).map_err(|e| ConfigError(format!("{}: {e}", path.display())));
        let (root, workspace) = (absolute_folder(folder)?, absolute_folder(workspace)?);
        let path = root.join(CONFIG_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            Err(e) => return Err(ConfigError(format!("{} cannot be read: {e}", path.display()))),
        };
        let mut file = parse(&path, &text)?;

        let mut models = BTreeMap::from([("local".to_owned(), ModelConfig::embedded())]);
        for (name, section) in file.section("models")?.sections()? {
            models.insert(name, model(&root, section)?);
        }
        let budget = budget(file.section("budget")?)?;
        let ledger = ledger(&workspace, file.section("ledger")?)?;
        let mut tasks = tasks(&root, &workspace, file.section("tasks")?)?;
        let mut data = file.section("data")?;
        let roots: Vec<String> = data.take("roots")?.unwrap_or_default();
        tasks.roots = roots.iter().map(|location| absolute(&root, location)).collect();
        data.finish()?;
        let mut tables = BTreeMap::new();
        for (name, mut section) in file.section("tables")?.sections()? {
            let location = section.take::<String>("location")?;
            let location = location.ok_or_else(|| section.error("needs a 'location', a path or URL"))?;
            section.finish()?;
            tables.insert(name, absolute(&root, &location));
        }
        let variables = file.section("variables")?.values()?;
        let mut run = file.section("run")?;
        let out = absolute(&workspace, &run.take::<String>("out")?.unwrap_or_else(|| "runs".into()));
        run.finish()?;
        let run_code = run_code(&root, file.section("run_code")?)?;
        file.finish()?;
        Ok(Config { root: workspace, models, budget, ledger, tasks, tables, variables, out, run_code })
    }
}

/// URLs stay as they are.
fn absolute(root: &Path, location: &str) -> String {
    if location.contains("://") { location.to_owned() } else { root.join(location).to_string_lossy().into_owned() }
}

fn model(root: &Path, mut section: Section) -> Result<ModelConfig, ConfigError> {
    for key in ["api_key", "key", "token", "secret", "password"] {
        if section.has(key) {
            return Err(section.error(format!(
                "holds a secret under '{key}'; name an environment variable that holds it instead: \
                 api_key_env = \"…\" (or a file: api_key_file = \"…\")"
            )));
        }
    }
    let provider = match section.take::<String>("provider")?.as_deref() {
        Some("openai") => Provider::OpenAi,
        Some("embedded") => Provider::Embedded,
        Some(other) => {
            return Err(section.error(format!("'provider' must be \"openai\" or \"embedded\", not {other:?}")));
        }
        None => return Err(section.error("needs a 'provider': \"openai\" or \"embedded\"")),
    };
    let mut config = match provider {
        Provider::Embedded => ModelConfig::embedded(),
        Provider::OpenAi => ModelConfig { base_urls: Vec::new(), ..ModelConfig::openai("", "") },
    };
    set(&mut config.model, section.take("model")?);
    set(&mut config.revision, section.take("revision")?);
    config.context_length = section.take_if("context_length", "a whole number from 1", |n: &u32| *n > 0)?;
    if let Some(n) = section.take_if("max_in_flight", "a whole number from 1", |n: &u32| *n > 0)? {
        config.max_in_flight = n as usize;
    }
    // A day is longer than any server works on one answer, and it keeps the number a valid duration.
    let seconds = |n: &f64| *n > 0.0 && *n <= 86_400.0;
    set(&mut config.timeout_seconds, section.take_if("timeout_seconds", "seconds above 0, at most 86400", seconds)?);
    set(&mut config.max_retries, section.take("max_retries")?);
    let base =
        section.take_if("retry_base_seconds", "seconds above 0, at most 60", |n: &f64| *n > 0.0 && *n <= 60.0)?;
    set(&mut config.retry_base_seconds, base);
    set(&mut config.response_format, section.take("response_format")?);
    config.dimensions = section.take_if("dimensions", "a whole number from 1", |n: &u32| *n > 0)?;
    if let Some(n) = section.take_if("embed_batch_size", "a whole number from 1", |n: &u32| *n > 0)? {
        config.embed_batch_size = n as usize;
    }
    let mut price = section.section("price_per_million")?;
    let mut dollars = |key| price.take_if(key, "US dollars from 0", |n: &f64| n.is_finite() && *n >= 0.0);
    config.price_per_million =
        Price { input: dollars("input")?.unwrap_or_default(), output: dollars("output")?.unwrap_or_default() };
    price.finish()?;
    match provider {
        Provider::Embedded => {
            config.weights = section.take::<String>("weights")?.map(|path| root.join(path));
        }
        Provider::OpenAi => server(root, &mut section, &mut config)?,
    }
    section.finish()?;
    Ok(config)
}

/// The keys that only a server has.
fn server(root: &Path, section: &mut Section, config: &mut ModelConfig) -> Result<(), ConfigError> {
    if config.model.is_empty() {
        return Err(section.error("needs a 'model', the name that is sent to the server"));
    }
    let mut urls: Vec<String> = section.take("base_urls")?.unwrap_or_default();
    urls.extend(section.take::<String>("base_url")?);
    if urls.is_empty() {
        return Err(section.error("needs 'base_urls', e.g. [\"http://127.0.0.1:8000/v1\"]"));
    }
    for url in urls {
        let parsed = Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        // The address itself is not shown: it may hold a password.
        let parsed = parsed.ok_or_else(|| section.error("'base_urls' must be http:// or https:// addresses"))?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(section.error("'base_urls' must not hold a user or password; use api_key_env"));
        }
        config.base_urls.push(url.trim_end_matches('/').to_owned());
    }
    config.api = match section.take::<String>("api")?.as_deref() {
        None | Some("chat") => Api::Chat,
        Some("completions") => Api::Completions,
        Some(other) => return Err(section.error(format!("'api' must be \"chat\" or \"completions\", not {other:?}"))),
    };
    config.api_key_env = section.take_if("api_key_env", "the name of an environment variable", |name: &String| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })?;
    config.api_key_file = section.take::<String>("api_key_file")?.map(|path| root.join(path));
    set(&mut config.extra_body, section.take("extra_body")?);
    set(&mut config.headers, section.take("headers")?);
    let secret = ["authorization", "proxy-authorization", "api-key", "x-api-key", "cookie"];
    if let Some(name) = config.headers.keys().find(|name| secret.contains(&name.to_ascii_lowercase().as_str())) {
        return Err(section.error(format!("holds a secret in the header '{name}'; use api_key_env")));
    }
    let positive = |n: &u64| *n > 0;
    config.requests_per_minute = section.take_if("requests_per_minute", "a whole number from 1", positive)?;
    config.tokens_per_minute = section.take_if("tokens_per_minute", "a whole number from 1", positive)?;
    set(&mut config.adapt_to_latency, section.take("adapt_to_latency")?);
    set(&mut config.max_response_bytes, section.take_if("max_response_bytes", "a whole number from 1", positive)?);
    set(&mut config.max_completion_tokens, section.take("max_completion_tokens")?);
    Ok(())
}

fn run_code(root: &Path, mut section: Section) -> Result<Option<RunCode>, ConfigError> {
    let python = section.take_if("python", "the name or path of a Python", |python: &String| !python.is_empty())?;
    let seconds = |s: &f64| *s > 0.0 && *s <= 3600.0;
    let timeout = section.take_if("timeout_seconds", "seconds above 0, at most 3600", seconds)?;
    let memory = section.take_if("memory_mb", "a whole number from 16 to 1000000", |n| (16..=1_000_000).contains(n))?;
    let given = timeout.is_some() || memory.is_some();
    let Some(python) = python else {
        return if given {
            Err(section.error("needs a 'python', e.g. \"python3\""))
        } else {
            section.finish().map(|()| None)
        };
    };
    section.finish()?;
    // A name is looked for in the PATH.
    let python = if python.contains('/') { root.join(python).to_string_lossy().into_owned() } else { python };
    let mut settings = RunCode::new(python);
    set(&mut settings.timeout_seconds, timeout);
    set(&mut settings.memory_mb, memory);
    Ok(Some(settings))
}

fn budget(mut section: Section) -> Result<Budget, ConfigError> {
    let budget = Budget {
        max_cost_usd: section.take_if("max_cost_usd", "US dollars from 0", |n: &f64| *n >= 0.0)?,
        max_calls: section.take("max_calls")?,
        max_tokens: section.take("max_tokens")?,
    };
    section.finish()?;
    Ok(budget)
}

fn ledger(root: &Path, mut section: Section) -> Result<LedgerConfig, ConfigError> {
    let url = section.take::<String>("url")?.unwrap_or_else(|| ".seedmill/ledger".into());
    let location = match url.split_once("://") {
        None => absolute(root, &url),
        Some(("file", _)) => match Url::parse(&url).ok().and_then(|url| url.to_file_path().ok()) {
            Some(folder) => folder.to_string_lossy().into_owned(),
            None => return Err(section.error("'url' must be a folder")),
        },
        Some(("s3" | "s3a" | "gs" | "az" | "abfs" | "abfss", _)) => url,
        Some(_) => return Err(section.error("'url' must be a folder, or a prefix of s3://, gs:// or az://")),
    };
    section.finish()?;
    Ok(LedgerConfig { location })
}

fn tasks(root: &Path, workspace: &Path, mut section: Section) -> Result<TasksConfig, ConfigError> {
    let from: Vec<String> = section.take("from")?.unwrap_or_default();
    let only = section.take("only")?.unwrap_or_default();
    let target = match section.take::<String>("target")? {
        None => Default::default(),
        Some(target) => target.parse().map_err(|e| section.error(format!("'target': {e}")))?,
    };
    let cache: PathBuf = workspace.join(section.take::<String>("cache")?.unwrap_or_else(|| ".seedmill/seeds".into()));
    let mut datasets = BTreeMap::new();
    for (name, mut dataset) in section.section("datasets")?.sections()? {
        let config = DatasetConfig {
            files: dataset.take::<String>("files")?.map(|files| absolute(root, &files)),
            splits: dataset.take("splits")?.unwrap_or_default(),
            license: dataset.take("license")?,
        };
        dataset.finish()?;
        datasets.insert(name, config);
    }
    section.finish()?;
    let from = from.iter().map(|path| root.join(path)).collect();
    Ok(TasksConfig { from, only, datasets, roots: Vec::new(), target, sql: None, cache })
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::Target;

    fn load(text: &str) -> Result<Config, String> {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join(CONFIG_FILE), text).unwrap();
        let config = Config::load(root.path()).map_err(|e| e.to_string())?;
        assert!(config.root.is_absolute());
        Ok(config)
    }

    #[test]
    fn a_folder_without_a_file_has_the_embedded_model_and_the_usual_places() {
        let root = tempfile::tempdir().unwrap();
        let config = Config::load(root.path()).unwrap();
        assert_eq!(config.models, BTreeMap::from([("local".into(), ModelConfig::embedded())]));
        assert_eq!(Path::new(&config.ledger.location), root.path().join(".seedmill/ledger"));
        assert_eq!(config.tasks.cache, root.path().join(".seedmill/seeds"));
        assert_eq!(Path::new(&config.out), root.path().join("runs"));
        assert_eq!(config.budget, Budget::default());
    }

    #[test]
    fn programs_are_run_only_where_a_python_is_named() {
        assert_eq!(load("").unwrap().run_code, None);
        let expected = RunCode { timeout_seconds: 2.5, ..RunCode::new("python3".into()) };
        assert_eq!(load("[run_code]\npython = \"python3\"\ntimeout_seconds = 2.5").unwrap().run_code, Some(expected));
        let inside = load("[run_code]\npython = \"env/bin/python\"").unwrap().run_code.unwrap().python;
        assert!(Path::new(&inside).is_absolute() && inside.ends_with("env/bin/python"), "{inside}");
        for (text, said) in
            [("memory_mb = 512", "needs a 'python'"), ("python = \"p\"\nmemory_mb = 1", "'memory_mb' must be")]
        {
            let error = load(&format!("[run_code]\n{text}")).unwrap_err();
            assert!(error.contains("[run_code]") && error.contains(said), "{error}");
        }
    }

    #[test]
    fn every_table_becomes_typed_values_with_absolute_paths() {
        let config = load(
            r#"
            [models.writer]
            provider = "openai"
            base_urls = ["http://127.0.0.1:8000/v1/", "https://b.example/v1"]
            model = "org/model"
            revision = "r1"
            api = "completions"
            api_key_env = "WRITER_API_KEY"
            context_length = 32768
            extra_body = { chat_template_kwargs = { enable_thinking = false }, n = 1, list = [1.5, "x"] }
            headers = { "X-Team" = "a" }
            max_in_flight = 512
            requests_per_minute = 10000
            tokens_per_minute = 2000000
            adapt_to_latency = true
            max_response_bytes = 1000000
            max_completion_tokens = true
            retry_base_seconds = 0.01
            timeout_seconds = 30
            max_retries = 2
            response_format = false
            price_per_million = { input = 0.20, output = 1 }
            [models.small]
            provider = "embedded"
            weights = "w.gguf"
            [budget]
            max_cost_usd = 50
            max_calls = 10
            [ledger]
            url = "paid"
            [tasks]
            from = ["tasks", "/abs/tasks"]
            only = ["gsm8k"]
            target = "commercial"
            [tasks.datasets."openai/gsm8k"]
            files = "data/{split}.jsonl"
            splits = { validation = "dev" }
            license = "MIT"
            [tasks.datasets.other]
            files = "hf://datasets/other/{split}.parquet"
            [data]
            roots = ["data", "/mnt/sets", "s3://bucket/sets"]
            [tables.mine]
            location = "in/mine.parquet"
            [variables]
            n = 3
            share = 0.5
            name = "a"
            strict = true
            [run]
            out = "s3://bucket/runs"
            "#,
        )
        .unwrap();
        let writer = &config.models["writer"];
        assert_eq!(writer.base_urls, ["http://127.0.0.1:8000/v1", "https://b.example/v1"]);
        assert_eq!((writer.api, writer.max_in_flight, writer.max_retries), (Api::Completions, 512, 2));
        assert_eq!(writer.price_per_million, Price { input: 0.2, output: 1.0 });
        assert_eq!(
            serde_json::Value::Object(writer.extra_body.clone()),
            serde_json::json!({"chat_template_kwargs": {"enable_thinking": false}, "list": [1.5, "x"], "n": 1})
        );
        assert_eq!((writer.timeout_seconds, writer.response_format), (30.0, false));
        assert!(writer.adapt_to_latency && writer.max_completion_tokens);
        assert_eq!((writer.max_response_bytes, writer.retry_base_seconds), (1_000_000, 0.01));
        assert_eq!(config.models["small"].weights, Some(config.root.join("w.gguf")));
        assert!(config.models.contains_key("local"));
        assert_eq!(config.budget.max_cost_usd, Some(50.0));
        assert_eq!(Path::new(&config.ledger.location), config.root.join("paid"));
        assert_eq!(config.tasks.from, [config.root.join("tasks"), "/abs/tasks".into()]);
        assert_eq!(config.tasks.target, Target::Commercial);
        let gsm8k = &config.tasks.datasets["openai/gsm8k"];
        assert_eq!(gsm8k.files.as_deref(), config.root.join("data/{split}.jsonl").to_str());
        assert_eq!(gsm8k.splits["validation"], "dev");
        assert_eq!(config.tasks.datasets["other"].files.as_deref(), Some("hf://datasets/other/{split}.parquet"));
        let data = config.root.join("data").to_string_lossy().into_owned();
        assert_eq!(config.tasks.roots, [data.as_str(), "/mnt/sets", "s3://bucket/sets"]);
        assert_eq!(config.tables["mine"], config.root.join("in/mine.parquet").to_string_lossy());
        assert_eq!(config.variables["n"], Variable::Integer(3));
        assert_eq!(config.variables["share"], Variable::Float(0.5));
        assert_eq!(config.variables["name"], Variable::Text("a".into()));
        assert_eq!(config.variables["strict"], Variable::Boolean(true));
        assert_eq!(config.out, "s3://bucket/runs");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_table_and_the_nearest_key() {
        let error = |text: &str| load(text).unwrap_err();
        let openai = "[models.w]\nprovider = \"openai\"\nmodel = \"m\"\nbase_url = \"http://h/v1\"\n";
        assert_eq!(
            error(&format!("{openai}max_inflight = 3")),
            "seedmill.toml: [models.w] has no key 'max_inflight'; did you mean 'max_in_flight'?"
        );
        assert_eq!(error("[budgte]"), "seedmill.toml: there is no table or key 'budgte'; did you mean 'budget'?");
        assert_eq!(
            error("[tasks.datasets.\"openai/gsm8k\"]\nlicence = \"MIT\""),
            "seedmill.toml: [tasks.datasets.\"openai/gsm8k\"] has no key 'licence'; did you mean 'license'?"
        );
        assert_eq!(
            error(&format!("{openai}price_per_million = {{ in = 1 }}")),
            "seedmill.toml: [models.w.price_per_million] has no key 'in'; it takes input, output"
        );
    }

    #[test]
    fn a_wrong_type_or_value_is_named_with_what_is_expected() {
        let error = |text: &str| load(text).unwrap_err();
        assert_eq!(
            error("[budget]\nmax_calls = -1"),
            "seedmill.toml: [budget] 'max_calls' must be a whole number, not a number below 0"
        );
        assert_eq!(
            error("[budget]\nmax_calls = \"ten\""),
            "seedmill.toml: [budget] 'max_calls' must be a whole number, not a string"
        );
        assert_eq!(
            error("[models.l]\nprovider = \"embedded\"\nmax_in_flight = 0"),
            "seedmill.toml: [models.l] 'max_in_flight' must be a whole number from 1"
        );
        assert_eq!(error("models = 3"), "seedmill.toml: 'models' must be a table, not an integer");
        assert!(error("[variables]\nday = 2024-01-01").contains("'day' must be a string, a number, true or false"));
        assert!(error("[ledger]\nurl = \"https://b/l\"").contains("a prefix of s3://"));
        assert!(error("[tasks]\ntarget = \"resale\"").contains("use 'research' or 'commercial'"));
        assert!(error("[models.w]\nmodel = \"m\"").contains("needs a 'provider'"));
        assert!(error("[tables.t]").contains("[tables.t] needs a 'location'"));
    }

    #[test]
    fn a_literal_secret_is_refused_and_never_shown() {
        let openai = "[models.w]\nprovider = \"openai\"\nmodel = \"m\"\n";
        for line in [
            "base_url = \"http://h/v1\"\napi_key = \"hush-hush\"",
            "base_url = \"http://h/v1\"\nheaders = { Authorization = \"Bearer hush-hush\" }",
            "base_url = \"http://me:hush-hush@h/v1\"",
            "api_key_env = \"hush-hush\"\nbase_url = \"http://h/v1\"",
            "api_key = hush-hush",
        ] {
            let error = load(&format!("{openai}{line}")).unwrap_err();
            assert!(error.contains("seedmill.toml") && !error.contains("hush-hush"), "{error}");
        }
    }
}
