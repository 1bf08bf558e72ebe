//! What a task keeps beside metrics and models, and what it reads of what others kept.

use std::cell::OnceCell;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::imports::trainshed::plugin as raw;
use crate::{ArtifactError, Dataset, Run, Tensor};

/// Bytes that [`Opened::bytes`] reads at once.
const PART: u64 = 16 << 20;

/// The artifacts of the running task; [`Run::artifacts`] gives them.
///
/// Names are 1 to 200 bytes without control characters. Putting changed content under the same
/// name makes a version of it, and the former ones are kept; with equal content nothing happens.
/// What is put is recorded, and can be read by everybody, when the call returns.
#[derive(Debug, Clone)]
pub struct Artifacts<'a> {
    run: &'a raw::run::Run,
    notes: Vec<(String, String)>,
}

/// An artifact as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Its name in the task.
    pub name: String,
    /// Counts from 1.
    pub version: u32,
    /// `json`, `yaml`, `csv.gz`, `parquet`, `npz`, `png`, `file`, `folder` or `link`.
    pub kind: String,
    /// Of its content, 64 hexadecimal digits; absent for a link.
    pub sha256: Option<String>,
    /// Of a link; or where the content is, when that is not the server's own store.
    pub uri: Option<String>,
    /// The length of its content.
    pub size_bytes: u64,
    /// E.g. `image/png`.
    pub content_type: String,
    /// The beginning of a text, the shapes of arrays.
    pub preview: String,
    /// What was given with it by [`Artifacts::with_note`].
    pub notes: Vec<(String, String)>,
}

/// The values of a column of a table.
#[derive(Debug)]
pub enum Values<'a> {
    /// Whole numbers.
    Integers(Vec<i64>),
    /// Numbers; NaN and infinities are kept.
    Numbers(Vec<f64>),
    /// Texts.
    Texts(Vec<String>),
    /// Flags.
    Flags(Vec<bool>),
    /// A tensor of rank 1, which does not pass through the plugin's memory.
    Tensor(&'a Tensor),
}

impl From<Vec<i64>> for Values<'_> {
    fn from(values: Vec<i64>) -> Self {
        Self::Integers(values)
    }
}

impl From<Vec<i32>> for Values<'_> {
    fn from(values: Vec<i32>) -> Self {
        Self::Integers(values.into_iter().map(i64::from).collect())
    }
}

impl From<Vec<u32>> for Values<'_> {
    fn from(values: Vec<u32>) -> Self {
        Self::Integers(values.into_iter().map(i64::from).collect())
    }
}

impl From<Vec<f64>> for Values<'_> {
    fn from(values: Vec<f64>) -> Self {
        Self::Numbers(values)
    }
}

impl From<Vec<f32>> for Values<'_> {
    fn from(values: Vec<f32>) -> Self {
        Self::Numbers(values.into_iter().map(f64::from).collect())
    }
}

impl From<Vec<String>> for Values<'_> {
    fn from(values: Vec<String>) -> Self {
        Self::Texts(values)
    }
}

impl From<Vec<bool>> for Values<'_> {
    fn from(values: Vec<bool>) -> Self {
        Self::Flags(values)
    }
}

impl<'a> From<&'a Tensor> for Values<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

/// How a table is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TableFormat {
    /// Comma-separated values with a header, compressed by gzip.
    #[default]
    CsvGz,
    /// Apache Parquet: every column keeps its type.
    Parquet,
}

impl Run<'_> {
    /// The artifacts of this task.
    pub fn artifacts(&self) -> Artifacts<'_> {
        Artifacts {
            run: self.raw(),
            notes: Vec::new(),
        }
    }
}

impl<'a> Artifacts<'a> {
    /// Shows a name and a text beside what is put next: at most 100 of at most 4 KiB each.
    #[must_use]
    pub fn with_note(mut self, name: &str, text: impl ToString) -> Self {
        self.notes.push((name.to_owned(), text.to_string()));
        self
    }

    /// Keeps a value as JSON, of at most 64 MiB.
    ///
    /// # Errors
    /// When the name breaks a rule, the value has no JSON, a quota is used up, the task is
    /// stopped, or the host cannot store it.
    pub fn put_json(&self, name: &str, value: &impl Serialize) -> Result<Artifact, ArtifactError> {
        let document =
            serde_json::to_string(value).map_err(|error| ArtifactError::InvalidArgument {
                name: "value".to_owned(),
                rule: format!("must become JSON: {error}"),
            })?;
        let put = raw::artifacts::put_json(self.run, name, &document, &self.notes);
        Ok(put?.into())
    }

    /// Writes a table of columns, which have as many values each.
    ///
    /// # Errors
    /// As [`Artifacts::put_json`], and when the columns do not fit each other.
    pub fn put_table<'v>(
        &self,
        name: &str,
        columns: Vec<(&str, Values<'v>)>,
        format: TableFormat,
    ) -> Result<Artifact, ArtifactError> {
        let column = |(name, values): (&str, Values<'v>)| raw::artifacts::Column {
            name: name.to_owned(),
            values: match values {
                Values::Integers(values) => raw::artifacts::Values::Integers(values),
                Values::Numbers(values) => raw::artifacts::Values::Numbers(values),
                Values::Texts(values) => raw::artifacts::Values::Texts(values),
                Values::Flags(values) => raw::artifacts::Values::Booleans(values),
                Values::Tensor(tensor) => raw::artifacts::Values::Tensor(tensor.raw()),
            },
        };
        let columns: Vec<_> = columns.into_iter().map(column).collect();
        let format = match format {
            TableFormat::CsvGz => raw::artifacts::TableFormat::CsvGz,
            TableFormat::Parquet => raw::artifacts::TableFormat::Parquet,
        };
        let put = raw::artifacts::put_table(self.run, name, &columns, format, &self.notes);
        Ok(put?.into())
    }

    /// Writes named tensors as NumPy's `npz`, without passing them through the plugin's memory.
    ///
    /// # Errors
    /// As [`Artifacts::put_json`], and when a tensor's name breaks a rule.
    pub fn put_tensors(
        &self,
        name: &str,
        tensors: &[(&str, &Tensor)],
    ) -> Result<Artifact, ArtifactError> {
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, tensor)| ((*name).to_owned(), tensor.raw()))
            .collect();
        let put = raw::artifacts::put_tensors(self.run, name, &tensors, &self.notes);
        Ok(put?.into())
    }

    /// Writes a PNG of a tensor `u8 [height, width]` or `u8 [height, width, channels]`.
    ///
    /// # Errors
    /// As [`Artifacts::put_json`], and when it is no such tensor.
    pub fn put_image(&self, name: &str, image: &Tensor) -> Result<Artifact, ArtifactError> {
        let put = raw::artifacts::put_image(self.run, name, image.raw(), &self.notes);
        Ok(put?.into())
    }

    /// Keeps bytes as a file, of the kind that the end of its name says.
    ///
    /// # Errors
    /// As [`Artifacts::put_json`].
    pub fn put_bytes(
        &self,
        name: &str,
        content: &[u8],
        content_type: Option<&str>,
    ) -> Result<Artifact, ArtifactError> {
        let put = raw::artifacts::put_bytes(self.run, name, content, content_type, &self.notes);
        Ok(put?.into())
    }

    /// Keeps the file `/scratch/<path>`, of the kind that the end of `name` says.
    ///
    /// # Errors
    /// As [`Artifacts::put_json`], and when there is no such file.
    pub fn put_file(
        &self,
        name: &str,
        path: &str,
        content_type: Option<&str>,
    ) -> Result<Artifact, ArtifactError> {
        let put = raw::artifacts::put_file(self.run, name, path, content_type, &self.notes);
        Ok(put?.into())
    }

    /// Keeps all files under `/scratch/<folder>` with their paths as one zip archive.
    ///
    /// # Errors
    /// As [`Artifacts::put_json`], and when there are none.
    pub fn put_folder(&self, name: &str, folder: &str) -> Result<Artifact, ArtifactError> {
        let put = raw::artifacts::put_folder(self.run, name, folder, &self.notes);
        Ok(put?.into())
    }

    /// Records an address; nothing is read or stored.
    ///
    /// # Errors
    /// As [`Artifacts::put_json`], and when it is no address.
    pub fn put_link(&self, name: &str, uri: &str) -> Result<Artifact, ArtifactError> {
        let put = raw::artifacts::put_link(self.run, name, uri, &self.notes);
        Ok(put?.into())
    }

    /// The artifacts that the task of this id made, by name; this task's own without an id.
    ///
    /// # Errors
    /// When there is no such task in the workspace.
    pub fn list(&self, task: Option<&str>) -> Result<Vec<Artifact>, ArtifactError> {
        let listed = raw::artifacts::listing(self.run, task)?;
        Ok(listed.into_iter().map(Into::into).collect())
    }

    /// Opens the last version of an artifact of the task of this id, or of this task. All that a
    /// run opens may have as many bytes as it may keep under `/scratch`.
    ///
    /// # Errors
    /// When there is no such task or artifact, it is too large, or it is a link.
    pub fn open(&self, task: Option<&str>, name: &str) -> Result<Opened, ArtifactError> {
        Ok(Opened {
            raw: raw::artifacts::open(self.run, task, name)?,
            dataset: OnceCell::new(),
        })
    }
}

/// The content of an artifact.
#[derive(Debug)]
pub struct Opened {
    raw: raw::artifacts::Opened,
    dataset: OnceCell<raw::dataset::Dataset>,
}

impl Opened {
    /// What is known of it.
    pub fn info(&self) -> Artifact {
        self.raw.info().into()
    }

    /// `length` bytes from the byte `offset` on, or as many as there are; at most 64 MiB.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>, ArtifactError> {
        Ok(self.raw.read(offset, length)?)
    }

    /// The whole content, which passes through the plugin's memory.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn bytes(&self) -> Result<Vec<u8>, ArtifactError> {
        let mut bytes = Vec::new();
        loop {
            let part = self.raw.read(bytes.len() as u64, PART)?;
            if part.is_empty() {
                return Ok(bytes);
            }
            bytes.extend(part);
        }
    }

    /// The content as text.
    ///
    /// # Errors
    /// When it cannot be read or is not UTF-8.
    pub fn text(&self) -> Result<String, ArtifactError> {
        let text = String::from_utf8(self.bytes()?);
        text.map_err(|_| ArtifactError::Unreadable("its content is not UTF-8".to_owned()))
    }

    /// The content read as JSON.
    ///
    /// # Errors
    /// When it cannot be read or does not fit `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ArtifactError> {
        let read = serde_json::from_slice(&self.bytes()?);
        read.map_err(|error| ArtifactError::Unreadable(error.to_string()))
    }

    /// The artifact as a data set of one file: tables, arrays and images are read as those of
    /// data sets are. Its id is 0, and no version can be made of it.
    pub fn dataset(&self) -> Dataset<'_> {
        Dataset::new(self.dataset.get_or_init(|| self.raw.dataset()))
    }

    /// Writes the content to the new file `/scratch/<path>`; of a folder, its files below the
    /// folder of that name.
    ///
    /// # Errors
    /// When there is no room for it, something is there already, or it is damaged.
    pub fn save(&self, path: &str) -> Result<(), ArtifactError> {
        Ok(self.raw.save(path)?)
    }
}

impl From<raw::artifacts::Artifact> for Artifact {
    fn from(artifact: raw::artifacts::Artifact) -> Self {
        Self {
            name: artifact.name,
            version: artifact.version,
            kind: artifact.kind,
            sha256: artifact.sha256,
            uri: artifact.uri,
            size_bytes: artifact.size_bytes,
            content_type: artifact.content_type,
            preview: artifact.preview,
            notes: artifact.notes,
        }
    }
}
