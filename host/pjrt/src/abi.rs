//! The part of the PJRT C API that this crate calls.
//!
//! A plugin exports `GetPjrtApi`, which returns a table of functions. Each takes a pointer
//! to a structure of its own that begins with its size, so that either side may be newer:
//! fields are only ever added at the end. Layouts and positions are those of the OpenXLA
//! project's `pjrt_c_api.h`, major version 0, and `docs/accelerators.md` says of which
//! minor versions.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

/// A function of the table: takes its structure, and returns an error or null.
pub(crate) type Function = unsafe extern "C" fn(*mut c_void) -> *mut Error;
/// The two functions that handle errors return nothing.
pub(crate) type Silent = unsafe extern "C" fn(*mut c_void);

/// Objects of the plugin, known by address alone.
macro_rules! opaque {
    ($($name:ident),*) => {$(
        #[repr(C)]
        pub(crate) struct $name { _private: [u8; 0] }
    )*};
}

opaque!(
    Error,
    Event,
    Client,
    Device,
    DeviceDescription,
    Executable,
    LoadedExecutable,
    Buffer,
    SerializedExecutable
);

/// Positions in the table of functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
#[expect(
    clippy::enum_variant_names,
    reason = "one function gives a name, and is called after it"
)]
pub(crate) enum Name {
    ErrorDestroy = 0,
    ErrorMessage = 1,
    ErrorGetCode = 2,
    PluginInitialize = 3,
    EventDestroy = 5,
    EventAwait = 8,
    ClientCreate = 10,
    ClientDestroy = 11,
    ClientPlatformName = 12,
    ClientPlatformVersion = 14,
    ClientAddressableDevices = 16,
    ClientCompile = 20,
    ClientBufferFromHostBuffer = 22,
    DeviceDescriptionKind = 26,
    DeviceGetDescription = 29,
    DeviceMemoryStats = 34,
    ExecutableDestroy = 40,
    ExecutableNumOutputs = 44,
    ExecutableSerialize = 49,
    LoadedExecutableDestroy = 50,
    LoadedExecutableGetExecutable = 51,
    LoadedExecutableExecute = 55,
    ExecutableDeserializeAndLoad = 56,
    BufferDestroy = 58,
    BufferToHostBuffer = 70,
    ExecutableGetCompiledMemoryStats = 96,
}

/// How many functions of the table are read; the last of [`Name`] is the last of them.
pub(crate) const FUNCTIONS: usize = Name::ExecutableGetCompiledMemoryStats as usize + 1;

/// What stands before the functions.
#[repr(C)]
pub(crate) struct TableHead {
    pub(crate) size: usize,
    pub(crate) extension: *mut c_void,
    pub(crate) version_size: usize,
    pub(crate) version_extension: *mut c_void,
    pub(crate) major: c_int,
    pub(crate) minor: c_int,
}

/// The structure of one call. A plugin newer than this crate finds zeros where it has
/// further fields, which mean "nothing given", and has room for further results.
#[repr(C)]
pub(crate) struct Call<T> {
    size: usize,
    extension: *mut c_void,
    pub(crate) body: T,
    spare: [u64; 16],
}

impl<T> Call<T> {
    pub(crate) fn new(body: T) -> Self {
        Self {
            size: size_of::<Self>(),
            extension: ptr::null_mut(),
            body,
            spare: [0; 16],
        }
    }
}

/// A structure that names one object, as most destructors and questions take.
#[repr(C)]
pub(crate) struct Of<T> {
    pub(crate) object: *mut T,
}

/// A question whose answer is a text that the object owns.
#[repr(C)]
pub(crate) struct TextOf<T> {
    pub(crate) object: *mut T,
    pub(crate) text: *const c_char,
    pub(crate) length: usize,
}

#[repr(C)]
pub(crate) struct ErrorGetCode {
    pub(crate) error: *mut Error,
    pub(crate) code: c_int,
}

/// The codes of errors that are told apart.
pub(crate) const RESOURCE_EXHAUSTED: c_int = 8;

#[repr(C)]
pub(crate) struct ClientCreate {
    pub(crate) options: *const NamedValue,
    pub(crate) option_count: usize,
    /// Callbacks for programs that span several processes: none.
    pub(crate) callbacks: [*mut c_void; 4],
    pub(crate) client: *mut Client,
    pub(crate) further_callbacks: [*mut c_void; 2],
}

/// An option. These lie in an array, so their size is that of the plugin's own.
#[repr(C)]
pub(crate) struct NamedValue {
    pub(crate) size: usize,
    pub(crate) extension: *mut c_void,
    pub(crate) name: *const c_char,
    pub(crate) name_length: usize,
    pub(crate) kind: c_int,
    /// A union whose first byte is a flag.
    pub(crate) value: u64,
    pub(crate) value_size: usize,
}

/// [`NamedValue::kind`] of a flag.
pub(crate) const FLAG: c_int = 4;

#[repr(C)]
pub(crate) struct AddressableDevices {
    pub(crate) client: *mut Client,
    pub(crate) devices: *const *mut Device,
    pub(crate) count: usize,
}

#[repr(C)]
pub(crate) struct GetDescription {
    pub(crate) device: *mut Device,
    pub(crate) description: *mut DeviceDescription,
}

#[repr(C)]
#[derive(Default)]
pub(crate) struct Optional {
    pub(crate) value: i64,
    pub(crate) is_set: bool,
}

#[repr(C)]
pub(crate) struct DeviceMemoryStats {
    pub(crate) device: *mut Device,
    pub(crate) bytes_in_use: i64,
    pub(crate) peak_bytes_in_use: Optional,
    pub(crate) allocations: Optional,
    pub(crate) largest_allocation: Optional,
    pub(crate) bytes_limit: Optional,
}

#[repr(C)]
pub(crate) struct Program {
    pub(crate) code: *const c_char,
    pub(crate) code_length: usize,
    pub(crate) format: *const c_char,
    pub(crate) format_length: usize,
}

#[repr(C)]
pub(crate) struct Compile {
    pub(crate) client: *mut Client,
    pub(crate) program: *const Call<Program>,
    pub(crate) options: *const c_char,
    pub(crate) options_length: usize,
    pub(crate) executable: *mut LoadedExecutable,
}

#[repr(C)]
pub(crate) struct BufferFromHostBuffer {
    pub(crate) client: *mut Client,
    pub(crate) data: *const c_void,
    pub(crate) element_type: c_int,
    pub(crate) dims: *const i64,
    pub(crate) rank: usize,
    pub(crate) strides: *const i64,
    pub(crate) stride_count: usize,
    pub(crate) semantics: c_int,
    pub(crate) device: *mut Device,
    pub(crate) memory: *mut c_void,
    pub(crate) layout: *mut c_void,
    pub(crate) done_with_data: *mut Event,
    pub(crate) buffer: *mut Buffer,
}

/// [`BufferFromHostBuffer::semantics`]: the data stays until the event.
pub(crate) const UNTIL_TRANSFER_COMPLETES: c_int = 1;

/// Element types of buffers.
pub(crate) mod element {
    use std::ffi::c_int;

    pub(crate) const BOOL: c_int = 1;
    pub(crate) const I32: c_int = 4;
    pub(crate) const I64: c_int = 5;
    pub(crate) const U8: c_int = 6;
    pub(crate) const U32: c_int = 8;
    pub(crate) const F16: c_int = 10;
    pub(crate) const F32: c_int = 11;
    pub(crate) const F64: c_int = 12;
    pub(crate) const BF16: c_int = 13;
}

#[repr(C)]
pub(crate) struct BufferToHostBuffer {
    pub(crate) buffer: *mut Buffer,
    pub(crate) layout: *const Call<Layout>,
    pub(crate) data: *mut c_void,
    pub(crate) size: usize,
    pub(crate) event: *mut Event,
}

/// A layout without tiles, row-major. The union's other case is smaller.
#[repr(C)]
pub(crate) struct Layout {
    pub(crate) tiled_size: usize,
    pub(crate) tiled_extension: *mut c_void,
    pub(crate) minor_to_major: *const i64,
    pub(crate) rank: usize,
    pub(crate) tile_dims: *const i64,
    pub(crate) tile_dim_sizes: *const usize,
    pub(crate) tiles: usize,
    /// 0: tiled.
    pub(crate) kind: c_int,
}

/// Size of the tiled case inside of [`Layout`].
pub(crate) const TILED_SIZE: usize = 7 * size_of::<usize>();

#[repr(C)]
pub(crate) struct GetExecutable {
    pub(crate) loaded: *mut LoadedExecutable,
    pub(crate) executable: *mut Executable,
}

#[repr(C)]
pub(crate) struct NumOutputs {
    pub(crate) executable: *mut Executable,
    pub(crate) count: usize,
}

#[repr(C)]
pub(crate) struct CompiledMemoryStats {
    pub(crate) executable: *mut Executable,
    pub(crate) code_bytes: i64,
    pub(crate) argument_bytes: i64,
    pub(crate) output_bytes: i64,
    pub(crate) alias_bytes: i64,
    pub(crate) temporary_bytes: i64,
    /// The same figures for host memory, which programs here do not use.
    pub(crate) host: [i64; 5],
}

#[repr(C)]
pub(crate) struct Serialize {
    pub(crate) executable: *mut Executable,
    pub(crate) bytes: *const c_char,
    pub(crate) length: usize,
    pub(crate) serialized: *mut SerializedExecutable,
    pub(crate) delete: Option<unsafe extern "C" fn(*mut SerializedExecutable)>,
}

#[repr(C)]
pub(crate) struct DeserializeAndLoad {
    pub(crate) client: *mut Client,
    pub(crate) bytes: *const c_char,
    pub(crate) length: usize,
    pub(crate) executable: *mut LoadedExecutable,
    pub(crate) options: *const c_char,
    pub(crate) options_length: usize,
}

#[repr(C)]
pub(crate) struct ExecuteOptions {
    pub(crate) send_callbacks: *mut c_void,
    pub(crate) receive_callbacks: *mut c_void,
    pub(crate) sends: usize,
    pub(crate) receives: usize,
    pub(crate) launch_id: c_int,
    pub(crate) not_donated: *const i64,
    pub(crate) not_donated_count: usize,
    pub(crate) context: *mut c_void,
}

#[repr(C)]
pub(crate) struct Execute {
    pub(crate) executable: *mut LoadedExecutable,
    pub(crate) options: *mut Call<ExecuteOptions>,
    pub(crate) arguments: *const *const *mut Buffer,
    pub(crate) devices: usize,
    pub(crate) argument_count: usize,
    pub(crate) results: *const *mut *mut Buffer,
    pub(crate) complete: *mut *mut Event,
    pub(crate) device: *mut Device,
}
