//! The document that describes the API: OpenAPI 3.1, made of the handlers' descriptions.

use std::sync::Arc;

use axum::http::header;
use axum::response::IntoResponse;
use trainshed_wire::Problem;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, Required, ResponseBuilder,
    ServerBuilder,
};
use utoipa::{PartialSchema as _, ToSchema as _};

/// The name of the only way to authenticate.
const KEY: &str = "key";

/// What is true of the whole API.
pub(crate) fn skeleton() -> OpenApi {
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("trainshed")
                .version("1")
                .description(Some(
                    "Run, track and repeat machine-learning plugins. Every error is a problem \
                     (RFC 9457) with a stable `type`. Times are milliseconds since 1970, UTC.",
                ))
                .build(),
        )
        .servers(Some([ServerBuilder::new().url("/api/v1").build()]))
        .build()
}

/// Adds what every operation has: the key that it needs, and problems as its errors.
pub(crate) fn complete(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    components
        .schemas
        .insert(Problem::name().into_owned(), Problem::schema());
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A key of the workspace."));
    components.add_security_scheme(KEY, SecurityScheme::Http(bearer.build()));
    document.security = Some(vec![SecurityRequirement::new(KEY, Vec::<String>::new())]);
    let problem = ResponseBuilder::new()
        .description("What was wrong, and what would be right.")
        .content(
            "application/problem+json",
            ContentBuilder::new()
                .schema(Some(Ref::from_schema_name(Problem::name())))
                .build(),
        )
        .build();
    // The router writes a path that goes on to the end of the address with an asterisk, and the
    // description of the handler does not know such a parameter.
    let paths = std::mem::take(&mut document.paths.paths);
    for (path, mut item) in paths {
        let rest = path
            .split_once("{*")
            .and_then(|(_, rest)| rest.split_once('}'))
            .map(|(name, _)| name.to_owned());
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.patch,
            &mut item.delete,
        ];
        for operation in operations.into_iter().flatten() {
            operation.summary = operation.summary.as_deref().map(without_call);
            let tags = operation.tags.iter().flatten().map(String::as_str);
            let names = tags.chain(operation.operation_id.as_deref());
            let names: Vec<String> = names.map(|name| name.replace([' ', '_'], "-")).collect();
            operation.operation_id = Some(names.join("-"));
            let responses = &mut operation.responses.responses;
            responses.insert("default".to_owned(), problem.clone().into());
            if let Some(name) = &rest {
                let parameters = operation.parameters.get_or_insert_default();
                parameters.push(to_the_end(name).into());
            }
        }
        let path = path.replace("{*", "{");
        document.paths.paths.insert(path, item);
    }
}

/// A part of the path that goes on to its end.
fn to_the_end(name: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some("May contain slashes."))
        .schema(Some(String::schema()))
        .build()
}

/// `GET /openapi.json`: the document itself, for clients that are made of it. Needs no key.
pub(crate) async fn answer(document: Arc<str>) -> impl IntoResponse {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, String::from(&*document))
}

/// What a handler's comment says after the call that it begins with.
fn without_call(summary: &str) -> String {
    let text = summary
        .strip_prefix('`')
        .and_then(|rest| rest.split_once("`: "));
    let text = text.map_or(summary, |(_, text)| text).replace('\n', " ");
    let mut letters = text.chars();
    let first = letters
        .next()
        .map(|letter| letter.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}
