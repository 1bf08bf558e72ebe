//! Projects: paths of names with `/` between them. A project is made with those it is in.

use serde_json::json;
use sqlx::{Any, AnyConnection, Transaction};
use trainshed_core::name::MAX_NAME_BYTES;
use trainshed_core::view::{NewProject, Page, ProjectEdit, ProjectQuery, ProjectView};
use trainshed_core::{ProjectId, TaskId, Timestamp};

use crate::change::{ChangeError, is_as_read};
use crate::database::{Store, fresh_id};
use crate::error::StoreError;
use crate::file::{bigint, unsigned};
use crate::idempotency::note_made;
use crate::reset;
use crate::tag::{delete_tags, write_tags};
use crate::workspace::Workspace;

/// Why a project was not made or changed. Nothing of the change was kept.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// There is no such project.
    #[error("there is no project `{0}`")]
    Unknown(String),
    /// Another project has the path.
    #[error("there is a project `{0}` already")]
    Taken(String),
    /// Somebody else changed it since the caller read it.
    #[error("the project `{0}` is not what `If-Match` says: it was changed since")]
    ChangedSince(String),
    /// A project cannot be inside itself.
    #[error("the project `{from}` cannot be put into `{to}`, which is itself or below it")]
    Inside {
        /// Its path.
        from: String,
        /// The wanted path, or the project to merge into.
        to: String,
    },
    /// A path would be longer than it may.
    #[error("the path `{0}…` would have more than {MAX_NAME_BYTES} bytes")]
    TooLong(String),
    /// It has tasks, and nobody said what is to become of them.
    #[error("the project `{path}` has {tasks} tasks in it or below it")]
    NotEmpty {
        /// Its path.
        path: String,
        /// How many.
        tasks: u64,
    },
    /// The store failed.
    #[error("the project could not be changed")]
    Store(#[from] StoreError),
}

impl ProjectError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown(_) => Some("`trainshed project ls --children` lists them.".into()),
            Self::Taken(_) => Some("To put one into the other, merge the two.".into()),
            Self::NotEmpty { .. } => Some(
                "Delete them with it by `force`, or say by `move_to` which project gets them."
                    .into(),
            ),
            Self::ChangedSince(_) => {
                Some("Read the project again and decide on what it is now.".into())
            }
            Self::Inside { .. } | Self::TooLong(_) => None,
            Self::Store(error) => error.hint(),
        }
    }
}

#[derive(sqlx::FromRow)]
struct ProjectRow {
    id: String,
    path: String,
    description: String,
    tags: String,
    system_tags: String,
    default_output: Option<String>,
    retention: String,
    task_count: i64,
    created: i64,
    last_update: i64,
}

/// Reads a [`ProjectRow`]; a condition follows.
macro_rules! select_projects {
    () => {
        "select project.id, project.path, project.description, project.tags,
                project.system_tags, project.default_output, project.retention,
                (select count(*) from task where task.workspace = project.workspace
                    and task.project = project.id) as task_count,
                project.created, project.last_update
           from project "
    };
}

impl Store {
    /// A page of projects, by path.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn projects(
        &self,
        workspace: &Workspace,
        query: &ProjectQuery,
    ) -> Result<Page<ProjectView>, StoreError> {
        let limit = usize::try_from(query.limit.clamp(1, 500)).expect("500 fits");
        let parent = query.parent.as_deref().unwrap_or_default();
        let below = if parent.is_empty() {
            String::new()
        } else {
            format!("{parent}/")
        };
        // `instr` and `strpos` have no common name: a path without further `/` is one that
        // stays as it is when they are taken out.
        let rows: Vec<ProjectRow> = sqlx::query_as(concat!(
            select_projects!(),
            "where project.workspace = $1 and substr(path, 1, length($2)) = $2
                and ($3 = 1 or replace(substr(path, length($2) + 1), '/', '')
                               = substr(path, length($2) + 1))
                and ($4 = 1 or not exists
                     (select 1 from tag where tag.workspace = project.workspace
                         and tag.kind = 'project' and tag.is_system = 1
                         and tag.tag = 'archived' and tag.owner = project.id))
                and path > $5
              order by path limit $6"
        ))
        .bind(workspace.as_str())
        .bind(below)
        .bind(i64::from(query.children))
        .bind(i64::from(query.archived))
        .bind(query.after.as_deref().unwrap_or_default())
        .bind(bigint(limit as u64 + 1))
        .fetch_all(&self.reader)
        .await
        .map_err(StoreError::database("list projects"))?;
        let more = rows.len() > limit;
        let items: Result<Vec<ProjectView>, StoreError> =
            rows.into_iter().take(limit).map(ProjectRow::view).collect();
        let items = items?;
        let next = items.last().filter(|_| more).map(|last| last.name.clone());
        Ok(Page { items, next })
    }

    /// A project.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn project(
        &self,
        workspace: &Workspace,
        id: &ProjectId,
    ) -> Result<Option<ProjectView>, StoreError> {
        let action = "read a project";
        let connection = self.reader.acquire().await;
        let mut connection = connection.map_err(StoreError::database(action))?;
        read_project(&mut connection, workspace, id).await
    }

    /// The project at `path`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn project_at(
        &self,
        workspace: &Workspace,
        path: &str,
    ) -> Result<Option<ProjectView>, StoreError> {
        let row: Option<ProjectRow> = sqlx::query_as(concat!(
            select_projects!(),
            "where project.workspace = $1 and project.path = $2"
        ))
        .bind(workspace.as_str())
        .bind(path)
        .fetch_optional(&self.reader)
        .await
        .map_err(StoreError::database("look a project up"))?;
        row.map(ProjectRow::view).transpose()
    }

    /// Makes a project and those it is in; its name, tags and so on have been checked.
    ///
    /// # Errors
    /// When there is one at its path.
    pub async fn create_project(
        &self,
        workspace: &Workspace,
        project: &NewProject,
        now: Timestamp,
    ) -> Result<ProjectView, ProjectError> {
        let action = "make a project";
        let mut transaction = self.begin(action).await?;
        if id_at(&mut transaction, workspace, &project.name)
            .await?
            .is_some()
        {
            return Err(ProjectError::Taken(project.name.clone()));
        }
        let id = ensure_project(&mut transaction, workspace, &project.name, now)
            .await
            .map_err(StoreError::database(action))?;
        let edit = ProjectEdit {
            name: None,
            description: Some(project.description.clone()),
            tags: Some(project.tags.clone()),
            system_tags: Some(project.system_tags.clone()),
            default_output: project.default_output.clone(),
            retention: Some(project.retention),
        };
        let id: ProjectId = id.parse().map_err(StoreError::damaged(action))?;
        let made = write_fields(&mut transaction, workspace, &id, &edit, now).await?;
        note_made(&mut transaction, || format!("/api/v1/projects/{id}"))
            .await
            .map_err(StoreError::database(action))?;
        transaction
            .commit()
            .await
            .map_err(StoreError::database(action))?;
        Ok(made)
    }

    /// Changes a project; its name, tags and so on have been checked. Another name takes all
    /// that is below it along.
    ///
    /// # Errors
    /// When another project has the path, or it lies below the project itself.
    pub async fn edit_project(
        &self,
        workspace: &Workspace,
        id: &ProjectId,
        edit: &ProjectEdit,
        expected: Option<&str>,
        now: Timestamp,
    ) -> Result<ProjectView, ProjectError> {
        let action = "change a project";
        let mut transaction = self.begin(action).await?;
        let project = known(&mut transaction, workspace, id).await?;
        if !is_as_read(&project, expected)? {
            return Err(ProjectError::ChangedSince(project.name));
        }
        if let Some(path) = edit.name.as_ref().filter(|path| **path != project.name) {
            if is_below(path, &project.name) {
                return Err(ProjectError::Inside {
                    from: project.name,
                    to: path.clone(),
                });
            }
            if id_at(&mut transaction, workspace, path).await?.is_some() {
                return Err(ProjectError::Taken(path.clone()));
            }
            if let Some((parent, _)) = path.rsplit_once('/') {
                ensure_project(&mut transaction, workspace, parent, now)
                    .await
                    .map_err(StoreError::database(action))?;
            }
            rename_tree(&mut transaction, workspace, &project.name, path, now).await?;
        }
        let changed = write_fields(&mut transaction, workspace, id, edit, now).await?;
        transaction
            .commit()
            .await
            .map_err(StoreError::database(action))?;
        Ok(changed)
    }

    /// Puts all that is in the project `from` and below it into the project `into`, and
    /// deletes `from`. Projects of one name below the two become one.
    ///
    /// # Errors
    /// When `into` is `from` or lies below it.
    pub async fn merge_projects(
        &self,
        workspace: &Workspace,
        from: &ProjectId,
        into: &ProjectId,
        now: Timestamp,
    ) -> Result<ProjectView, ProjectError> {
        let action = "merge projects";
        let mut transaction = self.begin(action).await?;
        let from = known(&mut transaction, workspace, from).await?;
        let target = known(&mut transaction, workspace, into).await?;
        if from.id == target.id || is_below(&target.name, &from.name) {
            return Err(ProjectError::Inside {
                from: from.name,
                to: target.name,
            });
        }
        rename_tree(&mut transaction, workspace, &from.name, &target.name, now).await?;
        let merged = known(&mut transaction, workspace, into).await?;
        note_made(&mut transaction, || format!("/api/v1/projects/{into}"))
            .await
            .map_err(StoreError::database(action))?;
        transaction
            .commit()
            .await
            .map_err(StoreError::database(action))?;
        Ok(merged)
    }

    /// Deletes a project and those below it. Their tasks move to the project `move_to`, or are
    /// deleted by `force`, whatever their state; models and data sets that stay are in no
    /// project any more.
    ///
    /// # Errors
    /// When there are tasks, and neither is given.
    pub async fn delete_project(
        &self,
        workspace: &Workspace,
        id: &ProjectId,
        move_to: Option<&ProjectId>,
        force: bool,
        now: Timestamp,
    ) -> Result<Vec<TaskId>, ProjectError> {
        let action = "delete a project";
        let mut transaction = self.begin(action).await?;
        let project = known(&mut transaction, workspace, id).await?;
        let target = match move_to {
            Some(target) => Some(known(&mut transaction, workspace, target).await?),
            None => None,
        };
        let inside = |target: &&ProjectView| {
            target.id == project.id || is_below(&target.name, &project.name)
        };
        if let Some(target) = target.as_ref().filter(inside) {
            return Err(ProjectError::Inside {
                to: target.name.clone(),
                from: project.name,
            });
        }
        let tree = tree(&mut transaction, workspace, &project.name).await?;
        let tasks = tasks_of(&mut transaction, workspace, &tree).await?;
        if target.is_none() && !force && !tasks.is_empty() {
            return Err(ProjectError::NotEmpty {
                path: project.name,
                tasks: tasks.len() as u64,
            });
        }
        let target = target.map(|target| target.id);
        if target.is_none() {
            for task in &tasks {
                let removed = reset::remove(&mut transaction, workspace, task).await;
                removed.map_err(|error| match error {
                    ChangeError::Store(error) => error,
                    other => StoreError::damaged(action)(other),
                })?;
            }
        }
        for (id, _) in &tree {
            let target = target.as_ref().map(ProjectId::as_str);
            move_content(&mut transaction, workspace, id, target, now).await?;
            delete_row(&mut transaction, workspace, id).await?;
        }
        transaction
            .commit()
            .await
            .map_err(StoreError::database(action))?;
        if target.is_none() {
            for task in &tasks {
                self.forget_points(workspace, task);
            }
        }
        Ok(tasks)
    }
}

type Tx = Transaction<'static, Any>;

/// The id of the project at `path`, which is made with all its parents if it is not there.
pub(crate) async fn ensure_project(
    transaction: &mut Tx,
    workspace: &Workspace,
    path: &str,
    now: Timestamp,
) -> Result<String, sqlx::Error> {
    // Mostly it is there.
    if let Some(id) = project_at(transaction, workspace, path).await? {
        return Ok(id);
    }
    if let Ok(id) = path.parse::<ProjectId>()
        && is_project(transaction, workspace, &id).await?
    {
        return Ok(id.as_str().to_owned());
    }
    let parents = path.match_indices('/').map(|(end, _)| &path[..end]);
    for path in parents.chain([path]) {
        sqlx::query(
            "insert into project (workspace, id, path, created, last_update)
             values ($1, $2, $3, $4, $4) on conflict do nothing",
        )
        .bind(workspace.as_str())
        .bind(ProjectId::from_u128(fresh_id()).as_str())
        .bind(path)
        .bind(now.as_millis())
        .execute(&mut **transaction)
        .await?;
    }
    let made = project_at(transaction, workspace, path).await?;
    made.ok_or(sqlx::Error::RowNotFound)
}

async fn is_project(
    transaction: &mut Tx,
    workspace: &Workspace,
    id: &ProjectId,
) -> Result<bool, sqlx::Error> {
    let found: Option<(String,)> =
        sqlx::query_as("select id from project where workspace = $1 and id = $2")
            .bind(workspace.as_str())
            .bind(id.as_str())
            .fetch_optional(&mut **transaction)
            .await?;
    Ok(found.is_some())
}

async fn project_at(
    transaction: &mut Tx,
    workspace: &Workspace,
    path: &str,
) -> Result<Option<String>, sqlx::Error> {
    let found: Option<(String,)> =
        sqlx::query_as("select id from project where workspace = $1 and path = $2")
            .bind(workspace.as_str())
            .bind(path)
            .fetch_optional(&mut **transaction)
            .await?;
    Ok(found.map(|(id,)| id))
}

/// Whether `path` lies below `project`.
fn is_below(path: &str, project: &str) -> bool {
    path.strip_prefix(project)
        .is_some_and(|rest| rest.starts_with('/'))
}

async fn read_project(
    connection: &mut AnyConnection,
    workspace: &Workspace,
    id: &ProjectId,
) -> Result<Option<ProjectView>, StoreError> {
    let row: Option<ProjectRow> = sqlx::query_as(concat!(
        select_projects!(),
        "where project.workspace = $1 and project.id = $2"
    ))
    .bind(workspace.as_str())
    .bind(id.as_str())
    .fetch_optional(connection)
    .await
    .map_err(StoreError::database("read a project"))?;
    row.map(ProjectRow::view).transpose()
}

async fn known(
    transaction: &mut Tx,
    workspace: &Workspace,
    id: &ProjectId,
) -> Result<ProjectView, ProjectError> {
    let project = read_project(transaction, workspace, id).await?;
    project.ok_or_else(|| ProjectError::Unknown(id.to_string()))
}

async fn id_at(
    transaction: &mut Tx,
    workspace: &Workspace,
    path: &str,
) -> Result<Option<String>, StoreError> {
    let found = project_at(transaction, workspace, path).await;
    found.map_err(StoreError::database("look a project up"))
}

/// Ids and paths of the project at `path` and all below it, the upper before the lower.
async fn tree(
    transaction: &mut Tx,
    workspace: &Workspace,
    path: &str,
) -> Result<Vec<(String, String)>, StoreError> {
    let mut tree: Vec<(String, String)> = sqlx::query_as(
        "select id, path from project
          where workspace = $1 and (path = $2 or substr(path, 1, length($2) + 1) = $2 || '/')",
    )
    .bind(workspace.as_str())
    .bind(path)
    .fetch_all(&mut **transaction)
    .await
    .map_err(StoreError::database("list the projects below one"))?;
    tree.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(tree)
}

async fn tasks_of(
    transaction: &mut Tx,
    workspace: &Workspace,
    tree: &[(String, String)],
) -> Result<Vec<TaskId>, StoreError> {
    let action = "list the tasks of a project";
    let mut tasks = Vec::new();
    for (project, _) in tree {
        let rows: Vec<(String,)> =
            sqlx::query_as("select id from task where workspace = $1 and project = $2")
                .bind(workspace.as_str())
                .bind(project)
                .fetch_all(&mut **transaction)
                .await
                .map_err(StoreError::database(action))?;
        for (id,) in rows {
            tasks.push(id.parse().map_err(StoreError::damaged(action))?);
        }
    }
    Ok(tasks)
}

/// Gives the project at `from` and all below it paths that begin with `to`. Where there is a
/// project at the new path, it gets the content, and the former one is deleted.
async fn rename_tree(
    transaction: &mut Tx,
    workspace: &Workspace,
    from: &str,
    to: &str,
    now: Timestamp,
) -> Result<(), ProjectError> {
    let action = "rename projects";
    for (id, path) in tree(transaction, workspace, from).await? {
        let renamed = format!("{to}{}", &path[from.len()..]);
        if renamed.len() > MAX_NAME_BYTES {
            let begin = renamed.chars().take(80).collect();
            return Err(ProjectError::TooLong(begin));
        }
        if let Some(other) = id_at(transaction, workspace, &renamed).await? {
            move_content(transaction, workspace, &id, Some(&other), now).await?;
            delete_row(transaction, workspace, &id).await?;
            continue;
        }
        sqlx::query(
            "update project set path = $1, last_update = $2 where workspace = $3 and id = $4",
        )
        .bind(renamed)
        .bind(now.as_millis())
        .bind(workspace.as_str())
        .bind(id)
        .execute(&mut **transaction)
        .await
        .map_err(StoreError::database(action))?;
    }
    Ok(())
}

/// What is in a project, and how it moves to another.
const CONTENT: [&str; 3] = [
    "update task set project = $1 where workspace = $2 and project = $3",
    "update model set project = $1 where workspace = $2 and project = $3",
    "update dataset set project = $1 where workspace = $2 and project = $3",
];

/// Moves what is in the project `from` to `to`; without it, models and data sets are in no
/// project any more, and there are no tasks.
async fn move_content(
    transaction: &mut Tx,
    workspace: &Workspace,
    from: &str,
    to: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let action = "move what is in a project";
    let skipped = usize::from(to.is_none());
    for statement in CONTENT.into_iter().skip(skipped) {
        sqlx::query(statement)
            .bind(to)
            .bind(workspace.as_str())
            .bind(from)
            .execute(&mut **transaction)
            .await
            .map_err(StoreError::database(action))?;
    }
    sqlx::query("update project set last_update = $1 where workspace = $2 and id = $3")
        .bind(now.as_millis())
        .bind(workspace.as_str())
        .bind(to.unwrap_or_default())
        .execute(&mut **transaction)
        .await
        .map_err(StoreError::database(action))?;
    Ok(())
}

async fn delete_row(
    transaction: &mut Tx,
    workspace: &Workspace,
    id: &str,
) -> Result<(), StoreError> {
    let action = "delete a project";
    delete_tags(transaction, workspace, "project", id)
        .await
        .map_err(StoreError::database(action))?;
    sqlx::query("delete from project where workspace = $1 and id = $2")
        .bind(workspace.as_str())
        .bind(id)
        .execute(&mut **transaction)
        .await
        .map_err(StoreError::database(action))?;
    Ok(())
}

/// Writes what an edit says beside the name; returns the project as it is then.
async fn write_fields(
    transaction: &mut Tx,
    workspace: &Workspace,
    id: &ProjectId,
    edit: &ProjectEdit,
    now: Timestamp,
) -> Result<ProjectView, ProjectError> {
    let action = "change a project";
    let before = known(transaction, workspace, id).await?;
    let tags = edit.tags.as_ref().unwrap_or(&before.tags);
    let system_tags = edit.system_tags.as_ref().unwrap_or(&before.system_tags);
    let output = edit
        .default_output
        .as_ref()
        .or(before.default_output.as_ref());
    sqlx::query(
        "update project
            set description = $1, tags = $2, system_tags = $3, default_output = $4,
                retention = $5, last_update = $6
          where workspace = $7 and id = $8",
    )
    .bind(edit.description.as_ref().unwrap_or(&before.description))
    .bind(json!(tags).to_string())
    .bind(json!(system_tags).to_string())
    .bind(output.filter(|output| !output.is_empty()))
    .bind(json!(edit.retention.unwrap_or(before.retention)).to_string())
    .bind(now.as_millis())
    .bind(workspace.as_str())
    .bind(id.as_str())
    .execute(&mut **transaction)
    .await
    .map_err(StoreError::database(action))?;
    write_tags(
        transaction,
        workspace,
        "project",
        id.as_str(),
        (tags, system_tags),
    )
    .await
    .map_err(StoreError::database(action))?;
    known(transaction, workspace, id).await
}

impl ProjectRow {
    fn view(self) -> Result<ProjectView, StoreError> {
        let action = "read a project";
        Ok(ProjectView {
            id: self.id.parse().map_err(StoreError::damaged(action))?,
            name: self.path,
            description: self.description,
            tags: serde_json::from_str(&self.tags).map_err(StoreError::damaged(action))?,
            system_tags: serde_json::from_str(&self.system_tags)
                .map_err(StoreError::damaged(action))?,
            default_output: self.default_output,
            retention: serde_json::from_str(&self.retention)
                .map_err(StoreError::damaged(action))?,
            task_count: unsigned(self.task_count),
            created: Timestamp(self.created),
            last_update: Timestamp(self.last_update),
        })
    }
}
