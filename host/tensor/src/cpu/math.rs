//! Elementary functions of `f32` that the compiler can turn into vector instructions:
//! no branches, no calls, no table. Only basic IEEE operations are used and none is
//! contracted, so every machine gives the same bits.
//!
//! The argument reductions and the form of the logarithm are the classical ones: Cody
//! and Waite, "Software Manual for the Elementary Functions", Prentice-Hall 1980, and
//! Sun's fdlibm for the order of the terms of `log`. The polynomials are plain Taylor
//! series, long enough for the reduced interval, but for those of `erf`, which are our own
//! minimax fits. Where single precision would need tricks, double precision is used.

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

/// `e^x - 1`, within 3 units in the last place, also for small arguments.
#[inline(always)]
pub(super) fn expm1(x: f32) -> f32 {
    let clamped = if x > 89.0 { 89.0 } else { x };
    let clamped = if clamped < -20.0 { -20.0 } else { clamped };
    let (r, n) = reduce(clamped);
    // Half of the result, since 2^n itself may be too large.
    let scale = power_of_two(n - 1);
    let result = 2.0 * (scale * (r * exp_tail(r)) + (scale - 0.5));
    // Keeps the sign of zero, and numbers below the normal ones.
    if x.abs() < 1e-8 { x } else { result }
}

/// `log(1 + x)`, within 2 units in the last place, also for small arguments.
#[inline(always)]
pub(super) fn log1p(x: f32) -> f32 {
    let sum = 1.0 + x;
    // What the sum has lost, exactly; its share of the logarithm is lost / sum.
    let lost = if x > 1.0 {
        1.0 - (sum - x)
    } else {
        x - (sum - 1.0)
    };
    let result = log(sum) + lost / sum;
    let result = if x == -1.0 { f32::NEG_INFINITY } else { result };
    if x == 0.0 || x == f32::INFINITY {
        x
    } else {
        result
    }
}

/// Below this magnitude, [`sin`] and [`cos`] are accurate.
pub(super) const FAR: f32 = 1_048_576.0;

/// Sine, within 1 unit in the last place for arguments below [`FAR`].
#[inline(always)]
pub(super) fn sin(x: f32) -> f32 {
    let (r, quadrant) = quarter_turns(x);
    let result = trigonometric(r, quadrant);
    if x == 0.0 { x } else { result }
}

/// Cosine, within 1 unit in the last place for arguments below [`FAR`].
#[inline(always)]
pub(super) fn cos(x: f32) -> f32 {
    let (r, quadrant) = quarter_turns(x);
    trigonometric(r, quadrant.wrapping_add(1))
}

/// `x = r + n * pi/2` with `r` at most pi/4. The first part of pi/2 has 33 bits, so that
/// its product with `n` is exact below [`FAR`].
#[inline(always)]
fn quarter_turns(x: f32) -> (f64, u64) {
    const ROUNDER: f64 = 6_755_399_441_055_744.0;
    const HIGH: f64 = f64::from_bits(0x3ff9_21fb_5440_0000);
    const LOW: f64 = 6.077_100_506_506_192e-11;
    let x = f64::from(x);
    let shifted = x * std::f64::consts::FRAC_2_PI + ROUNDER;
    let turns = shifted - ROUNDER;
    ((x - turns * HIGH) - turns * LOW, shifted.to_bits())
}

/// Sine of `r` plus so many quarter turns.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "rounds the result")]
fn trigonometric(r: f64, quadrant: u64) -> f32 {
    let z = r * r;
    let sine = r
        * (1.0
            + z * (-1.0 / 6.0
                + z * (1.0 / 120.0
                    + z * (-1.0 / 5_040.0 + z * (1.0 / 362_880.0 + z * (-1.0 / 39_916_800.0))))));
    let cosine = 1.0
        + z * (-1.0 / 2.0
            + z * (1.0 / 24.0
                + z * (-1.0 / 720.0
                    + z * (1.0 / 40_320.0
                        + z * (-1.0 / 3_628_800.0 + z * (1.0 / 479_001_600.0))))));
    let chosen = if quadrant & 1 == 0 { sine } else { cosine };
    f64::from_bits(chosen.to_bits() ^ ((quadrant & 2) << 62)) as f32
}

/// The error function, within 3 units in the last place.
///
/// Up to 0.92 it is `x` times a polynomial of its square, beyond `1 - e^-p` with a
/// polynomial `p` that fits `-log(erfc(x))`; at 4 the result is 1.
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let magnitude = x.abs();
    let z = magnitude * magnitude;
    let near = x
        * (std::f32::consts::FRAC_2_SQRT_PI
            + z * (-0.376_126_35
                + z * (0.112_836_97
                    + z * (-0.026_859_5
                        + z * (5.201_286e-3 + z * (-8.145_597_5e-4 + z * 8.382_391e-5))))));
    let t = if magnitude > 4.0 { 4.0 } else { magnitude };
    let p = -1.692_039_3e-4
        + t * (1.129_488_4
            + t * (0.633_400_86
                + t * (0.108_220_37
                    + t * (-0.025_080_606
                        + t * (4.156_250_5e-3 + t * (-4.313_926e-4 + t * 2.082_852_8e-5))))));
    let far = (1.0 - exp(-p)).copysign(x);
    if magnitude < 0.92 { near } else { far }
}

/// The angle of the point `(x, y)`, within 1 unit in the last place.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "rounds the result")]
pub(super) fn atan2(y: f32, x: f32) -> f32 {
    use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};
    const TAN_PI_8: f64 = 0.414_213_562_373_095_05;
    let (a, b) = (f64::from(x.abs()), f64::from(y.abs()));
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    let ratio = low / high;
    let ratio = if high == 0.0 { 0.0 } else { ratio };
    let ratio = if low == f64::INFINITY { 1.0 } else { ratio };
    // atan(t) = pi/4 + atan((t - 1) / (t + 1))
    let is_wide = ratio > TAN_PI_8;
    let t = if is_wide {
        (ratio - 1.0) / (ratio + 1.0)
    } else {
        ratio
    };
    let offset = if is_wide { FRAC_PI_4 } else { 0.0 };
    let z = t * t;
    let mut series = 0.0;
    for place in (0..12).rev() {
        let sign = if place % 2 == 0 { 1.0 } else { -1.0 };
        series = sign / f64::from(2 * place + 1) + z * series;
    }
    let angle = offset + t * series;
    let angle = if a < b { FRAC_PI_2 - angle } else { angle };
    let angle = if x.is_sign_negative() {
        PI - angle
    } else {
        angle
    };
    let angle = if x.is_nan() || y.is_nan() {
        f64::NAN
    } else {
        angle
    };
    (angle as f32).copysign(y)
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
    use super::{atan2, cos, erf, exp, expm1, log, log1p, sigmoid, sin, tanh};

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
        check(expm1, f64::exp_m1, (-18.0, 88.7), 3.0);
        check(expm1, f64::exp_m1, (-1.0, 1.0), 3.0);
        check(log1p, f64::ln_1p, (-0.999, 3.0), 2.0);
        check(log1p, f64::ln_1p, (-1e-4, 1e-4), 2.0);
        check(log1p, f64::ln_1p, (1.0, 1e12), 2.0);
        for range in [(-1.0, 1.0), (-50.0, 50.0), (1e5, 1_048_575.0)] {
            check(sin, f64::sin, range, 0.51);
            check(cos, f64::cos, range, 0.51);
        }
        check(erf, libm::erf, (-4.5, 4.5), 3.0);
        check(erf, libm::erf, (-0.01, 0.01), 3.0);
        check(|x| atan2(x, 1.0), f64::atan, (-20.0, 20.0), 0.51);
        check(|x| atan2(x, -0.5), |x| x.atan2(-0.5), (-2.0, 2.0), 0.51);
    }

    #[test]
    fn angles_have_the_right_quadrant() {
        let values = [0.0, -0.0, 1.0, -1.0, 3.0, f32::INFINITY, f32::NEG_INFINITY];
        for y in values {
            for x in values {
                assert_eq!(atan2(y, x).to_bits(), y.atan2(x).to_bits(), "{y} {x}");
            }
            assert!(atan2(y, f32::NAN).is_nan() && atan2(f32::NAN, y).is_nan());
        }
        assert_eq!(atan2(1e-45, 1e-45), std::f32::consts::FRAC_PI_4);
        assert_eq!(atan2(f32::MAX, 1e-45), std::f32::consts::FRAC_PI_2);
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
        assert_eq!(expm1(f32::INFINITY), f32::INFINITY);
        assert_eq!(expm1(f32::NEG_INFINITY), -1.0);
        assert!(expm1(-0.0).is_sign_negative() && expm1(f32::NAN).is_nan());
        assert_eq!(expm1(1e-41), 1e-41);
        assert_eq!(log1p(f32::INFINITY), f32::INFINITY);
        assert_eq!(log1p(-1.0), f32::NEG_INFINITY);
        assert!(log1p(-1.5).is_nan() && log1p(f32::NAN).is_nan());
        assert!(log1p(-0.0).is_sign_negative());
        assert_eq!(log1p(1e-41), 1e-41);
        assert!(sin(-0.0).is_sign_negative() && sin(f32::NAN).is_nan());
        assert_eq!((sin(0.0), cos(0.0)), (0.0, 1.0));
        assert_eq!((erf(0.0), erf(f32::INFINITY)), (0.0, 1.0));
        assert_eq!(erf(f32::NEG_INFINITY), -1.0);
        assert!(erf(f32::NAN).is_nan() && erf(-0.0).is_sign_negative());
    }
}
