//! Squares of elements whose rows and columns are exchanged in registers: what turns a matrix
//! around fastest.

use super::vector::Vector;

/// Rows and columns of a square: as many singles as the widest vectors have.
pub(super) const SIDE: usize = 16;

/// Copies as many elements as both have.
#[inline(always)]
pub(super) fn put<T: Copy>(from: &[T], to: &mut [T]) {
    match (from.first_chunk::<SIDE>(), to.first_chunk_mut::<SIDE>()) {
        (Some(from), Some(to)) => *to = *from,
        _ => {
            for (to, &from) in to.iter_mut().zip(from) {
                *to = from;
            }
        }
    }
}

/// Exchanges rows and columns.
#[inline(always)]
pub(super) fn exchange<T: Vector>(square: &mut [[T; SIDE]; SIDE]) {
    #[cfg(target_arch = "x86_64")]
    if let Ok(square) = bytemuck::try_cast_mut(square)
        && let Some(simd) = pulp::x86::V4::try_new()
    {
        return exchange_singles(simd, square);
    }
    #[expect(
        clippy::needless_range_loop,
        reason = "elements of two rows change places"
    )]
    for row in 0..SIDE {
        for column in 0..row {
            let element = square[row][column];
            square[row][column] = square[column][row];
            square[column][row] = element;
        }
    }
}

/// In registers: pairs of rows are interleaved, then pairs of those, then quarters are put
/// in their places.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[expect(unsafe_code, reason = "arrays and vectors are the same bits")]
fn exchange_singles(simd: pulp::x86::V4, square: &mut [[f32; SIDE]; SIDE]) {
    use std::arch::x86_64::{__m512, __m512d};
    let simd = simd.avx512f;
    // SAFETY: 16 floats are a vector, 16 of them 16 vectors, and no bits are invalid.
    let mut a: [__m512; SIDE] = unsafe { std::mem::transmute(*square) };
    let mut b = a;
    for place in (0..SIDE).step_by(2) {
        b[place] = simd._mm512_unpacklo_ps(a[place], a[place + 1]);
        b[place + 1] = simd._mm512_unpackhi_ps(a[place], a[place + 1]);
    }
    let wide = |x: __m512| -> __m512d { simd._mm512_castps_pd(x) };
    for place in (0..SIDE).step_by(4) {
        for side in 0..2 {
            let (x, y) = (wide(b[place + side]), wide(b[place + side + 2]));
            a[place + 2 * side] = simd._mm512_castpd_ps(simd._mm512_unpacklo_pd(x, y));
            a[place + 2 * side + 1] = simd._mm512_castpd_ps(simd._mm512_unpackhi_pd(x, y));
        }
    }
    for half in [0, 8] {
        for place in half..half + 4 {
            b[place] = simd._mm512_shuffle_f32x4::<0x88>(a[place], a[place + 4]);
            b[place + 4] = simd._mm512_shuffle_f32x4::<0xdd>(a[place], a[place + 4]);
        }
    }
    for place in 0..8 {
        a[place] = simd._mm512_shuffle_f32x4::<0x88>(b[place], b[place + 8]);
        a[place + 8] = simd._mm512_shuffle_f32x4::<0xdd>(b[place], b[place + 8]);
    }
    // SAFETY: as above.
    *square = unsafe { std::mem::transmute::<[__m512; SIDE], [[f32; SIDE]; SIDE]>(a) };
}
