//! What kernels need to know of an element type.

use bytemuck::Pod;

/// Arithmetic as `docs/programs.md` defines it: integers wrap around.
pub(super) trait Number: Pod + PartialOrd + Send + Sync {
    const IS_FLOAT: bool;
    const ZERO: Self;
    const LOWEST: Self;
    const HIGHEST: Self;
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
    fn to_f32(self) -> f32;
    fn to_i64(self) -> i64;
    /// Truncates and saturates; NaN gives 0.
    fn from_f32(value: f32) -> Self;
    /// Wraps around.
    fn from_i64(value: i64) -> Self;
}

impl Number for f32 {
    const IS_FLOAT: bool = true;
    const ZERO: Self = 0.0;
    const LOWEST: Self = Self::NEG_INFINITY;
    const HIGHEST: Self = Self::INFINITY;

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
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "saturates by definition")]
    fn to_i64(self) -> i64 {
        self as i64
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn from_i64(value: i64) -> Self {
        value as f32
    }
}

macro_rules! integer_number {
    ($($integer:ident: $absolute:expr, $sign:expr;)*) => {$(
        impl Number for $integer {
            const IS_FLOAT: bool = false;
            const ZERO: Self = 0;
            const LOWEST: Self = Self::MIN;
            const HIGHEST: Self = Self::MAX;

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
            fn to_f32(self) -> f32 {
                self as f32
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
            fn from_f32(value: f32) -> Self {
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

pub(super) use with_number;
