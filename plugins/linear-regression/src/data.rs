//! The table, and the statistics of its training rows.

use trainshed_sdk::graph::evaluate;
use trainshed_sdk::{DType, Dataset, Failure, Tensor};

use crate::settings::Settings;

/// Every row of the table, in host memory.
pub(crate) struct Data {
    pub(crate) rows: u32,
    /// The names of the columns to predict from.
    pub(crate) features: Vec<String>,
    /// The name of the column to predict.
    pub(crate) target: String,
    /// `f64 [rows, features]`.
    pub(crate) x: Tensor,
    /// `f64 [rows, 1]`.
    pub(crate) y: Tensor,
}

/// What the training rows are like.
pub(crate) struct Statistics {
    /// The mean of each feature.
    pub(crate) mean: Vec<f64>,
    /// Its standard deviation; 1 where it does not vary.
    pub(crate) deviation: Vec<f64>,
    /// The target's mean.
    pub(crate) target_mean: f64,
    /// The correlations of the features, row-major.
    pub(crate) correlations: Vec<f64>,
    /// The covariance of each standardised feature and the target.
    pub(crate) covariances: Vec<f64>,
}

/// A model keeps names and coefficients of so many.
const MAX_FEATURES: usize = 1000;
/// What the names of columns may have together, so that a model can keep them.
const MAX_NAME_BYTES: usize = 32 << 10;

impl Data {
    pub(crate) fn load(dataset: &Dataset, settings: &Settings) -> Result<Self, Failure> {
        let table = dataset.table(settings.table.as_deref())?;
        let (features, target) = chosen(table.numeric_columns(), settings)?;
        let rows = u32::try_from(table.rows)
            .map_err(|_| Failure::failed(format!("{} has too many rows", table.path)))?;
        let data = Self {
            rows,
            x: table.load(&features, DType::F64)?,
            y: table.load(&[&target], DType::F64)?,
            features,
            target,
        };
        data.check_finite()?;
        Ok(data)
    }

    /// The statistics of `rows`, which are not none.
    pub(crate) fn statistics(&self, rows: &[u32]) -> Result<Statistics, Failure> {
        let indices = Tensor::from_slice(&[rows.len()], rows)?;
        let computed = evaluate(&[&self.x, &self.y, &indices], |_, inputs| {
            let x = inputs[0].take(&inputs[2], 0);
            let y = inputs[1].take(&inputs[2], 0);
            let mean = x.mean(&[0]);
            let centred = x - &mean;
            let deviation = centred.square().mean(&[0]).sqrt();
            let varies = deviation.greater(&deviation.full_like(0.0));
            let deviation = varies.select(&deviation, &deviation.full_like(1.0));
            let standard = centred / &deviation;
            let target_mean = y.mean(&[0]);
            #[expect(clippy::cast_precision_loss, reason = "fewer than 2^32 rows")]
            let count = rows.len() as f64;
            let turned = standard.transpose(&[1, 0]);
            let correlations = turned.matmul(&standard) / count;
            let covariances = turned.matmul(&(y - &target_mean)) / count;
            vec![mean, deviation, target_mean, correlations, covariances]
        })?;
        let list = |index: usize| computed[index].to_vec::<f64>();
        Ok(Statistics {
            mean: list(0)?,
            deviation: list(1)?,
            target_mean: computed[2].item(),
            correlations: list(3)?,
            covariances: list(4)?,
        })
    }

    /// A linear function of values that are missing has no value.
    fn check_finite(&self) -> Result<(), Failure> {
        let finite = evaluate(&[&self.x, &self.y], |_, inputs| {
            inputs
                .iter()
                .map(|input| input.is_finite().all(&[0]))
                .collect()
        })?;
        let names = self.features.iter().chain([&self.target]);
        let mut flags = finite[0].to_vec::<bool>()?;
        flags.extend(finite[1].to_vec::<bool>()?);
        match names.zip(flags).find(|(_, finite)| !finite) {
            Some((name, _)) => Err(Failure::failed(format!(
                "column `{name}` lacks values in some rows; leave it out, or fill them in first"
            ))),
            None => Ok(()),
        }
    }
}

/// The columns to predict from, and the one to predict.
fn chosen(numeric: Vec<String>, settings: &Settings) -> Result<(Vec<String>, String), Failure> {
    let check = |pointer: String, name: &String| {
        let known = numeric.join("`, `");
        let message =
            || format!("must be a column of numbers, one of `{known}`, but it is `{name}`");
        numeric
            .contains(name)
            .then_some(())
            .ok_or_else(|| Failure::invalid_parameter(pointer, message()))
    };
    let target = settings.target.clone().or_else(|| numeric.last().cloned());
    let target = target.ok_or_else(|| Failure::failed("the table has no column of numbers"))?;
    check("/target".to_owned(), &target)?;
    let features = match &settings.features {
        Some(features) => features.clone(),
        None => numeric
            .iter()
            .filter(|name| **name != target)
            .cloned()
            .collect(),
    };
    for (index, name) in features.iter().enumerate() {
        let pointer = format!("/features/{index}");
        check(pointer.clone(), name)?;
        if *name == target || features[..index].contains(name) {
            let message = format!("must be another column than those before, but it is `{name}`");
            return Err(Failure::invalid_parameter(pointer, message));
        }
    }
    let count = features.len();
    if count == 0 || count > MAX_FEATURES {
        return Err(Failure::invalid_parameter(
            "/features",
            format!("must be 1 to {MAX_FEATURES} columns, but there are {count}"),
        ));
    }
    let name_bytes: usize = features.iter().map(|name| name.len() + 3).sum();
    if name_bytes > MAX_NAME_BYTES {
        return Err(Failure::invalid_parameter(
            "/features",
            format!(
                "must be columns whose names have at most {MAX_NAME_BYTES} bytes, but they have {name_bytes}"
            ),
        ));
    }
    Ok((features, target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_the_last_column_of_numbers_follows_from_the_others() {
        let (features, target) = chosen(names("a b c"), &Settings::default()).unwrap();
        assert_eq!((features, target.as_str()), (names("a b"), "c"));
    }

    #[test]
    fn columns_that_cannot_be_used_are_named() {
        check(
            "a b",
            Some("x"),
            None,
            "/target must be a column of numbers, one of `a`, `b`, but it is `x`",
        );
        check(
            "a b",
            None,
            Some("x"),
            "/features/0 must be a column of numbers, one of `a`, `b`, but it is `x`",
        );
        check(
            "a b",
            None,
            Some("a b"),
            "/features/1 must be another column than those before, but it is `b`",
        );
        check(
            "a",
            None,
            None,
            "/features must be 1 to 1000 columns, but there are 0",
        );
    }

    fn names(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[track_caller]
    fn check(columns: &str, target: Option<&str>, features: Option<&str>, expected: &str) {
        let settings = Settings {
            target: target.map(str::to_owned),
            features: features.map(names),
            ..Settings::default()
        };
        let Err(Failure::InvalidParameter { pointer, message }) = chosen(names(columns), &settings)
        else {
            panic!("{settings:?} was taken");
        };
        assert_eq!(format!("{pointer} {message}"), expected);
    }
}
