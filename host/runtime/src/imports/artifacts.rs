//! `artifacts`: what the task keeps beside metrics and models, and what others kept.
//!
//! The host writes the files, so that tensors do not pass through the plugin's memory and every
//! file of a type is one. A file is written whole to the task's own folder, uploaded, and only
//! then recorded.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use serde::de::IgnoredAny;
use trainshed_core::artifact::{ArtifactMode, ArtifactType, table_preview};
use trainshed_core::name::{is_file_path, is_series_name};
use trainshed_core::view::{ArtifactRequest, ArtifactView};
use trainshed_core::{Digest, TaskId};
use trainshed_tables::archive;
use trainshed_tables::write::{NewColumn, Values, csv_gz, max_parquet_rows, npz, parquet, png};
use trainshed_tensor::Tensor;
use wasmtime::component::Resource;

use super::dataset::Dataset;
use super::models::hash;
use super::run::Run;
use crate::bindings::trainshed::plugin::artifacts::{
    Artifact, ArtifactError, Column, Host, HostOpened, TableFormat, Values as RawValues,
};
use crate::job::{DatasetFiles, Refused};
use crate::outcome::{one_line, shortened};
use crate::state::TaskState;

/// Longest document, bytes and part of an artifact that pass through the plugin's memory.
const MAX_BYTES: usize = 64 << 20;
/// Most columns of a table, and most tensors of an artifact.
const MAX_ENTRIES: usize = 10_000;
/// Most names and texts beside an artifact, and most bytes of each.
const MAX_NOTES: usize = 100;
const MAX_NOTE_BYTES: usize = 4096;
/// How often a run may put an artifact.
const MAX_PUTS: u64 = 10_000;
/// How often a run may open one: each may leave a name in the run's folder.
const MAX_OPENINGS: u64 = 10_000;

type Put = wasmtime::Result<Result<Artifact, ArtifactError>>;

/// An artifact whose file lies in the run's folder.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Opened {
    view: ArtifactView,
    digest: Digest,
    folder: PathBuf,
    /// The only file of the folder.
    file: String,
}

impl Opened {
    fn open(&self) -> io::Result<File> {
        File::open(self.folder.join(&self.file))
    }
}

/// What is to be kept beside the content.
struct About {
    name: String,
    /// Of what the server does not look into.
    preview: Option<String>,
    kind: ArtifactType,
    content_type: String,
    notes: Vec<(String, String)>,
}

impl About {
    fn new(name: String, kind: ArtifactType, notes: Vec<(String, String)>) -> Self {
        let content_type = match kind {
            ArtifactType::Json => "application/json",
            ArtifactType::CsvGz => "application/gzip",
            ArtifactType::Parquet => "application/vnd.apache.parquet",
            ArtifactType::Npz | ArtifactType::Folder => "application/zip",
            ArtifactType::Png => "image/png",
            _ => "application/octet-stream",
        };
        Self {
            name,
            preview: None,
            kind,
            content_type: content_type.to_owned(),
            notes,
        }
    }

    /// Of a file, whose name says what it is.
    fn of_file(name: String, content_type: Option<String>, notes: Vec<(String, String)>) -> Self {
        let kind = ArtifactType::of_name(&name);
        let mut about = Self::new(name, kind, notes);
        if let Some(content_type) = content_type {
            about.content_type = content_type;
        }
        about
    }
}

impl Host for TaskState {
    async fn put_json(
        &mut self,
        _run: Resource<Run>,
        name: String,
        document: String,
        notes: Vec<(String, String)>,
    ) -> Put {
        let checked = check_length("document", document.len()).and_then(|()| {
            let read = serde_json::from_str::<IgnoredAny>(&document);
            read.map_err(|error| {
                invalid("document", format!("must be JSON, but it is not: {error}"))
            })
        });
        if let Err(error) = checked {
            return Ok(Err(error));
        }
        let about = About::new(name, ArtifactType::Json, notes);
        let write = |out: &mut Out| out.write_all(document.as_bytes());
        Ok(self.put(about, write).await)
    }

    async fn put_table(
        &mut self,
        _run: Resource<Run>,
        name: String,
        columns: Vec<Column>,
        format: TableFormat,
        notes: Vec<(String, String)>,
    ) -> Put {
        let mut tensors = Vec::with_capacity(columns.len());
        for column in &columns {
            tensors.push(match &column.values {
                RawValues::Tensor(tensor) => Some(self.table.get(tensor)?.clone()),
                _ => None,
            });
        }
        let pairs = columns.iter().zip(&tensors);
        let new: Vec<NewColumn<'_>> = pairs
            .map(|(column, tensor)| {
                let values = match (&column.values, tensor) {
                    (RawValues::Integers(values), _) => Values::Integers(values),
                    (RawValues::Numbers(values), _) => Values::Numbers(values),
                    (RawValues::Texts(values), _) => Values::Texts(values),
                    (RawValues::Booleans(values), _) => Values::Flags(values),
                    (RawValues::Tensor(_), Some(tensor)) => Values::Tensor(tensor),
                    (RawValues::Tensor(_), None) => Values::Flags(&[]),
                };
                NewColumn {
                    name: &column.name,
                    values,
                }
            })
            .collect();
        if let Err(message) = check_columns(&new) {
            return Ok(Err(invalid("columns", message)));
        }
        let kind = match format {
            TableFormat::CsvGz => ArtifactType::CsvGz,
            TableFormat::Parquet => ArtifactType::Parquet,
        };
        let rows = new.first().and_then(|column| column.values.len());
        let (rows, most) = (rows.unwrap_or(0), max_parquet_rows(new.len()));
        if kind == ArtifactType::Parquet && rows > most {
            let count = new.len();
            let message = format!(
                "must have at most {most} rows where {count} of them are written as Parquet, but they have {rows}"
            );
            return Ok(Err(invalid("columns", message)));
        }
        let write = |out: &mut Out| match format {
            TableFormat::CsvGz => csv_gz(&new, out),
            TableFormat::Parquet => parquet(&new, out),
        };
        let mut about = About::new(name, kind, notes);
        if kind == ArtifactType::Parquet {
            let named = new
                .iter()
                .map(|column| (column.name, column.values.element_name()));
            about.preview = Some(table_preview(rows as u64, named));
        }
        Ok(self.put(about, write).await)
    }

    async fn put_tensors(
        &mut self,
        _run: Resource<Run>,
        name: String,
        tensors: Vec<(String, Resource<Tensor>)>,
        notes: Vec<(String, String)>,
    ) -> Put {
        let named = self.named(tensors)?;
        let names = named.iter().map(|(name, _)| name.as_str());
        if let Err(message) = check_names(names, is_file_path, "are relative and without `..`") {
            return Ok(Err(invalid("tensors", message)));
        }
        let arrays: Vec<(&str, &Tensor)> = named
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
            .collect();
        let about = About::new(name, ArtifactType::Npz, notes);
        Ok(self.put(about, |out: &mut Out| npz(&arrays, out)).await)
    }

    async fn put_image(
        &mut self,
        _run: Resource<Run>,
        name: String,
        image: Resource<Tensor>,
        notes: Vec<(String, String)>,
    ) -> Put {
        let image = self.table.get(&image)?.clone();
        let about = About::new(name, ArtifactType::Png, notes);
        Ok(self.put(about, |out: &mut Out| png(&image, out)).await)
    }

    async fn put_bytes(
        &mut self,
        _run: Resource<Run>,
        name: String,
        content: Vec<u8>,
        content_type: Option<String>,
        notes: Vec<(String, String)>,
    ) -> Put {
        if let Err(error) = check_length("content", content.len()) {
            return Ok(Err(error));
        }
        let about = About::of_file(name, content_type, notes);
        let write = |out: &mut Out| out.write_all(&content);
        Ok(self.put(about, write).await)
    }

    async fn put_file(
        &mut self,
        _run: Resource<Run>,
        name: String,
        path: String,
        content_type: Option<String>,
        notes: Vec<(String, String)>,
    ) -> Put {
        let opened = match self.scratch_file(&path) {
            Ok(opened) => opened,
            Err(message) => return Ok(Err(invalid("path", message))),
        };
        let about = About::of_file(name, content_type, notes);
        let write = |out: &mut Out| io::copy(&mut &opened, out).map(drop);
        Ok(self.put(about, write).await)
    }

    async fn put_folder(
        &mut self,
        _run: Resource<Run>,
        name: String,
        folder: String,
        notes: Vec<(String, String)>,
    ) -> Put {
        let paths = match self.scratch_files(&folder) {
            Ok(paths) => paths,
            Err(message) => return Ok(Err(invalid("folder", message))),
        };
        let base = self.scratch.folder().join(&folder);
        let open = |path: &str| {
            let file = File::open(base.join(path))?;
            let length = file.metadata()?.len();
            Ok((file, length))
        };
        let about = About::new(name, ArtifactType::Folder, notes);
        let paths = paths.iter().map(String::as_str);
        let write = |out: &mut Out| archive::pack(paths, open, out);
        Ok(self.put(about, write).await)
    }

    async fn put_link(
        &mut self,
        _run: Resource<Run>,
        name: String,
        uri: String,
        notes: Vec<(String, String)>,
    ) -> Put {
        if !trainshed_core::address::is_uri(&uri) {
            let found = shortened(&one_line(&uri), 200);
            let message = format!("must begin with a scheme, e.g. `https://`, but it is `{found}`");
            return Ok(Err(invalid("uri", message)));
        }
        let about = About::new(name, ArtifactType::Link, notes);
        if let Err(error) = self.may_put(&about) {
            return Ok(Err(error));
        }
        let request = ArtifactRequest {
            name: about.name,
            uri: Some(uri),
            display: about.notes,
            ..ArtifactRequest::default()
        };
        Ok(self.record(request).await)
    }

    async fn listing(
        &mut self,
        _run: Resource<Run>,
        task: Option<String>,
    ) -> wasmtime::Result<Result<Vec<Artifact>, ArtifactError>> {
        let made = self.artifacts_of(task).await;
        Ok(made.map(|made| made.into_iter().map(Into::into).collect()))
    }

    async fn open(
        &mut self,
        _run: Resource<Run>,
        task: Option<String>,
        name: String,
    ) -> wasmtime::Result<Result<Resource<Opened>, ArtifactError>> {
        let opened = match self.opened(task, &name).await {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error)),
        };
        Ok(Ok(self.table.push(opened)?))
    }
}

impl HostOpened for TaskState {
    fn info(&mut self, opened: Resource<Opened>) -> wasmtime::Result<Artifact> {
        Ok(self.table.get(&opened)?.view.clone().into())
    }

    fn read(
        &mut self,
        opened: Resource<Opened>,
        offset: u64,
        length: u64,
    ) -> wasmtime::Result<Result<Vec<u8>, ArtifactError>> {
        let opened = self.table.get(&opened)?;
        let left = opened.view.size_bytes.saturating_sub(offset);
        let length = usize::try_from(length.min(left)).unwrap_or(usize::MAX);
        if let Err(error) = check_length("length", length) {
            return Ok(Err(error));
        }
        let read = opened.open().and_then(|file| {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        });
        Ok(read.map_err(|error| not_stored(&error)))
    }

    fn dataset(&mut self, opened: Resource<Opened>) -> wasmtime::Result<Resource<Dataset>> {
        let opened = self.table.get(&opened)?;
        let files = DatasetFiles {
            id: 0,
            name: opened.view.name.clone(),
            version: opened.view.version,
            digest: opened.digest,
            dir: opened.folder.clone(),
        };
        Ok(self.table.push(Dataset::of_artifact(files))?)
    }

    fn save(
        &mut self,
        opened: Resource<Opened>,
        path: String,
    ) -> wasmtime::Result<Result<(), ArtifactError>> {
        let opened = self.table.get(&opened)?;
        if !is_file_path(&path) {
            let path = shortened(&one_line(&path), 200);
            let message = format!("must be a path under /scratch, but it is `{path}`");
            return Ok(Err(invalid("path", message)));
        }
        let stop = self.watch.interrupt_flag();
        let (scratch, is_folder) = (&self.scratch, opened.view.kind == ArtifactType::Folder);
        let saved = opened.open().and_then(|mut file| match is_folder {
            true => archive::unpack(file, |member, content| {
                scratch.add(&format!("{path}/{member}"), content, &stop)
            }),
            false => scratch.add(&path, &mut file, &stop),
        });
        Ok(saved.map_err(|error| match error {
            _ if stop.load(Ordering::Relaxed) => ArtifactError::Stopped,
            error => {
                let reason = one_line(&error.to_string());
                ArtifactError::Unreadable(format!("`/scratch/{path}`: {reason}"))
            }
        }))
    }

    fn drop(&mut self, opened: Resource<Opened>) -> wasmtime::Result<()> {
        let opened = self.table.delete(opened)?;
        // A data set that was made of it holds no file open; whoever reads on gets an error.
        let _ = fs::remove_dir_all(&opened.folder);
        Ok(())
    }
}

impl TaskState {
    /// Checks what every artifact has, and counts it.
    fn may_put(&mut self, about: &About) -> Result<(), ArtifactError> {
        if !is_series_name(&about.name) {
            let message = "must have 1 to 200 bytes and no control characters".to_owned();
            return Err(invalid("name", message));
        }
        let visible = |byte: u8| (b' '..=b'~').contains(&byte);
        if about.content_type.len() > 200 || !about.content_type.bytes().all(visible) {
            let message = "must be at most 200 visible ASCII characters".to_owned();
            return Err(invalid("content-type", message));
        }
        let too_long = |(name, text): &(String, String)| {
            name.len() > MAX_NOTE_BYTES || text.len() > MAX_NOTE_BYTES
        };
        if about.notes.len() > MAX_NOTES || about.notes.iter().any(too_long) {
            let message = format!(
                "must be at most {MAX_NOTES} names and texts of at most {MAX_NOTE_BYTES} bytes"
            );
            return Err(invalid("notes", message));
        }
        if self.puts >= MAX_PUTS {
            let message = format!("a task puts artifacts at most {MAX_PUTS} times");
            return Err(ArtifactError::NotStored(message));
        }
        self.puts += 1;
        Ok(())
    }

    /// Writes a file, uploads it and records it.
    async fn put(
        &mut self,
        about: About,
        write: impl FnOnce(&mut Out) -> io::Result<()>,
    ) -> Result<Artifact, ArtifactError> {
        self.may_put(&about)?;
        let path = self.facts.outgoing.join(format!("artifact.{}", self.puts));
        let (stop, left) = (self.watch.interrupt_flag(), self.output.left());
        let mut too_long = None;
        let written = Out::create(&path, Arc::clone(&stop), left).and_then(|mut out| {
            let written = write(&mut out).and_then(|()| out.flush());
            too_long = out.too_long;
            written?;
            hash(&path)
        });
        let put = match written {
            Ok((sha256, size_bytes)) => self.put_written(about, &path, sha256, size_bytes).await,
            Err(_) if stop.load(Ordering::Relaxed) => Err(ArtifactError::Stopped),
            Err(_) if too_long.is_some() => Err(ArtifactError::QuotaExceeded((
                too_long.unwrap_or(left),
                left,
            ))),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Err(invalid("image", error.to_string()))
            }
            Err(error) => Err(not_stored(&error)),
        };
        // What could not be removed goes with the folder, when the task ends.
        let _ = fs::remove_file(&path);
        put
    }

    async fn put_written(
        &mut self,
        about: About,
        path: &std::path::Path,
        sha256: Digest,
        size_bytes: u64,
    ) -> Result<Artifact, ArtifactError> {
        if !self.output.take(size_bytes) {
            let left = self.output.left();
            return Err(ArtifactError::QuotaExceeded((size_bytes, left)));
        }
        let uploaded = self.services.upload(path, sha256, size_bytes).await;
        uploaded.map_err(refusal)?;
        let request = ArtifactRequest {
            name: about.name,
            kind: Some(about.kind),
            sha256: Some(sha256),
            content_type: Some(about.content_type),
            preview: about.preview,
            display: about.notes,
            ..ArtifactRequest::default()
        };
        self.record(request).await
    }

    async fn record(&mut self, request: ArtifactRequest) -> Result<Artifact, ArtifactError> {
        let recorded = self.services.put_artifact(request).await;
        Ok(recorded.map_err(refusal)?.into())
    }

    /// A file under `/scratch`, or one sentence.
    fn scratch_file(&self, path: &str) -> Result<File, String> {
        if !is_file_path(path) {
            let path = shortened(&one_line(path), 200);
            return Err(format!("must be a path under /scratch, but it is `{path}`"));
        }
        let opened = Dir::open_ambient_dir(self.scratch.folder(), ambient_authority())
            .and_then(|scratch| scratch.open(path))
            .map(cap_std::fs::File::into_std);
        match opened.and_then(|file| Ok((file.metadata()?.is_file(), file))) {
            Ok((true, file)) => Ok(file),
            Ok((false, _)) => Err(format!("must be a file, but `/scratch/{path}` is a folder")),
            Err(error) => Err(format!("`/scratch/{path}`: {error}")),
        }
    }

    async fn artifacts_of(
        &mut self,
        task: Option<String>,
    ) -> Result<Vec<ArtifactView>, ArtifactError> {
        let id = match &task {
            None => None,
            Some(text) => match text.parse::<TaskId>() {
                Ok(id) => Some(id),
                Err(_) => return Err(ArtifactError::UnknownTask(shortened(&one_line(text), 200))),
            },
        };
        let made = self.services.artifacts(id).await.map_err(refusal)?;
        let mut made = made.ok_or_else(|| ArtifactError::UnknownTask(task.unwrap_or_default()))?;
        made.retain(|artifact| artifact.mode == ArtifactMode::Output);
        Ok(made)
    }

    async fn opened(&mut self, task: Option<String>, name: &str) -> Result<Opened, ArtifactError> {
        let made = self.artifacts_of(task).await?;
        let found = made.into_iter().find(|artifact| artifact.name == name);
        let unknown = || ArtifactError::UnknownArtifact(shortened(&one_line(name), 200));
        let view = found.ok_or_else(unknown)?;
        let Some(digest) = view.sha256 else {
            let uri = view.uri.unwrap_or_default();
            let message = format!("it is only recorded: its content is at `{uri}`");
            return Err(ArtifactError::Unreadable(message));
        };
        if self.openings >= MAX_OPENINGS {
            let message = format!("a task opens artifacts at most {MAX_OPENINGS} times");
            return Err(ArtifactError::NotStored(message));
        }
        if !self.opened.take(view.size_bytes) {
            let left = self.opened.left();
            return Err(ArtifactError::QuotaExceeded((view.size_bytes, left)));
        }
        self.openings += 1;
        let fetched = self.services.fetch(digest).await.map_err(refusal)?;
        let opened = Opened {
            folder: self.facts.incoming.join(self.openings.to_string()),
            file: file_name(&view),
            digest,
            view,
        };
        let place = opened.folder.join(&opened.file);
        fs::create_dir(&opened.folder)
            // Linking costs nothing, but the agent's cache may be on another file system.
            .and_then(|()| match fs::hard_link(&fetched, &place) {
                Ok(()) => Ok(()),
                Err(_) => fs::copy(&fetched, &place).map(drop),
            })
            .map_err(|error| not_stored(&error))?;
        Ok(opened)
    }
}

/// How the file of an opened artifact is called, for its reader and in errors.
fn file_name(view: &ArtifactView) -> String {
    let mut name: String = match is_file_path(&view.name) && !view.name.contains('/') {
        true => view.name.clone(),
        false => "artifact".to_owned(),
    };
    let ending = view.kind.ending();
    if !name.to_ascii_lowercase().ends_with(ending) {
        name.push_str(ending);
    }
    name
}

fn check_columns(columns: &[NewColumn<'_>]) -> Result<(), String> {
    if columns.is_empty() {
        return Err("must be at least one".to_owned());
    }
    let names = columns.iter().map(|column| column.name);
    check_names(
        names,
        is_series_name,
        "have 1 to 200 bytes and no control characters",
    )?;
    let mut rows = None;
    for NewColumn { name, values } in columns {
        let Some(length) = values.len() else {
            return Err(format!(
                "must be of rank 1, but the tensor of `{name}` is not"
            ));
        };
        let rows = *rows.get_or_insert(length);
        if length != rows {
            return Err(format!(
                "must have as many values, but `{name}` has {length} and the first has {rows}"
            ));
        }
    }
    Ok(())
}

fn check_names<'a>(
    names: impl ExactSizeIterator<Item = &'a str>,
    is_good: fn(&str) -> bool,
    rule: &str,
) -> Result<(), String> {
    if names.len() > MAX_ENTRIES {
        let count = names.len();
        return Err(format!(
            "must be at most {MAX_ENTRIES}, but there are {count}"
        ));
    }
    let mut known = std::collections::HashSet::new();
    for name in names {
        let shown = shortened(&one_line(name), 80);
        if !is_good(name) {
            return Err(format!("must have names that {rule}, but one is `{shown}`"));
        }
        if !known.insert(name) {
            return Err(format!(
                "must have every name once, but `{shown}` is there twice"
            ));
        }
    }
    Ok(())
}

fn check_length(argument: &str, length: usize) -> Result<(), ArtifactError> {
    if length <= MAX_BYTES {
        return Ok(());
    }
    let message = format!("must be at most {MAX_BYTES} bytes, but it is {length}");
    Err(invalid(argument, message))
}

fn invalid(argument: &str, message: String) -> ArtifactError {
    ArtifactError::InvalidArgument((argument.to_owned(), message))
}

fn not_stored(error: &io::Error) -> ArtifactError {
    ArtifactError::NotStored(one_line(&error.to_string()))
}

fn refusal(refused: Refused) -> ArtifactError {
    match refused {
        Refused::Stopped => ArtifactError::Stopped,
        Refused::Failed(reason) => ArtifactError::NotStored(reason),
    }
}

/// A file that is written until the run is ended, and no further than the task may write: the
/// same tensor can be asked for thousands of times.
pub(super) struct Out {
    file: BufWriter<File>,
    stop: Arc<AtomicBool>,
    at: u64,
    limit: u64,
    /// How long the file would have become at least, when that was too long.
    pub(super) too_long: Option<u64>,
}

impl Out {
    pub(super) fn create(
        path: &std::path::Path,
        stop: Arc<AtomicBool>,
        limit: u64,
    ) -> io::Result<Self> {
        let file = BufWriter::new(File::create(path)?);
        Ok(Self {
            file,
            stop,
            at: 0,
            limit,
            too_long: None,
        })
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("the task was stopped"));
        }
        let end = self.at.saturating_add(bytes.len() as u64);
        if end > self.limit {
            self.too_long = Some(end);
            return Err(io::Error::other("it is longer than the task may write"));
        }
        let written = self.file.write(bytes)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Out {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = self.file.seek(to)?;
        Ok(self.at)
    }
}

impl From<ArtifactView> for Artifact {
    fn from(view: ArtifactView) -> Self {
        Self {
            name: view.name,
            version: view.version,
            kind: view.kind.as_str().to_owned(),
            sha256: view.sha256.map(|digest| digest.to_string()),
            uri: view.uri,
            size_bytes: view.size_bytes,
            content_type: view.content_type,
            preview: view.preview,
            notes: view.display,
        }
    }
}

impl crate::wasi::Scratch {
    /// Writes what comes out of `content` to a new file at `path`, and makes its folders. No
    /// link leads out of `/scratch`, because nobody can make one there.
    ///
    /// # Errors
    /// When there is no room for it, something is there already, or the task was stopped.
    pub(super) fn add(
        &self,
        path: &str,
        content: &mut (impl Read + ?Sized),
        stop: &AtomicBool,
    ) -> io::Result<()> {
        let mut folder = self.folder().to_owned();
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        for part in folders.split('/').filter(|part| !part.is_empty()) {
            folder.push(part);
            if !folder.is_dir() {
                let room = self.account().check_entries();
                room.map_err(|_| rustix::io::Errno::NOSPC)?;
                fs::create_dir(&folder)?;
                self.account().made_folder();
            }
        }
        let room = self.account().check_entries();
        room.map_err(|_| rustix::io::Errno::NOSPC)?;
        let file = Arc::new(File::create_new(folder.join(name))?);
        self.account().opened_here(&file)?;
        let mut buffer = vec![0; 256 << 10];
        let mut offset = 0;
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(io::Error::other("the task was stopped"));
            }
            match content.read(&mut buffer)? {
                0 => return Ok(()),
                length => {
                    self.write_at(&file, &buffer[..length], offset)?;
                    offset += length as u64;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_grows_no_further_than_the_task_may_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let stop = Arc::new(AtomicBool::new(false));
        let mut out = Out::create(&path, stop, 10).unwrap();
        out.write_all(b"12345678").unwrap();
        // What is written over does not count twice.
        out.seek(SeekFrom::Start(2)).unwrap();
        out.write_all(b"345678").unwrap();
        assert!(out.write_all(b"901").is_err());
        assert_eq!(out.too_long, Some(11));
        out.write_all(b"90").unwrap();
        out.flush().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"1234567890");
    }
}
