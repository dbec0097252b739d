//! Object stores by URL: `s3://`, `gs://`, `az://`, `abfss://`, `hf://`, `http(s)://` and `file://`. In: a URL. Out: the
//! store, made from the usual environment the first time that a URL names it, and its errors as sentences.

mod aws_profile;
mod file_map;
mod folder_glob;
mod held;
mod hub;
mod hub_client;
mod hub_path;
mod listing_url;
mod location;
mod named;
mod parquet_columns;
mod parquet_object;
mod place;
mod presigned;
mod s3;
mod variables;
mod wait;
mod walked;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::{Result, plan_datafusion_err, plan_err};
use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::{ClientOptions, ObjectStore};
use url::{Position, Url};

pub use file_map::FileMap;
pub use folder_glob::FolderGlob;
pub use held::HeldStores;
use hub::Hub;
pub use listing_url::listing_url;
pub use location::{ListedFile, Location};
use named::Named;
pub use named::{StoreError, explain, store_error};
pub use parquet_columns::ParquetColumns;
pub use parquet_object::ParquetObject;
pub use place::{Place, Prefix};
pub use presigned::without_queries;
use presigned::{Signatures, Web};
pub use variables::Variables;
pub use wait::wait;
pub use walked::Walked;

/// The stores of a session. DataFusion asks here for the store of each URL.
pub struct Stores {
    variables: Variables,
    /// By scheme, user (an Azure container), host and port.
    known: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
    signatures: Signatures,
}

impl Stores {
    /// Stores that read the process's environment.
    pub fn from_env() -> Arc<Stores> {
        Self::new(Variables::of_process())
    }

    pub fn new(variables: Variables) -> Arc<Stores> {
        Arc::new(Stores { variables, known: Mutex::default(), signatures: Signatures::default() })
    }

    /// A folder of this machine, or a prefix of an object store that is connected to when it is used.
    pub fn place(self: &Arc<Self>, location: &str) -> Place {
        Place::new(location, self)
    }

    /// A web address without its query, which is put back into requests for the file; `None` for one without a query.
    pub fn take_query(&self, location: &str) -> Option<String> {
        self.signatures.take(location)
    }

    /// The store of a URL.
    pub fn store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let key = key(url);
        if let Some(known) = self.lock().get(&key) {
            return Ok(Arc::clone(known));
        }
        let made = self.make(url)?;
        Ok(Arc::clone(self.lock().entry(key).or_insert(made)))
    }

    fn make(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        if url.password().is_some() || !url.username().is_empty() && !url.scheme().starts_with("abfs") {
            return plan_err!(
                "a {}:// URL must not hold a user or password; set the environment instead",
                url.scheme()
            );
        }
        let base = key(url);
        let at = |e: object_store::Error| plan_datafusion_err!("{base} cannot be opened: {}", named::plain(&e));
        let variables = &self.variables;
        let store: Arc<dyn ObjectStore> = match url.scheme() {
            "file" => return Ok(Arc::new(LocalFileSystem::new())),
            "s3" | "s3a" => Arc::new(s3::open(url, variables)?),
            "gs" | "gcs" => {
                let bucket = url.host_str().unwrap_or_default();
                let mut builder = GoogleCloudStorageBuilder::new().with_bucket_name(bucket);
                for (key, value) in variables.with_prefix("GOOGLE_") {
                    if let Ok(key) = key.to_ascii_lowercase().parse() {
                        builder = builder.with_config(key, value);
                    }
                }
                if let Some(file) = variables.get("SERVICE_ACCOUNT") {
                    builder = builder.with_service_account_path(file);
                }
                Arc::new(builder.build().map_err(at)?)
            }
            "az" | "azure" | "adl" | "abfs" | "abfss" => {
                let mut builder = MicrosoftAzureBuilder::new().with_url(url.as_str());
                for (key, value) in variables.with_prefix("AZURE_") {
                    if let Ok(key) = key.to_ascii_lowercase().parse() {
                        builder = builder.with_config(key, value);
                    }
                }
                Arc::new(builder.build().map_err(|e| match e.to_string().contains("Account must be specified") {
                    true => plan_datafusion_err!(
                        "{base} needs a storage account: set AZURE_STORAGE_ACCOUNT_NAME, or write \
                         abfss://<container>@<account>.dfs.core.windows.net/…"
                    ),
                    false => at(e),
                })?)
            }
            "hf" if url.host_str() == Some("datasets") => Arc::new(Hub::new(variables)?),
            "hf" => return plan_err!("{base} cannot be read: of the Hub there is hf://datasets/<owner>/<name>/…"),
            "http" | "https" => {
                let options = ClientOptions::new().with_allow_http(url.scheme() == "http");
                let inner = HttpBuilder::new().with_url(&base).with_client_options(options).build().map_err(at)?;
                Arc::new(Web::new(inner, base.clone(), self.signatures.clone())?)
            }
            other => {
                return plan_err!(
                    "{base} cannot be read: there is no store for {other}://; there are file, s3, gs, az, abfss, hf, \
                     http and https"
                );
            }
        };
        Ok(Arc::new(Named::new(store, base)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<dyn ObjectStore>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Stores {
    /// Names only: the variables hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores").field("known", &self.lock().keys().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

impl ObjectStoreRegistry for Stores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.lock().insert(key(url), store)
    }

    fn deregister_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        self.lock().remove(&key(url)).ok_or_else(|| plan_datafusion_err!("no store is open for {}", key(url)))
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        self.store(url)
    }
}

/// The part of a URL that names its store. In `abfss://container@account…` the user is the container.
fn key(url: &Url) -> String {
    let user = if url.scheme().starts_with("abfs") && !url.username().is_empty() {
        format!("{}@", url.username())
    } else {
        String::new()
    };
    format!("{}://{user}{}", url.scheme(), &url[Position::BeforeHost..Position::AfterPort])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(url: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let variables = Variables::of(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let store = Stores::new(variables).store(&Url::parse(url).unwrap());
        store.map(|store| store.to_string()).map_err(|e| e.strip_backtrace())
    }

    #[test]
    fn a_url_of_each_kind_opens_its_store_without_a_request() {
        let azure = [("AZURE_STORAGE_ACCOUNT_NAME", "acc"), ("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")];
        let s3 = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "hush"), ("AWS_REGION", "eu-west-1")];
        assert!(open("s3://bucket/x", &s3).unwrap().contains("bucket"));
        assert!(open("s3a://bucket/x", &s3).unwrap().contains("bucket"));
        assert!(open("gs://bucket/x", &[("GOOGLE_SKIP_SIGNATURE", "true")]).unwrap().contains("bucket"));
        assert!(open("az://box/x", &azure).unwrap().contains("box"));
        assert!(open("abfss://box@acc.dfs.core.windows.net/x", &azure[1..]).unwrap().contains("box"));
        assert!(open("hf://datasets/a/b/x", &[]).unwrap().contains("hf://datasets"));
        assert!(open("https://host:8443/x", &[]).unwrap().contains("https://host:8443"));
        assert!(open("file:///x", &[]).is_ok());
    }

    #[test]
    fn what_is_missing_or_wrong_is_said_in_a_sentence_without_secrets() {
        let error = |url, variables| open(url, variables).unwrap_err();
        assert!(error("ftp://host/x", &[]).contains("there is no store for ftp://"));
        assert!(error("az://box/x", &[]).contains("AZURE_STORAGE_ACCOUNT_NAME"));
        let none = error("s3://bucket/x", &[("AWS_EC2_METADATA_DISABLED", "true")]);
        assert!(none.contains("AWS_ACCESS_KEY_ID") && none.contains("AWS_SKIP_SIGNATURE"), "{none}");
        let user = error("https://me:hush@host/x", &[]);
        assert!(user.contains("must not hold a user") && !user.contains("hush"), "{user}");
    }

    #[test]
    fn two_containers_of_an_azure_account_are_two_stores() {
        let url = |text| key(&Url::parse(text).unwrap());
        assert_ne!(url("abfss://a@acc.dfs.core.windows.net/x"), url("abfss://b@acc.dfs.core.windows.net/x"));
        assert_eq!(url("s3://b/x"), url("s3://b/y"));
    }
}
