//! The one place where a run's buffers become slices.
//!
//! A run works on one table of [`Region`]s. Bounds are checked at each access; that no
//! region is written while a slice of the same elements lives is the planner's promise,
//! which `plan::verify` checks for every program before it can run.

use std::ops::Range;

/// Position of a buffer in the table of a run.
pub(crate) type ValueId = usize;

/// Where one buffer lies during a run.
#[derive(Clone, Copy)]
pub(crate) struct Region {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: a region is an address; what may be done with it is up to `Memory`'s methods.
#[expect(
    unsafe_code,
    reason = "the table of regions is shared with worker threads"
)]
unsafe impl Send for Region {}
// SAFETY: as above.
#[expect(
    unsafe_code,
    reason = "the table of regions is shared with worker threads"
)]
unsafe impl Sync for Region {}

impl Region {
    /// A region that holds nothing.
    pub(crate) const EMPTY: Self = Self {
        start: std::ptr::NonNull::<crate::tensor::Line>::dangling()
            .as_ptr()
            .cast(),
        bytes: 0,
    };

    /// A region that is read and written.
    pub(crate) fn writable(bytes: &mut [u8]) -> Self {
        Self {
            start: bytes.as_mut_ptr(),
            bytes: bytes.len(),
        }
    }

    /// A region that is only read: the plan has no step that writes an input or constant.
    pub(crate) fn readable(bytes: &[u8]) -> Self {
        Self {
            start: bytes.as_ptr().cast_mut(),
            bytes: bytes.len(),
        }
    }

    /// A part of this region.
    ///
    /// # Panics
    /// When it is not inside.
    pub(crate) fn part(self, offset: usize, bytes: usize) -> Self {
        assert!(offset <= self.bytes && bytes <= self.bytes - offset);
        Self {
            start: self.start.wrapping_add(offset),
            bytes,
        }
    }
}

/// The buffers of a run.
#[derive(Clone, Copy)]
pub(crate) struct Memory<'a> {
    regions: &'a [Region],
}

#[expect(
    unsafe_code,
    reason = "kernels work on parts of one arena at the same time"
)]
impl<'a> Memory<'a> {
    /// Wraps a table.
    ///
    /// # Safety
    /// Each region must be valid for its length while `'a` lasts, for writes too where a
    /// kernel writes to it, and be used by nobody else.
    pub(crate) unsafe fn new(regions: &'a [Region]) -> Self {
        Self { regions }
    }

    /// Bytes `range` of a buffer.
    ///
    /// # Safety
    /// Nothing may write to these bytes while the slice lives.
    #[inline(always)]
    pub(crate) unsafe fn read(self, value: ValueId, range: Range<usize>) -> &'a [u8] {
        let region = self.regions[value];
        assert!(range.start <= range.end && range.end <= region.bytes);
        // SAFETY: the range is inside the region, which `new` says is valid; the caller
        // answers for writes.
        unsafe { std::slice::from_raw_parts(region.start.add(range.start), range.len()) }
    }

    /// All bytes of a buffer.
    ///
    /// # Safety
    /// As [`Memory::read`].
    pub(crate) unsafe fn read_all(self, value: ValueId) -> &'a [u8] {
        // SAFETY: passed on to the caller.
        unsafe { self.read(value, 0..self.regions[value].bytes) }
    }

    /// Where bytes `range` of a buffer begin.
    #[inline(always)]
    pub(crate) fn start(self, value: ValueId, range: Range<usize>) -> *mut u8 {
        let region = self.regions[value];
        assert!(range.start <= range.end && range.end <= region.bytes);
        region.start.wrapping_add(range.start)
    }

    /// Bytes `range` of a buffer, to be written.
    ///
    /// # Safety
    /// No other slice of these bytes may live at the same time.
    #[inline(always)]
    pub(crate) unsafe fn write(self, value: ValueId, range: Range<usize>) -> &'a mut [u8] {
        let region = self.regions[value];
        assert!(range.start <= range.end && range.end <= region.bytes);
        // SAFETY: the range is inside the region, which `new` says is valid; the caller
        // answers for other slices.
        unsafe { std::slice::from_raw_parts_mut(region.start.add(range.start), range.len()) }
    }

    /// All bytes of a buffer, to be written.
    ///
    /// # Safety
    /// As [`Memory::write`].
    pub(crate) unsafe fn write_all(self, value: ValueId) -> &'a mut [u8] {
        // SAFETY: passed on to the caller.
        unsafe { self.write(value, 0..self.regions[value].bytes) }
    }
}
