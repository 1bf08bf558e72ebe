//! Which kernels share one pass over a large matrix.

use crate::cpu::{Kernel, Sweep, ValueId};

/// How many kernels after a product its counterpart is looked for.
const MOST_BETWEEN: usize = 32;

/// Joins products with a large matrix, elementwise work on the result, and products of the
/// transposed matrix with what came of that. `replacing` are values that may be written over a
/// state, which is not done in a sweep.
pub(super) fn sweep(kernels: Vec<Kernel>, replacing: &[ValueId]) -> Vec<Kernel> {
    let mut left: Vec<Option<Kernel>> = kernels.into_iter().map(Some).collect();
    let mut ordered = Vec::with_capacity(left.len());
    for first in 0..left.len() {
        let end = (first + 2 + MOST_BETWEEN).min(left.len());
        let window = &mut left[first..end];
        if let Some(places) = places(window, replacing) {
            let mut inside = Vec::with_capacity(places.len());
            for (kernel, place) in window.iter_mut().zip(places) {
                match place {
                    Place::Before => ordered.extend(kernel.take()),
                    Place::Inside => inside.extend(kernel.take()),
                    Place::After => {}
                }
            }
            ordered.push(Kernel::Sweep(Box::new(Sweep::new(inside))));
        }
        ordered.extend(left[first].take());
    }
    ordered
}

/// Where a kernel runs when a sweep is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the sweep: it needs nothing of it.
    Before,
    Inside,
    /// After the sweep, which does not need it.
    After,
}

/// The places of kernels from a product to its counterpart, if they are to become a sweep.
fn places(kernels: &[Option<Kernel>], replacing: &[ValueId]) -> Option<Vec<Place>> {
    let first = kernels.first()?.as_ref()?;
    let mut counterparts = kernels
        .iter()
        .enumerate()
        .skip(1)
        .filter_map(|(at, kernel)| {
            let kernel = kernel.as_ref()?;
            Some((at, kernel, Sweep::rows(first, kernel)?))
        });
    let (end, last, rows) = counterparts.next()?;

    let mut places = vec![Place::Before; end + 1];
    let mut derived = first.writes();
    for (place, kernel) in places.iter_mut().zip(kernels).skip(1) {
        if let Some(kernel) = kernel
            && kernel.reads().iter().any(|value| derived.contains(value))
        {
            derived.extend(kernel.writes());
            *place = Place::After;
        }
    }
    if places[end] == Place::Before {
        return None;
    }

    let (mut needed, mut written) = (last.reads(), first.writes());
    let mut between = Vec::new();
    for (place, kernel) in places[..end].iter_mut().zip(kernels).skip(1).rev() {
        if let Some(kernel) = kernel
            && *place == Place::After
            && kernel.writes().iter().any(|value| needed.contains(value))
        {
            needed.extend(kernel.reads());
            written.extend(kernel.writes());
            between.push(kernel);
            *place = Place::Inside;
        }
    }
    (places[0], places[end]) = (Place::Inside, Place::Inside);

    let by_row = |kernel: &&Kernel| match kernel {
        Kernel::Fused(fused) => {
            fused.elements == rows && written.iter().all(|&value| fused.reads_in_order(value))
        }
        Kernel::Plain(_) | Kernel::Sweep(_) => false,
    };
    let fits = between.iter().all(by_row) && !written.iter().any(|value| replacing.contains(value));
    fits.then_some(places)
}

#[cfg(test)]
mod tests {
    use crate::cpu::Kernel;
    use crate::{Attribute, Budget, Program, Value};

    /// `x^T f(x w)`, with or without a look at all of `f(x w)` in between.
    fn kernels(rows: i64, looks: bool) -> Vec<Kernel> {
        let mut program = Program::default();
        let list = |sizes: &[i64]| Attribute::Integers(sizes.to_vec());
        let [x, w]: [Value; 2] = [vec![rows, 32], vec![32]].map(|shape| {
            let index = program.instructions.len() as i64;
            let attributes = [
                ("index", index.into()),
                ("dtype", "f32".into()),
                ("shape", Attribute::Integers(shape)),
            ];
            program.push("input", &[], &attributes)
        });
        let product = |program: &mut Program, operands: &[Value], axis| {
            let attributes = [
                ("lhs-batch", list(&[])),
                ("rhs-batch", list(&[])),
                ("lhs-contract", list(&[axis])),
                ("rhs-contract", list(&[0])),
            ];
            program.push("dot-general", operands, &attributes)
        };
        let products = product(&mut program, &[x, w], 1);
        let mut factors = program.push("tanh", &[products], &[]);
        if looks {
            factors = program.push("softmax", &[factors], &[("axis", 0.into())]);
        }
        let sums = product(&mut program, &[x, factors], 0);
        program.outputs.push(sums);
        let compiled = crate::plan::compile(&program, &Budget::new(1 << 30));
        compiled.expect("the program is right").kernels
    }

    #[test]
    fn a_large_matrix_is_read_once() {
        assert!(matches!(&*kernels(20_000, false), [Kernel::Sweep(_)]));
    }

    #[test]
    fn a_matrix_that_stays_in_the_cache_is_read_twice() {
        assert_eq!(kernels(10_000, false).len(), 3);
    }

    #[test]
    fn a_matrix_is_read_twice_when_all_rows_are_needed_in_between() {
        assert_eq!(kernels(20_000, true).len(), 4);
    }
}
