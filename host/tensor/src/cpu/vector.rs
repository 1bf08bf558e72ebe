//! Vectors of `f32` or `f64`, for kernels that keep their sums in registers.

use std::ops::Range;

use pulp::Simd;

use super::number::Real;
use crate::tensor::Line;

/// Runs a closure that is marked `#[inline(always)]` with the vector instructions that the
/// machine has.
///
/// `pulp` takes closures by value. The compiler then puts a function in between, which need
/// not be inlined and has no such instructions.
#[inline(always)]
pub(super) fn with_vectors(work: impl FnMut()) {
    struct Work<F>(F);
    impl<F: FnMut()> pulp::NullaryFnOnce for Work<F> {
        type Output = ();

        #[inline(always)]
        fn call(mut self) {
            (self.0)();
        }
    }
    pulp::Arch::new().dispatch(Work(work));
}

/// Has the processor bring the line at an address near, without waiting for it; nothing happens
/// where there is no memory.
#[inline(always)]
#[cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "an instruction of the processor")
)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(unused_variables, reason = "there is no such instruction")
)]
pub(super) fn fetch_line<T>(from: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: nothing is read; any address will do.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(from.cast());
    }
}

/// Has the processor bring an element near; nothing happens behind the end.
#[inline(always)]
pub(super) fn fetch<T>(from: &[T], place: usize) {
    fetch_line(from.as_ptr().wrapping_add(place));
}

/// Has the processor bring elements near, line by line, without waiting for them.
#[inline(always)]
pub(super) fn fetch_all<T>(from: &[T], places: Range<usize>) {
    let line = (Line::BYTES / size_of::<T>()).max(1);
    let from = &from[places.start.min(from.len())..places.end.min(from.len())];
    for line in from.chunks(line) {
        fetch(line, 0);
    }
}

/// A float with its vectors on each instruction set.
pub(super) trait Vector: Real {
    type Lanes<S: Simd>: bytemuck::Pod;
    type Mask<S: Simd>: Copy;

    /// Elements of a vector.
    fn lanes<S: Simd>() -> usize;
    fn splat<S: Simd>(simd: S, value: Self) -> Self::Lanes<S>;
    fn add_lanes<S: Simd>(simd: S, a: Self::Lanes<S>, b: Self::Lanes<S>) -> Self::Lanes<S>;
    fn subtract_lanes<S: Simd>(simd: S, a: Self::Lanes<S>, b: Self::Lanes<S>) -> Self::Lanes<S>;
    fn multiply_lanes<S: Simd>(simd: S, a: Self::Lanes<S>, b: Self::Lanes<S>) -> Self::Lanes<S>;
    /// `a * b + c`, rounded once where the machine can.
    fn mul_add<S: Simd>(
        simd: S,
        a: Self::Lanes<S>,
        b: Self::Lanes<S>,
        c: Self::Lanes<S>,
    ) -> Self::Lanes<S>;
    fn sum<S: Simd>(simd: S, a: Self::Lanes<S>) -> Self;
    /// Zero behind the end of the slice.
    fn load_some<S: Simd>(simd: S, from: &[Self]) -> Self::Lanes<S>;
    /// Only as many as the slice holds.
    fn store_some<S: Simd>(simd: S, to: &mut [Self], value: Self::Lanes<S>);
    /// The lanes that are above 0.
    fn mask<S: Simd>(simd: S, a: Self::Lanes<S>) -> Self::Mask<S>;
    /// Zero where the mask is not set.
    fn keep<S: Simd>(simd: S, mask: Self::Mask<S>, a: Self::Lanes<S>) -> Self::Lanes<S>;
}

macro_rules! vector {
    ($float:ident, $lanes:ident, $mask:ident, $count:ident:
     $splat:ident $add:ident $subtract:ident $multiply:ident $mul_add:ident $sum:ident $load:ident $store:ident
     $above:ident $select:ident $zero:ident) => {
        impl Vector for $float {
            type Lanes<S: Simd> = S::$lanes;
            type Mask<S: Simd> = S::$mask;

            #[inline(always)]
            fn lanes<S: Simd>() -> usize {
                S::$count
            }

            #[inline(always)]
            fn splat<S: Simd>(simd: S, value: Self) -> S::$lanes {
                simd.$splat(value)
            }

            #[inline(always)]
            fn add_lanes<S: Simd>(simd: S, a: S::$lanes, b: S::$lanes) -> S::$lanes {
                simd.$add(a, b)
            }

            #[inline(always)]
            fn subtract_lanes<S: Simd>(simd: S, a: S::$lanes, b: S::$lanes) -> S::$lanes {
                simd.$subtract(a, b)
            }

            #[inline(always)]
            fn multiply_lanes<S: Simd>(simd: S, a: S::$lanes, b: S::$lanes) -> S::$lanes {
                simd.$multiply(a, b)
            }

            #[inline(always)]
            fn mul_add<S: Simd>(simd: S, a: S::$lanes, b: S::$lanes, c: S::$lanes) -> S::$lanes {
                simd.$mul_add(a, b, c)
            }

            #[inline(always)]
            fn sum<S: Simd>(simd: S, a: S::$lanes) -> Self {
                simd.$sum(a)
            }

            #[inline(always)]
            fn load_some<S: Simd>(simd: S, from: &[Self]) -> S::$lanes {
                simd.$load(from)
            }

            #[inline(always)]
            fn store_some<S: Simd>(simd: S, to: &mut [Self], value: S::$lanes) {
                simd.$store(to, value);
            }

            #[inline(always)]
            fn mask<S: Simd>(simd: S, a: S::$lanes) -> S::$mask {
                simd.$above(a, simd.$splat(0.0))
            }

            #[inline(always)]
            fn keep<S: Simd>(simd: S, mask: S::$mask, a: S::$lanes) -> S::$lanes {
                let bits = simd.$select(mask, bytemuck::cast(a), simd.$zero(0));
                bytemuck::cast(bits)
            }
        }
    };
}

vector!(f32, f32s, m32s, F32_LANES:
    splat_f32s add_f32s sub_f32s mul_f32s mul_add_e_f32s reduce_sum_f32s partial_load_f32s partial_store_f32s
    greater_than_f32s select_u32s splat_u32s);
vector!(f64, f64s, m64s, F64_LANES:
    splat_f64s add_f64s sub_f64s mul_f64s mul_add_e_f64s reduce_sum_f64s partial_load_f64s partial_store_f64s
    greater_than_f64s select_u64s splat_u64s);
