//! `trainshed dataset`.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use trainshed_core::address::InvalidAddress;
use trainshed_core::dataset::{FileEntry, seal};
use trainshed_core::digest::Hasher;
use trainshed_core::view::{DatasetEdit, DatasetView, NewDataset};
use trainshed_core::{Address, Digest};
use trainshed_wire::Client;

use crate::args::{DatasetCommand, Global};
use crate::connect::Connection;
use crate::error::CliError;
use crate::model::beside;
use crate::output::{Output, size, time};
use crate::tables;

pub(crate) async fn dataset(
    global: &Global,
    command: DatasetCommand,
    output: &Output,
) -> Result<ExitCode, CliError> {
    let connection = Connection::open(global).await?;
    let done = execute(&connection.client, command, output).await;
    connection.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn execute(
    client: &Client,
    command: DatasetCommand,
    output: &Output,
) -> Result<(), CliError> {
    match command {
        DatasetCommand::Create {
            name,
            paths,
            from_urls,
            from,
            link,
            tag,
            description,
            parent,
        } => {
            let mut sources: Vec<String> = from.iter().map(ToString::to_string).collect();
            if let Some(file) = from_urls {
                sources.extend(addresses(&file)?);
            }
            if paths.is_empty() && sources.is_empty() {
                let what = "give files or folders, --from or --from-urls";
                return Err(CliError::Usage(what.to_owned()));
            }
            let mut about = NewDataset {
                name,
                description,
                parent,
                files: Vec::new(),
                tags: tag,
                tables: None,
            };
            if link {
                for path in &paths {
                    let whole = path.canonicalize().map_err(|source| CliError::File {
                        path: path.clone(),
                        verb: "read",
                        source,
                    })?;
                    sources.push(whole.display().to_string());
                }
            } else if !paths.is_empty() {
                about.tables = tables::describe(&paths);
                about.files = upload(client, &paths).await?;
            }
            about
                .files
                .extend(fetch(client, &sources, link, output).await?);
            let made = client.create_dataset(&about).await?;
            if output.is_json() {
                output.document(&made);
            } else {
                output.line(&made.id.to_string());
            }
        }
        DatasetCommand::Ls { archived } => {
            let datasets = client.datasets(archived).await?;
            let header = [
                "ID", "NAME", "VERSION", "FILES", "SIZE", "DIGEST", "CREATED",
            ];
            output.list(&datasets, &header, datasets.iter().map(row).collect());
        }
        DatasetCommand::Show { id, tables: false } => {
            let dataset = client.dataset(id).await?;
            let files = dataset.files.iter().flatten();
            let rows = files.map(|file| {
                vec![
                    file.path.clone(),
                    size(file.size_bytes),
                    file.sha256.to_string(),
                ]
            });
            output.list(&dataset, &["PATH", "SIZE", "SHA256"], rows.collect());
        }
        DatasetCommand::Show { id, tables: true } => {
            let tables = client.dataset(id).await?.tables.unwrap_or_default();
            let header = [
                "TABLE", "ROWS", "COLUMN", "KIND", "ELEMENT", "MISSING", "MIN", "MAX", "MEAN",
                "DISTINCT",
            ];
            output.list(&tables, &header, tables::rows(&tables));
        }
        DatasetCommand::Download { id, output: folder } => {
            let dataset = client.dataset(id).await?;
            let folder = folder.unwrap_or_else(|| PathBuf::from(folder_name(&dataset)));
            download(client, &dataset, &folder).await?;
            if output.is_json() {
                output.document(&dataset);
            } else {
                output.line(&folder.display().to_string());
            }
        }
        DatasetCommand::Diff { id, with } => {
            let found = client.dataset_difference(id, with).await?;
            let line = |sign: &str, path: &str, about: String| {
                vec![sign.to_owned(), path.to_owned(), about]
            };
            let added = found
                .added
                .iter()
                .map(|f| line("+", &f.path, size(f.size_bytes)));
            let removed = found
                .removed
                .iter()
                .map(|f| line("-", &f.path, size(f.size_bytes)));
            let changed = found.changed.iter().map(|f| {
                let about = format!("{} -> {}", size(f.bytes_before), size(f.bytes_after));
                line("~", &f.path, about)
            });
            let moved = found
                .moved
                .iter()
                .map(|f| line(">", &f.to, format!("was {}", f.from)));
            let rows = added.chain(removed).chain(changed).chain(moved).collect();
            output.list(&found, &["", "PATH", "ABOUT"], rows);
        }
        DatasetCommand::Tag {
            id,
            tags,
            description,
        } => {
            let tags = (!tags.is_empty() || description.is_none()).then_some(tags);
            let edit = DatasetEdit { description, tags };
            show(&client.edit_dataset(id, &edit).await?, output);
        }
        DatasetCommand::Publish { id } => show(&client.publish_dataset(id).await?, output),
        DatasetCommand::Archive { id, undo } => {
            show(&client.archive_dataset(id, !undo).await?, output);
        }
        DatasetCommand::Rm { id, force } => client.delete_dataset(id, force).await?,
    }
    Ok(())
}

fn show(dataset: &DatasetView, output: &Output) {
    let header = ["ID", "NAME", "VERSION", "TAGS", "PUBLISHED", "DESCRIPTION"];
    let row = vec![
        dataset.id.to_string(),
        dataset.name.clone(),
        dataset.number.to_string(),
        dataset.tags.join(", "),
        dataset.published.map(time).unwrap_or_default(),
        dataset.description.clone(),
    ];
    output.list(dataset, &header, vec![row]);
}

/// The addresses in a file, one on each line; empty lines and those with `#` are left out.
fn addresses(file: &Path) -> Result<Vec<String>, CliError> {
    let failed = |source| CliError::File {
        path: file.to_owned(),
        verb: "read",
        source,
    };
    let text = match file.to_str() {
        Some("-") => std::io::read_to_string(std::io::stdin()),
        _ => fs::read_to_string(file),
    };
    let text = text.map_err(failed)?;
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

/// How many objects the server reads at once for one import.
const OBJECTS_AT_ONCE: usize = 4;

/// Has the server make files of all objects at and below the addresses.
async fn fetch(
    client: &Client,
    sources: &[String],
    link: bool,
    output: &Output,
) -> Result<Vec<FileEntry>, CliError> {
    let mut objects = Vec::new();
    for source in sources {
        // A web server has no folders to look into.
        let is_web = source.starts_with("http://") || source.starts_with("https://");
        if is_web {
            let address: Address = source
                .parse()
                .map_err(|error: InvalidAddress| CliError::Usage(error.to_string()))?;
            objects.push((source.clone(), address.name().to_owned()));
            continue;
        }
        let found = client.list_objects(source).await?;
        if found.is_empty() {
            return Err(CliError::Missing(format!("there is nothing at `{source}`")));
        }
        objects.extend(found.into_iter().map(|object| (object.uri, object.path)));
    }
    let count = objects.len();
    let import = |(uri, path): (String, String)| async move {
        let made = client.import_object(&uri, link).await?;
        Ok::<_, CliError>(FileEntry {
            path,
            sha256: made.sha256,
            size_bytes: made.size_bytes,
        })
    };
    let importing = stream::iter(objects).map(import).buffered(OBJECTS_AT_ONCE);
    let files: Vec<FileEntry> = importing.try_collect().await?;
    if count > 0 {
        output.say(&format!("{count} objects were read"));
    }
    Ok(files)
}

/// Writes the files of a version into a new folder, which is there only with all of them.
async fn download(client: &Client, dataset: &DatasetView, folder: &Path) -> Result<(), CliError> {
    let failed = |source| CliError::File {
        path: folder.to_owned(),
        verb: "written",
        source,
    };
    // A path is not written to because a server says so: it is checked as if it came from a user.
    let files = dataset.files.clone().unwrap_or_default();
    let wrong = |what: String| failed(io::Error::other(what));
    let (files, digest) = seal(files).map_err(|error| wrong(error.to_string()))?;
    if digest != dataset.digest {
        let what = format!("the files are those of {digest}, not of {}", dataset.digest);
        return Err(wrong(what));
    }
    let (_part, whole) = beside(folder).map_err(failed)?;
    for file in &files {
        let place = whole.join(&file.path);
        if let Some(above) = place.parent() {
            fs::create_dir_all(above).map_err(failed)?;
        }
        client.download(&file.sha256, &place).await?;
    }
    fs::rename(&whole, folder).map_err(failed)
}

/// The name of a version as that of a folder in this one.
fn folder_name(dataset: &DatasetView) -> String {
    let safe = |letter: char| match letter {
        '/' | '\\' => '_',
        other if other.is_control() => '_',
        other => other,
    };
    let name: String = dataset.name.chars().map(safe).collect();
    format!("{name}-{}", dataset.number)
}

fn row(dataset: &DatasetView) -> Vec<String> {
    vec![
        dataset.id.to_string(),
        dataset.name.clone(),
        dataset.number.to_string(),
        dataset.file_count.to_string(),
        size(dataset.size_bytes),
        dataset.digest.short(),
        time(dataset.created),
    ]
}

/// Uploads what the server does not have of `paths` and makes a data set version of it.
///
/// A file keeps its name, a folder's files their paths below the folder.
pub(crate) async fn import(
    client: &Client,
    name: &str,
    paths: &[PathBuf],
    description: &str,
    parent: Option<u64>,
) -> Result<DatasetView, CliError> {
    let new = NewDataset {
        name: name.to_owned(),
        description: description.to_owned(),
        parent,
        files: upload(client, paths).await?,
        tags: Vec::new(),
        tables: tables::describe(paths),
    };
    Ok(client.create_dataset(&new).await?)
}

/// Uploads what the server does not have of `paths`; the files of a version.
async fn upload(client: &Client, paths: &[PathBuf]) -> Result<Vec<FileEntry>, CliError> {
    let mut found = Vec::new();
    for path in paths {
        collect(path, path, &mut found)?;
    }
    let mut files = Vec::new();
    let mut sources: HashMap<Digest, PathBuf> = HashMap::new();
    for (path, source) in found {
        let (sha256, size_bytes) = digest_of(&source)?;
        files.push(FileEntry {
            path,
            sha256,
            size_bytes,
        });
        sources.insert(sha256, source);
    }
    let digests: Vec<Digest> = sources.keys().copied().collect();
    for missing in client.missing_files(&digests).await? {
        if let Some(source) = sources.get(&missing) {
            client.put_file(&missing, source).await?;
        }
    }
    Ok(files)
}

/// Adds the files at or below `path` with their names in the data set. Links are followed for
/// `root` itself and refused below it, so that a folder never gives away more than it holds.
pub(crate) fn collect(
    root: &Path,
    path: &Path,
    found: &mut Vec<(String, PathBuf)>,
) -> Result<(), CliError> {
    let failed = |source| CliError::File {
        path: path.to_owned(),
        verb: "read",
        source,
    };
    let kind = if path == root {
        fs::metadata(path)
    } else {
        fs::symlink_metadata(path)
    }
    .map_err(failed)?;
    if kind.is_dir() {
        let entries: Result<Vec<_>, _> = fs::read_dir(path).map_err(failed)?.collect();
        let mut entries: Vec<PathBuf> = entries
            .map_err(failed)?
            .iter()
            .map(fs::DirEntry::path)
            .collect();
        entries.sort();
        return entries
            .iter()
            .try_for_each(|entry| collect(root, entry, found));
    }
    if !kind.is_file() {
        return Err(CliError::Usage(format!(
            "`{}` is neither a file nor a folder",
            path.display()
        )));
    }
    let inside = if path == root {
        path.file_name().map(Path::new)
    } else {
        path.strip_prefix(root).ok()
    };
    let name = inside.and_then(Path::to_str);
    let name = name.ok_or_else(|| {
        CliError::Usage(format!(
            "the name of `{}` is not valid UTF-8",
            path.display()
        ))
    })?;
    found.push((name.to_owned(), path.to_owned()));
    Ok(())
}

pub(crate) fn digest_of(path: &Path) -> Result<(Digest, u64), CliError> {
    let failed = |source| CliError::File {
        path: path.to_owned(),
        verb: "read",
        source,
    };
    let mut file = fs::File::open(path).map_err(failed)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            return Ok((hasher.finish(), length));
        }
        hasher.update(&buffer[..count]);
        length += count as u64;
    }
}
