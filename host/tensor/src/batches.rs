use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use crate::budget::Charge;
use crate::shape::TensorType;
use crate::tensor::{Storage, Tensor};
use crate::{Context, ProgramError};

/// From this many bytes on, the next batch is gathered by another thread while the caller
/// computes with this one. To wake a thread costs what copying a tenth of it does.
const AHEAD_FROM_BYTES: u64 = 256 << 10;
/// The next batch is gathered ahead only while so many batches would fit what is left of the
/// task's memory.
const AHEAD_ROOM: u64 = 8;
/// How many bytes are copied between two looks at the stop flag.
const BYTES_PER_CHECK: usize = 4 << 20;

/// Rows of several tensors in a given order, cut into batches.
///
/// When the task has several threads and batches are large, the next one is gathered while
/// the caller computes. That changes no result: its memory is charged when it begins, by the
/// caller.
pub struct Batches {
    columns: Arc<[Tensor]>,
    order: Arc<[u32]>,
    size: usize,
    drop_last: bool,
    /// Rows that were handed out.
    taken: usize,
    context: Context,
    ahead: Option<Ahead>,
    _charge: Charge,
}

impl Batches {
    /// Prepares batches of `size` rows. All `columns` have the same first dimension;
    /// `order` lists row numbers, any of them any number of times. The last batch is left
    /// out when it is smaller and `drop_last` is set.
    ///
    /// # Errors
    /// [`ProgramError::Argument`] when a column is a scalar or has another number of
    /// rows, a row number is too large or `size` is 0; [`ProgramError::OutOfMemory`].
    pub fn new(
        columns: Vec<Tensor>,
        order: Vec<u32>,
        size: u32,
        drop_last: bool,
        context: &Context,
    ) -> Result<Self, ProgramError> {
        if size == 0 {
            return Err(ProgramError::Argument(
                "a batch must have at least 1 row, but `size` is 0".to_owned(),
            ));
        }
        let mut rows = None;
        for (place, column) in columns.iter().enumerate() {
            let Some(&count) = column.shape().first() else {
                return Err(ProgramError::Argument(format!(
                    "column {place} is a scalar, but it must have rows"
                )));
            };
            if *rows.get_or_insert(count) != count {
                return Err(ProgramError::Argument(format!(
                    "column {place} has {count} rows, but column 0 has {}",
                    columns[0].shape()[0]
                )));
            }
        }
        let Some(rows) = rows else {
            return Err(ProgramError::Argument(
                "batches are made of at least one column, but none was given".to_owned(),
            ));
        };
        if let Some(row) = order.iter().find(|&&row| row as usize >= rows) {
            return Err(ProgramError::Argument(format!(
                "row {row} is in the order, but the columns have {rows} rows"
            )));
        }
        let charge = context.budget().charge(order.len() * size_of::<u32>())?;
        Ok(Self {
            columns: columns.into(),
            order: order.into(),
            size: size as usize,
            drop_last,
            taken: 0,
            context: context.clone(),
            ahead: None,
            _charge: charge,
        })
    }

    /// How many batches are left.
    pub fn remaining(&self) -> u32 {
        let rows = self.order.len() - self.taken;
        let batches = if self.drop_last {
            rows / self.size
        } else {
            rows.div_ceil(self.size)
        };
        u32::try_from(batches).unwrap_or(u32::MAX)
    }

    /// The next batch: one tensor per column; `None` at the end.
    ///
    /// # Errors
    /// [`ProgramError::OutOfMemory`], [`ProgramError::Stopped`]; the batch is then not used up.
    #[expect(
        clippy::should_implement_trait,
        reason = "a failure does not end the sequence, unlike that of an iterator"
    )]
    pub fn next(&mut self) -> Result<Option<Vec<Tensor>>, ProgramError> {
        if self.remaining() == 0 {
            return Ok(None);
        }
        let gathered = match self.ahead.take() {
            Some(ahead) => ahead.finish(self.context.stop_flag()),
            None => self.work()?.gather(self.context.stop_flag()),
        };
        let batch = gathered?;
        self.taken = self.rows_of_next().end;
        self.begin_next();
        Ok(Some(batch))
    }

    /// Has another thread gather the next batch, where that pays.
    fn begin_next(&mut self) {
        if self.remaining() == 0 || !self.context.has_helpers() {
            return;
        }
        let rows = self.rows_of_next().len() as u64;
        let row_bytes = self.columns.iter().map(|column| {
            let rows = column.shape()[0].max(1);
            (column.bytes().len() / rows) as u64
        });
        let bytes = rows.saturating_mul(row_bytes.sum());
        let budget = self.context.budget();
        let left = budget.limit().saturating_sub(budget.used());
        if bytes < AHEAD_FROM_BYTES || left / AHEAD_ROOM < bytes {
            return;
        }
        // Without memory for it, the batch is gathered when it is asked for, and fails then.
        if let Ok(work) = self.work() {
            self.ahead = Some(Ahead::begin(work, &self.context));
        }
    }

    /// The places in the order of the next batch's rows.
    fn rows_of_next(&self) -> Range<usize> {
        self.taken..(self.taken + self.size).min(self.order.len())
    }

    /// Charges the next batch.
    fn work(&self) -> Result<Work, ProgramError> {
        let rows = self.rows_of_next();
        let mut tensors = Vec::with_capacity(self.columns.len());
        for column in &*self.columns {
            let mut shape = column.shape().to_vec();
            shape[0] = rows.len();
            let ty = TensorType::new(column.dtype(), &shape).map_err(ProgramError::Argument)?;
            tensors.push((ty, self.context.budget().charge(ty.bytes())?));
        }
        Ok(Work {
            columns: Arc::clone(&self.columns),
            order: Arc::clone(&self.order),
            rows,
            tensors,
        })
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        if let Some(ahead) = self.ahead.take() {
            ahead.abandon();
        }
    }
}

/// A batch that is to be gathered.
struct Work {
    columns: Arc<[Tensor]>,
    order: Arc<[u32]>,
    /// Places in the order.
    rows: Range<usize>,
    /// What each column of the batch will be.
    tensors: Vec<(TensorType, Charge)>,
}

impl Work {
    /// Copies the rows.
    fn gather(self, stop: &AtomicBool) -> Result<Vec<Tensor>, ProgramError> {
        let rows = &self.order[self.rows];
        let mut batch = Vec::with_capacity(self.tensors.len());
        for (column, (ty, charge)) in self.columns.iter().zip(self.tensors) {
            let mut storage = Storage::charged(ty.bytes(), charge)?;
            let row_bytes = column.bytes().len() / column.shape()[0].max(1);
            if row_bytes > 0 {
                let slices = storage.bytes_mut()[..ty.bytes()].chunks_exact_mut(row_bytes);
                let mut unchecked = 0;
                for (slice, &row) in slices.zip(rows) {
                    let first = row as usize * row_bytes;
                    slice.copy_from_slice(&column.bytes()[first..first + row_bytes]);
                    unchecked += row_bytes;
                    if unchecked > BYTES_PER_CHECK {
                        unchecked = 0;
                        if stop.load(Ordering::Relaxed) {
                            return Err(ProgramError::Stopped);
                        }
                    }
                }
            }
            batch.push(Tensor {
                ty,
                storage: Arc::new(storage),
            });
        }
        Ok(batch)
    }
}

/// A batch that another thread gathers, unless the caller needs it first.
struct Ahead {
    /// Whoever takes it, gathers it.
    work: Arc<Mutex<Option<Work>>>,
    gathered: Receiver<Result<Vec<Tensor>, ProgramError>>,
}

impl Ahead {
    fn begin(work: Work, context: &Context) -> Self {
        let work = Arc::new(Mutex::new(Some(work)));
        // Room for the one batch: the helper never waits.
        let (sender, gathered) = sync_channel(1);
        let stop = Arc::clone(context.stop_flag());
        let shared = Arc::clone(&work);
        context.spawn(move || {
            if let Some(work) = take(&shared) {
                // Nobody receives it when the batches were dropped meanwhile.
                let _ = sender.send(work.gather(&stop));
            }
        });
        Self { work, gathered }
    }

    /// Waits for what has begun, so that its memory is given back; what has not never will.
    fn abandon(self) {
        if take(&self.work).is_none() {
            let _ = self.gathered.recv();
        }
    }

    fn finish(self, stop: &AtomicBool) -> Result<Vec<Tensor>, ProgramError> {
        match take(&self.work) {
            Some(work) => work.gather(stop),
            None => self.gathered.recv().unwrap_or(Err(ProgramError::Stopped)),
        }
    }
}

fn take(work: &Mutex<Option<Work>>) -> Option<Work> {
    work.lock().unwrap_or_else(PoisonError::into_inner).take()
}
