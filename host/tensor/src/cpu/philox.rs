//! Philox4x32-10, a generator whose numbers follow from a key and a counter alone.
//!
//! Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
//! SC 2011, section 3.3.

/// Blocks that are computed together, so that the loops become vectors.
const LANES: usize = 16;

/// Words of a block.
const WORDS: usize = 4;

const ROUNDS: usize = 10;
const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const KEY_STEPS: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

/// The block of one counter.
pub(super) fn block(counter: [u32; WORDS], key: [u32; 2]) -> [u32; WORDS] {
    let blocks = blocks(counter.map(|word| [word]), key);
    blocks.map(|[word]| word)
}

/// A new key from a key and a number.
pub(super) fn fold(key: &[u8], number: &[u8], out: &mut [u8]) {
    let key: &[u32] = bytemuck::cast_slice(key);
    let number: &[u32] = bytemuck::cast_slice(number);
    let words = block([number[0], 0, 0, 1], [key[0], key[1]]);
    bytemuck::cast_slice_mut(out).copy_from_slice(&words[..2]);
}

/// Words of the stream from `start`, which is a multiple of [`WORDS`].
#[inline(always)]
pub(super) fn words(key: [u32; 2], stream: u32, start: usize, out: &mut [u32]) {
    let mut first = (start / WORDS) as u64;
    for out in out.chunks_mut(LANES * WORDS) {
        let mut counter = [[0; LANES], [0; LANES], [stream; LANES], [0; LANES]];
        let [low, high, ..] = &mut counter;
        for ((low, high), block) in low.iter_mut().zip(high).zip(first..) {
            [*low, *high] = split(block);
        }
        let found = blocks(counter, key);
        let mut words = [[0; WORDS]; LANES];
        for (lane, words) in words.iter_mut().enumerate() {
            *words = [0, 1, 2, 3].map(|word: usize| found[word][lane]);
        }
        out.copy_from_slice(&words.as_flattened()[..out.len()]);
        first += LANES as u64;
    }
}

/// The blocks of some counters, word by word.
#[inline(always)]
fn blocks<const N: usize>(mut counter: [[u32; N]; WORDS], mut key: [u32; 2]) -> [[u32; N]; WORDS] {
    for _ in 0..ROUNDS {
        let mut next = counter;
        for lane in 0..N {
            let (high_0, low_0) = product(MULTIPLIERS[0], counter[0][lane]);
            let (high_1, low_1) = product(MULTIPLIERS[1], counter[2][lane]);
            next[0][lane] = high_1 ^ counter[1][lane] ^ key[0];
            next[1][lane] = low_1;
            next[2][lane] = high_0 ^ counter[3][lane] ^ key[1];
            next[3][lane] = low_0;
        }
        counter = next;
        key[0] = key[0].wrapping_add(KEY_STEPS[0]);
        key[1] = key[1].wrapping_add(KEY_STEPS[1]);
    }
    counter
}

/// The high and the low word of a product.
#[inline(always)]
fn product(a: u32, b: u32) -> (u32, u32) {
    let [low, high] = split(u64::from(a) * u64::from(b));
    (high, low)
}

/// The low and the high word.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low word")]
fn split(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::{block, split, words};

    /// The known answers that come with the paper's own library, Random123.
    #[test]
    fn blocks_are_those_of_the_paper() {
        assert_eq!(
            block([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            block([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            block(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn a_stream_is_its_blocks_one_after_another() {
        let key = [7, 8];
        let start = (u32::MAX as usize - 4) * 4;
        let mut found = [0; 70];
        words(key, 9, start, &mut found);
        for (place, &word) in found.iter().enumerate() {
            let number = ((start + place) / 4) as u64;
            let [low, high] = split(number);
            assert_eq!(word, block([low, high, 9, 0], key)[place % 4]);
        }
    }
}
