//! How a run ended, in one sentence for people.

use serde_json::{Map, Value};
use trainshed_core::limits::Limits;
use trainshed_core::task::Outcome;
pub(crate) use trainshed_core::text::{one_line, shortened};
use wasmtime::Trap;
use wasmtime::component::ResourceTableError;

use crate::bindings::trainshed::plugin::types::Failure;
use crate::limits::{Refusal, bytes_for_people};
use crate::load::MAX_JSON_BYTES;
use crate::state::{Fatal, MAX_HANDLES, TaskState};
use crate::watch::{End, Watch};

/// Longest text of a plugin that goes into a reason, in characters.
const MAX_REASON_CHARS: usize = 2000;

/// The outcome of a call that came back with what the plugin returned. Whoever asked it to
/// stop knows why, so the reason of a plugin that obeyed is empty.
pub(crate) fn returned(result: Result<String, Failure>, was_asked_to_stop: bool) -> Outcome {
    match result {
        Ok(json) => completed(&json),
        Err(Failure::InvalidParameter((pointer, message))) => Outcome::Failed {
            reason: shortened(
                &format!(
                    "hyperparameter {}: {}",
                    one_line(&pointer),
                    one_line(&message)
                ),
                MAX_REASON_CHARS,
            ),
        },
        Err(Failure::Failed(message)) if message.trim().is_empty() => Outcome::Failed {
            reason: "the plugin failed and gave no reason".to_owned(),
        },
        Err(Failure::Failed(message)) => Outcome::Failed {
            reason: shortened(&one_line(&message), MAX_REASON_CHARS),
        },
        Err(Failure::Stopped) if was_asked_to_stop => Outcome::Stopped {
            reason: String::new(),
        },
        Err(Failure::Stopped) => Outcome::Failed {
            reason: "the plugin said that it was stopped, but nobody had asked it to".to_owned(),
        },
    }
}

/// An object is the result as it is; any other value becomes its member `result`.
fn completed(json: &str) -> Outcome {
    if json.len() > MAX_JSON_BYTES {
        let length = json.len();
        let reason = format!(
            "the plugin's result has {length} bytes, but it may have at most {MAX_JSON_BYTES}"
        );
        return Outcome::Failed { reason };
    }
    let result = match serde_json::from_str(json) {
        Ok(Value::Object(result)) => result,
        Ok(value) => Map::from_iter([("result".to_owned(), value)]),
        Err(error) => {
            let reason = format!("the plugin's result is not JSON: {error}");
            return Outcome::Failed { reason };
        }
    };
    Outcome::Completed { result }
}

/// The outcome of a call that came back with an error of the engine or the host, or that was
/// interrupted.
pub(crate) fn interrupted(
    error: &wasmtime::Error,
    watch: &Watch,
    limits: &Limits,
    state: &mut TaskState,
) -> Outcome {
    let reason = ended_by(error, watch, limits, state);
    match watch.end() {
        Some(End::GraceOver | End::Abandoned) => Outcome::Stopped { reason },
        _ => Outcome::Failed { reason },
    }
}

/// Why a call did not return, in one sentence.
pub(crate) fn ended_by(
    error: &wasmtime::Error,
    watch: &Watch,
    limits: &Limits,
    state: &mut TaskState,
) -> String {
    if let Some(end) = watch.end() {
        return limit_reached(end, limits);
    }
    if let Some(Fatal(reason)) = error.downcast_ref() {
        return reason.clone();
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref() {
        return format!("the plugin holds more than {MAX_HANDLES} handles at one time");
    }
    if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        return format!("the plugin exited with status {}", exit.0);
    }
    let panic = state.console.panic_message();
    if panic.is_none()
        && let Some(refusal) = state.limiter.refused()
    {
        return out_of_memory(refusal);
    }
    let trap = match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => "unreachable executed".to_owned(),
        Some(Trap::StackOverflow) => {
            "its call stack overflowed, as endless recursion does".to_owned()
        }
        Some(trap) => {
            let text = trap.to_string();
            text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned()
        }
        None => shortened(&one_line(&error.root_cause().to_string()), MAX_REASON_CHARS),
    };
    match panic {
        Some(message) => format!("the plugin trapped: {trap} ({message})"),
        None => format!("the plugin trapped: {trap}"),
    }
}

fn limit_reached(end: End, limits: &Limits) -> String {
    match end {
        End::WallTime => format!(
            "the plugin ran longer than its limit of {}",
            duration_for_people(limits.wall_ms)
        ),
        End::CpuTime => format!(
            "the plugin used more CPU time than its limit of {}",
            duration_for_people(limits.cpu_ms)
        ),
        End::GraceOver => format!(
            "the plugin did not return within {}",
            duration_for_people(limits.grace_ms)
        ),
        End::Abandoned => "stopped: the agent gave the run up".to_owned(),
    }
}

fn out_of_memory(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Memory { asked, limit } => format!(
            "the plugin ran out of memory: it asked for {}, and its limit is {}",
            bytes_for_people(*asked),
            bytes_for_people(*limit)
        ),
        Refusal::Table { asked, limit } => format!(
            "the plugin's tables grew too large: it asked for {asked} elements, and its limit is {limit}"
        ),
    }
}

/// `milliseconds` for people: `250 ms`, `5 s`, `1.5 s`.
fn duration_for_people(milliseconds: u64) -> String {
    match (milliseconds / 1000, milliseconds % 1000) {
        (0, rest) => format!("{rest} ms"),
        (seconds, 0) => format!("{seconds} s"),
        (seconds, rest) => {
            let fraction = format!("{rest:03}");
            format!("{seconds}.{} s", fraction.trim_end_matches('0'))
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(returned_by_plugin: Result<&str, Failure>, expected: expect_test::Expect) {
        let outcome = returned(returned_by_plugin.map(str::to_owned), false);
        expected.assert_eq(&json!(outcome).to_string());
    }

    #[test]
    fn what_a_plugin_returns_becomes_the_outcome() {
        check(
            Ok(r#"{"accuracy": 0.9}"#),
            expect![[r#"{"result":{"accuracy":0.9},"state":"completed"}"#]],
        );
        check(
            Ok("0.5"),
            expect![[r#"{"result":{"result":0.5},"state":"completed"}"#]],
        );
        check(
            Ok("{"),
            expect![[
                r#"{"reason":"the plugin's result is not JSON: EOF while parsing an object at line 1 column 1","state":"failed"}"#
            ]],
        );
        let nested = "[".repeat(100_000);
        check(
            Ok(&nested),
            expect![[
                r#"{"reason":"the plugin's result is not JSON: recursion limit exceeded at line 1 column 128","state":"failed"}"#
            ]],
        );
        check(
            Err(Failure::InvalidParameter((
                "/batch_size".into(),
                "must be at least 1\n".into(),
            ))),
            expect![[
                r#"{"reason":"hyperparameter /batch_size: must be at least 1","state":"failed"}"#
            ]],
        );
        check(
            Err(Failure::Stopped),
            expect![[
                r#"{"reason":"the plugin said that it was stopped, but nobody had asked it to","state":"failed"}"#
            ]],
        );
        check(
            Err(Failure::Failed(" ".into())),
            expect![[r#"{"reason":"the plugin failed and gave no reason","state":"failed"}"#]],
        );
    }

    #[test]
    fn durations_are_written_for_people() {
        let texts = [250, 5000, 1500, 60_050].map(duration_for_people);
        assert_eq!(texts, ["250 ms", "5 s", "1.5 s", "60.05 s"]);
    }
}
