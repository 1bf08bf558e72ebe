//! `trainshed dataset`.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use trainshed_core::Digest;
use trainshed_core::dataset::FileEntry;
use trainshed_core::digest::Hasher;
use trainshed_core::view::{DatasetView, NewDataset};
use trainshed_wire::Client;

use crate::args::{DatasetCommand, Global};
use crate::connect::Connection;
use crate::error::CliError;
use crate::output::{Output, size, time};

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
            description,
            parent,
        } => {
            let made = import(client, &name, &paths, &description, parent).await?;
            if output.is_json() {
                output.document(&made);
            } else {
                output.line(&made.id.to_string());
            }
        }
        DatasetCommand::Ls => {
            let datasets = client.datasets().await?;
            let header = [
                "ID", "NAME", "VERSION", "FILES", "SIZE", "DIGEST", "CREATED",
            ];
            output.list(&datasets, &header, datasets.iter().map(row).collect());
        }
        DatasetCommand::Show { id } => {
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
    }
    Ok(())
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
    let new = NewDataset {
        name: name.to_owned(),
        description: description.to_owned(),
        parent,
        files,
    };
    Ok(client.create_dataset(&new).await?)
}

/// Adds the files at or below `path` with their names in the data set. Links are followed for
/// `root` itself and refused below it, so that a folder never gives away more than it holds.
fn collect(root: &Path, path: &Path, found: &mut Vec<(String, PathBuf)>) -> Result<(), CliError> {
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

fn digest_of(path: &Path) -> Result<(Digest, u64), CliError> {
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
