//! The table of pictures.

use trainshed_sdk::graph::evaluate;
use trainshed_sdk::{DType, Dataset, Failure, Tensor};

/// Every picture of the data set, in host memory.
pub(crate) struct Pictures {
    pub(crate) rows: u32,
    /// Their side, in pixels.
    pub(crate) side: usize,
    /// The greatest value of any pixel.
    pub(crate) greatest: f64,
    /// `f32 [rows, side * side]`.
    pub(crate) x: Tensor,
    /// `i32 [rows, 1]`, each in `0..classes`.
    pub(crate) labels: Tensor,
    pub(crate) classes: usize,
}

/// A recogniser of digits has few classes; more mean that `label` is something else.
const MAX_CLASSES: u32 = 1000;

impl Pictures {
    pub(crate) fn load(dataset: &Dataset) -> Result<Self, Failure> {
        let table = dataset.table(None)?;
        let pixels = table.columns_with_prefix("pixel_")?;
        let side = side_of(pixels.len())?;
        let x = table.load(&pixels, DType::F32)?;
        let labels = table.load(&["label"], DType::I32)?;
        let rows = u32::try_from(table.rows)
            .map_err(|_| Failure::failed(format!("{} has too many rows", table.path)))?;
        if rows < 2 {
            return Err(Failure::failed(format!(
                "{} must have at least 2 rows, to learn from and to judge by, but it has {rows}",
                table.path
            )));
        }
        let extremes = evaluate(&[&x, &labels], |_, inputs| {
            let [pixels, labels] = [&inputs[0], &inputs[1]];
            vec![
                pixels.abs().max(&[0, 1]),
                labels.min(&[0, 1]),
                labels.max(&[0, 1]),
            ]
        })?;
        let [greatest, low, high] = [0, 1, 2].map(|index: usize| extremes[index].item());
        if low < 0.0 || high >= MAX_CLASSES.into() {
            return Err(Failure::failed(format!(
                "`label` must be 0 to {}, but it goes from {low} to {high}",
                MAX_CLASSES - 1
            )));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number from 0 to 999"
        )]
        let classes = high as usize + 1;
        Ok(Self {
            rows,
            side,
            greatest: if greatest > 0.0 { greatest } else { 1.0 },
            x,
            labels,
            classes,
        })
    }
}

/// The side of square pictures of so many pixels.
fn side_of(pixels: usize) -> Result<usize, Failure> {
    let side = pixels.isqrt();
    if side * side == pixels {
        return Ok(side);
    }
    Err(Failure::failed(format!(
        "the pictures must be squares, but the table has {pixels} columns `pixel_…`"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_squares() {
        assert_eq!(side_of(64), Ok(8));
        let message = "the pictures must be squares, but the table has 63 columns `pixel_…`";
        assert_eq!(side_of(63), Err(Failure::failed(message)));
    }
}
