//! What a run has used of its limits.

use trainshed_core::limits::Limits;
use wasmtime::ResourceLimiter;

/// Most core instances, memories and tables of one component. A component made of one module
/// and the WASI adapter has four instances, one memory and two tables.
pub(crate) const MAX_INSTANCES: u32 = 64;
/// See [`MAX_INSTANCES`].
pub(crate) const MAX_MEMORIES: u32 = 8;
/// See [`MAX_INSTANCES`].
pub(crate) const MAX_TABLES: u32 = 16;

/// What WebAssembly itself takes: linear memory and tables, all of a component's together.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory: Share,
    table: Share,
    refused: Option<Refusal>,
}

/// A growth that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Linear memory: all of it after the growth, and the limit, in bytes.
    Memory {
        /// What there would have been.
        asked: u64,
        /// What there may be.
        limit: u64,
    },
    /// Tables: all their elements after the growth, and the limit.
    Table {
        /// What there would have been.
        asked: u64,
        /// What there may be.
        limit: u64,
    },
}

#[derive(Debug)]
struct Share {
    used: u64,
    limit: u64,
    /// The last growth that was allowed, to be taken back if it fails.
    last: u64,
}

impl Share {
    fn new(limit: u64) -> Self {
        Self {
            used: 0,
            limit,
            last: 0,
        }
    }

    /// Takes the growth from `current` to `desired`; the sum that was too much otherwise.
    fn grow(&mut self, current: usize, desired: usize) -> Result<(), u64> {
        let growth = desired.saturating_sub(current) as u64;
        let sum = self.used.saturating_add(growth);
        self.last = 0;
        if sum > self.limit {
            return Err(sum);
        }
        self.used = sum;
        self.last = growth;
        Ok(())
    }

    fn take_back(&mut self) {
        self.used = self.used.saturating_sub(self.last);
        self.last = 0;
    }
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            memory: Share::new(limits.memory_bytes),
            table: Share::new(limits.table_elements),
            refused: None,
        }
    }

    /// The last growth that was refused. A plugin that runs out of memory traps right after,
    /// with a reason that does not say so.
    pub(crate) fn refused(&self) -> Option<&Refusal> {
        self.refused.as_ref()
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let growth = self.memory.grow(current, desired);
        if let Err(asked) = growth {
            let limit = self.memory.limit;
            self.refused = Some(Refusal::Memory { asked, limit });
        }
        Ok(growth.is_ok())
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory.take_back();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let growth = self.table.grow(current, desired);
        if let Err(asked) = growth {
            let limit = self.table.limit;
            self.refused = Some(Refusal::Table { asked, limit });
        }
        Ok(growth.is_ok())
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.table.take_back();
        Ok(())
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES as usize
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES as usize
    }

    fn tables(&self) -> usize {
        MAX_TABLES as usize
    }
}

/// An amount that a run may use up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quota {
    used: u64,
    limit: u64,
}

impl Quota {
    pub(crate) fn new(limit: u64) -> Self {
        Self { used: 0, limit }
    }

    /// Takes `amount`, or nothing when there is not so much left.
    pub(crate) fn take(&mut self, amount: u64) -> bool {
        match self.used.checked_add(amount) {
            Some(sum) if sum <= self.limit => {
                self.used = sum;
                true
            }
            _ => false,
        }
    }

    pub(crate) fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }
}

/// `bytes` for people: `3 bytes`, `64 MiB`, `1.5 GiB`.
pub(crate) fn bytes_for_people(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let exponent = (bytes.ilog2() / 10).min(5);
    let unit = UNITS[exponent as usize - 1];
    let tenths = (u128::from(bytes) * 10) >> (10 * exponent);
    match tenths % 10 {
        0 => format!("{} {unit}", tenths / 10),
        tenth => format!("{}.{tenth} {unit}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_for_people() {
        let amounts = [0, 1023, 1024, 1536, 64 << 20, 5_368_709_120, u64::MAX];
        let texts = amounts.map(bytes_for_people);
        assert_eq!(
            texts,
            [
                "0 bytes",
                "1023 bytes",
                "1 KiB",
                "1.5 KiB",
                "64 MiB",
                "5 GiB",
                "16383.9 PiB"
            ]
        );
    }

    #[test]
    fn memories_of_one_component_share_one_limit() {
        let limits = Limits {
            memory_bytes: 100,
            ..Limits::default()
        };
        let mut limiter = Limiter::new(&limits);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(!limiter.memory_growing(0, 60, None).unwrap());
        let refusal = Refusal::Memory {
            asked: 120,
            limit: 100,
        };
        assert_eq!(limiter.refused(), Some(&refusal));
    }

    #[test]
    fn a_growth_that_fails_is_taken_back() {
        let limits = Limits {
            memory_bytes: 100,
            ..Limits::default()
        };
        let mut limiter = Limiter::new(&limits);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        let error = wasmtime::Error::msg("the system has no memory");
        limiter.memory_grow_failed(error).unwrap();
        assert!(limiter.memory_growing(0, 100, None).unwrap());
    }
}
