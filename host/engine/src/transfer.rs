//! Tasks that move between servers, as archives.

use std::fs::File;
use std::io::{self, Seek as _};

use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use tokio::io::AsyncWriteExt as _;
use trainshed_core::TaskId;
use trainshed_core::address::Address;
use trainshed_core::query::{Entity, MAX_LIMIT, RequestError};
use trainshed_core::transfer::{ExportRequest, ImportedTasks};
use trainshed_store::{Part, PutError, QueryError, Staged, StoreError, TransferError, Workspace};

use crate::catalog::PushError;
use crate::engine::Engine;

/// Why tasks were not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportTasksError {
    /// The query cannot be read.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The query failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A task, or the archive.
    #[error(transparent)]
    Transfer(#[from] TransferError),
}

/// Where an archive that is imported goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddTo {
    /// The task that it is added to.
    pub task: TaskId,
    /// By how much its iterations are moved; when absent, behind the last one of the task.
    pub iteration_offset: Option<u64>,
}

impl Engine {
    /// Writes the tasks that were asked for, and all that they need, to an archive, which is
    /// gone with its last handle.
    ///
    /// # Errors
    /// When the query cannot be read, or a task is not there, waits or runs.
    pub async fn export_tasks(
        &self,
        workspace: &Workspace,
        request: &ExportRequest,
    ) -> Result<File, ExportTasksError> {
        let mut tasks = request.tasks.clone();
        if let Some(text) = &request.query {
            let query = self.read_query(Entity::Task, text, "query")?.query;
            let mut after: Option<String> = None;
            loop {
                let part = Part {
                    limit: MAX_LIMIT,
                    after: after.as_deref(),
                    ..Part::default()
                };
                let found = self
                    .store
                    .find(workspace, Entity::Task, &query, part)
                    .await?;
                tasks.extend(found.ids.iter().filter_map(|id| id.parse().ok()));
                after = found.next;
                if after.is_none() {
                    break;
                }
            }
        }
        let mut archive = self.scratch_file()?;
        let target = archive.try_clone().map_err(unwritten)?;
        let exported = self.store.export_tasks(
            workspace,
            &tasks,
            request.without_linked,
            target,
            self.now(),
        );
        Box::pin(exported).await?;
        archive.rewind().map_err(unwritten)?;
        Ok(archive)
    }

    /// Keeps an archive that comes in pieces, for [`Engine::import_tasks`].
    ///
    /// # Errors
    /// When it breaks off, is longer than an upload may be, or there is no room for it.
    pub async fn receive_archive(
        &self,
        content: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
    ) -> Result<File, TransferError> {
        let mut content = content;
        let limit = self.store.max_upload_bytes();
        let mut archive = tokio::fs::File::from_std(self.scratch_file()?);
        let mut received = 0_u64;
        let broken = |source| TransferError::Archive {
            verb: "read",
            source,
        };
        while let Some(piece) = content.try_next().await.map_err(broken)? {
            received = received.saturating_add(piece.len() as u64);
            if received > limit {
                return Err(TransferError::Put(PutError::TooLarge { limit }));
            }
            archive.write_all(&piece).await.map_err(unwritten)?;
        }
        archive.flush().await.map_err(unwritten)?;
        Ok(archive.into_std().await)
    }

    /// Takes in an archive of tasks: those that are not here yet, or with `add_to` its one task
    /// as a part of one that is here. All or nothing can be seen of it; what is here stays as
    /// it is.
    ///
    /// # Errors
    /// When the archive cannot be used, or the task may not change.
    pub async fn import_tasks(
        &self,
        workspace: &Workspace,
        archive: File,
        add_to: Option<&AddTo>,
    ) -> Result<ImportedTasks, TransferError> {
        let scratch = self.scratch();
        std::fs::create_dir_all(scratch).map_err(unwritten)?;
        let mut staged = Box::pin(Staged::open(archive, scratch)).await?;
        let imported = Box::pin(self.import_staged(workspace, &mut staged, add_to)).await;
        staged.close().await;
        let imported = imported?;
        for task in &imported.tasks {
            self.changes().task_changed(workspace.id(), task);
        }
        Ok(imported)
    }

    async fn import_staged(
        &self,
        workspace: &Workspace,
        staged: &mut Staged,
        add_to: Option<&AddTo>,
    ) -> Result<ImportedTasks, TransferError> {
        let now = self.now();
        let allows = |address: &Address| self.file_settings().allows(address);
        self.store
            .take_links(workspace, staged, allows, now)
            .await?;
        let (files, file_bytes) = self.store.take_contents(workspace, staged, now).await?;
        let mut done = match add_to {
            None => {
                let allows = |address: &str| self.check_destination(address).is_ok();
                self.store
                    .merge_tasks(workspace, staged, allows, now)
                    .await?
            }
            Some(to) => {
                let target = (&to.task, to.iteration_offset);
                self.store
                    .add_to_task(workspace, staged, target, now)
                    .await?
            }
        };
        (done.files, done.file_bytes) = (files, file_bytes);
        // Components are looked into here as any that is pushed.
        for component in staged.components() {
            match self.push_plugin(workspace, *component).await {
                Ok(_) => {
                    if let Some(source) = staged.source(component).await?
                        && self
                            .store
                            .plugin_source(workspace, component)
                            .await?
                            .is_none()
                    {
                        self.store
                            .set_plugin_source(workspace, component, &source)
                            .await?;
                    }
                }
                Err(PushError::Store(error)) => return Err(error.into()),
                Err(error) => done.notes.push(format!(
                    "the component {} is not installed: {error}",
                    component.short()
                )),
            }
        }
        Ok(done)
    }

    fn scratch_file(&self) -> Result<File, TransferError> {
        std::fs::create_dir_all(self.scratch()).map_err(unwritten)?;
        tempfile::tempfile_in(self.scratch()).map_err(unwritten)
    }
}

fn unwritten(source: io::Error) -> TransferError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            TransferError::Store(StoreError::Full {
                action: "keep an archive",
            })
        }
        _ => TransferError::Archive {
            verb: "written",
            source,
        },
    }
}
