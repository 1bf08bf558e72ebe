//! What is done to data between the data set and the model: normalisation, and random changes
//! that make few examples more.
//!
//! All of it becomes part of the recorded program, so that no element passes through the
//! plugin. Random operations take a key (`u32 [2]`, an input of the program: the run's seed and
//! the step, say) and the number of a stream; with one key, operations of different streams
//! are independent, and the same key gives the same changes.
//!
//! ```
//! use trainshed_sdk::DType;
//! use trainshed_sdk::augment::{self, Moments};
//! use trainshed_sdk::graph::Graph;
//!
//! let graph = Graph::new();
//! let images = graph.input("images", DType::U8, &[32, 28, 28, 1]);
//! let key = graph.input("key", DType::U32, &[2]);
//! let x = augment::image_input(&images);
//! let x = augment::random_crop(&x, &key, 0, 2);
//! let x = augment::random_flip(&x, &key, 2, 0.5);
//! let moments = Moments { mean: vec![0.13], deviation: vec![0.31] };
//! let x = moments.standardize(&x, 1);
//! assert_eq!(x.shape(), [32, 1, 28, 28]);
//! assert!(graph.finish().is_ok());
//! ```

use crate::compute::Batches;
use crate::graph::{Graph, Var};
use crate::{DType, ProgramError, Tensor};

/// Images as a data set has them, `u8 [N, H, W, C]`, as convolutions take them:
/// `f32 [N, C, H, W]` from 0 to 1.
pub fn image_input(images: &Var) -> Var {
    if images.dtype() != DType::U8 || images.shape().len() != 4 {
        return images.refused("image_input", "images of u8 [N, H, W, C]");
    }
    let scaled = images.convert(DType::F32) * (1.0 / 255.0);
    scaled.transpose(&[0, 3, 1, 2])
}

/// Mirrors each of `images` (`[N, …, W]`) left to right with this probability. Uses one stream.
pub fn random_flip(images: &Var, key: &Var, stream: u32, probability: f64) -> Var {
    let shape = images.shape();
    if shape.len() < 2 {
        return images.refused("random_flip", "images of [N, …, W]");
    }
    let mirrored = images.reverse(&[shape.len() - 1]);
    let mut flags_shape = vec![1; shape.len()];
    flags_shape[0] = shape[0];
    let flags = key.random_bernoulli(probability, &shape[..1], stream);
    let flags = flags.reshape(&flags_shape);
    flags.broadcast_to(shape).select(&mirrored, images)
}

/// Moves each of `images` (`[N, C, H, W]`) by up to `padding` pixels in each direction; 0 comes
/// in from outside. Uses two streams, `stream` and the next.
pub fn random_crop(images: &Var, key: &Var, stream: u32, padding: u32) -> Var {
    let &[count, channels, height, width] = images.shape() else {
        return images.refused("random_crop", "images of [N, C, H, W]");
    };
    let graph = images.graph();
    let around = i64::from(padding);
    let sides = [0, 0, around, around];
    let padded = images.pad(0.0, &sides, &sides, &[0; 4]);
    let wide = padded.shape().get(3).copied().unwrap_or(width);

    // Each image has its own offset, so each reads its own rows, then its own columns.
    let places = f64::from(padding) * 2.0 + 1.0;
    let offsets = |stream: u32| {
        let uniform = key.random_uniform(DType::F32, &[count], stream);
        // Rounding may reach the end of the range, which is one too far.
        let last = graph.full(DType::F32, &[], places - 1.0);
        // Not negative, so that the conversion rounds down.
        let whole = (uniform * places).minimum(&last).convert(DType::I32);
        whole.reshape(&[count, 1, 1, 1])
    };
    let taken = |data: &Var, axis: usize, shape: &[usize], stream: u32| {
        let indices = graph.iota(DType::I32, shape, axis) + offsets(stream);
        data.take_along_axis(&indices, axis)
    };
    let rows = taken(&padded, 2, &[count, channels, height, wide], stream);
    taken(&rows, 3, images.shape(), stream.wrapping_add(1))
}

/// Adds normal noise of this standard deviation to every element. Uses one stream.
pub fn noise(x: &Var, key: &Var, stream: u32, deviation: f64) -> Var {
    if x.dtype() != DType::F32 {
        return x.refused("noise", "f32");
    }
    x + key.random_normal(DType::F32, x.shape(), stream) * deviation
}

/// Mean and standard deviation of each column, or of each channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// The mean of each.
    pub mean: Vec<f32>,
    /// The standard deviation of each, with the number of values as divisor.
    pub deviation: Vec<f32>,
}

/// How many elements are summed up at once, unless one row has more.
const ELEMENTS_AT_ONCE: usize = 1 << 18;

impl Moments {
    /// Those along the last axis of `data`, of columns (`[rows, columns]`) or of channels
    /// (`[rows, H, W, C]`), over `rows` of it: the rows to learn from, never those to judge by.
    ///
    /// Each part's moments are computed in the host, in `f64` where `data` has more digits than
    /// `f32` holds, and combined here.
    ///
    /// Source: T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise
    /// algorithm for computing sample variances", COMPSTAT 1982, section 2.
    ///
    /// # Errors
    /// When there are no rows or only one axis, or memory is used up.
    pub fn of(data: &Tensor, rows: &[u32]) -> Result<Self, ProgramError> {
        let shape = data.shape();
        let (Some(&width), true) = (shape.last(), shape.len() > 1) else {
            return Err(ProgramError::InvalidArgument(format!(
                "moments are taken of rows of columns, but the shape is {shape:?}"
            )));
        };
        if rows.is_empty() {
            return Err(ProgramError::InvalidArgument(
                "moments are taken of at least one row, but there is none".to_owned(),
            ));
        }
        let mut total = 0.0;
        let mut mean = vec![0.0; width];
        let mut squares = vec![0.0; width];
        let elements: usize = shape[1..].iter().product();
        let at_once = (ELEMENTS_AT_ONCE / elements.max(1)).clamp(1, rows.len());
        let (whole, rest) = rows.split_at(rows.len() - rows.len() % at_once);
        for part in [whole, rest] {
            let size = part.len().min(at_once);
            if size == 0 {
                continue;
            }
            let batch_shape = [&[size], &shape[1..]].concat();
            let session = record(data.dtype(), &batch_shape).compile()?.bind(&[])?;
            let count: usize = batch_shape[..batch_shape.len() - 1].iter().product();
            #[expect(clippy::cast_precision_loss, reason = "a batch has few elements")]
            let count = count as f64;
            let size = u32::try_from(size).unwrap_or(u32::MAX);
            let batches = Batches::new(&[data], part, size, false)?;
            while let Some(outputs) = session.run_batch(&batches, &[])? {
                let (means, variances) = (outputs[0].to_f64s()?, outputs[1].to_f64s()?);
                let sum = total + count;
                for (place, (batch_mean, variance)) in means.into_iter().zip(variances).enumerate()
                {
                    let distance = batch_mean - mean[place];
                    mean[place] += distance * count / sum;
                    squares[place] += variance * count + distance * distance * total * count / sum;
                }
                total = sum;
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "rounding is meant")]
        let round = |numbers: Vec<f64>| numbers.into_iter().map(|number| number as f32).collect();
        Ok(Self {
            mean: round(mean),
            deviation: round(squares.iter().map(|sum| (sum / total).sqrt()).collect()),
        })
    }

    /// `x` with a mean of 0 and a deviation of 1 along `axis`: 1 for columns and for what
    /// [`image_input`] gives. What does not vary becomes 0.
    pub fn standardize(&self, x: &Var, axis: usize) -> Var {
        let size = x.shape().get(axis).copied();
        if x.dtype() != DType::F32
            || size != Some(self.mean.len())
            || self.mean.len() != self.deviation.len()
        {
            let expected = format!("f32 with {} values along axis {axis}", self.mean.len());
            return x.refused("standardize", &expected);
        }
        let mut shape = vec![1; x.shape().len()];
        shape[axis] = self.mean.len();
        let inverse: Vec<f32> = self
            .deviation
            .iter()
            .map(|deviation| {
                if *deviation > 0.0 {
                    deviation.recip()
                } else {
                    1.0
                }
            })
            .collect();
        let mean = x.graph().constant(&shape, &self.mean);
        let inverse = x.graph().constant(&shape, &inverse);
        (x - mean) * inverse
    }
}

/// The mean, and the mean squared distance from it, along the last axis.
fn record(dtype: DType, shape: &[usize]) -> Graph {
    let graph = Graph::new();
    let wide = match dtype {
        DType::F64 | DType::I32 | DType::I64 | DType::U32 => DType::F64,
        DType::F32 | DType::Bf16 | DType::F16 | DType::U8 | DType::Bool => DType::F32,
    };
    let x = graph.input("x", dtype, shape).convert(wide);
    let axes: Vec<usize> = (0..shape.len() - 1).collect();
    let mean = x.mean(&axes);
    let variance = (&x - &mean).square().mean(&axes);
    graph.output(&mean);
    graph.output(&variance);
    graph
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Compares the instructions that `record` adds, with their shapes' attributes left out.
    #[track_caller]
    fn check(shape: &[usize], record: impl FnOnce(&Var, &Var) -> Var, expected: Expect) {
        let graph = Graph::new();
        let images = graph.input("images", DType::F32, shape);
        let key = graph.input("key", DType::U32, &[2]);
        let result = record(&images, &key);
        graph.output(&result);
        let text = match graph.finish() {
            Ok(program) => {
                let added = program.instructions.iter().skip(2);
                let ops: Vec<&str> = added.map(|instruction| instruction.op.as_str()).collect();
                format!("{:?} {}", result.shape(), ops.join(" "))
            }
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn changes_keep_the_shape() {
        check(
            &[2, 1, 4, 4],
            |images, key| random_flip(images, key, 0, 0.5),
            expect!["[2, 1, 4, 4] reverse random-bernoulli reshape broadcast select"],
        );
        check(
            &[2, 1, 4, 4],
            |images, key| random_crop(images, key, 0, 1),
            expect![
                "[2, 1, 4, 4] constant pad iota random-uniform constant constant multiply broadcast minimum convert reshape broadcast add take-along-axis iota random-uniform constant constant multiply broadcast minimum convert reshape broadcast add take-along-axis"
            ],
        );
        check(
            &[2, 3],
            |images, key| noise(images, key, 0, 0.1),
            expect!["[2, 3] random-normal constant multiply add"],
        );
    }

    #[test]
    fn what_does_not_fit_is_a_mistake() {
        check(
            &[2, 3],
            |images, key| random_crop(images, key, 0, 1),
            expect![
                "instruction 2: `random_crop` takes images of [N, C, H, W], but got f32 [2, 3]"
            ],
        );
        check(
            &[2, 3],
            |images, _| image_input(images),
            expect![
                "instruction 2: `image_input` takes images of u8 [N, H, W, C], but got f32 [2, 3]"
            ],
        );
        let moments = Moments {
            mean: vec![0.0; 2],
            deviation: vec![1.0; 2],
        };
        check(
            &[2, 3],
            |images, _| moments.standardize(images, 1),
            expect![
                "instruction 2: `standardize` takes f32 with 2 values along axis 1, but got f32 [2, 3]"
            ],
        );
    }
}
