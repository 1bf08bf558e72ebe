//! Elementary functions of `f32` that the compiler can turn into vector instructions:
//! no branches, no calls, no table. Only basic IEEE operations are used and none is
//! contracted, so every machine gives the same bits.
//!
//! The argument reductions and the form of the logarithm are the classical ones: Cody
//! and Waite, "Software Manual for the Elementary Functions", Prentice-Hall 1980, and
//! Sun's fdlibm for the order of the terms of `log`. The polynomials are plain Taylor
//! series, long enough for the reduced interval.

/// Adding and subtracting it rounds a number of small magnitude to an integer, which
/// then stands in the low bits: 1.5 * 2^23.
const ROUNDER: f32 = 12_582_912.0;

/// ln 2 in two parts; the first has so few bits that a product with an exponent is exact.
const LN2_HIGH: f32 = 355.0 / 512.0;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// Powers of `e`, within 1.5 units in the last place; 0 below -103.97.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let (r, n) = reduce(x);
    let p = 1.0 + r * exp_tail(r);
    // 2^n may lie outside the normal range although the result is inside: two factors.
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n - half)
}

/// Hyperbolic tangent, within 3 units in the last place.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let magnitude = x.abs();
    let magnitude = if magnitude > 10.0 { 10.0 } else { magnitude };
    // expm1(2|x|), without cancellation for small arguments.
    let (r, n) = reduce(2.0 * magnitude);
    let scale = power_of_two(n);
    let t = scale * (r * exp_tail(r)) + (scale - 1.0);
    (t / (t + 2.0)).copysign(x)
}

/// `1 / (1 + e^-x)`; 0 below -89.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Natural logarithm, within 1 unit in the last place; NaN below 0.
#[inline(always)]
pub(super) fn log(x: f32) -> f32 {
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 8_388_608.0 } else { x };
    let shift = if tiny { -23 } else { 0 };
    // The exponent that leaves a mantissa between the square roots of 1/2 and 2.
    let bits = scaled.to_bits().wrapping_sub(0x3f35_04f3);
    let exponent = bits.cast_signed() >> 23;
    let mantissa = f32::from_bits(
        scaled
            .to_bits()
            .wrapping_sub((exponent << 23).cast_unsigned()),
    );
    let f = mantissa - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let series =
        z * (2.0 / 3.0 + z * (2.0 / 5.0 + z * (2.0 / 7.0 + z * (2.0 / 9.0 + z * (2.0 / 11.0)))));
    let half_square = 0.5 * f * f;
    let k = (exponent + shift) as f32;
    let result = k * LN2_HIGH - ((half_square - (s * (half_square + series) + k * LN2_LOW)) - f);
    let result = if x == 0.0 { f32::NEG_INFINITY } else { result };
    let result = if x == f32::INFINITY { x } else { result };
    if x >= 0.0 { result } else { f32::NAN }
}

/// `x = r + n * ln 2` with `r` at most half of ln 2.
#[inline(always)]
fn reduce(x: f32) -> (f32, i32) {
    let shifted = x * std::f32::consts::LOG2_E + ROUNDER;
    let n = shifted
        .to_bits()
        .wrapping_sub(ROUNDER.to_bits())
        .cast_signed();
    let rounded = shifted - ROUNDER;
    ((x - rounded * LN2_HIGH) - rounded * LN2_LOW, n)
}

/// `(e^r - 1) / r` for small `r`.
#[inline(always)]
fn exp_tail(r: f32) -> f32 {
    1.0 + r
        * (1.0 / 2.0
            + r * (1.0 / 6.0
                + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0))))))
}

/// 2^n for n in -126..=127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127).cast_unsigned()) << 23)
}

#[cfg(test)]
mod tests {
    use super::{exp, log, sigmoid, tanh};

    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounds to the nearest single-precision number"
    )]
    /// Distance in units of the last place of the exact result.
    fn ulps(found: f32, exact: f64) -> f64 {
        let nearest = exact as f32;
        if found == nearest || (found.is_nan() && nearest.is_nan()) {
            return 0.0;
        }
        let unit = f64::from(nearest.abs().next_up()) - f64::from(nearest.abs());
        (f64::from(found) - exact).abs() / unit
    }

    #[track_caller]
    fn check(function: fn(f32) -> f32, exact: fn(f64) -> f64, range: (f32, f32), allowed: f64) {
        let mut worst = (0.0, 0.0);
        for step in 0..=200_000 {
            let x = range.0 + (range.1 - range.0) * (step as f32 / 200_000.0);
            let error = ulps(function(x), exact(f64::from(x)));
            if error > worst.0 {
                worst = (error, x);
            }
        }
        assert!(worst.0 <= allowed, "{} ulp at {}", worst.0, worst.1);
    }

    #[test]
    fn elementary_functions_are_accurate_to_a_few_units_in_the_last_place() {
        check(exp, f64::exp, (-103.0, 88.7), 1.5);
        check(exp, f64::exp, (-1.0, 1.0), 1.5);
        check(log, f64::ln, (1e-6, 4.0), 1.0);
        check(log, f64::ln, (1.0, 1e30), 1.0);
        check(tanh, f64::tanh, (-12.0, 12.0), 3.0);
        check(tanh, f64::tanh, (-1e-3, 1e-3), 3.0);
        check(sigmoid, |x| 1.0 / (1.0 + (-x).exp()), (-80.0, 80.0), 3.0);
    }

    #[test]
    fn elementary_functions_have_the_usual_limits() {
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(log(0.0), f32::NEG_INFINITY);
        assert_eq!(log(1.0), 0.0);
        assert_eq!(log(f32::INFINITY), f32::INFINITY);
        assert!(log(-1.0).is_nan() && log(f32::NAN).is_nan());
        assert!(ulps(log(1e-41), f64::from(1e-41f32).ln()) <= 1.0);
        assert_eq!(tanh(f32::INFINITY), 1.0);
        assert_eq!(tanh(f32::NEG_INFINITY), -1.0);
        assert!(tanh(f32::NAN).is_nan());
        assert_eq!(sigmoid(f32::INFINITY), 1.0);
        assert_eq!(sigmoid(f32::NEG_INFINITY), 0.0);
    }
}
