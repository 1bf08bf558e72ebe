//! `wasi:filesystem/types` under the scratch quota.
//!
//! wasmtime-wasi keeps a plugin inside its two folders and `/dataset` read-only; everything
//! that is not about the quota is left to it. It counts nothing, so whatever makes a file, or
//! makes one longer, is accounted for here. Links are refused: a hard link would be a second
//! name for one length, and a symbolic link has no use in a folder that is empty at first.
//! Reading and writing are done at once: the run has its thread to itself, and a stream holds
//! nothing of what it has read.

use std::fs::File as SystemFile;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use cap_std::fs::MetadataExt;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::filesystem::{Descriptor, Dir, File, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry,
    DirectoryEntryStream, ErrorCode, Filesize, HostDescriptor, HostDirectoryEntryStream,
    MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, FsError, FsResult, InputStream, OutputStream, Pollable,
    StreamError, StreamResult,
};

use super::scratch::{Full, Scratch};

/// Most bytes of one read, and of one write that may be announced.
const MAX_CHUNK_BYTES: usize = 64 << 10;

/// The file system of one run, for the length of one call.
pub(crate) struct Filesystem<'a> {
    inner: WasiFilesystemCtxView<'a>,
    scratch: &'a Scratch,
}

impl<'a> Filesystem<'a> {
    pub(crate) fn new(
        ctx: &'a mut WasiFilesystemCtx,
        table: &'a mut ResourceTable,
        scratch: &'a Scratch,
    ) -> Self {
        Self {
            inner: WasiFilesystemCtxView { ctx, table },
            scratch,
        }
    }

    fn file(&self, descriptor: &Resource<Descriptor>) -> FsResult<&File> {
        match self.inner.table.get(descriptor)? {
            Descriptor::File(file) => Ok(file),
            Descriptor::Dir(_) => Err(ErrorCode::BadDescriptor.into()),
        }
    }

    /// A file of the plugin's that it may write, which is one under `/scratch`.
    fn writable_file(&self, descriptor: &Resource<Descriptor>) -> FsResult<&File> {
        let file = self.file(descriptor)?;
        if file.perms.write_not_permitted() {
            return Err(ErrorCode::NotPermitted.into());
        }
        Ok(file)
    }

    fn folder(&self, descriptor: &Resource<Descriptor>) -> FsResult<&Dir> {
        match self.inner.table.get(descriptor)? {
            Descriptor::Dir(folder) => Ok(folder),
            Descriptor::File(_) => Err(ErrorCode::NotDirectory.into()),
        }
    }

    /// What lies at a path under `/scratch`, if anything does. Never leaves the folder.
    fn entry_at(&self, folder: &Resource<Descriptor>, path: &str) -> FsResult<Option<Entry>> {
        let folder = self.folder(folder)?;
        if folder.perms.write_not_permitted() {
            return Ok(None);
        }
        let folder = folder.dir.try_clone().map_err(ErrorCode::from)?;
        let folder = cap_std::fs::Dir::from_std_file(folder);
        let metadata = folder.symlink_metadata(path).ok();
        Ok(metadata.map(|metadata| Entry {
            inode: metadata.ino(),
            is_folder: metadata.is_dir(),
        }))
    }

    fn forget(&self, entry: &Entry) {
        let mut account = self.scratch.account();
        if entry.is_folder {
            account.removed_folder();
        } else {
            account.removed(entry.inode);
        }
    }
}

#[derive(PartialEq, Eq)]
struct Entry {
    inode: u64,
    is_folder: bool,
}

impl From<Full> for FsError {
    fn from(full: Full) -> Self {
        match full {
            Full::Space => ErrorCode::InsufficientSpace.into(),
            Full::Handles => ErrorCode::Quota.into(),
        }
    }
}

impl types::Host for Filesystem<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        self.inner.convert_error_code(error)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        self.inner.filesystem_error_code(error)
    }
}

impl HostDescriptor for Filesystem<'_> {
    async fn open_at(
        &mut self,
        folder: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        {
            let mut account = self.scratch.account();
            account.check_open()?;
            if open_flags.contains(OpenFlags::CREATE) {
                account.check_entries()?;
            }
        }
        let opened = self
            .inner
            .open_at(folder, path_flags, path, open_flags, flags)
            .await?;
        let mut account = self.scratch.account();
        match self.inner.table.get(&opened)? {
            Descriptor::File(file) => {
                account.opened(&file.file);
                if !file.perms.write_not_permitted() {
                    account.opened_here(&file.file).map_err(ErrorCode::from)?;
                }
            }
            Descriptor::Dir(folder) => account.opened(&folder.dir),
        }
        Ok(opened)
    }

    fn read_via_stream(
        &mut self,
        file: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        let file = match self.inner.table.get(&file)? {
            Descriptor::File(file) => Arc::clone(&file.file),
            Descriptor::Dir(_) => return Err(ErrorCode::IsDirectory.into()),
        };
        let stream: DynInputStream = Box::new(FileReader { file, offset });
        Ok(self.inner.table.push(stream)?)
    }

    fn write_via_stream(
        &mut self,
        file: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        let file = Arc::clone(&self.writable_file(&file)?.file);
        let stream: DynOutputStream = Box::new(FileWriter {
            file,
            offset: Some(offset),
            scratch: self.scratch.clone(),
        });
        Ok(self.inner.table.push(stream)?)
    }

    fn append_via_stream(
        &mut self,
        file: Resource<Descriptor>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let file = Arc::clone(&self.writable_file(&file)?.file);
        let stream: DynOutputStream = Box::new(FileWriter {
            file,
            offset: None,
            scratch: self.scratch.clone(),
        });
        Ok(self.inner.table.push(stream)?)
    }

    async fn write(
        &mut self,
        file: Resource<Descriptor>,
        bytes: Vec<u8>,
        offset: Filesize,
    ) -> FsResult<Filesize> {
        let file = &self.writable_file(&file)?.file;
        let written = self.scratch.write_at(file, &bytes, offset);
        written.map_err(ErrorCode::from)?;
        Ok(bytes.len() as Filesize)
    }

    async fn set_size(&mut self, file: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        let system_file = Arc::clone(&self.writable_file(&file)?.file);
        let inode = io_metadata(&system_file)?.ino();
        self.scratch.account().reserve(inode, size)?;
        let done = self.inner.set_size(file, size).await;
        let length = io_metadata(&system_file)?.len();
        self.scratch.account().set_length(inode, length);
        done
    }

    async fn create_directory_at(
        &mut self,
        folder: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        self.scratch.account().check_entries()?;
        self.inner.create_directory_at(folder, path).await?;
        self.scratch.account().made_folder();
        Ok(())
    }

    async fn remove_directory_at(
        &mut self,
        folder: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        self.inner.remove_directory_at(folder, path).await?;
        self.scratch.account().removed_folder();
        Ok(())
    }

    async fn unlink_file_at(&mut self, folder: Resource<Descriptor>, path: String) -> FsResult<()> {
        let entry = self.entry_at(&folder, &path)?;
        self.inner.unlink_file_at(folder, path).await?;
        if let Some(entry) = entry {
            self.forget(&entry);
        }
        Ok(())
    }

    async fn rename_at(
        &mut self,
        old_folder: Resource<Descriptor>,
        old_path: String,
        new_folder: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let moved = self.entry_at(&old_folder, &old_path)?;
        let replaced = self.entry_at(&new_folder, &new_path)?;
        self.inner
            .rename_at(old_folder, old_path, new_folder, new_path)
            .await?;
        // Renaming a file to itself does nothing.
        if let Some(replaced) = replaced.filter(|entry| moved.as_ref() != Some(entry)) {
            self.forget(&replaced);
        }
        Ok(())
    }

    async fn link_at(
        &mut self,
        _old_folder: Resource<Descriptor>,
        _path_flags: PathFlags,
        _old_path: String,
        _new_folder: Resource<Descriptor>,
        _new_path: String,
    ) -> FsResult<()> {
        Err(ErrorCode::NotPermitted.into())
    }

    async fn symlink_at(
        &mut self,
        _folder: Resource<Descriptor>,
        _target: String,
        _path: String,
    ) -> FsResult<()> {
        Err(ErrorCode::NotPermitted.into())
    }

    async fn read_directory(
        &mut self,
        folder: Resource<Descriptor>,
    ) -> FsResult<Resource<DirectoryEntryStream>> {
        self.scratch.account().begin_listing()?;
        let listing = self.inner.read_directory(folder).await;
        if listing.is_err() {
            self.scratch.account().end_listing();
        }
        listing
    }

    fn drop(&mut self, descriptor: Resource<Descriptor>) -> wasmtime::Result<()> {
        HostDescriptor::drop(&mut self.inner, descriptor)
    }

    // From here on, nothing that the quota is about.

    async fn read(
        &mut self,
        file: Resource<Descriptor>,
        length: Filesize,
        offset: Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        self.inner.read(file, length, offset).await
    }

    async fn advise(
        &mut self,
        file: Resource<Descriptor>,
        offset: Filesize,
        length: Filesize,
        advice: Advice,
    ) -> FsResult<()> {
        self.inner.advise(file, offset, length, advice).await
    }

    async fn sync_data(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        self.inner.sync_data(descriptor).await
    }

    async fn sync(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        self.inner.sync(descriptor).await
    }

    async fn get_flags(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        self.inner.get_flags(descriptor).await
    }

    async fn get_type(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorType> {
        self.inner.get_type(descriptor).await
    }

    async fn set_times(
        &mut self,
        descriptor: Resource<Descriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        self.inner.set_times(descriptor, accessed, modified).await
    }

    async fn set_times_at(
        &mut self,
        folder: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        self.inner
            .set_times_at(folder, path_flags, path, accessed, modified)
            .await
    }

    async fn stat(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        self.inner.stat(descriptor).await
    }

    async fn stat_at(
        &mut self,
        folder: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        self.inner.stat_at(folder, path_flags, path).await
    }

    async fn readlink_at(
        &mut self,
        folder: Resource<Descriptor>,
        path: String,
    ) -> FsResult<String> {
        self.inner.readlink_at(folder, path).await
    }

    async fn is_same_object(
        &mut self,
        left: Resource<Descriptor>,
        right: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        self.inner.is_same_object(left, right).await
    }

    async fn metadata_hash(
        &mut self,
        descriptor: Resource<Descriptor>,
    ) -> FsResult<MetadataHashValue> {
        self.inner.metadata_hash(descriptor).await
    }

    async fn metadata_hash_at(
        &mut self,
        folder: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        self.inner.metadata_hash_at(folder, path_flags, path).await
    }
}

impl HostDirectoryEntryStream for Filesystem<'_> {
    async fn read_directory_entry(
        &mut self,
        listing: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        self.inner.read_directory_entry(listing).await
    }

    fn drop(&mut self, listing: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.inner, listing)?;
        self.scratch.account().end_listing();
        Ok(())
    }
}

fn io_metadata(file: &SystemFile) -> FsResult<cap_std::fs::Metadata> {
    let metadata = cap_std::fs::Metadata::from_file(file).map_err(ErrorCode::from)?;
    Ok(metadata)
}

/// Reads a file from a place on.
struct FileReader {
    file: Arc<SystemFile>,
    offset: u64,
}

#[async_trait::async_trait]
impl InputStream for FileReader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        let mut buffer = vec![0; size.min(MAX_CHUNK_BYTES)];
        let length = loop {
            match self.file.read_at(&mut buffer, self.offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(failed)?,
            }
        };
        if length == 0 {
            return Err(StreamError::Closed);
        }
        buffer.truncate(length);
        self.offset += length as u64;
        Ok(buffer.into())
    }
}

#[async_trait::async_trait]
impl Pollable for FileReader {
    async fn ready(&mut self) {}
}

/// Writes a file from a place on, or at its end.
struct FileWriter {
    file: Arc<SystemFile>,
    offset: Option<u64>,
    scratch: Scratch,
}

#[async_trait::async_trait]
impl OutputStream for FileWriter {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let offset = match self.offset {
            Some(offset) => offset,
            None => self.file.metadata().map_err(failed)?.len(),
        };
        self.scratch
            .write_at(&self.file, &bytes, offset)
            .map_err(failed)?;
        if let Some(offset) = &mut self.offset {
            *offset += bytes.len() as u64;
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_CHUNK_BYTES)
    }
}

#[async_trait::async_trait]
impl Pollable for FileWriter {
    async fn ready(&mut self) {}
}

/// Keeps the system's error, which the plugin can ask for with `filesystem-error-code`.
fn failed(error: io::Error) -> StreamError {
    StreamError::LastOperationFailed(error.into())
}
