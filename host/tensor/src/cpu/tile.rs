//! Elementwise operations on one tile: a few hundred elements that stay in the L1 cache.
//!
//! [`apply`] is inlined into a function per instruction set, so that the loops over floats
//! use the widest vectors the machine has. The other types are rare: their loops are
//! compiled once, for the baseline.

use std::ops::{BitAnd, BitOr, BitXor};

use bytemuck::Pod;
use half::{bf16, f16};

use super::number::{Number, Real, with_integer, with_number};
use crate::DType;
use crate::ir::{Binary, Compare, Element, Logic, Unary};

/// What is done with the elements of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TileOp {
    Copy,
    Element(Element),
    /// `a * b + c`, rounded twice.
    MultiplyAdd,
    /// `a * b - c`, rounded twice.
    MultiplySubtract,
    /// `c - a * b`, rounded twice.
    SubtractProduct,
    /// `a * b + c * d`, rounded three times.
    SumOfProducts,
    /// `a * b + c * c * d`, rounded four times.
    SumWithSquare,
    /// `(a + b) - b`, rounded twice.
    AddSubtract,
    /// `(a * b + c * d + e) - e`, rounded five times; `b`, `d` and `e` are the same everywhere.
    RoundedSumOfProducts,
    /// `sqrt(a) * b + c`, rounded three times.
    MultiplyRootAdd,
    /// `c - (a / d) * b`, rounded three times.
    SubtractQuotientProduct,
}

/// The most operands of an operation.
pub(crate) const MOST_OPERANDS: usize = 5;

impl TileOp {
    /// Whether it looks at the values of elements. On half types, such an operation works on
    /// widened operands; the others only move bits.
    pub(crate) fn computes(self) -> bool {
        !matches!(
            self,
            Self::Copy | Self::Element(Element::Select | Element::Convert)
        )
    }
}

/// Computes `out` from tiles of at least as many elements; `from` is the operands' type (that of
/// the chosen ones for a select), `to` the result's. An operation that [computes]
/// takes no half types.
///
/// [computes]: TileOp::computes
#[inline(always)]
pub(super) fn apply(
    op: TileOp,
    from: DType,
    to: DType,
    [a, b, c, d, e]: [Tile<'_>; MOST_OPERANDS],
    out: &mut [u8],
) {
    match (op, from) {
        (TileOp::Copy, _) => match to.size() {
            1 => map1(a, out, |x: u8| x),
            2 => map1(a, out, |x: u16| x),
            4 => map1(a, out, |x: u32| x),
            _ => map1(a, out, |x: u64| x),
        },
        (TileOp::Element(op), DType::F32) => real::<f32>(op, to, [a, b, c], out),
        (TileOp::Element(Element::Binary(kind)), DType::F64) if kind.is_simple() => {
            real_binary::<f64>(kind, a, b, out);
        }
        (TileOp::Element(Element::Convert), _) if to == DType::F32 => to_f32(from, a, out),
        (TileOp::Element(op), DType::F64) => apply_f64(op, to, [a, b, c], out),
        (TileOp::Element(op), _) => apply_rare(op, from, to, [a, b, c], out),
        (_, DType::F64) => combined::<f64>(op, [a, b, c, d, e], out),
        _ => combined::<f32>(op, [a, b, c, d, e], out),
    }
}

#[inline(always)]
fn combined<T: Real>(op: TileOp, [a, b, c, d, e]: [Tile<'_>; MOST_OPERANDS], out: &mut [u8]) {
    match op {
        TileOp::MultiplyAdd => map3([a, b, c], out, |a: T, b: T, c: T| a.multiply(b).add(c)),
        TileOp::MultiplySubtract => {
            map3([a, b, c], out, |a: T, b: T, c: T| a.multiply(b).subtract(c));
        }
        TileOp::SubtractProduct => {
            map3([a, b, c], out, |a: T, b: T, c: T| c.subtract(a.multiply(b)));
        }
        TileOp::SumOfProducts => map4([a, b, c, d], out, |a: T, b: T, c: T, d: T| {
            a.multiply(b).add(c.multiply(d))
        }),
        TileOp::SumWithSquare => map4([a, b, c, d], out, |a: T, b: T, c: T, d: T| {
            a.multiply(b).add(c.multiply(c).multiply(d))
        }),
        TileOp::RoundedSumOfProducts if out.is_empty() => {}
        TileOp::RoundedSumOfProducts => {
            let (b, d): (T, T) = (b.elements(1)[0], d.elements(1)[0]);
            let e: T = e.elements(1)[0];
            map2(a, c, out, |a: T, c: T| {
                let sum = a.multiply(b).add(c.multiply(d));
                sum.add(e).subtract(e)
            });
        }
        TileOp::AddSubtract => map2(a, b, out, |a: T, b: T| a.add(b).subtract(b)),
        TileOp::MultiplyRootAdd => {
            map3([a, b, c], out, |a: T, b: T, c: T| {
                a.sqrt().multiply(b).add(c)
            });
        }
        TileOp::SubtractQuotientProduct => map4([a, b, c, d], out, |a: T, b: T, c: T, d: T| {
            c.subtract(a.divide(d).multiply(b))
        }),
        TileOp::Copy | TileOp::Element(_) => unreachable!("these are not combined"),
    }
}

/// Operations on single and double precision.
#[inline(always)]
fn real<T: Real>(op: Element, to: DType, [a, b, c]: [Tile<'_>; 3], out: &mut [u8]) {
    match op {
        Element::Unary(kind) => real_unary::<T>(kind, a, out),
        Element::Binary(kind) => real_binary::<T>(kind, a, b, out),
        Element::Compare(kind) => compare::<T>(kind, a, b, out),
        Element::IsFinite => map1(a, out, |x: T| u8::from(x.is_finite())),
        Element::Select => select::<T>(a, b, c, out),
        Element::Convert => match to {
            DType::F32 => map1(a, out, |x: T| f32::from_f64(x.to_f64())),
            DType::F64 => map1(a, out, |x: T| x.to_f64()),
            DType::Bf16 => map1(a, out, |x: T| bf16::from_f64(x.to_f64())),
            DType::F16 => map1(a, out, |x: T| f16::from_f64(x.to_f64())),
            DType::I32 => map1(a, out, |x: T| i32::from_f64(x.to_f64())),
            DType::I64 => map1(a, out, |x: T| x.to_i64()),
            DType::U8 => map1(a, out, |x: T| u8::from_f64(x.to_f64())),
            DType::U32 => map1(a, out, |x: T| u32::from_f64(x.to_f64())),
            DType::Bool => map1(a, out, |x: T| u8::from(x != T::ZERO)),
        },
        Element::Logic(_) | Element::Not => unreachable!("the check lets no floats through"),
    }
}

/// What images, labels, masks and half types become before anything is computed.
#[inline(always)]
fn to_f32(from: DType, a: Tile<'_>, out: &mut [u8]) {
    match from {
        DType::Bf16 => map1(a, out, |x: bf16| x.widen()),
        DType::F16 => map1(a, out, |x: f16| x.widen()),
        DType::U8 | DType::Bool => map1(a, out, |x: u8| f32::from(x)),
        DType::I32 => map1(a, out, |x: i32| x as f32),
        DType::U32 => map1(a, out, |x: u32| x as f32),
        DType::I64 => map1(a, out, |x: i64| x as f32),
        DType::F64 => map1(a, out, f32::from_f64),
        DType::F32 => unreachable!("it is converted in `real`"),
    }
}

/// Most operations on double precision: they call functions anyway.
#[inline(never)]
fn apply_f64(op: Element, to: DType, tiles: [Tile<'_>; 3], out: &mut [u8]) {
    real::<f64>(op, to, tiles, out);
}

#[inline(never)]
fn apply_rare(op: Element, from: DType, to: DType, [a, b, c]: [Tile<'_>; 3], out: &mut [u8]) {
    match op {
        Element::Unary(kind) => with_integer!(from, T => integer_unary::<T>(kind, a, out)),
        Element::Binary(kind) => with_integer!(from, T => integer_binary::<T>(kind, a, b, out)),
        Element::Compare(kind) => with_integer!(from, T => compare::<T>(kind, a, b, out)),
        Element::Logic(kind) => match from.size() {
            1 => logic::<u8>(kind, a, b, out),
            4 => logic::<u32>(kind, a, b, out),
            _ => logic::<u64>(kind, a, b, out),
        },
        Element::Not if from == DType::Bool => map1(a, out, |a: u8| a ^ 1),
        Element::Not => match from.size() {
            1 => map1(a, out, |a: u8| !a),
            4 => map1(a, out, |a: u32| !a),
            _ => map1(a, out, |a: u64| !a),
        },
        Element::Select => match from.size() {
            1 => select::<u8>(a, b, c, out),
            2 => select::<u16>(a, b, c, out),
            4 => select::<u32>(a, b, c, out),
            _ => select::<u64>(a, b, c, out),
        },
        Element::Convert => with_number!(from, From => convert::<From>(to, a, out)),
        Element::IsFinite => unreachable!("the check lets only floats through"),
    }
}

#[inline(always)]
fn real_unary<T: Real>(kind: Unary, a: Tile<'_>, out: &mut [u8]) {
    match kind {
        Unary::Negate => map1(a, out, T::negate),
        Unary::Abs => map1(a, out, T::absolute),
        Unary::Sign => map1(a, out, T::sign),
        Unary::Square => map1(a, out, |x: T| x.multiply(x)),
        Unary::Exp => map1(a, out, T::exp),
        Unary::Expm1 => map1(a, out, T::expm1),
        Unary::Log => map1(a, out, T::log),
        Unary::Log1p => map1(a, out, T::log1p),
        Unary::Sqrt => map1(a, out, T::sqrt),
        Unary::Rsqrt => map1(a, out, |x: T| T::ONE.divide(x.sqrt())),
        Unary::Sin => {
            map1(a, out, T::sin);
            mend_far(a, out, T::sin_far);
        }
        Unary::Cos => {
            map1(a, out, T::cos);
            mend_far(a, out, T::cos_far);
        }
        Unary::Tanh => map1(a, out, T::tanh),
        Unary::Sigmoid => map1(a, out, T::sigmoid),
        Unary::Erf => map1(a, out, T::erf),
        Unary::Floor => map1(a, out, T::floor),
        Unary::Ceil => map1(a, out, T::ceil),
        Unary::Round => map1(a, out, T::round),
    }
}

/// Computes the results of far arguments again, one by one.
#[inline(always)]
fn mend_far<T: Real>(a: Tile<'_>, out: &mut [u8], f: impl Fn(T) -> T) {
    let out: &mut [T] = bytemuck::cast_slice_mut(out);
    let a: &[T] = a.elements(out.len());
    if !a.iter().fold(false, |far, x| far | x.is_far()) {
        return;
    }
    for (out, &x) in out.iter_mut().zip(a) {
        if x.is_far() {
            *out = f(x);
        }
    }
}

#[inline(always)]
fn real_binary<T: Real>(kind: Binary, a: Tile<'_>, b: Tile<'_>, out: &mut [u8]) {
    match kind {
        Binary::Add => map2(a, b, out, T::add),
        Binary::Subtract => map2(a, b, out, T::subtract),
        Binary::Multiply => map2(a, b, out, T::multiply),
        Binary::Divide => map2(a, b, out, T::divide),
        Binary::Maximum => map2(a, b, out, T::maximum),
        Binary::Minimum => map2(a, b, out, T::minimum),
        Binary::Power => map2(a, b, out, T::power),
        Binary::Remainder => map2(a, b, out, T::remainder),
        Binary::Atan2 => map2(a, b, out, T::atan2),
    }
}

/// Only operations that are defined for integers.
fn integer_unary<T: Number>(kind: Unary, a: Tile<'_>, out: &mut [u8]) {
    match kind {
        Unary::Negate => map1(a, out, T::negate),
        Unary::Abs => map1(a, out, T::absolute),
        Unary::Sign => map1(a, out, T::sign),
        Unary::Square => map1(a, out, |x: T| x.multiply(x)),
        other => unreachable!("the check lets only floats through to {other:?}"),
    }
}

/// Only operations that are defined for integers.
fn integer_binary<T: Number>(kind: Binary, a: Tile<'_>, b: Tile<'_>, out: &mut [u8]) {
    match kind {
        Binary::Add => map2(a, b, out, T::add),
        Binary::Subtract => map2(a, b, out, T::subtract),
        Binary::Multiply => map2(a, b, out, T::multiply),
        Binary::Divide => map2(a, b, out, T::divide),
        Binary::Maximum => map2(a, b, out, T::maximum),
        Binary::Minimum => map2(a, b, out, T::minimum),
        Binary::Remainder => map2(a, b, out, T::remainder),
        Binary::Power | Binary::Atan2 => unreachable!("the check lets only floats through"),
    }
}

fn logic<T>(kind: Logic, a: Tile<'_>, b: Tile<'_>, out: &mut [u8])
where
    T: Pod + BitAnd<Output = T> + BitOr<Output = T> + BitXor<Output = T>,
{
    match kind {
        Logic::And => map2(a, b, out, |a: T, b: T| a & b),
        Logic::Or => map2(a, b, out, |a: T, b: T| a | b),
        Logic::Xor => map2(a, b, out, |a: T, b: T| a ^ b),
    }
}

#[inline(always)]
fn compare<T: Number>(kind: Compare, a: Tile<'_>, b: Tile<'_>, out: &mut [u8]) {
    match kind {
        Compare::Equal => map2(a, b, out, |a: T, b: T| u8::from(a == b)),
        Compare::NotEqual => map2(a, b, out, |a: T, b: T| u8::from(a != b)),
        Compare::Less => map2(a, b, out, |a: T, b: T| u8::from(a < b)),
        Compare::LessEqual => map2(a, b, out, |a: T, b: T| u8::from(a <= b)),
        Compare::Greater => map2(a, b, out, |a: T, b: T| u8::from(a > b)),
        Compare::GreaterEqual => map2(a, b, out, |a: T, b: T| u8::from(a >= b)),
    }
}

#[inline(always)]
fn select<T: Pod>(condition: Tile<'_>, chosen: Tile<'_>, other: Tile<'_>, out: &mut [u8]) {
    map3(
        [condition, chosen, other],
        out,
        |c: u8, a: T, b: T| {
            if c == 0 { b } else { a }
        },
    );
}

/// Conversions of integers and halves; floats are converted in [`real`].
fn convert<From: Number>(to: DType, a: Tile<'_>, out: &mut [u8]) {
    if to == DType::Bool {
        return map1(a, out, |x: From| u8::from(x != From::ZERO));
    }
    with_number!(to, To => map1(a, out, |x: From| {
        if From::IS_FLOAT {
            To::from_f64(x.to_f64())
        } else {
            To::from_i64(x.to_i64())
        }
    }));
}

/// Writes the indexes along one axis, for the elements from `start` of an array in which
/// that axis has `size` steps of `inner` elements.
pub(super) fn iota(dtype: DType, start: usize, inner: usize, size: usize, out: &mut [u8]) {
    with_number!(dtype, T => iota_of::<T>(start, inner, size, out));
}

fn iota_of<T: Number>(start: usize, inner: usize, size: usize, out: &mut [u8]) {
    let mut within = start % inner;
    let mut index = (start / inner) % size;
    for element in bytemuck::cast_slice_mut::<u8, T>(out) {
        // Dimensions are below 2^31.
        *element = T::from_i64(i64::try_from(index).unwrap_or(0));
        within += 1;
        if within == inner {
            within = 0;
            index += 1;
            if index == size {
                index = 0;
            }
        }
    }
}

/// An operand's elements: at least as many as the result has.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    pub(super) bytes: &'a [u8],
    /// Every element is the same, so a loop may keep the first one in a register.
    pub(super) is_scalar: bool,
}

impl<'a> Tile<'a> {
    #[inline(always)]
    fn elements<T: Pod>(self, count: usize) -> &'a [T] {
        &bytemuck::cast_slice(self.bytes)[..count]
    }
}

#[inline(always)]
fn map1<A: Pod, R: Pod>(a: Tile<'_>, out: &mut [u8], f: impl Fn(A) -> R) {
    let out: &mut [R] = bytemuck::cast_slice_mut(out);
    let a = a.elements(out.len());
    for (out, &a) in out.iter_mut().zip(a) {
        *out = f(a);
    }
}

#[inline(always)]
fn map2<A: Pod, B: Pod, R: Pod>(a: Tile<'_>, b: Tile<'_>, out: &mut [u8], f: impl Fn(A, B) -> R) {
    let count = out.len() / size_of::<R>();
    match (a.is_scalar, b.is_scalar, count) {
        (_, _, 0) => {}
        (true, false, _) => {
            let a: A = a.elements(count)[0];
            map1(b, out, |b: B| f(a, b));
        }
        (false, true, _) => {
            let b: B = b.elements(count)[0];
            map1(a, out, |a: A| f(a, b));
        }
        _ => {
            let out: &mut [R] = bytemuck::cast_slice_mut(out);
            let (a, b) = (a.elements(count), b.elements(count));
            for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
                *out = f(a, b);
            }
        }
    }
}

#[inline(always)]
fn map3<A: Pod, B: Pod, C: Pod, R: Pod>(
    [a, b, c]: [Tile<'_>; 3],
    out: &mut [u8],
    f: impl Fn(A, B, C) -> R,
) {
    let count = out.len() / size_of::<R>();
    if b.is_scalar && count > 0 {
        let b: B = b.elements(count)[0];
        return map2(a, c, out, |a: A, c: C| f(a, b, c));
    }
    let out: &mut [R] = bytemuck::cast_slice_mut(out);
    let (a, b, c) = (a.elements(count), b.elements(count), c.elements(count));
    for (((out, &a), &b), &c) in out.iter_mut().zip(a).zip(b).zip(c) {
        *out = f(a, b, c);
    }
}

#[inline(always)]
fn map4<T: Pod>([a, b, c, d]: [Tile<'_>; 4], out: &mut [u8], f: impl Fn(T, T, T, T) -> T) {
    let count = out.len() / size_of::<T>();
    if b.is_scalar && count > 0 {
        let b: T = b.elements(count)[0];
        if d.is_scalar {
            let d: T = d.elements(count)[0];
            map2(a, c, out, |a: T, c: T| f(a, b, c, d));
        } else {
            map3([a, d, c], out, |a: T, d: T, c: T| f(a, b, c, d));
        }
        return;
    }
    let out: &mut [T] = bytemuck::cast_slice_mut(out);
    let (a, b) = (a.elements(count), b.elements(count));
    let (c, d) = (c.elements(count), d.elements(count));
    for ((((out, &a), &b), &c), &d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
        *out = f(a, b, c, d);
    }
}
