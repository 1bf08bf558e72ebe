//! Steps of optimizers that keep averages of gradients and of their squares, as Adam: one pass
//! over the elements, which waits for the square roots and the quotients alone.

use super::number::Real;
use super::vector::fetch_line;

/// What a step reads, or where from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moments<T> {
    pub(crate) gradient: T,
    pub(crate) average: T,
    pub(crate) squares: T,
    pub(crate) parameter: T,
}

impl<T> Moments<T> {
    /// The gradient, the average, the squares and the parameter.
    pub(crate) fn all(self) -> [T; 4] {
        [self.gradient, self.average, self.squares, self.parameter]
    }
}

/// What is the same for all elements: the letters of [`step`], in their order.
pub(super) type Factors<T> = [T; FACTORS];

pub(crate) const FACTORS: usize = 8;

/// Elements that are computed together, of a cache line in single precision.
const TOGETHER: usize = 16;

/// How many elements ahead operands are fetched: as far as the processor does not get by
/// itself.
const AHEAD: usize = 512;

/// Each result as the operations apart would round it:
///
/// ```text
/// average = (average * b + gradient * c + e) - e
/// squares = squares * d + gradient * gradient * f
/// parameter = parameter - (average / (sqrt(squares) * g + h)) * i
/// ```
#[inline(always)]
fn step<T: Real>([b, c, e, d, f, g, h, i]: Factors<T>, [x, m, v, p]: [T; 4]) -> [T; 3] {
    let m = m.multiply(b).add(x.multiply(c)).add(e).subtract(e);
    let v = v.multiply(d).add(x.multiply(x).multiply(f));
    let divisor = v.sqrt().multiply(g).add(h);
    [m, v, p.subtract(m.divide(divisor).multiply(i))]
}

/// Writes the average, the squares and the parameter that follow, `count` elements of each. A
/// result may take the place of an operand. With `is_far`, what is read next is fetched.
///
/// # Safety
/// All elements must be valid, and used by nobody else; operands and results are the same
/// elements or do not overlap.
#[inline(always)]
#[expect(unsafe_code, reason = "results take the place of operands")]
pub(super) unsafe fn run<T: Real>(
    factors: Factors<T>,
    from: [*const T; 4],
    to: [*mut T; 3],
    count: usize,
    is_far: bool,
) {
    let whole = count / TOGETHER * TOGETHER;
    for place in (0..whole).step_by(TOGETHER) {
        let mut old = [[T::ZERO; TOGETHER]; 4];
        for number in 0..4 {
            let start = from[number].wrapping_add(place);
            if is_far {
                fetch_line(start.wrapping_add(AHEAD));
            }
            // SAFETY: the caller's promise.
            old[number] = unsafe { start.cast::<[T; TOGETHER]>().read_unaligned() };
        }
        let mut new = [[T::ZERO; TOGETHER]; 3];
        for lane in 0..TOGETHER {
            let of_lane = [old[0][lane], old[1][lane], old[2][lane], old[3][lane]];
            [new[0][lane], new[1][lane], new[2][lane]] = step(factors, of_lane);
        }
        for number in 0..3 {
            let start = to[number].wrapping_add(place);
            // SAFETY: the caller's promise.
            unsafe { start.cast::<[T; TOGETHER]>().write_unaligned(new[number]) };
        }
    }
    for place in whole..count {
        // SAFETY: the caller's promise.
        let old = from.map(|from| unsafe { *from.add(place) });
        for (new, to) in step(factors, old).into_iter().zip(to) {
            // SAFETY: the caller's promise.
            unsafe { *to.add(place) = new };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{run, step};

    #[test]
    fn results_may_take_the_places_of_operands() {
        let factors = [0.9_f32, 0.1, 0.0, 0.99, 0.01, 1.5, 1e-8, 0.001];
        let numbers = |seed: usize| (0..37).map(move |place| (place * seed % 11) as f32 + 0.5);
        let gradient: Vec<f32> = numbers(1).collect();
        let mut states: [Vec<f32>; 3] = [2, 3, 4].map(|seed| numbers(seed).collect());
        let expected: Vec<[f32; 3]> = (0..gradient.len())
            .map(|place| {
                let [m, v, p] = [0, 1, 2].map(|state: usize| states[state][place]);
                step(factors, [gradient[place], m, v, p])
            })
            .collect();
        let [m, v, p] = states.each_mut().map(Vec::as_mut_ptr);
        let from = [
            gradient.as_ptr(),
            m.cast_const(),
            v.cast_const(),
            p.cast_const(),
        ];
        #[expect(unsafe_code, reason = "what is tested is unsafe")]
        // SAFETY: all are as long, and used by nobody else.
        unsafe {
            run(factors, from, [m, v, p], gradient.len(), true);
        }
        for (place, expected) in expected.iter().enumerate() {
            let found = [0, 1, 2].map(|state: usize| states[state][place]);
            assert_eq!(found, *expected, "at {place}");
        }
    }
}
