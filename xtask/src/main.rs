//! The command line of `cargo xtask`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{bench, bindings, commands, plugins};

/// Look after a checkout of trainshed
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Build all plugins to target/plugins, as far as they are out of date
    ///
    /// Uses the wasm32-wasip2 or wasm32-wasip1 target of the Rust toolchain, or else
    /// Debian's compiler, which is fetched once. TRAINSHED_WASM=wasip2|wasip1|debian
    /// chooses; TRAINSHED_CACHE says where a fetched compiler is kept.
    Plugins,
    /// Write the guest bindings anew from wit/
    Bindings {
        /// Only say whether they match
        #[arg(long)]
        check: bool,
    },
    /// Set everything up and run all tests
    Test,
    /// Train a model on handwritten digits, from nothing
    Demo,
    /// Check format, lints, bindings and dependencies, then run all tests
    Ci,
    /// Break a server while it is written to, and count what is lost
    ///
    /// `cargo xtask faults -- --help` says what can be broken.
    Faults {
        /// What to break, and how often
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        arguments: Vec<String>,
    },
    /// Measure speed and memory on a release build, and print a table
    ///
    /// Compares with PyTorch where the Python that TRAINSHED_PYTHON names, or python3, has it.
    Bench {
        #[command(subcommand)]
        what: Option<Bench>,
    },
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Measure training steps of eight kinds of models beside PyTorch's, which must be there
    Compute {
        /// Letters of the tasks, a to h; without them all
        tasks: Vec<String>,
        /// How often everything is measured, in turns; the fastest counts
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
    },
    /// Measure how fast points of curves are recorded and read, over HTTP and durably
    Ingest {
        /// Keep the tables in this PostgreSQL database, which must be empty
        #[arg(long, value_name = "URL")]
        postgres: Option<String>,
        /// How long each way of recording is measured
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        seconds: u32,
    },
    /// Measure what searchers find and what a suggestion costs
    Search {
        /// Ask a server over HTTP for what is in this file, and compare with the library
        #[arg(long, value_name = "PROBLEMS")]
        http: Option<PathBuf>,
        /// How often each problem is searched over HTTP
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..))]
        seeds: u32,
        /// Which searchers are asked over HTTP; `tpe:4` has four trials outstanding
        #[arg(long, default_value = "tpe,hyperoptsearch,gp,cmaes,auto,tpe:4")]
        searchers: String,
    },
    /// Measure boosted trees that a plugin grows by itself, beside the same code outside
    Trees,
    /// Measure what a trial of a search costs around what its plugin computes
    Trials {
        /// How many trials each search has
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(20..))]
        count: u32,
    },
}

fn main() -> ExitCode {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    match run(&Arguments::parse().task, root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task, root: &Path) -> Result<(), Box<dyn Error>> {
    match task {
        Task::Plugins => show(&plugins::build(root)?),
        Task::Bindings { check: true } => bindings::check(root)?,
        Task::Bindings { check: false } => {
            bindings::write(root)?;
        }
        Task::Test => commands::test(root)?,
        Task::Demo => commands::demo(root)?,
        Task::Ci => commands::ci(root)?,
        Task::Faults { arguments } => commands::faults(root, arguments)?,
        Task::Bench { what: None } => bench::run(root)?,
        Task::Bench {
            what: Some(Bench::Compute { tasks, rounds }),
        } => bench::compute::run(root, tasks, *rounds)?,
        Task::Bench {
            what: Some(Bench::Ingest { postgres, seconds }),
        } => bench::ingest::run(root, postgres.as_deref(), *seconds)?,
        Task::Bench {
            what:
                Some(Bench::Search {
                    http,
                    seeds,
                    searchers,
                }),
        } => bench::search::run(root, http.as_deref(), *seeds, searchers)?,
        Task::Bench {
            what: Some(Bench::Trees),
        } => bench::trees::run(root)?,
        Task::Bench {
            what: Some(Bench::Trials { count }),
        } => bench::trials::run(root, *count)?,
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the paths are this command's result")]
fn show(set: &plugins::PluginSet) {
    for (_, path) in set.iter() {
        println!("{}", path.display());
    }
}

#[expect(clippy::print_stderr, reason = "the edge prints the error's chain")]
fn report(error: &dyn Error) {
    eprint!("error: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        eprint!(": {error}");
        source = error.source();
    }
    eprintln!();
}
