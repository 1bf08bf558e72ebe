//! The table: which columns, which rows, and all of it in bins.

use trainshed_sdk::compute::Batches;
use trainshed_sdk::dataset::{ColumnKind, Table};
use trainshed_sdk::graph::Graph;
use trainshed_sdk::rng::Split;
use trainshed_sdk::{DType, Dataset, Failure, Tensor};

use crate::bins::Feature;
use crate::boost::{Examples, Targets};
use crate::model::Model;
use crate::settings::{Objective, Settings};

/// The table, with the columns that are looked at.
pub(crate) struct Data<'d> {
    table: Table<'d>,
    pub(crate) rows: u32,
    pub(crate) columns: Columns,
}

/// What is predicted from what.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Columns {
    pub(crate) features: Vec<String>,
    pub(crate) target: String,
    pub(crate) objective: Objective,
}

/// The columns in memory: what trees learn from, and the values themselves in the host.
pub(crate) struct Loaded {
    pub(crate) examples: Examples,
    /// The names of the classes; none for numbers.
    pub(crate) classes: Vec<String>,
    /// What was subtracted from targets that are numbers.
    pub(crate) mean: f64,
    /// `f32 [rows, features]`.
    x: Tensor,
    /// The rows to learn from, then those to judge by.
    order: Vec<u32>,
}

/// A tree for each class, and each round, is enough for few classes only.
const MAX_CLASSES: usize = 1000;
/// What the names of columns and classes may have together, so that a model can keep them.
const MAX_NAME_BYTES: usize = 48 << 10;
/// How many rows of values are read at once.
const ROWS_AT_ONCE: u32 = 4096;

impl<'d> Data<'d> {
    pub(crate) fn find(dataset: &Dataset<'d>, settings: &Settings) -> Result<Self, Failure> {
        let table = dataset.table(settings.table.as_deref())?;
        let columns = table.columns.iter();
        let known: Vec<_> = columns
            .map(|column| (column.name.clone(), column.kind))
            .collect();
        let columns = Columns::chosen(&known, settings)?;
        let rows = u32::try_from(table.rows)
            .map_err(|_| Failure::failed(format!("{} has too many rows", table.path)))?;
        Ok(Self {
            table,
            rows,
            columns,
        })
    }

    /// Reads all columns and cuts them into bins; `before` is the model that goes on.
    pub(crate) fn load(
        &self,
        split: &Split,
        bins: u32,
        before: Option<&Model>,
    ) -> Result<Loaded, Failure> {
        let order = [split.train.as_slice(), &split.validation].concat();
        let learning = split.train.len();
        let (targets, classes, mean) = self.targets(&order, learning, before)?;
        let names = self.columns.features.iter().chain(&classes);
        let name_bytes: usize = names.map(|name| name.len() + 3).sum();
        if name_bytes > MAX_NAME_BYTES {
            return Err(Failure::failed(format!(
                "the names of columns and classes have {name_bytes} bytes, but a model keeps at most {MAX_NAME_BYTES}; choose fewer `features`"
            )));
        }

        let count = self.columns.features.len();
        let x = self.table.load(&self.columns.features, DType::F32)?;
        let graph = Graph::new();
        let all = graph.input("x", DType::F32, &[order.len(), count]);
        let start = graph.input("start", DType::I32, &[2]);
        graph.output(&all.dynamic_slice(&start, &[order.len(), 1]));
        let column = graph.compile()?.bind(&[])?;
        let mut features = Vec::with_capacity(count);
        for index in (0i32..).take(count) {
            let start = Tensor::from_slice(&[2], &[0, index])?;
            let values: Vec<f32> = column.run(&[&x, &start])?[0].to_vec()?;
            let ordered = order.iter().map(|&row| values[row as usize]);
            let ordered: Vec<f32> = ordered.collect();
            features.push(Feature::new(&ordered, learning, bins as usize));
        }
        Ok(Loaded {
            examples: Examples {
                features,
                targets,
                rows: order.len(),
                learning,
            },
            classes,
            mean,
            x,
            order,
        })
    }

    /// What is to be predicted, in the order of rows; the names of classes, and the mean.
    fn targets(
        &self,
        order: &[u32],
        learning: usize,
        before: Option<&Model>,
    ) -> Result<(Targets, Vec<String>, f64), Failure> {
        let (table, target) = (&self.table, &self.columns.target);
        if self.columns.objective == Objective::Regression {
            let values: Vec<f64> = table.load(&[target], DType::F64)?.to_vec()?;
            if let Some(row) = values.iter().position(|value| !value.is_finite()) {
                let (row, value) = (row + 1, values[row]);
                return Err(Failure::failed(format!(
                    "`{target}` must be a number in each row, but row {row} has {value}"
                )));
            }
            let ordered = order.iter().map(|&row| values[row as usize]);
            let values: Vec<f64> = ordered.collect();
            #[expect(clippy::cast_precision_loss, reason = "fewer than 2^32 rows")]
            let mean = values[..learning].iter().sum::<f64>() / learning as f64;
            let mean = before.map_or(mean, |model| model.mean);
            #[expect(clippy::cast_possible_truncation, reason = "rounding is meant")]
            let values = values.into_iter().map(|value| (value - mean) as f32);
            return Ok((Targets::Numbers(values.collect()), Vec::new(), mean));
        }
        let (classes, indices) = match before {
            Some(model) => (
                model.classes.clone(),
                table.load_classes_of(target, &model.classes)?,
            ),
            None => {
                let classes = table.load_classes(target)?;
                (classes.vocabulary, classes.indices)
            }
        };
        let count = classes.len();
        if !(2..=MAX_CLASSES).contains(&count) {
            return Err(Failure::failed(format!(
                "`{target}` must have 2 to {MAX_CLASSES} classes, but it has {count}"
            )));
        }
        let indices: Vec<i32> = indices.to_vec()?;
        let indices = order
            .iter()
            .map(|&row| indices[row as usize].unsigned_abs());
        Ok((Targets::Classes(indices.collect(), count), classes, 0.0))
    }
}

impl Columns {
    fn chosen(known: &[(String, ColumnKind)], settings: &Settings) -> Result<Self, Failure> {
        let is_number = |kind: ColumnKind| matches!(kind, ColumnKind::Integer | ColumnKind::Number);
        let can_be_target = |kind: ColumnKind| is_number(kind) || kind == ColumnKind::Text;
        let check = |pointer: String, name: &String, fits: &dyn Fn(ColumnKind) -> bool| {
            let kind = known.iter().find(|(known, _)| known == name);
            kind.map(|(_, kind)| *kind)
                .filter(|kind| fits(*kind))
                .ok_or_else(|| {
                    let fitting = known.iter().filter(|(_, kind)| fits(*kind));
                    let names: Vec<&str> = fitting.map(|(name, _)| name.as_str()).collect();
                    let names = names.join("`, `");
                    let message = format!("must be one of `{names}`, but it is `{name}`");
                    Failure::invalid_parameter(pointer, message)
                })
        };
        let mut targets = known.iter().filter(|(_, kind)| can_be_target(*kind));
        let target = settings
            .target
            .clone()
            .or_else(|| targets.next_back().map(|(name, _)| name.clone()));
        let target =
            target.ok_or_else(|| Failure::failed("the table has no column of numbers or texts"))?;
        let kind = check("/target".to_owned(), &target, &can_be_target)?;
        let objective = settings.objective.unwrap_or(match kind {
            ColumnKind::Text => Objective::Classification,
            _ => Objective::Regression,
        });
        if kind == ColumnKind::Text && objective == Objective::Regression {
            let message = format!("must be `classification`, because `{target}` holds texts");
            return Err(Failure::invalid_parameter("/objective", message));
        }
        let features = settings.features.clone().unwrap_or_else(|| {
            let numbers = known.iter().filter(|(_, kind)| is_number(*kind));
            let names = numbers.map(|(name, _)| name.clone());
            names.filter(|name| *name != target).collect()
        });
        for (index, name) in features.iter().enumerate() {
            let pointer = format!("/features/{index}");
            check(pointer.clone(), name, &is_number)?;
            if *name == target || features[..index].contains(name) {
                let message =
                    format!("must be no column twice and not the target, but it is `{name}`");
                return Err(Failure::invalid_parameter(pointer, message));
            }
        }
        if features.is_empty() {
            return Err(Failure::invalid_parameter(
                "/features",
                "must be at least one column of numbers, but there is none",
            ));
        }
        Ok(Self {
            features,
            target,
            objective,
        })
    }
}

impl Loaded {
    /// The scores that a model gives all rows, by their values.
    pub(crate) fn scores(&self, model: &Model) -> Result<Vec<Vec<f32>>, Failure> {
        let width = self.examples.features.len();
        let mut scores = vec![Vec::with_capacity(self.order.len()); model.base.len()];
        if model.trees.is_empty() {
            for (scores, &base) in scores.iter_mut().zip(&model.base) {
                scores.resize(self.order.len(), base);
            }
            return Ok(scores);
        }
        let batches = Batches::new(&[&self.x], &self.order, ROWS_AT_ONCE, false)?;
        while let Some(batch) = batches.next_batch()? {
            let values: Vec<f32> = batch[0].to_vec()?;
            for row in values.chunks_exact(width) {
                for (scores, score) in scores.iter_mut().zip(model.scores(row)) {
                    scores.push(score);
                }
            }
        }
        Ok(scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_the_last_column_follows_from_those_of_numbers() {
        let columns = Columns::chosen(&known("a b kind"), &Settings::default()).unwrap();
        let expected = Columns {
            features: vec!["a".to_owned(), "b".to_owned()],
            target: "kind".to_owned(),
            objective: Objective::Classification,
        };
        assert_eq!(columns, expected);
        let columns = Columns::chosen(&known("kind a b"), &Settings::default()).unwrap();
        assert_eq!(columns.objective, Objective::Regression);
        assert_eq!(columns.features, ["a"]);
    }

    #[test]
    fn columns_that_cannot_be_used_are_named() {
        check(
            r#"{"target": "x"}"#,
            "/target must be one of `a`, `b`, `kind`, but it is `x`",
        );
        check(
            r#"{"features": ["a", "kind"]}"#,
            "/features/1 must be one of `a`, `b`, but it is `kind`",
        );
        check(
            r#"{"features": ["a", "a"]}"#,
            "/features/1 must be no column twice and not the target, but it is `a`",
        );
        check(
            r#"{"objective": "regression"}"#,
            "/objective must be `classification`, because `kind` holds texts",
        );
        check(
            r#"{"features": []}"#,
            "/features must be at least one column of numbers, but there is none",
        );
    }

    /// Columns of numbers, and of texts when they are called `kind`.
    fn known(names: &str) -> Vec<(String, ColumnKind)> {
        let names = names.split(' ');
        let kind = |name| match name {
            "kind" => ColumnKind::Text,
            _ => ColumnKind::Number,
        };
        names.map(|name| (name.to_owned(), kind(name))).collect()
    }

    #[track_caller]
    fn check(json: &str, expected: &str) {
        let settings: Settings = serde_json::from_str(json).unwrap();
        let chosen = Columns::chosen(&known("a b kind"), &settings);
        let Err(Failure::InvalidParameter { pointer, message }) = chosen else {
            panic!("{json} was taken");
        };
        assert_eq!(format!("{pointer} {message}"), expected);
    }
}
