//! Compiled tensor programs, shared by the runs of a process: the trials of an experiment
//! compile the same few programs again and again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use trainshed_core::Digest;
use trainshed_tensor::{Attribute, Budget, Executable, Program, ProgramError};

use crate::watch::lock;

/// Most bytes of all programs that are kept.
const MAX_BYTES: u64 = 256 << 20;
/// Most bytes of one of them: there must be room for the others.
const MAX_PROGRAM_BYTES: u64 = MAX_BYTES / 8;
/// What an instruction takes when it is compiled, about.
const INSTRUCTION_BYTES: u64 = 2 << 10;

/// The programs that were used last, by the digest of their serialised form.
///
/// Constants of a program that is kept are charged to no task; each task that holds it
/// reserves as many bytes of its own.
#[derive(Debug, Default)]
pub(crate) struct Programs(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    programs: HashMap<Digest, Entry>,
    bytes: u64,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    program: Arc<Executable>,
    bytes: u64,
    last_used: u64,
}

impl Programs {
    /// Compiles a program for host processors, unless that was done before. Its constants
    /// are not charged to `budget`, but whether a run can fit it is checked.
    ///
    /// # Errors
    /// As [`Executable::compile`].
    pub(crate) fn compile(
        &self,
        program: &Program,
        budget: &Budget,
    ) -> Result<Arc<Executable>, ProgramError> {
        let bytes = size(program);
        let digest = (bytes <= MAX_PROGRAM_BYTES).then(|| Digest::of(&program.to_bytes()));
        let found = digest.and_then(|digest| lock(&self.0).get(&digest));
        if let Some(program) = found {
            program.check_fits(budget)?;
            return Ok(program);
        }
        let program = Executable::compile(program, &Budget::new(budget.limit()))?;
        if let Some(digest) = digest {
            lock(&self.0).insert(digest, Arc::clone(&program), bytes);
        }
        Ok(program)
    }
}

impl Kept {
    fn get(&mut self, digest: &Digest) -> Option<Arc<Executable>> {
        self.uses += 1;
        let entry = self.programs.get_mut(digest)?;
        entry.last_used = self.uses;
        Some(Arc::clone(&entry.program))
    }

    fn insert(&mut self, digest: Digest, program: Arc<Executable>, bytes: u64) {
        self.uses += 1;
        let entry = Entry {
            program,
            bytes,
            last_used: self.uses,
        };
        self.bytes += bytes;
        if let Some(former) = self.programs.insert(digest, entry) {
            self.bytes -= former.bytes;
        }
        while self.bytes > MAX_BYTES {
            let entries = self.programs.iter();
            let oldest = entries.min_by_key(|(_, entry)| entry.last_used);
            let Some(oldest) = oldest.map(|(digest, _)| *digest) else {
                break;
            };
            if let Some(entry) = self.programs.remove(&oldest) {
                self.bytes -= entry.bytes;
            }
        }
    }
}

/// About how many bytes a program takes when it is compiled.
fn size(program: &Program) -> u64 {
    let bodies = program.bodies.iter().map(|body| &body.instructions);
    let instructions = bodies.chain([&program.instructions]).flatten();
    let bytes = instructions.map(|instruction| {
        let attributes = instruction.attributes.iter();
        let data = attributes.map(|(_, attribute)| match attribute {
            Attribute::Bytes(bytes) => bytes.len() as u64,
            _ => 0,
        });
        INSTRUCTION_BYTES + data.sum::<u64>()
    });
    bytes.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A constant of that many bytes, and `seed` in each.
    fn constant(bytes: usize, seed: u8) -> Program {
        let mut program = Program::default();
        let shape = i64::try_from(bytes).unwrap();
        let attributes = [
            ("dtype", "u8".into()),
            ("shape", Attribute::Integers(vec![shape])),
            ("data", Attribute::Bytes(vec![seed; bytes].into())),
        ];
        let value = program.push("constant", &[], &attributes);
        program.outputs.push(value);
        program
    }

    #[test]
    fn a_program_is_compiled_once() {
        let programs = Programs::default();
        let (budget, other) = (Budget::new(1000), Budget::new(1000));
        let first = programs.compile(&constant(100, 1), &budget).unwrap();
        let again = programs.compile(&constant(100, 1), &other).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let another = programs.compile(&constant(100, 2), &budget).unwrap();
        assert!(!Arc::ptr_eq(&first, &another));
        assert_eq!((budget.used(), first.constant_bytes()), (0, 100));
    }

    #[test]
    fn a_program_that_is_known_must_fit_all_the_same() {
        let programs = Programs::default();
        programs
            .compile(&constant(100, 1), &Budget::new(1000))
            .unwrap();
        let refused = programs.compile(&constant(100, 1), &Budget::new(99));
        let expected = ProgramError::OutOfMemory {
            needed: 100,
            allowed: 99,
        };
        assert_eq!(refused.unwrap_err(), expected);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
        let programs = Programs::default();
        let budget = Budget::new(1 << 40);
        let compile = |seed| {
            programs
                .compile(&constant(30 << 20, seed), &budget)
                .unwrap()
        };
        let first = compile(0);
        for seed in 1..8 {
            compile(seed);
            assert!(Arc::ptr_eq(&first, &compile(0)));
        }
        compile(8);
        compile(9);
        assert!(lock(&programs.0).bytes <= MAX_BYTES);
        assert!(!lock(&programs.0).programs.is_empty());
        let large = constant(40 << 20, 0);
        let large = [(); 2].map(|()| programs.compile(&large, &budget).unwrap());
        assert!(!Arc::ptr_eq(&large[0], &large[1]));
    }
}
