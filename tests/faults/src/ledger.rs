//! What was acknowledged, kept outside of the server: the oracle of every check.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use trainshed_core::Digest;
use trainshed_wire::FrameBuilder;

/// The only curves' title.
const TITLE: &str = "ledger";
/// A time of points: any will do, but it is always the same.
const TIME: i64 = 1_700_000_000_000;

/// Something that a writer has the server keep.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Deed {
    /// A batch of points: the batch `number` of a writer has its steps `first` to
    /// `first + count`, of as many curves as there are series.
    Points {
        number: u64,
        first: u64,
        count: u64,
        series: u64,
    },
    /// An artifact with this content.
    Artifact { number: u64, digest: Digest },
}

/// The points of a deed.
pub(crate) fn points(writer: usize, first: u64, count: u64, series: u64) -> FrameBuilder<'static> {
    let mut builder = FrameBuilder::default();
    for step in first..first + count {
        for curve in 0..series {
            let names = (TITLE.into(), format!("s{curve}").into());
            builder.push(names, step, TIME, value(writer, curve, step), None);
        }
    }
    builder
}

/// The value of a point tells where it belongs.
pub(crate) fn value(writer: usize, curve: u64, step: u64) -> f64 {
    (step * 1000 + curve * 100 + writer as u64) as f64
}

pub(crate) fn title() -> &'static str {
    TITLE
}

/// The name under which a batch is known to the server.
pub(crate) fn key(writer: usize, number: u64) -> String {
    format!("{writer}-{number}")
}

/// Everything that was acknowledged, by writer.
pub(crate) struct Ledger {
    entries: Mutex<Entries>,
}

struct Entries {
    by_writer: BTreeMap<usize, Vec<Deed>>,
    file: BufWriter<File>,
}

impl Ledger {
    /// Keeps a copy as text in `path`, for whoever looks into a failure.
    pub(crate) fn new(path: &Path) -> std::io::Result<Self> {
        Ok(Self {
            entries: Mutex::new(Entries {
                by_writer: BTreeMap::new(),
                file: BufWriter::new(File::create(path)?),
            }),
        })
    }

    /// Notes that the server has acknowledged a deed.
    pub(crate) fn acknowledged(&self, writer: usize, deed: Deed) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        // The copy is for people; the check uses what is in memory.
        let _ = writeln!(entries.file, "{writer} {deed:?}");
        entries.by_writer.entry(writer).or_default().push(deed);
    }

    pub(crate) fn of(&self, writer: usize) -> Vec<Deed> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.by_writer.get(&writer).cloned().unwrap_or_default()
    }

    pub(crate) fn count(&self) -> usize {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.by_writer.values().map(Vec::len).sum()
    }
}
