//! What the tables of files on this machine are, for whoever looks at a data set without
//! downloading it.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use trainshed_core::report::Real;
use trainshed_core::view::{ColumnView, Statistics, TableView};
use trainshed_tables::{Column, ColumnKind, Reader, Table};
use trainshed_tensor::{Budget, DType};

use crate::dataset::collect;

/// Most memory that looking may take.
const MAX_BYTES: u64 = 512 << 20;
/// Most tables that are described, and most columns of one.
const MAX_TABLES: usize = 100;
const MAX_COLUMNS: usize = 500;
/// Rows that are shown, and most characters of one value.
const PREVIEW_ROWS: u64 = 5;
const PREVIEW_CHARS: usize = 60;

/// The tables in files and folders that are about to become a version; `None` where there are
/// none, or where they cannot be read: that is for whoever uses them to be told.
pub(crate) fn describe(paths: &[PathBuf]) -> Option<Vec<TableView>> {
    let linked;
    let folder = match paths {
        [folder] if folder.is_dir() => folder.as_path(),
        _ => {
            linked = together(paths)?;
            linked.path()
        }
    };
    let (budget, stop) = (Budget::new(MAX_BYTES), AtomicBool::new(false));
    let reader = Reader {
        folder,
        budget: &budget,
        stop: &stop,
    };
    let tables = reader.survey().ok()?;
    let described = tables
        .iter()
        .take(MAX_TABLES)
        .map(|table| view(&reader, table));
    let described: Vec<TableView> = described.collect();
    (!described.is_empty()).then_some(described)
}

/// All files in one folder, by their names in the data set. Nothing is copied where links will
/// do.
fn together(paths: &[PathBuf]) -> Option<tempfile::TempDir> {
    let mut found = Vec::new();
    for path in paths {
        collect(path, path, &mut found).ok()?;
    }
    let beside = paths.first()?.canonicalize().ok()?;
    let folder = tempfile::Builder::new()
        .prefix(".trainshed-")
        .tempdir_in(beside.parent()?)
        .or_else(|_| tempfile::tempdir())
        .ok()?;
    let mut copied = 0;
    for (name, source) in found {
        let target = folder.path().join(name);
        fs::create_dir_all(target.parent()?).ok()?;
        if fs::hard_link(&source, &target).is_err() {
            copied += fs::metadata(&source).ok()?.len();
            if copied > MAX_BYTES {
                return None;
            }
            fs::copy(&source, &target).ok()?;
        }
    }
    Some(folder)
}

fn view(reader: &Reader<'_>, table: &Table) -> TableView {
    let columns = table.columns.iter().take(MAX_COLUMNS);
    let about: Vec<ColumnView> = columns
        .clone()
        .map(|column| ColumnView {
            name: column.name.clone(),
            kind: kind(column.kind).to_owned(),
            element: column.element.clone(),
            shape: column.shape.clone(),
            statistics: statistics(reader, table, column),
        })
        .collect();
    let shown: Vec<Vec<String>> = columns
        .map(|column| match column.kind {
            ColumnKind::Integer | ColumnKind::Number | ColumnKind::Text => {
                let texts = reader.texts(table, &column.name, 0, PREVIEW_ROWS);
                texts.unwrap_or_default()
            }
            ColumnKind::Array | ColumnKind::Image | ColumnKind::Other => Vec::new(),
        })
        .collect();
    let rows = usize::try_from(table.rows.min(PREVIEW_ROWS)).unwrap_or(0);
    let cell = |column: &Vec<String>, row: usize| {
        let text = column.get(row).map_or("", String::as_str);
        text.chars().take(PREVIEW_CHARS).collect()
    };
    TableView {
        path: table.path.clone(),
        rows: table.rows,
        columns: about,
        preview: (0..rows)
            .map(|row| shown.iter().map(|column| cell(column, row)).collect())
            .collect(),
    }
}

fn kind(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Integer => "integer",
        ColumnKind::Number => "number",
        ColumnKind::Text => "text",
        ColumnKind::Array => "array",
        ColumnKind::Image => "image",
        ColumnKind::Other => "other",
    }
}

/// `None` where there is nothing to count, or where counting would take too much.
fn statistics(reader: &Reader<'_>, table: &Table, column: &Column) -> Option<Statistics> {
    match column.kind {
        ColumnKind::Integer | ColumnKind::Number => {
            let names = [column.name.clone()];
            let values = reader.load(table, &names, DType::F64).ok()?;
            let (numbers, _) = values.bytes().as_chunks::<8>();
            Some(of_numbers(
                numbers.iter().map(|bytes| f64::from_ne_bytes(*bytes)),
            ))
        }
        ColumnKind::Text => {
            let classes = reader.load_classes(table, &column.name, None).ok()?;
            let mut statistics = of_numbers(std::iter::empty());
            statistics.count = table.rows;
            statistics.distinct = u64::try_from(classes.vocabulary.len()).ok();
            Some(statistics)
        }
        ColumnKind::Array | ColumnKind::Image | ColumnKind::Other => None,
    }
}

/// Mean and deviation in one pass, by the method of Welford ("Note on a method for calculating
/// corrected sums of squares and products", Technometrics 4, 1962).
fn of_numbers(values: impl Iterator<Item = f64>) -> Statistics {
    let (mut count, mut mean, mut squares) = (0_u64, 0.0_f64, 0.0_f64);
    let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
    let mut missing = 0;
    for value in values {
        if value.is_nan() {
            missing += 1;
            continue;
        }
        count += 1;
        let distance = value - mean;
        #[expect(clippy::cast_precision_loss, reason = "rows are fewer than 2^53")]
        let share = distance / count as f64;
        mean += share;
        squares += distance * (value - mean);
        min = min.min(value);
        max = max.max(value);
    }
    let known = |value: f64| (count > 0).then_some(Real(value));
    #[expect(clippy::cast_precision_loss, reason = "rows are fewer than 2^53")]
    let deviation = (squares / count.max(1) as f64).sqrt();
    Statistics {
        count,
        missing,
        min: known(min),
        max: known(max),
        mean: known(mean),
        deviation: known(deviation),
        distinct: None,
    }
}

/// One line for each column.
pub(crate) fn rows(tables: &[TableView]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for table in tables {
        for column in &table.columns {
            let numbers = column.statistics.as_ref();
            let real = |value: Option<Real>| value.map(|real| crate::output::number(real.0));
            let text = |value: Option<String>| value.unwrap_or_default();
            rows.push(vec![
                table.path.clone(),
                table.rows.to_string(),
                column.name.clone(),
                column.kind.clone(),
                column.element.clone(),
                text(numbers.map(|numbers| numbers.missing.to_string())),
                text(numbers.and_then(|numbers| real(numbers.min))),
                text(numbers.and_then(|numbers| real(numbers.max))),
                text(numbers.and_then(|numbers| real(numbers.mean))),
                text(
                    numbers
                        .and_then(|numbers| numbers.distinct)
                        .map(|n| n.to_string()),
                ),
            ]);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use expect_test::expect;

    use super::*;

    #[test]
    fn columns_are_counted_and_their_first_rows_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.csv");
        fs::write(&file, "x,kind\n1,b\n3,a\n5,b\n").unwrap();
        let paths: [&Path; 2] = [&file, folder.path()];
        for path in paths {
            let tables = describe(&[path.to_owned()]).unwrap();
            assert_eq!(tables[0].preview[0], ["1", "b"]);
            let rows: Vec<String> = rows(&tables).iter().map(|row| row.join(" ")).collect();
            expect![[r#"
                a.csv 3 x integer i64 0 1 5 3 
                a.csv 3 kind text text 0    2"#]]
            .assert_eq(&rows.join("\n"));
        }
        let damaged = folder.path().join("b.parquet");
        fs::write(&damaged, "no table").unwrap();
        assert_eq!(
            describe(&[damaged]),
            None,
            "what cannot be read is described by nobody"
        );
    }

    #[test]
    fn not_a_number_is_missing() {
        let found = of_numbers([1.0, f64::NAN, 3.0].into_iter());
        assert_eq!((found.count, found.missing), (2, 1));
        assert_eq!(found.mean, Some(Real(2.0)));
        assert_eq!(found.deviation, Some(Real(1.0)));
        assert_eq!(of_numbers(std::iter::empty()).min, None);
    }
}
