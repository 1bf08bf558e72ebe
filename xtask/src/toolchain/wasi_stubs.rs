//! The thread functions that `std` links against and Debian's wasi-libc of 2022 lacks.
//!
//! Compiled once beside the standard library and linked into every plugin. A plugin has one
//! thread: starting another answers `ENOTSUP`, everything else does nothing and succeeds.
#![no_std]

use core::ffi::{c_int, c_void};

const ENOTSUP: c_int = 58;

#[unsafe(no_mangle)]
extern "C" fn pthread_attr_init(_attributes: *mut c_void) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn pthread_attr_destroy(_attributes: *mut c_void) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn pthread_attr_setstacksize(_attributes: *mut c_void, _size: usize) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn pthread_create(
    _thread: *mut c_void,
    _attributes: *const c_void,
    _start: *const c_void,
    _argument: *mut c_void,
) -> c_int {
    ENOTSUP
}

#[unsafe(no_mangle)]
extern "C" fn pthread_detach(_thread: *const c_void) -> c_int {
    ENOTSUP
}

#[unsafe(no_mangle)]
extern "C" fn pthread_join(_thread: *const c_void, _result: *mut *mut c_void) -> c_int {
    ENOTSUP
}
