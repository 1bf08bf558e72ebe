//! `trainshed project`.

use std::process::ExitCode;

use trainshed_core::view::{NewProject, ProjectEdit, ProjectQuery, ProjectView, Retention};
use trainshed_wire::Client;

use crate::args::Global;
use crate::connect::Connection;
use crate::error::CliError;
use crate::output::{Output, time};
use crate::tracking_args::ProjectCommand;

pub(crate) async fn project(
    global: &Global,
    command: ProjectCommand,
    output: &Output,
) -> Result<ExitCode, CliError> {
    let connection = Connection::open(global).await?;
    let done = execute(&connection.client, command, output).await;
    connection.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn execute(
    client: &Client,
    command: ProjectCommand,
    output: &Output,
) -> Result<(), CliError> {
    match command {
        ProjectCommand::Ls {
            parent,
            children,
            archived,
        } => {
            let query = ProjectQuery {
                parent,
                children,
                archived,
                limit: 500,
                after: None,
            };
            let projects = list(client, query).await?;
            let rows = projects.iter().map(|project| {
                vec![
                    project.name.clone(),
                    project.task_count.to_string(),
                    project.id.to_string(),
                    time(project.last_update),
                ]
            });
            let rows = rows.collect();
            output.list(&projects, &["PROJECT", "TASKS", "ID", "CHANGED"], rows);
        }
        ProjectCommand::Show { project } => show(&client.project(&project).await?, output),
        ProjectCommand::Create {
            path,
            description,
            tags,
            default_output,
        } => {
            let new = NewProject {
                name: path,
                description,
                tags,
                default_output,
                ..NewProject::default()
            };
            print_id(&client.create_project(&new).await?, output);
        }
        ProjectCommand::Rename { project, name } => {
            let before = client.project(&project).await?;
            if name.contains('/') {
                let refusal = "the new name must not have a `/`; `trainshed project move` puts a \
                               project into another one";
                return Err(CliError::Usage(refusal.to_owned()));
            }
            let path = match before.name.rsplit_once('/') {
                Some((parent, _)) => format!("{parent}/{name}"),
                None => name,
            };
            print_path(&rename(client, &before, path).await?, output);
        }
        ProjectCommand::Move { project, into } => {
            let before = client.project(&project).await?;
            let last = before.name.rsplit('/').next().unwrap_or_default();
            let path = match into.trim_matches('/') {
                "" => last.to_owned(),
                parent => format!("{parent}/{last}"),
            };
            print_path(&rename(client, &before, path).await?, output);
        }
        ProjectCommand::Merge { project, into } => {
            print_path(&client.merge_projects(&project, &into).await?, output);
        }
        ProjectCommand::Edit {
            project,
            description,
            tags,
            default_output,
        } => {
            let edit = ProjectEdit {
                description,
                tags: (!tags.is_empty()).then_some(tags),
                default_output,
                ..ProjectEdit::default()
            };
            show(&client.edit_project(&project, &edit).await?, output);
        }
        ProjectCommand::Keep {
            project,
            points_days,
            samples,
            plots,
        } => {
            let edit = ProjectEdit {
                retention: Some(Retention {
                    points_days,
                    samples,
                    plots,
                }),
                ..ProjectEdit::default()
            };
            show(&client.edit_project(&project, &edit).await?, output);
        }
        ProjectCommand::Delete {
            project,
            move_to,
            force,
        } => {
            let deleted = client
                .delete_project(&project, move_to.as_deref(), force)
                .await?;
            if output.is_json() {
                output.document(&deleted);
            } else {
                output.say(&format!(
                    "{} tasks deleted, {} moved",
                    deleted.tasks_deleted, deleted.tasks_moved
                ));
            }
        }
    }
    Ok(())
}

/// All projects, however many pages that takes.
async fn list(client: &Client, mut query: ProjectQuery) -> Result<Vec<ProjectView>, CliError> {
    let mut projects = Vec::new();
    loop {
        let page = client.projects(&query).await?;
        projects.extend(page.items);
        query.after = page.next;
        if query.after.is_none() {
            return Ok(projects);
        }
    }
}

async fn rename(
    client: &Client,
    project: &ProjectView,
    path: String,
) -> Result<ProjectView, CliError> {
    let edit = ProjectEdit {
        name: Some(path),
        ..ProjectEdit::default()
    };
    Ok(client.edit_project(project.id.as_str(), &edit).await?)
}

fn print_id(project: &ProjectView, output: &Output) {
    if output.is_json() {
        output.document(project);
    } else {
        output.line(project.id.as_str());
    }
}

fn print_path(project: &ProjectView, output: &Output) {
    if output.is_json() {
        output.document(project);
    } else {
        output.line(&project.name);
    }
}

fn show(project: &ProjectView, output: &Output) {
    let kept = &project.retention;
    let default = |text: String| match project.name.contains('/') {
        true => format!("as above it, else {text}"),
        false => text,
    };
    let days = |days| format!("{days} days");
    let points = kept
        .points_days
        .map_or_else(|| default("for ever".to_owned()), days);
    let iterations = |count: Option<u32>| match count {
        Some(count) => count.to_string(),
        None => default(Retention::DEFAULT_ITERATIONS.to_string()),
    };
    let rows = [
        ("id", project.id.to_string()),
        ("name", project.name.clone()),
        ("description", project.description.clone()),
        ("tags", project.tags.join(", ")),
        ("system tags", project.system_tags.join(", ")),
        (
            "default output",
            project
                .default_output
                .clone()
                .unwrap_or_else(|| "-".to_owned()),
        ),
        ("points are kept", points),
        ("iterations of samples", iterations(kept.samples)),
        ("iterations of plots", iterations(kept.plots)),
        ("tasks", project.task_count.to_string()),
        ("created", time(project.created)),
        ("changed", time(project.last_update)),
    ];
    let rows = rows.map(|(field, value)| vec![field.to_owned(), value]);
    output.list(project, &["FIELD", "VALUE"], rows.to_vec());
}
