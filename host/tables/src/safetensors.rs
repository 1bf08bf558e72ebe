//! Headers of safetensors files, of data sets and of models.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use safetensors::tensor::Metadata;

/// Largest header: names, types and shapes of all tensors.
const MAX_HEADER_BYTES: u64 = 16 << 20;
/// Bytes of the header's length, which begin the file.
const PREFIX_BYTES: usize = 8;

/// How many bytes the header has; within the file, and not too many.
///
/// # Errors
/// What is wrong with the file.
pub fn header_bytes(file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut prefix = [0; PREFIX_BYTES];
    file.read_exact_at(&mut prefix, 0)?;
    let header_bytes = u64::from_le_bytes(prefix);
    if header_bytes > MAX_HEADER_BYTES {
        return Err(invalid(format!(
            "its header would have {header_bytes} bytes, but it may have at most {MAX_HEADER_BYTES}"
        )));
    }
    if header_bytes > length.saturating_sub(PREFIX_BYTES as u64) {
        return Err(invalid(format!(
            "it has {length} bytes, but its header would have {header_bytes}"
        )));
    }
    Ok(header_bytes)
}

/// Reads the header, and where the elements begin. Every tensor then lies in the file and has as
/// many bytes as its type and shape say.
///
/// # Errors
/// What is wrong with the file.
pub fn read_header(file: &File) -> io::Result<(Metadata, u64)> {
    let length = file.metadata()?.len();
    let header_bytes = header_bytes(file)?;
    let mut header = vec![0; usize::try_from(header_bytes).map_err(io::Error::other)?];
    file.read_exact_at(&mut header, PREFIX_BYTES as u64)?;
    let tensors: Metadata = serde_json::from_slice(&header)
        .map_err(|error| invalid(format!("its header is damaged: {error}")))?;
    let data_start = PREFIX_BYTES as u64 + header_bytes;
    let end = data_start.checked_add(tensors.data_len() as u64);
    if end != Some(length) {
        return Err(invalid(format!(
            "it has {length} bytes, but its header speaks of {} bytes of weights",
            tensors.data_len()
        )));
    }
    Ok((tensors, data_start))
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
