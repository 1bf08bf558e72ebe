//! Artifacts: what tasks keep beside metrics and models.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::digest::Digest;
use crate::text::one_line;

/// What an artifact's content is. None of them runs code when it is read; whatever else there
/// is, pickles among it, is a `file`, and is never opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum ArtifactType {
    /// A JSON document.
    #[serde(rename = "json")]
    Json,
    /// A YAML document.
    #[serde(rename = "yaml")]
    Yaml,
    /// A table as comma-separated values, compressed by gzip.
    #[serde(rename = "csv.gz")]
    CsvGz,
    /// A table as Parquet.
    #[serde(rename = "parquet")]
    Parquet,
    /// Arrays as NumPy saves them.
    #[serde(rename = "npz")]
    Npz,
    /// An image.
    #[serde(rename = "png")]
    Png,
    /// Anything.
    #[serde(rename = "file")]
    File,
    /// Files with their paths, as one zip archive.
    #[serde(rename = "folder")]
    Folder,
    /// An address elsewhere; nothing is stored.
    #[serde(rename = "link")]
    Link,
}

impl ArtifactType {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Json,
        Self::Yaml,
        Self::CsvGz,
        Self::Parquet,
        Self::Npz,
        Self::Png,
        Self::File,
        Self::Folder,
        Self::Link,
    ];

    /// As the API and the database have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::CsvGz => "csv.gz",
            Self::Parquet => "parquet",
            Self::Npz => "npz",
            Self::Png => "png",
            Self::File => "file",
            Self::Folder => "folder",
            Self::Link => "link",
        }
    }

    /// The type of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// What the end of a file's name says, in upper or lower case.
    pub fn of_name(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let ends = |ending: &str| name.ends_with(ending);
        match () {
            () if ends(".json") => Self::Json,
            () if ends(".yaml") || ends(".yml") => Self::Yaml,
            () if ends(".csv.gz") => Self::CsvGz,
            () if ends(".parquet") => Self::Parquet,
            () if ends(".npz") => Self::Npz,
            () if ends(".png") => Self::Png,
            () => Self::File,
        }
    }

    /// What follows the name of a file of this type.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Json => ".json",
            Self::Yaml => ".yaml",
            Self::CsvGz => ".csv.gz",
            Self::Parquet => ".parquet",
            Self::Npz => ".npz",
            Self::Png => ".png",
            Self::Folder => ".zip",
            Self::File | Self::Link => "",
        }
    }
}

/// Whether a task reads an artifact or made it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ArtifactMode {
    /// It stays when the task is reset, and is copied with it.
    Input,
    /// It goes when the task is reset.
    #[default]
    Output,
}

impl ArtifactMode {
    /// As the API and the database have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

/// Where an artifact's content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArtifactContent {
    /// A file that was uploaded before.
    Stored(Digest),
    /// Elsewhere; it is only recorded.
    Elsewhere(String),
}

/// An artifact to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewArtifact {
    /// One of the same name and mode becomes a former version of it.
    pub name: String,
    /// Whether the task reads or made it.
    pub mode: ArtifactMode,
    /// What its content is.
    pub kind: ArtifactType,
    /// Where its content is.
    pub content: ArtifactContent,
    /// A media type, e.g. `text/csv`.
    pub content_type: String,
    /// What people see of the content.
    pub preview: String,
    /// Names and texts to show beside it.
    pub display: Vec<(String, String)>,
}

/// Longest preview, in bytes.
pub const MAX_PREVIEW_BYTES: usize = 4096;

/// The preview of a table by what its columns are called and hold, for a file that the server
/// does not look into: the number of rows, then a line for each column, as many as there is
/// room for.
pub fn table_preview<'a>(
    rows: u64,
    columns: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
) -> String {
    let count = columns.len();
    let mut preview = format!("{rows} rows, {count} columns");
    for (index, (name, element)) in columns.enumerate() {
        let line = format!("\n{} {element}", one_line(name));
        // Room for the last line.
        if preview.len() + line.len() + 40 > MAX_PREVIEW_BYTES {
            preview.push_str(&format!("\n… {} more", count - index));
            break;
        }
        preview.push_str(&line);
    }
    preview
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_known_by_its_name() {
        for kind in ArtifactType::ALL {
            assert_eq!(ArtifactType::parse(kind.as_str()), Some(kind));
            let json = serde_json::to_value(kind).unwrap();
            assert_eq!(json, kind.as_str());
        }
    }

    #[test]
    fn a_preview_of_a_table_names_as_many_columns_as_there_is_room_for() {
        let columns = [("row", "i64"), ("a\nb", "text")];
        let preview = table_preview(3, columns.into_iter());
        assert_eq!(preview, "3 rows, 2 columns\nrow i64\na b text");
        let long = "x".repeat(100);
        let columns = vec![(long.as_str(), "f64"); 1000];
        let preview = table_preview(0, columns.into_iter());
        assert!(preview.len() <= MAX_PREVIEW_BYTES, "{}", preview.len());
        assert!(preview.ends_with(" more"), "{preview}");
    }

    #[test]
    fn pickles_are_files() {
        for name in ["a.pkl", "a.pickle", "model.pt", "x", "a.feather"] {
            assert_eq!(ArtifactType::of_name(name), ArtifactType::File, "{name}");
        }
        assert_eq!(ArtifactType::of_name("T.CSV.GZ"), ArtifactType::CsvGz);
    }
}
