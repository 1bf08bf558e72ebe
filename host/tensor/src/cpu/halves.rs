//! Conversions of the half types, without branches, so that loops over them become vector
//! instructions. Each rounds once, to nearest, ties to even; NaN stays NaN.

use half::{bf16, f16};

#[inline(always)]
pub(super) fn bf16_to_f32(value: bf16) -> f32 {
    f32::from_bits(u32::from(value.to_bits()) << 16)
}

#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the upper half of 32 bits has 16"
)]
pub(super) fn f32_to_bf16(value: f32) -> bf16 {
    let bits = value.to_bits();
    // Adds a little less than half of the last place, and the rest if that place is odd.
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet = (bits >> 16) | 0x40;
    let result = if value.is_nan() { quiet } else { rounded };
    bf16::from_bits(result as u16)
}

/// The exponent of a half is moved to its place in single precision; what is then below
/// the normal numbers is corrected by a subtraction, which the hardware normalises.
#[inline(always)]
pub(super) fn f16_to_f32(value: f16) -> f32 {
    const EXPONENT: u32 = 0x7c00 << 13;
    let bits = u32::from(value.to_bits());
    let shifted = (bits & 0x7fff) << 13;
    let moved = shifted + ((127 - 15) << 23);
    let infinite = moved + ((128 - 16) << 23);
    let smallest = f32::from_bits(113 << 23);
    let tiny = (f32::from_bits(moved + (1 << 23)) - smallest).to_bits();
    let magnitude = if shifted & EXPONENT == EXPONENT {
        infinite
    } else if shifted & EXPONENT == 0 {
        tiny
    } else {
        moved
    };
    f32::from_bits(magnitude | ((bits & 0x8000) << 16))
}

/// Numbers below the normal halves are rounded by the addition of a number whose last
/// place is that of the smallest half; the others by an addition to their bits.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "what remains after the shifts has 16 bits"
)]
pub(super) fn f32_to_f16(value: f32) -> f16 {
    const SMALLEST_NORMAL: u32 = 113 << 23;
    const TOO_LARGE: u32 = (127 + 16) << 23;
    let bits = value.to_bits();
    let sign = (bits >> 16) & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    // 0.5: its last place is 2^-24.
    let tiny = (f32::from_bits(magnitude) + 0.5)
        .to_bits()
        .wrapping_sub(0.5f32.to_bits());
    let normal = magnitude
        .wrapping_sub((127 - 15) << 23)
        .wrapping_add(0xfff + ((magnitude >> 13) & 1))
        >> 13;
    let result = if magnitude < SMALLEST_NORMAL {
        tiny
    } else {
        normal
    };
    let result = if magnitude >= TOO_LARGE {
        0x7c00
    } else {
        result
    };
    let result = if value.is_nan() { 0x7e00 } else { result };
    f16::from_bits((sign | result) as u16)
}

/// Rounds to single precision so that a second rounding to a half type is the only one
/// that counts: what is not exact gets an odd last bit.
///
/// Source: Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums: proved
/// algorithms using rounding to odd", IEEE Transactions on Computers 57(4), 2008.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "rounds on purpose")]
pub(super) fn f64_to_odd_f32(value: f64) -> f32 {
    let nearest = value as f32;
    let back = f64::from(nearest);
    // Infinity is left alone: every half type is infinite there too.
    if back == value || nearest.is_nan() || nearest.is_infinite() {
        return nearest;
    }
    let bits = nearest.to_bits();
    // Towards zero, by stepping back where nearest was away from it.
    let truncated = bits - u32::from(back.abs() > value.abs());
    f32::from_bits(truncated | 1)
}

/// As [`f64_to_odd_f32`], from an integer to double precision.
#[inline(always)]
pub(super) fn i64_to_odd_f64(value: i64) -> f64 {
    const LOST: u64 = (1 << 11) - 1;
    let magnitude = value.unsigned_abs();
    // The top 53 bits of a large number are exact in double precision.
    let odd = if magnitude > 1 << 53 && magnitude & LOST != 0 {
        (magnitude & !LOST) | (LOST + 1)
    } else {
        magnitude
    };
    let float = odd as f64;
    if value < 0 { -float } else { float }
}

#[cfg(test)]
mod tests {
    use super::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16, f64_to_odd_f32, i64_to_odd_f64};
    use half::{bf16, f16};

    #[test]
    fn every_half_survives_the_way_through_single_precision() {
        for bits in 0..=u16::MAX {
            let (short, brain) = (f16::from_bits(bits), bf16::from_bits(bits));
            assert_eq!(f16_to_f32(short).is_nan(), short.is_nan());
            assert_eq!(bf16_to_f32(brain).is_nan(), brain.is_nan());
            if !short.is_nan() {
                assert_eq!(f16_to_f32(short), short.to_f32_const());
                assert_eq!(f32_to_f16(f16_to_f32(short)).to_bits(), bits);
            }
            if !brain.is_nan() {
                assert_eq!(f32_to_bf16(bf16_to_f32(brain)).to_bits(), bits);
            }
        }
    }

    #[test]
    fn single_precision_rounds_to_the_nearest_half() {
        let mut bits: u32 = 1;
        for _ in 0..200_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            for bits in [bits, bits & 0xffff_f000, bits & 0xffff_8000] {
                let value = f32::from_bits(bits);
                let (short, brain) = (f32_to_f16(value), f32_to_bf16(value));
                assert_eq!(short.is_nan(), value.is_nan());
                assert_eq!(brain.is_nan(), value.is_nan());
                if !value.is_nan() {
                    assert_eq!(short, f16::from_f32_const(value), "{value}");
                    assert_eq!(brain, bf16::from_f32_const(value), "{value}");
                }
            }
        }
        assert_eq!(f32_to_f16(65_519.0), f16::MAX);
        assert!(f32_to_f16(65_520.0).is_infinite());
        assert!(f32_to_bf16(f32::MAX).is_infinite());
        assert_eq!(f32_to_f16(-0.0).to_bits(), 0x8000);
    }

    #[test]
    fn wider_numbers_are_rounded_once() {
        // Just above the middle between 1 and the next half: single precision rounds it
        // to the middle, from which the even neighbour would be the lower one.
        let above = 1.0 + 2f64.powi(-11) + 2f64.powi(-40);
        assert_eq!(
            f32_to_f16(f64_to_odd_f32(above)).to_f32_const(),
            1.0 + 2f32.powi(-10)
        );
        let below = 1.0 + 2f64.powi(-11) - 2f64.powi(-40);
        assert_eq!(f32_to_f16(f64_to_odd_f32(below)).to_f32_const(), 1.0);
        assert_eq!(f64_to_odd_f32(1e300), f32::INFINITY);
        assert_eq!(f64_to_odd_f32(-1.5), -1.5);
        assert!(f64_to_odd_f32(1e-300) > 0.0);
        let large = (1 << 60) + (1 << 52) + 1;
        let brain = f32_to_bf16(f64_to_odd_f32(i64_to_odd_f64(large)));
        assert_eq!(brain.to_f64(), 2f64.powi(60) * (1.0 + 2f64.powi(-7)));
        assert_eq!(i64_to_odd_f64(i64::MIN), -(2f64.powi(63)));
    }
}
