//! What kernels need to know of an element type.

use bytemuck::Pod;
use half::{bf16, f16};

use super::halves::{
    bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16, f64_to_odd_f32, i64_to_odd_f64,
};
use super::math;

/// Arithmetic as `docs/programs.md` defines it: integers wrap around, halves are computed
/// in single precision and rounded.
pub(super) trait Number: Pod + PartialOrd + Send + Sync {
    /// The type in which several elements are combined: single precision for halves.
    type Wide: Number<Wide = Self::Wide>;
    const IS_FLOAT: bool;
    const ZERO: Self;
    const ONE: Self;
    const LOWEST: Self;
    const HIGHEST: Self;
    fn widen(self) -> Self::Wide;
    fn narrow(wide: Self::Wide) -> Self;
    fn negate(self) -> Self;
    fn absolute(self) -> Self;
    fn sign(self) -> Self;
    fn add(self, other: Self) -> Self;
    fn subtract(self, other: Self) -> Self;
    fn multiply(self, other: Self) -> Self;
    /// Division by an integer zero gives 0.
    fn divide(self, other: Self) -> Self;
    /// Takes the sign of the dividend; that of a division by an integer zero is 0.
    fn remainder(self, other: Self) -> Self;
    /// NaN if either is.
    fn maximum(self, other: Self) -> Self;
    /// NaN if either is.
    fn minimum(self, other: Self) -> Self;
    fn is_nan(self) -> bool;
    /// Integers beyond 2^53 are rounded.
    fn to_f64(self) -> f64;
    /// Truncates and saturates; NaN gives 0.
    fn to_i64(self) -> i64;
    /// Rounds once, to nearest; integers truncate and saturate, NaN gives 0.
    fn from_f64(value: f64) -> Self;
    /// Rounds once, to nearest; integers wrap around.
    fn from_i64(value: i64) -> Self;
}

/// A float that is computed with.
pub(super) trait Real: Number<Wide = Self> {
    fn exp(self) -> Self;
    fn expm1(self) -> Self;
    fn log(self) -> Self;
    fn log1p(self) -> Self;
    fn sqrt(self) -> Self;
    /// Only for arguments that are not [`Real::is_far`].
    fn sin(self) -> Self;
    /// Only for arguments that are not [`Real::is_far`].
    fn cos(self) -> Self;
    /// Whether sine and cosine need the slow functions, which work everywhere.
    fn is_far(self) -> bool;
    fn sin_far(self) -> Self;
    fn cos_far(self) -> Self;
    fn tanh(self) -> Self;
    fn sigmoid(self) -> Self;
    fn erf(self) -> Self;
    fn floor(self) -> Self;
    fn ceil(self) -> Self;
    /// Ties go to the even neighbour.
    fn round(self) -> Self;
    fn is_finite(self) -> bool;
    fn power(self, exponent: Self) -> Self;
    fn atan2(self, x: Self) -> Self;
}

macro_rules! float_number {
    ($($float:ident)*) => {$(
        impl Number for $float {
            type Wide = Self;
            const IS_FLOAT: bool = true;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const LOWEST: Self = Self::NEG_INFINITY;
            const HIGHEST: Self = Self::INFINITY;

            #[inline(always)]
            fn widen(self) -> Self {
                self
            }

            #[inline(always)]
            fn narrow(wide: Self) -> Self {
                wide
            }

            #[inline(always)]
            fn negate(self) -> Self {
                -self
            }

            #[inline(always)]
            fn absolute(self) -> Self {
                self.abs()
            }

            #[inline(always)]
            fn sign(self) -> Self {
                // Zeros and NaN are their own sign.
                let positive = if self > 0.0 { 1.0 } else { self };
                if self < 0.0 { -1.0 } else { positive }
            }

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self + other
            }

            #[inline(always)]
            fn subtract(self, other: Self) -> Self {
                self - other
            }

            #[inline(always)]
            fn multiply(self, other: Self) -> Self {
                self * other
            }

            #[inline(always)]
            fn divide(self, other: Self) -> Self {
                self / other
            }

            #[inline(always)]
            fn remainder(self, other: Self) -> Self {
                self % other
            }

            #[inline(always)]
            fn maximum(self, other: Self) -> Self {
                if self > other || self.is_nan() {
                    self
                } else {
                    other
                }
            }

            #[inline(always)]
            fn minimum(self, other: Self) -> Self {
                if self < other || self.is_nan() {
                    self
                } else {
                    other
                }
            }

            #[inline(always)]
            fn is_nan(self) -> bool {
                self.is_nan()
            }

            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }

            #[inline(always)]
            #[expect(clippy::cast_possible_truncation, reason = "saturates by definition")]
            fn to_i64(self) -> i64 {
                self as i64
            }

            #[inline(always)]
            #[allow(clippy::cast_possible_truncation, reason = "rounds by definition")]
            fn from_f64(value: f64) -> Self {
                value as Self
            }

            #[inline(always)]
            fn from_i64(value: i64) -> Self {
                value as Self
            }
        }
    )*};
}

float_number! { f32 f64 }

impl Real for f32 {
    #[inline(always)]
    fn exp(self) -> Self {
        math::exp(self)
    }

    #[inline(always)]
    fn expm1(self) -> Self {
        math::expm1(self)
    }

    #[inline(always)]
    fn log(self) -> Self {
        math::log(self)
    }

    #[inline(always)]
    fn log1p(self) -> Self {
        math::log1p(self)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn sin(self) -> Self {
        math::sin(self)
    }

    #[inline(always)]
    fn cos(self) -> Self {
        math::cos(self)
    }

    #[inline(always)]
    fn is_far(self) -> bool {
        // Also when NaN or infinite.
        !matches!(
            self.abs().partial_cmp(&math::FAR),
            Some(std::cmp::Ordering::Less)
        )
    }

    fn sin_far(self) -> Self {
        libm::sinf(self)
    }

    fn cos_far(self) -> Self {
        libm::cosf(self)
    }

    #[inline(always)]
    fn tanh(self) -> Self {
        math::tanh(self)
    }

    #[inline(always)]
    fn sigmoid(self) -> Self {
        math::sigmoid(self)
    }

    #[inline(always)]
    fn erf(self) -> Self {
        math::erf(self)
    }

    #[inline(always)]
    fn floor(self) -> Self {
        self.floor()
    }

    #[inline(always)]
    fn ceil(self) -> Self {
        self.ceil()
    }

    #[inline(always)]
    fn round(self) -> Self {
        self.round_ties_even()
    }

    #[inline(always)]
    fn is_finite(self) -> bool {
        self.is_finite()
    }

    #[inline(always)]
    fn power(self, exponent: Self) -> Self {
        libm::powf(self, exponent)
    }

    #[inline(always)]
    fn atan2(self, x: Self) -> Self {
        math::atan2(self, x)
    }
}

/// Pure Rust functions, so that every machine gives the same bits.
impl Real for f64 {
    fn exp(self) -> Self {
        libm::exp(self)
    }

    fn expm1(self) -> Self {
        libm::expm1(self)
    }

    fn log(self) -> Self {
        libm::log(self)
    }

    fn log1p(self) -> Self {
        libm::log1p(self)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    fn sin(self) -> Self {
        libm::sin(self)
    }

    fn cos(self) -> Self {
        libm::cos(self)
    }

    #[inline(always)]
    fn is_far(self) -> bool {
        false
    }

    fn sin_far(self) -> Self {
        libm::sin(self)
    }

    fn cos_far(self) -> Self {
        libm::cos(self)
    }

    fn tanh(self) -> Self {
        libm::tanh(self)
    }

    fn sigmoid(self) -> Self {
        1.0 / (1.0 + libm::exp(-self))
    }

    fn erf(self) -> Self {
        libm::erf(self)
    }

    #[inline(always)]
    fn floor(self) -> Self {
        self.floor()
    }

    #[inline(always)]
    fn ceil(self) -> Self {
        self.ceil()
    }

    #[inline(always)]
    fn round(self) -> Self {
        self.round_ties_even()
    }

    #[inline(always)]
    fn is_finite(self) -> bool {
        self.is_finite()
    }

    fn power(self, exponent: Self) -> Self {
        libm::pow(self, exponent)
    }

    fn atan2(self, x: Self) -> Self {
        libm::atan2(self, x)
    }
}

macro_rules! half_number {
    ($($half:ident: $widen:ident, $narrow:ident;)*) => {$(
        impl Number for $half {
            type Wide = f32;
            const IS_FLOAT: bool = true;
            const ZERO: Self = Self::ZERO;
            const ONE: Self = Self::ONE;
            const LOWEST: Self = Self::NEG_INFINITY;
            const HIGHEST: Self = Self::INFINITY;

            #[inline(always)]
            fn widen(self) -> f32 {
                $widen(self)
            }

            #[inline(always)]
            fn narrow(wide: f32) -> Self {
                $narrow(wide)
            }

            #[inline(always)]
            fn negate(self) -> Self {
                Self::from_bits(self.to_bits() ^ 0x8000)
            }

            #[inline(always)]
            fn absolute(self) -> Self {
                Self::from_bits(self.to_bits() & 0x7fff)
            }

            #[inline(always)]
            fn sign(self) -> Self {
                Self::narrow(Number::sign(self.widen()))
            }

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                Self::narrow(self.widen() + other.widen())
            }

            #[inline(always)]
            fn subtract(self, other: Self) -> Self {
                Self::narrow(self.widen() - other.widen())
            }

            #[inline(always)]
            fn multiply(self, other: Self) -> Self {
                Self::narrow(self.widen() * other.widen())
            }

            #[inline(always)]
            fn divide(self, other: Self) -> Self {
                Self::narrow(self.widen() / other.widen())
            }

            #[inline(always)]
            fn remainder(self, other: Self) -> Self {
                Self::narrow(self.widen() % other.widen())
            }

            #[inline(always)]
            fn maximum(self, other: Self) -> Self {
                Self::narrow(Number::maximum(self.widen(), other.widen()))
            }

            #[inline(always)]
            fn minimum(self, other: Self) -> Self {
                Self::narrow(Number::minimum(self.widen(), other.widen()))
            }

            #[inline(always)]
            fn is_nan(self) -> bool {
                self.widen().is_nan()
            }

            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self.widen())
            }

            #[inline(always)]
            #[expect(clippy::cast_possible_truncation, reason = "saturates by definition")]
            fn to_i64(self) -> i64 {
                self.widen() as i64
            }

            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                Self::narrow(f64_to_odd_f32(value))
            }

            #[inline(always)]
            fn from_i64(value: i64) -> Self {
                Self::from_f64(i64_to_odd_f64(value))
            }
        }
    )*};
}

half_number! {
    bf16: bf16_to_f32, f32_to_bf16;
    f16: f16_to_f32, f32_to_f16;
}

macro_rules! integer_number {
    ($($integer:ident: $absolute:expr, $sign:expr;)*) => {$(
        impl Number for $integer {
            type Wide = Self;
            const IS_FLOAT: bool = false;
            const ZERO: Self = 0;
            const ONE: Self = 1;
            const LOWEST: Self = Self::MIN;
            const HIGHEST: Self = Self::MAX;

            #[inline(always)]
            fn widen(self) -> Self {
                self
            }

            #[inline(always)]
            fn narrow(wide: Self) -> Self {
                wide
            }

            #[inline(always)]
            fn negate(self) -> Self {
                self.wrapping_neg()
            }

            #[inline(always)]
            fn absolute(self) -> Self {
                let absolute: fn(Self) -> Self = $absolute;
                absolute(self)
            }

            #[inline(always)]
            fn sign(self) -> Self {
                let sign: fn(Self) -> Self = $sign;
                sign(self)
            }

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            #[inline(always)]
            fn subtract(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }

            #[inline(always)]
            fn multiply(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }

            #[inline(always)]
            fn divide(self, other: Self) -> Self {
                if other == 0 { 0 } else { self.wrapping_div(other) }
            }

            #[inline(always)]
            fn remainder(self, other: Self) -> Self {
                if other == 0 { 0 } else { self.wrapping_rem(other) }
            }

            #[inline(always)]
            fn maximum(self, other: Self) -> Self {
                self.max(other)
            }

            #[inline(always)]
            fn minimum(self, other: Self) -> Self {
                self.min(other)
            }

            #[inline(always)]
            fn is_nan(self) -> bool {
                false
            }

            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }

            #[inline(always)]
            fn to_i64(self) -> i64 {
                i64::from(self)
            }

            #[inline(always)]
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates by definition"
            )]
            fn from_f64(value: f64) -> Self {
                value as Self
            }

            #[inline(always)]
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "wraps around by definition"
            )]
            fn from_i64(value: i64) -> Self {
                value as Self
            }
        }
    )*};
}

integer_number! {
    i32: i32::wrapping_abs, i32::signum;
    i64: i64::wrapping_abs, i64::signum;
    u8: |value| value, |value| value.min(1);
    u32: |value| value, |value| value.min(1);
}

/// Evaluates the body with the name bound to the Rust type of a number type.
macro_rules! with_number {
    ($dtype:expr, $name:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F32 => {
                type $name = f32;
                $body
            }
            $crate::DType::F64 => {
                type $name = f64;
                $body
            }
            $crate::DType::Bf16 => {
                type $name = half::bf16;
                $body
            }
            $crate::DType::F16 => {
                type $name = half::f16;
                $body
            }
            $crate::DType::I32 => {
                type $name = i32;
                $body
            }
            $crate::DType::I64 => {
                type $name = i64;
                $body
            }
            // A bool is a byte that is 0 or 1.
            $crate::DType::U8 | $crate::DType::Bool => {
                type $name = u8;
                $body
            }
            $crate::DType::U32 => {
                type $name = u32;
                $body
            }
        }
    };
}

/// Evaluates the body with the name bound to the Rust type of an integer type or `bool`; the
/// check lets nothing else through to where it is used.
macro_rules! with_integer {
    ($dtype:expr, $name:ident => $body:expr) => {
        match $dtype {
            $crate::DType::I32 => {
                type $name = i32;
                $body
            }
            $crate::DType::I64 => {
                type $name = i64;
                $body
            }
            $crate::DType::U8 | $crate::DType::Bool => {
                type $name = u8;
                $body
            }
            $crate::DType::U32 => {
                type $name = u32;
                $body
            }
            other => unreachable!("{other} is computed elsewhere"),
        }
    };
}

/// Evaluates the body with the name bound to the Rust type of a number type that is computed
/// with: the planner has widened the half types.
macro_rules! with_wide {
    ($dtype:expr, $name:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F32 => {
                type $name = f32;
                $body
            }
            $crate::DType::F64 => {
                type $name = f64;
                $body
            }
            other => $crate::cpu::number::with_integer!(other, $name => $body),
        }
    };
}

pub(super) use {with_integer, with_number, with_wide};
