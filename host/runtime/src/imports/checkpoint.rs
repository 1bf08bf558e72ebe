//! `checkpoint`: the model that the action goes on from, read from a safetensors file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use safetensors::tensor::{Metadata, TensorInfo};
use trainshed_core::name::is_file_path;
use trainshed_tables::archive;
use trainshed_tables::safetensors::read_header;
use trainshed_tensor::{DType, ProgramError, Tensor};
use wasmtime::component::Resource;

use crate::bindings::trainshed::plugin::checkpoint::{
    CheckpointError, Entry, Host, HostCheckpoint,
};
use crate::bindings::trainshed::plugin::compute::Program;
use crate::imports::models::PROGRAM_KEY;
use crate::job::CheckpointFile;
use crate::outcome;
use crate::state::TaskState;

/// How the file of a model begins that is a folder.
const ARCHIVE: [u8; 4] = *b"PK\x03\x04";

/// An opened checkpoint. Weights stay in the file until they are loaded.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Checkpoint {
    model_id: u64,
    iteration: u64,
    metadata: Vec<(String, String)>,
    file: File,
    tensors: Metadata,
    /// Where the header ends and the weights begin.
    data_start: u64,
}

impl Checkpoint {
    /// Opens the file and checks its header: that every tensor lies in the file and has as
    /// many bytes as its type and shape say.
    ///
    /// # Errors
    /// One sentence for the task's status.
    pub(crate) fn open(checkpoint: &CheckpointFile) -> Result<Self, String> {
        let opened = File::open(&checkpoint.path).and_then(|file| {
            let mut begin = [0; ARCHIVE.len()];
            let is_folder = file.read_exact_at(&mut begin, 0).is_ok() && begin == ARCHIVE;
            let (tensors, data_start) = match is_folder {
                true => (
                    Metadata::new(None, Vec::new()).map_err(io::Error::other)?,
                    0,
                ),
                false => read_header(&file)?,
            };
            Ok((file, tensors, data_start))
        });
        let (file, tensors, data_start) = opened.map_err(|error| {
            let error = outcome::one_line(&error.to_string());
            format!(
                "the weights of model {} cannot be read: {error}",
                checkpoint.model_id
            )
        })?;
        Ok(Self {
            model_id: checkpoint.model_id,
            iteration: checkpoint.iteration,
            metadata: checkpoint.metadata.clone(),
            file,
            tensors,
            data_start,
        })
    }
}

impl Host for TaskState {}

impl HostCheckpoint for TaskState {
    fn model_id(&mut self, checkpoint: Resource<Checkpoint>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&checkpoint)?.model_id)
    }

    fn iteration(&mut self, checkpoint: Resource<Checkpoint>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&checkpoint)?.iteration)
    }

    fn metadata(
        &mut self,
        checkpoint: Resource<Checkpoint>,
    ) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.table.get(&checkpoint)?.metadata.clone())
    }

    fn entries(&mut self, checkpoint: Resource<Checkpoint>) -> wasmtime::Result<Vec<Entry>> {
        let tensors = self.table.get(&checkpoint)?.tensors.tensors();
        let mut entries: Vec<Entry> = tensors
            .into_iter()
            .map(|(name, info)| Entry {
                name,
                dtype: type_name(info),
                shape: shape(info),
            })
            .collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn load(
        &mut self,
        checkpoint: Resource<Checkpoint>,
        name: String,
    ) -> wasmtime::Result<Result<Resource<Tensor>, CheckpointError>> {
        let loaded = load(self.table.get(&checkpoint)?, &name, self.tensors.budget());
        Ok(match loaded {
            Ok(tensor) => Ok(self.table.push(tensor)?),
            Err(error) => Err(error),
        })
    }

    fn program(
        &mut self,
        checkpoint: Resource<Checkpoint>,
    ) -> wasmtime::Result<Result<Option<Program>, CheckpointError>> {
        let program = program(&self.table.get(&checkpoint)?.tensors);
        Ok(program.map(|program| program.map(Into::into)))
    }

    fn unpack(
        &mut self,
        checkpoint: Resource<Checkpoint>,
        folder: String,
    ) -> wasmtime::Result<Result<(), CheckpointError>> {
        let unreadable = |message: String| CheckpointError::Unreadable(outcome::one_line(&message));
        if !is_file_path(&folder) {
            let folder = outcome::shortened(&folder, 200);
            let message = format!("`{folder}` is no folder below /scratch");
            return Ok(Err(unreadable(message)));
        }
        let (scratch, stop) = (&self.scratch, self.watch.interrupt_flag());
        let file = self.table.get(&checkpoint)?.file.try_clone()?;
        let unpacked = archive::unpack(file, |path, content| {
            scratch.add(&format!("{folder}/{path}"), content, &stop)
        });
        Ok(unpacked.map_err(|error| unreadable(format!("the model as a folder: {error}"))))
    }

    fn drop(&mut self, checkpoint: Resource<Checkpoint>) -> wasmtime::Result<()> {
        self.table.delete(checkpoint)?;
        Ok(())
    }
}

fn load(
    checkpoint: &Checkpoint,
    name: &str,
    budget: &trainshed_tensor::Budget,
) -> Result<Tensor, CheckpointError> {
    let Some(info) = checkpoint.tensors.info(name) else {
        return Err(CheckpointError::UnknownTensor(outcome::shortened(
            name, 200,
        )));
    };
    let unreadable = |message: &dyn std::fmt::Display| {
        CheckpointError::Unreadable(format!("tensor `{name}`: {message}"))
    };
    let Some(dtype) = DType::parse(&type_name(info)) else {
        let message = format!("its element type {} is not supported", type_name(info));
        return Err(unreadable(&message));
    };
    let start = checkpoint.data_start + info.data_offsets.0 as u64;
    let mut read = Ok(());
    let tensor = Tensor::build(dtype, &shape(info), budget, |bytes| {
        read = checkpoint.file.read_exact_at(bytes, start);
    });
    let tensor = tensor.map_err(|error| match error {
        ProgramError::OutOfMemory { needed, allowed } => {
            CheckpointError::OutOfMemory((needed, allowed))
        }
        other => unreadable(&other),
    })?;
    read.map_err(|error| unreadable(&error))?;
    Ok(tensor)
}

/// The program in a file's metadata, where `models.save-with-program` puts it.
fn program(file: &Metadata) -> Result<Option<trainshed_tensor::Program>, CheckpointError> {
    let texts = file.metadata().as_ref();
    let Some(text) = texts.and_then(|texts| texts.get(PROGRAM_KEY)) else {
        return Ok(None);
    };
    let unreadable = |message: &dyn std::fmt::Display| {
        CheckpointError::Unreadable(format!("`{PROGRAM_KEY}`: {message}"))
    };
    let bytes = BASE64.decode(text).map_err(|error| unreadable(&error))?;
    let program = trainshed_tensor::Program::from_bytes(&bytes);
    program.map(Some).map_err(|error| unreadable(&error))
}

/// The element type as this contract names it; others by their safetensors name.
fn type_name(info: &TensorInfo) -> String {
    format!("{:?}", info.dtype).to_lowercase()
}

fn shape(info: &TensorInfo) -> Vec<u64> {
    info.shape.iter().map(|size| *size as u64).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;
    use safetensors::tensor::TensorView;
    use trainshed_tensor::Budget;

    use super::*;

    fn open(content: &[u8]) -> Result<Checkpoint, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        std::fs::write(&path, content).unwrap();
        Checkpoint::open(&CheckpointFile {
            model_id: 7,
            iteration: 3,
            metadata: Vec::new(),
            path,
        })
    }

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let length = header.len() as u64;
        [&length.to_le_bytes(), header.as_bytes(), data].concat()
    }

    #[track_caller]
    fn check_damaged(content: &[u8], expected: Expect) {
        expected.assert_eq(&open(content).err().unwrap());
    }

    #[test]
    fn tensors_come_back_as_they_were_saved() {
        let weights = [1_f32, -2.5].map(f32::to_le_bytes).concat();
        let view = TensorView::new(safetensors::Dtype::F32, vec![2, 1], &weights).unwrap();
        let short = TensorView::new(safetensors::Dtype::I16, vec![1], &[0, 0]).unwrap();
        let views = [("hidden.weight", view), ("short", short)];
        let checkpoint = open(&safetensors::serialize(views, None).unwrap()).unwrap();

        let budget = Budget::new(1000);
        let loaded = load(&checkpoint, "hidden.weight", &budget).unwrap();
        assert_eq!(loaded.as_f32(), Some(&[1.0, -2.5][..]));
        assert_eq!(loaded.shape(), [2, 1]);
        assert!(matches!(
            load(&checkpoint, "absent", &budget),
            Err(CheckpointError::UnknownTensor(_))
        ));
        assert!(matches!(
            load(&checkpoint, "short", &budget),
            Err(CheckpointError::Unreadable(_))
        ));
        assert!(matches!(
            load(&checkpoint, "hidden.weight", &Budget::new(7)),
            Err(CheckpointError::OutOfMemory((8, 7)))
        ));
    }

    #[test]
    fn the_program_of_a_file_is_read_or_said_to_be_damaged() {
        let with = |text: Option<&str>| {
            let metadata = text.map(|text| [(PROGRAM_KEY.to_owned(), text.to_owned())].into());
            let no_tensors: [(&str, TensorView<'_>); 0] = [];
            let content = safetensors::serialize(no_tensors, metadata).unwrap();
            program(&open(&content).unwrap().tensors)
        };
        let mut saved = trainshed_tensor::Program::default();
        saved.push("state", &[], &[("index", 0.into())]);
        let text = BASE64.encode(saved.to_bytes());
        assert_eq!(with(Some(&text)).unwrap(), Some(saved));
        assert_eq!(with(None).unwrap(), None);
        for damaged in ["?", "AAAA"] {
            let outcome = with(Some(damaged));
            assert!(matches!(outcome, Err(CheckpointError::Unreadable(_))));
        }
    }

    #[test]
    fn damaged_files_are_refused_before_the_plugin_starts() {
        check_damaged(
            b"",
            expect![[r#"the weights of model 7 cannot be read: failed to fill whole buffer"#]],
        );
        check_damaged(
            &u64::MAX.to_le_bytes(),
            expect![[
                r#"the weights of model 7 cannot be read: its header would have 18446744073709551615 bytes, but it may have at most 16777216"#
            ]],
        );
        check_damaged(
            &1000_u64.to_le_bytes(),
            expect![[
                r#"the weights of model 7 cannot be read: it has 8 bytes, but its header would have 1000"#
            ]],
        );
        check_damaged(
            &file("[]", b""),
            expect![[
                r#"the weights of model 7 cannot be read: its header is damaged: invalid type: sequence, expected struct HashMetadata at line 1 column 0"#
            ]],
        );
        let outside = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        check_damaged(
            &file(outside, &[0; 4]),
            expect![[
                r#"the weights of model 7 cannot be read: it has 66 bytes, but its header speaks of 8 bytes of weights"#
            ]],
        );
        let huge = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#;
        check_damaged(
            &file(huge, &[0; 8]),
            expect![[
                r#"the weights of model 7 cannot be read: its header is damaged: overflow computing buffer size from shape and/or element type"#
            ]],
        );
    }

    proptest! {
        #[test]
        fn no_file_makes_the_reader_panic(header in r#"[{}\[\]":,a-zF0-9_]{0,60}"#, data: Vec<u8>) {
            // Most are refused, and that is all right.
            let _ = open(&file(&header, &data));
            let _ = open(&data);
        }
    }
}
