//! The HTTP server: the native API under `/api/v1`.
//!
//! A handler parses, calls one use case of the engine and renders; it decides nothing. Start
//! reading at [`router`].

mod agents;
mod artifacts;
mod auth;
mod datasets;
mod error;
mod events;
mod extract;
mod files;
mod models;
mod plugins;
mod tasks;

use std::future::Future;
use std::io;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post, put};
use tokio::net::TcpListener;
use trainshed_engine::Engine;

/// Most bytes of a JSON body.
const MAX_JSON_BYTES: usize = 16 << 20;

/// The whole API over `engine`.
pub fn router(engine: Engine) -> Router {
    let api = Router::new()
        .route("/actions", post(tasks::submit))
        .route("/tasks", get(tasks::list))
        .route("/tasks/{id}", get(tasks::show))
        .route("/tasks/{id}/stop", post(tasks::stop))
        .route("/tasks/{id}/scalars", get(tasks::metrics))
        .route("/tasks/{id}/scalars/points", get(tasks::curve))
        .route("/tasks/{id}/console", get(tasks::console))
        .route("/tasks/{id}/samples", get(tasks::samples))
        .route("/tasks/{id}/models", get(tasks::models))
        .route("/tasks/{id}/files", get(artifacts::files))
        .route("/tasks/{id}/artifacts", get(artifacts::list))
        .route(
            "/tasks/{id}/artifacts/{name}",
            put(artifacts::put).get(artifacts::content),
        )
        .route("/tasks/{id}/events", get(events::follow))
        .route("/plugins", get(plugins::list).post(plugins::push))
        .route("/plugins/{reference}", get(plugins::show))
        .route("/datasets", get(datasets::list).post(datasets::create))
        .route("/datasets/{id}", get(datasets::show))
        .route("/datasets/{id}/files/{*path}", get(datasets::file))
        .route("/models", get(models::list))
        .route("/models/{id}", get(models::show))
        .route("/models/{id}/content", get(models::content))
        .route("/files/missing", post(files::missing))
        .route("/files/{sha256}", put(files::store).get(files::content))
        .route("/agents", post(agents::register))
        .route("/agents/{id}/lease", post(agents::lease))
        .route("/leases/{task}/{fence}/renew", post(agents::renew))
        .route("/leases/{task}/{fence}/report", post(agents::report))
        .route(
            "/leases/{task}/{fence}/dataset-version",
            post(agents::commit_version),
        )
        .route("/leases/{task}/{fence}/finish", post(agents::finish))
        .method_not_allowed_fallback(error::method_not_allowed)
        .fallback(error::not_found)
        .layer(DefaultBodyLimit::max(MAX_JSON_BYTES))
        .with_state(engine);
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .nest("/api/v1", api)
        .fallback(error::not_found)
}

/// Serves the API on `listener` until `shutdown` is done and the calls in flight have ended.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    engine: Engine,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(engine))
        .with_graceful_shutdown(shutdown)
        .await
}
