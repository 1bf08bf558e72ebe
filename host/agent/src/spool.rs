//! The spool: what a task reports waits here, on disk, until the server has it.
//!
//! A report never waits for the network. Only when the spool is full does the plugin wait, so
//! nothing is ever dropped. One task of tokio owns the file; reports come in by a channel, and
//! the end of the channel is the signal to finish.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use tokio::sync::mpsc;
use trainshed_core::TaskId;
use trainshed_core::report::{Batch, Report};
use trainshed_core::view::LeaseState;
use trainshed_wire::{Client, ClientError};

use crate::retry::until_answered;

/// Reports that wait for the spool to take them; small, since taking them is fast.
pub(crate) const CHANNEL: usize = 1024;
/// Bytes that may wait for the server before the plugin has to.
const MAX_WAITING_BYTES: u64 = 256 << 20;
/// Bytes of one batch: well below what the server takes in one body.
const MAX_BATCH_BYTES: u64 = 4 << 20;
/// Reports of one batch.
const MAX_BATCH_REPORTS: usize = 5_000;

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

/// Sends everything that comes out of `reports`, in order, and returns when all is sent.
///
/// `heard` is called with every answer of the server.
///
/// # Errors
/// When the server refuses a batch or the file fails. The channel closes then, which the
/// task's next report notices.
pub(crate) async fn pump(
    client: &Client,
    lease: (&TaskId, i64),
    folder: &Path,
    mut reports: mpsc::Receiver<Report>,
    heard: impl Fn(LeaseState),
) -> Result<(), SpoolError> {
    let mut file = SpoolFile::create(folder)?;
    let mut incoming = Vec::new();
    let mut open = true;
    let mut key = 0;
    while open || file.waiting_bytes > 0 {
        if file.waiting_bytes == 0 {
            open = reports.recv_many(&mut incoming, CHANNEL).await > 0;
            file.append(&mut incoming)?;
            continue;
        }
        let batch = Batch {
            key,
            reports: file.take_batch()?,
        };
        let mut sending =
            std::pin::pin!(until_answered(|| client.report(lease.0, lease.1, &batch)));
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
        key += 1;
    }
    Ok(())
}

/// A queue of reports in a file: written at its end, read from its beginning.
struct SpoolFile {
    file: File,
    read_at: u64,
    written: u64,
    waiting_bytes: u64,
    /// Length of every waiting report.
    lengths: VecDeque<u32>,
}

impl SpoolFile {
    /// The file has no name, so that nothing of it stays behind however the agent ends.
    fn create(folder: &Path) -> io::Result<Self> {
        let file = tempfile::tempfile_in(folder)?;
        Ok(Self {
            file,
            read_at: 0,
            written: 0,
            waiting_bytes: 0,
            lengths: VecDeque::new(),
        })
    }

    fn append(&mut self, reports: &mut Vec<Report>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for report in reports.drain(..) {
            let before = bytes.len();
            serde_json::to_writer(&mut bytes, &report)?;
            let length = u32::try_from(bytes.len() - before).map_err(io::Error::other)?;
            self.lengths.push_back(length);
        }
        self.file.seek(SeekFrom::Start(self.written))?;
        self.file.write_all(&bytes)?;
        self.written += bytes.len() as u64;
        self.waiting_bytes += bytes.len() as u64;
        Ok(())
    }

    /// The oldest reports, as many as fit one batch; at least one.
    fn take_batch(&mut self) -> io::Result<Vec<Report>> {
        let mut size = 0;
        let mut count = 0;
        for length in self.lengths.iter().take(MAX_BATCH_REPORTS) {
            if count > 0 && size + u64::from(*length) > MAX_BATCH_BYTES {
                break;
            }
            size += u64::from(*length);
            count += 1;
        }
        let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
        self.file.seek(SeekFrom::Start(self.read_at))?;
        self.file.read_exact(&mut bytes)?;
        let mut rest = bytes.as_slice();
        let mut reports = Vec::with_capacity(count);
        for length in self.lengths.drain(..count) {
            let (report, after) = rest.split_at(length as usize);
            reports.push(serde_json::from_slice(report)?);
            rest = after;
        }
        self.read_at += size;
        self.waiting_bytes -= size;
        if self.waiting_bytes == 0 {
            self.file.set_len(0)?;
            (self.read_at, self.written) = (0, 0);
        }
        Ok(reports)
    }
}

#[cfg(test)]
mod tests {
    use trainshed_core::report::Real;

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
        let mut file = SpoolFile::create(folder.path()).unwrap();
        file.append(&mut (0..7000).map(single).collect()).unwrap();
        let mut out = file.take_batch().unwrap();
        assert_eq!(out.len(), MAX_BATCH_REPORTS);
        file.append(&mut (7000..7010).map(single).collect())
            .unwrap();
        while file.waiting_bytes > 0 {
            out.extend(file.take_batch().unwrap());
        }
        assert_eq!(out, (0..7010).map(single).collect::<Vec<_>>());
        assert_eq!(file.file.metadata().unwrap().len(), 0);
    }

    #[test]
    fn a_report_larger_than_a_batch_is_a_batch_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = SpoolFile::create(folder.path()).unwrap();
        let large = Report::Output {
            name: "x".repeat(5 << 20),
        };
        file.append(&mut vec![single(1), large.clone(), single(2)])
            .unwrap();
        assert_eq!(file.take_batch().unwrap(), [single(1)]);
        assert_eq!(file.take_batch().unwrap(), [large]);
        assert_eq!(file.take_batch().unwrap(), [single(2)]);
    }
}
