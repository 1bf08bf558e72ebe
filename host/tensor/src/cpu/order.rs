//! Sorting and selecting along rows.

use bytemuck::Pod;

use super::workers::Workers;
use crate::DType;

/// Operand elements that make a piece worth handing to a thread.
const ELEMENTS_PER_PIECE: usize = 16 * 1024;

/// The least elements that are collected before the best of them are chosen.
const LEAST_COLLECTED: usize = 64;

/// Entries that are sorted without a look at the stop flag.
const LARGE: usize = 1 << 16;

/// Entries of which the middle one cuts a large sort in two.
const SAMPLES: usize = 127;

/// The first elements of each row in their order, and their positions.
///
/// An element becomes a key of as many bits that compares as the element does, NaN as the
/// greatest, and the keys are sorted together with the positions: so all are different,
/// and equal elements keep their order.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) dtype: DType,
    /// Elements of a row.
    pub(crate) size: usize,
    /// Elements of a row of the results.
    pub(crate) kept: usize,
    pub(crate) descending: bool,
}

impl Order {
    /// Comparisons per element.
    pub(super) fn depth(&self) -> u64 {
        u64::from(usize::BITS - self.size.leading_zeros())
    }

    /// Bytes of the workspace for one row.
    pub(crate) fn workspace(&self) -> usize {
        let entry = if self.dtype.size() == 8 {
            size_of::<u128>()
        } else {
            size_of::<u64>()
        };
        self.collected() * entry
    }

    /// Elements of a row that are sorted at once.
    fn collected(&self) -> usize {
        match self.kept {
            0 => 0,
            kept => kept.saturating_mul(2).max(LEAST_COLLECTED).min(self.size),
        }
    }

    pub(super) fn run(
        &self,
        input: &[u8],
        values: &mut [u8],
        positions: &mut [u8],
        workspace: &mut [u8],
        workers: &Workers<'_>,
    ) {
        let results = (values, positions, workspace);
        match self.dtype {
            DType::F32 => self.rows::<u32, u64>(input, results, workers, float_key_32),
            DType::I32 => self.rows::<u32, u64>(input, results, workers, |bits| bits ^ (1 << 31)),
            DType::U32 => self.rows::<u32, u64>(input, results, workers, |bits| bits),
            DType::I64 => self.rows::<u64, u128>(input, results, workers, |bits| bits ^ (1 << 63)),
            DType::F64 => self.rows::<u64, u128>(input, results, workers, float_key_64),
            DType::Bf16 => self.rows::<u16, u64>(input, results, workers, bf16_key),
            DType::F16 => self.rows::<u16, u64>(input, results, workers, f16_key),
            DType::U8 | DType::Bool => self.rows::<u8, u64>(input, results, workers, |bits| bits),
        }
    }

    fn rows<K: Key, E: Entry<K>>(
        &self,
        input: &[u8],
        (values, positions, workspace): (&mut [u8], &mut [u8], &mut [u8]),
        workers: &Workers<'_>,
        key: impl Fn(K) -> K + Sync,
    ) {
        let input: &[K] = bytemuck::cast_slice(input);
        let values: &mut [K] = bytemuck::cast_slice_mut(values);
        let positions: &mut [i32] = bytemuck::cast_slice_mut(positions);
        let workspace: &mut [E] = bytemuck::cast_slice_mut(workspace);
        let rows = ELEMENTS_PER_PIECE.div_ceil(self.size);
        let collected = self.collected();
        workers.each_chunk_of_three(
            (values, rows * self.kept),
            (positions, rows * self.kept),
            (workspace, rows * collected),
            |piece, values, positions, workspace| {
                let first = piece * rows;
                let values = values.chunks_mut(self.kept);
                let positions = positions.chunks_mut(self.kept);
                let results = values.zip(positions).zip(workspace.chunks_mut(collected));
                for (row, ((values, positions), entries)) in results.enumerate() {
                    let row = &input[(first + row) * self.size..][..self.size];
                    let best = if self.descending {
                        self.best(row, entries, |bits| key(bits).inverted(), workers)
                    } else {
                        self.best(row, entries, &key, workers)
                    };
                    for ((value, position), entry) in values.iter_mut().zip(positions).zip(best) {
                        *position = entry.position().cast_signed();
                        *value = row[entry.position() as usize];
                    }
                }
            },
        );
    }

    /// The entries of the first elements of a row, in order; in any order when the run is
    /// to end.
    fn best<'a, K: Key, E: Entry<K>>(
        &self,
        row: &[K],
        entries: &'a mut [E],
        key: impl Fn(K) -> K,
        workers: &Workers<'_>,
    ) -> &'a [E] {
        let made = |(position, &bits): (u32, &K)| E::new(key(bits), position);
        let mut elements = (0..).zip(row).map(made);
        for (entry, element) in entries.iter_mut().zip(elements.by_ref()) {
            *entry = element;
        }
        let kept = self.kept;
        if kept < entries.len() {
            // What is behind the worst of the best needs no second look.
            select(entries, kept - 1, workers);
            let mut count = kept;
            for element in elements {
                if element < entries[kept - 1] {
                    entries[count] = element;
                    count += 1;
                    if count == entries.len() {
                        if workers.stopped() {
                            break;
                        }
                        select(entries, kept - 1, workers);
                        count = kept;
                    }
                }
            }
            select(&mut entries[..count], kept - 1, workers);
        }
        sort(&mut entries[..kept], workers);
        &entries[..kept]
    }
}

/// Sorts different entries, unless the run is to end.
fn sort<E: Ord + Copy>(mut entries: &mut [E], workers: &Workers<'_>) {
    while entries.len() > LARGE {
        let Some(middle) = partition(entries, workers) else {
            return;
        };
        let (low, high) = entries.split_at_mut(middle);
        let (short, long) = if low.len() < high.len() {
            (low, high)
        } else {
            (high, low)
        };
        sort(short, workers);
        entries = long;
    }
    entries.sort_unstable();
}

/// Moves the `nth` of different entries to its place and smaller ones before it, unless the
/// run is to end.
fn select<E: Ord + Copy>(mut entries: &mut [E], mut nth: usize, workers: &Workers<'_>) {
    while entries.len() > LARGE {
        let Some(middle) = partition(entries, workers) else {
            return;
        };
        entries = if nth < middle {
            &mut entries[..middle]
        } else {
            nth -= middle;
            &mut entries[middle..]
        };
    }
    entries.select_nth_unstable(nth);
}

/// Moves the smaller ones of many different entries before the others; returns how many
/// they are. `None` when the run is to end.
fn partition<E: Ord + Copy>(entries: &mut [E], workers: &Workers<'_>) -> Option<usize> {
    let count = entries.len();
    let mut samples = [entries[0]; SAMPLES];
    for (place, sample) in samples.iter_mut().enumerate() {
        *sample = entries[place * (count / SAMPLES)];
    }
    samples.sort_unstable();
    let pivot = samples[SAMPLES / 2];
    let mut smaller = 0;
    for start in (0..count).step_by(LARGE) {
        if workers.stopped() {
            return None;
        }
        for place in start..(start + LARGE).min(count) {
            let entry = entries[place];
            entries.swap(place, smaller);
            smaller += usize::from(entry < pivot);
        }
    }
    if smaller.min(count - smaller) < count / 16 {
        // Somebody knows where the samples are taken.
        entries.select_nth_unstable(count / 2);
        smaller = count / 2;
    }
    Some(smaller)
}

/// An element's bits.
trait Key: Pod + Send + Sync {
    /// Compares the other way round.
    fn inverted(self) -> Self;
}

/// A key and the position of its element; compares by the key first.
trait Entry<K>: Pod + Ord + Send {
    fn new(key: K, position: u32) -> Self;
    fn position(self) -> u32;
}

macro_rules! key {
    ($($key:ident in $entry:ident),*) => {$(
        impl Key for $key {
            #[inline(always)]
            fn inverted(self) -> Self {
                !self
            }
        }

        impl Entry<$key> for $entry {
            #[inline(always)]
            fn new(key: $key, position: u32) -> Self {
                (Self::from(key) << 32) | Self::from(position)
            }

            #[inline(always)]
            #[expect(clippy::cast_possible_truncation, reason = "the low word")]
            fn position(self) -> u32 {
                self as u32
            }
        }
    )*};
}

key!(u8 in u64, u16 in u64, u32 in u64, u64 in u128);

macro_rules! float_key {
    ($name:ident, $bits:ident, $infinity:expr) => {
        /// Bits that compare as the number does; both zeros are equal, and so is every NaN.
        #[inline(always)]
        fn $name(bits: $bits) -> $bits {
            const SIGN: $bits = 1 << ($bits::BITS - 1);
            match bits & !SIGN {
                0 => SIGN,
                magnitude if magnitude > $infinity => $bits::MAX,
                _ if bits & SIGN != 0 => !bits,
                magnitude => magnitude | SIGN,
            }
        }
    };
}

float_key!(float_key_32, u32, 0x7f80_0000);
float_key!(float_key_64, u64, 0x7ff0_0000_0000_0000);
float_key!(bf16_key, u16, 0x7f80);
float_key!(f16_key, u16, 0x7c00);
