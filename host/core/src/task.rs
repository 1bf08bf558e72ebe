//! Tasks: their states, types and what ends them.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// The state of a task, with the names of the ClearML protocol.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Draft: can be edited.
    Created,
    /// Waits in a queue.
    Queued,
    /// An agent runs it.
    InProgress,
    /// Ended well.
    Completed,
    /// Ended with an error.
    Failed,
    /// Ended because somebody or something stopped it.
    Stopped,
    /// Ended, and nothing of it may change any more.
    Published,
}

impl TaskState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Created,
        Self::Queued,
        Self::InProgress,
        Self::Completed,
        Self::Failed,
        Self::Stopped,
        Self::Published,
    ];

    /// The name it has in JSON and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Published => "published",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether a task in this state may be moved to `next`. Staying is always allowed.
    pub fn may_become(self, next: Self) -> bool {
        use TaskState::{Completed, Created, Failed, InProgress, Published, Queued, Stopped};
        self == next
            || matches!(
                (self, next),
                (Created, Queued | InProgress)
                    | (Queued, Created | InProgress | Stopped)
                    | (InProgress, Created | Completed | Failed | Stopped)
                    | (Completed, Created | InProgress | Published)
                    | (Failed, Created | Queued | Stopped | Published)
                    | (
                        Stopped,
                        Created | Queued | InProgress | Completed | Failed | Published
                    )
            )
    }

    /// Whether the task has ended: it neither waits nor runs.
    pub fn has_ended(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Stopped | Self::Published
        )
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What moves a task from one state to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Into a queue.
    Enqueue,
    /// Out of its queue.
    Dequeue,
    /// Its run begins.
    Start,
    /// Its run ends because somebody wants it to.
    Stop,
    /// Its run ends well.
    Complete,
    /// Its run ends with an error.
    Fail,
    /// It becomes read-only.
    Publish,
    /// Back to a draft, without what its run left.
    Reset,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 8] = [
        Self::Enqueue,
        Self::Dequeue,
        Self::Start,
        Self::Stop,
        Self::Complete,
        Self::Fail,
        Self::Publish,
        Self::Reset,
    ];

    /// The name it has in paths and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Dequeue => "dequeue",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Complete => "complete",
            Self::Fail => "fail",
            Self::Publish => "publish",
            Self::Reset => "reset",
        }
    }

    /// The state it leads to.
    pub fn target(self) -> TaskState {
        match self {
            Self::Enqueue => TaskState::Queued,
            Self::Dequeue | Self::Reset => TaskState::Created,
            Self::Start => TaskState::InProgress,
            Self::Stop => TaskState::Stopped,
            Self::Complete => TaskState::Completed,
            Self::Fail => TaskState::Failed,
            Self::Publish => TaskState::Published,
        }
    }

    /// Whether a task in state `from` may be moved. `force` lifts the rules, but not those of
    /// published tasks, and what waits in no queue cannot leave one.
    pub fn is_allowed(self, from: TaskState, force: bool) -> bool {
        match (self, from) {
            (Self::Dequeue, _) => from == TaskState::Queued,
            (_, TaskState::Published) => self == Self::Publish,
            _ => force || from.may_become(self.target()),
        }
    }
}

/// What kind of work a task is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "the names are those of the ClearML protocol and say it all"
)]
pub enum TaskType {
    #[default]
    Training,
    Testing,
    Inference,
    Controller,
    Optimizer,
    Monitor,
    Service,
    Application,
    DataProcessing,
    Qc,
    Custom,
    Agent,
}

impl TaskType {
    /// Every type.
    pub const ALL: [Self; 12] = [
        Self::Training,
        Self::Testing,
        Self::Inference,
        Self::Controller,
        Self::Optimizer,
        Self::Monitor,
        Self::Service,
        Self::Application,
        Self::DataProcessing,
        Self::Qc,
        Self::Custom,
        Self::Agent,
    ];

    /// The name it has in JSON and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Testing => "testing",
            Self::Inference => "inference",
            Self::Controller => "controller",
            Self::Optimizer => "optimizer",
            Self::Monitor => "monitor",
            Self::Service => "service",
            Self::Application => "application",
            Self::DataProcessing => "data_processing",
            Self::Qc => "qc",
            Self::Custom => "custom",
            Self::Agent => "agent",
        }
    }

    /// The type of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// How the run of a task ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Outcome {
    /// The export returned.
    Completed {
        /// What it returned; the host adds `model_id` or `dataset_id`.
        result: Map<String, Value>,
    },
    /// The export returned an error, trapped or ran out of a limit.
    Failed {
        /// One sentence a person understands.
        reason: String,
    },
    /// The task was asked to stop, or its agent was.
    Stopped {
        /// One sentence a person understands.
        reason: String,
    },
}

impl Outcome {
    /// The state that the task takes.
    pub fn state(&self) -> TaskState {
        match self {
            Self::Completed { .. } => TaskState::Completed,
            Self::Failed { .. } => TaskState::Failed,
            Self::Stopped { .. } => TaskState::Stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn the_transition_matrix() {
        let mut table = String::new();
        for from in TaskState::ALL {
            let next: Vec<&str> = TaskState::ALL
                .into_iter()
                .filter(|to| *to != from && from.may_become(*to))
                .map(TaskState::as_str)
                .collect();
            table += &format!("{from}: {}\n", next.join(" "));
        }
        expect![[r#"
            created: queued in_progress
            queued: created in_progress stopped
            in_progress: created completed failed stopped
            completed: created in_progress published
            failed: created queued stopped published
            stopped: created queued in_progress completed failed published
            published: 
        "#]]
        .assert_eq(&table);
    }

    #[test]
    fn every_state_and_type_has_one_name_everywhere() {
        for state in TaskState::ALL {
            assert_eq!(TaskState::parse(state.as_str()), Some(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        for kind in TaskType::ALL {
            assert_eq!(TaskType::parse(kind.as_str()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
