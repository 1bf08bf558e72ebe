//! Bytes that are read as a program are the only form of that program.

#![no_main]

use libfuzzer_sys::fuzz_target;
use trainshed_tensor::Program;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(program) = Program::from_bytes(bytes) {
        assert!(program.to_bytes() == bytes);
    }
});
