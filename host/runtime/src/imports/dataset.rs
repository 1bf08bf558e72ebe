//! `dataset`: the data set version that the action names, and the version a task makes of it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use trainshed_core::dataset::{FileEntry, MAX_FILES};
use trainshed_core::name::is_file_path;
use trainshed_tables::{self as tables, Reader, TableError};
use trainshed_tensor::{DType, Tensor};
use wasmtime::component::Resource;

use super::models::hash;
use crate::bindings::trainshed::plugin::dataset::{
    Classes, Column, ColumnKind, DatasetError, Host, HostDataset, ImageOptions, Table, Version,
};
use crate::job::{DatasetFiles, Refused};
use crate::limits::bytes_for_people;
use crate::outcome::shortened;
use crate::readings::Part;
use crate::state::TaskState;

/// Longest description of a version.
const MAX_DESCRIPTION_BYTES: usize = 64 << 10;
/// Deepest folder of a new version.
const MAX_DEPTH: usize = 32;

/// The data set of a run.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Dataset {
    files: DatasetFiles,
    /// Known once they were asked for.
    tables: Option<Arc<Vec<tables::Table>>>,
    /// Whether it is an opened artifact, of which no version can be made.
    is_artifact: bool,
}

impl Dataset {
    pub(crate) fn new(files: DatasetFiles) -> Self {
        Self {
            files,
            tables: None,
            is_artifact: false,
        }
    }

    /// An opened artifact as a data set.
    pub(crate) fn of_artifact(files: DatasetFiles) -> Self {
        Self {
            is_artifact: true,
            ..Self::new(files)
        }
    }
}

impl Host for TaskState {}

impl HostDataset for TaskState {
    fn id(&mut self, dataset: Resource<Dataset>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&dataset)?.files.id)
    }

    fn name(&mut self, dataset: Resource<Dataset>) -> wasmtime::Result<String> {
        Ok(self.table.get(&dataset)?.files.name.clone())
    }

    fn version(&mut self, dataset: Resource<Dataset>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&dataset)?.files.version)
    }

    fn digest(&mut self, dataset: Resource<Dataset>) -> wasmtime::Result<String> {
        Ok(self.table.get(&dataset)?.files.digest.to_string())
    }

    fn tables(
        &mut self,
        dataset: Resource<Dataset>,
    ) -> wasmtime::Result<Result<Vec<Table>, DatasetError>> {
        let surveyed = self.surveyed(&dataset)?;
        Ok(surveyed.map(|tables| tables.iter().map(Table::from).collect()))
    }

    fn load(
        &mut self,
        dataset: Resource<Dataset>,
        table: String,
        columns: Vec<String>,
        dtype: String,
    ) -> wasmtime::Result<Result<Resource<Tensor>, DatasetError>> {
        let Some(dtype) = DType::parse(&dtype) else {
            return Ok(Err(DatasetError::UnknownDtype(shortened(&dtype, 80))));
        };
        self.loaded(&dataset, &table, Part::Columns(columns, dtype))
    }

    fn load_array(
        &mut self,
        dataset: Resource<Dataset>,
        table: String,
        column: String,
        dtype: String,
    ) -> wasmtime::Result<Result<Resource<Tensor>, DatasetError>> {
        let Some(dtype) = DType::parse(&dtype) else {
            return Ok(Err(DatasetError::UnknownDtype(shortened(&dtype, 80))));
        };
        self.loaded(&dataset, &table, Part::Array(column, dtype))
    }

    fn load_images(
        &mut self,
        dataset: Resource<Dataset>,
        table: String,
        column: String,
        options: ImageOptions,
    ) -> wasmtime::Result<Result<Resource<Tensor>, DatasetError>> {
        let options = tables::ImageOptions {
            size: options.size,
            channels: options.channels,
        };
        self.loaded(&dataset, &table, Part::Images(column, options))
    }

    fn load_classes(
        &mut self,
        dataset: Resource<Dataset>,
        table: String,
        column: String,
        vocabulary: Option<Vec<String>>,
    ) -> wasmtime::Result<Result<Classes, DatasetError>> {
        let classes = self.read(&dataset, &table, |reader, table| {
            reader.load_classes(table, &column, vocabulary)
        })?;
        Ok(match classes {
            Ok(classes) => Ok(Classes {
                vocabulary: classes.vocabulary,
                indices: self.table.push(classes.indices)?,
            }),
            Err(error) => Err(error),
        })
    }

    fn texts(
        &mut self,
        dataset: Resource<Dataset>,
        table: String,
        column: String,
        first: u64,
        count: u64,
    ) -> wasmtime::Result<Result<Vec<String>, DatasetError>> {
        self.read(&dataset, &table, |reader, table| {
            reader.texts(table, &column, first, count)
        })
    }

    async fn commit_version(
        &mut self,
        dataset: Resource<Dataset>,
        folder: String,
        description: String,
    ) -> wasmtime::Result<Result<Version, DatasetError>> {
        if self.table.get(&dataset)?.is_artifact {
            return Ok(Err(not_written("it is an artifact, and no data set")));
        }
        Ok(self.commit(&folder, description).await)
    }

    fn drop(&mut self, dataset: Resource<Dataset>) -> wasmtime::Result<()> {
        self.table.delete(dataset)?;
        Ok(())
    }
}

impl TaskState {
    /// The tables, which are read once.
    fn surveyed(
        &mut self,
        dataset: &Resource<Dataset>,
    ) -> wasmtime::Result<Result<Arc<Vec<tables::Table>>, DatasetError>> {
        let stop = self.watch.interrupt_flag();
        let is_kept = self.keeps_readings(dataset)?;
        let dataset = self.table.get_mut(dataset)?;
        if let Some(tables) = &dataset.tables {
            return Ok(Ok(Arc::clone(tables)));
        }
        let reader = Reader {
            folder: &dataset.files.dir,
            budget: self.tensors.budget(),
            stop: &stop,
        };
        let digest = dataset.files.digest;
        let tables = match is_kept {
            true => self.shared.readings.tables(digest, || reader.survey()),
            false => reader.survey().map(Arc::new),
        };
        Ok(match tables {
            Ok(tables) => Ok(Arc::clone(dataset.tables.insert(tables))),
            Err(error) => Err(error.into()),
        })
    }

    /// Whether others are likely to read of a data set what is read of it now: the other trials
    /// of the search.
    fn keeps_readings(&self, dataset: &Resource<Dataset>) -> wasmtime::Result<bool> {
        Ok(self.facts.trial.is_some() && !self.table.get(dataset)?.is_artifact)
    }

    /// Reads from the table at `path`.
    fn read<T>(
        &mut self,
        dataset: &Resource<Dataset>,
        path: &str,
        read: impl FnOnce(&Reader, &tables::Table) -> Result<T, TableError>,
    ) -> wasmtime::Result<Result<T, DatasetError>> {
        let tables = match self.surveyed(dataset)? {
            Ok(tables) => tables,
            Err(error) => return Ok(Err(error)),
        };
        let Some(table) = tables.iter().find(|known| known.path == path) else {
            // What lists tables must not be larger than what a person reads.
            let paths = tables.iter().take(100).map(|table| table.path.clone());
            let unknown = (shortened(path, 200), paths.collect());
            return Ok(Err(DatasetError::UnknownTable(unknown)));
        };
        let stop = self.watch.interrupt_flag();
        let reader = Reader {
            folder: &self.table.get(dataset)?.files.dir,
            budget: self.tensors.budget(),
            stop: &stop,
        };
        Ok(read(&reader, table).map_err(Into::into))
    }

    /// A handle to a tensor that is read from the table at `path`.
    fn loaded(
        &mut self,
        dataset: &Resource<Dataset>,
        path: &str,
        part: Part,
    ) -> wasmtime::Result<Result<Resource<Tensor>, DatasetError>> {
        let place = (self.table.get(dataset)?.files.digest, path);
        let shared = Arc::clone(&self.shared);
        let kept = self.keeps_readings(dataset)?.then_some(&shared.readings);
        let read = |reader: &Reader, table: &tables::Table| {
            let read = |part: &Part| match part {
                Part::Columns(columns, dtype) => reader.load(table, columns, *dtype),
                Part::Array(column, dtype) => reader.load_array(table, column, *dtype),
                Part::Images(column, options) => reader.load_images(table, column, *options),
            };
            match kept {
                Some(readings) => readings.tensor(place, part, reader.budget, read),
                None => read(&part),
            }
        };
        Ok(match self.read(dataset, path, read)? {
            Ok(tensor) => Ok(self.table.push(tensor)?),
            Err(error) => Err(error),
        })
    }

    async fn commit(&mut self, folder: &str, description: String) -> Result<Version, DatasetError> {
        if self.committed {
            return Err(not_written("a task makes at most one version"));
        }
        if description.len() > MAX_DESCRIPTION_BYTES {
            return Err(not_written("the description has more than 64 KiB"));
        }
        let files = self.collect(folder)?;
        let size: u64 = files.iter().map(|(_, entry)| entry.size_bytes).sum();
        if !self.output.take(size) {
            return Err(not_written(&format!(
                "the version has {}, but the task may write {} more",
                bytes_for_people(size),
                bytes_for_people(self.output.left())
            )));
        }
        for (path, entry) in &files {
            let uploaded = self.services.upload(path, entry.sha256, entry.size_bytes);
            uploaded.await.map_err(refusal)?;
        }
        let entries = files.into_iter().map(|(_, entry)| entry).collect();
        let committed = self.services.commit_version(entries, description).await;
        let committed = committed.map_err(refusal)?;
        self.committed = true;
        Ok(Version {
            id: committed.id,
            number: committed.number,
            digest: committed.digest.to_string(),
        })
    }

    /// The files under `/scratch/<folder>`, ordered by path, with where they lie on the host.
    fn collect(&self, folder: &str) -> Result<Vec<(PathBuf, FileEntry)>, DatasetError> {
        let paths = self.scratch_files(folder);
        let paths = paths.map_err(|message| not_written(&message))?;
        let base = self.scratch.folder().join(folder);
        let entry = |path: String| {
            let place = base.join(&path);
            let (sha256, size_bytes) = hash(&place)?;
            let entry = FileEntry {
                path,
                sha256,
                size_bytes,
            };
            Ok((place, entry))
        };
        let entries = paths.into_iter().map(entry).collect::<io::Result<Vec<_>>>();
        entries.map_err(|error| not_written(&format!("`/scratch/{folder}`: {error}")))
    }

    /// The paths of the files under `/scratch/<folder>`, in order.
    ///
    /// # Errors
    /// One sentence, when there are none or one of them cannot be a file of a data set.
    pub(crate) fn scratch_files(&self, folder: &str) -> Result<Vec<String>, String> {
        if !is_file_path(folder) {
            let folder = shortened(folder, 200);
            return Err(format!("`{folder}` is not a folder under /scratch"));
        }
        let found = Dir::open_ambient_dir(self.scratch.folder(), ambient_authority())
            .and_then(|scratch| scratch.open_dir(folder))
            .and_then(|opened| {
                let mut paths = Vec::new();
                find(&opened, "", 0, &mut paths)?;
                Ok(paths)
            });
        let mut paths = found.map_err(|error| format!("`/scratch/{folder}`: {error}"))?;
        if paths.is_empty() {
            return Err(format!("`/scratch/{folder}` has no files"));
        }
        paths.sort();
        Ok(paths)
    }
}

fn find(folder: &Dir, prefix: &str, depth: usize, paths: &mut Vec<String>) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other(format!("`{prefix}` is too deep")));
    }
    for entry in folder.entries()? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let path = entry
            .file_name()
            .into_string()
            .map(|name| format!("{prefix}{name}"));
        let path = path.map_err(|_| io::Error::other("a file's name is not UTF-8"))?;
        if kind.is_dir() {
            find(&entry.open_dir()?, &format!("{path}/"), depth + 1, paths)?;
        } else if kind.is_file() && is_file_path(&path) && paths.len() < MAX_FILES {
            paths.push(path);
        } else {
            let message = format!("`{path}` cannot be a file of a data set");
            return Err(io::Error::other(message));
        }
    }
    Ok(())
}

fn not_written(message: &str) -> DatasetError {
    DatasetError::NotWritten(message.to_owned())
}

fn refusal(refused: Refused) -> DatasetError {
    match refused {
        Refused::Stopped => not_written("the task was stopped"),
        Refused::Failed(reason) => DatasetError::NotWritten(reason),
    }
}

impl From<&tables::Table> for Table {
    fn from(table: &tables::Table) -> Self {
        let columns = table.columns.iter().map(|column| Column {
            name: column.name.clone(),
            kind: match column.kind {
                tables::ColumnKind::Integer => ColumnKind::Integer,
                tables::ColumnKind::Number => ColumnKind::Number,
                tables::ColumnKind::Text => ColumnKind::Text,
                tables::ColumnKind::Array => ColumnKind::Array,
                tables::ColumnKind::Image => ColumnKind::Image,
                tables::ColumnKind::Other => ColumnKind::Other,
            },
            element: column.element.clone(),
            shape: column.shape.clone(),
        });
        Self {
            path: table.path.clone(),
            rows: table.rows,
            columns: columns.collect(),
        }
    }
}

impl From<TableError> for DatasetError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::UnknownColumn(name) => Self::UnknownColumn(name),
            TableError::Unreadable(message) => Self::Unreadable(message),
            TableError::OutOfMemory { needed, allowed } => Self::OutOfMemory((needed, allowed)),
        }
    }
}
