//! Folders as zip archives.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};

use trainshed_core::name::is_file_path;
use trainshed_core::text::{one_line, shortened};
use zip::read::Config;
use zip::result::ZipError;
use zip::unstable::read::ZipIterable;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipReadOptions, ZipWriter};

/// Most files of an archive that is unpacked.
const MAX_MEMBERS: usize = 10_000;

/// Packs files, given by their paths in the archive and how to open them, in their order. The
/// same files give the same bytes: no times and no permissions are kept.
///
/// # Errors
/// When a file cannot be read, or `out` fails.
pub fn pack<'a, R: Read>(
    files: impl IntoIterator<Item = &'a str>,
    mut open: impl FnMut(&str) -> io::Result<(R, u64)>,
    out: impl Write + Seek,
) -> io::Result<()> {
    let mut archive = ZipWriter::new(out);
    for path in files {
        let (mut file, length) = open(path)?;
        archive
            .start_file(path, member_options(length))
            .map_err(zip_error)?;
        io::copy(&mut file, &mut archive)?;
    }
    archive.finish().map_err(zip_error)?.flush()
}

/// Unpacks an archive: `take` gets each file's path, which is relative and stays below its
/// folder, and its content. Folders need no entry of their own.
///
/// The directory is read one entry at a time, so that how many entries it claims, and how large
/// they claim to be, costs no memory; how much is taken is for `take` to bound.
///
/// # Errors
/// One sentence, when the file is no archive, an entry is no plain file with such a path, a path
/// is there twice, there are more than 10,000 files, or `take` fails.
pub fn unpack(
    archive: File,
    mut take: impl FnMut(&str, &mut dyn Read) -> io::Result<()>,
) -> io::Result<()> {
    let mut contents = BufReader::new(archive.try_clone()?);
    let mut directory =
        ZipIterable::try_new(BufReader::new(archive), Config::default()).map_err(zip_error)?;
    if directory.len() > MAX_MEMBERS {
        let members = directory.len();
        return Err(io::Error::other(format!(
            "it has {members} entries, but it may have at most {MAX_MEMBERS}"
        )));
    }
    let mut known = HashSet::new();
    for entry in directory.files().map_err(zip_error)? {
        let entry = entry.map_err(zip_error)?;
        let path = entry.name().map_err(zip_error)?.into_owned();
        if path.ends_with('/') {
            continue;
        }
        let shown = shortened(&one_line(&path), 200);
        if !is_file_path(&path) {
            return Err(io::Error::other(format!(
                "`{shown}` is no path below a folder"
            )));
        }
        if !known.insert(path.clone()) {
            return Err(io::Error::other(format!("`{shown}` is there twice")));
        }
        let mut content = entry
            .with_reader(&mut contents, ZipReadOptions::default())
            .map_err(zip_error)?;
        if !content.is_file() {
            return Err(io::Error::other(format!("`{shown}` is no plain file")));
        }
        take(&path, &mut content)?;
    }
    Ok(())
}

/// How a member of `length` bytes is written: at no time, so that the same content gives the
/// same bytes.
pub(crate) fn member_options(length: u64) -> SimpleFileOptions {
    SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default())
        .large_file(length >= u64::from(u32::MAX) / 2)
}

/// What the archive's library says, with the system's own errors as they are.
pub(crate) fn zip_error(error: ZipError) -> io::Error {
    match error {
        ZipError::Io(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;

    fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
        let contents: BTreeMap<&str, &[u8]> = files.iter().copied().collect();
        let mut out = io::Cursor::new(Vec::new());
        let open = |path: &str| Ok((contents[path], contents[path].len() as u64));
        pack(files.iter().map(|(path, _)| *path), open, &mut out).unwrap();
        out.into_inner()
    }

    fn unpacked(bytes: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut file = tempfile::tempfile()?;
        file.write_all(bytes)?;
        let mut found = Vec::new();
        unpack(file, |path, content| {
            let mut bytes = Vec::new();
            content.take(1 << 20).read_to_end(&mut bytes)?;
            found.push((path.to_owned(), bytes));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn a_folder_comes_back_with_its_paths_and_packs_to_the_same_bytes() {
        let files: &[(&str, &[u8])] = &[("a.txt", b"one"), ("sub/b.bin", &[0; 1000]), ("é", b"")];
        let bytes = packed(files);
        assert_eq!(bytes, packed(files));
        let back = unpacked(&bytes).unwrap();
        let back: Vec<(&str, &[u8])> = back.iter().map(|(path, b)| (&**path, &**b)).collect();
        assert_eq!(back, files);
    }

    #[test]
    fn an_archive_that_leads_out_of_its_folder_is_refused() {
        let answer = |path: &str| {
            let mut archive = ZipWriter::new(io::Cursor::new(Vec::new()));
            archive.start_file(path, member_options(0)).unwrap();
            let bytes = archive.finish().unwrap().into_inner();
            unpacked(&bytes).unwrap_err().to_string()
        };
        let answers = ["../x", "/etc/passwd", "a/../../x", "a\\b", "C:x"].map(answer);
        expect![[r#"
            [
                "`../x` is no path below a folder",
                "`/etc/passwd` is no path below a folder",
                "`a/../../x` is no path below a folder",
                "`a\\b` is no path below a folder",
                "`C:x` is no path below a folder",
            ]
        "#]]
        .assert_debug_eq(&answers);
        let mut archive = ZipWriter::new(io::Cursor::new(Vec::new()));
        archive
            .add_symlink("link", "/etc/passwd", member_options(0))
            .unwrap();
        let bytes = archive.finish().unwrap().into_inner();
        let error = unpacked(&bytes).unwrap_err().to_string();
        assert_eq!(error, "`link` is no plain file");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(flips in prop::collection::vec((0usize..400, any::<u8>()), 1..6)) {
            let mut bytes = packed(&[("a.txt", b"one"), ("sub/b.bin", &[7; 300])]);
            for (place, value) in flips {
                let place = place % bytes.len();
                bytes[place] = value;
            }
            // Most are refused, and that is all right.
            let _ = unpacked(&bytes);
        }
    }
}
