//! Numbers: special functions that give the same bits on every machine, and small linear algebra.
//!
//! The standard library hands `exp` and `ln` to the platform; a suggestion must not depend on
//! which C library happens to be there, so everything here is plain arithmetic or `libm`.

pub(crate) use libm::{exp, log as ln, sqrt};

/// The square root of two.
const SQRT_2: f64 = std::f64::consts::SQRT_2;
/// More than any count that an option asks for.
pub(crate) const LARGEST_INDEX: f64 = 4_294_967_295.0;
/// ln(sqrt(2 pi)).
pub(crate) const LN_SQRT_2PI: f64 = 0.918_938_533_204_672_7;

/// Cuts a number that is 0 or more down to an index.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, which is what an index out of range should do"
)]
pub(crate) fn index(number: f64) -> usize {
    number as usize
}

/// Cuts a whole number down to an `i64`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the cast saturates; bounds are checked where a space is parsed"
)]
pub(crate) fn whole(number: f64) -> i64 {
    number as i64
}

/// The distribution function of the standard normal distribution.
pub(crate) fn normal_cdf(z: f64) -> f64 {
    0.5 * libm::erfc(-z / SQRT_2)
}

/// The density of the standard normal distribution.
pub(crate) fn normal_pdf(z: f64) -> f64 {
    exp(-0.5 * z * z - LN_SQRT_2PI)
}

/// The quantile function of the standard normal distribution, for 0 < `p` < 1.
///
/// Rational approximations, accurate to about 1e-16. Source: Wichura, "Algorithm AS 241: The
/// Percentage Points of the Normal Distribution", Applied Statistics 37 (1988), `PPND16`.
pub(crate) fn normal_quantile(p: f64) -> f64 {
    const A: [f64; 8] = [
        3.387_132_872_796_366_5,
        1.331_416_678_917_843_8e2,
        1.971_590_950_306_551_3e3,
        1.373_169_376_550_946e4,
        4.592_195_393_154_987e4,
        6.726_577_092_700_87e4,
        3.343_057_558_358_813e4,
        2.509_080_928_730_122_7e3,
    ];
    const B: [f64; 8] = [
        1.0,
        4.231_333_070_160_091e1,
        6.871_870_074_920_579e2,
        5.394_196_021_424_751e3,
        2.121_379_430_158_659_7e4,
        3.930_789_580_009_271e4,
        2.872_908_573_572_194_3e4,
        5.226_495_278_852_545e3,
    ];
    const C: [f64; 8] = [
        1.423_437_110_749_683_5,
        4.630_337_846_156_546,
        5.769_497_221_460_691,
        3.647_848_324_763_204_5,
        1.270_458_252_452_368_4,
        2.417_807_251_774_506e-1,
        2.272_384_498_926_918_4e-2,
        7.745_450_142_783_414e-4,
    ];
    const D: [f64; 8] = [
        1.0,
        2.053_191_626_637_759,
        1.676_384_830_183_803_8,
        6.897_673_349_851e-1,
        1.481_039_764_274_800_8e-1,
        1.519_866_656_361_645_7e-2,
        5.475_938_084_995_345e-4,
        1.050_750_071_644_416_9e-9,
    ];
    const E: [f64; 8] = [
        6.657_904_643_501_103,
        5.463_784_911_164_114,
        1.784_826_539_917_291_3,
        2.965_605_718_285_048_7e-1,
        2.653_218_952_657_612_4e-2,
        1.242_660_947_388_078_4e-3,
        2.711_555_568_743_487_6e-5,
        2.010_334_399_292_288_1e-7,
    ];
    const F: [f64; 8] = [
        1.0,
        5.998_322_065_558_88e-1,
        1.369_298_809_227_358e-1,
        1.487_536_129_085_061_5e-2,
        7.868_691_311_456_133e-4,
        1.846_318_317_510_054_8e-5,
        1.421_511_758_316_446e-7,
        2.044_263_103_389_939_8e-15,
    ];
    let ratio = |top: &[f64; 8], bottom: &[f64; 8], r: f64| {
        let value = |terms: &[f64; 8]| terms.iter().rev().fold(0.0, |sum, term| sum * r + term);
        value(top) / value(bottom)
    };
    let centred = p - 0.5;
    if centred.abs() <= 0.425 {
        return centred * ratio(&A, &B, 0.180_625 - centred * centred);
    }
    let tail = if centred < 0.0 { p } else { 1.0 - p };
    let r = sqrt(-ln(tail.max(f64::MIN_POSITIVE)));
    let magnitude = if r <= 5.0 {
        ratio(&C, &D, r - 1.6)
    } else {
        ratio(&E, &F, r - 5.0)
    };
    magnitude.copysign(centred)
}

/// e to the power of `x`, to about 2e-14, for the inner loops.
///
/// No branches and no table, so that the compiler makes vectors of it. Below -700 the result
/// is that of -700, which is as good as nothing. Cody and Waite's reduction, then Taylor's series.
#[inline]
pub(crate) fn fast_exp(x: f64) -> f64 {
    const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52: adding it rounds to an integer
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let x = x.clamp(-700.0, 700.0);
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let power = shifted - ROUND;
    let r = (x - power * LN_2_HIGH) - power * LN_2_LOW;
    let mut sum = 1.0 / 39_916_800.0;
    for term in [
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        sum = sum * r + term;
    }
    f64::from_bits(sum.to_bits().wrapping_add(shifted.to_bits() << 52))
}

/// The scalar product, in an order that does not depend on the machine.
#[inline]
pub(crate) fn dot(left: &[f64], right: &[f64]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let (left_blocks, left_rest) = left.as_chunks::<8>();
    let (right_blocks, right_rest) = right.as_chunks::<8>();
    for (a, b) in left_blocks.iter().zip(right_blocks) {
        for lane in 0..8 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = left_rest.iter().zip(right_rest).map(|(a, b)| a * b).sum();
    let halves = [
        lanes[0] + lanes[4],
        lanes[1] + lanes[5],
        lanes[2] + lanes[6],
        lanes[3] + lanes[7],
    ];
    ((halves[0] + halves[2]) + (halves[1] + halves[3])) + rest
}

/// The median of `values`, or NaN when there are none. Sorts them.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => 0.5 * (values[middle - 1] + values[middle]),
    }
}

/// Rounds to the nearest whole number, halves to the even one, as the peers do.
pub(crate) fn round_half_even(x: f64) -> f64 {
    x.round_ties_even()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantile_function_inverts_the_distribution_function() {
        for step in 1..2000 {
            let p = f64::from(step) / 2000.0;
            assert!((normal_cdf(normal_quantile(p)) - p).abs() < 1e-14, "at {p}");
        }
        assert!((normal_quantile(1e-12) + 7.034_483_8).abs() < 1e-6);
    }

    #[test]
    fn the_fast_exponential_is_close_to_the_true_one() {
        for step in -70_000..7_000 {
            let x = f64::from(step) / 100.0;
            let error = fast_exp(x) / exp(x) - 1.0;
            assert!(error.abs() < 2e-14, "{error} at {x}");
        }
        assert!(fast_exp(-1e9) < 1e-300);
    }

    #[test]
    fn the_scalar_product_adds_everything() {
        let numbers: Vec<f64> = (0..21).map(f64::from).collect();
        assert_eq!(dot(&numbers, &numbers), 2870.0);
    }
}
