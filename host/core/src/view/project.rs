//! Projects.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::ProjectId;
use crate::time::Timestamp;

/// A project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProjectView {
    /// Never changes.
    pub id: ProjectId,
    /// Its path: `/` separates it from the projects it is in.
    pub name: String,
    /// For people.
    pub description: String,
    /// Ordered.
    pub tags: Vec<String>,
    /// Tags with a meaning for programs, ordered.
    pub system_tags: Vec<String>,
    /// Where files of its tasks go; absent when they go to the server.
    pub default_output: Option<String>,
    /// How much is kept of what its tasks report.
    pub retention: Retention,
    /// Tasks in it, without those of the projects below it.
    pub task_count: u64,
    /// When it was made.
    pub created: Timestamp,
    /// When it last changed.
    pub last_update: Timestamp,
}

/// A project to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewProject {
    /// Its path; the projects it is in are made, too.
    pub name: String,
    /// For people.
    pub description: String,
    /// Texts to find it by.
    pub tags: Vec<String>,
    /// Texts with a meaning for programs.
    pub system_tags: Vec<String>,
    /// Where files of its tasks go.
    pub default_output: Option<String>,
    /// How much is kept of what its tasks report.
    pub retention: Retention,
}

/// Changes of a project: what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProjectEdit {
    /// Another path: renames it, moves it, or both, with all that is below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// All tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// All system tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_tags: Option<Vec<String>>,
    /// Where files of its tasks go; an empty text is the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_output: Option<String>,
    /// How much is kept of what its tasks report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

/// Which projects to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectQuery {
    /// In the project of this path; those that are in none when absent.
    pub parent: Option<String>,
    /// At any depth instead of directly.
    pub children: bool,
    /// Those with the system tag `archived`, too.
    pub archived: bool,
    /// At most so many, 1 to 500.
    pub limit: u32,
    /// Where the last page said that the list goes on.
    pub after: Option<String>,
}

/// How much is kept of what tasks report. An absent value is that of the project above, and the
/// default where none says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Points of curves are deleted so many days after their task ended, 1 to 36,500;
    /// summaries stay. Kept for ever when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub points_days: Option<u32>,
    /// Iterations of each series of samples that are kept, 1 to 100,000; 100 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<u32>,
    /// Iterations of each series of plots that are kept, 1 to 100,000; 100 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plots: Option<u32>,
}

impl Retention {
    /// What this says, and where it says nothing, what the project above says.
    #[must_use]
    pub fn below(self, above: Self) -> Self {
        Self {
            points_days: self.points_days.or(above.points_days),
            samples: self.samples.or(above.samples),
            plots: self.plots.or(above.plots),
        }
    }

    /// Iterations of a series that are kept unless a project says otherwise, as ClearML has
    /// it (`sdk.metrics.file_history_size`).
    pub const DEFAULT_ITERATIONS: u32 = 100;

    /// Iterations of each series of samples that are kept.
    pub fn sample_iterations(&self) -> u32 {
        self.samples.unwrap_or(Self::DEFAULT_ITERATIONS).max(1)
    }

    /// Iterations of each series of plots that are kept.
    pub fn plot_iterations(&self) -> u32 {
        self.plots.unwrap_or(Self::DEFAULT_ITERATIONS).max(1)
    }
}
