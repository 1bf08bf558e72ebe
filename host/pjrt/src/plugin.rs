//! Loads a plugin and calls its functions.

use std::ffi::{c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;

use crate::abi::{self, Call, FUNCTIONS, Function, Name};
use crate::client::PjrtError;

/// The oldest minor version with every function that is called here.
const OLDEST_MINOR: c_int = 40;

/// Why a plugin could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is missing, or is no library for this machine.
    #[error("`{path}` could not be loaded")]
    Library {
        /// The file.
        path: PathBuf,
        /// What the loader says.
        #[source]
        source: libloading::Error,
    },
    /// It is a library, but not a plugin.
    #[error("`{path}` is not a PJRT plugin: it has no function `GetPjrtApi`")]
    NotAPlugin {
        /// The file.
        path: PathBuf,
    },
    /// Its table of functions is missing or too short.
    #[error(
        "`{path}` speaks PJRT version {major}.{minor}, but 0.{OLDEST_MINOR} or a later 0.x \
         is needed: install a newer plugin"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its major version.
        major: i32,
        /// Its minor version.
        minor: i32,
    },
    /// It does not start.
    #[error("`{path}` does not start")]
    Refused {
        /// The file.
        path: PathBuf,
        /// What it says.
        #[source]
        source: PjrtError,
    },
}

/// A loaded plugin. It stays loaded until the process ends: its threads cannot be ended.
#[derive(Debug, Clone)]
pub struct Plugin {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    version: (i32, i32),
    functions: [Option<Function>; FUNCTIONS],
    /// Keeps the functions in memory.
    _library: ManuallyDrop<libloading::Library>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (major, minor) = self.version;
        let path = self.path.display();
        write!(formatter, "Plugin({path}, PJRT {major}.{minor})")
    }
}

impl Plugin {
    /// Loads the library and lets it initialise itself. Whoever names the file must trust
    /// it: it runs in this process.
    ///
    /// # Errors
    /// See [`LoadError`].
    #[expect(unsafe_code, reason = "a library is loaded and asked for its table")]
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let owned = || path.to_owned();
        // SAFETY: what a library does when it is loaded is up to it; the caller trusts it.
        let library = unsafe { libloading::Library::new(path) };
        let library = ManuallyDrop::new(library.map_err(|source| LoadError::Library {
            path: owned(),
            source,
        })?);
        // SAFETY: every plugin exports the function with this type.
        let get_api = unsafe {
            library.get::<unsafe extern "C" fn() -> *const abi::TableHead>(b"GetPjrtApi\0")
        };
        let Ok(get_api) = get_api else {
            return Err(LoadError::NotAPlugin { path: owned() });
        };
        // SAFETY: the function takes nothing and its table lives as long as the library.
        let head = unsafe { get_api() };
        // SAFETY: as above.
        let table = unsafe { read_table(head) };
        let (version, functions) = table.map_err(|(major, minor)| LoadError::Version {
            path: owned(),
            major,
            minor,
        })?;
        let plugin = Self {
            shared: Arc::new(Shared {
                path: owned(),
                version,
                functions,
                _library: library,
            }),
        };
        plugin
            .call(Name::PluginInitialize, ())
            .map_err(|source| LoadError::Refused {
                path: owned(),
                source,
            })?;
        Ok(plugin)
    }

    /// The file it was loaded from.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Major and minor version of the interface that it speaks.
    pub fn version(&self) -> (i32, i32) {
        self.shared.version
    }

    /// Calls a function of the table; gives back the structure with what it wrote into it.
    #[expect(unsafe_code, reason = "the plugin is another language")]
    pub(crate) fn call<T>(&self, name: Name, body: T) -> Result<T, PjrtError> {
        let mut call = Call::new(body);
        let function = self.function(name)?;
        // SAFETY: `call` is the structure of this function, and outlives the call.
        let error = unsafe { function((&raw mut call).cast()) };
        self.check(error)?;
        Ok(call.body)
    }

    /// Destroys an object; there is nothing to do about a failure.
    pub(crate) fn destroy<T>(&self, name: Name, object: *mut T) {
        if !object.is_null() {
            let _ = self.call(name, abi::Of { object });
        }
    }

    /// Waits for an event and destroys it.
    pub(crate) fn wait(&self, event: *mut abi::Event) -> Result<(), PjrtError> {
        if event.is_null() {
            return Ok(());
        }
        let outcome = self.call(Name::EventAwait, abi::Of { object: event });
        self.destroy(Name::EventDestroy, event);
        outcome.map(|_| ())
    }

    /// The text that a question answers with.
    pub(crate) fn text_of<T>(&self, name: Name, object: *mut T) -> Result<String, PjrtError> {
        let answer = self.call(
            name,
            abi::TextOf {
                object,
                text: ptr::null(),
                length: 0,
            },
        )?;
        Ok(text(answer.text, answer.length))
    }

    fn function(&self, name: Name) -> Result<Function, PjrtError> {
        self.shared.functions[name as usize].ok_or_else(|| PjrtError {
            message: format!("the plugin has no function {name:?}"),
            out_of_memory: false,
        })
    }

    /// Turns an error of the plugin into one of ours and destroys it.
    #[expect(unsafe_code, reason = "functions that handle errors return nothing")]
    fn check(&self, error: *mut abi::Error) -> Result<(), PjrtError> {
        if error.is_null() {
            return Ok(());
        }
        let mut message = Call::new(abi::TextOf {
            object: error,
            text: ptr::null(),
            length: 0,
        });
        // SAFETY: `error` is an error of this plugin, and the structures are those of the
        // functions, which return nothing.
        unsafe {
            if let Ok(function) = self.function(Name::ErrorMessage) {
                silent(function)((&raw mut message).cast());
            }
        }
        let message = text(message.body.text, message.body.length);
        let code = Call::new(abi::ErrorGetCode { error, code: 0 });
        let code = {
            let mut code = code;
            if let Ok(function) = self.function(Name::ErrorGetCode) {
                // SAFETY: as above; an error of this function itself would be of no use.
                unsafe { function((&raw mut code).cast()) };
            }
            code.body.code
        };
        let mut destroy = Call::new(abi::Of { object: error });
        if let Ok(function) = self.function(Name::ErrorDestroy) {
            // SAFETY: as above; nothing uses the error any more.
            unsafe { silent(function)((&raw mut destroy).cast()) };
        }
        Err(PjrtError {
            message,
            out_of_memory: code == abi::RESOURCE_EXHAUSTED,
        })
    }
}

type Table = ((i32, i32), [Option<Function>; FUNCTIONS]);

/// Copies the functions out of the table; the version when it is not one that fits.
///
/// # Safety
/// `head` is null or what `GetPjrtApi` returned.
#[expect(unsafe_code, reason = "the table's length is known only from its head")]
unsafe fn read_table(head: *const abi::TableHead) -> Result<Table, (i32, i32)> {
    if head.is_null() {
        return Err((0, 0));
    }
    // SAFETY: every version of the table begins with this head.
    let (size, version) = unsafe { ((*head).size, ((*head).major, (*head).minor)) };
    let listed = size.saturating_sub(size_of::<abi::TableHead>()) / size_of::<usize>();
    if version.0 != 0 || version.1 < OLDEST_MINOR || listed < FUNCTIONS {
        return Err(version);
    }
    // SAFETY: the table's size says that so many functions follow the head; each is a
    // function pointer or null.
    let functions = unsafe { ptr::read(head.add(1).cast()) };
    Ok((version, functions))
}

/// The same function, as one that returns nothing.
///
/// # Safety
/// It is one of the functions that do.
#[expect(unsafe_code, reason = "the table has one type for all functions")]
unsafe fn silent(function: Function) -> abi::Silent {
    // SAFETY: the two types differ in what is returned alone, and the caller knows.
    unsafe { std::mem::transmute::<Function, abi::Silent>(function) }
}

/// A text of the plugin, which need not be UTF-8.
#[expect(unsafe_code, reason = "texts of the plugin are a pointer and a length")]
fn text(start: *const c_char, length: usize) -> String {
    if start.is_null() || length == 0 {
        return String::new();
    }
    // SAFETY: the plugin has just said that so many bytes lie there, and they live as long
    // as the object they belong to, which nobody has destroyed meanwhile.
    let bytes = unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) };
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// A pointer to the start of some bytes, as the plugin wants them.
pub(crate) fn start_of(bytes: &[u8]) -> *const c_char {
    bytes.as_ptr().cast::<c_char>()
}

/// The address of some data, as the plugin wants it.
pub(crate) fn address_of(bytes: &[u8]) -> *const c_void {
    bytes.as_ptr().cast::<c_void>()
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::{OLDEST_MINOR, read_table};
    use crate::abi::{self, FUNCTIONS};

    /// The version that a table with such a head is refused with, if it is.
    fn refused(functions: usize, major: i32, minor: i32) -> Option<(i32, i32)> {
        #[repr(C)]
        struct Table {
            head: abi::TableHead,
            functions: [usize; FUNCTIONS],
        }
        let head = abi::TableHead {
            size: size_of::<abi::TableHead>() + functions * size_of::<usize>(),
            extension: ptr::null_mut(),
            version_size: 0,
            version_extension: ptr::null_mut(),
            major,
            minor,
        };
        let table = Table {
            head,
            functions: [0; FUNCTIONS],
        };
        #[expect(unsafe_code, reason = "a table is read as a plugin gives it")]
        // SAFETY: as many functions follow the head as any of the tests says, all null.
        let read = unsafe { read_table((&raw const table).cast()) };
        read.err()
    }

    #[test]
    fn a_table_of_another_version_is_refused_with_its_version() {
        assert_eq!(refused(FUNCTIONS, 0, OLDEST_MINOR), None);
        assert_eq!(refused(FUNCTIONS, 0, i32::MAX), None);
        assert_eq!(refused(FUNCTIONS, 0, OLDEST_MINOR - 1), Some((0, 39)));
        assert_eq!(refused(FUNCTIONS, 1, 0), Some((1, 0)));
        // What it says of its version and of its length does not fit together.
        assert_eq!(refused(FUNCTIONS - 1, 0, 50), Some((0, 50)));
        #[expect(unsafe_code, reason = "a plugin may give no table at all")]
        // SAFETY: null is allowed.
        let missing = unsafe { read_table(ptr::null()) };
        assert_eq!(missing.err(), Some((0, 0)));
    }
}
