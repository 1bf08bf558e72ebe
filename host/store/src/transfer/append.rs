//! Adding what an archive has to a task that is here: a run that was made elsewhere goes on
//! where the task ended.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt as _;
use serde_json::{Map, Value, json};
use sqlx::{Any, AssertSqlSafe, Transaction};
use trainshed_core::resource::is_of_the_machine;
use trainshed_core::task::TaskState;
use trainshed_core::transfer::ImportedTasks;
use trainshed_core::{TaskId, Timestamp};
use trainshed_series::{FrameBuilder, MAX_STEP};

use crate::database::{Kind, Store};
use crate::error::StoreError;
use crate::file::{bigint, unsigned};
use crate::points::{MAX_SERIES, TaskKey};
use crate::rows::{columns, insert_missing, to_json};
use crate::transfer::archive::invalid;
use crate::transfer::merge::{Merge, number, text};
use crate::transfer::stage::{Staged, in_workspace, refused};
use crate::transfer::{TransferError, failed};
use crate::workspace::Workspace;

const ACTION: &str = "add to a task";
/// Points of one row of the log.
const POINTS: usize = 50_000;
/// The runtime property that lists what was added to a task.
const ADDED: &str = "imported";

/// What is copied as it is where there is nothing yet.
const BESIDE: [&str; 6] = [
    "single",
    "parameter",
    "configuration",
    "plot",
    "sample",
    "trial_report",
];

type Tx = Transaction<'static, Any>;

/// By how much iterations are moved: those of the task, and those of its machine, which are
/// seconds.
#[derive(Debug, Clone, Copy)]
struct Offsets {
    task: u64,
    machine: u64,
}

impl Offsets {
    fn of(self, title: &str) -> u64 {
        if is_of_the_machine(title) {
            self.machine
        } else {
            self.task
        }
    }
}

impl Store {
    /// Adds what the one task of an archive reported and made to the task `target`, with
    /// `offset` added to every iteration, by default as many as it takes to go on behind the
    /// last one. Nothing is overwritten: where the task has a value, a parameter or a
    /// configuration of the same name, that one stays; artifacts of the same name become new
    /// versions. All or nothing is added, and the same archive only once.
    ///
    /// # Errors
    /// When the archive has not one task, the task may not change, or iterations would fall on
    /// those that it has.
    pub async fn add_to_task(
        &self,
        workspace: &Workspace,
        staged: &Staged,
        (target, offset): (&TaskId, Option<u64>),
        now: Timestamp,
    ) -> Result<ImportedTasks, TransferError> {
        let [source] = staged.tasks.as_slice() else {
            return Err(TransferError::NotOne(staged.tasks.len()));
        };
        if self.task(workspace, target).await?.is_none() {
            return Err(TransferError::Unknown(target.clone()));
        }
        // So that the chunks tell how far its iterations go.
        self.compact_points(workspace, target).await?;
        let mut transaction = self.begin(ACTION).await?;
        let mut runtime = check_target(&mut transaction, workspace, target).await?;
        let mut done = ImportedTasks::default();
        let added = runtime.entry(ADDED).or_insert_with(|| json!([]));
        let is_known = added
            .as_array()
            .is_some_and(|added| added.iter().any(|id| id.as_str() == Some(source.as_str())));
        if is_known || source == target {
            done.skipped.push(source.clone());
            return Ok(done);
        }
        match added.as_array_mut() {
            Some(added) => added.push(source.as_str().into()),
            None => *added = json!([source.as_str()]),
        }
        let offsets = offsets(&mut transaction, (workspace, target), staged, offset).await?;
        let fresh = BTreeSet::from([source.as_str().to_owned()]);
        let mut merge = Merge::begin(self, workspace, staged, transaction, fresh, now).await?;
        merge.needs().await?;
        let (mut transaction, ids) = (merge.transaction, merge.ids);
        let mut adding = Adding {
            store: self,
            workspace,
            staged,
            source,
            target,
            offsets,
            transaction: &mut transaction,
            now,
        };
        let (points, bytes, curves) = adding.points().await?;
        adding.console().await?;
        for table in BESIDE {
            adding.beside(table).await?;
        }
        adding.artifacts().await?;
        for there in ids.models().keys() {
            if let Some(here) = ids.model(bigint(*there)) {
                adding.model(here).await?;
            }
        }
        adding.links(|id| ids.model(id)).await?;
        adding.end(&runtime).await?;
        transaction.commit().await.map_err(failed(ACTION))?;
        if points > 0 {
            let key = TaskKey::new(workspace, target);
            self.ingest.shared.logged(&key, points, bytes, curves);
        }
        done.tasks.push(target.clone());
        (done.models, done.datasets) = (ids.models(), ids.datasets());
        done.notes = merge.notes;
        let moved = offsets.task;
        done.notes.push(format!("iterations are moved by {moved}"));
        Ok(done)
    }
}

/// The runtime properties of a task that may be added to.
async fn check_target(
    transaction: &mut Tx,
    workspace: &Workspace,
    target: &TaskId,
) -> Result<Map<String, Value>, TransferError> {
    let row: Option<(String, String)> =
        sqlx::query_as("select state, runtime from task where workspace = $1 and id = $2")
            .bind(workspace.as_str())
            .bind(target.as_str())
            .fetch_optional(&mut **transaction)
            .await
            .map_err(failed(ACTION))?;
    let (state, runtime) = row.ok_or_else(|| TransferError::Unknown(target.clone()))?;
    match TaskState::parse(&state) {
        Some(TaskState::Published) => return Err(TransferError::Published(target.clone())),
        Some(state @ (TaskState::Queued | TaskState::InProgress)) => {
            return Err(TransferError::Busy {
                task: target.clone(),
                state,
            });
        }
        _ => {}
    }
    let runtime = serde_json::from_str(&runtime).map_err(StoreError::damaged(ACTION))?;
    Ok(runtime)
}

/// The first or last of the iterations of what a task shows: `select` finds it with the
/// workspace and the task as its values.
async fn edge(
    connection: &mut sqlx::AnyConnection,
    (workspace, task): (&Workspace, &TaskId),
    select: &'static str,
) -> Result<Option<u64>, TransferError> {
    let (found,): (Option<i64>,) = sqlx::query_as(select)
        .bind(workspace.as_str())
        .bind(task.as_str())
        .fetch_one(connection)
        .await
        .map_err(failed(ACTION))?;
    Ok(found.map(unsigned))
}

const FIRST: &str = "select min(first) from (
    select min(first_step) as first from chunk
     where workspace = $1 and task = $2 and substr(title, 1, 9) <> ':monitor:'
    union all select min(iteration) from plot where workspace = $1 and task = $2
    union all select min(position) from sample where workspace = $1 and task = $2) as firsts";
const LAST: &str = "select max(last) from (
    select max(last_step) as last from chunk
     where workspace = $1 and task = $2 and substr(title, 1, 9) <> ':monitor:'
    union all select max(iteration) from plot where workspace = $1 and task = $2
    union all select max(position) from sample where workspace = $1 and task = $2) as lasts";
const LAST_SECOND: &str = "select max(last_step) from chunk
     where workspace = $1 and task = $2 and substr(title, 1, 9) = ':monitor:'";

async fn offsets(
    transaction: &mut Tx,
    (workspace, target): (&Workspace, &TaskId),
    staged: &Staged,
    asked: Option<u64>,
) -> Result<Offsets, TransferError> {
    let connection = staged.store.reader.acquire().await;
    let mut connection = connection.map_err(failed(ACTION))?;
    let mut first = None;
    for task in &staged.tasks {
        first = edge(&mut connection, (&staged.workspace, task), FIRST).await?;
    }
    let last = edge(transaction, (workspace, target), LAST).await?;
    let second = edge(transaction, (workspace, target), LAST_SECOND).await?;
    let least = match (first, last) {
        (Some(first), Some(last)) => (last + 1).saturating_sub(first),
        _ => 0,
    };
    let task = asked.unwrap_or(least);
    if let (Some(first), Some(last)) = (first, last)
        && task < least
    {
        let first = first.saturating_add(task);
        return Err(TransferError::Overlap { first, last, least });
    }
    Ok(Offsets {
        task,
        machine: second.map_or(0, |second| second + 1),
    })
}

/// What is added, to what.
struct Adding<'a> {
    store: &'a Store,
    workspace: &'a Workspace,
    staged: &'a Staged,
    source: &'a TaskId,
    target: &'a TaskId,
    offsets: Offsets,
    transaction: &'a mut Tx,
    now: Timestamp,
}

impl Adding<'_> {
    /// Adds the points to the log; returns how many, their bytes and their curves.
    async fn points(&mut self) -> Result<(u64, usize, usize), TransferError> {
        let (there, task) = (&self.staged.workspace, self.source);
        let curves = self.staged.store.series(there, task).await?;
        let known: Vec<(String, String)> =
            sqlx::query_as("select title, series from series where workspace = $1 and task = $2")
                .bind(self.workspace.as_str())
                .bind(self.target.as_str())
                .fetch_all(&mut **self.transaction)
                .await
                .map_err(failed(ACTION))?;
        let mut all: BTreeSet<(String, String)> = known.into_iter().collect();
        let names = curves
            .iter()
            .map(|curve| (curve.title.clone(), curve.series.clone()));
        all.extend(names);
        if all.len() as u64 > MAX_SERIES {
            return Err(invalid(format!(
                "the task would have {} curves, more than {MAX_SERIES}",
                all.len()
            )));
        }
        let (mut points, mut bytes) = (0, 0);
        for curve in &curves {
            let offset = self.offsets.of(&curve.title);
            let mut from = Some(0);
            while let Some(first) = from {
                let names = (curve.title.as_str(), curve.series.as_str());
                let page = self
                    .staged
                    .store
                    .points(there, task, names, first, POINTS)
                    .await?;
                let mut frame = FrameBuilder::default();
                for point in page.points.view().iter() {
                    frame.push(
                        (names.0.into(), names.1.into()),
                        point.step.saturating_add(offset).min(MAX_STEP),
                        point.time,
                        point.value,
                        point.extra.map(Into::into),
                    );
                }
                let frame = frame.finish();
                let (count, frame) = (frame.point_count(), frame.encode());
                sqlx::query(
                    "insert into point_log (workspace, task, at, point_count, frame)
                     values ($1, $2, $3, $4, $5)",
                )
                .bind(self.workspace.as_str())
                .bind(self.target.as_str())
                .bind(self.now.as_millis())
                .bind(bigint(count as u64))
                .bind(frame.as_slice())
                .execute(&mut **self.transaction)
                .await
                .map_err(failed(ACTION))?;
                points += count as u64;
                bytes += frame.len();
                from = page.next;
            }
        }
        Ok((points, bytes, all.len()))
    }

    /// Adds the lines of the console behind those that are there.
    async fn console(&mut self) -> Result<(), TransferError> {
        let (lines,): (i64,) = sqlx::query_as(
            "select cast(coalesce(max(first_line + line_count), 0) as bigint) from console
              where workspace = $1 and task = $2",
        )
        .bind(self.workspace.as_str())
        .bind(self.target.as_str())
        .fetch_one(&mut **self.transaction)
        .await
        .map_err(failed(ACTION))?;
        self.copy("console", |row| {
            let first = number(row, "first_line").saturating_add(lines);
            row.insert("first_line".to_owned(), first.into());
        })
        .await
    }

    /// Adds the rows of a table for which there are none here.
    async fn beside(&mut self, table: &'static str) -> Result<(), TransferError> {
        let offset = bigint(self.offsets.task);
        self.copy(table, |row| {
            for name in ["iteration", "position"] {
                if let Some(iteration) = row.get(name).and_then(Value::as_i64) {
                    row.insert(name.to_owned(), iteration.saturating_add(offset).into());
                }
            }
        })
        .await
    }

    /// Adds the artifacts; of those whose name is there, new versions.
    async fn artifacts(&mut self) -> Result<(), TransferError> {
        let versions: Vec<(String, String, i64)> = sqlx::query_as(
            "select name, mode, max(version) from artifact
              where workspace = $1 and task = $2 group by name, mode",
        )
        .bind(self.workspace.as_str())
        .bind(self.target.as_str())
        .fetch_all(&mut **self.transaction)
        .await
        .map_err(failed(ACTION))?;
        let versions: BTreeMap<(String, String), i64> = versions
            .into_iter()
            .map(|(name, mode, version)| ((name, mode), version))
            .collect();
        let added: Vec<(String, String)> = sqlx::query_as(
            "select name, mode from artifact
              where workspace = $1 and task = $2 and replaced is null",
        )
        .bind(self.staged.workspace.as_str())
        .bind(self.source.as_str())
        .fetch_all(&self.staged.store.reader)
        .await
        .map_err(failed(ACTION))?;
        for (name, mode) in added {
            sqlx::query(
                "update artifact set replaced = $1
                  where workspace = $2 and task = $3 and name = $4 and mode = $5
                    and replaced is null",
            )
            .bind(self.now.as_millis())
            .bind(self.workspace.as_str())
            .bind(self.target.as_str())
            .bind(name)
            .bind(mode)
            .execute(&mut **self.transaction)
            .await
            .map_err(failed(ACTION))?;
        }
        self.copy("artifact", |row| {
            let key = (text(row, "name").to_owned(), text(row, "mode").to_owned());
            let last = versions.get(&key).copied().unwrap_or(0);
            let version = number(row, "version").saturating_add(last);
            row.insert("version".to_owned(), version.into());
        })
        .await
    }

    /// A model that the run made becomes one that the task made.
    async fn model(&mut self, here: i64) -> Result<(), TransferError> {
        sqlx::query(
            "update model
                set task = $1, iteration = iteration + $2,
                    project = (select project from task where workspace = $3 and id = $1),
                    slot = case when exists (select 1 from model as other
                                              where other.workspace = $3 and other.task = $1
                                                and other.slot = model.slot)
                                then null else slot end
              where workspace = $3 and id = $4 and task = $5",
        )
        .bind(self.target.as_str())
        .bind(bigint(self.offsets.task))
        .bind(self.workspace.as_str())
        .bind(here)
        .bind(self.source.as_str())
        .execute(&mut **self.transaction)
        .await
        .map_err(failed(ACTION))?;
        Ok(())
    }

    /// Lists the models that the run read and made among those of the task.
    async fn links(&mut self, here: impl Fn(i64) -> Option<i64>) -> Result<(), TransferError> {
        let names: Vec<(String, String)> =
            sqlx::query_as("select role, name from task_model where workspace = $1 and task = $2")
                .bind(self.workspace.as_str())
                .bind(self.target.as_str())
                .fetch_all(&mut **self.transaction)
                .await
                .map_err(failed(ACTION))?;
        let mut names: BTreeSet<(String, String)> = names.into_iter().collect();
        self.copy("task_model", |row| {
            let model = here(number(row, "model"));
            row.insert("model".to_owned(), json!(model));
            row.insert("position".to_owned(), json!(model));
            let (role, name) = (text(row, "role").to_owned(), text(row, "name").to_owned());
            let mut free = name.clone();
            let mut count = 2;
            while !names.insert((role.clone(), free.clone())) {
                free = format!("{name} {count}");
                count += 1;
            }
            row.insert("name".to_owned(), free.into());
        })
        .await
    }

    async fn end(&mut self, runtime: &Map<String, Value>) -> Result<(), TransferError> {
        // A task makes one version of a data set.
        sqlx::query(
            "update dataset
                set task = case when exists (select 1 from dataset as other
                                              where other.workspace = $2 and other.task = $1)
                                then null else $1 end
              where workspace = $2 and task = $3",
        )
        .bind(self.target.as_str())
        .bind(self.workspace.as_str())
        .bind(self.source.as_str())
        .execute(&mut **self.transaction)
        .await
        .map_err(failed(ACTION))?;
        let last: Option<(i64,)> =
            sqlx::query_as("select last_iteration from task where workspace = $1 and id = $2")
                .bind(self.staged.workspace.as_str())
                .bind(self.source.as_str())
                .fetch_optional(&self.staged.store.reader)
                .await
                .map_err(failed(ACTION))?;
        let last = last.map_or(0, |(last,)| last.saturating_add(bigint(self.offsets.task)));
        sqlx::query(
            "update task
                set last_iteration = case when last_iteration < $1 then $1 else last_iteration end,
                    last_update = $2, runtime = $3
              where workspace = $4 and id = $5",
        )
        .bind(last)
        .bind(self.now.as_millis())
        .bind(json!(runtime).to_string())
        .bind(self.workspace.as_str())
        .bind(self.target.as_str())
        .execute(&mut **self.transaction)
        .await
        .map_err(failed(ACTION))?;
        Ok(())
    }

    /// Copies the rows of the run that are not there yet, each as `change` makes it.
    async fn copy(
        &mut self,
        table: &'static str,
        mut change: impl FnMut(&mut Map<String, Value>),
    ) -> Result<(), TransferError> {
        let archive = self.staged.store.reader.acquire().await;
        let mut archive = archive.map_err(failed(ACTION))?;
        let there = columns(&mut archive, Kind::Sqlite, table).await;
        let there = there.map_err(failed(ACTION))?;
        let here = columns(self.transaction, self.store.kind, table).await;
        let here = here.map_err(failed(ACTION))?;
        // The name is one of those above.
        let statement = format!("select * from {table} where workspace = $1 and task = $2");
        let mut rows = sqlx::query(AssertSqlSafe(statement))
            .bind(self.staged.workspace.as_str())
            .bind(self.source.as_str())
            .fetch(&mut *archive);
        while let Some(row) = rows.try_next().await.map_err(failed(ACTION))? {
            let mut row = to_json(&row, &there).map_err(failed(ACTION))?;
            change(&mut row);
            row.insert("task".to_owned(), self.target.as_str().into());
            let row = in_workspace(row, self.workspace);
            let inserted = insert_missing(self.transaction, table, &here, &row).await;
            inserted.map_err(|error| refused(table, error))?;
        }
        Ok(())
    }
}
