//! Data sets and their tables.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::dataset::FileEntry;
use crate::digest::Digest;
use crate::id::TaskId;
use crate::report::Real;
use crate::time::Timestamp;

/// A version of a data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DatasetView {
    /// The integer by which actions name this version.
    pub id: u64,
    /// Of the data set: 32 hexadecimal digits, the same for all its versions.
    pub uuid: String,
    /// Of the data set.
    pub name: String,
    /// Counts from 1.
    pub number: u32,
    /// The version it was made from.
    pub parent: Option<u64>,
    /// The task that made it.
    pub task: Option<TaskId>,
    /// Over the paths and contents of its files.
    pub digest: Digest,
    /// What its maker says of it.
    pub description: String,
    /// Files in it.
    pub file_count: u64,
    /// Bytes of all its files.
    pub size_bytes: u64,
    /// For filters; ordered.
    pub tags: Vec<String>,
    /// `archived`, for one that is hidden.
    pub system_tags: Vec<String>,
    /// When it was published; read-only since.
    pub published: Option<Timestamp>,
    /// When it was made.
    pub created: Timestamp,
    /// When anything of it last changed.
    pub last_update: Timestamp,
    /// What its tables are, as whoever imported it found; left out of lists, and absent where
    /// nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<Vec<TableView>>,
    /// Its files; left out of lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<FileEntry>>,
}

/// A table of a data set version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TableView {
    /// The path of its file or folder in the data set.
    pub path: String,
    /// How many rows it has.
    pub rows: u64,
    /// Its columns, in the order of the file.
    pub columns: Vec<ColumnView>,
    /// The first rows, as texts, of the columns that can be shown.
    pub preview: Vec<Vec<String>>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ColumnView {
    /// Unique in its table.
    pub name: String,
    /// `integer`, `number`, `text`, `array`, `image` or `other`.
    pub kind: String,
    /// What the file holds, e.g. `i16`.
    pub element: String,
    /// The shape of one row's value; empty for numbers and texts.
    pub shape: Vec<u64>,
    /// Of numbers, and of texts that are few.
    #[serde(default)]
    pub statistics: Option<Statistics>,
}

/// What the values of a column are like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Statistics {
    /// Values that are there and not NaN.
    pub count: u64,
    /// Values that are missing or NaN.
    pub missing: u64,
    /// The least number.
    #[serde(default)]
    pub min: Option<Real>,
    /// The greatest number.
    #[serde(default)]
    pub max: Option<Real>,
    /// The mean of the numbers.
    #[serde(default)]
    pub mean: Option<Real>,
    /// The standard deviation of the numbers.
    #[serde(default)]
    pub deviation: Option<Real>,
    /// How many different texts there are.
    #[serde(default)]
    pub distinct: Option<u64>,
}

/// What of a data set version is to be changed; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetEdit {
    /// What is said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// For filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
}

/// A data set version to be made of files that were uploaded before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDataset {
    /// A data set of this name gets a new version; otherwise it is made.
    pub name: String,
    /// What its maker says of it.
    #[serde(default)]
    pub description: String,
    /// The version it was made from.
    #[serde(default)]
    pub parent: Option<u64>,
    /// At least one.
    pub files: Vec<FileEntry>,
    /// For filters.
    #[serde(default)]
    pub tags: Vec<String>,
    /// What its tables are, where whoever makes it has looked.
    #[serde(default)]
    pub tables: Option<Vec<TableView>>,
}
