//! What happens in an experiment, as it is kept.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::schedule::Decision;
use crate::space::Config;

/// The version of the events' meaning. A log of another version is refused, not misread.
pub const VERSION: u32 = 1;

/// What an experiment is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// The version of the events' meaning: [`VERSION`].
    pub version: u32,
    /// The id of the task that the experiment belongs to; trial ids are derived from it.
    pub id: String,
    /// All chance comes from it.
    pub seed: u64,
    /// The search spaces, as submitted.
    pub hyperparameters: Vec<Value>,
    /// The settings, as submitted.
    pub tune_config: Map<String, Value>,
}

/// One entry of an experiment's log. Times are milliseconds on the caller's clock.
///
/// Some come from outside: `Created`, `TrialCreated`, `Started`, `Resumed`, `Reported`,
/// `Checkpointed`, `Ended`, `StopRequested`, `Continued`, `BestChosen`. The others follow from those before them; they are
/// written all the same, so that the log tells what was decided without the code that decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The experiment began to exist. Always the first.
    Created {
        /// What it is.
        definition: Definition,
    },
    /// A configuration was chosen.
    TrialCreated {
        /// The trial's number, from 0.
        trial: u64,
        /// Its configuration.
        config: Config,
        /// How it was chosen.
        origin: Origin,
    },
    /// An attempt at a trial was handed out.
    Started {
        /// The trial.
        trial: u64,
        /// Counts from 1.
        attempt: u64,
        /// When.
        at_ms: u64,
    },
    /// A paused trial was told to go on.
    Resumed {
        /// The trial.
        trial: u64,
        /// When.
        at_ms: u64,
    },
    /// A trial reported.
    Reported {
        /// The trial.
        trial: u64,
        /// The attempt that reported.
        attempt: u64,
        /// The training iteration, from 1. It goes on counting after a restart from a checkpoint.
        iteration: u64,
        /// What was measured.
        metrics: Map<String, Value>,
        /// How long the trial has run, all attempts together and pauses apart.
        elapsed_ms: u64,
        /// When.
        at_ms: u64,
    },
    /// What the trial is to do after that report.
    Decided {
        /// The trial.
        trial: u64,
        /// The iteration that it reported.
        iteration: u64,
        /// The decision.
        decision: Decision,
    },
    /// A trial waits in place, without a slot.
    Paused {
        /// The trial.
        trial: u64,
    },
    /// A paused trial may go on as soon as there is a slot.
    Unpaused {
        /// The trial.
        trial: u64,
    },
    /// A checkpoint of a trial was saved.
    Checkpointed {
        /// The trial.
        trial: u64,
        /// The attempt that saved it.
        attempt: u64,
        /// The iteration after which it was saved.
        iteration: u64,
        /// What names it, to the caller.
        checkpoint: String,
    },
    /// An attempt ended.
    Ended {
        /// The trial.
        trial: u64,
        /// The attempt.
        attempt: u64,
        /// How.
        how: Ending,
        /// When.
        at_ms: u64,
    },
    /// A trial that failed gets another attempt.
    Retried {
        /// The trial.
        trial: u64,
        /// How often it has failed.
        failures: u64,
    },
    /// A trial goes on from another's checkpoint, with another configuration.
    Exploited {
        /// The trial.
        trial: u64,
        /// Whose checkpoint.
        from: u64,
        /// Which checkpoint.
        checkpoint: String,
        /// The new configuration.
        config: Config,
    },
    /// A trial came to its end.
    Closed {
        /// The trial.
        trial: u64,
        /// `TERMINATED` or `ERROR`.
        status: Status,
        /// Why, unless it simply ran through.
        reason: Option<String>,
        /// When.
        at_ms: u64,
    },
    /// The user, or whoever runs the experiment, wants it to stop.
    StopRequested {
        /// Why.
        reason: String,
        /// When.
        at_ms: u64,
    },
    /// No trial will be started any more.
    Stopped {
        /// Why.
        reason: String,
    },
    /// An experiment that had come to its end goes on: what its stop ended is as if it had been
    /// interrupted instead.
    Continued {
        /// Whether trials that failed are tried again.
        failed: bool,
        /// When.
        at_ms: u64,
    },
    /// Somebody says which trial is the best.
    BestChosen {
        /// The trial; with none, the values of the metric say it again.
        trial: Option<u64>,
    },
}

impl Event {
    /// The trial that it is about.
    pub fn trial(&self) -> Option<u64> {
        match self {
            Self::Created { .. }
            | Self::StopRequested { .. }
            | Self::Stopped { .. }
            | Self::Continued { .. } => None,
            Self::BestChosen { trial } => *trial,
            Self::TrialCreated { trial, .. }
            | Self::Started { trial, .. }
            | Self::Resumed { trial, .. }
            | Self::Reported { trial, .. }
            | Self::Decided { trial, .. }
            | Self::Paused { trial }
            | Self::Unpaused { trial }
            | Self::Checkpointed { trial, .. }
            | Self::Ended { trial, .. }
            | Self::Retried { trial, .. }
            | Self::Exploited { trial, .. }
            | Self::Closed { trial, .. } => Some(*trial),
        }
    }

    /// When it happened, where it tells.
    pub(crate) fn at_ms(&self) -> Option<u64> {
        match self {
            Self::Started { at_ms, .. }
            | Self::Resumed { at_ms, .. }
            | Self::Reported { at_ms, .. }
            | Self::Ended { at_ms, .. }
            | Self::Closed { at_ms, .. }
            | Self::StopRequested { at_ms, .. }
            | Self::Continued { at_ms, .. } => Some(*at_ms),
            _ => None,
        }
    }
}

/// How a configuration was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A point to evaluate, completed from the prior.
    Point,
    /// The grid alone.
    Grid,
    /// The searcher.
    Searcher,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Ending {
    /// The plugin returned.
    Completed {
        /// What it returned.
        returned: Value,
    },
    /// It stopped because it was told to.
    Stopped,
    /// It failed.
    Failed {
        /// Why, in a sentence.
        reason: String,
    },
    /// It was lost through no fault of its own: its machine went away, or its place was needed.
    /// The trial waits again and goes on from its checkpoint.
    Interrupted,
}

/// Where a trial stands. The names are those that users know from Ray.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Waits for a slot.
    Pending,
    /// Has a slot.
    Running,
    /// Waits for the scheduler, without a slot.
    Paused,
    /// Ended.
    Terminated,
    /// Failed.
    Error,
}

impl Status {
    /// The name as the trial table has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Terminated => "TERMINATED",
            Self::Error => "ERROR",
        }
    }

    /// Whether nothing more will come of it.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Terminated | Self::Error)
    }
}
