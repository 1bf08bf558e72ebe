//! The data set version that the action names.

use crate::bindings::imports::trainshed::plugin as raw;
use crate::tensor::shape_from_host;
use crate::{DType, DatasetError, Tensor};

/// The data set version that the action names. Its files are readable under `/dataset`.
#[derive(Debug)]
pub struct Dataset<'a> {
    raw: &'a raw::dataset::Dataset,
}

/// Rows of named columns: a file, or a folder of images.
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
    /// As in the file.
    pub name: String,
    /// What its values are.
    pub kind: ColumnKind,
    /// What the file holds: `i64`, `f32`, `text`, or another name that is for people.
    pub element: String,
    /// The shape of one row's value: empty for numbers and texts. Of images it is height,
    /// width and channels, and empty when they differ.
    pub shape: Vec<usize>,
}

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// What cannot be loaded.
    Other,
}

/// What images are made into; by default nothing but what they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImageOptions {
    /// Height and width in pixels, from 1. Without it all images must have one size.
    pub size: Option<(u32, u32)>,
    /// 1 (grey), 3 (red, green, blue) or 4 (and opacity). Without it all images must have as
    /// many.
    pub channels: Option<u32>,
}

/// A column of texts as numbers.
#[derive(Debug)]
pub struct Classes {
    /// The texts that the numbers stand for, counted from 0.
    pub vocabulary: Vec<String>,
    /// `i32 [rows]`.
    pub indices: Tensor,
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

    /// Its tables, ordered by path. The first call reads text files whole, and the headers of
    /// the others.
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

    /// The names of its columns of numbers, in the file's order.
    pub fn numeric_columns(&self) -> Vec<String> {
        let columns = self.columns.iter();
        columns
            .filter(|column| matches!(column.kind, ColumnKind::Integer | ColumnKind::Number))
            .map(|column| column.name.clone())
            .collect()
    }

    /// Reads columns of numbers into a tensor of shape `[rows, columns]`, without passing
    /// them through the plugin's memory.
    ///
    /// A value that `dtype` cannot hold exactly (a fraction for an integer type, a number
    /// out of range) is an error; floating-point types round to nearest. Where a file has no
    /// value, they hold NaN, and integer types are an error.
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

    /// Reads one column of numbers or arrays into a tensor of shape `[rows, …shape]`, by the
    /// rules of [`Table::load`].
    ///
    /// # Errors
    /// As [`Table::load`].
    pub fn load_array(&self, column: &str, dtype: DType) -> Result<Tensor, DatasetError> {
        let tensor = self.raw.load_array(&self.path, column, dtype.name());
        let tensor = tensor.map_err(|error| known(error, &self.columns))?;
        Ok(Tensor::from_raw(tensor))
    }

    /// Decodes one column of images into a tensor `u8 [rows, height, width, channels]`.
    /// [`crate::augment::image_input`] makes of a batch what convolutions take.
    ///
    /// Images that differ from what `options` say are resized bilinearly and converted.
    ///
    /// # Errors
    /// Names two images that differ where `options` do not say what they are to become, or
    /// the one that cannot be read.
    pub fn load_images(&self, column: &str, options: ImageOptions) -> Result<Tensor, DatasetError> {
        let options = raw::dataset::ImageOptions {
            size: options.size,
            channels: options.channels,
        };
        let tensor = self.raw.load_images(&self.path, column, options);
        let tensor = tensor.map_err(|error| known(error, &self.columns))?;
        Ok(Tensor::from_raw(tensor))
    }

    /// Reads one column as classes: the place of each row's text in the sorted list of all
    /// texts of the column. Numbers count as their decimal texts.
    ///
    /// # Errors
    /// When the column is missing, or has no texts, or more than 100,000 different ones.
    pub fn load_classes(&self, column: &str) -> Result<Classes, DatasetError> {
        self.classes(column, None)
    }

    /// Reads one column as classes of a vocabulary that is known, from the training part of
    /// the data or from a checkpoint.
    ///
    /// # Errors
    /// When the column is missing, or has a text that the vocabulary lacks.
    pub fn load_classes_of(
        &self,
        column: &str,
        vocabulary: &[String],
    ) -> Result<Tensor, DatasetError> {
        Ok(self.classes(column, Some(vocabulary))?.indices)
    }

    fn classes(
        &self,
        column: &str,
        vocabulary: Option<&[String]>,
    ) -> Result<Classes, DatasetError> {
        let classes = self.raw.load_classes(&self.path, column, vocabulary);
        let classes = classes.map_err(|error| known(error, &self.columns))?;
        Ok(Classes {
            vocabulary: classes.vocabulary,
            indices: Tensor::from_raw(classes.indices),
        })
    }

    /// The texts of one column from the row `first` on, counted from 0: `count` of them, or as
    /// many as there are. Text files are read from their beginning each time.
    ///
    /// # Errors
    /// When the column is missing or has no texts, or they have more than 64 MiB.
    pub fn texts(
        &self,
        column: &str,
        first: usize,
        count: usize,
    ) -> Result<Vec<String>, DatasetError> {
        let texts = self
            .raw
            .texts(&self.path, column, first as u64, count as u64);
        texts.map_err(|error| known(error, &self.columns))
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
            raw::dataset::ColumnKind::Array => ColumnKind::Array,
            raw::dataset::ColumnKind::Image => ColumnKind::Image,
            raw::dataset::ColumnKind::Other => ColumnKind::Other,
        };
        Self {
            name: column.name,
            kind,
            element: column.element,
            shape: shape_from_host(&column.shape),
        }
    }
}
