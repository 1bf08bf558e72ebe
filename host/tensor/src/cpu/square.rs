//! Squares of elements whose rows and columns are exchanged in registers: what turns a matrix
//! around fastest.

use super::vector::Vector;

/// Rows and columns of a square: as many singles as the widest vectors have.
pub(super) const SIDE: usize = 16;

/// Writes `rows x columns` elements, at most a square, with rows and columns exchanged.
///
/// The rows of `from` begin `from_step` apart, which is 0 when all are the same, the `columns`
/// rows of `to` `to_step`.
///
/// # Panics
/// When either slice is shorter.
#[inline(always)]
pub(super) fn turn<T: Vector>(
    (from, from_step): (&[T], usize),
    [rows, columns]: [usize; 2],
    (to, to_step): (&mut [T], usize),
) {
    assert!((1..=SIDE).contains(&rows) && (1..=SIDE).contains(&columns));
    assert!((rows - 1) * from_step + columns <= from.len());
    assert!((columns - 1) * to_step + rows <= to.len());
    #[cfg(target_arch = "x86_64")]
    if size_of::<T>() == size_of::<f32>()
        && let Some(simd) = pulp::x86::V4::try_new()
    {
        let from = (bytemuck::cast_slice(from), from_step);
        let to = (bytemuck::cast_slice_mut(to), to_step);
        #[expect(unsafe_code, reason = "loads and stores without a bounds check each")]
        // SAFETY: all elements are inside, as just asserted.
        return unsafe { turn_singles(simd, from, [rows, columns], to) };
    }
    for row in 0..rows {
        let of_row = &from[row * from_step..][..columns];
        for (column, &element) in of_row.iter().enumerate() {
            to[column * to_step + row] = element;
        }
    }
}

/// In registers: pairs of rows are interleaved, then pairs of those, then quarters are put
/// in their places.
///
/// # Safety
/// Rows and columns are at most a square, and inside of both slices.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[expect(unsafe_code, reason = "loads and stores without a bounds check each")]
unsafe fn turn_singles(
    simd: pulp::x86::V4,
    (from, from_step): (&[f32], usize),
    [rows, columns]: [usize; 2],
    (to, to_step): (&mut [f32], usize),
) {
    let zero = simd.avx512f._mm512_setzero_ps();
    let mut square = [zero; SIDE];
    let is_whole = [rows, columns] == [SIDE, SIDE];
    let first = |count: usize| u16::MAX >> (SIDE - count);
    for (row, vector) in square.iter_mut().enumerate() {
        let start = from.as_ptr().wrapping_add(row * from_step);
        *vector = if is_whole {
            // SAFETY: the caller's promise.
            unsafe { simd.avx512f._mm512_loadu_ps(start) }
        } else if row < rows {
            // SAFETY: the caller's promise; only `columns` elements are read.
            unsafe { simd.avx512f._mm512_maskz_loadu_ps(first(columns), start) }
        } else {
            zero
        };
    }
    let square = exchanged(simd, square);
    for (column, vector) in square.into_iter().enumerate() {
        let start = to.as_mut_ptr().wrapping_add(column * to_step);
        if is_whole {
            // SAFETY: the caller's promise.
            unsafe { simd.avx512f._mm512_storeu_ps(start, vector) };
        } else if column < columns {
            // SAFETY: the caller's promise; only `rows` elements are written.
            unsafe {
                simd.avx512f
                    ._mm512_mask_storeu_ps(start, first(rows), vector);
            };
        }
    }
}

/// The columns of a square of rows.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn exchanged(
    simd: pulp::x86::V4,
    mut a: [std::arch::x86_64::__m512; SIDE],
) -> [std::arch::x86_64::__m512; SIDE] {
    let simd = simd.avx512f;
    let mut b = a;
    for place in (0..SIDE).step_by(2) {
        b[place] = simd._mm512_unpacklo_ps(a[place], a[place + 1]);
        b[place + 1] = simd._mm512_unpackhi_ps(a[place], a[place + 1]);
    }
    for place in (0..SIDE).step_by(4) {
        for side in 0..2 {
            let x = simd._mm512_castps_pd(b[place + side]);
            let y = simd._mm512_castps_pd(b[place + side + 2]);
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
    a
}

#[cfg(test)]
mod tests {
    use super::{SIDE, turn};
    use crate::cpu::vector::{Vector, with_vectors};

    /// Turns every part of a square around, in larger slices, and looks at each element.
    fn every_part_is_turned<T: Vector + std::fmt::Debug>(number: impl Fn(usize) -> T) {
        let to_step = SIDE + 1;
        for (from_step, rows) in [0, 1, SIDE + 3]
            .into_iter()
            .flat_map(|step| (1..=SIDE).map(move |rows| (step, rows)))
        {
            for columns in 1..=SIDE {
                let from: Vec<T> = (0..(rows - 1) * from_step + columns).map(&number).collect();
                let before: Vec<T> = (1000..1000 + (columns - 1) * to_step + rows)
                    .map(&number)
                    .collect();
                let mut to = before.clone();
                with_vectors(
                    #[inline(always)]
                    || turn((&from, from_step), [rows, columns], (&mut to, to_step)),
                );
                for (place, (&found, &before)) in to.iter().zip(&before).enumerate() {
                    let (column, row) = (place / to_step, place % to_step);
                    let expected = if row < rows {
                        from[row * from_step + column]
                    } else {
                        before
                    };
                    assert_eq!(found, expected, "{rows} x {columns} at {row}, {column}");
                }
            }
        }
    }

    #[test]
    fn rows_and_columns_are_exchanged_and_nothing_else_is_written() {
        every_part_is_turned(|number| number as f32);
        every_part_is_turned(|number| number as f64);
    }

    #[test]
    #[should_panic(expected = "to.len()")]
    fn a_slice_that_is_too_short_is_not_written_beyond() {
        turn(
            (&[0.0_f32; 256], SIDE),
            [SIDE, SIDE],
            (&mut [0.0; 255], SIDE),
        );
    }
}
