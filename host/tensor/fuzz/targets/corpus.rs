//! Writes the corpus that both targets begin with: a few programs of every operation.
//! `cargo run --bin corpus` in this folder.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::fs;
use std::io;
use std::path::Path;

use support::anything::anything;

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in ["compiler", "decoder"] {
        fs::create_dir_all(folder.join(target))?;
    }
    for seed in 0..40 {
        let mut growing = anything(seed, 6);
        growing.loss();
        let bytes = growing.program.to_bytes();
        fs::write(folder.join(format!("compiler/{seed:02}")), &bytes)?;
        if seed % 8 == 0 {
            fs::write(folder.join(format!("decoder/{seed:02}")), &bytes)?;
        }
    }
    Ok(())
}
