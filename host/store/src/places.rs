//! The object stores that files lie in, opened when they are first needed.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ClientOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _, RetryConfig};
use trainshed_core::Address;
use trainshed_core::address::Scheme;

use crate::error::StoreError;

/// Where files are kept, and how long their stores may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSettings {
    /// The server's own files; a folder in the data folder when absent.
    pub own: Option<Address>,
    /// Where files of tasks go that name no other place, nor their project.
    pub default_output: Option<Address>,
    /// Where else callers may have files written and read.
    pub allowed: Allowed,
    /// Longest upload, in bytes.
    pub max_upload_bytes: u64,
    /// Longest time without a sign of life from a store.
    pub patience: Duration,
}

/// Places that callers may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// Any: who calls is who runs the server.
    Any,
    /// These, and what lies in them. The server reaches them with its own rights, so that
    /// they are open to whoever may call it.
    Only(Vec<Address>),
}

impl Default for FileSettings {
    fn default() -> Self {
        Self {
            own: None,
            default_output: None,
            allowed: Allowed::Only(Vec::new()),
            max_upload_bytes: 64 << 30,
            patience: Duration::from_secs(30),
        }
    }
}

impl FileSettings {
    /// Whether callers may have files written to or read from `address`.
    pub fn allows(&self, address: &Address) -> bool {
        let is_default = self.default_output.as_ref() == Some(address);
        match &self.allowed {
            Allowed::Any => true,
            Allowed::Only(places) => {
                is_default || places.iter().any(|place| address.lies_in(place))
            }
        }
    }
}

/// An object: the store that has it, and its name there.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) path: ObjectPath,
    /// Where it is on this machine, if it is a file of it.
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) settings: FileSettings,
    /// The folder of the server's own files, where they are on this machine.
    own_folder: PathBuf,
    own: Arc<dyn ObjectStore>,
    /// Stores by scheme, host and bucket.
    opened: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl Places {
    /// `own_folder` is used when the settings name no other place for the server's own files.
    pub(crate) fn open(own_folder: PathBuf, settings: FileSettings) -> Result<Self, StoreError> {
        let action = "open the file store";
        let own = LocalFileSystem::new_with_prefix(&own_folder)
            .map_err(StoreError::files(action))?
            .with_fsync(true);
        let places = Self {
            settings,
            own_folder,
            own: Arc::new(own),
            opened: Mutex::default(),
        };
        if let Some(own) = &places.settings.own {
            places.store_of(own)?;
        }
        Ok(places)
    }

    /// The object at a `location` of the table `file`, of a content with this digest.
    pub(crate) fn object(
        &self,
        location: Option<&str>,
        digest: &str,
    ) -> Result<Object, StoreError> {
        match location {
            Some(location) if location.contains("://") => self.at(&parsed(location)?),
            Some(name) => self.own(name),
            // Two levels, because some file systems are slow with many files in one folder.
            None => self.own(&format!("sha256/{}/{digest}", &digest[..2])),
        }
    }

    fn own(&self, name: &str) -> Result<Object, StoreError> {
        if let Some(own) = &self.settings.own {
            let address = own.join(name);
            let address =
                address.ok_or_else(|| StoreError::damaged("find a file")(name.to_owned()));
            return self.at(&address?);
        }
        Ok(Object {
            store: Arc::clone(&self.own),
            path: ObjectPath::from(name),
            file: Some(self.own_folder.join(name)),
        })
    }

    pub(crate) fn at(&self, address: &Address) -> Result<Object, StoreError> {
        let store = self.store_of(address)?;
        let (_, path) = address.bucket();
        let unnamed = StoreError::misplaced("name an object");
        Ok(Object {
            store,
            path: ObjectPath::parse(path).map_err(unnamed)?,
            file: (address.scheme() == Scheme::File)
                .then(|| PathBuf::from(format!("/{}", address.path()))),
        })
    }

    fn store_of(&self, address: &Address) -> Result<Arc<dyn ObjectStore>, StoreError> {
        let (bucket, _) = address.bucket();
        let key = format!("{:?} {} {bucket}", address.scheme(), address.authority());
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = opened.get(&key) {
            return Ok(Arc::clone(store));
        }
        let store = open(address, self.settings.patience);
        let store = store.map_err(StoreError::misplaced("open an object store"))?;
        opened.insert(key, Arc::clone(&store));
        Ok(store)
    }

    /// Ends what an object store does not end in time.
    pub(crate) async fn in_time<T>(
        &self,
        action: &'static str,
        work: impl Future<Output = object_store::Result<T>> + Send,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.settings.patience, work).await {
            Ok(done) => done.map_err(StoreError::files(action)),
            Err(_) => Err(StoreError::files(action)(stalled(self.settings.patience))),
        }
    }

    /// As [`Places::in_time`]; that there is no object is said with its address.
    pub(crate) async fn in_time_at<T>(
        &self,
        action: &'static str,
        address: &Address,
        work: impl Future<Output = object_store::Result<T>> + Send,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.settings.patience, work).await {
            Ok(Err(object_store::Error::NotFound { .. })) => {
                let text = format!("there is nothing at `{address}`");
                Err(StoreError::misplaced(action)(text))
            }
            Ok(done) => done.map_err(StoreError::files(action)),
            Err(_) => Err(StoreError::files(action)(stalled(self.settings.patience))),
        }
    }

    /// What is known of an object; `None` when there is none.
    pub(crate) async fn head(
        &self,
        action: &'static str,
        object: &Object,
    ) -> Result<Option<ObjectMeta>, StoreError> {
        if object.path.as_ref().is_empty() || object.file.as_ref().is_some_and(|f| f.is_dir()) {
            return Ok(None);
        }
        let head = object.store.head(&object.path);
        match tokio::time::timeout(self.settings.patience, head).await {
            Ok(Ok(meta)) => Ok(Some(meta)),
            Ok(Err(object_store::Error::NotFound { .. })) => Ok(None),
            Ok(Err(error)) => Err(StoreError::files(action)(error)),
            Err(_) => Err(StoreError::files(action)(stalled(self.settings.patience))),
        }
    }

    /// Removes an object and what an upload of it left behind. One that is not there is none.
    pub(crate) async fn remove(&self, object: &Object) -> Result<(), StoreError> {
        let action = "remove a file";
        if let Some(file) = &object.file {
            remove_parts(file).map_err(StoreError::io(action))?;
        }
        let removed =
            tokio::time::timeout(self.settings.patience, object.store.delete(&object.path));
        match removed.await {
            Ok(Ok(()) | Err(object_store::Error::NotFound { .. })) => Ok(()),
            Ok(Err(error)) => Err(StoreError::files(action)(error)),
            Err(_) => Err(StoreError::files(action)(stalled(self.settings.patience))),
        }
    }
}

/// What an upload to a folder that was killed has left: a file with a number behind its name.
fn remove_parts(file: &Path) -> io::Result<()> {
    let mut part = file.as_os_str().to_owned();
    part.push("#1");
    match std::fs::remove_file(PathBuf::from(part)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(crate) fn stalled(patience: Duration) -> object_store::Error {
    object_store::Error::Generic {
        store: "file store",
        source: format!("it did not answer within {} s", patience.as_secs_f64()).into(),
    }
}

pub(crate) fn parsed(location: &str) -> Result<Address, StoreError> {
    location.parse().map_err(StoreError::damaged("find a file"))
}

/// A client of the store; keys and regions come from the environment, by the names that the
/// tools of each provider use.
fn open(address: &Address, patience: Duration) -> object_store::Result<Arc<dyn ObjectStore>> {
    provide_cryptography();
    let client = ClientOptions::new()
        .with_connect_timeout(patience)
        // A long file takes long; what must not take long is each piece of it.
        .with_timeout_disabled()
        .with_read_timeout(patience);
    let retry = RetryConfig {
        max_retries: 3,
        retry_timeout: patience,
        ..RetryConfig::default()
    };
    let (bucket, _) = address.bucket();
    Ok(match address.scheme() {
        Scheme::File => Arc::new(LocalFileSystem::new().with_fsync(true)),
        Scheme::S3 => {
            let builder = AmazonS3Builder::from_env()
                .with_bucket_name(bucket)
                .with_retry(retry);
            let builder = if address.authority().contains(':') {
                let tls = address.authority().ends_with(":443");
                let scheme = if tls { "https" } else { "http" };
                builder
                    .with_endpoint(format!("{scheme}://{}", address.authority()))
                    .with_virtual_hosted_style_request(false)
                    .with_client_options(client.with_allow_http(!tls))
            } else {
                builder.with_client_options(client)
            };
            Arc::new(builder.build()?)
        }
        Scheme::Gs => Arc::new(
            GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(bucket)
                .with_client_options(client)
                .with_retry(retry)
                .build()?,
        ),
        Scheme::Azure => {
            let account = address.authority().split('.').next().unwrap_or_default();
            Arc::new(
                MicrosoftAzureBuilder::from_env()
                    .with_account(account)
                    .with_container_name(bucket)
                    .with_client_options(client)
                    .with_retry(retry)
                    .build()?,
            )
        }
        scheme @ (Scheme::Http | Scheme::Https) => {
            let plain = scheme == Scheme::Http;
            let scheme = if plain { "http" } else { "https" };
            Arc::new(
                HttpBuilder::new()
                    .with_url(format!("{scheme}://{}", address.authority()))
                    .with_client_options(client.with_allow_http(plain))
                    .with_retry(retry)
                    .build()?,
            )
        }
    })
}

/// The library of cryptography is chosen once for the process; another choice stays.
fn provide_cryptography() {
    // It fails only when there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
