//! Consoles of tasks: lines in compressed chunks, numbered from 0.
//!
//! The table's key is the number of a chunk's first line, so that a line is found from either
//! end without reading what lies between. A chunk that has room is taken up by the lines that
//! come next: a program that prints now and then does not leave a row for each line. Where a
//! look asks for a level, chunks without a line of it are not read.

use std::io::Read as _;

use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use trainshed_core::query::Pattern;
use trainshed_core::report::{Level, Line, LineSource};
use trainshed_core::view::{ConsoleLine, ConsolePage};
use trainshed_core::{TaskId, Timestamp};

use crate::batch::{Batch, Ticket};
use crate::database::Store;
use crate::error::StoreError;
use crate::file::{bigint, unsigned};
use crate::workspace::Workspace;

/// Most lines of a chunk.
const CHUNK_LINES: usize = 1024;
/// Bytes of text after which a chunk is full.
const CHUNK_BYTES: usize = 256 << 10;
/// A chunk with fewer lines, in fewer bytes, takes up the lines that come next.
const ROOM_LINES: i64 = 512;
const ROOM_BYTES: usize = 16 << 10;
/// Bytes of text of one page; a search looks at no more, and says where to go on.
const PAGE_BYTES: usize = 8 << 20;
const ZSTD_LEVEL: i32 = 3;
/// Most bytes of an unpacked chunk, far more than any batch has; a longer one is damaged.
const MAX_CHUNK_BYTES: u64 = 256 << 20;

/// Which lines of a console to read.
#[derive(Debug, Clone)]
pub struct ConsoleQuery {
    /// From the last line to the first.
    pub backward: bool,
    /// The first line wanted, or going backward the line after it; absent for the end from
    /// which the reading begins.
    pub from: Option<u64>,
    /// At most so many lines.
    pub limit: u64,
    /// Only lines that matter at least so much.
    pub level: Level,
    /// Only lines in which this is found.
    pub search: Option<Pattern>,
}

impl ConsoleQuery {
    /// At most `limit` lines from line `first` on.
    pub fn from(first: u64, limit: u64) -> Self {
        Self {
            backward: false,
            from: Some(first),
            limit,
            level: Level::Debug,
            search: None,
        }
    }

    /// The last `count` lines, the last first.
    pub fn last(count: u64) -> Self {
        Self {
            backward: true,
            from: None,
            ..Self::from(0, count)
        }
    }

    fn wants(&self, line: &ConsoleLine) -> bool {
        line.source.level() >= self.level
            && self
                .search
                .as_ref()
                .is_none_or(|pattern| pattern.is_match(&line.text))
    }

    /// The bits of the sources whose lines matter enough.
    fn sources(&self) -> i64 {
        let sources = LineSource::ALL.into_iter();
        mask(sources.filter(|source| source.level() >= self.level))
    }
}

/// The lines of a chunk as columns, which compress better than rows.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Chunk {
    sources: Vec<LineSource>,
    /// The first time, then differences, in milliseconds.
    times: Vec<i64>,
    texts: Vec<String>,
}

/// A chunk as the table has it.
#[derive(sqlx::FromRow)]
pub(crate) struct ChunkRow {
    first_line: i64,
    line_count: i64,
    lines: String,
    content: Option<Vec<u8>>,
}

impl Store {
    /// Lines of the console of a task.
    ///
    /// # Errors
    /// When the database does not answer, or a chunk is damaged.
    pub async fn console(
        &self,
        workspace: &Workspace,
        task: &TaskId,
        query: &ConsoleQuery,
    ) -> Result<ConsolePage, StoreError> {
        let action = "read the console";
        let (total,): (i64,) = sqlx::query_as(
            "select coalesce(max(first_line + line_count), 0) from console
              where workspace = $1 and task = $2",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .fetch_one(&self.reader)
        .await
        .map_err(StoreError::database(action))?;
        let total = unsigned(total);
        let mut page = ConsolePage {
            lines: Vec::new(),
            total,
            next: None,
        };
        let (statement, from) = if query.backward {
            let statement = "select first_line, line_count, lines, content from console
              where workspace = $1 and task = $2 and first_line < $3 and (sources & $4) <> 0
              order by first_line desc";
            (statement, query.from.unwrap_or(total).min(total))
        } else {
            let statement = "select first_line, line_count, lines, content from console
              where workspace = $1 and task = $2 and first_line + line_count > $3
                and (sources & $4) <> 0
              order by first_line";
            (statement, query.from.unwrap_or(0))
        };
        let mut rows = sqlx::query_as::<_, ChunkRow>(statement)
            .bind(workspace.as_str())
            .bind(task.as_str())
            .bind(bigint(from))
            .bind(query.sources())
            .fetch(&self.reader);
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let mut bytes = 0;
        // The line at which the next page would begin.
        let mut at = from;
        while page.lines.len() < limit && bytes < PAGE_BYTES {
            let row = rows.try_next().await;
            let Some(row) = row.map_err(StoreError::database(action))? else {
                return Ok(page);
            };
            let mut lines = row.lines().map_err(StoreError::damaged(action))?;
            if query.backward {
                lines.retain(|line| line.number < from);
                lines.reverse();
            } else {
                lines.retain(|line| line.number >= from);
            }
            for line in lines {
                if page.lines.len() == limit {
                    break;
                }
                at = line.number + u64::from(!query.backward);
                bytes += line.text.len();
                if query.wants(&line) {
                    page.lines.push(line);
                }
            }
        }
        let is_left = if query.backward { at > 0 } else { at < total };
        page.next = is_left.then_some(at);
        Ok(page)
    }
}

/// Asks for the last chunk of a console, behind which [`append_lines`] writes.
pub(crate) fn ask_last_chunk(batch: &mut Batch, workspace: &Workspace, task: &TaskId) -> Ticket {
    let select = sqlx::query(
        "select first_line, line_count, lines, content from console
          where workspace = $1 and task = $2 order by first_line desc limit 1",
    );
    batch.add(select.bind(workspace.as_str()).bind(task.as_str()))
}

/// Appends lines to the console of a task whose row is locked, behind its last chunk.
pub(crate) fn append_lines(
    batch: &mut Batch,
    workspace: &Workspace,
    task: &TaskId,
    last: Option<&ChunkRow>,
    lines: &[&Line],
) -> Result<(), StoreError> {
    let action = "record console lines";
    if lines.is_empty() {
        return Ok(());
    }
    let mut first = last.map_or(0, |last| last.first_line + last.line_count);
    let mut former = Vec::new();
    if let Some(last) = last.filter(|last| last.has_room()) {
        first = last.first_line;
        let decoded = Chunk::decode(last.content.as_deref().unwrap_or_default());
        former = decoded.map_err(StoreError::damaged(action))?;
    }
    let all: Vec<&Line> = former.iter().chain(lines.iter().copied()).collect();
    for chunk in cut(&all) {
        let count = bigint(chunk.len() as u64);
        let content = Chunk::encode(chunk).map_err(StoreError::damaged(action))?;
        let insert = sqlx::query(
            "insert into console (workspace, task, first_line, line_count, lines, content, sources)
             values ($1, $2, $3, $4, '', $5, $6)
             on conflict (workspace, task, first_line) do update
                set line_count = excluded.line_count, lines = '', content = excluded.content,
                    sources = excluded.sources",
        )
        .bind(workspace.as_str())
        .bind(task.as_str())
        .bind(first)
        .bind(count)
        .bind(content)
        .bind(mask(chunk.iter().map(|line| line.source)));
        batch.add(insert);
        first += count;
    }
    Ok(())
}

/// Cuts lines into chunks.
fn cut<'a, 'l>(mut lines: &'a [&'l Line]) -> Vec<&'a [&'l Line]> {
    let mut chunks = Vec::new();
    while !lines.is_empty() {
        let mut bytes = 0;
        let full = lines.iter().position(|line| {
            let was_full = bytes >= CHUNK_BYTES;
            bytes += line.text.len();
            was_full
        });
        let (chunk, rest) = lines.split_at(full.unwrap_or(lines.len()).min(CHUNK_LINES));
        chunks.push(chunk);
        lines = rest;
    }
    chunks
}

/// A bit for each of `sources`.
fn mask(sources: impl Iterator<Item = LineSource>) -> i64 {
    let place = |source| LineSource::ALL.iter().position(|known| *known == source);
    sources
        .filter_map(place)
        .fold(0, |mask, place| mask | (1 << place))
}

impl ChunkRow {
    fn has_room(&self) -> bool {
        let content = self.content.as_ref();
        self.line_count < ROOM_LINES && content.is_some_and(|bytes| bytes.len() < ROOM_BYTES)
    }

    fn lines(self) -> Result<Vec<ConsoleLine>, std::io::Error> {
        let lines = match &self.content {
            Some(content) => Chunk::decode(content)?,
            None => serde_json::from_str::<Vec<Line>>(&self.lines)?,
        };
        let numbered = (unsigned(self.first_line)..).zip(lines);
        Ok(numbered
            .map(|(number, line)| ConsoleLine {
                number,
                source: line.source,
                text: line.text,
                at: line.at,
            })
            .collect())
    }
}

impl Chunk {
    fn encode(lines: &[&Line]) -> Result<Vec<u8>, std::io::Error> {
        let mut chunk = Self::default();
        let mut before = 0;
        for line in lines {
            chunk.sources.push(line.source);
            chunk.times.push(line.at.as_millis().wrapping_sub(before));
            chunk.texts.push(line.text.clone());
            before = line.at.as_millis();
        }
        let json = serde_json::to_vec(&chunk)?;
        // Told the length, the compressor takes no more memory than so many bytes are worth; most
        // chunks are a few lines.
        let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
        compressor.include_checksum(true)?;
        compressor.compress(&json)
    }

    fn decode(content: &[u8]) -> Result<Vec<Line>, std::io::Error> {
        let mut json = Vec::new();
        let decoder = zstd::Decoder::new(content)?;
        decoder.take(MAX_CHUNK_BYTES).read_to_end(&mut json)?;
        let chunk: Self = serde_json::from_slice(&json)?;
        let mut at = 0_i64;
        let rows = chunk.sources.into_iter().zip(chunk.times).zip(chunk.texts);
        Ok(rows
            .map(|((source, step), text)| {
                at = at.wrapping_add(step);
                let at = Timestamp(at);
                Line { source, text, at }
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, at: i64) -> Line {
        Line {
            source: LineSource::Stderr,
            text: text.to_owned(),
            at: Timestamp(at),
        }
    }

    #[test]
    fn lines_come_back_from_a_chunk() {
        let lines = [
            line("", 5),
            line("two\n\u{0}", i64::MIN),
            line("é", i64::MAX),
        ];
        let content = Chunk::encode(&lines.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(Chunk::decode(&content).unwrap(), lines);
        let mut damaged = content.clone();
        for at in 0..content.len() {
            damaged[at] ^= 1;
            // Whatever the bit says, it is never other lines.
            assert!(Chunk::decode(&damaged).map_or(true, |found| found == lines));
            damaged[at] ^= 1;
        }
    }

    #[test]
    fn chunks_are_bounded_in_lines_and_in_bytes() {
        let short = line("x", 0);
        let long = line(&"x".repeat(CHUNK_BYTES - 1), 0);
        let sizes = |lines: &[&Line]| {
            cut(lines)
                .iter()
                .map(|chunk| chunk.len())
                .collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[&short; 2500]), [1024, 1024, 452]);
        assert_eq!(sizes(&[&long; 3]), [2, 1]);
        assert_eq!(sizes(&[]), [0; 0]);
    }
}
