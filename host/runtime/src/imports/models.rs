//! `models`: what the task makes. Weights go from tensors to a file without passing through
//! the plugin's memory.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use safetensors::View;
use trainshed_core::Digest;
use trainshed_core::digest::Hasher;
use trainshed_core::model::{Keep, SavedModel, ScoreMode, Snapshot};
use trainshed_core::name::{is_model_name, is_series_name};
use trainshed_core::report::{LineSource, Real, Report};
use trainshed_tables::archive;
use trainshed_tensor::{DType, Tensor};
use wasmtime::component::Resource;

use super::artifacts::Out;
use super::run::Run;
use crate::bindings::trainshed::plugin::compute::Program;
use crate::bindings::trainshed::plugin::models::{
    Details, Host, Keep as RawKeep, Mode, ModelError,
};
use crate::job::Refused;
use crate::outcome::shortened;
use crate::state::TaskState;

/// Most tensors, and most labels, of one model.
const MAX_ENTRIES: usize = 10_000;
/// Most names of models that are not registered which a run remembers.
const MAX_UNREGISTERED: usize = 10_000;
/// Longest texts beside the weights, all together.
const MAX_METADATA_BYTES: usize = 64 << 10;
/// Longest class names, all together.
const MAX_LABEL_BYTES: usize = 1 << 20;
/// Longest serialised program of a model: as text, it fits a header with many tensors.
const MAX_PROGRAM_BYTES: usize = 8 << 20;
/// Where a model's file holds its program, in base64.
pub(crate) const PROGRAM_KEY: &str = "trainshed.program";

impl Host for TaskState {
    async fn save(
        &mut self,
        _run: Resource<Run>,
        name: String,
        tensors: Vec<(String, Resource<Tensor>)>,
        details: Details,
    ) -> wasmtime::Result<Result<(), ModelError>> {
        let named = self.named(tensors)?;
        let what = Saving::default();
        Ok(self.save_model(name, named, details, what).await)
    }

    async fn save_with_program(
        &mut self,
        _run: Resource<Run>,
        name: String,
        tensors: Vec<(String, Resource<Tensor>)>,
        details: Details,
        inference: Program,
    ) -> wasmtime::Result<Result<(), ModelError>> {
        let named = self.named(tensors)?;
        let program = match program_text(&inference.into(), &named) {
            Ok(text) => text,
            Err(message) => {
                let refused = ModelError::InvalidArgument(("inference".to_owned(), message));
                return Ok(Err(refused));
            }
        };
        let what = Saving {
            program: Some(program),
            snapshot: None,
        };
        Ok(self.save_model(name, named, details, what).await)
    }

    async fn snapshot(
        &mut self,
        _run: Resource<Run>,
        name: String,
        tensors: Vec<(String, Resource<Tensor>)>,
        details: Details,
        score: Option<f64>,
        keep: RawKeep,
    ) -> wasmtime::Result<Result<String, ModelError>> {
        let named = self.named(tensors)?;
        let asked = Keep {
            best: keep.best,
            last: keep.last,
            mode: match keep.mode {
                Mode::Max => ScoreMode::Max,
                Mode::Min => ScoreMode::Min,
            },
        };
        let snapshot = Snapshot {
            of: name.clone(),
            score: score.map(Real),
            keep: self.facts.keep.unwrap_or(asked),
        };
        let iteration = details
            .iteration
            .saturating_add(self.facts.initial_iteration);
        let slot = format!("{name}.{iteration}");
        let what = Saving {
            program: None,
            snapshot: Some(snapshot),
        };
        let saved = self.save_model(slot.clone(), named, details, what).await;
        Ok(saved.map(|()| slot))
    }

    async fn save_folder(
        &mut self,
        _run: Resource<Run>,
        name: String,
        folder: String,
        details: Details,
    ) -> wasmtime::Result<Result<(), ModelError>> {
        Ok(self.save_files(name, &folder, details).await)
    }
}

/// What a model is saved with beside its tensors.
#[derive(Default)]
struct Saving {
    program: Option<String>,
    snapshot: Option<Snapshot>,
}

impl TaskState {
    pub(super) fn named(
        &self,
        tensors: Vec<(String, Resource<Tensor>)>,
    ) -> wasmtime::Result<Vec<(String, Tensor)>> {
        let mut named = Vec::with_capacity(tensors.len());
        for (name, tensor) in tensors {
            named.push((name, self.table.get(&tensor)?.clone()));
        }
        Ok(named)
    }

    async fn save_model(
        &mut self,
        name: String,
        tensors: Vec<(String, Tensor)>,
        details: Details,
        what: Saving,
    ) -> Result<(), ModelError> {
        check(&name, &tensors, &details)?;
        if self.keeps_unregistered(&name) {
            return Ok(());
        }
        let data_bytes = tensors
            .iter()
            .map(|(_, tensor)| tensor.bytes().len() as u64);
        self.check_output(data_bytes.fold(0, u64::saturating_add))?;

        self.saves += 1;
        let file = format!("{name}.{}.safetensors", self.saves);
        let file = self.facts.outgoing.join(file);
        let (sha256, size_bytes) = write(tensors, what.program, &file)?;
        let model = SavedModel {
            name,
            iteration: details.iteration,
            sha256,
            size_bytes,
            labels: details.labels,
            metadata: details.metadata,
            is_folder: false,
            snapshot: what.snapshot,
        };
        self.hand_over_model(model, &file).await
    }

    /// Saves the files under a folder of `/scratch` as one archive.
    async fn save_files(
        &mut self,
        name: String,
        folder: &str,
        details: Details,
    ) -> Result<(), ModelError> {
        check(&name, &[], &details)?;
        let invalid = |message| ModelError::InvalidArgument(("folder".to_owned(), message));
        let paths = self.scratch_files(folder).map_err(invalid)?;
        if self.keeps_unregistered(&name) {
            return Ok(());
        }
        self.saves += 1;
        let file = format!("{name}.{}.zip", self.saves);
        let file = self.facts.outgoing.join(file);
        let base = self.scratch.folder().join(folder);
        let open = |path: &str| {
            let file = fs::File::open(base.join(path))?;
            let length = file.metadata()?.len();
            Ok((file, length))
        };
        let (stop, left) = (self.watch.interrupt_flag(), self.output.left());
        let mut too_long = None;
        let packed = Out::create(&file, Arc::clone(&stop), left).and_then(|mut out| {
            let packed = archive::pack(paths.iter().map(String::as_str), open, &mut out);
            too_long = out.too_long;
            packed?;
            hash(&file)
        });
        let (sha256, size_bytes) = packed.map_err(|error| {
            let _ = fs::remove_file(&file);
            match too_long {
                _ if stop.load(Ordering::Relaxed) => ModelError::Stopped,
                Some(bytes) => ModelError::QuotaExceeded((bytes, left)),
                None => ModelError::NotStored(error.to_string()),
            }
        })?;
        let model = SavedModel {
            name,
            iteration: details.iteration,
            sha256,
            size_bytes,
            labels: details.labels,
            metadata: details.metadata,
            is_folder: true,
            snapshot: None,
        };
        self.hand_over_model(model, &file).await
    }

    /// Uploads the file of a model, and then reports it.
    async fn hand_over_model(&mut self, model: SavedModel, file: &Path) -> Result<(), ModelError> {
        // The length is known only now: a header, or what packing has made of the files.
        if let Err(error) = self.check_output(model.size_bytes) {
            // The folder goes when the task ends; until then the file is only in the way.
            let _ = fs::remove_file(file);
            return Err(error);
        }
        self.output.take(model.size_bytes);
        let uploaded = self
            .services
            .upload(file, model.sha256, model.size_bytes)
            .await;
        uploaded.map_err(refusal)?;
        let name = model.name.clone();
        let reported = self.services.report(Report::Model(model)).await;
        reported.map_err(refusal)?;
        self.saved_models.insert(name);
        Ok(())
    }

    /// Whether the action keeps a model of this name from being registered; the console says so
    /// once.
    fn keeps_unregistered(&mut self, name: &str) -> bool {
        if self.facts.autolog.registers(name) {
            return false;
        }
        if self.unregistered.len() < MAX_UNREGISTERED && self.unregistered.insert(name.to_owned()) {
            let told =
                format!("the model `{name}` is not registered: `autolog.models` leaves it out");
            // A console that takes nothing does not keep the plugin from going on.
            let _ = self.console.text(LineSource::Host, told);
        }
        true
    }

    fn check_output(&self, bytes: u64) -> Result<(), ModelError> {
        let left = self.output.left();
        if bytes > left {
            return Err(ModelError::QuotaExceeded((bytes, left)));
        }
        Ok(())
    }
}

fn check(name: &str, tensors: &[(String, Tensor)], details: &Details) -> Result<(), ModelError> {
    let invalid = |argument: &str, message: String| {
        Err(ModelError::InvalidArgument((argument.to_owned(), message)))
    };
    if !is_model_name(name) {
        let message = "must have 1 to 100 bytes of A-Z, a-z, 0-9, `.`, `_` and `-`";
        return invalid("name", message.to_owned());
    }
    let many = tensors.len().max(details.labels.len());
    if many > MAX_ENTRIES {
        let message = format!("must have at most {MAX_ENTRIES} entries, but there are {many}");
        return invalid("tensors or labels", message);
    }
    let mut names = HashSet::new();
    for (name, _) in tensors {
        if !is_series_name(name) || name == "__metadata__" {
            let message = "must have names of 1 to 200 bytes without control characters, and not `__metadata__`";
            return invalid("tensors", message.to_owned());
        }
        if !names.insert(name) {
            return invalid("tensors", format!("must have one tensor named `{name}`"));
        }
    }
    let label_bytes: usize = details.labels.iter().map(|(name, _)| name.len()).sum();
    if label_bytes > MAX_LABEL_BYTES {
        let message = format!("must have at most {MAX_LABEL_BYTES} bytes, but has {label_bytes}");
        return invalid("labels", message);
    }
    let mut keys = HashSet::new();
    let mut metadata_bytes = 0;
    for (key, value) in &details.metadata {
        metadata_bytes += key.len() + value.len();
        if !keys.insert(key) {
            let message = "must have every key once".to_owned();
            return invalid("metadata", message);
        }
    }
    if metadata_bytes > MAX_METADATA_BYTES {
        let message =
            format!("must have at most {MAX_METADATA_BYTES} bytes, but has {metadata_bytes}");
        return invalid("metadata", message);
    }
    Ok(())
}

/// A program as the text that a model's file holds, when its states are among the tensors;
/// otherwise what is wrong with it.
fn program_text(
    program: &trainshed_tensor::Program,
    tensors: &[(String, Tensor)],
) -> Result<String, String> {
    let states = program.states().map_err(|error| error.to_string())?;
    if !program.updates.is_empty() {
        return Err("must not update its states".to_owned());
    }
    let tensors: HashMap<&str, &Tensor> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    for (index, state) in states.iter().enumerate() {
        let Some(label) = &state.label else {
            return Err(format!(
                "must have labels on its `state` instructions, but state {index} has none"
            ));
        };
        let label = shortened(label, 200);
        let Some(tensor) = tensors.get(label.as_str()) else {
            return Err(format!(
                "must have states that are saved, but `{label}` is not"
            ));
        };
        let (dtype, shape) = (state.dtype, &state.shape);
        if (tensor.dtype(), tensor.shape()) != (dtype, shape) {
            let (found, size) = (tensor.dtype(), tensor.shape());
            return Err(format!(
                "must have states like the tensors, but `{label}` is {dtype} {shape:?} there and {found} {size:?} here"
            ));
        }
    }
    let bytes = program.to_bytes();
    if bytes.len() > MAX_PROGRAM_BYTES {
        let found = bytes.len();
        return Err(format!(
            "must have at most {MAX_PROGRAM_BYTES} bytes, but has {found}"
        ));
    }
    Ok(BASE64.encode(bytes))
}

/// Writes a safetensors file. The same tensors and program give the same bytes.
fn write(
    tensors: Vec<(String, Tensor)>,
    program: Option<String>,
    file: &Path,
) -> Result<(Digest, u64), ModelError> {
    let not_stored = |error: &dyn std::fmt::Display| ModelError::NotStored(error.to_string());
    let views = tensors
        .into_iter()
        .map(|(name, tensor)| (name, Weights(tensor)));
    let metadata = program.map(|text| HashMap::from([(PROGRAM_KEY.to_owned(), text)]));
    safetensors::serialize_to_file(views, metadata, file).map_err(|error| not_stored(&error))?;
    hash(file).map_err(|error| not_stored(&error))
}

/// The digest and the length of a file.
pub(crate) fn hash(file: &Path) -> std::io::Result<(Digest, u64)> {
    let mut file = fs::File::open(file)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 256 << 10];
    let mut size_bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hasher.finish(), size_bytes)),
            length => {
                hasher.update(&buffer[..length]);
                size_bytes += length as u64;
            }
        }
    }
}

fn refusal(refused: Refused) -> ModelError {
    match refused {
        Refused::Stopped => ModelError::Stopped,
        Refused::Failed(reason) => ModelError::NotStored(reason),
    }
}

/// A tensor as safetensors wants to see it.
struct Weights(Tensor);

impl View for Weights {
    fn dtype(&self) -> safetensors::Dtype {
        match self.0.dtype() {
            DType::F32 => safetensors::Dtype::F32,
            DType::F64 => safetensors::Dtype::F64,
            DType::Bf16 => safetensors::Dtype::BF16,
            DType::F16 => safetensors::Dtype::F16,
            DType::I32 => safetensors::Dtype::I32,
            DType::I64 => safetensors::Dtype::I64,
            DType::U8 => safetensors::Dtype::U8,
            DType::U32 => safetensors::Dtype::U32,
            DType::Bool => safetensors::Dtype::BOOL,
        }
    }

    fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.0.bytes().into()
    }

    fn data_len(&self) -> usize {
        self.0.bytes().len()
    }
}
