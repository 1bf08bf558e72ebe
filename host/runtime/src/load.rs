//! From a compiled component to a plugin that fits the contract.

use std::sync::Arc;

use trainshed_core::Digest;
use trainshed_core::limits::Limits;
use trainshed_core::manifest::{ActionSpec, Category, InvalidManifest, Manifest};
use wasmtime::Store;
use wasmtime::component::{Component, InstancePre, Linker};

use crate::bindings::exports::trainshed::plugin::{manifest, preprocess, train, tune};
use crate::outcome;
use crate::state::TaskState;
use crate::task;
use crate::watch::Watch;

/// Why a component is no plugin, or not one of this contract.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("the component cannot be read")]
    Read(#[source] std::io::Error),
    /// The file is not the one that was meant.
    #[error("the component's digest is {found}, but {expected} was expected")]
    Digest {
        /// Of the component that was meant.
        expected: Digest,
        /// Of the file.
        found: Digest,
    },
    /// The file is something else.
    #[error("the file is not WebAssembly: a plugin is a component, which begins with `\\0asm`")]
    NotWebAssembly,
    /// The file is a core module.
    #[error("the file is a core WebAssembly module, but a plugin must be a component")]
    CoreModule,
    /// The component breaks a rule of WebAssembly, or a limit of this host.
    #[error("the component is not valid: {0}")]
    Malformed(String),
    /// It imports something that the host does not have, or has with another type.
    #[error("the host does not offer what the plugin imports: {0}")]
    Import(String),
    /// It has no manifest.
    #[error("the plugin does not export `trainshed:plugin/manifest@0.1.0`")]
    NoManifest,
    /// It can do nothing.
    #[error(
        "the plugin exports no action: expected `trainshed:plugin/train@0.1.0` or `trainshed:plugin/preprocess@0.1.0`"
    )]
    NoAction,
    /// An export has another type than the contract says.
    #[error("an export of the plugin does not have the type of the contract: {0}")]
    Export(String),
    /// The plugin failed when it was asked to describe itself.
    #[error("the plugin does not describe itself: {0}")]
    Describe(String),
    /// Its manifest breaks a rule.
    #[error(transparent)]
    Manifest(#[from] InvalidManifest),
    /// Its manifest names an action that it does not export.
    #[error("the plugin's manifest names the action `{0}`, but the plugin does not export it")]
    NotExported(String),
}

/// A component that is ready to run. Clones share it.
#[derive(Clone)]
pub struct Plugin {
    parts: Arc<Parts>,
}

struct Parts {
    digest: Digest,
    instance: InstancePre<TaskState>,
    manifest: manifest::GuestIndices,
    train: Option<train::GuestIndices>,
    tune: Option<tune::GuestIndices>,
    preprocess: Option<preprocess::GuestIndices>,
}

impl Plugin {
    /// The SHA-256 of the component.
    pub fn digest(&self) -> Digest {
        self.parts.digest
    }

    /// Whether the component exports the action of this name.
    pub fn exports(&self, action: &str) -> bool {
        match action {
            "train" => self.parts.train.is_some(),
            "preprocess" => self.parts.preprocess.is_some(),
            _ => false,
        }
    }

    /// The contract that its exports name, e.g. `trainshed:plugin@0.1.0`.
    fn contract(&self) -> String {
        let component = self.parts.instance.component();
        let kind = component.component_type();
        let version = kind.exports(component.engine()).find_map(|(name, _)| {
            let version = name.strip_prefix("trainshed:plugin/manifest@")?;
            Some(format!("trainshed:plugin@{version}"))
        });
        version.unwrap_or_default()
    }

    pub(crate) fn instance(&self) -> &InstancePre<TaskState> {
        &self.parts.instance
    }

    pub(crate) fn train(&self) -> Option<&train::GuestIndices> {
        self.parts.train.as_ref()
    }

    pub(crate) fn tune(&self) -> Option<&tune::GuestIndices> {
        self.parts.tune.as_ref()
    }

    pub(crate) fn preprocess(&self) -> Option<&preprocess::GuestIndices> {
        self.parts.preprocess.as_ref()
    }
}

/// Tells apart what is no component at all, for which the compiler has no good words.
///
/// # Errors
/// [`LoadError::NotWebAssembly`] or [`LoadError::CoreModule`].
pub(crate) fn check_header(bytes: &[u8]) -> Result<(), LoadError> {
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => Err(LoadError::CoreModule),
        Some([0, b'a', b's', b'm', ..]) => Ok(()),
        _ => Err(LoadError::NotWebAssembly),
    }
}

/// Checks imports and the presence of exports.
///
/// # Errors
/// The first that is missing or has another type.
pub(crate) fn check(
    digest: Digest,
    component: &Component,
    linker: &Linker<TaskState>,
) -> Result<Plugin, LoadError> {
    let instance = linker
        .instantiate_pre(component)
        .map_err(|error| LoadError::Import(import_and_reason(&error)))?;
    let manifest = manifest::GuestIndices::new(&instance).map_err(|_| LoadError::NoManifest)?;
    let train = train::GuestIndices::new(&instance).ok();
    let tune = tune::GuestIndices::new(&instance).ok();
    let preprocess = preprocess::GuestIndices::new(&instance).ok();
    if train.is_none() && preprocess.is_none() {
        return Err(LoadError::NoAction);
    }
    let parts = Parts {
        digest,
        instance,
        manifest,
        train,
        tune,
        preprocess,
    };
    Ok(Plugin {
        parts: Arc::new(parts),
    })
}

/// Instantiates the plugin, checks the types of all its exports and asks it for its manifest.
///
/// # Errors
/// See [`crate::Runtime::describe`].
pub(crate) fn describe(
    plugin: &Plugin,
    limits: &Limits,
    watch: Arc<Watch>,
) -> Result<Manifest, LoadError> {
    let state = TaskState::for_describe(limits, Arc::clone(&watch)).map_err(LoadError::Describe)?;
    let (described, mut store) = task::with_guest(
        plugin,
        state,
        async |store: &mut Store<TaskState>, instance| {
            let parts = &plugin.parts;
            let guest = parts.manifest.load(&mut *store, &instance)?;
            if let Some(train) = &parts.train {
                train.load(&mut *store, &instance)?;
            }
            if let Some(tune) = &parts.tune {
                tune.load(&mut *store, &instance)?;
            }
            if let Some(preprocess) = &parts.preprocess {
                preprocess.load(&mut *store, &instance)?;
            }
            guest.call_describe(store).await
        },
    )
    .map_err(LoadError::Describe)?;
    let manifest = described.map_err(|error| {
        // An export of another type fails before any code of the plugin has run.
        if error.is::<wasmtime::Trap>() || watch.end().is_some() {
            LoadError::Describe(outcome::ended_by(&error, &watch, limits, store.data_mut()))
        } else {
            LoadError::Export(sentence(&error))
        }
    })?;
    let manifest = checked(manifest, plugin.contract())?;
    for action in &manifest.actions {
        if !plugin.exports(&action.name) {
            return Err(LoadError::NotExported(action.name.clone()));
        }
    }
    Ok(manifest)
}

/// The longest JSON text that crosses the boundary.
pub(crate) const MAX_JSON_BYTES: usize = 1 << 20;

fn checked(manifest: manifest::Manifest, contract: String) -> Result<Manifest, InvalidManifest> {
    let actions = manifest.actions.into_iter().map(|action| {
        let schema = Some(&action.schema)
            .filter(|schema| schema.len() <= MAX_JSON_BYTES)
            .and_then(|schema| serde_json::from_str(schema).ok());
        let schema = schema.ok_or_else(|| InvalidManifest {
            field: "actions",
            message: format!(
                "must give a JSON Schema of at most {MAX_JSON_BYTES} bytes for `{}`",
                outcome::shortened(&action.name, 80)
            ),
        })?;
        let outcome_summary = outcome::shortened(&action.summary, 1000);
        Ok(ActionSpec {
            name: action.name,
            summary: outcome_summary,
            schema,
        })
    });
    let manifest = Manifest {
        category: Category::parse(&manifest.category)?,
        actions: actions.collect::<Result<_, _>>()?,
        name: manifest.name,
        version: manifest.version,
        summary: manifest.summary,
        environment: manifest.environment,
        contract,
    };
    manifest.check()?;
    Ok(manifest)
}

/// The names of the import and of what it should hold, and what is wrong with it: the engine
/// quotes one name in each cause but the last.
fn import_and_reason(error: &wasmtime::Error) -> String {
    let names = error
        .chain()
        .filter_map(|cause| Some(cause.to_string().split('`').nth(1)?.to_owned()));
    let names: Vec<String> = names.take(2).collect();
    let reason = match error.root_cause().to_string() {
        missing if missing.ends_with("implementation is missing") => "there is none".to_owned(),
        reason => reason,
    };
    outcome::one_line(&format!("`{}`: {reason}", names.join("` `")))
}

/// An error of the engine and its causes, in one line.
pub(crate) fn sentence(error: &wasmtime::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    outcome::one_line(&causes.join(": "))
}
