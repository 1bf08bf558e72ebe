//! The tables of a data set: what its files hold, as named columns that become tensors.
//!
//! | files | become |
//! |---|---|
//! | `.csv`, `.csv.gz` | a table each |
//! | `.jsonl`, `.ndjson` | a table each: an object per line |
//! | `.parquet` | a table each |
//! | `.npy` | a table of one column each |
//! | `.npz`, `.safetensors` | a table of the arrays of one length, and one per array of another |
//! | `.png`, `.jpg`, `.jpeg` | a table of all images whose folders lie in one folder |
//!
//! `docs/datasets.md` has the rules. The files come from users and from other plugins: sizes
//! that a file claims are checked against limits, and charged to the task's account, before
//! memory is taken; every error names the file and, where there is one, row and column; the
//! stop flag ends every loop. Nothing here knows of plugins or of the network.
//!
//! The other way round, [`write`] makes such files of columns and tensors, and [`mod@archive`]
//! packs folders.
//!
//! Start reading at [`Reader`]. A format is a module with a `survey`, which finds the columns,
//! and an `each`, which hands their values to a closure; to add one, add its endings and
//! its case to [`mod@survey`] and to `Source`.
#![warn(missing_docs)]

pub mod archive;
mod arrays;
mod comma;
mod error;
#[cfg(test)]
mod hostile_tests;
mod images;
mod json_lines;
mod load;
mod npy;
mod npz;
mod parquet;
pub mod safetensors;
mod survey;
#[cfg(test)]
mod testing;
mod value;
pub mod write;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use trainshed_tensor::{Budget, Reservation};

pub use error::TableError;
pub use images::ImageOptions;
pub use load::Classes;

use error::unreadable;

/// Most columns of a table.
const MAX_COLUMNS: usize = 100_000;
/// Most bytes of the names of a table's columns.
const MAX_NAME_BYTES: usize = 16 << 20;
/// Longest record of a text file, header included.
const MAX_RECORD_BYTES: usize = 16 << 20;
/// How many rows are read between two looks at the stop flag.
const ROWS_PER_CHECK: u64 = 1024;

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ColumnKind {
    /// Whole numbers that fit 64 bits; flags count as 0 and 1.
    Integer,
    /// Numbers.
    Number,
    /// Texts.
    Text,
    /// Arrays of numbers, all of one shape.
    Array,
    /// Images.
    Image,
    /// What cannot be loaded; the element says what it is.
    Other,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Unique in its table.
    pub name: String,
    /// What its values are.
    pub kind: ColumnKind,
    /// What the file holds, e.g. `i16`; for people, and to choose an element type by.
    pub element: String,
    /// The shape of one row's value: empty for numbers and texts, and for images that differ
    /// in size or channels.
    pub shape: Vec<u64>,
}

/// Rows of named columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The path of its file or folder in the data set; of an array that does not fit the
    /// others of its file, followed by its name.
    pub path: String,
    /// How many rows it has.
    pub rows: u64,
    /// In the order of the file.
    pub columns: Vec<Column>,
    source: Source,
}

/// Where a table's values come from.
#[derive(Debug, Clone, PartialEq)]
enum Source {
    Comma,
    JsonLines,
    Parquet,
    /// Where each column's array is in this file.
    Arrays(PathBuf, Vec<arrays::Array>),
    /// The images' paths below the table's folder, in order.
    Images(PathBuf, Vec<images::Entry>),
}

/// Reads the files of one data set version for one task.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    /// The folder that holds the files. Nothing changes them.
    pub folder: &'a Path,
    /// The account that everything decoded is charged to.
    pub budget: &'a Budget,
    /// Reading ends with an error when it becomes true.
    pub stop: &'a AtomicBool,
}

impl Reader<'_> {
    fn path(&self, table: &str) -> PathBuf {
        self.folder.join(table)
    }

    /// Charges memory that a decoder needs for a while.
    fn reserve(&self, bytes: u64) -> Result<Reservation, TableError> {
        Ok(self.budget.reserve(bytes)?)
    }

    /// An error when the task was stopped.
    fn go_on(&self, path: &str) -> Result<(), TableError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(unreadable(path, "the task was stopped while it was read"));
        }
        Ok(())
    }
}

/// Takes one value: the row, counted from 0, the column's place among those asked for, and the
/// value. Answers whether it wants more.
type Sink<'s> = dyn FnMut(u64, usize, value::Cell<'_>) -> Result<bool, TableError> + 's;
