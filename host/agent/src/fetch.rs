//! What tasks need from the server, kept by digest on this machine.

use std::io;
use std::path::{Path, PathBuf};

use trainshed_core::Digest;
use trainshed_core::view::DatasetView;
use trainshed_wire::{Client, ClientError};

use crate::retry::until_answered;

/// Files and data sets by digest. A name appears only when its content is whole, so a process
/// that is killed leaves nothing half-written behind, and several agents may share the folder.
pub(crate) struct Cache {
    files: PathBuf,
    datasets: PathBuf,
}

impl Cache {
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            files: folder.join("files"),
            datasets: folder.join("datasets"),
        }
    }

    /// The path of a file, which is downloaded unless it is there.
    pub(crate) async fn file(
        &self,
        client: &Client,
        digest: &Digest,
    ) -> Result<PathBuf, ClientError> {
        let path = self.files.join(digest.to_string());
        if path.exists() {
            return Ok(path);
        }
        create_dir(&self.files)?;
        until_answered(|| client.download(digest, &path)).await?;
        Ok(path)
    }

    /// The folder with the files of a data set version, which is made unless it is there.
    pub(crate) async fn dataset(
        &self,
        client: &Client,
        dataset: &DatasetView,
    ) -> Result<PathBuf, ClientError> {
        let folder = self.datasets.join(dataset.digest.to_string());
        if folder.exists() {
            return Ok(folder);
        }
        create_dir(&self.datasets)?;
        let partial =
            tempfile::tempdir_in(&self.datasets).map_err(|error| failed(&self.datasets, error))?;
        for file in dataset.files.iter().flatten() {
            let path = partial.path().join(&file.path);
            create_dir(path.parent().expect("a path below a folder has a parent"))?;
            until_answered(|| client.download(&file.sha256, &path)).await?;
        }
        match std::fs::rename(partial.path(), &folder) {
            // It moved; there is nothing left to remove.
            Ok(()) => drop(partial.keep()),
            // Another agent was faster; ours goes away with `partial`.
            Err(_) if folder.exists() => {}
            Err(error) => return Err(failed(&folder, error)),
        }
        Ok(folder)
    }
}

fn create_dir(path: &Path) -> Result<(), ClientError> {
    std::fs::create_dir_all(path).map_err(|error| failed(path, error))
}

fn failed(path: &Path, source: io::Error) -> ClientError {
    ClientError::File {
        path: path.display().to_string(),
        source,
    }
}
