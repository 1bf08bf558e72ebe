//! What was read of data sets, kept for the next runs of a process: the trials of an experiment
//! read the same columns of the same data set again and again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use trainshed_core::Digest;
use trainshed_tables::{ColumnKind, ImageOptions, Table, TableError};
use trainshed_tensor::{Budget, DType, Tensor};

use crate::watch::lock;

/// Most bytes of all that is kept.
const MAX_BYTES: u64 = 128 << 20;
/// Most bytes of one reading: there must be room for others.
const MAX_READING_BYTES: u64 = MAX_BYTES / 4;
/// What a reading takes beside its bytes and names, about; so too a column.
const ENTRY_BYTES: u64 = 256;

/// What was read last, by the digest of the data set. A run reads nothing but data sets that
/// its server has handed it, and the server hands them to nobody who may not read them; the
/// digest is that of their contents.
///
/// What is kept is charged to no task; whoever is given a tensor gets a copy that is charged to
/// him, as if he had read it.
#[derive(Debug, Default)]
pub(crate) struct Readings(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    readings: HashMap<(Digest, Request), Entry>,
    bytes: u64,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    reading: Reading,
    bytes: u64,
    last_used: u64,
}

#[derive(Debug, Clone)]
enum Reading {
    Tables(Arc<Vec<Table>>),
    Tensor {
        dtype: DType,
        shape: Vec<u64>,
        bytes: Arc<[u8]>,
    },
}

/// What is read of a data set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Request {
    Tables,
    Tensor { table: String, part: Part },
}

/// What is read of a table, as a tensor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// Columns of numbers.
    Columns(Vec<String>, DType),
    /// One column of numbers or arrays.
    Array(String, DType),
    /// A column of images.
    Images(String, ImageOptions),
}

impl Readings {
    /// The tables of a data set: those that are known, or those that `survey` finds.
    ///
    /// # Errors
    /// As `survey`.
    pub(crate) fn tables(
        &self,
        dataset: Digest,
        survey: impl FnOnce() -> Result<Vec<Table>, TableError>,
    ) -> Result<Arc<Vec<Table>>, TableError> {
        let key = (dataset, Request::Tables);
        if let Some(Reading::Tables(tables)) = lock(&self.0).get(&key) {
            return Ok(tables);
        }
        let tables = Arc::new(survey()?);
        let bytes = tables.iter().map(size).fold(0, u64::saturating_add);
        let reading = Reading::Tables(Arc::clone(&tables));
        lock(&self.0).insert(key, reading, bytes);
        Ok(tables)
    }

    /// A part of a table: what is known, copied, or what `read` gives.
    ///
    /// # Errors
    /// As `read`, also where the copy does not fit `budget`.
    pub(crate) fn tensor(
        &self,
        (dataset, table): (Digest, &str),
        part: Part,
        budget: &Budget,
        read: impl FnOnce(&Part) -> Result<Tensor, TableError>,
    ) -> Result<Tensor, TableError> {
        let table = table.to_owned();
        let key = (dataset, Request::Tensor { table, part });
        let known = lock(&self.0).get(&key);
        if let Some(Reading::Tensor {
            dtype,
            shape,
            bytes,
        }) = known
            && let Ok(copy) = Tensor::from_bytes(dtype, &shape, &bytes, budget)
        {
            return Ok(copy);
        }
        let Request::Tensor { part, .. } = &key.1 else {
            unreachable!("the request was made above")
        };
        let tensor = read(part)?;
        if tensor.bytes().len() as u64 <= MAX_READING_BYTES {
            let names: u64 = match part {
                Part::Columns(names, _) => names.iter().map(|name| name.len() as u64 + 24).sum(),
                Part::Array(name, _) | Part::Images(name, _) => name.len() as u64,
            };
            let size = tensor.bytes().len() as u64 + names;
            let reading = Reading::Tensor {
                dtype: tensor.dtype(),
                shape: tensor.shape().iter().map(|size| *size as u64).collect(),
                bytes: tensor.bytes().into(),
            };
            lock(&self.0).insert(key, reading, size);
        }
        Ok(tensor)
    }
}

impl Kept {
    fn get(&mut self, key: &(Digest, Request)) -> Option<Reading> {
        self.uses += 1;
        let entry = self.readings.get_mut(key)?;
        entry.last_used = self.uses;
        Some(entry.reading.clone())
    }

    fn insert(&mut self, key: (Digest, Request), reading: Reading, bytes: u64) {
        let bytes = bytes.saturating_add(ENTRY_BYTES);
        if bytes > MAX_READING_BYTES {
            return;
        }
        self.uses += 1;
        let entry = Entry {
            reading,
            bytes,
            last_used: self.uses,
        };
        self.bytes += bytes;
        if let Some(former) = self.readings.insert(key, entry) {
            self.bytes -= former.bytes;
        }
        while self.bytes > MAX_BYTES {
            let entries = self.readings.iter();
            let oldest = entries.min_by_key(|(_, entry)| entry.last_used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            if let Some(entry) = self.readings.remove(&oldest) {
                self.bytes -= entry.bytes;
            }
        }
    }
}

/// About how many bytes a table takes, with the names of its images.
fn size(table: &Table) -> u64 {
    let columns = table.columns.iter();
    let columns = columns.map(|column| {
        let images = match column.kind {
            ColumnKind::Image => table.rows.saturating_mul(ENTRY_BYTES),
            _ => 0,
        };
        ENTRY_BYTES + column.name.len() as u64 + images
    });
    columns.fold(table.path.len() as u64, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn columns(names: &[&str]) -> Part {
        let names = names.iter().map(|name| (*name).to_owned());
        Part::Columns(names.collect(), DType::U8)
    }

    /// Asks for a part that has that many bytes of `seed`; whether it was read.
    fn ask(readings: &Readings, place: (&[u8], &str), part: Part, bytes: usize, seed: u8) -> bool {
        let (budget, was_read) = (Budget::new(1 << 40), Cell::new(false));
        let dataset = (Digest::of(place.0), place.1);
        let tensor = readings.tensor(dataset, part, &budget, |_| {
            was_read.set(true);
            let shape = [bytes as u64];
            Ok(Tensor::from_bytes(DType::U8, &shape, &vec![seed; bytes], &budget).unwrap())
        });
        let tensor = tensor.unwrap();
        assert_eq!(tensor.bytes(), vec![seed; bytes]);
        assert_eq!(budget.used(), bytes as u64, "it is charged once");
        was_read.get()
    }

    #[test]
    fn what_was_read_is_not_read_again_and_nothing_else_is_taken_for_it() {
        let readings = Readings::default();
        let (a, b): (&[u8], &[u8]) = (b"a", b"b");
        assert!(ask(&readings, (a, "t.csv"), columns(&["x", "y"]), 4, 1));
        assert!(!ask(&readings, (a, "t.csv"), columns(&["x", "y"]), 4, 1));
        assert!(ask(&readings, (a, "t.csv"), columns(&["y", "x"]), 4, 2));
        assert!(ask(&readings, (a, "u.csv"), columns(&["x", "y"]), 4, 3));
        assert!(ask(&readings, (b, "t.csv"), columns(&["x", "y"]), 4, 4));
        let array = || Part::Array("x".into(), DType::U8);
        assert!(ask(&readings, (a, "t.csv"), array(), 4, 5));
        let wide = Part::Array("x".into(), DType::I32);
        assert!(ask(&readings, (a, "t.csv"), wide, 4, 6));
        assert!(!ask(&readings, (a, "t.csv"), array(), 4, 5));
    }

    #[test]
    fn a_copy_that_does_not_fit_is_read_to_be_refused() {
        let readings = Readings::default();
        assert!(ask(&readings, (b"a", "t"), columns(&["x"]), 100, 1));
        let small = Budget::new(99);
        let dataset = (Digest::of(b"a"), "t");
        let refused = readings.tensor(dataset, columns(&["x"]), &small, |_| {
            let (needed, allowed) = (100, 99);
            Err(TableError::OutOfMemory { needed, allowed })
        });
        assert!(matches!(refused, Err(TableError::OutOfMemory { .. })));
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
        let readings = Readings::default();
        let part = || columns(&["x"]);
        let ask = |name: &str, bytes| ask(&readings, (name.as_bytes(), "t"), part(), bytes, 1);
        assert!(ask("first", 30 << 20));
        for name in ["1", "2", "3"] {
            assert!(ask(name, 30 << 20));
            assert!(!ask("first", 30 << 20));
        }
        assert!(ask("4", 30 << 20));
        assert!(!ask("first", 30 << 20));
        assert!(ask("1", 30 << 20), "it was the oldest");
        assert!(lock(&readings.0).bytes <= MAX_BYTES);
        for _ in 0..2 {
            assert!(ask("large", 40 << 20));
        }
    }
}
