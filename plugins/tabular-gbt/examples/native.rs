//! Boosts trees on the digits of `digits-mlp` outside the sandbox; `README.md` says how to
//! compare it with the plugin.
//!
//! Prints `{"boosting_ms": …, "loss": …}`, the fastest of several times.
#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::error::Error;

/// The seed of an action that names none.
const SEED: u64 = 1337;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: native <digits.csv> <rounds> <times>";
    let path = arguments.next().ok_or(usage)?;
    let rounds = arguments.next().ok_or(usage)?.parse()?;
    let times: u32 = arguments.next().ok_or(usage)?.parse()?;

    let text = std::fs::read_to_string(path)?;
    let mut lines = text.lines();
    let columns = lines.next().ok_or("the file is empty")?.split(',').count();
    let mut table = vec![Vec::new(); columns];
    for line in lines {
        for (column, number) in table.iter_mut().zip(line.split(',')) {
            column.push(number.parse::<u8>()?);
        }
    }
    let labels = table.pop().ok_or("the file has no columns")?;
    let labels: Vec<u32> = labels.into_iter().map(u32::from).collect();
    let floats = |column: Vec<u8>| column.into_iter().map(f32::from).collect();
    let columns: Vec<Vec<f32>> = table.into_iter().map(floats).collect();

    let measure = |_| tabular_gbt::native::boost(&columns, &labels, rounds, SEED);
    let measured = (0..times.max(1)).map(measure);
    let fastest = measured.min_by(|a, b| a.ms.total_cmp(&b.ms)).ok_or(usage)?;
    println!(
        r#"{{"boosting_ms": {:.1}, "loss": {}}}"#,
        fastest.ms, fastest.loss
    );
    Ok(())
}
