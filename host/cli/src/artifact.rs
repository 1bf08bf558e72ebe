//! `trainshed artifact`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use trainshed_core::artifact::{ArtifactMode, ArtifactType, table_preview};
use trainshed_core::view::{ArtifactRequest, ArtifactView};
use trainshed_wire::Client;
use zip::write::{SimpleFileOptions, ZipWriter};

use crate::args::{ArtifactCommand, Global};
use crate::connect::Connection;
use crate::dataset::{collect, digest_of};
use crate::error::CliError;
use crate::model::download_folder;
use crate::output::{Output, size, time};

pub(crate) async fn artifact(
    global: &Global,
    command: ArtifactCommand,
    output: &Output,
) -> Result<ExitCode, CliError> {
    let connection = Connection::open(global).await?;
    let done = execute(&connection.client, command, output).await;
    connection.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn execute(
    client: &Client,
    command: ArtifactCommand,
    output: &Output,
) -> Result<(), CliError> {
    match command {
        ArtifactCommand::Ls { task, history } => {
            let artifacts = client.artifacts(&task, history).await?;
            let header = ["NAME", "TYPE", "VERSION", "SIZE", "CREATED", "PREVIEW"];
            output.list(&artifacts, &header, artifacts.iter().map(row).collect());
        }
        ArtifactCommand::Get {
            task,
            name,
            version,
            output: file,
            unpack,
            max_bytes,
        } => {
            let artifacts = client.artifacts(&task, version.is_some()).await?;
            let wanted = |artifact: &&ArtifactView| {
                artifact.name == name
                    && artifact.mode == ArtifactMode::Output
                    && version.is_none_or(|version| artifact.version == version)
            };
            let found = artifacts.iter().find(wanted).ok_or_else(|| {
                CliError::Missing(format!("task {task} has no artifact `{name}` like that"))
            })?;
            let Some(digest) = &found.sha256 else {
                // Of one that is only recorded, its address is all there is.
                output.line(found.uri.as_deref().unwrap_or_default());
                return Ok(());
            };
            let file = match unpack {
                Some(_) if found.kind != ArtifactType::Folder => {
                    let kind = found.kind.as_str();
                    let what = format!("the artifact `{name}` is no folder but of type {kind}");
                    return Err(CliError::Usage(what));
                }
                Some(folder) => {
                    let content = (digest, found.size_bytes);
                    download_folder(client, content, &folder, max_bytes).await?;
                    folder
                }
                None => {
                    let file = file.unwrap_or_else(|| PathBuf::from(file_name(found)));
                    client.download(digest, &file).await?;
                    file
                }
            };
            output.line(&file.display().to_string());
        }
        ArtifactCommand::Put {
            task,
            name,
            source,
            kind,
        } => {
            let made = put(client, &task, &name, &source, kind).await?;
            output.list(
                &made,
                &["NAME", "TYPE", "VERSION", "SIZE", "CREATED", "PREVIEW"],
                vec![row(&made)],
            );
        }
        ArtifactCommand::Rm { task, name } => client.delete_artifact(&task, &name).await?,
    }
    Ok(())
}

async fn put(
    client: &Client,
    task: &str,
    name: &str,
    source: &str,
    kind: Option<ArtifactType>,
) -> Result<ArtifactView, CliError> {
    if source.contains("://") {
        let artifact = ArtifactRequest {
            name: name.to_owned(),
            uri: Some(source.to_owned()),
            ..ArtifactRequest::default()
        };
        return Ok(client.register_artifact(task, &artifact).await?);
    }
    let path = Path::new(source);
    if path.is_dir() {
        let archive = zipped(path)?;
        let kind = Some(ArtifactType::Folder);
        return Ok(client
            .put_artifact(task, name, kind, archive.path())
            .await?);
    }
    // A name without an ending says nothing of the file, whose own name may.
    let by_name = ArtifactType::of_name(name);
    let by_source = ArtifactType::of_name(source);
    let known = [by_name, by_source]
        .into_iter()
        .find(|kind| *kind != ArtifactType::File);
    let kind = kind.or(known);
    if kind == Some(ArtifactType::Parquet)
        && let Some(preview) = parquet_preview(source)
    {
        // The server does not look into these files.
        let (digest, _) = digest_of(path)?;
        let task_id = task
            .parse()
            .map_err(|_| CliError::Missing(format!("there is no task `{task}`")))?;
        client.put_output(&task_id, &digest, path).await?;
        let artifact = ArtifactRequest {
            name: name.to_owned(),
            kind,
            sha256: Some(digest),
            content_type: Some("application/vnd.apache.parquet".to_owned()),
            preview: Some(preview),
            ..ArtifactRequest::default()
        };
        return Ok(client.register_artifact(task, &artifact).await?);
    }
    Ok(client.put_artifact(task, name, kind, path).await?)
}

/// What the columns of a Parquet file are; nothing where it cannot be read as one.
fn parquet_preview(source: &str) -> Option<String> {
    let tables = crate::tables::describe(&[PathBuf::from(source)])?;
    let table = tables.first()?;
    let columns = table.columns.iter();
    let columns = columns.map(|column| (column.name.as_str(), column.element.as_str()));
    Some(table_preview(table.rows, columns))
}

/// All files of a folder as one archive, on the disk.
fn zipped(folder: &Path) -> Result<tempfile::NamedTempFile, CliError> {
    let failed = |source| CliError::File {
        path: folder.to_owned(),
        verb: "packed",
        source,
    };
    let mut found = Vec::new();
    collect(folder, folder, &mut found)?;
    let archive = tempfile::NamedTempFile::new().map_err(failed)?;
    let mut writer = ZipWriter::new(archive.reopen().map_err(failed)?);
    for (name, path) in found {
        let options = SimpleFileOptions::default().large_file(true);
        let begun = writer.start_file(name, options);
        begun.map_err(|error| failed(io::Error::other(error)))?;
        let mut file = File::open(path).map_err(failed)?;
        io::copy(&mut file, &mut writer).map_err(failed)?;
    }
    let finished = writer.finish();
    finished.map_err(|error| failed(io::Error::other(error)))?;
    Ok(archive)
}

/// The name of an artifact as that of a file in this folder.
fn file_name(artifact: &ArtifactView) -> String {
    let safe = |c: char| {
        if matches!(c, '/' | '\\' | '\0') {
            '_'
        } else {
            c
        }
    };
    let name: String = artifact.name.chars().map(safe).collect();
    let name = match name.as_str() {
        "." | ".." => format!("_{name}"),
        _ => name,
    };
    let ending = artifact.kind.ending();
    match name.to_ascii_lowercase().ends_with(ending) {
        true => name,
        false => name + ending,
    }
}

fn row(artifact: &ArtifactView) -> Vec<String> {
    let line = artifact.preview.lines().next().unwrap_or_default();
    vec![
        artifact.name.clone(),
        artifact.kind.as_str().to_owned(),
        artifact.version.to_string(),
        size(artifact.size_bytes),
        time(artifact.created),
        line.chars().take(60).collect(),
    ]
}

#[cfg(test)]
mod tests {
    use trainshed_core::Timestamp;

    use super::*;

    #[track_caller]
    fn check(name: &str, kind: ArtifactType, expected: &str) {
        let artifact = ArtifactView {
            name: name.to_owned(),
            mode: ArtifactMode::Output,
            version: 1,
            kind,
            sha256: None,
            uri: None,
            size_bytes: 0,
            content_type: String::new(),
            preview: String::new(),
            display: Vec::new(),
            created: Timestamp(0),
            replaced: None,
        };
        assert_eq!(file_name(&artifact), expected);
    }

    #[test]
    fn an_artifact_is_written_into_this_folder_whatever_its_name() {
        check("a/../../b", ArtifactType::File, "a_.._.._b");
        check("..", ArtifactType::File, "_..");
        check("..", ArtifactType::Json, "_...json");
        check("table.csv.gz", ArtifactType::CsvGz, "table.csv.gz");
        check("data", ArtifactType::Folder, "data.zip");
    }
}
