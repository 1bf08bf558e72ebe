//! Parameters and user properties of tasks.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use sqlx::{Any, AnyConnection, AssertSqlSafe, Transaction};
use trainshed_core::autolog::Autolog;
use trainshed_core::parameter::{MAX_PARAMETERS, PROPERTIES, Parameter, overridden};
use trainshed_core::{TaskId, Timestamp};

use crate::batch::Batch;
use crate::change::{ChangeError, ChangeRules, change_error, find, find_editable, touch};
use crate::database::Store;
use crate::error::StoreError;
use crate::file::bigint;
use crate::lease::{LeaseError, hold_lease, lease_error};
use crate::points::placeholders;
use crate::workspace::Workspace;

/// Rows of one statement.
const ROWS: usize = 32;

/// Whether written parameters take the place of the former ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// Those that are not written are removed.
    Replace,
    /// Those that are not written stay.
    Merge,
}

#[derive(sqlx::FromRow)]
struct ParameterRow {
    section: String,
    name: String,
    r#type: String,
    value: String,
    description: String,
}

impl Store {
    /// The parameters of a task, by section and name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn parameters(
        &self,
        workspace: &Workspace,
        id: &TaskId,
    ) -> Result<Vec<Parameter>, StoreError> {
        let mut all = self.parameters_and_properties(workspace, id).await?;
        all.retain(|parameter| parameter.section != PROPERTIES);
        Ok(all)
    }

    /// The user properties of a task, by name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn properties(
        &self,
        workspace: &Workspace,
        id: &TaskId,
    ) -> Result<Vec<Parameter>, StoreError> {
        let mut all = self.parameters_and_properties(workspace, id).await?;
        all.retain(|parameter| parameter.section == PROPERTIES);
        Ok(all)
    }

    async fn parameters_and_properties(
        &self,
        workspace: &Workspace,
        id: &TaskId,
    ) -> Result<Vec<Parameter>, StoreError> {
        let action = "read parameters";
        let connection = self.reader.acquire().await;
        let mut connection = connection.map_err(StoreError::database(action))?;
        let read = read_parameters(&mut connection, workspace, id).await;
        read.map_err(StoreError::database(action))
    }

    /// Writes parameters of a draft, or with `force` of a task that waits or runs. Those of
    /// the section `General` are what its plugin will be given.
    ///
    /// # Errors
    /// When the task cannot be edited, or would have too many parameters.
    pub async fn set_parameters(
        &self,
        workspace: &Workspace,
        id: &TaskId,
        parameters: &[Parameter],
        mode: WriteMode,
        rules: impl Into<ChangeRules<'_>> + Send,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        let action = "write parameters";
        let mut transaction = self.begin(action).await?;
        find_editable(
            &mut transaction,
            workspace,
            id,
            "the parameters",
            rules.into(),
        )
        .await?;
        if mode == WriteMode::Replace {
            sqlx::query(
                "delete from parameter where workspace = $1 and task = $2 and section <> $3",
            )
            .bind(workspace.as_str())
            .bind(id.as_str())
            .bind(PROPERTIES)
            .execute(&mut *transaction)
            .await
            .map_err(change_error(action))?;
        }
        merge_within(&mut transaction, workspace, id, parameters, now).await?;
        transaction.commit().await.map_err(change_error(action))
    }

    /// Removes parameters of a draft, given as section and name; returns how many there were.
    ///
    /// # Errors
    /// When the task cannot be edited.
    pub async fn delete_parameters(
        &self,
        workspace: &Workspace,
        id: &TaskId,
        names: &[(String, String)],
        rules: impl Into<ChangeRules<'_>> + Send,
        now: Timestamp,
    ) -> Result<u64, ChangeError> {
        let action = "remove parameters";
        let mut transaction = self.begin(action).await?;
        find_editable(
            &mut transaction,
            workspace,
            id,
            "the parameters",
            rules.into(),
        )
        .await?;
        let deleted = delete_named(&mut transaction, workspace, id, names).await?;
        override_settings(&mut transaction, workspace, id).await?;
        touch(&mut transaction, workspace, id, now).await?;
        transaction.commit().await.map_err(change_error(action))?;
        Ok(deleted)
    }

    /// Records those of `parameters` that a leased task does not have yet; returns those that
    /// it has, as they are.
    ///
    /// # Errors
    /// When the lease is over, or the task would have too many parameters.
    pub async fn connect_parameters(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        fence: i64,
        parameters: &[Parameter],
        lease_until: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<Parameter>, LeaseError> {
        let action = "connect parameters";
        let mut transaction = self.begin(action).await.map_err(LeaseError::Store)?;
        hold_lease(&mut transaction, workspace, task, fence, lease_until).await?;
        let stored = read_parameters(&mut transaction, workspace, task).await;
        let mut stored = stored.map_err(lease_error(action))?;
        let place = |parameter: &Parameter| (parameter.section.clone(), parameter.name.clone());
        let wanted: BTreeSet<_> = parameters.iter().map(place).collect();
        stored.retain(|parameter| wanted.contains(&place(parameter)));
        let known: BTreeSet<_> = stored.iter().map(place).collect();
        let missing = parameters.iter().filter(|one| !known.contains(&place(one)));
        let missing: Vec<Parameter> = missing.cloned().collect();
        if missing.is_empty() {
            return Ok(stored);
        }
        let mut batch = Batch::default();
        write_parameters(&mut batch, workspace, task, &missing);
        let written = batch.run(&mut transaction).await;
        written.map_err(lease_error(action))?;
        let change = |error| match error {
            ChangeError::Store(error) => LeaseError::Store(error),
            other => LeaseError::Invalid(other.to_string()),
        };
        check_count(&mut transaction, workspace, task, false)
            .await
            .map_err(change)?;
        touch(&mut transaction, workspace, task, now)
            .await
            .map_err(change)?;
        transaction.commit().await.map_err(lease_error(action))?;
        Ok(stored)
    }

    /// Writes user properties, whatever the state of the task.
    ///
    /// # Errors
    /// When there is no such task, or it would have too many properties.
    pub async fn set_properties(
        &self,
        workspace: &Workspace,
        id: &TaskId,
        properties: &[Parameter],
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        let action = "write properties";
        let mut transaction = self.begin(action).await?;
        find(&mut transaction, workspace, id).await?;
        let mut batch = Batch::default();
        write_parameters(&mut batch, workspace, id, properties);
        let written = batch.run(&mut transaction).await;
        written.map_err(change_error(action))?;
        check_count(&mut transaction, workspace, id, true).await?;
        touch(&mut transaction, workspace, id, now).await?;
        transaction.commit().await.map_err(change_error(action))
    }

    /// Removes a user property, whatever the state of the task; returns whether it was there.
    ///
    /// # Errors
    /// When there is no such task.
    pub async fn delete_property(
        &self,
        workspace: &Workspace,
        id: &TaskId,
        name: &str,
        now: Timestamp,
    ) -> Result<bool, ChangeError> {
        let action = "remove a property";
        let mut transaction = self.begin(action).await?;
        find(&mut transaction, workspace, id).await?;
        let named = [(PROPERTIES.to_owned(), name.to_owned())];
        let deleted = delete_named(&mut transaction, workspace, id, &named).await?;
        touch(&mut transaction, workspace, id, now).await?;
        transaction.commit().await.map_err(change_error(action))?;
        Ok(deleted > 0)
    }
}

/// Writes parameters of a task that may be edited beside those that it has, and what its plugin
/// will be given.
pub(crate) async fn merge_within(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    id: &TaskId,
    parameters: &[Parameter],
    now: Timestamp,
) -> Result<(), ChangeError> {
    let mut batch = Batch::default();
    write_parameters(&mut batch, workspace, id, parameters);
    let written = batch.run(transaction).await;
    written.map_err(change_error("write parameters"))?;
    check_count(transaction, workspace, id, false).await?;
    override_settings(transaction, workspace, id).await?;
    touch(transaction, workspace, id, now).await
}

/// Parameters and properties of a task, by section and name.
pub(crate) async fn read_parameters(
    connection: &mut AnyConnection,
    workspace: &Workspace,
    task: &TaskId,
) -> Result<Vec<Parameter>, sqlx::Error> {
    let rows: Vec<ParameterRow> = sqlx::query_as(
        "select section, name, type, value, description from parameter
          where workspace = $1 and task = $2 order by section, name",
    )
    .bind(workspace.as_str())
    .bind(task.as_str())
    .fetch_all(connection)
    .await?;
    // The databases order letters differently.
    let mut parameters: Vec<Parameter> = rows.into_iter().map(Parameter::from).collect();
    parameters.sort_by(|a, b| (&a.section, &a.name).cmp(&(&b.section, &b.name)));
    Ok(parameters)
}

/// Writes parameters or properties; those of the same section and name are replaced.
pub(crate) fn write_parameters(
    batch: &mut Batch,
    workspace: &Workspace,
    task: &TaskId,
    parameters: &[Parameter],
) {
    // One statement may not write a row twice; the last of a name counts.
    let named = parameters
        .iter()
        .map(|parameter| ((&parameter.section, &parameter.name), parameter));
    let all: Vec<&Parameter> = BTreeMap::from_iter(named).into_values().collect();
    for parameters in all.chunks(ROWS) {
        let statement = format!(
            "insert into parameter (workspace, task, section, name, type, value, description)
             values {}
             on conflict (workspace, task, section, name) do update
                set type = excluded.type, value = excluded.value,
                    description = excluded.description",
            placeholders(parameters.len(), 7)
        );
        let mut insert = sqlx::query(AssertSqlSafe(statement));
        for parameter in parameters {
            insert = insert
                .bind(workspace.as_str())
                .bind(task.as_str())
                .bind(&parameter.section)
                .bind(&parameter.name)
                .bind(&parameter.kind)
                .bind(parameter.stored_value())
                .bind(&parameter.description);
        }
        batch.add(insert);
    }
}

async fn delete_named(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    task: &TaskId,
    names: &[(String, String)],
) -> Result<u64, ChangeError> {
    let mut deleted = 0;
    for (section, name) in names {
        let gone = sqlx::query(
            "delete from parameter
              where workspace = $1 and task = $2 and section = $3 and name = $4",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .bind(section)
        .bind(name)
        .execute(&mut **transaction)
        .await
        .map_err(change_error("remove parameters"))?;
        deleted += gone.rows_affected();
    }
    Ok(deleted)
}

/// Refuses the parameter, or the property, that is one too many.
async fn check_count(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    task: &TaskId,
    properties: bool,
) -> Result<(), ChangeError> {
    let (of_properties, all): (i64, i64) = sqlx::query_as(
        "select count(case when section = $1 then 1 end), count(*) from parameter
          where workspace = $2 and task = $3",
    )
    .bind(PROPERTIES)
    .bind(workspace.as_str())
    .bind(task.as_str())
    .fetch_one(&mut **transaction)
    .await
    .map_err(change_error("count parameters"))?;
    let (what, count) = if properties {
        ("properties", of_properties)
    } else {
        ("parameters", all - of_properties)
    };
    if count <= bigint(MAX_PARAMETERS as u64) {
        return Ok(());
    }
    Err(ChangeError::TooMany(format!(
        "a task has at most {MAX_PARAMETERS} {what}, but it would have {count}"
    )))
}

/// Brings what the plugin of a task will be given up to date with its parameters.
async fn override_settings(
    transaction: &mut Transaction<'static, Any>,
    workspace: &Workspace,
    task: &TaskId,
) -> Result<(), ChangeError> {
    let action = "override the settings of a task";
    let (work, params, settings): (String, String, String) = sqlx::query_as(
        "select action, params, settings from task where workspace = $1 and id = $2",
    )
    .bind(workspace.as_str())
    .bind(task.as_str())
    .fetch_one(&mut **transaction)
    .await
    .map_err(change_error(action))?;
    if work.is_empty() {
        return Ok(());
    }
    let parse = |text: &str| -> Result<Map<String, Value>, ChangeError> {
        serde_json::from_str(text)
            .map_err(|error| ChangeError::Store(StoreError::damaged(action)(error)))
    };
    let (before, mut params) = (parse(&settings)?, parse(&params)?);
    let parameters = read_parameters(transaction, workspace, task).await;
    let parameters = parameters.map_err(change_error(action))?;
    let after = overridden(&before, &Autolog::of(&params), &parameters);
    if after == before {
        return Ok(());
    }
    params.remove("hyperparameters");
    let field = settings_field(&work);
    params.insert(field.to_owned(), Value::Object(after.clone()));
    sqlx::query("update task set params = $1, settings = $2 where workspace = $3 and id = $4")
        .bind(Value::Object(params).to_string())
        .bind(Value::Object(after).to_string())
        .bind(workspace.as_str())
        .bind(task.as_str())
        .execute(&mut **transaction)
        .await
        .map_err(change_error(action))?;
    Ok(())
}

/// The field of an action's `params` that holds the plugin's own settings.
fn settings_field(action: &str) -> &'static str {
    match action {
        "preprocess" => "parameters",
        _ => "hyperparameter",
    }
}

impl From<ParameterRow> for Parameter {
    fn from(row: ParameterRow) -> Self {
        Self {
            value: Self::value_of(&row.r#type, row.value),
            section: row.section,
            name: row.name,
            kind: row.r#type,
            description: row.description,
        }
    }
}
