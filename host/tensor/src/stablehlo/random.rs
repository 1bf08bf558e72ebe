//! Random bits: Philox4x32-10 in integer arithmetic, the same bits as on the processors.
//!
//! Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
//! SC 2011, section 3.3.

use super::text::{Element, Text, Val};

/// Words of a block.
const WORDS: usize = 4;

const ROUNDS: usize = 10;
const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const KEY_STEPS: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

impl Text {
    pub(super) fn random_bits(&mut self, key: &Val, stream: u32, shape: &[usize]) -> Val {
        let count: usize = shape.iter().product();
        let blocks = [count.div_ceil(WORDS)];
        let block = self.iota(Element::U64, &blocks, 0);
        let low = self.integer(Element::U64, &blocks, i64::from(u32::MAX));
        let low = self.map("and", &[&block, &low]);
        let low = self.convert(&low, Element::U32);
        let high = self.high_word(&block);
        let stream = self.integer(Element::U32, &blocks, i64::from(stream));
        let zero = self.integer(Element::U32, &blocks, 0);
        let words = self.philox([low, high, stream, zero], key);
        let words = words.map(|word| self.reshape(&word, &[blocks[0], 1]));
        let words = self.concatenate(&words, 1);
        let words = self.reshape(&words, &[blocks[0] * WORDS]);
        let words = self.slice_axis(&words, 0, 0, count);
        self.reshape(&words, shape)
    }

    /// A new key from a key and a number.
    pub(super) fn random_fold(&mut self, key: &Val, number: &Val) -> Val {
        let number = self.reshape(number, &[1]);
        let zero = self.integer(Element::U32, &[1], 0);
        let one = self.integer(Element::U32, &[1], 1);
        let [first, second, ..] = self.philox([number, zero.clone(), zero, one], key);
        self.concatenate(&[first, second], 0)
    }

    /// The blocks of some counters, word by word.
    fn philox(&mut self, mut counter: [Val; WORDS], key: &Val) -> [Val; WORDS] {
        let shape = counter[0].shape.clone();
        let mut key = [0, 1].map(|word| {
            let word = self.slice_axis(key, 0, word, word + 1);
            self.reshape(&word, &[])
        });
        let steps = KEY_STEPS.map(|step| self.integer(Element::U32, &[], i64::from(step)));
        for round in 0..ROUNDS {
            if round > 0 {
                key = [0, 1].map(|word: usize| self.map("add", &[&key[word], &steps[word]]));
            }
            let [(high_0, low_0), (high_1, low_1)] =
                [0, 1].map(|half: usize| self.product_words(&counter[2 * half], MULTIPLIERS[half]));
            let [key_0, key_1] = [0, 1].map(|word: usize| self.broadcast(&key[word], &shape, &[]));
            let first = self.map("xor", &[&high_1, &counter[1]]);
            let third = self.map("xor", &[&high_0, &counter[3]]);
            counter = [
                self.map("xor", &[&first, &key_0]),
                low_1,
                self.map("xor", &[&third, &key_1]),
                low_0,
            ];
        }
        counter
    }

    /// The high and the low word of a product.
    fn product_words(&mut self, x: &Val, factor: u32) -> (Val, Val) {
        let wide = self.convert(x, Element::U64);
        let [wide_factor, factor] = [Element::U64, Element::U32]
            .map(|element| self.integer(element, &x.shape, i64::from(factor)));
        let product = self.map("multiply", &[&wide, &wide_factor]);
        (
            self.high_word(&product),
            self.map("multiply", &[x, &factor]),
        )
    }

    /// The upper half of numbers of 64 bits.
    fn high_word(&mut self, x: &Val) -> Val {
        let half = self.integer(Element::U64, &x.shape, 32);
        let high = self.map("shift_right_logical", &[x, &half]);
        self.convert(&high, Element::U32)
    }
}
