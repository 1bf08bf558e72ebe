//! The archive itself: a zip file that is written in one go and read in any order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read, Seek, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use trainshed_core::Digest;
use trainshed_core::digest::Hasher;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::transfer::{FORMAT, MANIFEST, Manifest, TABLES, TableSum, TransferError, read, written};

/// Far longer than the manifest ever is.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// Longest row, as JSON: the largest figure is 16 MiB.
const MAX_ROW_BYTES: u64 = 64 << 20;
/// Bytes of all rows together: rows are mostly compressed themselves, so that whoever unpacks
/// to a hundred times what there is, and a gibibyte, means harm.
const MAX_RATIO: u64 = 100;
const MAX_EXTRA_BYTES: u64 = 1 << 30;
/// Most entries: an archive has few tables, and then a file for each content.
const MAX_ENTRIES: usize = 4_000_000;
/// Rows, or pieces of a file, that wait to be taken.
const WAITING: usize = 4;
const PIECE: usize = 256 << 10;

/// An archive that is written.
pub(super) struct Writer {
    zip: ZipWriter<BufWriter<File>>,
    tables: BTreeMap<String, TableSum>,
    files: u64,
    file_bytes: u64,
}

impl Writer {
    pub(super) fn new(target: File) -> Self {
        Self {
            zip: ZipWriter::new(BufWriter::new(target)),
            tables: BTreeMap::new(),
            files: 0,
            file_bytes: 0,
        }
    }

    /// Begins a table; its rows follow.
    pub(super) fn table(&mut self, name: &str) -> Result<TableWriter<'_>, TransferError> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .large_file(true);
        let entry = format!("tables/{name}.ndjson");
        self.zip.start_file(entry, options).map_err(unwritten)?;
        Ok(TableWriter {
            writer: self,
            name: name.to_owned(),
            rows: 0,
            hasher: Hasher::default(),
        })
    }

    /// Begins a content; its pieces follow.
    pub(super) fn file(&mut self, digest: &Digest) -> Result<(), TransferError> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(true);
        let entry = format!("files/{digest}");
        self.zip.start_file(entry, options).map_err(unwritten)?;
        self.files += 1;
        Ok(())
    }

    /// Goes on with the content that was begun.
    pub(super) fn piece(&mut self, piece: &[u8]) -> Result<(), TransferError> {
        self.file_bytes += piece.len() as u64;
        self.zip.write_all(piece).map_err(written)
    }

    /// Writes the end; the archive is on the disk then.
    pub(super) fn finish(mut self, mut manifest: Manifest) -> Result<Manifest, TransferError> {
        manifest.tables = std::mem::take(&mut self.tables);
        (manifest.files, manifest.file_bytes) = (self.files, self.file_bytes);
        let json = serde_json::to_vec_pretty(&manifest).expect("texts and numbers are JSON");
        let options = SimpleFileOptions::default();
        self.zip.start_file(MANIFEST, options).map_err(unwritten)?;
        self.zip.write_all(&json).map_err(written)?;
        let mut target = self.zip.finish().map_err(unwritten)?;
        target.flush().map_err(written)?;
        target.get_ref().sync_all().map_err(written)?;
        Ok(manifest)
    }
}

fn unwritten(error: ZipError) -> TransferError {
    written(error.into())
}

/// A table that is written.
pub(super) struct TableWriter<'a> {
    writer: &'a mut Writer,
    name: String,
    rows: u64,
    hasher: Hasher,
}

impl TableWriter<'_> {
    pub(super) fn row(&mut self, row: &Map<String, Value>) -> Result<(), TransferError> {
        let mut line = serde_json::to_vec(row).expect("texts and numbers are JSON");
        line.push(b'\n');
        self.hasher.update(&line);
        self.rows += 1;
        self.writer.zip.write_all(&line).map_err(written)
    }

    pub(super) fn finish(self) {
        let sum = TableSum {
            rows: self.rows,
            sha256: self.hasher.finish(),
        };
        self.writer.tables.insert(self.name, sum);
    }
}

/// An archive that is read. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    zip: ZipArchive<At>,
    length: u64,
}

impl Reader {
    /// Looks at the list of what is in the archive, and refuses whatever cannot be ours; returns
    /// what it says of itself.
    pub(super) fn open(archive: File) -> Result<(Self, Manifest), TransferError> {
        let length = archive.metadata().map_err(read)?.len();
        let at = At {
            file: Arc::new(archive),
            at: 0,
            length,
        };
        let zip = ZipArchive::new(at).map_err(unread)?;
        if zip.len() > MAX_ENTRIES {
            return Err(invalid(format!("it has {} entries", zip.len())));
        }
        let mut reader = Self { zip, length };
        let (files, file_bytes) = reader.check_entries()?;
        let manifest = reader.manifest()?;
        if (manifest.files, manifest.file_bytes) != (files, file_bytes) {
            return Err(invalid(format!(
                "it has {files} files of {file_bytes} bytes, but says that it has {} of {}",
                manifest.files, manifest.file_bytes
            )));
        }
        Ok((reader, manifest))
    }

    fn check_entries(&mut self) -> Result<(u64, u64), TransferError> {
        let (mut files, mut file_bytes) = (0, 0_u64);
        for index in 0..self.zip.len() {
            let entry = self.zip.by_index_raw(index).map_err(unread)?;
            let name = entry.name().map_err(unread)?.into_owned();
            let foreign = || invalid(format!("it has an entry `{}`", shortened(&name)));
            if entry.encrypted() || entry.is_symlink() {
                return Err(foreign());
            }
            if let Some(digest) = name.strip_prefix("files/") {
                let is_digest = digest
                    .parse::<Digest>()
                    .is_ok_and(|it| it.to_string() == digest);
                let is_plain = entry.compression() == CompressionMethod::Stored
                    && entry.size() == entry.compressed_size();
                if !is_digest || !is_plain {
                    return Err(foreign());
                }
                files += 1;
                file_bytes = file_bytes.saturating_add(entry.size());
                continue;
            }
            let table = name
                .strip_prefix("tables/")
                .and_then(|name| name.strip_suffix(".ndjson"));
            let is_table =
                table.is_some_and(|name| TABLES.iter().any(|(table, ..)| *table == name));
            if !is_table && name != MANIFEST {
                return Err(foreign());
            }
        }
        Ok((files, file_bytes))
    }

    fn manifest(&mut self) -> Result<Manifest, TransferError> {
        let foreign = || invalid(format!("it has no `{MANIFEST}` of ours"));
        let entry = self.zip.by_name(MANIFEST).map_err(|_| foreign())?;
        let mut text = Vec::new();
        let mut entry = entry.take(MAX_MANIFEST_BYTES);
        entry.read_to_end(&mut text).map_err(damaged)?;
        // Of another format, only that number need be there.
        let json: Value = serde_json::from_slice(&text).map_err(|_| foreign())?;
        let format = json.get("format").and_then(Value::as_u64);
        match format {
            Some(format) if format == u64::from(FORMAT) => {
                serde_json::from_value(json).map_err(|_| foreign())
            }
            Some(format) => Err(invalid(format!(
                "it has format {format}, but this trainshed reads format {FORMAT}"
            ))),
            None => Err(foreign()),
        }
    }

    /// The rows of all tables together may have so many bytes.
    pub(super) fn row_bytes(&self) -> u64 {
        self.length
            .saturating_mul(MAX_RATIO)
            .saturating_add(MAX_EXTRA_BYTES)
    }

    /// The rows of a table, from a thread of their own. The last thing that comes is how many
    /// bytes they had, or what is wrong with them.
    pub(super) fn rows(
        &self,
        name: &'static str,
        sum: TableSum,
        most_bytes: u64,
    ) -> mpsc::Receiver<Result<Row, TransferError>> {
        let (sender, rows) = mpsc::channel(WAITING);
        let mut zip = self.zip.clone();
        tokio::task::spawn_blocking(move || {
            let last = read_rows(&mut zip, (name, &sum), most_bytes, &sender);
            // Nobody waits for it when the import has failed elsewhere.
            let _ = sender.blocking_send(last.map(Row::End));
        });
        rows
    }

    /// The pieces of a content, from a thread of their own.
    pub(super) fn file(&self, digest: &Digest) -> mpsc::Receiver<io::Result<Bytes>> {
        let (sender, pieces) = mpsc::channel(WAITING);
        let mut zip = self.zip.clone();
        let name = format!("files/{digest}");
        tokio::task::spawn_blocking(move || {
            if let Err(error) = read_file(&mut zip, &name, &sender) {
                let _ = sender.blocking_send(Err(error));
            }
        });
        pieces
    }

    /// The length of a content; `None` when the archive does not have it.
    pub(super) fn file_size(&mut self, digest: &Digest) -> Option<u64> {
        let entry = self.zip.by_name(&format!("files/{digest}")).ok()?;
        Some(entry.size())
    }
}

/// What comes of a table.
pub(super) enum Row {
    Row(Map<String, Value>),
    /// There are no more; so many bytes were read.
    End(u64),
}

fn read_rows(
    zip: &mut ZipArchive<At>,
    (name, sum): (&str, &TableSum),
    most_bytes: u64,
    sender: &mpsc::Sender<Result<Row, TransferError>>,
) -> Result<u64, TransferError> {
    let entry = zip.by_name(&format!("tables/{name}.ndjson"));
    let entry = entry.map_err(|_| invalid(format!("its table `{name}` is missing")))?;
    let mut lines = BufReader::with_capacity(PIECE, entry);
    let mut hasher = Hasher::default();
    let (mut bytes, mut rows) = (0_u64, 0_u64);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut lines).take(MAX_ROW_BYTES);
        let count = limited.read_until(b'\n', &mut line).map_err(damaged)? as u64;
        if count == 0 {
            break;
        }
        bytes += count;
        if count == MAX_ROW_BYTES || bytes > most_bytes {
            return Err(invalid(format!(
                "its table `{name}` is larger than anything of its size unpacks to"
            )));
        }
        hasher.update(&line);
        rows += 1;
        let row = serde_json::from_slice(&line)
            .map_err(|error| invalid(format!("a row of `{name}` is no JSON: {error}")))?;
        if sender.blocking_send(Ok(Row::Row(row))).is_err() {
            return Ok(bytes);
        }
    }
    if rows != sum.rows || hasher.finish() != sum.sha256 {
        return Err(invalid(format!("its table `{name}` is damaged")));
    }
    Ok(bytes)
}

fn read_file(
    zip: &mut ZipArchive<At>,
    name: &str,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let mut entry = zip.by_name(name)?;
    loop {
        let mut piece = vec![0; PIECE];
        let count = entry.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        piece.truncate(count);
        if sender.blocking_send(Ok(piece.into())).is_err() {
            return Ok(());
        }
    }
}

/// A place in a file that several read from.
#[derive(Debug, Clone)]
struct At {
    file: Arc<File>,
    at: u64,
    length: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for At {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        let outside = || io::Error::new(io::ErrorKind::InvalidInput, "a place before the file");
        self.at = place.ok_or_else(outside)?;
        Ok(self.at)
    }
}

pub(super) fn invalid(what: String) -> TransferError {
    TransferError::Invalid(what)
}

fn unread(error: ZipError) -> TransferError {
    match error {
        ZipError::Io(error) => damaged(error),
        other => invalid(other.to_string()),
    }
}

/// What reading a zip file says: mostly that it is none, or not whole.
fn damaged(error: io::Error) -> TransferError {
    match error.kind() {
        io::ErrorKind::InvalidData
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::Other => invalid(error.to_string()),
        _ => read(error),
    }
}

pub(super) fn shortened(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    short.escape_debug().to_string()
}
