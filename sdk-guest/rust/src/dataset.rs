//! The data set version that the action names.

use crate::bindings::imports::trainshed::plugin as raw;
use crate::{DType, DatasetError, Tensor};

/// The data set version that the action names. Its files are readable under `/dataset`.
#[derive(Debug)]
pub struct Dataset<'a> {
    raw: &'a raw::dataset::Dataset,
}

/// One file that holds rows of named columns.
#[derive(Debug, Clone)]
pub struct Table<'a> {
    raw: &'a raw::dataset::Dataset,
    /// Its path in the data set, e.g. `digits.csv`.
    pub path: String,
    /// How many rows it has.
    pub rows: usize,
    /// Its columns, in the file's order.
    pub columns: Vec<Column>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// As in the file's header.
    pub name: String,
    /// What its values are.
    pub kind: ColumnKind,
}

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// Whole numbers that fit 64 bits.
    Integer,
    /// Numbers.
    Number,
    /// Anything else.
    Text,
}

/// A version of a data set, as [`Dataset::commit_version`] made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The id by which actions name it.
    pub id: u64,
    /// Versions of one data set count from 1.
    pub number: u32,
    /// SHA-256 of its content, 64 hexadecimal digits.
    pub digest: String,
}

impl<'a> Dataset<'a> {
    pub(crate) fn new(raw: &'a raw::dataset::Dataset) -> Self {
        Self { raw }
    }

    /// The id by which the action named it.
    pub fn id(&self) -> u64 {
        self.raw.id()
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.raw.name()
    }

    /// Versions of one data set count from 1.
    pub fn version(&self) -> u32 {
        self.raw.version()
    }

    /// SHA-256 over the paths and contents of its files, 64 hexadecimal digits.
    pub fn digest(&self) -> String {
        self.raw.digest()
    }

    /// Its tables, ordered by path. The first call reads every one of them once.
    ///
    /// # Errors
    /// When a table cannot be read.
    pub fn tables(&self) -> Result<Vec<Table<'a>>, DatasetError> {
        let tables = self.raw.tables().map_err(|error| known(error, &[]))?;
        let tables = tables.into_iter();
        Ok(tables
            .map(|table| Table {
                raw: self.raw,
                path: table.path,
                rows: usize::try_from(table.rows).unwrap_or(usize::MAX),
                columns: table.columns.into_iter().map(Column::from).collect(),
            })
            .collect())
    }

    /// The table at `path`, or the only one when no path is given.
    ///
    /// # Errors
    /// When there is none, or several and none was named; the message lists them.
    pub fn table(&self, path: Option<&str>) -> Result<Table<'a>, DatasetError> {
        let mut tables = self.tables()?;
        let paths = |tables: &[Table]| tables.iter().map(|table| table.path.clone()).collect();
        let Some(path) = path else {
            return match tables.len() {
                1 => Ok(tables.remove(0)),
                0 => Err(DatasetError::UnknownTable {
                    path: String::new(),
                    tables: Vec::new(),
                }),
                _ => Err(DatasetError::AmbiguousTable(paths(&tables))),
            };
        };
        match tables.iter().position(|table| table.path == path) {
            Some(index) => Ok(tables.swap_remove(index)),
            None => Err(DatasetError::UnknownTable {
                path: path.to_owned(),
                tables: paths(&tables),
            }),
        }
    }

    /// Makes a version of the data set from all files under `/scratch/<folder>` and
    /// returns once it is uploaded. May be called once in a task.
    ///
    /// # Errors
    /// When the task may not write versions, or the folder is missing or empty.
    pub fn commit_version(&self, folder: &str, description: &str) -> Result<Version, DatasetError> {
        let version = self.raw.commit_version(folder, description);
        let version = version.map_err(|error| known(error, &[]))?;
        Ok(Version {
            id: version.id,
            number: version.number,
            digest: version.digest,
        })
    }
}

impl Table<'_> {
    /// The names of the columns that begin with `prefix`, in the file's order.
    ///
    /// # Errors
    /// When there is none.
    pub fn columns_with_prefix(&self, prefix: &str) -> Result<Vec<String>, DatasetError> {
        let names = self.column_names();
        let matching: Vec<String> = names
            .iter()
            .filter(|name| name.starts_with(prefix))
            .cloned()
            .collect();
        if matching.is_empty() {
            return Err(DatasetError::UnknownColumn {
                column: format!("{prefix}…"),
                columns: names,
            });
        }
        Ok(matching)
    }

    /// The names of its columns, in the file's order.
    pub fn column_names(&self) -> Vec<String> {
        let columns = self.columns.iter();
        columns.map(|column| column.name.clone()).collect()
    }

    /// Reads numeric columns into a tensor of shape `[rows, columns]`, without passing
    /// them through the plugin's memory.
    ///
    /// A value that `dtype` cannot hold exactly (a fraction for an integer type, a number
    /// out of range) is an error; `f32` rounds to nearest.
    ///
    /// # Errors
    /// Names the column that is missing, or the value that cannot be read.
    pub fn load<S: AsRef<str>>(&self, columns: &[S], dtype: DType) -> Result<Tensor, DatasetError> {
        let columns: Vec<String> = columns
            .iter()
            .map(|name| name.as_ref().to_owned())
            .collect();
        let tensor = self.raw.load(&self.path, &columns, dtype.name());
        let tensor = tensor.map_err(|error| known(error, &self.columns))?;
        Ok(Tensor::from_raw(tensor))
    }
}

/// The host's error, with the columns that there are where one is missing.
fn known(error: raw::dataset::DatasetError, columns: &[Column]) -> DatasetError {
    use raw::dataset::DatasetError as Raw;
    match error {
        Raw::UnknownTable((path, tables)) => DatasetError::UnknownTable { path, tables },
        Raw::UnknownColumn(column) => DatasetError::UnknownColumn {
            column,
            columns: columns.iter().map(|column| column.name.clone()).collect(),
        },
        Raw::Unreadable(reason) => DatasetError::Unreadable(reason),
        Raw::UnknownDtype(name) => DatasetError::UnknownDType(name),
        Raw::OutOfMemory((needed, allowed)) => DatasetError::OutOfMemory { needed, allowed },
        Raw::NotWritten(reason) => DatasetError::NotWritten(reason),
    }
}

impl From<raw::dataset::Column> for Column {
    fn from(column: raw::dataset::Column) -> Self {
        let kind = match column.kind {
            raw::dataset::ColumnKind::Integer => ColumnKind::Integer,
            raw::dataset::ColumnKind::Number => ColumnKind::Number,
            raw::dataset::ColumnKind::Text => ColumnKind::Text,
        };
        Self {
            name: column.name,
            kind,
        }
    }
}
