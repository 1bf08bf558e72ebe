//! One table: what its columns hold, and writing it anew.

use std::fmt;
use std::io::{Read, Write};

/// Which columns are standardised, of those that are numeric.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chosen<'a> {
    /// These; all when absent.
    pub(crate) include: Option<&'a [String]>,
    /// But not these.
    pub(crate) exclude: &'a [String],
}

/// What the columns of a table hold.
#[derive(Debug)]
pub(crate) struct Profile {
    names: Vec<String>,
    columns: Vec<Moments>,
    rows: u64,
}

/// Why a table cannot be standardised.
#[derive(Debug)]
pub(crate) enum TableError {
    /// It is no CSV file with a header, or cannot be read or written.
    Csv(csv::Error),
    /// A column that was asked for holds something else than numbers.
    NotNumeric {
        column: String,
        row: u64,
        found: String,
    },
}

/// The moments of one column; it stays as it is once a value is no number.
///
/// Source: B. P. Welford, "Note on a method for calculating corrected sums of squares and
/// products", Technometrics 4 (1962).
#[derive(Debug, Clone, Default)]
struct Moments {
    kept_as_is: bool,
    count: f64,
    mean: f64,
    squares: f64,
}

impl Profile {
    /// Reads a whole table, in memory of its widest row.
    pub(crate) fn read(reader: impl Read, chosen: &Chosen) -> Result<Self, TableError> {
        let mut reader = csv::Reader::from_reader(reader);
        let names: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
        let mut columns: Vec<Moments> = names
            .iter()
            .map(|name| Moments {
                kept_as_is: !chosen.takes(name),
                ..Moments::default()
            })
            .collect();
        let mut record = csv::StringRecord::new();
        let mut rows = 0;
        while reader.read_record(&mut record)? {
            rows += 1;
            for ((column, text), name) in columns.iter_mut().zip(&record).zip(&names) {
                if column.kept_as_is {
                    continue;
                }
                match number(text) {
                    Some(value) => column.add(value),
                    None if chosen.insists_on(name) => {
                        return Err(TableError::NotNumeric {
                            column: name.clone(),
                            row: rows,
                            found: text.chars().take(40).collect(),
                        });
                    }
                    None => column.kept_as_is = true,
                }
            }
        }
        Ok(Self {
            names,
            columns,
            rows,
        })
    }

    /// Writes the table anew, with its columns standardised.
    pub(crate) fn rewrite(&self, reader: impl Read, writer: impl Write) -> Result<(), TableError> {
        let mut reader = csv::Reader::from_reader(reader);
        let mut writer = csv::Writer::from_writer(writer);
        writer.write_record(reader.headers()?)?;
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record)? {
            for (column, text) in self.columns.iter().zip(&record) {
                match number(text) {
                    Some(value) if !column.kept_as_is => {
                        writer.write_field(column.standardised(value).to_string())?;
                    }
                    _ => writer.write_field(text)?,
                }
            }
            writer.write_record(None::<&[u8]>)?;
        }
        writer.flush().map_err(csv::Error::from)?;
        Ok(())
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// How many columns are standardised.
    pub(crate) fn standardised(&self) -> usize {
        let columns = self.columns.iter();
        columns.filter(|column| !column.kept_as_is).count()
    }

    pub(crate) fn has_column(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }
}

impl Chosen<'_> {
    fn takes(&self, name: &str) -> bool {
        let excluded = self.exclude.iter().any(|excluded| excluded == name);
        let included = |names: &[String]| names.iter().any(|included| included == name);
        !excluded && self.include.is_none_or(included)
    }

    fn insists_on(&self, name: &str) -> bool {
        self.include.is_some() && self.takes(name)
    }
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let difference = value - self.mean;
        self.mean += difference / self.count;
        self.squares += difference * (value - self.mean);
    }

    /// The value's distance from the mean in standard deviations (of the population); 0
    /// in a column whose values all are the same.
    fn standardised(&self, value: f64) -> f64 {
        let deviation = (self.squares / self.count).sqrt();
        if deviation > 0.0 && deviation.is_finite() {
            (value - self.mean) / deviation
        } else {
            0.0
        }
    }
}

fn number(text: &str) -> Option<f64> {
    let number: f64 = text.trim().parse().ok()?;
    number.is_finite().then_some(number)
}

impl fmt::Display for TableError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Csv(error) => write!(formatter, "{error}"),
            Self::NotNumeric { column, row, found } => write!(
                formatter,
                "column `{column}` must hold numbers, but row {row} has `{found}`"
            ),
        }
    }
}

impl From<csv::Error> for TableError {
    fn from(error: csv::Error) -> Self {
        Self::Csv(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Chosen = Chosen {
        include: None,
        exclude: &[],
    };

    #[test]
    fn numeric_columns_get_mean_0_and_deviation_1() {
        check(
            "x,same,name\n1,5,a\n3,5,b\n",
            &ALL,
            "x,same,name\n-1,0,a\n1,0,b\n",
        );
    }

    #[test]
    fn excluded_columns_stay_as_they_are() {
        let exclude = ["label".to_owned()];
        let chosen = Chosen {
            include: None,
            exclude: &exclude,
        };
        check("x,label\n1,07\n3,9\n", &chosen, "x,label\n-1,07\n1,9\n");
    }

    #[test]
    fn a_column_with_a_gap_is_not_numeric() {
        check("x,y\n1,1\n,3\n", &ALL, "x,y\n1,-1\n,1\n");
    }

    #[test]
    fn quoted_texts_survive() {
        let table = "x,\"a, b\"\n1,\"say \"\"hi\"\"\"\n";
        check(table, &ALL, "x,\"a, b\"\n0,\"say \"\"hi\"\"\"\n");
    }

    #[test]
    fn a_column_that_was_asked_for_must_be_numeric() {
        let include = ["x".to_owned()];
        let chosen = Chosen {
            include: Some(&include),
            exclude: &[],
        };
        let error = Profile::read(&b"x\n1\ntwo\n"[..], &chosen).unwrap_err();
        let expected = "column `x` must hold numbers, but row 2 has `two`";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn rows_of_different_lengths_are_an_error() {
        assert!(Profile::read(&b"x,y\n1,2\n3\n"[..], &ALL).is_err());
    }

    #[track_caller]
    fn check(table: &str, chosen: &Chosen, expected: &str) {
        let profile = Profile::read(table.as_bytes(), chosen).unwrap();
        let mut written = Vec::new();
        profile.rewrite(table.as_bytes(), &mut written).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }
}
