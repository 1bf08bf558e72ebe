//! The life of one run, on its own thread.

use std::sync::Arc;

use trainshed_core::report::LineSource;
use trainshed_core::task::Outcome;
use wasmtime::component::{Instance, Resource};
use wasmtime::{Store, UpdateDeadline};

use crate::bindings::trainshed::plugin::types::Failure;
use crate::engine::Shared;
use crate::imports::checkpoint::Checkpoint;
use crate::imports::dataset::Dataset;
use crate::imports::run::Run;
use crate::job::{Job, JobWork, Services};
use crate::load::Plugin;
use crate::outcome;
use crate::state::{Fatal, TaskState};
use crate::watch::{End, Watch};

/// Runs `job` to its end. Blocks.
pub(crate) fn run(
    plugin: &Plugin,
    job: Job,
    services: Arc<dyn Services>,
    watch: Arc<Watch>,
    shared: Arc<Shared>,
) -> Outcome {
    let failed = |reason| Outcome::Failed { reason };
    let checkpoint = match &job.work {
        JobWork::Train {
            checkpoint: Some(file),
            ..
        } => match Checkpoint::open(file) {
            Ok(checkpoint) => Some(checkpoint),
            Err(reason) => return failed(reason),
        },
        _ => None,
    };
    let state = match TaskState::for_task(&job, services, Arc::clone(&watch), shared) {
        Ok(state) => state,
        Err(reason) => return failed(reason),
    };
    let limits = job.limits;
    let called = with_guest(plugin, state, async |store, instance| {
        call_action(plugin, job, checkpoint, store, instance).await
    });
    let (returned, mut store) = match called {
        Ok(called) => called,
        Err(reason) => return failed(reason),
    };
    let state = store.data_mut();
    let outcome = match returned {
        Ok(result) => outcome::returned(result, watch.is_stopping()),
        Err(error) => outcome::interrupted(&error, &watch, &limits, state),
    };
    match (outcome, state.quota_exceeded.take()) {
        (Outcome::Completed { .. }, Some(reason)) => failed(reason),
        (outcome, _) => outcome,
    }
}

/// Calls the export that the job asks for.
async fn call_action(
    plugin: &Plugin,
    job: Job,
    checkpoint: Option<Checkpoint>,
    store: &mut Store<TaskState>,
    instance: Instance,
) -> wasmtime::Result<Result<String, Failure>> {
    let missing = |action| {
        let reason = format!("the plugin does not export the action `{action}`");
        wasmtime::Error::new(Fatal(reason))
    };
    let table = &mut store.data_mut().table;
    let run = Resource::new_borrow(table.push(Run)?.rep());
    let dataset = Resource::new_borrow(table.push(Dataset::new(job.dataset))?.rep());
    match job.work {
        JobWork::Train { hyperparameter, .. } => {
            let checkpoint = match checkpoint {
                Some(checkpoint) => Some(Resource::new_borrow(table.push(checkpoint)?.rep())),
                None => None,
            };
            let hyperparameter = serde_json::Value::Object(hyperparameter).to_string();
            let is_trial = job.trial.is_some();
            let returned = if let Some(export) = plugin.tune().filter(|_| is_trial) {
                let guest = export.load(&mut *store, &instance)?;
                guest
                    .call_tune(&mut *store, &hyperparameter, run, dataset, checkpoint)
                    .await?
            } else {
                let export = plugin.train().ok_or_else(|| missing("train"))?;
                let guest = export.load(&mut *store, &instance)?;
                guest
                    .call_train(&mut *store, run, dataset, &hyperparameter, checkpoint)
                    .await?
            };
            if returned.is_ok() {
                note_missing_model(store.data());
            }
            Ok(returned)
        }
        JobWork::Preprocess { parameters } => {
            let export = plugin.preprocess().ok_or_else(|| missing("preprocess"))?;
            let guest = export.load(&mut *store, &instance)?;
            let parameters = serde_json::Value::Object(parameters).to_string();
            guest
                .call_preprocess(store, run, dataset, &parameters)
                .await
        }
    }
}

/// Says on the console of a trial that it saved no model, of which there is one from each other.
fn note_missing_model(state: &TaskState) {
    if let Some(trial) = &state.facts.trial
        && state.saved_models.is_empty()
    {
        let told = format!("Skipping model registration: no checkpoint path for trial {trial}");
        // A console that takes nothing does not keep the trial from its end.
        let _ = state.console.text(LineSource::Host, told);
    }
}

/// Instantiates the plugin and calls it by `call`, until it returns or its watch ends it; then
/// hands over the last lines of its console. Gives back the store for what is to be learnt of
/// the state.
///
/// # Errors
/// When the call could not even be tried; one sentence says why.
pub(crate) fn with_guest<T>(
    plugin: &Plugin,
    state: TaskState,
    call: impl AsyncFnOnce(&mut Store<TaskState>, Instance) -> wasmtime::Result<T>,
) -> Result<(wasmtime::Result<T>, Store<TaskState>), String> {
    // The guest's own thread may block: nothing else runs here. Timers are for WASI's clocks.
    let waiting = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| format!("the host cannot start a task: {error}"))?;
    let watch = Arc::clone(&state.watch);
    let console = state.console.clone();
    let mut store = Store::new(plugin.instance().engine(), state);
    store.limiter(|state| &mut state.limiter);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| match store.data().watch.end() {
        Some(end) => Err(Interrupted(end).into()),
        None => Ok(UpdateDeadline::Yield(1)),
    });
    let result = waiting.block_on(async {
        let result = tokio::select! {
            biased;
            end = watch.ended() => Err(Interrupted(end).into()),
            result = async {
                let instance = plugin.instance().instantiate_async(&mut store).await?;
                call(&mut store, instance).await
            } => result,
        };
        if watch.end() == Some(End::Abandoned) {
            return result;
        }
        match console.finish().await {
            Ok(()) => result,
            Err(fatal) => result.and(Err(fatal.into())),
        }
    });
    // A blocking operation that WASI left behind must not hold the thread.
    waiting.shutdown_background();
    Ok((result, store))
}

/// Ends guest code when its watch says so.
#[derive(Debug, thiserror::Error)]
#[error("interrupted: {0:?}")]
struct Interrupted(End);
