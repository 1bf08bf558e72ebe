//! Writing the tasks of an archive among those that are here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::TryStreamExt as _;
use serde_json::{Map, Value, json};
use sqlx::{Any, AssertSqlSafe, Transaction};
use trainshed_core::Timestamp;
use trainshed_core::action::TUNE;
use trainshed_core::transfer::ImportedTasks;

use crate::database::{Kind, Store};
use crate::file::unsigned;
use crate::project::ensure_project;
use crate::rows::{Columns, columns, insert, insert_numbered, to_json};
use crate::transfer::closure::{Closure, Keys};
use crate::transfer::stage::{Staged, in_workspace, refused};
use crate::transfer::{Key, TABLES, TransferError, failed};
use crate::workspace::Workspace;

const ACTION: &str = "import tasks";

type Tx = Transaction<'static, Any>;
type Object = Map<String, Value>;

impl Store {
    /// Writes the tasks of an archive that are not here yet, all or none, with models and data
    /// sets that are not here yet. Its contents have been taken in before. A destination of
    /// files is kept where `allows` says so.
    ///
    /// # Errors
    /// When something of the archive cannot be here.
    pub async fn merge_tasks(
        &self,
        workspace: &Workspace,
        staged: &Staged,
        allows: impl Fn(&str) -> bool + Send + Sync,
        now: Timestamp,
    ) -> Result<ImportedTasks, TransferError> {
        let mut transaction = self.begin(ACTION).await?;
        let mut done = ImportedTasks::default();
        let mut fresh = BTreeSet::new();
        for task in &staged.tasks {
            let known: Option<(String,)> =
                sqlx::query_as("select id from task where workspace = $1 and id = $2")
                    .bind(workspace.as_str())
                    .bind(task.as_str())
                    .fetch_optional(&mut *transaction)
                    .await
                    .map_err(failed(ACTION))?;
            if known.is_some() {
                done.skipped.push(task.clone());
            } else {
                fresh.insert(task.as_str().to_owned());
                done.tasks.push(task.clone());
            }
        }
        if fresh.is_empty() {
            return Ok(done);
        }
        let mut merge = Merge::begin(self, workspace, staged, transaction, fresh, now).await?;
        merge.needs().await?;
        merge.tasks(&allows).await?;
        merge.rest().await?;
        let committed = merge.transaction.commit().await;
        committed.map_err(failed(ACTION))?;
        done.models = merge.ids.models();
        done.datasets = merge.ids.datasets();
        done.notes = merge.notes;
        Ok(done)
    }
}

/// What things are called here, by what they are called in the archive.
#[derive(Debug, Default)]
pub(super) struct Ids {
    projects: HashMap<String, String>,
    datasets: BTreeMap<i64, i64>,
    models: BTreeMap<i64, i64>,
}

impl Ids {
    pub(super) fn models(&self) -> BTreeMap<u64, u64> {
        numbers(&self.models)
    }

    pub(super) fn datasets(&self) -> BTreeMap<u64, u64> {
        numbers(&self.datasets)
    }

    /// The id here of the model with an id there.
    pub(super) fn model(&self, id: i64) -> Option<i64> {
        self.models.get(&id).copied()
    }

    /// Changes a row of a task to what it is here; `false` when it has no place here.
    fn fit(&self, table: &str, row: &mut Object) -> bool {
        match table {
            "task_model" => {
                let id = number(row, "model");
                let Some(here) = self.model(id) else {
                    return false;
                };
                if number(row, "position") == id {
                    row.insert("position".to_owned(), here.into());
                }
                row.insert("model".to_owned(), here.into());
            }
            "trial" => map(row, "model", &self.models),
            "trial_checkpoint" => {
                let Some(here) = self.model(number(row, "model")) else {
                    return false;
                };
                row.insert("model".to_owned(), here.into());
            }
            "experiment" => {
                row.insert("ready".to_owned(), 0.into());
            }
            "experiment_event" => {
                if let Ok(mut event) = serde_json::from_str(text(row, "event")) {
                    self.map_checkpoints(&mut event);
                    row.insert("event".to_owned(), event.to_string().into());
                }
            }
            "point_state" => {
                for name in ["summarized", "compacted", "deleted"] {
                    row.insert(name.to_owned(), 0.into());
                }
            }
            "chunk" => {
                row.remove("id");
            }
            _ => {}
        }
        true
    }

    /// The names of checkpoints in the log of an experiment begin with the ids of models.
    fn map_checkpoints(&self, event: &mut Value) {
        match event {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let named = value.as_str().and_then(|text| text.split_once('@'));
                    let here = named.and_then(|(id, _)| self.model(id.parse().ok()?));
                    match (name.as_str(), named, here) {
                        ("checkpoint", Some((_, sha256)), Some(here)) => {
                            *value = json!(format!("{here}@{sha256}"));
                        }
                        _ => self.map_checkpoints(value),
                    }
                }
            }
            Value::Array(values) => {
                for value in values {
                    self.map_checkpoints(value);
                }
            }
            _ => {}
        }
    }

    /// Changes the ids of a data set and of a model in a column of JSON to what they are here.
    fn map_json(&self, row: &mut Object, column: &str, (dataset, model): (&str, &str)) {
        let Ok(mut fields) = serde_json::from_str::<Object>(text(row, column)) else {
            return;
        };
        for (name, ids) in [(dataset, &self.datasets), (model, &self.models)] {
            let id = fields.get(name).and_then(Value::as_i64);
            if let Some(here) = id.and_then(|id| ids.get(&id)) {
                fields.insert(name.to_owned(), json!(here));
            }
        }
        if text(row, "action") == TUNE
            && let Some(Value::Array(trials)) = fields.get_mut("trial_models")
        {
            for trial in trials {
                let id = trial.get("model_id").and_then(Value::as_i64);
                if let Some(here) = id.and_then(|id| self.model(id)) {
                    trial["model_id"] = json!(here);
                }
            }
        }
        row.insert(column.to_owned(), Value::Object(fields).to_string().into());
    }

    fn in_project(&self, row: &mut Object) {
        let project = self.projects.get(text(row, "project"));
        row.insert("project".to_owned(), json!(project));
    }
}

/// Changes an id in a column to what it is here.
fn map(row: &mut Object, column: &str, ids: &BTreeMap<i64, i64>) {
    let id = row.get(column).and_then(Value::as_i64);
    let here = id.and_then(|id| ids.get(&id));
    row.insert(column.to_owned(), json!(here));
}

fn numbers(ids: &BTreeMap<i64, i64>) -> BTreeMap<u64, u64> {
    let ids = ids
        .iter()
        .map(|(there, here)| (unsigned(*there), unsigned(*here)));
    ids.collect()
}

/// A transaction that writes what an archive has.
pub(super) struct Merge<'a> {
    store: &'a Store,
    workspace: &'a Workspace,
    staged: &'a Staged,
    archive: sqlx::pool::PoolConnection<Any>,
    pub(super) transaction: Tx,
    /// What is taken out of the archive.
    closure: Closure,
    pub(super) ids: Ids,
    pub(super) notes: Vec<String>,
    now: Timestamp,
}

impl<'a> Merge<'a> {
    /// Looks for what the tasks `fresh` of an archive need.
    pub(super) async fn begin(
        store: &'a Store,
        workspace: &'a Workspace,
        staged: &'a Staged,
        transaction: Tx,
        fresh: BTreeSet<String>,
        now: Timestamp,
    ) -> Result<Self, TransferError> {
        let archive = staged.store.reader.acquire().await;
        let mut archive = archive.map_err(failed(ACTION))?;
        let closure = Closure::of(&mut archive, staged.workspace.as_str(), fresh).await;
        let closure = closure.map_err(failed(ACTION))?;
        Ok(Self {
            store,
            workspace,
            staged,
            archive,
            transaction,
            closure,
            ids: Ids::default(),
            notes: Vec::new(),
            now,
        })
    }

    /// Projects, versions of data sets and models, as far as they are not here.
    pub(super) async fn needs(&mut self) -> Result<(), TransferError> {
        for row in self.rows("project", "id", Key::Project).await? {
            self.project(row).await?;
        }
        // Ids grow, so that a parent comes before what came of it.
        let known = self.columns("dataset").await?;
        for row in by_id(self.rows("dataset", "id", Key::Dataset).await?) {
            self.dataset(row, &known).await?;
        }
        let known = self.columns("model").await?;
        for row in by_id(self.rows("model", "id", Key::Model).await?) {
            self.model(row, &known).await?;
        }
        Ok(())
    }

    async fn project(&mut self, row: Object) -> Result<(), TransferError> {
        let (id, path) = (text(&row, "id").to_owned(), text(&row, "path").to_owned());
        let known: Option<(String,)> =
            sqlx::query_as("select id from project where workspace = $1 and path = $2")
                .bind(self.workspace.as_str())
                .bind(&path)
                .fetch_optional(&mut *self.transaction)
                .await
                .map_err(failed(ACTION))?;
        if let Some((here,)) = known {
            self.ids.projects.insert(id, here);
            return Ok(());
        }
        let here = ensure_project(&mut self.transaction, self.workspace, &path, self.now).await;
        let here = here.map_err(failed(ACTION))?;
        sqlx::query(
            "update project set description = $1, tags = $2, system_tags = $3, retention = $4
              where workspace = $5 and id = $6",
        )
        .bind(text(&row, "description").to_owned())
        .bind(text(&row, "tags").to_owned())
        .bind(text(&row, "system_tags").to_owned())
        .bind(text(&row, "retention").to_owned())
        .bind(self.workspace.as_str())
        .bind(&here)
        .execute(&mut *self.transaction)
        .await
        .map_err(failed(ACTION))?;
        self.tags("project", &id, &here).await?;
        self.ids.projects.insert(id, here);
        Ok(())
    }

    /// A version of the same name and content is the same version. Another one keeps its
    /// number where that is free, and else gets the next.
    async fn dataset(&mut self, mut row: Object, known: &Columns) -> Result<(), TransferError> {
        let id = number(&row, "id");
        let name = text(&row, "name").to_owned();
        let same: Option<(i64,)> = sqlx::query_as(
            "select id from dataset
              where workspace = $1 and name = $2 and digest = $3 and state = 'visible'
              order by number limit 1",
        )
        .bind(self.workspace.as_str())
        .bind(&name)
        .bind(text(&row, "digest").to_owned())
        .fetch_optional(&mut *self.transaction)
        .await
        .map_err(failed(ACTION))?;
        if let Some((here,)) = same {
            self.ids.datasets.insert(id, here);
            return self.adopt_version(here, text(&row, "task")).await;
        }
        let versions: Vec<(String, i64, Option<String>)> = sqlx::query_as(
            "select uuid, number, task from dataset where workspace = $1 and name = $2",
        )
        .bind(self.workspace.as_str())
        .bind(&name)
        .fetch_all(&mut *self.transaction)
        .await
        .map_err(failed(ACTION))?;
        let asked = number(&row, "number");
        if let Some((uuid, ..)) = versions.first() {
            row.insert("uuid".to_owned(), uuid.as_str().into());
        }
        if versions.iter().any(|(_, number, _)| *number == asked) {
            let last = versions.iter().map(|(_, number, _)| *number).max();
            let next = last.unwrap_or(0) + 1;
            self.notes.push(format!(
                "version {asked} of the data set `{name}` has other content here: it is version {next}"
            ));
            row.insert("number".to_owned(), next.into());
        }
        if !self.closure.tasks.contains(text(&row, "task")) {
            row.insert("task".to_owned(), Value::Null);
        }
        row.insert("state".to_owned(), "visible".into());
        map(&mut row, "parent", &self.ids.datasets);
        self.ids.in_project(&mut row);
        row.remove("id");
        let here = self.insert_numbered("dataset", known, row).await?;
        self.ids.datasets.insert(id, here);
        let keys = Keys::Numbers(vec![id]);
        self.copy("dataset_file", "dataset", keys, ("dataset", here.into()))
            .await?;
        self.tags("dataset", &id.to_string(), &here.to_string())
            .await
    }

    async fn model(&mut self, mut row: Object, known: &Columns) -> Result<(), TransferError> {
        let id = number(&row, "id");
        let same: Option<(i64,)> =
            sqlx::query_as("select id from model where workspace = $1 and uuid = $2")
                .bind(self.workspace.as_str())
                .bind(text(&row, "uuid").to_owned())
                .fetch_optional(&mut *self.transaction)
                .await
                .map_err(failed(ACTION))?;
        if let Some((here,)) = same {
            self.ids.models.insert(id, here);
            return self.adopt_model(here, &row).await;
        }
        if !self.closure.tasks.contains(text(&row, "task")) {
            // What a task made that is not here belongs to none.
            row.insert("task".to_owned(), Value::Null);
            row.insert("slot".to_owned(), Value::Null);
        }
        row.insert("state".to_owned(), "visible".into());
        map(&mut row, "parent", &self.ids.models);
        self.ids.in_project(&mut row);
        row.remove("id");
        let here = self.insert_numbered("model", known, row).await?;
        self.ids.models.insert(id, here);
        let keys = Keys::Numbers(vec![id]);
        self.copy("model_metadata", "model", keys, ("model", here.into()))
            .await?;
        self.tags("model", &id.to_string(), &here.to_string()).await
    }

    /// A version that came without the task that made it is that task's as soon as it is here.
    async fn adopt_version(&mut self, here: i64, task: &str) -> Result<(), TransferError> {
        if !self.closure.tasks.contains(task) {
            return Ok(());
        }
        sqlx::query(
            "update dataset set task = $1 where workspace = $2 and id = $3 and task is null
                and not exists (select 1 from dataset as other
                                 where other.workspace = $2 and other.task = $1)",
        )
        .bind(task.to_owned())
        .bind(self.workspace.as_str())
        .bind(here)
        .execute(&mut *self.transaction)
        .await
        .map_err(failed(ACTION))?;
        Ok(())
    }

    /// The same of a model.
    async fn adopt_model(&mut self, here: i64, row: &Object) -> Result<(), TransferError> {
        let task = text(row, "task");
        if !self.closure.tasks.contains(task) {
            return Ok(());
        }
        sqlx::query(
            "update model set task = $1, slot = $2
              where workspace = $3 and id = $4 and task is null",
        )
        .bind(task.to_owned())
        .bind(row.get("slot").and_then(Value::as_str).map(str::to_owned))
        .bind(self.workspace.as_str())
        .bind(here)
        .execute(&mut *self.transaction)
        .await
        .map_err(failed(ACTION))?;
        Ok(())
    }

    async fn tasks(
        &mut self,
        allows: &(impl Fn(&str) -> bool + Sync),
    ) -> Result<(), TransferError> {
        let known = self.columns("task").await?;
        for mut row in self.rows("task", "id", Key::Task).await? {
            let id = text(&row, "id").to_owned();
            let destination = text(&row, "output_destination");
            if !destination.is_empty() && !allows(destination) {
                self.notes.push(format!(
                    "the task {id} had its files at `{}`, where this server may not write",
                    destination.escape_debug()
                ));
                row.insert("output_destination".to_owned(), Value::Null);
            }
            map(&mut row, "dataset", &self.ids.datasets);
            map(&mut row, "checkpoint", &self.ids.models);
            for (column, dataset, model) in [
                ("params", "dataset", "checkpoint"),
                ("result", "dataset_id", "model_id"),
            ] {
                self.ids.map_json(&mut row, column, (dataset, model));
            }
            self.ids.in_project(&mut row);
            for name in [
                "queue",
                "agent",
                "lease_until",
                "stop_requested",
                "stop_reason",
            ] {
                row.insert(name.to_owned(), Value::Null);
            }
            row.insert("ended_fence".to_owned(), Value::Null);
            self.insert("task", &known, row).await?;
            self.tags("task", &id, &id).await?;
        }
        Ok(())
    }

    /// What belongs to tasks.
    async fn rest(&mut self) -> Result<(), TransferError> {
        for (table, column, key) in TABLES {
            let is_of_task = matches!(key, Key::Task | Key::Experiment) && table != "task";
            // All points are in chunks by now.
            if !is_of_task || table == "point_log" {
                continue;
            }
            let known = self.columns(table).await?;
            let there = self.columns_there(table).await?;
            for keys in self.closure.keys(key) {
                let statement = keys.statement(table, column);
                let query = sqlx::query(AssertSqlSafe(statement));
                let query = keys.bind(query.bind(self.staged.workspace.as_str().to_owned()));
                let mut found = query.fetch(&mut *self.archive);
                while let Some(row) = found.try_next().await.map_err(failed(ACTION))? {
                    let mut row = to_json(&row, &there).map_err(failed(ACTION))?;
                    if self.ids.fit(table, &mut row) {
                        let row = in_workspace(row, self.workspace);
                        let inserted = insert(&mut self.transaction, table, &known, &row).await;
                        inserted.map_err(|error| refused(table, error))?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn tags(&mut self, kind: &str, there: &str, here: &str) -> Result<(), TransferError> {
        let keys = Keys::Texts(vec![there.to_owned()]);
        let known = self.columns("tag").await?;
        for mut row in self.found("tag", "owner", keys).await? {
            if text(&row, "kind") == kind {
                row.insert("owner".to_owned(), here.into());
                self.insert("tag", &known, row).await?;
            }
        }
        Ok(())
    }

    /// Copies rows, with another value in one column.
    async fn copy(
        &mut self,
        table: &'static str,
        column: &str,
        keys: Keys,
        (changed, value): (&str, Value),
    ) -> Result<(), TransferError> {
        let known = self.columns(table).await?;
        for mut row in self.found(table, column, keys).await? {
            row.insert(changed.to_owned(), value.clone());
            self.insert(table, &known, row).await?;
        }
        Ok(())
    }

    async fn rows(
        &mut self,
        table: &'static str,
        column: &str,
        key: Key,
    ) -> Result<Vec<Object>, TransferError> {
        let mut all = Vec::new();
        for keys in self.closure.keys(key) {
            all.extend(self.found(table, column, keys).await?);
        }
        Ok(all)
    }

    /// The rows of the archive that a statement of their keys finds.
    async fn found(
        &mut self,
        table: &'static str,
        column: &str,
        keys: Keys,
    ) -> Result<Vec<Object>, TransferError> {
        let there = self.columns_there(table).await?;
        let statement = keys.statement(table, column);
        let query = sqlx::query(AssertSqlSafe(statement));
        let query = keys.bind(query.bind(self.staged.workspace.as_str().to_owned()));
        let rows = query.fetch_all(&mut *self.archive).await;
        let rows = rows.map_err(failed(ACTION))?;
        let rows: Result<Vec<Object>, sqlx::Error> =
            rows.iter().map(|row| to_json(row, &there)).collect();
        rows.map_err(failed(ACTION))
    }

    async fn columns_there(&mut self, table: &'static str) -> Result<Columns, TransferError> {
        let found = columns(&mut self.archive, Kind::Sqlite, table).await;
        found.map_err(failed(ACTION))
    }

    async fn columns(&mut self, table: &'static str) -> Result<Columns, TransferError> {
        let found = columns(&mut self.transaction, self.store.kind, table).await;
        found.map_err(failed(ACTION))
    }

    async fn insert(
        &mut self,
        table: &str,
        known: &Columns,
        row: Object,
    ) -> Result<(), TransferError> {
        let row = in_workspace(row, self.workspace);
        let inserted = insert(&mut self.transaction, table, known, &row).await;
        inserted.map_err(|error| refused(table, error))
    }

    async fn insert_numbered(
        &mut self,
        table: &str,
        known: &Columns,
        row: Object,
    ) -> Result<i64, TransferError> {
        let row = in_workspace(row, self.workspace);
        let inserted = insert_numbered(&mut self.transaction, table, known, &row).await;
        inserted.map_err(|error| refused(table, error))
    }
}

/// A text of a row; empty where there is none.
pub(super) fn text<'a>(row: &'a Object, column: &str) -> &'a str {
    row.get(column).and_then(Value::as_str).unwrap_or_default()
}

/// A number of a row; 0 where there is none.
pub(super) fn number(row: &Object, column: &str) -> i64 {
    row.get(column).and_then(Value::as_i64).unwrap_or_default()
}

fn by_id(mut rows: Vec<Object>) -> Vec<Object> {
    rows.sort_by_key(|row| number(row, "id"));
    rows
}
