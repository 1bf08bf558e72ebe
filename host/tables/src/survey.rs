//! Which files of a data set are tables.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::error::unreadable;
use crate::images;
use crate::{Reader, Table, TableError, arrays, comma, json_lines, npy, npz, parquet};

/// Most columns of all tables of a data set.
const MAX_COLUMNS_OF_ALL: usize = 1_000_000;
/// Most bytes of their names.
const MAX_NAME_BYTES_OF_ALL: usize = 64 << 20;
/// Most tables of a data set.
const MAX_TABLES: usize = 10_000;
/// Deepest folder that is searched for tables.
const MAX_DEPTH: usize = 32;

/// What a file is read as, by the end of its name.
#[derive(Debug, Clone, Copy)]
enum Format {
    Comma,
    JsonLines,
    Parquet,
    Npy,
    Npz,
    Safetensors,
    Image,
}

impl Format {
    fn of(name: &str) -> Option<Self> {
        let (stem, ending) = name.rsplit_once('.')?;
        match ending.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Comma),
            "gz" => Self::of(stem).filter(|format| matches!(format, Self::Comma)),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "parquet" => Some(Self::Parquet),
            "npy" => Some(Self::Npy),
            "npz" => Some(Self::Npz),
            "safetensors" => Some(Self::Safetensors),
            "png" | "jpg" | "jpeg" => Some(Self::Image),
            _ => None,
        }
    }
}

#[derive(Default)]
struct Found {
    files: Vec<(String, Format)>,
    /// Images by the folder that holds their folder.
    images: BTreeMap<String, Vec<String>>,
}

impl Reader<'_> {
    /// Finds all tables, ordered by path, and reads as much of each file as its columns need:
    /// all of text files, headers of the others. Symbolic links are not followed.
    ///
    /// # Errors
    /// [`TableError::Unreadable`] for the first file that breaks a rule of its format.
    pub fn survey(&self) -> Result<Vec<Table>, TableError> {
        let mut found = Found::default();
        find(self.folder, "", 0, &mut found)
            .map_err(|error| TableError::Unreadable(format!("the data set: {error}")))?;
        found.files.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut all = Tables::default();
        for (path, format) in &found.files {
            self.go_on(path)?;
            let tables = match format {
                Format::Comma => vec![comma::survey(self, path)?],
                Format::JsonLines => vec![json_lines::survey(self, path)?],
                Format::Parquet => vec![parquet::survey(self, path)?],
                Format::Npy => vec![npy::survey(self, path)?],
                Format::Npz => npz::survey(self, path)?,
                Format::Safetensors => arrays::survey_safetensors(self, path)?,
                Format::Image => Vec::new(),
            };
            all.add(tables)?;
        }
        for (folder, paths) in found.images {
            all.add(vec![images::survey(self, &folder, paths)?])?;
        }
        all.tables.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(all.tables)
    }
}

/// The tables so far, within the limits.
#[derive(Default)]
struct Tables {
    tables: Vec<Table>,
    columns: usize,
    name_bytes: usize,
}

impl Tables {
    fn add(&mut self, tables: Vec<Table>) -> Result<(), TableError> {
        for table in tables {
            let names = table.columns.iter().map(|column| column.name.len());
            self.name_bytes += names.sum::<usize>();
            self.columns += table.columns.len();
            if self.columns > MAX_COLUMNS_OF_ALL || self.name_bytes > MAX_NAME_BYTES_OF_ALL {
                let message = format!(
                    "all tables together have more than {MAX_COLUMNS_OF_ALL} columns, or more than {MAX_NAME_BYTES_OF_ALL} bytes of their names"
                );
                return Err(unreadable(&table.path, &message));
            }
            if self.tables.len() == MAX_TABLES {
                let message = format!("the data set has more than {MAX_TABLES} tables");
                return Err(unreadable(&table.path, &message));
            }
            self.tables.push(table);
        }
        Ok(())
    }
}

fn find(folder: &Path, prefix: &str, depth: usize, found: &mut Found) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = format!("{prefix}{name}");
        if kind.is_dir() && depth < MAX_DEPTH {
            find(&entry.path(), &format!("{path}/"), depth + 1, found)?;
        } else if let (true, Some(format)) = (kind.is_file(), Format::of(&name)) {
            if matches!(format, Format::Image) {
                let table = images::table_of(&path).to_owned();
                found.images.entry(table).or_default().push(path);
                continue;
            }
            if found.files.len() == MAX_TABLES {
                let message = format!("it has more than {MAX_TABLES} tables");
                return Err(io::Error::other(message));
            }
            found.files.push((path, format));
        }
    }
    Ok(())
}
