//! Projects.

use trainshed_core::ProjectId;
use trainshed_core::draft::{InvalidField, MAX_COMMENT_BYTES, checked_tags, project_path};
use trainshed_core::view::{NewProject, Page, ProjectEdit, ProjectQuery, ProjectView, Retention};
use trainshed_store::{ProjectError, StoreError, Workspace};

use crate::engine::Engine;
use crate::files::AddressError;

/// Most days for which points can be kept: a hundred years.
const MAX_POINTS_DAYS: u32 = 36_500;
/// Most iterations of a series that can be kept.
const MAX_ITERATIONS: u32 = 100_000;

/// Why a project was not made or changed as asked.
#[derive(Debug, thiserror::Error)]
pub enum ProjectChangeError {
    /// A field breaks a rule.
    #[error(transparent)]
    Field(#[from] InvalidField),
    /// The files of its tasks may not go where it says.
    #[error(transparent)]
    Destination(AddressError),
    /// The projects there are do not allow it.
    #[error(transparent)]
    Project(#[from] ProjectError),
}

impl Engine {
    /// A page of projects, by path.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn projects(
        &self,
        workspace: &Workspace,
        query: &ProjectQuery,
    ) -> Result<Page<ProjectView>, StoreError> {
        self.store.projects(workspace, query).await
    }

    /// The project that `reference`, an id or a path, names.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn project(
        &self,
        workspace: &Workspace,
        reference: &str,
    ) -> Result<Option<ProjectView>, StoreError> {
        if let Ok(id) = reference.parse() {
            let project = self.store.project(workspace, &id).await?;
            if project.is_some() {
                return Ok(project);
            }
        }
        self.store.project_at(workspace, reference).await
    }

    /// Makes a project and those it is in.
    ///
    /// # Errors
    /// When a field breaks a rule, or there is one at its path.
    pub async fn create_project(
        &self,
        workspace: &Workspace,
        mut project: NewProject,
    ) -> Result<ProjectView, ProjectChangeError> {
        project.name = path_of(&project.name)?;
        check_texts(
            Some(&project.description),
            project.default_output.as_deref(),
        )?;
        self.check_default_output(project.default_output.as_deref())?;
        check_retention(&project.retention)?;
        project.tags = checked_tags("tags", project.tags)?;
        project.system_tags = checked_tags("system_tags", project.system_tags)?;
        let now = self.now();
        Ok(self.store.create_project(workspace, &project, now).await?)
    }

    /// Changes a project; another name takes all that is below it along.
    ///
    /// # Errors
    /// When a field breaks a rule, or another project has the path.
    pub async fn edit_project(
        &self,
        workspace: &Workspace,
        id: &ProjectId,
        mut edit: ProjectEdit,
        expected: Option<&str>,
    ) -> Result<ProjectView, ProjectChangeError> {
        edit.name = edit.name.map(|name| path_of(&name)).transpose()?;
        check_texts(edit.description.as_deref(), edit.default_output.as_deref())?;
        self.check_default_output(edit.default_output.as_deref())?;
        check_retention(&edit.retention.unwrap_or_default())?;
        let tags = |field, tags: Option<Vec<String>>| {
            tags.map(|tags| checked_tags(field, tags)).transpose()
        };
        edit.tags = tags("tags", edit.tags)?;
        edit.system_tags = tags("system_tags", edit.system_tags)?;
        let now = self.now();
        Ok(self
            .store
            .edit_project(workspace, id, &edit, expected, now)
            .await?)
    }

    /// Checks where the files of a project's tasks are to go; an empty text is nowhere.
    fn check_default_output(&self, output: Option<&str>) -> Result<(), ProjectChangeError> {
        match output.filter(|output| !output.is_empty()) {
            Some(output) => match self.check_destination(output) {
                Ok(_) => Ok(()),
                Err(error) => Err(ProjectChangeError::Destination(error)),
            },
            None => Ok(()),
        }
    }

    /// Puts all that is in one project into another, and deletes the first.
    ///
    /// # Errors
    /// When the second is the first or lies below it.
    pub async fn merge_projects(
        &self,
        workspace: &Workspace,
        from: &ProjectId,
        into: &ProjectId,
    ) -> Result<ProjectView, ProjectError> {
        let now = self.now();
        self.store.merge_projects(workspace, from, into, now).await
    }

    /// Deletes a project and those below it; their tasks move to `move_to`, or are deleted by
    /// `force`. Returns how many tasks there were.
    ///
    /// # Errors
    /// When there are tasks, and neither is given.
    pub async fn delete_project(
        &self,
        workspace: &Workspace,
        id: &ProjectId,
        move_to: Option<&ProjectId>,
        force: bool,
    ) -> Result<usize, ProjectError> {
        let now = self.now();
        let tasks = self
            .store
            .delete_project(workspace, id, move_to, force, now)
            .await?;
        for task in &tasks {
            self.changes().task_changed(workspace.id(), task);
        }
        Ok(tasks.len())
    }
}

/// Checks the path of a project that is given as its name.
fn path_of(name: &str) -> Result<String, InvalidField> {
    project_path(name).map_err(|error| InvalidField::new("/name", error.message))
}

fn check_retention(retention: &Retention) -> Result<(), InvalidField> {
    for (field, value, most) in [
        ("points_days", retention.points_days, MAX_POINTS_DAYS),
        ("samples", retention.samples, MAX_ITERATIONS),
        ("plots", retention.plots, MAX_ITERATIONS),
    ] {
        if let Some(value) = value.filter(|value| !(1..=most).contains(value)) {
            let message = format!("{field} must be 1 to {most}, but it is {value}");
            return Err(InvalidField::new(format!("/retention/{field}"), message));
        }
    }
    Ok(())
}

fn check_texts(description: Option<&str>, output: Option<&str>) -> Result<(), InvalidField> {
    for (field, text, most) in [
        ("description", description, MAX_COMMENT_BYTES),
        ("default_output", output, 1000),
    ] {
        let wrong = |text: &str| text.len() > most || text.contains('\0');
        if text.is_some_and(wrong) {
            let message = format!("{field} must have at most {most} bytes and no zero byte");
            return Err(InvalidField::new(format!("/{field}"), message));
        }
    }
    Ok(())
}
