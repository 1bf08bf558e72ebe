//! Agents and what their machines do.

use trainshed_core::name::is_series_name;
use trainshed_core::resource::Reading;
use trainshed_core::view::AgentDetails;
use trainshed_core::{AgentId, Timestamp};
use trainshed_store::{StoreError, Workspace};

use crate::engine::Engine;

/// Most series of one reading.
const MAX_VALUES: usize = 1000;
/// Most readings of one answer.
const MAX_READINGS: u32 = 5000;
/// Most agents of one answer.
const MAX_AGENTS: u32 = 1000;
/// An agent that was not seen for so long is no longer listed.
const GONE_AFTER_MS: i64 = 24 * 60 * 60 * 1000;

/// Why a reading was not kept.
#[derive(Debug, thiserror::Error)]
pub enum ReadingError {
    /// There is no such agent.
    #[error("there is no agent {0}")]
    UnknownAgent(AgentId),
    /// A value breaks a rule.
    #[error("{0}")]
    Invalid(String),
    /// The store failed.
    #[error("the reading could not be recorded")]
    Store(#[source] StoreError),
}

impl Engine {
    /// Keeps what the machine of an agent does; for a week.
    ///
    /// # Errors
    /// When there is no such agent, or a name or value breaks a rule.
    pub async fn record_reading(
        &self,
        workspace: &Workspace,
        agent: &AgentId,
        reading: &Reading,
    ) -> Result<(), ReadingError> {
        if reading.values.len() > MAX_VALUES {
            return Err(ReadingError::Invalid(format!(
                "a reading has at most {MAX_VALUES} values, but this has {}",
                reading.values.len()
            )));
        }
        let wrong = reading.values.keys().find(|name| !is_series_name(name));
        if let Some(name) = wrong {
            let name: String = name.chars().take(80).collect();
            return Err(ReadingError::Invalid(format!(
                "a series has 1 to 200 bytes and no control characters, but one is `{}`",
                name.escape_debug()
            )));
        }
        let kept = self
            .store
            .insert_reading(workspace, agent, reading, self.now());
        if kept.await.map_err(ReadingError::Store)? {
            return Ok(());
        }
        Err(ReadingError::UnknownAgent(agent.clone()))
    }

    /// What the machine of an agent did from `from` on, the oldest first; at most 5000
    /// readings.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn readings(
        &self,
        workspace: &Workspace,
        agent: &AgentId,
        from: Timestamp,
    ) -> Result<Vec<Reading>, StoreError> {
        let readings = self.store.readings(workspace, agent, from, MAX_READINGS);
        readings.await
    }

    /// The agents of the last day, the last seen first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn agents(&self, workspace: &Workspace) -> Result<Vec<AgentDetails>, StoreError> {
        let since = self.now().plus_millis(-GONE_AFTER_MS);
        self.store.agents(workspace, since, MAX_AGENTS).await
    }
}
