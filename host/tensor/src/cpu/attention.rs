//! Attention in blocks, without the matrix of all scores.
//!
//! Source: Dao, "FlashAttention-2: faster attention with better parallelism and work
//! partitioning", 2023, algorithms 1 and 2, on the online softmax of Milakov and
//! Gimelshein, "Online normalizer calculation for softmax", 2018. Each block of queries
//! (for the derivatives by keys and values, of keys) is one piece of work, which goes
//! through the other blocks in order: bits do not depend on threads. Blocks that causality
//! hides are left out.

use super::number::Real;
use super::product::{Matrix, Product};
use super::reduce::{Max, combine_block};
use super::shared::Shared;
use super::vector::{Vector, with_vectors};
use super::workers::Workers;
use crate::DType;
use crate::shape::Dims;

/// Queries and keys of a block.
const BLOCK: usize = 64;

/// The most steps of one product's sums.
const MOST_STEPS: usize = 1024;

/// The scores of a block.
const SCORES: usize = BLOCK * BLOCK;

/// From so many batches on, one piece of work of the gradient is a whole batch, which
/// computes scores once instead of twice.
const MANY_BATCHES: usize = 16;

/// The shapes and attributes that attention and its gradient share.
#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) dtype: DType,
    pub(crate) batches: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    /// Elements of a query, and of a value.
    pub(crate) depth: usize,
    pub(crate) value: usize,
    pub(crate) scale: f64,
    pub(crate) causal: bool,
    /// The batch dimensions, and those of the mask, which may be 1.
    pub(crate) mask: Option<(Dims, Dims)>,
}

/// Which derivatives a piece computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Queries,
    KeysAndValues,
    All,
}

/// The gradient of an [`Attention`].
#[derive(Debug)]
pub(crate) struct AttentionGradient(pub(crate) Attention);

/// The operands of both.
#[derive(Clone, Copy)]
struct Operands<'a, T> {
    q: &'a [T],
    k: &'a [T],
    v: &'a [T],
    mask: &'a [u8],
}

impl<'a, T: Real> Operands<'a, T> {
    fn new(operands: &[&'a [u8]]) -> Self {
        Self {
            q: bytemuck::cast_slice(operands[0]),
            k: bytemuck::cast_slice(operands[1]),
            v: bytemuck::cast_slice(operands[2]),
            mask: operands.get(3).copied().unwrap_or(&[]),
        }
    }
}

impl Attention {
    /// Floating-point operations of one run.
    pub(crate) fn flops(&self) -> u64 {
        let deep = self.depth.saturating_add(self.value);
        [self.batches, self.queries, self.keys, deep]
            .iter()
            .fold(2, |flops: u64, &size| flops.saturating_mul(size as u64))
    }

    pub(super) fn run(&self, operands: &[&[u8]], [y, logs]: [&mut [u8]; 2], workers: &Workers<'_>) {
        if self.dtype == DType::F64 {
            self.attend::<f64>(operands, [y, logs], workers);
        } else {
            self.attend::<f32>(operands, [y, logs], workers);
        }
    }

    fn attend<T: Vector>(
        &self,
        operands: &[&[u8]],
        results: [&mut [u8]; 2],
        workers: &Workers<'_>,
    ) {
        let operands = Operands::<T>::new(operands);
        let [y, logs] =
            results.map(|result| Shared::new(bytemuck::cast_slice_mut::<u8, T>(result)));
        let blocks = self.queries.div_ceil(BLOCK);
        workers.each(self.batches * blocks, |piece| {
            self.block(
                &operands,
                &y,
                &logs,
                piece / blocks,
                piece % blocks,
                workers,
            );
        });
    }

    /// The results of one block of queries.
    #[expect(unsafe_code, reason = "pieces write to different parts of one result")]
    fn block<T: Vector>(
        &self,
        operands: &Operands<'_, T>,
        y: &Shared<'_, T>,
        logs: &Shared<'_, T>,
        batch: usize,
        block: usize,
        workers: &Workers<'_>,
    ) {
        let query = block * BLOCK;
        let rows = (self.queries - query).min(BLOCK);
        let first = batch * self.queries + query;
        // SAFETY: no other piece has these queries.
        let y = unsafe { y.part(first * self.value, rows * self.value) };
        // SAFETY: as above.
        let logs = unsafe { logs.part(first, rows) };
        y.fill(T::ZERO);
        let mut scores = [T::ZERO; SCORES];
        let mut greatest = [T::LOWEST; BLOCK];
        let mut sums = [T::ZERO; BLOCK];
        for key in (0..self.keys).step_by(BLOCK) {
            if !self.sees(query + rows - 1, key) || workers.stopped() {
                break;
            }
            let columns = (self.keys - key).min(BLOCK);
            self.scores(operands, &mut scores, batch, [query, rows], [key, columns]);
            with_vectors(
                #[inline(always)]
                || {
                    for row in 0..rows {
                        let scores = &mut scores[row * BLOCK..][..columns];
                        let best = greatest[row].maximum(combine_block::<T, Max>(scores));
                        // Before the first visible key there is nothing to subtract.
                        let base = if best == T::LOWEST { T::ZERO } else { best };
                        for score in scores.iter_mut() {
                            *score = score.subtract(base).exp();
                        }
                        let sum = super::norm::sum([&*scores], |[power]| power);
                        if best == greatest[row] {
                            sums[row] = sums[row].add(sum);
                            continue;
                        }
                        // Nothing was seen before the first block.
                        let kept = if greatest[row] == T::LOWEST {
                            T::ZERO
                        } else {
                            greatest[row].subtract(base).exp()
                        };
                        sums[row] = sums[row].multiply(kept).add(sum);
                        greatest[row] = best;
                        if key > 0 {
                            for y in &mut y[row * self.value..][..self.value] {
                                *y = y.multiply(kept);
                            }
                        }
                    }
                },
            );
            product(
                [rows, self.value, columns],
                (y, self.value),
                (&scores, [BLOCK, 1]),
                (
                    &operands.v[(batch * self.keys + key) * self.value..],
                    [self.value, 1],
                ),
                T::ONE,
                true,
            );
        }
        with_vectors(
            #[inline(always)]
            || {
                for ((log, &best), &sum) in logs.iter_mut().zip(&greatest).zip(&sums) {
                    let found = best.add(sum.log());
                    *log = if best == T::LOWEST { best } else { found };
                }
                for (row, y) in y.chunks_mut(self.value.max(1)).enumerate() {
                    if greatest[row] != T::LOWEST {
                        let share = T::ONE.divide(sums[row]);
                        for y in y {
                            *y = y.multiply(share);
                        }
                    }
                }
            },
        );
    }

    /// Whether a query sees a key as far as causality goes.
    fn sees(&self, query: usize, key: usize) -> bool {
        !self.causal || key + self.queries <= query + self.keys
    }

    /// `scale q kᵀ` of a block, in rows of [`BLOCK`]; what is hidden is -infinity.
    fn scores<T: Vector>(
        &self,
        operands: &Operands<'_, T>,
        scores: &mut [T; SCORES],
        batch: usize,
        [query, rows]: [usize; 2],
        [key, columns]: [usize; 2],
    ) {
        if self.depth == 0 {
            scores.fill(T::ZERO);
        } else {
            product(
                [rows, columns, self.depth],
                (scores, BLOCK),
                (
                    &operands.q[(batch * self.queries + query) * self.depth..],
                    [self.depth, 1],
                ),
                (
                    &operands.k[(batch * self.keys + key) * self.depth..],
                    [1, self.depth],
                ),
                T::from_f64(self.scale),
                false,
            );
        }
        if let Some((batches, mask)) = &self.mask {
            let first = self.mask_batch(batches, mask, batch) * self.queries * self.keys;
            for row in 0..rows {
                let start = first + (query + row) * self.keys + key;
                let seen = &operands.mask[start..start + columns];
                for (score, &seen) in scores[row * BLOCK..].iter_mut().zip(seen) {
                    *score = if seen == 0 { T::LOWEST } else { *score };
                }
            }
        }
        if self.causal && !self.sees(query, key + columns - 1) {
            for row in 0..rows {
                let seen = (query + row + self.keys + 1).saturating_sub(self.queries + key);
                scores[row * BLOCK + seen.min(columns)..row * BLOCK + columns].fill(T::LOWEST);
            }
        }
    }

    /// The batch of the mask that belongs to one of the operands.
    fn mask_batch(&self, batches: &Dims, mask: &Dims, mut batch: usize) -> usize {
        let mut found = 0;
        let mut step = 1;
        for (&size, &masked) in batches.iter().zip(mask.iter()).rev() {
            if masked > 1 {
                found += batch % size * step;
            }
            step *= masked;
            batch /= size;
        }
        found
    }
}

impl AttentionGradient {
    /// Floating-point operations of one run.
    pub(crate) fn flops(&self) -> u64 {
        self.0.flops().saturating_mul(5) / 2
    }

    pub(super) fn run(&self, operands: &[&[u8]], results: [&mut [u8]; 3], workers: &Workers<'_>) {
        if self.0.dtype == DType::F64 {
            self.derive::<f64>(operands, results, workers);
        } else {
            self.derive::<f32>(operands, results, workers);
        }
    }

    fn derive<T: Vector>(
        &self,
        operands: &[&[u8]],
        results: [&mut [u8]; 3],
        workers: &Workers<'_>,
    ) {
        let attention = &self.0;
        let (given, rest) = operands.split_at(operands.len() - 3);
        let given = Operands::<T>::new(given);
        let [y, logs, up] = [0, 1, 2].map(|place| bytemuck::cast_slice::<u8, T>(rest[place]));
        let results = results.map(|result| {
            let result = bytemuck::cast_slice_mut::<u8, T>(result);
            workers.each_chunk(result, 1 << 16, |_, chunk| chunk.fill(T::ZERO));
            Shared::new(result)
        });
        let backward = Backward {
            attention,
            given,
            y,
            logs,
            up,
            results: &results,
            workers: *workers,
        };
        if attention.batches >= MANY_BATCHES {
            workers.each(attention.batches, |batch| {
                let all = [0..attention.queries, 0..attention.keys];
                backward.piece(batch, Part::All, all);
            });
            return;
        }
        let blocks = attention.queries.div_ceil(BLOCK);
        workers.each(attention.batches * blocks, |piece| {
            let first = piece % blocks * BLOCK;
            let queries = first..(first + BLOCK).min(attention.queries);
            let keys = 0..attention.keys;
            backward.piece(piece / blocks, Part::Queries, [queries, keys]);
        });
        let blocks = attention.keys.div_ceil(BLOCK);
        workers.each(attention.batches * blocks, |piece| {
            let first = piece % blocks * BLOCK;
            let keys = first..(first + BLOCK).min(attention.keys);
            let queries = 0..attention.queries;
            backward.piece(piece / blocks, Part::KeysAndValues, [queries, keys]);
        });
    }
}

struct Backward<'a, T> {
    attention: &'a Attention,
    given: Operands<'a, T>,
    y: &'a [T],
    logs: &'a [T],
    up: &'a [T],
    results: &'a [Shared<'a, T>; 3],
    workers: Workers<'a>,
}

impl<T: Vector> Backward<'_, T> {
    /// The derivatives by some queries or by some keys and values, from these of the others.
    fn piece(&self, batch: usize, part: Part, [queries, keys]: [std::ops::Range<usize>; 2]) {
        let mut shares = [T::ZERO; SCORES];
        let mut flows = [T::ZERO; SCORES];
        for key in keys.clone().step_by(BLOCK) {
            for query in queries.clone().step_by(BLOCK) {
                if self.workers.stopped() {
                    return;
                }
                let rows = (queries.end - query).min(BLOCK);
                let columns = (keys.end - key).min(BLOCK);
                if self.attention.sees(query + rows - 1, key) {
                    let block = [[query, rows], [key, columns]];
                    self.flows(batch, block, &mut shares, &mut flows);
                    self.add(batch, part, block, &shares, &flows);
                }
            }
        }
    }

    /// The softmax of a block, and the derivative by its scores.
    fn flows(
        &self,
        batch: usize,
        [[query, rows], [key, columns]]: [[usize; 2]; 2],
        shares: &mut [T; SCORES],
        flows: &mut [T; SCORES],
    ) {
        let attention = self.attention;
        let value = attention.value;
        let first = batch * attention.queries + query;
        attention.scores(&self.given, shares, batch, [query, rows], [key, columns]);
        let up = &self.up[first * value..(first + rows) * value];
        let y = &self.y[first * value..(first + rows) * value];
        let logs = &self.logs[first..first + rows];
        if value == 0 {
            flows.fill(T::ZERO);
        } else {
            product(
                [rows, columns, value],
                (flows, BLOCK),
                (up, [value, 1]),
                (
                    &self.given.v[(batch * attention.keys + key) * value..],
                    [1, value],
                ),
                T::ONE,
                false,
            );
        }
        let scale = T::from_f64(attention.scale);
        with_vectors(
            #[inline(always)]
            || {
                for row in 0..rows {
                    let log = logs[row];
                    let base = if log == T::LOWEST { T::ZERO } else { log };
                    let of_row = row * value..(row + 1) * value;
                    let total = super::norm::sum([&up[of_row.clone()], &y[of_row]], |[up, y]| {
                        up.multiply(y)
                    });
                    let shares = &mut shares[row * BLOCK..][..columns];
                    let flows = &mut flows[row * BLOCK..][..columns];
                    for (share, flow) in shares.iter_mut().zip(flows) {
                        *share = share.subtract(base).exp();
                        *flow = share.multiply(flow.subtract(total)).multiply(scale);
                    }
                }
            },
        );
    }

    /// Adds what a block contributes to the results.
    #[expect(unsafe_code, reason = "pieces write to different parts of one result")]
    fn add(
        &self,
        batch: usize,
        part: Part,
        [[query, rows], [key, columns]]: [[usize; 2]; 2],
        shares: &[T; SCORES],
        flows: &[T; SCORES],
    ) {
        let attention = self.attention;
        let (depth, value) = (attention.depth, attention.value);
        let query = batch * attention.queries + query;
        let key = batch * attention.keys + key;
        let [by_q, by_k, by_v] = self.results;
        if part != Part::KeysAndValues {
            // SAFETY: no other piece has these queries.
            let by_q = unsafe { by_q.part(query * depth, rows * depth) };
            product(
                [rows, depth, columns],
                (by_q, depth),
                (flows, [BLOCK, 1]),
                (&self.given.k[key * depth..], [depth, 1]),
                T::ONE,
                true,
            );
        }
        if part != Part::Queries {
            // SAFETY: no other piece has these keys.
            let by_k = unsafe { by_k.part(key * depth, columns * depth) };
            product(
                [columns, depth, rows],
                (by_k, depth),
                (flows, [1, BLOCK]),
                (&self.given.q[query * depth..], [depth, 1]),
                T::ONE,
                true,
            );
            // SAFETY: as above.
            let by_v = unsafe { by_v.part(key * value, columns * value) };
            product(
                [columns, value, rows],
                (by_v, value),
                (shares, [1, BLOCK]),
                (&self.up[query * value..], [value, 1]),
                T::ONE,
                true,
            );
        }
    }
}

/// `to = factor a b`, or that added to it, on this thread. The matrices are given with the
/// steps of their rows and columns; rows of the result are one after another.
///
/// # Panics
/// When a matrix reaches beyond its slice.
fn product<T: Vector>(
    [m, n, k]: [usize; 3],
    (to, to_row): (&mut [T], usize),
    (a, a_steps): (&[T], [usize; 2]),
    (b, b_steps): (&[T], [usize; 2]),
    factor: T,
    adds: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    // What is packed of the right operand is bounded.
    for first in (0..k).step_by(MOST_STEPS) {
        Product {
            m,
            n,
            k: MOST_STEPS.min(k - first),
            lhs: Matrix {
                elements: &a[first * a_steps[1]..],
                row: a_steps[0],
                column: a_steps[1],
            },
            rhs: Matrix {
                elements: &b[first * b_steps[0]..],
                row: b_steps[0],
                column: b_steps[1],
            },
            result: &mut *to,
            result_row: to_row,
            factor,
            adds: adds || first > 0,
        }
        .run();
    }
}
