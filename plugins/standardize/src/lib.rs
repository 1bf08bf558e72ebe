//! Gives every numeric column of a data set's tables mean 0 and standard deviation 1.
//!
//! Each table is read twice, row by row: once for the means and deviations, once to
//! write it anew. Nothing is held in memory but those numbers.

mod table;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use trainshed_sdk::{About, Category, Dataset, Failure, Preprocess, Run};

use table::{Chosen, Profile};

struct Standardize;

trainshed_sdk::export_preprocess!(Standardize);

/// Which columns of which tables to standardise.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Settings {
    /// The columns to standardise; without it, all numeric ones.
    include: Option<Vec<String>>,
    /// Columns to leave as they are, e.g. the label.
    exclude: Vec<String>,
    /// The path of the only table to change; without it, all are.
    table: Option<String>,
}

/// Where the data set's files are, and where the new version is written.
const SOURCE: &str = "/dataset";
const FOLDER: &str = "standardized";

impl Preprocess for Standardize {
    const ABOUT: About = trainshed_sdk::about!(Category::Preprocess);
    const SUMMARY: &'static str =
        "Writes a version of the data set whose numeric columns are standardised.";
    type Parameters = Settings;

    fn preprocess(run: &Run, dataset: &Dataset, settings: Settings) -> Result<Value, Failure> {
        let files = files_below(Path::new(SOURCE))?;
        let tables = tables_among(&files, settings.table.as_deref())?;
        let chosen = Chosen {
            include: settings.include.as_deref(),
            exclude: &settings.exclude,
        };

        // Half of the progress is reading for the profiles, half is writing.
        let total = (tables.len() + files.len()) as u64;
        let mut done = 0;
        let mut advance = || {
            done += 1;
            run.set_progress("dataset", done, total)
        };
        let mut profiles = Vec::new();
        for path in &tables {
            let file = BufReader::new(fs::File::open(Path::new(SOURCE).join(path))?);
            let profile = Profile::read(file, &chosen);
            profiles.push(profile.map_err(|error| in_file(path, &error))?);
            stop_if_asked(run)?;
            advance()?;
        }
        check_names(&settings, &profiles)?;

        let target = Path::new("/scratch").join(FOLDER);
        for path in &files {
            let (from, to) = (Path::new(SOURCE).join(path), target.join(path));
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder)?;
            }
            match tables.iter().position(|table| table == path) {
                Some(index) => {
                    let reader = BufReader::new(fs::File::open(from)?);
                    let writer = BufWriter::new(fs::File::create(to)?);
                    let written = profiles[index].rewrite(reader, writer);
                    written.map_err(|error| in_file(path, &error))?;
                }
                None => {
                    fs::copy(from, to)?;
                }
            }
            stop_if_asked(run)?;
            advance()?;
        }

        let columns: usize = profiles.iter().map(Profile::standardised).sum();
        let rows: u64 = profiles.iter().map(Profile::rows).sum();
        println!("standardised {columns} columns of {rows} rows");
        let version = dataset.commit_version(FOLDER, "numeric columns standardised")?;
        #[expect(clippy::cast_precision_loss, reason = "counts for people to read")]
        for (name, count) in [("columns", columns as f64), ("rows", rows as f64)] {
            run.report_single(name, count)?;
        }
        Ok(json!({ "columns": columns, "rows": rows, "version": version.number }))
    }
}

fn stop_if_asked(run: &Run) -> Result<(), Failure> {
    if run.stopping() {
        return Err(Failure::Stopped);
    }
    Ok(())
}

fn in_file(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}

/// Every file below `root`, by its path from there, in order.
fn files_below(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = BTreeSet::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                files.insert(path);
            }
        }
    }
    Ok(files.into_iter().collect())
}

/// The `.csv` files, or the one that was named.
fn tables_among(files: &[PathBuf], named: Option<&str>) -> Result<Vec<PathBuf>, Failure> {
    let tables: Vec<PathBuf> = files
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "csv"))
        .cloned()
        .collect();
    if tables.is_empty() {
        return Err(Failure::failed("the data set has no .csv file"));
    }
    let Some(named) = named else {
        return Ok(tables);
    };
    match tables.iter().find(|path| *path == Path::new(named)) {
        Some(path) => Ok(vec![path.clone()]),
        None => Err(Failure::invalid_parameter(
            "/table",
            format!("must be a .csv file of the data set, but there is no `{named}`"),
        )),
    }
}

/// A name that no table has is a spelling mistake.
fn check_names(settings: &Settings, profiles: &[Profile]) -> Result<(), Failure> {
    let known = |name: &String| profiles.iter().any(|profile| profile.has_column(name));
    let include = settings.include.as_deref().unwrap_or_default();
    for (field, names) in [("include", include), ("exclude", &settings.exclude)] {
        if let Some(index) = names.iter().position(|name| !known(name)) {
            let name = &names[index];
            return Err(Failure::invalid_parameter(
                format!("/{field}/{index}"),
                format!("must be a column of the data set, but there is no `{name}`"),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_name_every_csv_file_is_a_table() {
        let files = ["a.csv", "b/c.csv", "readme.md"].map(PathBuf::from);
        let tables = tables_among(&files, None).unwrap();
        assert_eq!(tables, ["a.csv", "b/c.csv"].map(PathBuf::from));
        let named = tables_among(&files, Some("b/c.csv")).unwrap();
        assert_eq!(named, [PathBuf::from("b/c.csv")]);
    }

    #[test]
    fn a_table_or_column_that_is_not_there_is_named() {
        let files = [PathBuf::from("a.csv")];
        let failure = tables_among(&files, Some("b.csv")).unwrap_err();
        let expected = "must be a .csv file of the data set, but there is no `b.csv`";
        assert_eq!(failure, Failure::invalid_parameter("/table", expected));

        let settings = Settings {
            exclude: vec!["y".into(), "lable".into()],
            ..Settings::default()
        };
        let chosen = Chosen {
            include: None,
            exclude: &[],
        };
        let profile = Profile::read(&b"x,y\n1,2\n"[..], &chosen).unwrap();
        let failure = check_names(&settings, &[profile]).unwrap_err();
        let expected = "must be a column of the data set, but there is no `lable`";
        assert_eq!(failure, Failure::invalid_parameter("/exclude/1", expected));
    }
}
