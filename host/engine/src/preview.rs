//! What people see of a stored file without downloading it.
//!
//! Only the beginning is looked at, or a directory that has been checked to be small. Nothing
//! here believes what a file says of its own size, and nothing is executed.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use trainshed_core::artifact::{ArtifactType, MAX_PREVIEW_BYTES};
use zip::ZipArchive;

/// Most bytes of the beginning that are looked at.
const MAX_HEAD_BYTES: u64 = 64 << 10;
/// Most members of an archive that are named.
const MAX_MEMBERS: usize = 50;
/// Longest directory of an archive that is read.
const MAX_DIRECTORY_BYTES: u64 = 4 << 20;

/// The preview of a file; empty where nothing can be said of it.
pub(crate) fn preview(kind: ArtifactType, content_type: &str, path: &Path) -> String {
    let Ok(mut file) = File::open(path) else {
        return String::new();
    };
    let made = match kind {
        ArtifactType::Json | ArtifactType::Yaml => text(&mut file),
        ArtifactType::File if content_type.starts_with("text/") => text(&mut file),
        ArtifactType::CsvGz => text(&mut MultiGzDecoder::new(file.take(MAX_HEAD_BYTES))),
        ArtifactType::Png => image(&mut file),
        ArtifactType::Npz => archive(file, true),
        ArtifactType::Folder => archive(file, false),
        ArtifactType::Parquet | ArtifactType::File | ArtifactType::Link => None,
    };
    made.unwrap_or_default()
}

/// The beginning of a text; `None` when it is none.
fn text(from: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    let limit = MAX_PREVIEW_BYTES as u64 + 1;
    // A stream that breaks off has a beginning too.
    let _ = from.take(limit).read_to_end(&mut head);
    let is_cut = head.len() > MAX_PREVIEW_BYTES;
    head.truncate(MAX_PREVIEW_BYTES);
    let known = match std::str::from_utf8(&head) {
        Ok(text) => text,
        // A character that was cut in two is no reason to show nothing.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    if known.contains('\0') {
        return None;
    }
    Some(format!("{known}{}", if is_cut { "…" } else { "" }))
}

/// Width and height out of the first chunk.
fn image(file: &mut File) -> Option<String> {
    let mut head = [0_u8; 24];
    file.read_exact(&mut head).ok()?;
    if !head.starts_with(b"\x89PNG\r\n\x1a\n") || &head[12..16] != b"IHDR" {
        return None;
    }
    let number =
        |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    Some(format!("{} x {} pixels", number(16), number(20)))
}

/// The members of an archive, with the types and shapes of arrays.
fn archive(mut file: File, arrays: bool) -> Option<String> {
    if directory_bytes(&mut file)? > MAX_DIRECTORY_BYTES {
        return None;
    }
    let mut archive = ZipArchive::new(file).ok()?;
    let count = archive.len();
    let mut lines = String::new();
    for index in 0..count.min(MAX_MEMBERS) {
        let mut member = archive.by_index(index).ok()?;
        let name: String = member.name().ok()?.chars().take(200).collect();
        let about = match arrays {
            true => array(&mut member).unwrap_or_default(),
            false => format!("{} bytes", member.size()),
        };
        let name = name
            .strip_suffix(".npy")
            .filter(|_| arrays)
            .unwrap_or(&name);
        writeln!(lines, "{name} {about}").expect("writing to a text cannot fail");
        if lines.len() > MAX_PREVIEW_BYTES {
            break;
        }
    }
    if count > MAX_MEMBERS {
        writeln!(lines, "… {count} in all").expect("writing to a text cannot fail");
    }
    Some(lines)
}

/// How long the directory at the end of an archive says that it is, or how long it could be
/// at most: an archive may lie about one of them only.
fn directory_bytes(file: &mut File) -> Option<u64> {
    let length = file.seek(SeekFrom::End(0)).ok()?;
    let tail = length.min(MAX_HEAD_BYTES + 22);
    file.seek(SeekFrom::End(-i64::try_from(tail).ok()?)).ok()?;
    let mut end = Vec::new();
    file.take(tail).read_to_end(&mut end).ok()?;
    let at = end.windows(4).rposition(|bytes| bytes == b"PK\x05\x06")?;
    let record = end.get(at..at + 22)?;
    let entries = u64::from(u16::from_le_bytes([record[10], record[11]]));
    let size = u64::from(u32::from_le_bytes([
        record[12], record[13], record[14], record[15],
    ]));
    // The least length of an entry is 46 bytes; a count of 65,535 stands for any number.
    (entries < 65_535 && entries.saturating_mul(46) <= size).then_some(size)
}

/// Type and shape out of the header of an array.
fn array(member: &mut impl Read) -> Option<String> {
    let mut start = [0_u8; 10];
    member.read_exact(&mut start).ok()?;
    if !start.starts_with(b"\x93NUMPY\x01") {
        return None;
    }
    let length = u16::from_le_bytes([start[8], start[9]]);
    let mut header = String::new();
    member
        .take(u64::from(length))
        .read_to_string(&mut header)
        .ok()?;
    let after = |key: &str| header.split_once(key).map(|(_, rest)| rest);
    let dtype = after("'descr': '")?.split('\'').next()?;
    let shape = after("'shape': (")?.split(')').next()?;
    let clean = |text: &str| -> String {
        let shown = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ');
        shown.take(100).collect()
    };
    Some(format!("{} ({})", clean(dtype), clean(shape)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use expect_test::{Expect, expect};
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;

    #[track_caller]
    fn check(kind: ArtifactType, content: &[u8], expected: Expect) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        expected.assert_eq(&preview(kind, "text/plain", file.path()));
    }

    fn zipped(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, content) in members {
            archive
                .start_file(*name, SimpleFileOptions::default())
                .unwrap();
            archive.write_all(content).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    #[test]
    fn texts_show_their_beginning() {
        check(ArtifactType::Json, b"{\"a\": 1}", expect![[r#"{"a": 1}"#]]);
        check(ArtifactType::File, b"\xff\xfe", expect![""]);
        check(ArtifactType::File, b"a\0b", expect![""]);
        let long = "ä".repeat(MAX_PREVIEW_BYTES);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(format!("x{long}").as_bytes()).unwrap();
        let shown = preview(ArtifactType::Yaml, "", file.path());
        assert_eq!(
            shown.chars().count(),
            1 + MAX_PREVIEW_BYTES / 2,
            "cut between characters"
        );
    }

    #[test]
    fn a_table_shows_its_first_rows_and_no_bomb_goes_off() {
        let packed = |content: &[u8]| {
            let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
            packer.write_all(content).unwrap();
            packer.finish().unwrap()
        };
        check(
            ArtifactType::CsvGz,
            &packed(b"a,b\n1,2\n"),
            expect![[r#"
            a,b
            1,2
        "#]],
        );
        let bomb = packed(&vec![b'x'; 50 << 20]);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bomb).unwrap();
        let shown = preview(ArtifactType::CsvGz, "", file.path());
        assert!(shown.len() < MAX_PREVIEW_BYTES + 10);
        check(ArtifactType::CsvGz, b"no gzip", expect![""]);
    }

    #[test]
    fn arrays_images_and_folders_show_what_is_in_them() {
        let header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }\n";
        let length = u16::try_from(header.len()).unwrap().to_le_bytes();
        let array = [b"\x93NUMPY\x01\x00", &length[..], header].concat();
        let arrays = zipped(&[("weights.npy", &array), ("odd.npy", b"x")]);
        check(
            ArtifactType::Npz,
            &arrays,
            expect![[r#"
            weights <f4 (3, 2)
            odd 
        "#]],
        );
        check(
            ArtifactType::Folder,
            &zipped(&[("a/b.txt", b"12345")]),
            expect![[r#"
            a/b.txt 5 bytes
        "#]],
        );
        check(ArtifactType::Npz, &arrays[..arrays.len() - 30], expect![""]);
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10\0\0\0\x08";
        check(ArtifactType::Png, png, expect!["16 x 8 pixels"]);
        check(ArtifactType::Png, b"GIF89a", expect![""]);
    }
}
