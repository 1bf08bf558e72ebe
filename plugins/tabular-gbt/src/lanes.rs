//! Vectors of 128 bits: SIMD128 in the guest, arrays elsewhere.
//!
//! Both do the same operations in the same order, so that both give the same bits; what is
//! written over arrays, compilers for other targets turn into their own vector instructions.

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
use arrays as vectors;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
use simd128 as vectors;

pub(crate) use vectors::{F32x4, F64x2, U8x16};

/// The operations by SIMD128.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128 {
    use core::arch::wasm32::{
        f32x4_add, f32x4_div, f32x4_extract_lane, f32x4_mul, f32x4_pmax, f32x4_pmin, f32x4_splat,
        f32x4_sub, f64x2, f64x2_add, f64x2_div, f64x2_extract_lane, f64x2_mul, f64x2_splat,
        f64x2_sub, i32x4_add, i32x4_shl, i32x4_splat, i64x2_shuffle, u8x16_eq, u8x16_le,
        u8x16_splat, v128, v128_bitselect, v128_load, v128_store,
    };
    use std::ops::{Add, Div, Mul, Sub};

    /// Two numbers.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct F64x2(v128);

    /// Four numbers.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct F32x4(v128);

    impl F64x2 {
        /// Of these two.
        #[inline(always)]
        pub(crate) fn new(first: f64, second: f64) -> Self {
            Self(f64x2(first, second))
        }

        /// Twice the same.
        #[inline(always)]
        pub(crate) fn splat(number: f64) -> Self {
            Self(f64x2_splat(number))
        }

        /// Both.
        #[inline(always)]
        pub(crate) fn to_array(self) -> [f64; 2] {
            [
                f64x2_extract_lane::<0>(self.0),
                f64x2_extract_lane::<1>(self.0),
            ]
        }

        /// The first of both vectors, and the second of both.
        #[inline(always)]
        pub(crate) fn transposed(self, other: Self) -> (Self, Self) {
            (
                Self(i64x2_shuffle::<0, 2>(self.0, other.0)),
                Self(i64x2_shuffle::<1, 3>(self.0, other.0)),
            )
        }
    }

    impl F32x4 {
        /// Of these four.
        #[inline(always)]
        pub(crate) fn from_array(numbers: &[f32; 4]) -> Self {
            // SAFETY: the array has the 16 bytes that are read, wherever it begins.
            Self(unsafe { v128_load(numbers.as_ptr().cast()) })
        }

        /// Four times the same.
        #[inline(always)]
        pub(crate) fn splat(number: f32) -> Self {
            Self(f32x4_splat(number))
        }

        /// All four.
        #[inline(always)]
        pub(crate) fn to_array(self) -> [f32; 4] {
            [
                f32x4_extract_lane::<0>(self.0),
                f32x4_extract_lane::<1>(self.0),
                f32x4_extract_lane::<2>(self.0),
                f32x4_extract_lane::<3>(self.0),
            ]
        }

        /// The greater of each two; `self` where they cannot be compared.
        #[inline(always)]
        pub(crate) fn max(self, other: Self) -> Self {
            Self(f32x4_pmax(self.0, other.0))
        }

        /// The smaller of each two; `self` where they cannot be compared.
        #[inline(always)]
        pub(crate) fn min(self, other: Self) -> Self {
            Self(f32x4_pmin(self.0, other.0))
        }

        /// Its bits as integers plus `addend`, moved up by 23: what makes a power of 2 of a
        /// whole number in the lowest bits.
        #[inline(always)]
        pub(crate) fn to_exponent(self, addend: i32) -> Self {
            Self(i32x4_shl(i32x4_add(self.0, i32x4_splat(addend)), 23))
        }
    }

    /// Sixteen bytes, or flags: 255 for true and 0 for false.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct U8x16(v128);

    impl U8x16 {
        /// Of these sixteen.
        #[inline(always)]
        pub(crate) fn from_array(bytes: &[u8; 16]) -> Self {
            // SAFETY: the array has the 16 bytes that are read, wherever it begins.
            Self(unsafe { v128_load(bytes.as_ptr().cast()) })
        }

        /// Sixteen times the same.
        #[inline(always)]
        pub(crate) fn splat(byte: u8) -> Self {
            Self(u8x16_splat(byte))
        }

        /// All sixteen.
        #[inline(always)]
        pub(crate) fn to_array(self) -> [u8; 16] {
            let mut bytes = [0; 16];
            // SAFETY: the array has the 16 bytes that are written, wherever it begins.
            unsafe { v128_store(bytes.as_mut_ptr().cast(), self.0) };
            bytes
        }

        /// Whether each byte is that of `other`.
        #[inline(always)]
        pub(crate) fn equal(self, other: Self) -> Self {
            Self(u8x16_eq(self.0, other.0))
        }

        /// Whether each byte is at most that of `other`.
        #[inline(always)]
        pub(crate) fn at_most(self, other: Self) -> Self {
            Self(u8x16_le(self.0, other.0))
        }

        /// The bytes of `chosen` where these flags are true, elsewhere those of `other`.
        #[inline(always)]
        pub(crate) fn select(self, chosen: Self, other: Self) -> Self {
            Self(v128_bitselect(chosen.0, other.0, self.0))
        }
    }

    macro_rules! operators {
        ($type:ident, $($operator:ident $function:ident $instruction:ident),*) => {$(
            impl $operator for $type {
                type Output = Self;

                #[inline(always)]
                fn $function(self, other: Self) -> Self {
                    Self($instruction(self.0, other.0))
                }
            }
        )*};
    }

    operators!(F64x2, Add add f64x2_add, Sub sub f64x2_sub, Mul mul f64x2_mul, Div div f64x2_div);
    operators!(F32x4, Add add f32x4_add, Sub sub f32x4_sub, Mul mul f32x4_mul, Div div f32x4_div);
}

/// The operations by arrays.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod arrays {
    use std::ops::{Add, Div, Mul, Sub};

    /// Two numbers.
    #[derive(Debug, Clone, Copy)]
    #[repr(align(16))]
    pub(crate) struct F64x2([f64; 2]);

    /// Four numbers.
    #[derive(Debug, Clone, Copy)]
    #[repr(align(16))]
    pub(crate) struct F32x4([f32; 4]);

    impl F64x2 {
        /// Of these two.
        #[inline(always)]
        pub(crate) fn new(first: f64, second: f64) -> Self {
            Self([first, second])
        }

        /// Twice the same.
        #[inline(always)]
        pub(crate) fn splat(number: f64) -> Self {
            Self([number; 2])
        }

        /// Both.
        #[inline(always)]
        pub(crate) fn to_array(self) -> [f64; 2] {
            self.0
        }

        /// The first of both vectors, and the second of both.
        #[inline(always)]
        pub(crate) fn transposed(self, other: Self) -> (Self, Self) {
            let ([a, b], [c, d]) = (self.0, other.0);
            (Self([a, c]), Self([b, d]))
        }
    }

    impl F32x4 {
        /// Of these four.
        #[inline(always)]
        pub(crate) fn from_array(numbers: &[f32; 4]) -> Self {
            Self(*numbers)
        }

        /// Four times the same.
        #[inline(always)]
        pub(crate) fn splat(number: f32) -> Self {
            Self([number; 4])
        }

        /// All four.
        #[inline(always)]
        pub(crate) fn to_array(self) -> [f32; 4] {
            self.0
        }

        /// The greater of each two; `self` where they cannot be compared.
        #[inline(always)]
        pub(crate) fn max(self, other: Self) -> Self {
            self.with(other, |a, b| if a < b { b } else { a })
        }

        /// The smaller of each two; `self` where they cannot be compared.
        #[inline(always)]
        pub(crate) fn min(self, other: Self) -> Self {
            self.with(other, |a, b| if b < a { b } else { a })
        }

        /// Its bits as integers plus `addend`, moved up by 23: what makes a power of 2 of a
        /// whole number in the lowest bits.
        #[inline(always)]
        pub(crate) fn to_exponent(self, addend: i32) -> Self {
            Self(self.0.map(|number| {
                let bits = number.to_bits().wrapping_add_signed(addend);
                f32::from_bits(bits << 23)
            }))
        }

        #[inline(always)]
        fn with(self, other: Self, combine: impl Fn(f32, f32) -> f32) -> Self {
            let mut numbers = self.0;
            for (number, other) in numbers.iter_mut().zip(other.0) {
                *number = combine(*number, other);
            }
            Self(numbers)
        }
    }

    /// Sixteen bytes, or flags: 255 for true and 0 for false.
    #[derive(Debug, Clone, Copy)]
    #[repr(align(16))]
    pub(crate) struct U8x16([u8; 16]);

    impl U8x16 {
        /// Of these sixteen.
        #[inline(always)]
        pub(crate) fn from_array(bytes: &[u8; 16]) -> Self {
            Self(*bytes)
        }

        /// Sixteen times the same.
        #[inline(always)]
        pub(crate) fn splat(byte: u8) -> Self {
            Self([byte; 16])
        }

        /// All sixteen.
        #[inline(always)]
        pub(crate) fn to_array(self) -> [u8; 16] {
            self.0
        }

        /// Whether each byte is that of `other`.
        #[inline(always)]
        pub(crate) fn equal(self, other: Self) -> Self {
            self.compared(other, |a, b| a == b)
        }

        /// Whether each byte is at most that of `other`.
        #[inline(always)]
        pub(crate) fn at_most(self, other: Self) -> Self {
            self.compared(other, |a, b| a <= b)
        }

        /// The bytes of `chosen` where these flags are true, elsewhere those of `other`.
        #[inline(always)]
        pub(crate) fn select(self, chosen: Self, other: Self) -> Self {
            let mut bytes = other.0;
            for ((byte, chosen), flag) in bytes.iter_mut().zip(chosen.0).zip(self.0) {
                *byte = (chosen & flag) | (*byte & !flag);
            }
            Self(bytes)
        }

        #[inline(always)]
        fn compared(self, other: Self, compare: impl Fn(u8, u8) -> bool) -> Self {
            let mut flags = self.0;
            for (flag, other) in flags.iter_mut().zip(other.0) {
                *flag = if compare(*flag, other) { 255 } else { 0 };
            }
            Self(flags)
        }
    }

    macro_rules! operators {
        ($type:ident, $($operator:ident $function:ident $symbol:tt),*) => {$(
            impl $operator for $type {
                type Output = Self;

                #[inline(always)]
                fn $function(self, other: Self) -> Self {
                    let mut numbers = self.0;
                    for (number, other) in numbers.iter_mut().zip(other.0) {
                        *number $symbol other;
                    }
                    Self(numbers)
                }
            }
        )*};
    }

    operators!(F64x2, Add add +=, Sub sub -=, Mul mul *=, Div div /=);
    operators!(F32x4, Add add +=, Sub sub -=, Mul mul *=, Div div /=);
}

impl F32x4 {
    /// The exponential function, within 3 units in the last place; arguments beyond -87 and
    /// 88 count as these, so that the result is neither 0 nor infinite.
    ///
    /// `exp(x) = 2^n exp(r)` with `n` the whole number nearest to `x / ln 2`, and `exp(r)` by
    /// its Taylor polynomial of degree 7.
    ///
    /// Source: W. J. Cody, W. Waite, "Software manual for the elementary functions", 1980,
    /// chapter 6, for the reduction with ln 2 in two parts.
    #[inline(always)]
    pub(crate) fn exp(self) -> Self {
        // Added to a number below 2^22, it leaves the nearest whole number in the lowest
        // bits.
        const ROUND: f32 = 12_582_912.0;
        const LN_2_HIGH: f32 = 0.693_359_4;
        const LN_2_LOW: f32 = -2.121_944_4e-4;
        let x = self.max(Self::splat(-87.0)).min(Self::splat(88.0));
        let rounded = x * Self::splat(std::f32::consts::LOG2_E) + Self::splat(ROUND);
        let n = rounded - Self::splat(ROUND);
        let r = x - n * Self::splat(LN_2_HIGH) - n * Self::splat(LN_2_LOW);
        let mut sum = Self::splat(1.0 / 5040.0);
        for factor in [
            1.0 / 720.0,
            1.0 / 120.0,
            1.0 / 24.0,
            1.0 / 6.0,
            0.5,
            1.0,
            1.0,
        ] {
            sum = sum * r + Self::splat(factor);
        }
        // 127 is the exponent of 1, and the rounded number has the bits of `ROUND` plus n.
        sum * rounded.to_exponent(127)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_function_is_near_the_true_one() {
        let mut worst: f64 = 0.0;
        for step in -8_700..8_800i16 {
            let x = f32::from(step) / 100.0 + 0.003;
            let [found, ..] = F32x4::splat(x).exp().to_array();
            let expected = f64::from(x).exp();
            worst = worst.max((f64::from(found) / expected - 1.0).abs());
        }
        assert!(worst < 3.0 * f64::from(f32::EPSILON), "{worst}");
    }

    #[test]
    fn numbers_out_of_range_do_not_become_0_or_infinite() {
        for x in [f32::NEG_INFINITY, -1e9, 1e9, f32::INFINITY] {
            let [found, ..] = F32x4::splat(x).exp().to_array();
            assert!(found > 0.0 && found.is_finite(), "{x} {found}");
        }
    }

    #[test]
    fn bytes_are_compared_and_chosen_one_by_one() {
        let bytes = std::array::from_fn(|place| u8::try_from(place).unwrap());
        let few = U8x16::from_array(&bytes).at_most(U8x16::splat(3));
        let second = U8x16::from_array(&bytes).equal(U8x16::splat(1));
        let chosen = few.select(
            second.select(U8x16::splat(200), U8x16::splat(100)),
            U8x16::splat(7),
        );
        let expected = [&[100, 200, 100, 100][..], &[7; 12]].concat();
        assert_eq!(chosen.to_array().to_vec(), expected);
    }

    #[test]
    fn transposing_pairs_what_belongs_together() {
        let (first, second) = F64x2::new(1.0, 2.0).transposed(F64x2::new(3.0, 4.0));
        assert_eq!(
            (first.to_array(), second.to_array()),
            ([1.0, 3.0], [2.0, 4.0])
        );
    }
}
