//! What machines do while tasks run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time::Timestamp;

/// The chart of processors, memory, disks and network.
pub const MACHINE_TITLE: &str = ":monitor:machine";
/// The chart of GPUs.
pub const GPU_TITLE: &str = ":monitor:gpu";

/// Whether a chart shows the machine and not the task: its iterations are seconds.
#[must_use]
pub fn is_of_the_machine(title: &str) -> bool {
    title.starts_with(":monitor:")
}

/// What an agent runs on, as runs are recorded with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Machine {
    /// Version of trainshed.
    pub trainshed: String,
    /// The operating system and its version.
    pub os: String,
    /// What the processor calls itself.
    pub cpu: String,
    /// Extensions of the processor that results may depend on, e.g. `avx2`.
    pub cpu_features: Vec<String>,
    /// Logical processors.
    pub cores: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Each GPU's name.
    pub gpus: Vec<String>,
    /// Version of the GPUs' driver.
    pub gpu_driver: Option<String>,
}

/// What a machine did during one period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// The end of the period.
    pub at: Timestamp,
    /// Means by `title/series`, e.g. `:monitor:machine/cpu_usage`. Percent, GiB, MiB per
    /// second, degrees Celsius or watts, as the name says.
    pub values: BTreeMap<String, f64>,
}
