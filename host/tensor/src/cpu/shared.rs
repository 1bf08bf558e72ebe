use std::marker::PhantomData;

use super::vector::fetch_line;

/// A result that several threads write to, each to other elements.
pub(super) struct Shared<'a, T> {
    start: *mut T,
    length: usize,
    _result: PhantomData<&'a mut [T]>,
}

// SAFETY: only `Shared::part` gives access, whose callers write to different elements.
#[expect(unsafe_code, reason = "pieces write to different parts of one result")]
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(super) fn new(result: &'a mut [T]) -> Self {
        Self {
            start: result.as_mut_ptr(),
            length: result.len(),
            _result: PhantomData,
        }
    }

    /// Has the processor bring an element near that will be written; nothing happens behind
    /// the end.
    #[inline(always)]
    pub(super) fn fetch(&self, place: usize) {
        fetch_line(self.start.wrapping_add(place));
    }

    /// `count` elements from `first` on.
    ///
    /// # Safety
    /// No other slice of these elements may live at the same time.
    ///
    /// # Panics
    /// When they are not inside.
    #[expect(unsafe_code, reason = "pieces write to different parts of one result")]
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the caller answers for it")]
    pub(super) unsafe fn part(&self, first: usize, count: usize) -> &mut [T] {
        assert!(first <= self.length && count <= self.length - first);
        // SAFETY: inside, as just checked; the caller answers for other slices.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), count) }
    }
}
