//! Everything the program prints: data on standard output, talk on standard error.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use comfy_table::{Table, presets};
use serde::Serialize;
use trainshed_core::Timestamp;

use crate::error::CliError;

/// Prints tables on a terminal, plain lines elsewhere, and JSON where it is asked for.
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether programs read what is printed.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person looks at standard error.
    pub(crate) fn is_watched(&self) -> bool {
        io::stderr().is_terminal()
    }

    /// One line of data.
    pub(crate) fn line(&self, text: &str) {
        // A reader that has gone away, as `| head` does, is no error.
        let _ = writeln!(io::stdout().lock(), "{text}");
    }

    /// One line for the person.
    pub(crate) fn say(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// A value as one JSON document.
    pub(crate) fn document(&self, value: &impl Serialize) {
        let text = serde_json::to_string_pretty(value)
            .expect("views are made of texts, numbers and lists");
        self.line(&text);
    }

    /// A list: the JSON of `items`, or a table of `rows`.
    pub(crate) fn list<T: Serialize>(&self, items: &T, header: &[&str], rows: Vec<Vec<String>>) {
        if self.json {
            self.document(items);
        } else if io::stdout().is_terminal() {
            let mut table = Table::new();
            table
                .load_style(presets::NOTHING)
                .set_header(header.to_vec());
            for row in rows {
                table.add_row(row.iter().map(|cell| printable(cell)).collect::<Vec<_>>());
            }
            self.line(table.trim_fmt().as_str());
        } else {
            self.line(&header.join("\t"));
            for row in rows {
                self.line(
                    &row.iter()
                        .map(|cell| printable(cell))
                        .collect::<Vec<_>>()
                        .join("\t"),
                );
            }
        }
    }

    /// Says what went wrong and what to do about it.
    pub(crate) fn fail(&self, error: &CliError) -> ExitCode {
        let mut text = format!("error: {error}");
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            text += &format!("\n  because {cause}");
            source = cause.source();
        }
        if let Some(hint) = error.hint() {
            text += &format!("\nhint: {hint}");
        }
        self.say(&printable_lines(&text));
        ExitCode::from(error.exit_code())
    }
}

/// A text from outside that cannot steer the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// A value with as many digits as help a person.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        magnitude if value.is_finite() && !(1e-4..1e7).contains(&magnitude) => {
            format!("{value:.3e}")
        }
        magnitude if value.is_finite() && magnitude.fract() == 0.0 => format!("{value}"),
        _ => format!("{value:.5}"),
    }
}

/// A count of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// A point in time, UTC, as `2026-01-31 23:59:59`.
pub(crate) fn time(at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(at.as_millis()) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("{} ms", at.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_from_outside_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\tc\r"), "a\u{fffd}[2Jb\tc\u{fffd}");
    }

    #[test]
    fn numbers_have_as_many_digits_as_help() {
        for (value, text) in [
            (0.0, "0"),
            (20.0, "20"),
            (0.98765, "0.98765"),
            (1.5e-7, "1.500e-7"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(time(Timestamp(951_827_696_789)), "2000-02-29 12:34:56");
    }
}
