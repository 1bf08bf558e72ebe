//! `trainshed model`.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use trainshed_core::Digest;
use trainshed_core::model::{ModelEdit, Registration};
use trainshed_core::view::{LineageStep, MetadataItem, ModelView};
use trainshed_tables::archive;
use trainshed_wire::Client;

use crate::args::{Global, ModelCommand};
use crate::connect::Connection;
use crate::dataset::digest_of;
use crate::error::CliError;
use crate::output::{Output, size, time};

pub(crate) async fn model(
    global: &Global,
    command: ModelCommand,
    output: &Output,
) -> Result<ExitCode, CliError> {
    let connection = Connection::open(global).await?;
    let done = execute(&connection, command, output).await;
    connection.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn execute(
    connection: &Connection,
    command: ModelCommand,
    output: &Output,
) -> Result<(), CliError> {
    let client = &connection.client;
    match command {
        ModelCommand::Ls { task, archived } => {
            let models = match task {
                Some(task) => client.task_models(&task).await?.models,
                None => client.models(archived).await?,
            };
            output.list(&models, &HEADER, models.iter().map(row).collect());
        }
        ModelCommand::Show { id } => show(&client.model(id).await?, output),
        ModelCommand::Register {
            name,
            source,
            task,
            framework,
            comment,
            tag,
            parent,
            iteration,
        } => {
            let mut new = Registration {
                name,
                task,
                framework,
                comment,
                tags: tag,
                parent,
                iteration,
                ..Registration::default()
            };
            if source.contains("://") {
                new.uri = Some(source);
            } else {
                let path = PathBuf::from(source);
                let (digest, _) = digest_of(&path)?;
                match &new.task {
                    Some(task) => client.put_output(task, &digest, &path).await?,
                    None => client.put_file(&digest, &path).await?,
                }
                new.sha256 = Some(digest);
            }
            let model = client.register_model(&new).await?;
            if output.is_json() {
                output.document(&model);
            } else {
                output.line(&model.id.to_string());
            }
        }
        ModelCommand::Edit {
            id,
            name,
            comment,
            framework,
            design,
            tag,
            label,
            metadata,
        } => {
            let read = |path: PathBuf| {
                std::fs::read_to_string(&path).map_err(|source| CliError::File {
                    path,
                    verb: "read",
                    source,
                })
            };
            let edit = ModelEdit {
                name,
                comment,
                framework,
                design: design.map(read).transpose()?,
                labels: label,
                tags: tag,
                ..ModelEdit::default()
            };
            if edit != ModelEdit::default() {
                client.edit_model(id, &edit).await?;
            }
            let item = |(key, value): (String, String)| MetadataItem {
                key,
                kind: "str".to_owned(),
                value,
            };
            let items: Vec<MetadataItem> = metadata.into_iter().map(item).collect();
            if !items.is_empty() {
                client.add_metadata(id, &items).await?;
            }
            show(&client.model(id).await?, output);
        }
        ModelCommand::Publish { id, with_task } => {
            show(&client.publish_model(id, with_task).await?, output);
        }
        ModelCommand::Archive { id, undo } => {
            show(&client.archive_model(id, !undo).await?, output);
        }
        ModelCommand::Rm { id, force } => client.delete_model(id, force).await?,
        ModelCommand::Lineage { id } => {
            let lineage = client.lineage(id).await?;
            let step = |way: &str, step: &LineageStep| {
                let models: Vec<String> = step.models.iter().map(u64::to_string).collect();
                vec![
                    way.to_owned(),
                    step.of.to_string(),
                    step.task_name.clone(),
                    step.task.to_string(),
                    models.join(", "),
                ]
            };
            let made = lineage.ancestors.iter().map(|one| step("made by", one));
            let read = lineage.descendants.iter().map(|one| step("read by", one));
            let rows = made.chain(read).collect();
            output.list(
                &lineage,
                &["WAY", "MODEL", "TASK", "TASK ID", "MODELS"],
                rows,
            );
        }
        ModelCommand::Download {
            id,
            output: file,
            unpack,
            max_bytes,
        } => {
            let model = client.model(id).await?;
            let Some(digest) = &model.sha256 else {
                // Of one that is only recorded, its address is all there is.
                output.line(model.uri.as_deref().unwrap_or_default());
                return Ok(());
            };
            let file = match unpack {
                Some(folder) => {
                    let content = (digest, model.size_bytes);
                    download_folder(client, content, &folder, max_bytes).await?;
                    folder
                }
                None => {
                    let file = file.unwrap_or_else(|| PathBuf::from(file_name(&model)));
                    client.download(digest, &file).await?;
                    file
                }
            };
            if output.is_json() {
                output.document(&model);
            } else {
                output.line(&file.display().to_string());
            }
        }
    }
    Ok(())
}

/// Downloads an archive of so many bytes and unpacks it into a new folder: at most `max_bytes`,
/// or without that what is plausible.
pub(crate) async fn download_folder(
    client: &Client,
    (digest, size_bytes): (&Digest, u64),
    folder: &Path,
    max_bytes: Option<u64>,
) -> Result<(), CliError> {
    let archive = tempfile::NamedTempFile::new().map_err(failed(folder))?;
    client.download(digest, archive.path()).await?;
    let most = max_bytes.unwrap_or_else(|| {
        PLAUSIBLE_RATIO
            .saturating_mul(size_bytes)
            .saturating_add(PLAUSIBLE_BYTES)
    });
    unpacked(archive.path(), folder, most)
}

/// What an archive of a folder may unpack to, unless its user allows more: so many times its
/// archive, and so many bytes.
const PLAUSIBLE_RATIO: u64 = 100;
const PLAUSIBLE_BYTES: u64 = 1 << 30;

/// Where the content of a folder is put together that is there only with all of it: a folder
/// `whole` beside it, which goes with what is returned.
pub(crate) fn beside(folder: &Path) -> io::Result<(tempfile::TempDir, PathBuf)> {
    if folder.exists() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let above = folder.parent().filter(|above| *above != Path::new(""));
    let above = above.unwrap_or_else(|| Path::new("."));
    let part = tempfile::Builder::new()
        .prefix(".unpacked-")
        .tempdir_in(above)?;
    let whole = part.path().join("whole");
    std::fs::create_dir(&whole)?;
    Ok((part, whole))
}

/// Unpacks an archive into a folder that is made for it, and is there only with all of it;
/// files of at most `most` bytes together. Nothing that the archive says of itself is trusted.
fn unpacked(archive: &Path, folder: &Path, most: u64) -> Result<(), CliError> {
    let unpack = || {
        let (_part, whole) = beside(folder)?;
        let mut left = most;
        archive::unpack(File::open(archive)?, |path, content| {
            let place = whole.join(path);
            if let Some(above) = place.parent() {
                std::fs::create_dir_all(above)?;
            }
            let mut file = File::create_new(place)?;
            let written = io::copy(&mut content.take(left.saturating_add(1)), &mut file)?;
            left = left.checked_sub(written).ok_or_else(|| {
                let what = format!("it has more than {most} bytes; `--max-bytes` allows more");
                io::Error::other(what)
            })?;
            Ok(())
        })?;
        std::fs::rename(&whole, folder)
    };
    unpack().map_err(failed(folder))
}

fn failed(folder: &Path) -> impl FnOnce(io::Error) -> CliError {
    let path = folder.to_owned();
    |source| CliError::File {
        path,
        verb: "unpacked",
        source,
    }
}

/// The name of a model as that of a file in this folder.
fn file_name(model: &ModelView) -> String {
    let ending = match model.slot {
        Some(_) if model.framework == "folder" => ".zip",
        Some(_) => ".safetensors",
        None => "",
    };
    let name = model.name.replace(['/', '\\', '\0'], "_");
    format!("{name}-{}{ending}", model.id)
}

const HEADER: [&str; 7] = [
    "ID",
    "NAME",
    "ITERATION",
    "SIZE",
    "TASK",
    "TASK ID",
    "CREATED",
];

fn show(model: &ModelView, output: &Output) {
    let text = |value: Option<String>| value.unwrap_or_default();
    let pairs = |pairs: Vec<String>| pairs.join(", ");
    let labels = model
        .labels
        .iter()
        .map(|(name, number)| format!("{name}={number}"));
    let metadata = model
        .metadata
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    let fields = [
        ("id", model.id.to_string()),
        ("name", model.name.clone()),
        ("task", text(model.task.as_ref().map(ToString::to_string))),
        ("project", text(model.project.clone())),
        ("framework", model.framework.clone()),
        ("iteration", model.iteration.to_string()),
        ("parent", text(model.parent.map(|id| id.to_string()))),
        (
            "sha256",
            text(model.sha256.map(|digest| digest.to_string())),
        ),
        ("uri", text(model.uri.clone())),
        ("size", size(model.size_bytes)),
        ("tags", pairs(model.tags.clone())),
        ("system tags", pairs(model.system_tags.clone())),
        ("labels", pairs(labels.collect())),
        ("metadata", pairs(metadata.collect())),
        ("comment", model.comment.clone()),
        ("published", text(model.published.map(time))),
        ("created", time(model.created)),
    ];
    let rows = fields.map(|(name, value)| vec![name.to_owned(), value]);
    output.list(model, &["FIELD", "VALUE"], rows.to_vec());
}

fn row(model: &ModelView) -> Vec<String> {
    vec![
        model.id.to_string(),
        model.name.clone(),
        model.iteration.to_string(),
        size(model.size_bytes),
        model.task_name.clone().unwrap_or_else(|| "-".to_owned()),
        model
            .task
            .as_ref()
            .map_or_else(|| "-".to_owned(), ToString::to_string),
        time(model.created),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_unpacks_to_more_than_it_may_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("bomb.zip");
        let zeros = vec![0; 1 << 20];
        let open = |_: &str| Ok((&*zeros, zeros.len() as u64));
        archive::pack(["a", "b"], open, File::create_new(&archive).unwrap()).unwrap();
        assert!(archive.metadata().unwrap().len() < 10_000);

        let place = folder.path().join("unpacked");
        let refused = unpacked(&archive, &place, (2 << 20) - 1).unwrap_err();
        let causes = trainshed_core::error::with_causes(&refused);
        assert!(causes.contains("more than 2097151 bytes"), "{causes}");
        assert!(causes.contains("--max-bytes"), "{causes}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

        unpacked(&archive, &place, 2 << 20).unwrap();
        assert_eq!(place.join("b").metadata().unwrap().len(), 1 << 20);
    }
}
