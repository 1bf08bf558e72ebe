//! What `trainshed task` changes.

use std::io::{Read as _, Write as _};
use std::path::Path;

use serde_json::{Map, Value, json};
use trainshed_core::draft::{CloneRequest, Container, NewDraft, Script, TaskEdit};
use trainshed_core::parameter::{Parameter, split_path};
use trainshed_core::task::TaskType;
use trainshed_core::view::TaskView;
use trainshed_wire::{Client, ClientError, ManyTasks, MoveRequest};

use crate::error::CliError;
use crate::output::{Output, time};
use crate::run::read_action;
use crate::tracking_args::{
    ConfigCommand, CreateArgs, EditArgs, EndArgs, ForceArgs, ParamsArgs, ScriptArgs, TaskChange,
};

pub(crate) async fn change(
    client: &Client,
    change: TaskChange,
    output: &Output,
) -> Result<(), CliError> {
    let request = |force: ForceArgs| MoveRequest {
        force: force.force,
        ..MoveRequest::default()
    };
    match change {
        TaskChange::Create(arguments) => {
            let task = client.create_task(&draft(arguments)?).await?;
            print_id(&task, output);
        }
        TaskChange::Edit(arguments) => {
            let id = arguments.id.clone();
            let task = client.edit_task(&id, &edit(arguments)?, None).await?;
            print_status(&task, output);
        }
        TaskChange::Enqueue {
            ids,
            queue,
            queue_id,
            force,
        } => {
            let request = MoveRequest {
                queue_name: queue_id.is_none().then_some(queue),
                queue: queue_id,
                ..request(force)
            };
            many(client, "enqueue", ids, request, output).await?;
        }
        TaskChange::Dequeue { ids } => {
            many(client, "dequeue", ids, MoveRequest::default(), output).await?;
        }
        TaskChange::Start { ids, force } => {
            many(client, "start", ids, request(force), output).await?;
        }
        TaskChange::Complete { ids, end } => {
            many(client, "complete", ids, ending(end), output).await?;
        }
        TaskChange::Fail { ids, end } => {
            many(client, "fail", ids, ending(end), output).await?;
        }
        TaskChange::Progress { id, percent } => {
            print_status(&client.set_progress(&id, percent).await?, output);
        }
        TaskChange::Clone {
            id,
            name,
            comment,
            project,
        } => {
            let request = CloneRequest {
                name,
                comment,
                project,
                ..CloneRequest::default()
            };
            print_id(&client.clone_task(&id, &request).await?, output);
        }
        TaskChange::Reset { ids, force } => {
            many(client, "reset", ids, request(force), output).await?;
        }
        TaskChange::Publish { ids, force } => {
            many(client, "publish", ids, request(force), output).await?;
        }
        TaskChange::Archive { ids } => {
            many(client, "archive", ids, MoveRequest::default(), output).await?;
        }
        TaskChange::Unarchive { ids } => {
            many(client, "unarchive", ids, MoveRequest::default(), output).await?;
        }
        TaskChange::Delete { ids, force } => {
            many(client, "delete", ids, request(force), output).await?;
        }
        TaskChange::Move { id, project } => {
            print_status(&client.move_to_project(&id, &project).await?, output);
        }
        TaskChange::Params(arguments) => params(client, arguments, output).await?,
        TaskChange::Config(command) => config(client, command, output).await?,
        TaskChange::Property { id, set, remove } => {
            property(client, &id, &set, &remove, output).await?;
        }
    }
    Ok(())
}

fn ending(end: EndArgs) -> MoveRequest {
    MoveRequest {
        reason: end.reason,
        message: end.message,
        force: end.force.force,
        ..MoveRequest::default()
    }
}

/// Does the same with each task; prints what was done, and fails with the first refusal.
async fn many(
    client: &Client,
    deed: &str,
    ids: Vec<String>,
    request: MoveRequest,
    output: &Output,
) -> Result<(), CliError> {
    let moved = client
        .move_many(deed, &ManyTasks::new(ids, request))
        .await?;
    if output.is_json() {
        output.document(&moved);
    } else {
        for id in &moved.succeeded {
            output.line(id);
        }
    }
    let mut failed = moved.failed.into_iter();
    let Some(first) = failed.next() else {
        return Ok(());
    };
    for other in failed {
        output.say(&format!("error: {}", other.error));
    }
    Err(ClientError::Refused(Box::new(first.error)).into())
}

fn print_id(task: &TaskView, output: &Output) {
    if output.is_json() {
        output.document(task);
    } else {
        output.line(task.id.as_str());
    }
}

fn print_status(task: &TaskView, output: &Output) {
    if output.is_json() {
        output.document(task);
    } else {
        output.line(task.status.as_str());
    }
}

fn draft(arguments: CreateArgs) -> Result<NewDraft, CliError> {
    let (script, container) = (script(&arguments.script)?, container(&arguments.script));
    let mut sections = Map::new();
    for given in &arguments.param {
        let parameter = parameter(given)?;
        let section = sections
            .entry(parameter.section)
            .or_insert_with(|| json!({}));
        section[parameter.name] = parameter.value;
    }
    Ok(NewDraft {
        name: arguments.name,
        project: arguments.project,
        task_type: arguments.task_type.as_deref().map(task_type).transpose()?,
        comment: arguments.texts.comment.unwrap_or_default(),
        tags: arguments.texts.tags,
        parent: arguments.texts.parent.as_deref().map(parent).transpose()?,
        output_destination: arguments.texts.output_destination,
        script,
        container,
        action: arguments.action.as_deref().map(read_action).transpose()?,
        parameters: sections,
        ..NewDraft::default()
    })
}

fn edit(arguments: EditArgs) -> Result<TaskEdit, CliError> {
    let (script, container) = (script(&arguments.script)?, container(&arguments.script));
    let parent = arguments.texts.parent.as_deref().map(parent).transpose()?;
    let tags = arguments.texts.tags;
    Ok(TaskEdit {
        name: arguments.name,
        comment: arguments.texts.comment,
        tags: (!tags.is_empty()).then_some(tags),
        task_type: arguments.task_type.as_deref().map(task_type).transpose()?,
        parent: parent.map(Some),
        script: script.map(Some),
        container: container.map(Some),
        output_destination: arguments.texts.output_destination.map(Some),
        action: arguments.action.as_deref().map(read_action).transpose()?,
        force: arguments.force.force,
        ..TaskEdit::default()
    })
}

fn task_type(name: &str) -> Result<TaskType, CliError> {
    TaskType::parse(name).ok_or_else(|| {
        let known = TaskType::ALL.map(TaskType::as_str).join(", ");
        CliError::Usage(format!("--type must be one of {known}, but it is `{name}`"))
    })
}

fn parent(id: &str) -> Result<trainshed_core::TaskId, CliError> {
    id.parse()
        .map_err(|error| CliError::Usage(format!("--parent: {error}")))
}

/// The script that the flags describe; none when there is no such flag.
fn script(flags: &ScriptArgs) -> Result<Option<Script>, CliError> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let requirements = match &flags.requirements {
        Some(file) => Some(Value::String(read_text(file)?)),
        None => None,
    };
    let script = Script {
        repository: text(&flags.repository),
        branch: text(&flags.branch),
        version_num: text(&flags.commit),
        entry_point: text(&flags.entry_point),
        working_dir: text(&flags.working_dir),
        diff: flags
            .diff
            .as_deref()
            .map(read_text)
            .transpose()?
            .unwrap_or_default(),
        requirements,
        ..Script::default()
    };
    Ok((script != Script::default()).then_some(script))
}

fn container(flags: &ScriptArgs) -> Option<Container> {
    flags.image.clone().map(|image| Container {
        image,
        ..Container::default()
    })
}

async fn params(client: &Client, arguments: ParamsArgs, output: &Output) -> Result<(), CliError> {
    let id = &arguments.id;
    let force = arguments.force.force;
    for path in &arguments.remove {
        let (section, name) = split_path(path);
        client.delete_parameter(id, section, name, force).await?;
    }
    if !arguments.set.is_empty() || arguments.replace {
        let given: Result<Vec<Parameter>, CliError> =
            arguments.set.iter().map(|given| parameter(given)).collect();
        let replace = arguments.replace;
        client.set_parameters(id, &given?, replace, force).await?;
    }
    let parameters = client.parameters(id).await?;
    let rows = parameters.iter().map(|parameter| {
        vec![
            parameter.path(),
            parameter.kind.clone(),
            parameter.stored_value(),
        ]
    });
    let rows = rows.collect();
    output.list(&parameters, &["PARAMETER", "TYPE", "VALUE"], rows);
    Ok(())
}

async fn property(
    client: &Client,
    id: &str,
    set: &[String],
    remove: &[String],
    output: &Output,
) -> Result<(), CliError> {
    for name in remove {
        client.delete_property(id, name).await?;
    }
    if !set.is_empty() {
        let mut given = Map::new();
        for property in set {
            let (name, value) = assignment(property)?;
            given.insert(name.to_owned(), json!({"value": value}));
        }
        client.set_properties(id, &Value::Object(given)).await?;
    }
    let properties = client.properties(id).await?;
    let rows = properties.iter().map(|property| {
        vec![
            property.name.clone(),
            property.stored_value(),
            property.description.clone(),
        ]
    });
    let rows = rows.collect();
    output.list(&properties, &["PROPERTY", "VALUE", "DESCRIPTION"], rows);
    Ok(())
}

async fn config(client: &Client, command: ConfigCommand, output: &Output) -> Result<(), CliError> {
    match command {
        ConfigCommand::Ls { id } => {
            let listed = client.configurations(&id).await?;
            let rows = listed.iter().map(|object| {
                vec![
                    object.name.clone(),
                    object.kind.clone(),
                    object.size_bytes.to_string(),
                    time(object.last_update),
                ]
            });
            let rows = rows.collect();
            output.list(&listed, &["NAME", "TYPE", "BYTES", "WRITTEN"], rows);
        }
        ConfigCommand::Get { id, name } => {
            let content = client.configuration(&id, &name).await?;
            // A reader that has gone away, as `| head` does, is no error.
            let _ = std::io::stdout().lock().write_all(&content);
        }
        ConfigCommand::Put {
            id,
            file,
            name,
            kind,
            force,
        } => {
            let content = read_file(&file)?;
            client
                .put_configuration(&id, &name, &kind, content, force.force)
                .await?;
        }
        ConfigCommand::Rm { id, name, force } => {
            client.delete_configuration(&id, &name, force.force).await?;
        }
    }
    Ok(())
}

/// The parameter that `SECTION/NAME=VALUE` describes.
fn parameter(given: &str) -> Result<Parameter, CliError> {
    let (path, value) = assignment(given)?;
    let (section, name) = split_path(path);
    Ok(Parameter::new(section, name, value))
}

/// Name and value; a value that is JSON has its type, any other is a text.
fn assignment(given: &str) -> Result<(&str, Value), CliError> {
    let (name, value) = given.split_once('=').ok_or_else(|| {
        CliError::Usage(format!(
            "must be NAME=VALUE, but there is no `=` in `{given}`"
        ))
    })?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((name, value))
}

fn read_text(path: impl AsRef<Path>) -> Result<String, CliError> {
    let path = path.as_ref();
    String::from_utf8(read_file(path)?)
        .map_err(|_| CliError::Usage(format!("`{}` is not UTF-8", path.display())))
}

/// The content of a file, or of standard input for `-`.
fn read_file(path: &Path) -> Result<Vec<u8>, CliError> {
    let failed = |source| CliError::File {
        path: path.to_owned(),
        verb: "read",
        source,
    };
    if path != Path::new("-") {
        return std::fs::read(path).map_err(failed);
    }
    let mut content = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut content);
    read.map_err(failed)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_json_has_its_type_and_any_other_is_a_text() {
        for (given, path, kind) in [
            ("lr=0.1", "General/lr", "float"),
            ("General/epochs=3", "General/epochs", "int"),
            ("Args/name=three=3", "Args/name", "str"),
            ("a/b/c=[1]", "a/b/c", "list"),
            ("none=null", "General/none", "null"),
            ("empty=", "General/empty", "str"),
            ("quoted=\"3\"", "General/quoted", "str"),
        ] {
            let parameter = parameter(given).expect("an assignment");
            assert_eq!(
                (parameter.path().as_str(), parameter.kind.as_str()),
                (path, kind)
            );
        }
        assert!(parameter("lr").is_err());
    }
}
