//! One block of memory for all intermediate values.

use std::collections::{BTreeMap, BTreeSet};

use crate::tensor::Line;

/// Hands out parts of a block that grows as needed; how far it grew is its exact size.
///
/// Takes the smallest free part that is large enough, the first of equals.
#[derive(Debug, Default)]
pub(super) struct Arena {
    size: usize,
    /// Free parts: offset and length, never next to each other.
    by_offset: BTreeMap<usize, usize>,
    /// The same, as length and offset.
    by_length: BTreeSet<(usize, usize)>,
}

impl Arena {
    /// The offset of a free part of that many bytes, on a cache line's boundary.
    pub(super) fn take(&mut self, bytes: usize) -> usize {
        let length = rounded(bytes);
        if length == 0 {
            return 0;
        }
        let smallest = self.by_length.range((length, 0)..).next().copied();
        let Some((free, offset)) = smallest else {
            return self.grow(length);
        };
        self.remove(offset, free);
        if free > length {
            self.insert(offset + length, free - length);
        }
        offset
    }

    /// Gives a part back.
    pub(super) fn give(&mut self, offset: usize, bytes: usize) {
        let mut length = rounded(bytes);
        if length == 0 {
            return;
        }
        let mut offset = offset;
        if let Some((&before, &free)) = self.by_offset.range(..offset).next_back()
            && before + free == offset
        {
            self.remove(before, free);
            offset = before;
            length += free;
        }
        if let Some(&free) = self.by_offset.get(&(offset + length)) {
            self.remove(offset + length, free);
            length += free;
        }
        self.insert(offset, length);
    }

    /// The most bytes that were in use, with the gaps between them.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Takes a part at the end, using what is free there.
    fn grow(&mut self, length: usize) -> usize {
        let last = self.by_offset.last_key_value();
        let offset = match last.map(|(&offset, &free)| (offset, free)) {
            Some((offset, free)) if offset + free == self.size => {
                self.remove(offset, free);
                offset
            }
            _ => self.size,
        };
        self.size = offset + length;
        offset
    }

    fn insert(&mut self, offset: usize, length: usize) {
        self.by_offset.insert(offset, length);
        self.by_length.insert((length, offset));
    }

    fn remove(&mut self, offset: usize, length: usize) {
        self.by_offset.remove(&offset);
        self.by_length.remove(&(length, offset));
    }
}

fn rounded(bytes: usize) -> usize {
    bytes.next_multiple_of(Line::BYTES)
}

#[cfg(test)]
mod tests {
    use super::Arena;

    #[test]
    fn freed_neighbours_are_one_part_again() {
        let mut arena = Arena::default();
        let [a, b, c] = [0; 3].map(|_| arena.take(64));
        arena.give(a, 64);
        arena.give(c, 64);
        arena.give(b, 64);
        assert_eq!(arena.take(192), 0);
        assert_eq!(arena.size(), 192);
    }

    #[test]
    fn the_smallest_part_that_fits_is_taken() {
        let mut arena = Arena::default();
        let parts = [256, 64, 128, 64].map(|bytes| (arena.take(bytes), bytes));
        arena.give(parts[0].0, parts[0].1);
        arena.give(parts[2].0, parts[2].1);
        assert_eq!(arena.take(100), parts[2].0);
        assert_eq!(arena.take(300), 512);
    }

    #[test]
    fn growing_uses_what_is_free_at_the_end() {
        let mut arena = Arena::default();
        let first = arena.take(64);
        arena.give(first, 64);
        assert_eq!((arena.take(256), arena.size()), (0, 256));
    }

    #[test]
    fn an_empty_value_takes_nothing() {
        let mut arena = Arena::default();
        let offset = arena.take(0);
        arena.give(offset, 0);
        assert_eq!(arena.size(), 0);
    }
}
