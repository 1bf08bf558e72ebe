//! `trainshed backup` and `trainshed restore`: beside a server or without one, straight from
//! the data folder, because a key opens one workspace and a backup has all.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use trainshed_engine::BackupCounts;

use crate::args::{BackupArgs, Global, RestoreArgs};
use crate::connect::{data_dir, database, store};
use crate::error::CliError;
use crate::local::now;
use crate::output::{Output, size};

pub(crate) async fn backup(
    global: &Global,
    arguments: BackupArgs,
    output: &Output,
) -> Result<ExitCode, CliError> {
    let folder = data_dir(global)?;
    if global.database.is_none() && !folder.join("trainshed.db").exists() {
        let folder = folder.display();
        return Err(CliError::Missing(format!(
            "there is no database in `{folder}`: --data-dir names the data folder of the server, \
             on its machine, and --database a PostgreSQL database"
        )));
    }
    if arguments.file.exists() {
        return Err(CliError::Usage(format!(
            "`{}` is there already: give another file, or remove it first",
            arguments.file.display()
        )));
    }
    // It has its name only when it is whole.
    let partial = arguments.file.with_extension("part");
    let failed = |verb| file_error(&arguments.file, verb);
    let target = File::create(&partial).map_err(failed("written"))?;
    let (database, files) = store(global);
    let written = trainshed_engine::backup(&folder, &database, files, target, now()).await;
    let counts = match written {
        Ok(counts) => counts,
        Err(error) => {
            // What is there of it is of no use to anyone.
            let _ = std::fs::remove_file(&partial);
            return Err(error.into());
        }
    };
    std::fs::rename(&partial, &arguments.file).map_err(failed("written"))?;
    tell(output, "saved", &counts);
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn restore(
    global: &Global,
    arguments: RestoreArgs,
    output: &Output,
) -> Result<ExitCode, CliError> {
    let folder = data_dir(global)?;
    if global.files.is_some() {
        let what = "files are restored into the data folder: leave out --files, and copy the folder `files` to where they are to be, under the same names";
        return Err(CliError::Usage(what.to_owned()));
    }
    let source = File::open(&arguments.file).map_err(file_error(&arguments.file, "read"))?;
    let counts = trainshed_engine::restore(&folder, &database(global), source).await?;
    tell(output, "restored", &counts);
    Ok(ExitCode::SUCCESS)
}

fn tell(output: &Output, done: &str, counts: &BackupCounts) {
    if output.is_json() {
        output.document(counts);
        return;
    }
    output.line(&format!(
        "{done} {} rows and {} files of {}",
        counts.rows,
        counts.files,
        size(counts.file_bytes)
    ));
}

fn file_error<'a>(path: &'a Path, verb: &'static str) -> impl Fn(std::io::Error) -> CliError + 'a {
    move |source| CliError::File {
        path: path.to_owned(),
        verb,
        source,
    }
}
