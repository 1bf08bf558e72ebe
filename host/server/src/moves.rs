//! The verbs that move tasks, each for one task and for many.

use axum::extract::State;
use trainshed_core::task::Verb;
use trainshed_core::view::TaskView;
use trainshed_engine::Engine;
use trainshed_wire::{ManyTasks, MoveRequest, MovedMany};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Json, Path};
use crate::lifecycle::{self, Deed, ManyDeed};

/// Makes the two handlers of each verb: one path is one function with its description.
macro_rules! moves {
    ($($one:ident $path:literal $many:ident $many_path:literal $deed:expr, $what:literal;)*) => {
        $(
            #[doc = $what]
            #[utoipa::path(post, path = $path, tag = "tasks", request_body = Option<MoveRequest>,
                           responses((status = 200, body = TaskView)))]
            async fn $one(
                State(engine): State<Engine>,
                Caller(workspace): Caller,
                Path(id): Path<String>,
                body: Option<Json<MoveRequest>>,
            ) -> Result<Json<TaskView>, ApiError> {
                let request = body.map(|body| body.0).unwrap_or_default();
                let moved = lifecycle::one($deed, &engine, &workspace, &id, &request).await?;
                Ok(Json(moved))
            }

            #[doc = concat!($what, " Of each of many tasks; what was refused is listed.")]
            #[utoipa::path(post, path = $many_path, tag = "tasks", request_body = ManyTasks,
                           responses((status = 200, body = MovedMany)))]
            async fn $many(
                State(engine): State<Engine>,
                Caller(workspace): Caller,
                Json(request): Json<ManyTasks>,
            ) -> Result<Json<MovedMany>, ApiError> {
                let deed = ManyDeed::Move($deed);
                Ok(Json(lifecycle::many(deed, &engine, &workspace, request).await?))
            }
        )*

        /// The routes of all verbs.
        pub(crate) fn routes() -> OpenApiRouter<Engine> {
            OpenApiRouter::new()
                $(.routes(routes!($one)).routes(routes!($many)))*
                .routes(routes!(delete_many))
        }
    };
}

moves! {
    enqueue "/tasks/{id}/enqueue" enqueue_many "/tasks/enqueue" Deed::Step(Verb::Enqueue),
        "Puts it into the queue `queue` (an id) or `queue_name`.";
    dequeue "/tasks/{id}/dequeue" dequeue_many "/tasks/dequeue" Deed::Step(Verb::Dequeue),
        "Takes it out of its queue.";
    start "/tasks/{id}/start" start_many "/tasks/start" Deed::Step(Verb::Start),
        "Its run begins, of a task that no agent runs.";
    stop "/tasks/{id}/stop" stop_many "/tasks/stop" Deed::Step(Verb::Stop),
        "Stops it; one that an agent runs is asked to stop.";
    complete "/tasks/{id}/complete" complete_many "/tasks/complete" Deed::Step(Verb::Complete),
        "Its run has ended well.";
    fail "/tasks/{id}/fail" fail_many "/tasks/fail" Deed::Step(Verb::Fail),
        "Its run has ended with an error.";
    publish "/tasks/{id}/publish" publish_many "/tasks/publish" Deed::Step(Verb::Publish),
        "Makes it and its models read-only.";
    reset "/tasks/{id}/reset" reset_many "/tasks/reset" Deed::Step(Verb::Reset),
        "Makes a draft of it, without what its run reported and made.";
    archive "/tasks/{id}/archive" archive_many "/tasks/archive" Deed::Archive(true),
        "Gives it the system tag `archived`.";
    unarchive "/tasks/{id}/unarchive" unarchive_many "/tasks/unarchive" Deed::Archive(false),
        "Takes the system tag `archived` from it.";
}

/// `POST /tasks/delete`: deletes each of many tasks; what was refused is listed.
#[utoipa::path(post, path = "/tasks/delete", tag = "tasks", request_body = ManyTasks, responses((status = 200, body = MovedMany)))]
async fn delete_many(
    State(engine): State<Engine>,
    Caller(workspace): Caller,
    Json(request): Json<ManyTasks>,
) -> Result<Json<MovedMany>, ApiError> {
    let deleted = lifecycle::many(ManyDeed::Delete, &engine, &workspace, request).await?;
    Ok(Json(deleted))
}
