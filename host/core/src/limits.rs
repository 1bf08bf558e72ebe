//! What one task may use.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What one task may use. An action may ask for less than the agent allows, never for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Linear memory of the plugin.
    pub memory_bytes: u64,
    /// Tensors and workspace that the host holds for the plugin.
    pub tensor_bytes: u64,
    /// Memory of an accelerator that one tensor program of the plugin may take.
    pub device_bytes: u64,
    /// Elements of all the plugin's tables together.
    pub table_elements: u64,
    /// Time from the start of the export to its return.
    pub wall_ms: u64,
    /// CPU time of the plugin's thread.
    pub cpu_ms: u64,
    /// How long a plugin that was asked to stop may go on.
    pub grace_ms: u64,
    /// Console bytes and texts.
    pub log_bytes: u64,
    /// Measurements.
    pub points: u64,
    /// Images and other samples.
    pub media_bytes: u64,
    /// Files under `/scratch`, at any moment.
    pub scratch_bytes: u64,
    /// Saved models, artifacts and data set versions, all together.
    pub output_bytes: u64,
    /// Threads of tensor programs.
    pub threads: u32,
}

const MIB: u64 = 1 << 20;
const HOUR_MS: u64 = 3_600_000;

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 1024 * MIB,
            tensor_bytes: 4096 * MIB,
            device_bytes: 1024 * 1024 * MIB,
            table_elements: 100_000,
            wall_ms: 7 * 24 * HOUR_MS,
            cpu_ms: 7 * 24 * HOUR_MS,
            grace_ms: 5_000,
            log_bytes: 64 * MIB,
            points: 100_000_000,
            media_bytes: 1024 * MIB,
            scratch_bytes: 4096 * MIB,
            output_bytes: 16_384 * MIB,
            threads: 1,
        }
    }
}

/// The limits that an action asks for; absent ones are the agent's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitRequest {
    /// See [`Limits::memory_bytes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// See [`Limits::tensor_bytes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensor_bytes: Option<u64>,
    /// See [`Limits::device_bytes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_bytes: Option<u64>,
    /// See [`Limits::wall_ms`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<u64>,
    /// See [`Limits::cpu_ms`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// See [`Limits::grace_ms`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
    /// See [`Limits::log_bytes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<u64>,
    /// See [`Limits::points`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub points: Option<u64>,
    /// See [`Limits::media_bytes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_bytes: Option<u64>,
    /// See [`Limits::scratch_bytes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scratch_bytes: Option<u64>,
    /// See [`Limits::output_bytes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// See [`Limits::threads`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
}

impl Limits {
    /// These limits, lowered to what `request` asks for.
    #[must_use]
    pub fn lowered_to(&self, request: &LimitRequest) -> Self {
        let lower =
            |allowed: u64, asked: Option<u64>| asked.map_or(allowed, |asked| asked.min(allowed));
        Self {
            memory_bytes: lower(self.memory_bytes, request.memory_bytes),
            tensor_bytes: lower(self.tensor_bytes, request.tensor_bytes),
            device_bytes: lower(self.device_bytes, request.device_bytes),
            table_elements: self.table_elements,
            wall_ms: lower(self.wall_ms, request.wall_ms),
            cpu_ms: lower(self.cpu_ms, request.cpu_ms),
            grace_ms: lower(self.grace_ms, request.grace_ms),
            log_bytes: lower(self.log_bytes, request.log_bytes),
            points: lower(self.points, request.points),
            media_bytes: lower(self.media_bytes, request.media_bytes),
            scratch_bytes: lower(self.scratch_bytes, request.scratch_bytes),
            output_bytes: lower(self.output_bytes, request.output_bytes),
            threads: request
                .threads
                .map_or(self.threads, |asked| asked.clamp(1, self.threads)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_can_lower_a_limit_but_not_raise_it() {
        let allowed = Limits {
            wall_ms: 1000,
            threads: 2,
            ..Limits::default()
        };
        let request = LimitRequest {
            wall_ms: Some(500),
            memory_bytes: Some(u64::MAX),
            threads: Some(8),
            ..LimitRequest::default()
        };
        let limits = allowed.lowered_to(&request);
        assert_eq!(limits.wall_ms, 500);
        assert_eq!(limits.memory_bytes, allowed.memory_bytes);
        assert_eq!(limits.threads, 2);
    }
}
