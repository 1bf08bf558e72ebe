//! `settings`: what a plugin connects with the parameters and configuration of its task.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use trainshed_core::name::is_series_name;
use trainshed_core::parameter::check_connected;
use trainshed_core::report::Report;
use wasmtime::component::Resource;

use super::run::{Reported, Run, invalid};
use crate::bindings::trainshed::plugin::run::ReportError;
use crate::bindings::trainshed::plugin::settings::Host;
use crate::job::Refused;
use crate::state::TaskState;
use crate::wasi::not_stored;

/// Longest text of a configuration object.
const MAX_TEXT_BYTES: usize = 8 << 20;
/// Longest JSON of connected values.
const MAX_VALUES_BYTES: usize = 1 << 20;
/// Most environment variables of one call.
const MAX_VARIABLES: usize = 100;
/// Longest name of a format.
const MAX_FORMAT_BYTES: usize = 200;

impl Host for TaskState {
    async fn connect(
        &mut self,
        _run: Resource<Run>,
        section: String,
        values: String,
    ) -> wasmtime::Result<Result<String, ReportError>> {
        if values.len() > MAX_VALUES_BYTES {
            let length = values.len();
            let wrong = format!("must have at most {MAX_VALUES_BYTES} bytes, but it has {length}");
            return Ok(Err(invalid("values", wrong)));
        }
        let values: Map<String, Value> = match serde_json::from_str(&values) {
            Ok(values) => values,
            Err(error) => {
                let wrong = format!("must be a JSON object, but it is not: {error}");
                return Ok(Err(invalid("values", wrong)));
            }
        };
        if let Err(error) = check_connected(&section, &values) {
            let argument = if error.pointer.is_empty() {
                "section"
            } else {
                "values"
            };
            return Ok(Err(invalid(argument, error.message)));
        }
        if let Err(error) = self.take_points(1) {
            return Ok(Err(error));
        }
        match self.services.connect(section, values).await {
            Ok(values) => Ok(Ok(Value::Object(values).to_string())),
            Err(refused) => refused_as(refused),
        }
    }

    async fn log_environment(&mut self, _run: Resource<Run>, names: Vec<String>) -> Reported {
        if names.len() > MAX_VARIABLES {
            let count = names.len();
            let wrong = format!("must be at most {MAX_VARIABLES}, but there are {count}");
            return Ok(Err(invalid("names", wrong)));
        }
        let granted = &self.facts.environment;
        let granted = |name: String| granted.get(&name).cloned().map(|value| (name, value));
        let values: BTreeMap<String, String> = names.into_iter().filter_map(granted).collect();
        if let Err(error) = self.take_points(1) {
            return Ok(Err(error));
        }
        self.hand_over(Report::Environment { values }).await
    }

    async fn connect_text(
        &mut self,
        _run: Resource<Run>,
        name: String,
        text: String,
        format: String,
    ) -> wasmtime::Result<Result<String, ReportError>> {
        let wrong = if !is_series_name(&name) {
            Some((
                "name",
                "must have 1 to 200 bytes and no control characters".to_owned(),
            ))
        } else if text.len() > MAX_TEXT_BYTES {
            let length = text.len();
            let wrong = format!("must have at most {MAX_TEXT_BYTES} bytes, but it has {length}");
            Some(("text", wrong))
        } else if format.len() > MAX_FORMAT_BYTES || format.contains(char::is_control) {
            let wrong = format!("must have at most {MAX_FORMAT_BYTES} bytes, none of control");
            Some(("format", wrong))
        } else {
            None
        };
        if let Some((argument, wrong)) = wrong {
            return Ok(Err(invalid(argument, wrong)));
        }
        if let Err(error) = self.take_points(1) {
            return Ok(Err(error));
        }
        match self.services.connect_text(name, text, format).await {
            Ok(text) => Ok(Ok(text)),
            Err(refused) => refused_as(refused),
        }
    }
}

fn refused_as<T>(refused: Refused) -> wasmtime::Result<Result<T, ReportError>> {
    match refused {
        Refused::Stopped => Ok(Err(ReportError::Stopped)),
        Refused::Failed(reason) => Err(not_stored(&reason).into()),
    }
}
