//! Asking a component what it is, outside any task.

use std::path::Path;

use serde::{Deserialize, Serialize};
use trainshed_core::Digest;
use trainshed_core::error::with_causes;
use trainshed_core::manifest::Manifest;
use trainshed_runtime::{Runtime, RuntimeConfig};

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inspection {
    /// It is a plugin.
    Plugin(Box<Manifest>),
    /// It is none, or a wrong one; one sentence a person understands.
    Refused(String),
    /// It could not be found out; one sentence a person understands.
    Failed(String),
}

/// Compiles the component at `path`, checks what it imports and exports, and asks it for its
/// manifest in the sandbox. What was compiled stays in the cache below `cache_dir`.
pub async fn inspect(path: &Path, cache_dir: &Path) -> Inspection {
    let config = RuntimeConfig {
        cache_dir: cache_dir.join("compiled"),
        max_tasks: 1,
        max_memory_bytes: 64 << 20,
    };
    let failed = |error: &dyn std::error::Error| Inspection::Failed(with_causes(error));
    let content = match std::fs::read(path) {
        Ok(content) => content,
        Err(error) => return failed(&error),
    };
    let runtime = match Runtime::new(config) {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let plugin = match runtime.load(Digest::of(&content), path) {
        Ok(plugin) => plugin,
        Err(error) => return Inspection::Refused(with_causes(&error)),
    };
    match runtime.describe(&plugin).await {
        Ok(manifest) => Inspection::Plugin(Box::new(manifest)),
        Err(error) => Inspection::Refused(with_causes(&error)),
    }
}
