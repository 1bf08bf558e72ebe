//! Configuration objects of tasks: named contents that nobody interprets.

use trainshed_core::view::ConfigurationView;
use trainshed_core::{TaskId, Timestamp};

use crate::batch::Batch;
use crate::change::{ChangeError, ChangeRules, change_error, find_editable, touch};
use crate::database::Store;
use crate::error::StoreError;
use crate::file::{bigint, unsigned};
use crate::lease::{LeaseError, hold_lease, lease_error};
use crate::workspace::Workspace;

/// Most configuration objects of one task.
const MAX_CONFIGURATIONS: i64 = 1_000;

/// A configuration object to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewConfiguration {
    /// Unique in the task.
    pub name: String,
    /// What the content is, e.g. `yaml`.
    pub kind: String,
    /// For people.
    pub description: String,
    /// Kept byte for byte.
    pub content: Vec<u8>,
}

#[derive(sqlx::FromRow)]
struct ConfigurationRow {
    name: String,
    r#type: String,
    description: String,
    size_bytes: i64,
    last_update: i64,
}

impl Store {
    /// The configuration objects of a task by name, without their contents.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn configurations(
        &self,
        workspace: &Workspace,
        task: &TaskId,
    ) -> Result<Vec<ConfigurationView>, StoreError> {
        let rows: Vec<ConfigurationRow> = sqlx::query_as(
            "select name, type, description, cast(length(content) as bigint) as size_bytes, last_update
               from configuration where workspace = $1 and task = $2 order by name",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list configuration objects"))?;
        let mut views: Vec<_> = rows.into_iter().map(ConfigurationView::from).collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(views)
    }

    /// The content of a configuration object.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn configuration(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        name: &str,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let found: Option<(Vec<u8>,)> = sqlx::query_as(
            "select content from configuration where workspace = $1 and task = $2 and name = $3",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .bind(name)
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::database("read a configuration object"))?;
        Ok(found.map(|(content,)| content))
    }

    /// Writes a configuration object of a draft, or with `force` of a task that waits or runs.
    ///
    /// # Errors
    /// When the task cannot be edited, or would have too many.
    pub async fn put_configuration(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        configuration: &NewConfiguration,
        rules: impl Into<ChangeRules<'_>> + Send,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        let action = "write a configuration object";
        let mut transaction = self.begin(action).await?;
        find_editable(
            &mut transaction,
            workspace,
            task,
            "the configuration",
            rules.into(),
        )
        .await?;
        let mut batch = Batch::default();
        write_configuration(&mut batch, workspace, task, configuration, now);
        let written = batch.run(&mut transaction).await;
        written.map_err(change_error(action))?;
        let (count,): (i64,) =
            sqlx::query_as("select count(*) from configuration where workspace = $1 and task = $2")
                .bind(workspace.as_str())
                .bind(task.as_str())
                .fetch_one(&mut *transaction)
                .await
                .map_err(change_error(action))?;
        if count > MAX_CONFIGURATIONS {
            return Err(ChangeError::TooMany(format!(
                "a task has at most {MAX_CONFIGURATIONS} configuration objects"
            )));
        }
        touch(&mut transaction, workspace, task, now).await?;
        transaction.commit().await.map_err(change_error(action))
    }

    /// Records a configuration object of a leased task, unless it has one of the name; returns
    /// the content that the task has then.
    ///
    /// # Errors
    /// When the lease is over, or the task would have too many.
    pub async fn connect_configuration(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        fence: i64,
        configuration: &NewConfiguration,
        lease_until: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<u8>, LeaseError> {
        let action = "connect a configuration object";
        let mut transaction = self.begin(action).await.map_err(LeaseError::Store)?;
        hold_lease(&mut transaction, workspace, task, fence, lease_until).await?;
        let stored: Vec<(String, Option<Vec<u8>>)> = sqlx::query_as(
            "select name, case when name = $1 then content end as content from configuration
              where workspace = $2 and task = $3",
        )
        .bind(&configuration.name)
        .bind(workspace.as_str())
        .bind(task.as_str())
        .fetch_all(&mut *transaction)
        .await
        .map_err(lease_error(action))?;
        let count = bigint(stored.len() as u64);
        let found = stored.into_iter().find_map(|(_, content)| content);
        if let Some(content) = found {
            return Ok(content);
        }
        if count >= MAX_CONFIGURATIONS {
            return Err(LeaseError::Invalid(format!(
                "a task has at most {MAX_CONFIGURATIONS} configuration objects"
            )));
        }
        let mut batch = Batch::default();
        write_configuration(&mut batch, workspace, task, configuration, now);
        let written = batch.run(&mut transaction).await;
        written.map_err(lease_error(action))?;
        transaction.commit().await.map_err(lease_error(action))?;
        Ok(configuration.content.clone())
    }

    /// Removes a configuration object; returns whether it was there.
    ///
    /// # Errors
    /// When the task cannot be edited.
    pub async fn delete_configuration(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        name: &str,
        rules: impl Into<ChangeRules<'_>> + Send,
        now: Timestamp,
    ) -> Result<bool, ChangeError> {
        let action = "remove a configuration object";
        let mut transaction = self.begin(action).await?;
        find_editable(
            &mut transaction,
            workspace,
            task,
            "the configuration",
            rules.into(),
        )
        .await?;
        let deleted = sqlx::query(
            "delete from configuration where workspace = $1 and task = $2 and name = $3",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .bind(name)
        .execute(&mut *transaction)
        .await
        .map_err(change_error(action))?;
        touch(&mut transaction, workspace, task, now).await?;
        transaction.commit().await.map_err(change_error(action))?;
        Ok(deleted.rows_affected() > 0)
    }
}

/// Writes a configuration object; one of the same name is replaced.
pub(crate) fn write_configuration(
    batch: &mut Batch,
    workspace: &Workspace,
    task: &TaskId,
    configuration: &NewConfiguration,
    now: Timestamp,
) {
    let insert = sqlx::query(
        "insert into configuration (workspace, task, name, type, description, content, last_update)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (workspace, task, name) do update
            set type = excluded.type, description = excluded.description,
                content = excluded.content, last_update = excluded.last_update",
    )
    .bind(workspace.as_str())
    .bind(task.as_str())
    .bind(&configuration.name)
    .bind(&configuration.kind)
    .bind(&configuration.description)
    .bind(configuration.content.clone())
    .bind(now.as_millis());
    batch.add(insert);
}

impl From<ConfigurationRow> for ConfigurationView {
    fn from(row: ConfigurationRow) -> Self {
        Self {
            name: row.name,
            kind: row.r#type,
            description: row.description,
            size_bytes: unsigned(row.size_bytes),
            last_update: Timestamp(row.last_update),
        }
    }
}
