//! The HTTP server: the native API under `/api/v1`.
//!
//! A handler parses, calls one use case of the engine and renders; it decides nothing. Start
//! reading at [`router`].

mod agents;
mod artifacts;
mod auth;
mod conditional;
mod datasets;
mod error;
mod events;
mod experiments;
mod extract;
mod files;
mod health;
mod keys;
mod lifecycle;
mod metrics;
mod models;
mod moves;
mod openapi;
mod parameters;
mod plugins;
mod projects;
mod queries;
mod reports;
mod tasks;
mod transfer;
mod tune;
mod uploads;

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use axum::{Extension, Router, middleware};
use tokio::net::TcpListener;
use trainshed_engine::Engine;

use crate::health::Counters;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Most bytes of a JSON body.
const MAX_JSON_BYTES: usize = 16 << 20;

/// The whole API over `engine`.
pub fn router(engine: Engine) -> Router {
    let (api, document) = api();
    let document: Arc<str> = document_text(&document).into();
    let api = api
        .route(
            "/openapi.json",
            get(move || openapi::answer(document.clone())),
        )
        .method_not_allowed_fallback(error::method_not_allowed)
        .fallback(error::not_found)
        .layer(DefaultBodyLimit::max(MAX_JSON_BYTES))
        .layer(from_fn_with_state(engine.clone(), conditional::once))
        .layer(from_fn(conditional::refuse_ignored_conditions))
        .layer(from_fn(conditional::refuse_encoded_bodies))
        .layer(from_fn(conditional::tag));
    let counters = Counters::new();
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .nest("/api/v1", api)
        .fallback(error::not_found)
        .layer(Extension(counters.clone()))
        .layer(middleware::from_fn_with_state(counters, health::count))
        .with_state(engine)
}

/// The native API and the document that describes it. A route exists only with its
/// description.
fn api() -> (Router<Engine>, OpenApi) {
    let (api, mut document) = OpenApiRouter::with_openapi(openapi::skeleton())
        .routes(routes!(tasks::submit))
        .routes(routes!(queries::query_tasks))
        .routes(routes!(queries::export_tasks))
        .routes(routes!(queries::query_models))
        .routes(routes!(queries::export_models))
        .routes(routes!(queries::query_datasets))
        .routes(routes!(queries::export_datasets))
        .routes(routes!(transfer::export))
        .routes(routes!(transfer::import))
        .routes(routes!(queries::query_projects))
        .routes(routes!(queries::export_projects))
        .routes(routes!(tasks::list, lifecycle::create))
        .routes(routes!(lifecycle::by_name))
        .routes(routes!(tasks::show, lifecycle::edit, lifecycle::delete))
        .routes(routes!(lifecycle::clone))
        .routes(routes!(lifecycle::move_to))
        .routes(routes!(lifecycle::ping))
        .routes(routes!(lifecycle::progress))
        .merge(moves::routes())
        .routes(routes!(
            parameters::show,
            parameters::replace,
            parameters::merge
        ))
        .routes(routes!(parameters::remove))
        .routes(routes!(parameters::properties, parameters::set_properties))
        .routes(routes!(parameters::remove_property))
        .routes(routes!(parameters::configurations))
        .routes(routes!(
            parameters::configuration,
            parameters::put_configuration,
            parameters::remove_configuration
        ))
        .routes(routes!(projects::list, projects::create))
        .routes(routes!(projects::show, projects::edit, projects::delete))
        .routes(routes!(projects::merge))
        .routes(routes!(tasks::metrics))
        .routes(routes!(metrics::curve))
        .routes(routes!(
            metrics::append_metrics,
            metrics::delete_metrics,
            metrics::all_curves
        ))
        .routes(routes!(metrics::metric_summary))
        .routes(routes!(reports::append))
        .routes(routes!(reports::console))
        .routes(routes!(reports::samples, reports::put_sample))
        .routes(routes!(reports::plots))
        .routes(routes!(reports::figure))
        .routes(routes!(reports::trials))
        .routes(routes!(artifacts::files))
        .routes(routes!(artifacts::list, artifacts::register))
        .routes(routes!(
            artifacts::put,
            artifacts::content,
            artifacts::delete
        ))
        .routes(routes!(events::follow))
        .routes(routes!(experiments::create))
        .routes(routes!(experiments::ask))
        .routes(routes!(experiments::report))
        .routes(routes!(experiments::tell))
        .routes(routes!(tune::show))
        .routes(routes!(tune::trials))
        .routes(routes!(tune::table))
        .routes(routes!(tune::importance))
        .routes(routes!(tune::parallel))
        .routes(routes!(tune::choose_best))
        .routes(routes!(tune::resume))
        .routes(routes!(keys::list, keys::make))
        .routes(routes!(keys::revoke))
        .routes(routes!(plugins::list, plugins::push))
        .routes(routes!(plugins::show))
        .routes(routes!(plugins::set_source))
        .routes(routes!(datasets::list, datasets::create))
        .routes(routes!(datasets::show, datasets::edit, datasets::delete))
        .routes(routes!(datasets::diff))
        .routes(routes!(datasets::publish))
        .routes(routes!(datasets::archive))
        .routes(routes!(datasets::unarchive))
        .routes(routes!(datasets::file))
        .routes(routes!(models::list, models::register))
        .routes(routes!(models::show, models::edit, models::delete))
        .routes(routes!(models::content))
        .routes(routes!(models::publish))
        .routes(routes!(models::archive))
        .routes(routes!(models::unarchive))
        .routes(routes!(
            models::metadata,
            models::add_metadata,
            models::replace_metadata
        ))
        .routes(routes!(models::delete_metadata))
        .routes(routes!(models::lineage))
        .routes(routes!(models::of_task))
        .routes(routes!(models::set_input, models::remove_input))
        .routes(routes!(files::missing))
        .routes(routes!(files::listing))
        .routes(routes!(files::import))
        .routes(routes!(uploads::begin))
        .routes(routes!(uploads::show, uploads::abort))
        .routes(routes!(uploads::put_part))
        .routes(routes!(uploads::complete))
        .routes(routes!(uploads::collect))
        .routes(routes!(files::store, files::content))
        .routes(routes!(agents::register, agents::list))
        .routes(routes!(agents::lease))
        .routes(routes!(agents::record, agents::readings))
        .routes(routes!(agents::renew))
        .routes(routes!(agents::report))
        .routes(routes!(agents::connect))
        .routes(routes!(agents::connect_text))
        .routes(routes!(agents::commit_version))
        .routes(routes!(agents::put_artifact))
        .routes(routes!(agents::report_trial))
        .routes(routes!(agents::await_decision))
        .routes(routes!(agents::finish))
        .split_for_parts();
    openapi::complete(&mut document);
    (api, document)
}

/// The document that describes the API, OpenAPI 3.1 as JSON. It is also at
/// `/api/v1/openapi.json`.
pub fn openapi() -> String {
    document_text(&api().1)
}

fn document_text(document: &OpenApi) -> String {
    let mut text = document
        .to_pretty_json()
        .expect("a document is texts and numbers");
    text.push('\n');
    text
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
