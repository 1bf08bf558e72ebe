//! The event stream of a task: it says that something changed, never what.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures::Stream;
use tokio::sync::broadcast::error::RecvError;
use trainshed_core::action::TUNE;
use trainshed_engine::Engine;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Path, task_id};
use crate::tasks::no_task;

/// Shortest time between two events of one stream, so that a busy task does not flood it.
const COALESCE: Duration = Duration::from_millis(100);

/// `GET /tasks/{id}/events`: an event `changed` at once and after every change, and `ended` once
/// the task has ended, as server-sent events; of a tune action also `trials` when anything
/// happened to its trials, with the number to ask for what changed after it next time. Whoever
/// hears one asks for the state.
#[utoipa::path(get, path = "/tasks/{id}/events", tag = "tasks", responses((status = 200, content_type = "text/event-stream", body = String)))]
pub(crate) async fn follow(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Path(id): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let task = task_id(&id)?;
    // Subscribed before the first look, so that no change falls between the two.
    let mut changes = engine.subscribe();
    engine
        .task(&workspace, &task)
        .await?
        .ok_or_else(|| no_task(&id))?;
    let stream = async_stream::stream! {
        let mut happened = 0;
        loop {
            // A store that fails here fails the caller's next request too, with a reason.
            let view = engine.task(&workspace, &task).await.ok().flatten();
            if view.as_ref().is_some_and(|view| view.action == TUNE)
                && let Ok(seq) = engine.trials_seq(&workspace, &task).await
                && seq > happened
            {
                happened = seq;
                yield Ok(Event::default().event("trials").data(seq.to_string()));
            }
            let ended = view.is_none_or(|view| view.status.has_ended());
            let name = if ended { "ended" } else { "changed" };
            yield Ok(Event::default().event(name).data(task.as_str()));
            if ended {
                break;
            }
            tokio::time::sleep(COALESCE).await;
            loop {
                match changes.recv().await {
                    Ok(event) if event.task == task => break,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return,
                }
            }
        }
    };
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}
