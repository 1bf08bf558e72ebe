//! Standard output and error, and the plugin's own texts, as the lines of one console.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use trainshed_core::report::{Line, LineSource, Report};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::job::{Refused, Services};
use crate::limits::{Quota, bytes_for_people};
use crate::outcome;
use crate::state::{Fatal, now};
use crate::watch::lock;

/// Longer lines are cut into pieces of this length.
pub(crate) const MAX_LINE_BYTES: usize = 64 << 10;
/// What a line costs at least: an empty one is stored, sent and shown like any other.
const MIN_LINE_COST: u64 = 16;
/// How much a plugin may write ahead of what the host has taken over.
const MAX_WAITING_COST: u64 = 256 << 10;
/// How many of the last lines of standard error are kept to look for a panic's message.
const ERROR_LINES: usize = 8;

/// The console of one run. Clones write to the same one, in the order of the writes.
#[derive(Clone)]
pub(crate) struct Console {
    lines: Arc<Mutex<Lines>>,
    services: Arc<dyn Services>,
}

struct Lines {
    /// What was written of the line that standard output, and error, has begun.
    unfinished: [Vec<u8>; 2],
    waiting: VecDeque<Line>,
    waiting_cost: u64,
    quota: Quota,
    last_errors: VecDeque<String>,
    /// Why lines are no longer taken.
    refused: Option<Refused>,
}

impl Console {
    pub(crate) fn new(limit_bytes: u64, services: Arc<dyn Services>) -> Self {
        let lines = Lines {
            unfinished: [Vec::new(), Vec::new()],
            waiting: VecDeque::new(),
            waiting_cost: 0,
            quota: Quota::new(limit_bytes),
            last_errors: VecDeque::new(),
            refused: None,
        };
        Self {
            lines: Arc::new(Mutex::new(lines)),
            services,
        }
    }

    /// Standard output or error.
    pub(crate) fn stream(&self, source: LineSource) -> ConsoleStream {
        ConsoleStream {
            console: self.clone(),
            source,
            is_kept: true,
        }
    }

    /// Adds a text of the plugin's own.
    ///
    /// # Errors
    /// The limit in bytes, when it is reached; nothing was added then.
    pub(crate) fn text(&self, source: LineSource, text: String) -> Result<(), u64> {
        let mut lines = lock(&self.lines);
        let limit = lines.quota.limit();
        lines.push(source, text).map_err(|_| limit)
    }

    /// Hands over all whole lines. Dropping the future loses none.
    ///
    /// # Errors
    /// When the host does not take a line.
    pub(crate) async fn hand_over(&self) -> Result<(), Refused> {
        loop {
            let line = lock(&self.lines).waiting.front().cloned();
            let Some(line) = line else {
                return Ok(());
            };
            let report = Report::Line(line);
            if let Err(refused) = self.services.report(report).await {
                let mut lines = lock(&self.lines);
                lines.refused = Some(refused.clone());
                lines.waiting.clear();
                lines.waiting_cost = 0;
                return Err(refused);
            }
            let mut lines = lock(&self.lines);
            if let Some(taken) = lines.waiting.pop_front() {
                lines.waiting_cost -= cost(&taken.text);
            }
        }
    }

    /// Hands over everything, the unfinished lines too.
    ///
    /// # Errors
    /// When the host cannot store a line, or the last line breaks the quota.
    pub(crate) async fn finish(&self) -> Result<(), Fatal> {
        let pushed = lock(&self.lines).end_unfinished();
        match self.hand_over().await {
            Ok(()) | Err(Refused::Stopped) => pushed,
            Err(Refused::Failed(reason)) => Err(not_stored(&reason)),
        }
    }

    /// The message of a panic, if the end of standard error looks like one.
    pub(crate) fn panic_message(&self) -> Option<String> {
        let lines = lock(&self.lines);
        let errors = &lines.last_errors;
        let at = errors
            .iter()
            .rposition(|line| line.contains("panicked at "))?;
        let mut message: Vec<&str> = Vec::new();
        for line in errors.range(at..) {
            if line.starts_with("note: ") {
                break;
            }
            message.push(line);
        }
        let message = message.join(" ");
        let start = message.find("panicked at ").unwrap_or(0);
        Some(outcome::shortened(
            &outcome::one_line(&message[start..]),
            500,
        ))
    }
}

impl Lines {
    fn write(&mut self, source: LineSource, bytes: &[u8]) -> Result<(), Fatal> {
        let stream = usize::from(source == LineSource::Stderr);
        let mut rest = bytes;
        loop {
            let room = MAX_LINE_BYTES - self.unfinished[stream].len();
            let line_end = rest.iter().take(room + 1).position(|byte| *byte == b'\n');
            let (piece, next) = match line_end {
                Some(at) => (&rest[..at], &rest[at + 1..]),
                None if rest.len() > room => rest.split_at(room),
                None => {
                    self.unfinished[stream].extend_from_slice(rest);
                    return Ok(());
                }
            };
            let mut line = std::mem::take(&mut self.unfinished[stream]);
            line.extend_from_slice(piece);
            self.push_bytes(source, &line)?;
            rest = next;
        }
    }

    fn end_unfinished(&mut self) -> Result<(), Fatal> {
        for source in [LineSource::Stdout, LineSource::Stderr] {
            let stream = usize::from(source == LineSource::Stderr);
            let line = std::mem::take(&mut self.unfinished[stream]);
            if !line.is_empty() {
                self.push_bytes(source, &line)?;
            }
        }
        Ok(())
    }

    fn push_bytes(&mut self, source: LineSource, line: &[u8]) -> Result<(), Fatal> {
        let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        if source == LineSource::Stderr {
            if self.last_errors.len() == ERROR_LINES {
                self.last_errors.pop_front();
            }
            self.last_errors.push_back(outcome::shortened(&text, 500));
        }
        self.push(source, text)
    }

    fn push(&mut self, source: LineSource, text: String) -> Result<(), Fatal> {
        if !self.quota.take(cost(&text)) {
            let limit = bytes_for_people(self.quota.limit());
            return Err(Fatal(format!(
                "the plugin wrote more to its console than its limit of {limit}"
            )));
        }
        self.waiting_cost += cost(&text);
        let at = now();
        self.waiting.push_back(Line { source, text, at });
        Ok(())
    }
}

/// What a line takes of the quota: its bytes and its line break, but not less than the minimum.
fn cost(text: &str) -> u64 {
    (text.len() as u64 + 1).max(MIN_LINE_COST)
}

/// A failed report ends the run: nothing that a plugin reports may be lost silently.
pub(crate) fn not_stored(reason: &str) -> Fatal {
    Fatal(format!("the host could not store a report: {reason}"))
}

/// What WASI writes standard output or error to.
pub(crate) struct ConsoleStream {
    console: Console,
    source: LineSource,
    /// Whether what is written is kept.
    is_kept: bool,
}

impl ConsoleStream {
    /// The same stream, which keeps nothing unless `is_kept`.
    pub(crate) fn kept_if(self, is_kept: bool) -> Self {
        Self { is_kept, ..self }
    }
}

impl StdoutStream for ConsoleStream {
    /// Only WASI 0.1 and 0.3 ask for this, which are not linked.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.console.stream(self.source).kept_if(self.is_kept))
    }
}

impl IsTerminal for ConsoleStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

#[async_trait::async_trait]
impl OutputStream for ConsoleStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if !self.is_kept {
            return Ok(());
        }
        let written = lock(&self.console.lines).write(self.source, &bytes);
        written.map_err(|fatal| StreamError::Trap(fatal.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let lines = lock(&self.console.lines);
        match &lines.refused {
            Some(Refused::Stopped) => Err(StreamError::Closed),
            Some(Refused::Failed(reason)) => Err(StreamError::Trap(not_stored(reason).into())),
            None if lines.waiting_cost > MAX_WAITING_COST => Ok(0),
            None => Ok(MAX_LINE_BYTES),
        }
    }
}

#[async_trait::async_trait]
impl Pollable for ConsoleStream {
    async fn ready(&mut self) {
        // A refusal is kept, and told by the next `check_write`.
        let _ = self.console.hand_over().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::NoTask;

    /// Writes `pieces` to standard error and gives the whole lines.
    fn lines_of(limit: u64, pieces: &[&[u8]]) -> (Vec<String>, Option<String>, Console) {
        let console = Console::new(limit, Arc::new(NoTask));
        let mut refused = None;
        for piece in pieces {
            let written = lock(&console.lines).write(LineSource::Stderr, piece);
            refused = refused.or(written.err().map(|Fatal(reason)| reason));
        }
        // What breaks the quota has been seen above.
        let _ = lock(&console.lines).end_unfinished();
        let lines = lock(&console.lines)
            .waiting
            .iter()
            .map(|line| line.text.clone())
            .collect();
        (lines, refused, console)
    }

    #[test]
    fn writes_are_cut_into_lines_wherever_they_end() {
        let (lines, ..) = lines_of(1000, &[b"a", b"b\n\nc\r", b"\n\xffd"]);
        assert_eq!(lines, ["ab", "", "c", "\u{fffd}d"]);
    }

    #[test]
    fn a_line_without_end_is_cut_into_pieces() {
        let long = vec![b'x'; 2 * MAX_LINE_BYTES + 5];
        let (lines, ..) = lines_of(1 << 20, &[&long]);
        let lengths: Vec<usize> = lines.iter().map(String::len).collect();
        assert_eq!(lengths, [MAX_LINE_BYTES, MAX_LINE_BYTES, 5]);
        let mut exact = vec![b'x'; MAX_LINE_BYTES];
        exact.push(b'\n');
        assert_eq!(lines_of(1 << 20, &[&exact]).0.len(), 1);
    }

    #[test]
    fn lines_beyond_the_quota_are_refused_and_empty_lines_count_too() {
        let (lines, refused, _) = lines_of(64, &[&[b'\n'; 1000]]);
        assert_eq!(lines.len(), 4);
        assert_eq!(
            refused.as_deref(),
            Some("the plugin wrote more to its console than its limit of 64 bytes")
        );
    }

    #[test]
    fn the_message_of_a_panic_is_found() {
        let errors: [&[u8]; 2] = [
            b"warming up\nthread 'main' panicked at src/lib.rs:3:5:\n",
            b"no data\nnote: run with RUST_BACKTRACE=1\n",
        ];
        let (_, _, console) = lines_of(1000, &errors);
        assert_eq!(
            console.panic_message().as_deref(),
            Some("panicked at src/lib.rs:3:5: no data")
        );
        assert_eq!(lines_of(1000, &[b"warming up\n"]).2.panic_message(), None);
    }
}
