//! The spool: what a task reports waits here, on disk where it is much, until the server has it.
//!
//! A report never waits for the network. Only when the spool is full does the plugin wait, so
//! nothing is ever dropped. One task of tokio owns the file; reports come in by a channel, and
//! the end of the channel is the signal to finish. Points wait, and travel, as frames: a tenth of
//! their JSON, which nobody has to write and read twice.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::SpooledTempFile;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};
use trainshed_core::TaskId;
use trainshed_core::report::{Batch, Report};
use trainshed_core::view::LeaseState;
use trainshed_wire::{Client, ClientError, FrameBuilder, MAX_STEP};

use crate::retry::until_answered;

/// Parcels of reports that wait for the spool to take them; few, since taking them is fast.
pub(crate) const CHANNEL: usize = 64;
/// Points of one frame.
const FRAME_POINTS: usize = 16_384;
/// Points of one batch: well below what the server takes.
const MAX_BATCH_POINTS: usize = 65_536;
/// Bytes that may wait for the server before the plugin has to.
const MAX_WAITING_BYTES: u64 = 256 << 20;
/// Bytes of one batch: well below what the server takes in one body.
const MAX_BATCH_BYTES: u64 = 4 << 20;
/// Reports of one batch.
const MAX_BATCH_REPORTS: usize = 5_000;
/// Bytes of the reports that come with the end of a task instead of before it.
const MAX_LAST_BYTES: u64 = 64 << 10;
/// Bytes of the spool before it is a file; most runs never have more waiting.
const MAX_MEMORY_BYTES: usize = 64 << 10;
/// Reports wait no longer than this for others, or for the end of the task. Models do not wait:
/// others wait for them.
const WAIT: Duration = Duration::from_millis(10);

/// Why the spool gave up before everything was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    /// The local file failed.
    #[error("the spool file failed")]
    File(#[from] io::Error),
    /// The server will not take it, now or later.
    #[error("the server refused a report")]
    Refused(#[source] ClientError),
}

/// Sends everything that comes out of `reports`, in order, and returns when all is sent but a
/// little without points: that is given back, to come with the end of the task.
///
/// `heard` is called with every answer of the server. `sent_models` counts the models that the
/// server knows of, in the order of their reports.
///
/// # Errors
/// When the server refuses a batch or the file fails. The channel closes then, which the
/// task's next report notices.
pub(crate) async fn pump(
    client: &Client,
    lease: (&TaskId, i64),
    folder: &Path,
    mut reports: mpsc::Receiver<Vec<Report>>,
    (heard, sent_models): (impl Fn(LeaseState), watch::Sender<u64>),
) -> Result<Vec<Report>, SpoolError> {
    let mut file = SpoolFile::create(folder);
    let mut incoming = Vec::new();
    let mut open = true;
    let mut key = 0;
    while open || file.waiting_bytes > 0 {
        if file.waiting_bytes == 0 {
            open = reports.recv_many(&mut incoming, CHANNEL).await > 0;
            let deadline = Instant::now() + WAIT;
            while open && incoming.len() < CHANNEL && models(incoming.iter().flatten()) == 0 {
                let more = reports.recv_many(&mut incoming, CHANNEL);
                let Ok(count) = timeout_at(deadline, more).await else {
                    break;
                };
                open = count > 0;
            }
            file.append(&mut incoming)?;
            continue;
        }
        let is_little = file.waiting_bytes <= MAX_LAST_BYTES;
        let (reports_of_batch, frames) = file.take_batch()?;
        if !open && is_little && file.waiting_bytes == 0 && frames.is_empty() {
            return Ok(reports_of_batch);
        }
        let batch = Batch {
            key,
            reports: reports_of_batch,
        };
        let mut sending = std::pin::pin!(until_answered(|| {
            client.report(lease.0, lease.1, &batch, &frames)
        }));
        let state = loop {
            let room = open && file.waiting_bytes < MAX_WAITING_BYTES;
            tokio::select! {
                answer = &mut sending => break answer.map_err(SpoolError::Refused)?,
                count = reports.recv_many(&mut incoming, CHANNEL), if room => {
                    open = count > 0;
                    file.append(&mut incoming)?;
                }
            }
        };
        heard(state);
        let models = models(&batch.reports);
        sent_models.send_if_modified(|sent| {
            *sent += models;
            models > 0
        });
        key += 1;
    }
    Ok(Vec::new())
}

/// How many models there are among reports.
fn models<'r>(reports: impl IntoIterator<Item = &'r Report>) -> u64 {
    let reports = reports.into_iter();
    reports
        .map(|report| u64::from(matches!(report, Report::Model(_))))
        .sum()
}

/// A queue of reports in a file: written at its end, read from its beginning.
struct SpoolFile {
    file: SpooledTempFile,
    read_at: u64,
    written: u64,
    waiting_bytes: u64,
    entries: VecDeque<Entry>,
}

/// What waits in the file: a report as JSON, or points as a frame.
#[derive(Debug, Clone, Copy)]
struct Entry {
    length: u32,
    /// Points of a frame; 0 for a report.
    points: usize,
}

impl SpoolFile {
    /// The file has no name, so that nothing of it stays behind however the agent ends.
    fn create(folder: &Path) -> Self {
        Self {
            file: tempfile::spooled_tempfile_in(MAX_MEMORY_BYTES, folder),
            read_at: 0,
            written: 0,
            waiting_bytes: 0,
            entries: VecDeque::new(),
        }
    }

    fn append(&mut self, parcels: &mut Vec<Vec<Report>>) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut points = FrameBuilder::default();
        for report in parcels.drain(..).flatten() {
            let Report::Point(point) = report else {
                let before = bytes.len();
                serde_json::to_writer(&mut bytes, &report)?;
                self.note(bytes.len() - before, 0)?;
                continue;
            };
            let extra = point.extra.map(|extra| Value::Object(extra).to_string());
            points.push(
                (point.title.into(), point.series.into()),
                point.iteration.min(MAX_STEP),
                point.at.as_millis(),
                point.value.0,
                extra.map(Into::into),
            );
            if points.point_count() == FRAME_POINTS {
                self.append_frame(std::mem::take(&mut points), &mut bytes)?;
            }
        }
        self.append_frame(points, &mut bytes)?;
        self.file.seek(SeekFrom::Start(self.written))?;
        self.file.write_all(&bytes)?;
        self.written += bytes.len() as u64;
        self.waiting_bytes += bytes.len() as u64;
        Ok(())
    }

    fn append_frame(&mut self, points: FrameBuilder<'_>, bytes: &mut Vec<u8>) -> io::Result<()> {
        let count = points.point_count();
        if count == 0 {
            return Ok(());
        }
        let frame = points.finish().encode();
        bytes.extend_from_slice(&frame);
        self.note(frame.len(), count)
    }

    fn note(&mut self, length: usize, points: usize) -> io::Result<()> {
        let length = u32::try_from(length).map_err(io::Error::other)?;
        self.entries.push_back(Entry { length, points });
        Ok(())
    }

    /// The oldest reports and frames, as many as fit one batch; at least one.
    fn take_batch(&mut self) -> io::Result<(Vec<Report>, Vec<Vec<u8>>)> {
        let (mut size, mut count, mut points) = (0, 0, 0);
        for entry in self.entries.iter().take(MAX_BATCH_REPORTS) {
            let is_full = size + u64::from(entry.length) > MAX_BATCH_BYTES
                || points + entry.points > MAX_BATCH_POINTS;
            if count > 0 && is_full {
                break;
            }
            size += u64::from(entry.length);
            points += entry.points;
            count += 1;
        }
        let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
        self.file.seek(SeekFrom::Start(self.read_at))?;
        self.file.read_exact(&mut bytes)?;
        let mut rest = bytes.as_slice();
        let (mut reports, mut frames) = (Vec::new(), Vec::new());
        for entry in self.entries.drain(..count) {
            let (bytes, after) = rest.split_at(entry.length as usize);
            if entry.points == 0 {
                reports.push(serde_json::from_slice(bytes)?);
            } else {
                frames.push(bytes.to_vec());
            }
            rest = after;
        }
        self.read_at += size;
        self.waiting_bytes -= size;
        if self.waiting_bytes == 0 {
            self.file.set_len(0)?;
            (self.read_at, self.written) = (0, 0);
        }
        Ok((reports, frames))
    }
}

#[cfg(test)]
mod tests {
    use trainshed_core::Timestamp;
    use trainshed_core::report::{Point, Real};
    use trainshed_wire::Frame;

    use super::*;

    fn single(number: u32) -> Report {
        Report::Single {
            name: format!("n{number}"),
            value: Real(f64::from(number)),
        }
    }

    #[test]
    fn reports_come_out_in_the_order_in_which_they_went_in() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = SpoolFile::create(folder.path());
        file.append(&mut vec![(0..7000).map(single).collect()])
            .unwrap();
        let mut out = file.take_batch().unwrap().0;
        assert_eq!(out.len(), MAX_BATCH_REPORTS);
        file.append(&mut vec![(7000..7010).map(single).collect()])
            .unwrap();
        while file.waiting_bytes > 0 {
            out.extend(file.take_batch().unwrap().0);
        }
        assert_eq!(out, (0..7010).map(single).collect::<Vec<_>>());
        assert_eq!(file.file.seek(SeekFrom::End(0)).unwrap(), 0);
    }

    #[test]
    fn a_report_larger_than_a_batch_is_a_batch_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = SpoolFile::create(folder.path());
        let large = Report::Output {
            name: "x".repeat(5 << 20),
        };
        file.append(&mut vec![vec![single(1), large.clone()], vec![single(2)]])
            .unwrap();
        for expected in [single(1), large, single(2)] {
            assert_eq!(file.take_batch().unwrap().0, [expected]);
        }
    }

    #[test]
    fn points_wait_as_frames_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = SpoolFile::create(folder.path());
        let count = MAX_BATCH_POINTS as u64 + 5;
        let point = |iteration| {
            Report::Point(Point {
                title: "train".into(),
                series: "loss".into(),
                iteration,
                value: Real(0.5),
                at: Timestamp(7),
                extra: serde_json::from_str(r#"{"a":1}"#).unwrap(),
            })
        };
        file.append(&mut vec![(0..count).map(point).collect(), vec![single(1)]])
            .unwrap();
        let (mut steps, mut reports) = (Vec::new(), Vec::new());
        while file.waiting_bytes > 0 {
            let (others, frames) = file.take_batch().unwrap();
            reports.extend(others);
            for frame in &frames {
                let frame = Frame::decode(frame).unwrap();
                let curve = frame.curves().next().unwrap();
                assert_eq!(curve.points.get(0).unwrap().extra, Some(r#"{"a":1}"#));
                steps.extend_from_slice(curve.points.steps());
            }
        }
        assert_eq!(steps, (0..count).collect::<Vec<u64>>());
        assert_eq!(reports, [single(1)]);
    }
}
