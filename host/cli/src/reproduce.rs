//! `trainshed task reproduce`: runs a task again and compares everything it told, bit by bit.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Value, json};
use trainshed_core::report::Real;
use trainshed_core::resource::is_of_the_machine;
use trainshed_core::task::TaskState;
use trainshed_core::view::{RunRecord, TaskView};
use trainshed_wire::Client;

use crate::args::{AcceleratorArgs, Global};
use crate::connect::Connection;
use crate::error::CliError;
use crate::follow::{Followed, follow};
use crate::output::Output;

/// What one task told and made, by what it is called; equal runs have equal ones.
type Evidence = BTreeMap<String, String>;

/// What the comparison found.
#[derive(Debug, Serialize)]
struct Verdict {
    /// The task that was repeated.
    original: String,
    /// The task that repeated it.
    repetition: String,
    /// Whether everything is equal.
    equal: bool,
    /// Curves, single values, models and data sets that were compared.
    compared: usize,
    /// Which of them differ, or are only in one of the two.
    different: Vec<String>,
}

/// Exits with 0 when everything is equal, with 1 when something is not.
pub(crate) async fn reproduce(
    global: &Global,
    id: &str,
    output: &Output,
) -> Result<ExitCode, CliError> {
    let connection = Connection::open_with_agent(global, AcceleratorArgs::default()).await?;
    let done = repeat(&connection.client, id, output).await;
    connection.close().await;
    done
}

async fn repeat(client: &Client, id: &str, output: &Output) -> Result<ExitCode, CliError> {
    let original = client.task(id).await?;
    let action = action_of(&original)?;
    let repetition = client.submit(&action).await?.task;
    output.say(&format!("task     {}", repetition.id));
    let repetition = match follow(client, &repetition, output).await? {
        Followed::Ended(ended) => ended,
        Followed::Left => return Ok(ExitCode::from(130)),
    };
    for what in moved(&original.run, &repetition.run) {
        output.say(&format!("note: {what}"));
    }
    let mut different = Vec::new();
    if original.status != repetition.status {
        let (before, now) = (original.status, repetition.status);
        different.push(format!("status: {before} and now {now}"));
    }
    let before = evidence(client, &original).await?;
    let now = evidence(client, &repetition).await?;
    let names: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let compared = names.len();
    different.extend(
        names
            .into_iter()
            .filter(|name| before.get(*name) != now.get(*name))
            .cloned(),
    );
    let verdict = Verdict {
        original: original.id.to_string(),
        repetition: repetition.id.to_string(),
        equal: different.is_empty(),
        compared,
        different,
    };
    if output.is_json() {
        output.document(&verdict);
    } else if verdict.equal {
        output.line(&format!(
            "equal to the bit: {compared} curves, values and files"
        ));
    } else {
        output.line(&format!(
            "different, of {compared} curves, values and files:"
        ));
        for name in &verdict.different {
            output.line(&format!("  {name}"));
        }
    }
    Ok(if verdict.equal {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What of a run's surroundings is not what it was: reasons why bits may differ.
fn moved(before: &RunRecord, now: &RunRecord) -> Vec<String> {
    let (Some(then), Some(here)) = (&before.machine, &now.machine) else {
        return Vec::new();
    };
    let mut notes = Vec::new();
    let mut compare = |what: &str, then: &str, here: &str| {
        if then != here {
            notes.push(format!("{what} was {then} and is {here}"));
        }
    };
    compare("trainshed", &then.trainshed, &here.trainshed);
    compare("the processor", &then.cpu, &here.cpu);
    let (features, has) = (then.cpu_features.join(" "), here.cpu_features.join(" "));
    compare("its extensions", &features, &has);
    compare("the GPUs", &then.gpus.join(", "), &here.gpus.join(", "));
    notes
}

/// The action that a task was, with everything pinned that was chosen for it: the component
/// by its digest, and the seed.
fn action_of(task: &TaskView) -> Result<Value, CliError> {
    let cannot = |why: &str| CliError::Usage(format!("the task {} {why}", task.id));
    let plugin = task.plugin.as_ref();
    let plugin =
        plugin.ok_or_else(|| cannot("was not run by a plugin, so it cannot be repeated"))?;
    if !matches!(task.status, TaskState::Completed | TaskState::Published) {
        let status = task.status;
        return Err(cannot(&format!(
            "is {status}: only a completed run can be repeated"
        )));
    }
    let mut params = task.params.clone();
    let short: String = task.id.as_str().chars().rev().take(6).collect();
    let short: String = short.chars().rev().collect();
    params.insert("name".to_owned(), json!(format!("repetition of {short}")));
    params.insert("project".to_owned(), json!(task.project));
    params.insert("seed".to_owned(), json!(task.seed));
    Ok(json!({
        "action": task.action,
        "plugin": format!("sha256:{}", plugin.digest),
        "params": params,
    }))
}

/// Everything that must be equal: the points of every curve, the single values, and the
/// digests of models and of the data set. Times, and what the machine did, differ.
async fn evidence(client: &Client, task: &TaskView) -> Result<Evidence, CliError> {
    let id = task.id.as_str();
    let metrics = client.metrics(id).await?;
    let mut evidence = Evidence::new();
    for curve in metrics.scalars {
        if is_of_the_machine(&curve.title) {
            continue;
        }
        let mut bits: Vec<String> = Vec::new();
        let mut from = Some(0);
        while let Some(first) = from {
            let page = client.curve(id, &curve.title, &curve.series, first).await?;
            let places = page.iterations.iter().zip(&page.values);
            let place = |(iteration, value): (&u64, &Real)| {
                format!("{iteration}:{:016x}", value.0.to_bits())
            };
            bits.extend(places.map(place));
            from = page.next;
        }
        let name = format!("curve {}/{}", curve.title, curve.series);
        evidence.insert(name, bits.join(" "));
    }
    for single in metrics.singles {
        let bits = format!("{:016x}", single.value.0.to_bits());
        evidence.insert(format!("value {}", single.name), bits);
    }
    for model in client.task_models(id).await?.models {
        if let Some(digest) = model.sha256 {
            let name = model.slot.unwrap_or(model.name);
            evidence.insert(format!("model {name}"), digest.to_string());
        }
    }
    let made = task
        .result
        .as_ref()
        .and_then(|result| result.get("dataset_id"));
    if let Some(made) = made.and_then(Value::as_u64) {
        let dataset = client.dataset(made).await?;
        evidence.insert("data set".to_owned(), dataset.digest.to_string());
    }
    Ok(evidence)
}
