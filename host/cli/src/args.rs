//! The command line: its doc comments are the manual.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::tracking_args::{ProjectCommand, TaskChange};

/// How long nothing may be heard of a task that runs without an agent, unless a flag says
/// otherwise: what the ClearML server waits.
pub(crate) const TASK_WATCHDOG_S: u32 = 7200;
/// How old a run may be that another takes the place of, unless a flag says otherwise.
pub(crate) const REUSE_WINDOW_H: u32 = 24;
use trainshed_engine::Database;

/// Run, track and repeat machine-learning plugins in a sandbox
///
/// Data goes to standard output, everything else to standard error.
///
/// Exit codes: 0 done; 1 failed, or the task failed or was stopped; 2 wrong usage; 3 not
/// found; 4 not allowed; 5 conflict with what is there; 6 the server did not answer;
/// 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "trainshed", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    /// Print JSON on standard output instead of tables and texts
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where things are.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Folder of the database, files and keys [default: ~/.local/share/trainshed]
    #[arg(long, global = true, env = "TRAINSHED_DATA_DIR", value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Database of a server that this command starts: `postgres://USER:PASSWORD@HOST/NAME`;
    /// without it, SQLite in the data folder
    #[arg(
        long,
        global = true,
        env = "TRAINSHED_DATABASE",
        hide_env_values = true,
        value_name = "URL",
        value_parser = database
    )]
    pub(crate) database: Option<Database>,
    /// Server to talk to, e.g. `http://127.0.0.1:8080`; without it, the one that runs on the
    /// data folder, or none: the command then opens the data folder itself
    #[arg(long, global = true, env = "TRAINSHED_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Key for the server; without it, the one in the data folder
    #[arg(
        long,
        global = true,
        env = "TRAINSHED_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    pub(crate) key: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(RunArgs),
    Submit(SubmitArgs),
    Serve(ServeArgs),
    Agent(AgentArgs),
    Devices(DevicesArgs),
    /// Install plugins and look at them
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Make data sets and look at them
    #[command(subcommand)]
    Dataset(DatasetCommand),
    /// Look at tasks, make, edit, move and delete them
    #[command(subcommand)]
    Task(TaskCommand),
    /// Look at projects, make, move and delete them
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Look at models and download them
    #[command(subcommand)]
    Model(ModelCommand),
    Query(QueryArgs),
    Backup(BackupArgs),
    Restore(RestoreArgs),
    Completions(CompletionsArgs),
    #[command(hide = true)]
    InspectPlugin(InspectArgs),
}

/// Run an action here and now, without a server
///
/// Follows the task to its end and prints the action's result on standard output. Interrupt
/// it once (Ctrl-C) to stop the task and keep what it has saved, twice to leave at once.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// File with the action as JSON, `-` for standard input
    pub(crate) action: PathBuf,
    /// Component to run; it is installed first
    #[arg(long, value_name = "FILE")]
    pub(crate) plugin: Option<PathBuf>,
    /// File or folder to use as the data set; it is imported first
    #[arg(long, value_name = "PATH")]
    pub(crate) dataset: Option<PathBuf>,
    /// Take the place of the last run of this action on this machine, if that left neither
    /// artifacts nor models
    #[arg(long)]
    pub(crate) reuse: bool,
    #[command(flatten)]
    pub(crate) accelerator: AcceleratorArgs,
}

/// Submit an action to a server
///
/// Prints the task's id, and nothing else, on standard output. With `--follow`, stays until
/// the task ends, prints its result too, and exits with 0 only if it completed.
#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// File with the action as JSON, `-` for standard input
    pub(crate) action: PathBuf,
    /// Wait for the task to end, showing how it goes
    #[arg(long)]
    pub(crate) follow: bool,
}

/// Start a server, and an agent on this machine
///
/// The first start makes a key and writes it to the file `key` in the data folder.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT")]
    pub(crate) listen: SocketAddr,
    /// Do not start an agent
    #[arg(long)]
    pub(crate) no_agent: bool,
    /// Seconds after which a task that runs without an agent is stopped when nothing was heard
    /// of it
    #[arg(long, default_value_t = TASK_WATCHDOG_S, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) task_watchdog: u32,
    /// Hours within which `trainshed run --reuse` may take the place of the last run
    #[arg(long, default_value_t = REUSE_WINDOW_H, value_name = "HOURS")]
    pub(crate) reuse_window: u32,
    #[command(flatten)]
    pub(crate) capacity: Capacity,
}

/// Save everything, of all workspaces, as one archive
///
/// A server may go on meanwhile: the archive is what was there at one moment. It is written
/// straight from the data folder (and from PostgreSQL with --database), not through a server.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The archive to write, e.g. `monday.tar.zst`
    pub(crate) file: PathBuf,
}

/// Restore what `trainshed backup` saved, into a new data folder or database
///
/// The database may be another one than it was: a backup of SQLite can be restored into
/// PostgreSQL, and the other way round.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The archive
    pub(crate) file: PathBuf,
}

/// Print the completions of a shell, e.g. for `source <(trainshed completions bash)`
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    pub(crate) shell: clap_complete::Shell,
}

/// List what tensor programs can run on, and what is missing
///
/// Opens every accelerator that is found, which takes some seconds each.
#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    #[command(flatten)]
    pub(crate) accelerator: AcceleratorArgs,
}

/// Run tasks of a server on this machine
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    /// Name of the agent, for people [default: the machine's name]
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) capacity: Capacity,
    /// End when standard input ends, and say that the agent is a child of the server
    #[arg(long, hide = true)]
    pub(crate) child: bool,
}

/// How often an agent reports what its machine does, unless it is told otherwise.
pub(crate) const MONITOR_SECONDS: u32 = 30;

/// What an agent offers.
#[derive(Debug, Clone, Args)]
pub(crate) struct Capacity {
    /// Tasks that run at once [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) slots: Option<u32>,
    /// File with limits of one task as JSON, e.g. `{"memory_bytes":1073741824}`
    #[arg(long, value_name = "FILE")]
    pub(crate) limits: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) accelerator: AcceleratorArgs,
    /// Seconds between reports of what the machine does (processors, memory, disks, network,
    /// NVIDIA GPUs), which become curves of the running tasks; 0 reports nothing
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = MONITOR_SECONDS,
        env = "TRAINSHED_MONITOR_SECONDS",
        value_parser = clap::value_parser!(u32).range(0..=86_400)
    )]
    pub(crate) monitor_seconds: u32,
    /// Environment variable that plugins may read if their manifest names it (can be repeated)
    #[arg(long, value_name = "NAME")]
    pub(crate) grant_env: Vec<String>,
}

/// How accelerators are found.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct AcceleratorArgs {
    /// PJRT plugin of the accelerator to use, e.g. `xla_cuda_plugin.so`; without it, those of
    /// the active Python environment are tried
    #[arg(long, env = "TRAINSHED_PJRT_PLUGIN", value_name = "FILE")]
    pub(crate) pjrt_plugin: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Install a component
    Push {
        /// The `.wasm` file
        file: PathBuf,
    },
    /// List installed plugins
    Ls,
    /// Show a plugin and the parameters of its actions
    Show {
        /// `name`, `name@version` or `sha256:<digest>`
        plugin: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DatasetCommand {
    /// Make a data set of files, or a new version of it
    ///
    /// Prints the id of the version on standard output.
    Create {
        /// Name; a data set of this name gets a new version
        name: String,
        /// Files, and folders whose content is taken
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// What it is, for people
        #[arg(long, default_value = "")]
        description: String,
        /// Id of the version it was made from
        #[arg(long, value_name = "ID")]
        parent: Option<u64>,
    },
    /// List data set versions
    Ls,
    /// Show a version and its files
    Show {
        /// Id of the version
        id: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// List tasks, newest first
    Ls {
        /// Only tasks in this state (can be repeated)
        #[arg(long, value_name = "STATE")]
        status: Vec<String>,
        /// Only tasks of this project and those below it
        #[arg(long)]
        project: Option<String>,
        /// Only tasks whose name has this text in it
        #[arg(long)]
        name: Option<String>,
        /// Only tasks that fit this query, and in its order (see `trainshed query --help`)
        #[arg(long, value_name = "QUERY")]
        filter: Option<String>,
        /// How many tasks at most
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Show a task
    Show {
        /// Id of the task
        id: String,
    },
    /// Show the metrics of a task, or the points of one curve
    Metrics {
        /// Id of the task
        id: String,
        /// Curve whose points to print, e.g. `train/loss`
        #[arg(long, value_name = "TITLE/SERIES")]
        curve: Option<String>,
        /// Print at most so many samples of the curve rather than all its points
        #[arg(long, value_name = "COUNT", requires = "curve", value_parser = clap::value_parser!(u32).range(1..=5000))]
        max_samples: Option<u32>,
        /// What samples are shown over: iter, timestamp or iso_time
        #[arg(long, default_value = "iter", requires = "max_samples")]
        x: String,
    },
    /// Print the console of a task
    Logs {
        /// Id of the task
        id: String,
        /// Go on until the task ends
        #[arg(long, short)]
        follow: bool,
        /// Only the last lines
        #[arg(long, value_name = "N")]
        tail: Option<u64>,
    },
    /// Stop a waiting or running task
    Stop {
        /// Id of the task
        id: String,
        /// Why, for the task's status reason
        #[arg(long)]
        reason: Option<String>,
    },
    /// Run a completed task again and say whether everything it told is equal to the bit
    ///
    /// Compares the points of every curve, the single values and the digests of what was
    /// made. Exits with 0 if all are equal, with 1 if not.
    Reproduce {
        /// Id of the task
        id: String,
    },
    #[command(flatten)]
    Change(Box<TaskChange>),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// List models, newest first
    Ls {
        /// Only models of this task
        #[arg(long, value_name = "ID")]
        task: Option<String>,
    },
    /// Download the weights of a model as a safetensors file
    Download {
        /// Id of the model
        id: u64,
        /// Where to write it [default: <name>-<id>.safetensors]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Find tasks, models, data sets or projects
///
/// For example `trainshed query 'status = completed and metrics.val/acc > 0.9 order by
/// metrics.val/loss'`; docs/queries.md has the language. With `--json`, one JSON object a line.
#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    /// What is wanted and in which order; everything, newest first, without it
    #[arg(default_value = "")]
    pub(crate) text: String,
    /// What to find
    #[arg(long, value_enum, default_value_t = QueryOf::Tasks)]
    pub(crate) of: QueryOf,
    /// Fields to show, e.g. `name,params.lr,metrics.val/acc`
    #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
    pub(crate) fields: Vec<String>,
    /// How many to show at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// Write everything that fits as a file of this format
    #[arg(long, value_enum)]
    pub(crate) format: Option<ExportFormat>,
    /// Where to write it [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Curves whose points to write instead, e.g. `train/loss`, or `*`
    #[arg(long, value_name = "CURVES", value_delimiter = ',')]
    pub(crate) points: Vec<String>,
}

/// What a query finds.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum QueryOf {
    Tasks,
    Models,
    Datasets,
    Projects,
}

/// What an export is written as.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum ExportFormat {
    Csv,
    Jsonl,
    Parquet,
}

/// Ask a component what it is (used by the server, in a process of its own)
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    pub(crate) file: PathBuf,
    #[arg(long)]
    pub(crate) cache_dir: PathBuf,
}

/// The database at an address; SQLite needs none, because it is in the data folder.
fn database(url: &str) -> Result<Database, String> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(Database::Postgres(url.to_owned()));
    }
    Err("must begin with `postgres://`; SQLite in the data folder is used without it".to_owned())
}
