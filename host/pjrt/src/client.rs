//! A plugin's client, and what it makes: programs and buffers.

use std::ffi::c_int;
use std::fmt;
use std::ptr;
use std::sync::Arc;

use trainshed_tensor::{DType, DeviceMemory};

use crate::abi::{self, Call, Name};
use crate::plugin::{LoadError, Plugin, address_of, start_of};

/// What a plugin says when it fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PjrtError {
    /// In its own words.
    pub message: String,
    /// Whether memory was too little.
    pub out_of_memory: bool,
}

/// A device that a plugin serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The vendor's name of the model.
    pub kind: String,
    /// Bytes of memory that programs may use, if the plugin says.
    pub memory_bytes: Option<u64>,
}

/// A connection to the devices of a plugin. Clones share it.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    plugin: Plugin,
    client: *mut abi::Client,
    devices: Vec<*mut abi::Device>,
    platform: String,
    platform_version: String,
}

// SAFETY: the interface says that a client, its devices, programs and buffers may be used
// by several threads at a time.
#[expect(unsafe_code, reason = "objects of a plugin are pointers")]
unsafe impl Send for Shared {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "objects of a plugin are pointers")]
unsafe impl Sync for Shared {}

impl Drop for Shared {
    fn drop(&mut self) {
        self.plugin.destroy(Name::ClientDestroy, self.client);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Client({})", self.shared.platform)
    }
}

impl Client {
    /// Opens the devices of a plugin.
    ///
    /// # Errors
    /// [`LoadError::Refused`], e.g. when there is no driver.
    pub fn create(plugin: &Plugin) -> Result<Self, LoadError> {
        Self::open(plugin).map_err(|source| LoadError::Refused {
            path: plugin.path().to_owned(),
            source,
        })
    }

    #[expect(unsafe_code, reason = "the plugin lists its devices in an array")]
    fn open(plugin: &Plugin) -> Result<Self, PjrtError> {
        let option = no_preallocation();
        let options: &[abi::NamedValue] = if takes_memory_options(plugin) {
            std::slice::from_ref(&option)
        } else {
            &[]
        };
        let created = plugin.call(
            Name::ClientCreate,
            abi::ClientCreate {
                options: options.as_ptr(),
                option_count: options.len(),
                callbacks: [ptr::null_mut(); 4],
                client: ptr::null_mut(),
                further_callbacks: [ptr::null_mut(); 2],
            },
        )?;
        // From here on the client is destroyed whatever fails.
        let mut shared = Shared {
            plugin: plugin.clone(),
            client: created.client,
            devices: Vec::new(),
            platform: String::new(),
            platform_version: String::new(),
        };
        shared.platform = plugin.text_of(Name::ClientPlatformName, shared.client)?;
        shared.platform_version = plugin.text_of(Name::ClientPlatformVersion, shared.client)?;
        let listed = plugin.call(
            Name::ClientAddressableDevices,
            abi::AddressableDevices {
                client: shared.client,
                devices: ptr::null(),
                count: 0,
            },
        )?;
        if listed.count == 0 || listed.devices.is_null() {
            return Err(PjrtError {
                message: "it has no devices".to_owned(),
                out_of_memory: false,
            });
        }
        // SAFETY: the plugin has just said that so many devices are listed there.
        let devices = unsafe { std::slice::from_raw_parts(listed.devices, listed.count) };
        shared.devices = devices.to_vec();
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// What the plugin calls its kind of device, e.g. `cuda`.
    pub fn platform(&self) -> &str {
        &self.shared.platform
    }

    /// The versions of compiler and driver, in the plugin's words.
    pub fn platform_version(&self) -> &str {
        &self.shared.platform_version
    }

    /// What tells one build of a plugin from another.
    pub(crate) fn plugin_identity(&self) -> String {
        let plugin = &self.shared.plugin;
        let metadata = std::fs::metadata(plugin.path()).ok();
        let changed = metadata.as_ref().and_then(|file| file.modified().ok());
        let size = metadata.map(|file| file.len());
        format!(
            "{} {:?} {size:?} {changed:?}",
            plugin.path().display(),
            plugin.version()
        )
    }

    /// The devices, at least one. Programs run on the first.
    pub fn devices(&self) -> Vec<DeviceInfo> {
        let devices = self.shared.devices.iter();
        devices
            .map(|&device| self.shared.describe(device))
            .collect()
    }

    /// Compiles MLIR text.
    pub(crate) fn compile(&self, text: &str) -> Result<Loaded, PjrtError> {
        const FORMAT: &[u8] = b"mlir";
        let shared = &self.shared;
        let options = self.options();
        let program = Call::new(abi::Program {
            code: start_of(text.as_bytes()),
            code_length: text.len(),
            format: start_of(FORMAT),
            format_length: FORMAT.len(),
        });
        let compiled = shared.plugin.call(
            Name::ClientCompile,
            abi::Compile {
                client: shared.client,
                program: &raw const program,
                options: start_of(&options),
                options_length: options.len(),
                executable: ptr::null_mut(),
            },
        )?;
        self.loaded(compiled.executable)
    }

    /// Loads what [`Loaded::serialize`] gave.
    pub(crate) fn load(&self, bytes: &[u8]) -> Result<Loaded, PjrtError> {
        let shared = &self.shared;
        let loaded = shared.plugin.call(
            Name::ExecutableDeserializeAndLoad,
            abi::DeserializeAndLoad {
                client: shared.client,
                bytes: start_of(bytes),
                length: bytes.len(),
                executable: ptr::null_mut(),
                options: ptr::null(),
                options_length: 0,
            },
        )?;
        self.loaded(loaded.executable)
    }

    fn loaded(&self, loaded: *mut abi::LoadedExecutable) -> Result<Loaded, PjrtError> {
        let mut program = Loaded {
            client: Arc::clone(&self.shared),
            loaded,
            executable: ptr::null_mut(),
            results: 0,
        };
        let plugin = &self.shared.plugin;
        let got = plugin.call(
            Name::LoadedExecutableGetExecutable,
            abi::GetExecutable {
                loaded,
                executable: ptr::null_mut(),
            },
        )?;
        program.executable = got.executable;
        let outputs = plugin.call(
            Name::ExecutableNumOutputs,
            abi::NumOutputs {
                executable: program.executable,
                count: 0,
            },
        )?;
        program.results = outputs.count;
        Ok(program)
    }

    /// What a program is compiled for: one replica on one partition, on the first device.
    /// This is a `CompileOptionsProto` of XLA: of `executable_build_options` (field 3) the
    /// `device_ordinal` -1 (field 1), `num_replicas` 1 (4) and `num_partitions` 1 (5).
    pub(crate) fn options(&self) -> Vec<u8> {
        let minus_one = [[0xff; 9].as_slice(), &[0x01]].concat();
        let build = [&[0x08], minus_one.as_slice(), &[0x20, 1, 0x28, 1]].concat();
        let mut options = field(3, &build);
        // What a maximum of NaN is and in which order sums are taken must not be left open.
        let flag = match self.platform() {
            "cuda" | "rocm" => Some(("xla_gpu_deterministic_ops", true)),
            "cpu" => Some(("xla_cpu_enable_fast_min_max", false)),
            _ => None,
        };
        if let Some((name, value)) = flag {
            // Of `env_option_overrides` (field 7): the key (1), and a flag (2) in a value (2).
            let value = field(2, &[0x10, u8::from(value)]);
            options.extend(field(7, &[field(1, name.as_bytes()), value].concat()));
        }
        options
    }

    /// Copies elements to the first device.
    pub(crate) fn upload(
        &self,
        dtype: DType,
        shape: &[usize],
        bytes: &[u8],
    ) -> Result<Buffer, PjrtError> {
        let shared = &self.shared;
        let dims = dims(shape);
        let made = shared.plugin.call(
            Name::ClientBufferFromHostBuffer,
            abi::BufferFromHostBuffer {
                client: shared.client,
                data: address_of(bytes),
                element_type: element_type(dtype),
                dims: dims.as_ptr(),
                rank: dims.len(),
                strides: ptr::null(),
                stride_count: 0,
                semantics: abi::UNTIL_TRANSFER_COMPLETES,
                device: shared.devices[0],
                memory: ptr::null_mut(),
                layout: ptr::null_mut(),
                done_with_data: ptr::null_mut(),
                buffer: ptr::null_mut(),
            },
        )?;
        let buffer = Buffer {
            client: Arc::clone(shared),
            buffer: made.buffer,
        };
        shared.plugin.wait(made.done_with_data)?;
        Ok(buffer)
    }
}

impl Shared {
    fn describe(&self, device: *mut abi::Device) -> DeviceInfo {
        let description = self.plugin.call(
            Name::DeviceGetDescription,
            abi::GetDescription {
                device,
                description: ptr::null_mut(),
            },
        );
        let kind = description.and_then(|got| {
            self.plugin
                .text_of(Name::DeviceDescriptionKind, got.description)
        });
        // Not every plugin counts memory.
        let memory = self.plugin.call(
            Name::DeviceMemoryStats,
            abi::DeviceMemoryStats {
                device,
                bytes_in_use: 0,
                peak_bytes_in_use: abi::Optional::default(),
                allocations: abi::Optional::default(),
                largest_allocation: abi::Optional::default(),
                bytes_limit: abi::Optional::default(),
            },
        );
        let limit = memory.ok().map(|memory| memory.bytes_limit);
        DeviceInfo {
            kind: kind.unwrap_or_else(|error| format!("unknown ({error})")),
            memory_bytes: limit
                .filter(|limit| limit.is_set)
                .and_then(|limit| u64::try_from(limit.value).ok()),
        }
    }
}

/// A compiled program.
pub(crate) struct Loaded {
    client: Arc<Shared>,
    loaded: *mut abi::LoadedExecutable,
    executable: *mut abi::Executable,
    results: usize,
}

// SAFETY: as for `Shared`.
#[expect(unsafe_code, reason = "objects of a plugin are pointers")]
unsafe impl Send for Loaded {}
// SAFETY: as for `Shared`.
#[expect(unsafe_code, reason = "objects of a plugin are pointers")]
unsafe impl Sync for Loaded {}

impl Drop for Loaded {
    fn drop(&mut self) {
        let plugin = &self.client.plugin;
        plugin.destroy(Name::ExecutableDestroy, self.executable);
        plugin.destroy(Name::LoadedExecutableDestroy, self.loaded);
    }
}

impl Loaded {
    /// The compiled program as bytes, for this plugin on this kind of device.
    #[expect(
        unsafe_code,
        reason = "the plugin owns the bytes until they are deleted"
    )]
    pub(crate) fn serialize(&self) -> Result<Vec<u8>, PjrtError> {
        let made = self.client.plugin.call(
            Name::ExecutableSerialize,
            abi::Serialize {
                executable: self.executable,
                bytes: ptr::null(),
                length: 0,
                serialized: ptr::null_mut(),
                delete: None,
            },
        )?;
        let mut bytes = Vec::new();
        if !made.bytes.is_null() {
            // SAFETY: the plugin has just said that so many bytes lie there.
            let made = unsafe { std::slice::from_raw_parts(made.bytes.cast::<u8>(), made.length) };
            bytes.extend_from_slice(made);
        }
        if let Some(delete) = made.delete {
            // SAFETY: the function came with this object and is called once.
            unsafe { delete(made.serialized) };
        }
        Ok(bytes)
    }

    /// `None` when the plugin does not count.
    pub(crate) fn memory(&self) -> Option<DeviceMemory> {
        let stats = self.client.plugin.call(
            Name::ExecutableGetCompiledMemoryStats,
            abi::CompiledMemoryStats {
                executable: self.executable,
                code_bytes: 0,
                argument_bytes: 0,
                output_bytes: 0,
                alias_bytes: 0,
                temporary_bytes: 0,
                host: [0; 5],
            },
        );
        let stats = stats.ok()?;
        let bytes = |count: i64| u64::try_from(count).unwrap_or(0);
        Some(DeviceMemory {
            arguments: bytes(stats.argument_bytes),
            outputs: bytes(stats.output_bytes),
            aliased: bytes(stats.alias_bytes),
            temporary: bytes(stats.temporary_bytes),
        })
    }

    /// Runs the program and waits for its end. Arguments with a flag may be taken over.
    pub(crate) fn run(&self, arguments: &[(&Buffer, bool)]) -> Result<Vec<Buffer>, PjrtError> {
        let not_donated: Vec<i64> = (0..)
            .zip(arguments)
            .filter(|(_, (_, donated))| !donated)
            .map(|(place, _)| place)
            .collect();
        let mut options = Call::new(abi::ExecuteOptions {
            send_callbacks: ptr::null_mut(),
            receive_callbacks: ptr::null_mut(),
            sends: 0,
            receives: 0,
            launch_id: 0,
            not_donated: not_donated.as_ptr(),
            not_donated_count: not_donated.len(),
            context: ptr::null_mut(),
        });
        let buffers: Vec<_> = arguments.iter().map(|(buffer, _)| buffer.buffer).collect();
        let lists = [buffers.as_ptr()];
        let mut results = vec![ptr::null_mut(); self.results];
        let result_lists = [results.as_mut_ptr()];
        let mut complete = [ptr::null_mut()];
        let plugin = &self.client.plugin;
        let run = plugin.call(
            Name::LoadedExecutableExecute,
            abi::Execute {
                executable: self.loaded,
                options: &raw mut options,
                arguments: lists.as_ptr(),
                devices: 1,
                argument_count: buffers.len(),
                results: result_lists.as_ptr(),
                complete: complete.as_mut_ptr(),
                device: ptr::null_mut(),
            },
        );
        // Made into values first, so that they are destroyed whatever has failed.
        let results: Vec<Buffer> = results
            .into_iter()
            .filter(|buffer| !buffer.is_null())
            .map(|buffer| Buffer {
                client: Arc::clone(&self.client),
                buffer,
            })
            .collect();
        run?;
        plugin.wait(complete[0])?;
        if results.len() != self.results {
            return Err(PjrtError {
                message: format!(
                    "the plugin gave {} results of a program that has {}",
                    results.len(),
                    self.results
                ),
                out_of_memory: false,
            });
        }
        Ok(results)
    }
}

/// A tensor in the device's memory.
pub(crate) struct Buffer {
    client: Arc<Shared>,
    buffer: *mut abi::Buffer,
}

// SAFETY: as for `Shared`.
#[expect(unsafe_code, reason = "objects of a plugin are pointers")]
unsafe impl Send for Buffer {}
// SAFETY: as for `Shared`.
#[expect(unsafe_code, reason = "objects of a plugin are pointers")]
unsafe impl Sync for Buffer {}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.client.plugin.destroy(Name::BufferDestroy, self.buffer);
    }
}

impl Buffer {
    /// Copies the elements to `bytes`, row-major; `rank` is the tensor's.
    pub(crate) fn download(&self, rank: usize, bytes: &mut [u8]) -> Result<(), PjrtError> {
        let minor_to_major: Vec<i64> = dims(&(0..rank).rev().collect::<Vec<_>>());
        let layout = Call::new(abi::Layout {
            tiled_size: abi::TILED_SIZE,
            tiled_extension: ptr::null_mut(),
            minor_to_major: minor_to_major.as_ptr(),
            rank,
            tile_dims: ptr::null(),
            tile_dim_sizes: ptr::null(),
            tiles: 0,
            kind: 0,
        });
        let plugin = &self.client.plugin;
        let copy = plugin.call(
            Name::BufferToHostBuffer,
            abi::BufferToHostBuffer {
                buffer: self.buffer,
                layout: &raw const layout,
                data: bytes.as_mut_ptr().cast(),
                size: bytes.len(),
                event: ptr::null_mut(),
            },
        )?;
        plugin.wait(copy.event)
    }
}

/// A field of a protocol-buffers message that holds bytes, fewer than 128.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    [&[number << 3 | 2, length], bytes].concat()
}

/// A plugin for GPUs takes most of their memory at once unless it is told not to; others
/// do not know the option.
fn takes_memory_options(plugin: &Plugin) -> bool {
    let name = plugin
        .path()
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    name.contains("cuda") || name.contains("rocm")
}

fn no_preallocation() -> abi::NamedValue {
    const NAME: &[u8] = b"preallocate";
    abi::NamedValue {
        size: size_of::<abi::NamedValue>(),
        extension: ptr::null_mut(),
        name: start_of(NAME),
        name_length: NAME.len(),
        kind: abi::FLAG,
        value: 0,
        value_size: 1,
    }
}

fn dims(shape: &[usize]) -> Vec<i64> {
    let dims = shape.iter();
    dims.map(|&size| i64::try_from(size).unwrap_or(i64::MAX))
        .collect()
}

fn element_type(dtype: DType) -> c_int {
    match dtype {
        DType::F32 => abi::element::F32,
        DType::F64 => abi::element::F64,
        DType::Bf16 => abi::element::BF16,
        DType::F16 => abi::element::F16,
        DType::I32 => abi::element::I32,
        DType::I64 => abi::element::I64,
        DType::U8 => abi::element::U8,
        DType::U32 => abi::element::U32,
        DType::Bool => abi::element::BOOL,
    }
}
