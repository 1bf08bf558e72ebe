//! Definitions of random numbers by random bits.

use crate::emit::{Emit, Emitted, integer, list};
use crate::ir::NodeId;
use crate::shape::{Dims, TensorType};
use crate::{Attribute, DType};

/// What a key is folded with where an element needs a second word of random bits.
const SECOND_WORD: u32 = 0x7365_636f;

/// Words below `2^32` as a share of it.
const STEP: f64 = 1.0 / 4_294_967_296.0;

fn bits(to: &mut impl Emit, key: NodeId, stream: u32, shape: Dims) -> Emitted {
    let attributes = [
        ("shape", list(shape)),
        ("stream", Attribute::from(i64::from(stream))),
    ];
    to.op_with("random-bits", &[key], &attributes)
}

/// A key whose bits have nothing to do with those of `key`.
fn second_key(to: &mut impl Emit, key: NodeId) -> Emitted {
    let scalar = TensorType {
        dtype: DType::U32,
        shape: Dims::default(),
    };
    let number = to.fill(f64::from(SECOND_WORD), scalar)?;
    to.op("random-fold", &[key, number])
}

/// The upper `count` bits of each word as a share of `2^32`, computed in `dtype`, which
/// holds as many bits exactly.
fn share(to: &mut impl Emit, bits: NodeId, count: u32, dtype: DType) -> Emitted {
    let mask = u32::MAX << (u32::BITS - count);
    let mask = to.fill_like(f64::from(mask), bits)?;
    let upper = to.op("and", &[bits, mask])?;
    let number = to.op_with("convert", &[upper], &[("dtype", dtype.name().into())])?;
    to.scale(number, STEP)
}

pub(super) fn uniform(to: &mut impl Emit, key: NodeId, stream: u32, ty: TensorType) -> Emitted {
    let first = bits(to, key, stream, ty.shape)?;
    let count = match ty.dtype {
        DType::F64 => {
            // 27 bits of one word and, behind them, 26 of another.
            let key = second_key(to, key)?;
            let second = bits(to, key, stream, ty.shape)?;
            let upper = share(to, first, 27, ty.dtype)?;
            let lower = share(to, second, 26, ty.dtype)?;
            let lower = to.scale(lower, 1.0 / f64::from(1 << 27))?;
            return to.add(upper, lower);
        }
        DType::Bf16 => 8,
        DType::F16 => 11,
        _ => 24,
    };
    let number = share(to, first, count, ty.dtype.wide())?;
    to.op_with("convert", &[number], &[("dtype", ty.dtype.name().into())])
}

/// `sqrt(-2 log(1 - u)) cos(2 pi v)`, with u and v uniform.
///
/// Source: Box and Muller, "A note on the generation of random normal deviates", Annals of
/// Mathematical Statistics 29, 1958.
pub(super) fn normal(to: &mut impl Emit, key: NodeId, stream: u32, ty: TensorType) -> Emitted {
    let wide = ty.widened();
    let other_key = second_key(to, key)?;
    let angle = match ty.dtype {
        // Its first uniform number has used the second key already.
        DType::F64 => {
            let third_key = second_key(to, other_key)?;
            uniform(to, third_key, stream, wide)?
        }
        _ => uniform(to, other_key, stream, wide)?,
    };
    let distance = uniform(to, key, stream, wide)?;
    let one = to.fill_like(1.0, distance)?;
    // Above 0, so that the logarithm is finite.
    let distance = to.subtract(one, distance)?;
    let log = to.op("log", &[distance])?;
    let square = to.scale(log, -2.0)?;
    let radius = to.op("sqrt", &[square])?;
    let angle = to.scale(angle, std::f64::consts::TAU)?;
    let cosine = to.op("cos", &[angle])?;
    let number = to.multiply(radius, cosine)?;
    to.op_with("convert", &[number], &[("dtype", ty.dtype.name().into())])
}

/// Whether a word is below the probability's share of `2^32`.
pub(super) fn bernoulli(
    to: &mut impl Emit,
    key: NodeId,
    probability: f64,
    stream: u32,
    shape: Dims,
) -> Emitted {
    let limit = (probability / STEP).round();
    if limit > f64::from(u32::MAX) {
        let dtype = ("dtype", DType::Bool.name().into());
        let attributes = [dtype, ("shape", list(shape)), ("value", true.into())];
        return to.op_with("constant", &[], &attributes);
    }
    let bits = bits(to, key, stream, shape)?;
    let limit = to.fill_like(limit, bits)?;
    to.op("less", &[bits, limit])
}

/// The order of random numbers of 63 bits, of which hardly any two are equal.
pub(super) fn permutation(to: &mut impl Emit, key: NodeId, stream: u32, size: usize) -> Emitted {
    let shape = Dims::collect([size]);
    let other_key = second_key(to, key)?;
    let mut words = [key, other_key];
    for word in &mut words {
        let bits = bits(to, *word, stream, shape)?;
        *word = to.op_with("convert", &[bits], &[("dtype", DType::I64.name().into())])?;
    }
    let upper = to.scale(words[0], 2f64.powi(31))?;
    let two = to.fill_like(2.0, words[1])?;
    let lower = to.divide(words[1], two)?;
    let number = to.add(upper, lower)?;
    let attributes = [("axis", integer(0)), ("descending", false.into())];
    Ok(to.emit("sort", &[number], &attributes)?[1])
}

pub(super) fn dropout(
    to: &mut impl Emit,
    x: NodeId,
    key: NodeId,
    rate: f64,
    stream: u32,
) -> Emitted {
    let shape = to.shape(x);
    let dropped = bernoulli(to, key, rate, stream, shape)?;
    let kept_share = to.fill_like(1.0 - rate, x)?;
    let scaled = to.divide(x, kept_share)?;
    let zero = to.zeros_like(x)?;
    to.op("select", &[dropped, zero, scaled])
}
