//! `trainshed gc`.

use std::process::ExitCode;

use trainshed_wire::GarbageRequest;

use crate::args::{GcArgs, Global};
use crate::connect::Connection;
use crate::error::CliError;
use crate::output::{Output, size};

pub(crate) async fn gc(
    global: &Global,
    arguments: GcArgs,
    output: &Output,
) -> Result<ExitCode, CliError> {
    let connection = Connection::open(global).await?;
    let request = GarbageRequest {
        dry_run: arguments.dry_run,
        keep_ms: arguments.keep.map(|seconds| seconds.saturating_mul(1000)),
        keep_uploads_ms: None,
    };
    let done = connection.client.collect_garbage(&request).await;
    connection.close().await;
    let garbage = done?;
    let rows = [
        ("files", garbage.files, Some(garbage.file_bytes)),
        ("uploads", garbage.uploads, Some(garbage.upload_bytes)),
        ("left over", garbage.left_over, None),
    ];
    let row = |(what, count, bytes): (&str, u64, Option<u64>)| {
        vec![
            what.to_owned(),
            count.to_string(),
            bytes.map(size).unwrap_or_default(),
        ]
    };
    output.list(&garbage, &["WHAT", "COUNT", "SIZE"], rows.map(row).to_vec());
    Ok(ExitCode::SUCCESS)
}
