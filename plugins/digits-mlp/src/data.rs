//! The table of digits.

use trainshed_sdk::{DType, Dataset, Failure, Tensor};

/// Every digit of the data set, in host memory.
pub(crate) struct Digits {
    pub(crate) rows: u32,
    /// The names of the columns with pixels.
    pub(crate) pixels: Vec<String>,
    /// `f32 [rows, pixels]`.
    pub(crate) x: Tensor,
    /// `i32 [rows, 1]`, each in `0..classes`.
    pub(crate) labels: Tensor,
    pub(crate) classes: usize,
}

/// A digit recogniser has few classes; more mean that `label` is something else.
const MAX_CLASSES: usize = 1000;

impl Digits {
    pub(crate) fn load(dataset: &Dataset) -> Result<Self, Failure> {
        let table = dataset.table(None)?;
        let pixels = table.columns_with_prefix("pixel_")?;
        let x = table.load(&pixels, DType::F32)?;
        let labels = table.load(&["label"], DType::I32)?;
        let classes = classes_of(&labels.to_vec()?)?;
        let rows = u32::try_from(table.rows)
            .map_err(|_| Failure::failed(format!("{} has too many rows", table.path)))?;
        Ok(Self {
            rows,
            pixels,
            x,
            labels,
            classes,
        })
    }

    /// The number of `rows`, which must not be none.
    pub(crate) fn row_count(&self, rows: &[u32]) -> Result<u32, Failure> {
        match u32::try_from(rows.len()) {
            Ok(0) | Err(_) => Err(Failure::failed(format!(
                "{} rows are too few to divide into those to learn from and those to judge by",
                self.rows
            ))),
            Ok(count) => Ok(count),
        }
    }

    /// The side of the pictures, when they are squares.
    pub(crate) fn side(&self) -> Option<u32> {
        let side = self.pixels.len().isqrt();
        (side * side == self.pixels.len())
            .then(|| u32::try_from(side).ok())
            .flatten()
    }
}

fn classes_of(labels: &[i32]) -> Result<usize, Failure> {
    let bad = labels.iter().enumerate().find_map(|(row, &label)| {
        let class = usize::try_from(label).ok();
        let fits = class.is_some_and(|class| class < MAX_CLASSES);
        (!fits).then_some((row + 1, label))
    });
    if let Some((row, label)) = bad {
        return Err(Failure::failed(format!(
            "`label` must be 0 to {}, but row {row} has {label}",
            MAX_CLASSES - 1
        )));
    }
    let largest = labels.iter().max().copied().unwrap_or(0);
    Ok(usize::try_from(largest).unwrap_or(0) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_classes_as_the_largest_label_says() {
        assert_eq!(classes_of(&[3, 0, 9]), Ok(10));
        assert_eq!(classes_of(&[]), Ok(1));
    }

    #[test]
    fn a_label_that_is_no_class_is_named() {
        let expected = |row, label| {
            let message = format!("`label` must be 0 to 999, but row {row} has {label}");
            Err(Failure::failed(message))
        };
        assert_eq!(classes_of(&[3, -1]), expected(2, -1));
        assert_eq!(classes_of(&[1000]), expected(1, 1000));
    }
}
