use crate::budget::Charge;
use crate::tensor::Tensor;
use crate::{Budget, ProgramError};

/// Rows of several tensors in a given order, cut into batches.
pub struct Batches {
    columns: Vec<Tensor>,
    order: Vec<u32>,
    size: usize,
    drop_last: bool,
    /// Rows that were handed out.
    taken: usize,
    budget: Budget,
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
        budget: &Budget,
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
        let charge = budget.charge(order.len() * size_of::<u32>())?;
        Ok(Self {
            columns,
            order,
            size: size as usize,
            drop_last,
            taken: 0,
            budget: budget.clone(),
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
    /// [`ProgramError::OutOfMemory`]; the batch is then not used up.
    #[expect(
        clippy::should_implement_trait,
        reason = "a failure does not end the sequence, unlike that of an iterator"
    )]
    pub fn next(&mut self) -> Result<Option<Vec<Tensor>>, ProgramError> {
        if self.remaining() == 0 {
            return Ok(None);
        }
        let end = (self.taken + self.size).min(self.order.len());
        let rows = &self.order[self.taken..end];
        let mut batch = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let mut shape: Vec<u64> = column.shape().iter().map(|&size| size as u64).collect();
            shape[0] = rows.len() as u64;
            let row_bytes = column.bytes().len() / column.shape()[0];
            let tensor = Tensor::build(column.dtype(), &shape, &self.budget, |bytes| {
                if row_bytes == 0 {
                    return;
                }
                for (slice, &row) in bytes.chunks_exact_mut(row_bytes).zip(rows) {
                    let first = row as usize * row_bytes;
                    slice.copy_from_slice(&column.bytes()[first..first + row_bytes]);
                }
            })?;
            batch.push(tensor);
        }
        self.taken = end;
        Ok(Some(batch))
    }
}
