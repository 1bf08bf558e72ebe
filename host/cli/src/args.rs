//! The command line: its doc comments are the manual.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use trainshed_core::artifact::ArtifactType;
use trainshed_core::{Address, TaskId};

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
    /// Where a server that this command starts keeps its files: a folder, `s3://BUCKET/FOLDER`,
    /// `s3://HOST:PORT/BUCKET/FOLDER`, `gs://…` or `azure://…`; without it, the data folder
    #[arg(long, global = true, env = "TRAINSHED_FILES", value_name = "URL", value_parser = place)]
    pub(crate) files: Option<Address>,
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
    /// How logs are written; hidden, because it is for the environment: an agent that a server
    /// starts then does the same
    #[arg(
        long,
        global = true,
        env = "TRAINSHED_LOG_FORMAT",
        hide = true,
        default_value = "text"
    )]
    pub(crate) log_format: LogFormat,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// A JSON object in each line.
    Json,
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
    /// Register models, look at them, change and download them
    #[command(subcommand)]
    Model(ModelCommand),
    /// Look at the trials of tune actions
    #[command(subcommand)]
    Tune(TuneCommand),
    Query(QueryArgs),
    Backup(BackupArgs),
    Restore(RestoreArgs),
    Export(ExportArgs),
    Import(ImportArgs),
    Completions(CompletionsArgs),
    /// Keep artifacts with tasks, and fetch them
    #[command(subcommand)]
    Artifact(ArtifactCommand),
    Gc(GcArgs),
    /// Make keys for people and programs, and take them back
    #[command(subcommand)]
    Key(KeyCommand),
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
    /// Keep nothing but an archive of the task, for `trainshed import`: nothing is read but the
    /// action, the component and the data set that are named here
    #[arg(long, value_name = "FILE")]
    pub(crate) offline: Option<PathBuf>,
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
/// The first start makes a key and writes it to the file `key` in the data folder; `trainshed
/// key create` makes others, for people and programs. Logs go to standard error; the environment
/// variable `TRAINSHED_LOG` says which, e.g. `trainshed_server=debug` for every call, and
/// `TRAINSHED_LOG_FORMAT=json` writes each as a JSON object in a line of its own.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT")]
    pub(crate) listen: SocketAddr,
    /// Do not start an agent
    #[arg(long)]
    pub(crate) no_agent: bool,
    /// Where the files of tasks go that name no other place, nor their project: an address as
    /// for --files
    #[arg(long, env = "TRAINSHED_DEFAULT_OUTPUT", value_name = "URL", value_parser = place)]
    pub(crate) default_output: Option<Address>,
    /// Address that callers may have files written to and read from; the server goes there
    /// with its own rights (can be repeated)
    #[arg(long, env = "TRAINSHED_ALLOW", value_delimiter = ' ', value_name = "URL", value_parser = readable)]
    pub(crate) allow: Vec<Address>,
    /// Longest upload, in bytes
    #[arg(long, env = "TRAINSHED_MAX_UPLOAD_BYTES", default_value_t = 64 << 30, value_name = "BYTES")]
    pub(crate) max_upload_bytes: u64,
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

/// Write tasks to an archive, with everything that they need
///
/// The archive has all that is known of the tasks: parameters, configuration, scalars, plots,
/// samples, console, artifacts and models, with the data sets, models and components that they
/// came from. `trainshed import` takes it in, on any server and any database. A task that waits
/// or runs is refused; with an experiment come its trials.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The archive to write, e.g. `tasks.zip`
    pub(crate) file: PathBuf,
    /// Task to write (can be repeated)
    #[arg(long = "task", value_name = "ID", required_unless_present = "query")]
    pub(crate) tasks: Vec<TaskId>,
    /// Write the tasks that fit a query, e.g. `project = vision and status = completed`
    #[arg(long = "where", value_name = "QUERY")]
    pub(crate) query: Option<String>,
    /// Leave out the contents of files that are only linked: the archive says where they are,
    /// and the server that takes it in has to reach them there
    #[arg(long)]
    pub(crate) no_linked: bool,
}

/// Take in an archive that `trainshed export` or `trainshed run --offline` wrote
///
/// Prints the ids of the tasks that are new. A task that is there already stays as it is, so
/// that importing twice does nothing. All of the archive is taken in, or nothing.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The archive
    pub(crate) file: PathBuf,
    /// Add the one task of the archive to this one, which keeps all that it has
    #[arg(long, value_name = "TASK")]
    pub(crate) into: Option<TaskId>,
    /// Added to every iteration; without it, they go on after the last one of the task
    #[arg(long, value_name = "N", requires = "into")]
    pub(crate) iteration_offset: Option<u64>,
}

/// Print the completions of a shell, e.g. for `source <(trainshed completions bash)`
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    pub(crate) shell: clap_complete::Shell,
}

/// Remove files that nothing refers to
///
/// Files that were uploaded or asked for within the last day stay, and
/// uploads in parts for which something came within the last week.
#[derive(Debug, Args)]
pub(crate) struct GcArgs {
    /// Only count them
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Remove files that have been unused for this long, instead of a day
    #[arg(long, value_name = "SECONDS")]
    pub(crate) keep: Option<u64>,
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
        paths: Vec<PathBuf>,
        /// File with addresses to take objects from, one on each line, `-` for standard input
        #[arg(long, value_name = "FILE")]
        from_urls: Option<PathBuf>,
        /// Address of an object, or of a folder of objects, e.g. `s3://bucket/folder`
        /// (can be repeated)
        #[arg(long, value_name = "URL")]
        from: Vec<Address>,
        /// Do not copy: record objects, files and folders where they are
        #[arg(long)]
        link: bool,
        /// Tag (can be repeated)
        #[arg(long)]
        tag: Vec<String>,
        /// What it is, for people
        #[arg(long, default_value = "")]
        description: String,
        /// Id of the version it was made from
        #[arg(long, value_name = "ID")]
        parent: Option<u64>,
    },
    /// List data set versions
    Ls {
        /// Archived versions too
        #[arg(long)]
        archived: bool,
    },
    /// Show a version and its files
    Show {
        /// Id of the version
        id: u64,
        /// Show its tables, their columns and what the values are like
        #[arg(long)]
        tables: bool,
    },
    /// Show what came, went, changed and moved since another version
    Diff {
        /// Id of the version
        id: u64,
        /// Version to compare with [default: the one it was made from, or the one of its name before]
        #[arg(long, value_name = "ID")]
        with: Option<u64>,
    },
    /// Download the files of a version
    ///
    /// Prints the folder, which has the files with their paths and is there only with all of
    /// them.
    Download {
        /// Id of the version
        id: u64,
        /// New folder to write them into [default: <name>-<version>]
        #[arg(long, short, value_name = "FOLDER")]
        output: Option<PathBuf>,
    },
    /// Change the tags and the description of a version
    Tag {
        /// Id of the version
        id: u64,
        /// Tags instead of those it has
        tags: Vec<String>,
        /// What it is, for people
        #[arg(long)]
        description: Option<String>,
    },
    /// Make a version read-only for good
    Publish {
        /// Id of the version
        id: u64,
    },
    /// Hide a version from lists
    Archive {
        /// Id of the version
        id: u64,
        /// Show it again
        #[arg(long)]
        undo: bool,
    },
    /// Delete a version that nothing needs
    #[command(visible_alias = "delete")]
    Rm {
        /// Id of the version
        id: u64,
        /// Although something needs it, or it is published
        #[arg(long)]
        force: bool,
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
        /// Also the trials of tune actions
        #[arg(long)]
        trials: bool,
        /// Archived tasks, too
        #[arg(long)]
        archived: bool,
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
    #[command(visible_alias = "log")]
    Logs(LogArgs),
    /// List the plots of a task, or save their figures
    ///
    /// A figure is JSON as Plotly has it.
    Plots(ShownArgs),
    /// List the images, sounds, videos, pages and texts of a task, or download them
    Samples(ShownArgs),
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

/// Which lines of a console to print.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// Id of the task
    pub(crate) id: String,
    /// Go on until the task ends
    #[arg(long, short, conflicts_with = "reverse")]
    pub(crate) follow: bool,
    /// Only the last lines (of those that fit)
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<u64>,
    /// The last line first
    #[arg(long)]
    pub(crate) reverse: bool,
    /// Only lines in which this regular expression, or text, is found
    #[arg(long, value_name = "PATTERN")]
    pub(crate) search: Option<String>,
    /// Only lines of this level or a higher one
    #[arg(long, value_enum)]
    pub(crate) level: Option<LogLevel>,
}

/// How much a line matters.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum LogLevel {
    Debug,
    /// And standard output
    Info,
    /// And standard error
    Warning,
    Error,
}

impl LogLevel {
    /// As the API has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Which plots or samples to list.
#[derive(Debug, Args)]
pub(crate) struct ShownArgs {
    /// Id of the task
    pub(crate) id: String,
    /// Only those of this title
    #[arg(long)]
    pub(crate) title: Option<String>,
    /// Only those of this series
    #[arg(long)]
    pub(crate) series: Option<String>,
    /// Only those of this iteration
    #[arg(long, value_name = "N")]
    pub(crate) iteration: Option<u64>,
    /// Only those of the last so many iterations of their series
    #[arg(long, value_name = "N")]
    pub(crate) last: Option<u64>,
    /// Write them into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) save: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ArtifactCommand {
    /// List the artifacts of a task
    Ls {
        /// Id of the task
        task: String,
        /// Former versions too
        #[arg(long)]
        history: bool,
    },
    /// Fetch an artifact
    Get {
        /// Id of the task
        task: String,
        /// Name of the artifact
        name: String,
        /// Version, instead of the last one
        #[arg(long, value_name = "N")]
        version: Option<u32>,
        /// Where to write it [default: its name, in this folder]
        #[arg(long, short, value_name = "FILE", conflicts_with = "unpack")]
        output: Option<PathBuf>,
        /// Unpack an artifact that is a folder into this new folder
        #[arg(long, value_name = "FOLDER")]
        unpack: Option<PathBuf>,
        /// Unpack at most so many bytes [default: a hundred times the archive and 1 GiB]
        #[arg(long, value_name = "BYTES", requires = "unpack")]
        max_bytes: Option<u64>,
    },
    /// Keep a file, a folder (as one zip archive) or an address as an artifact
    Put {
        /// Id of the task
        task: String,
        /// Name of the artifact
        name: String,
        /// File, folder, or an address such as `https://host/x`, which is only recorded
        source: String,
        /// What it is: json, yaml, csv.gz, parquet, npz, png or file [default: by its name]
        #[arg(long = "type", value_name = "TYPE", value_parser = artifact_type)]
        kind: Option<ArtifactType>,
    },
    /// Delete an artifact with its former versions
    #[command(visible_alias = "delete")]
    Rm {
        /// Id of the task
        task: String,
        /// Name of the artifact
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// List keys, the oldest first, without the keys themselves
    Ls,
    /// Make a key
    ///
    /// Prints it on standard output, this once. What is made with it has its name as creator.
    Create {
        /// Whose it is, e.g. `ada`
        name: String,
    },
    /// Take a key back: no call with it is answered any more
    #[command(visible_alias = "rm")]
    Revoke {
        /// Id of the key
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// List models, newest first
    Ls {
        /// Only models of this task
        #[arg(long, value_name = "ID")]
        task: Option<String>,
        /// Archived models, too
        #[arg(long, conflicts_with = "task")]
        archived: bool,
    },
    /// Show a model
    Show {
        /// Id of the model
        id: u64,
    },
    /// Register a file or an address as a model
    ///
    /// Prints its id on standard output.
    Register {
        /// Name of the model
        name: String,
        /// File, which is uploaded, or an address such as `s3://bucket/x`, which is only
        /// recorded
        source: String,
        /// Task that made it
        #[arg(long, value_name = "ID")]
        task: Option<TaskId>,
        /// What it is for, e.g. `PyTorch`
        #[arg(long, default_value = "")]
        framework: String,
        /// For people
        #[arg(long, default_value = "")]
        comment: String,
        /// Tag (can be repeated)
        #[arg(long)]
        tag: Vec<String>,
        /// Model that it was made from
        #[arg(long, value_name = "ID")]
        parent: Option<u64>,
        /// Iteration at which it was saved
        #[arg(long, default_value_t = 0)]
        iteration: u64,
    },
    /// Change what is said of a model
    Edit {
        /// Id of the model
        id: u64,
        /// New name
        #[arg(long)]
        name: Option<String>,
        /// New comment
        #[arg(long)]
        comment: Option<String>,
        /// What it is for
        #[arg(long)]
        framework: Option<String>,
        /// File with the design of the network
        #[arg(long, value_name = "FILE")]
        design: Option<PathBuf>,
        /// Tags instead of those it has (can be repeated)
        #[arg(long)]
        tag: Option<Vec<String>>,
        /// Class label and its number, instead of those it has (can be repeated)
        #[arg(long, value_name = "NAME=NUMBER", value_parser = label)]
        label: Option<Vec<(String, i64)>>,
        /// Something to keep with it (can be repeated)
        #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
        metadata: Vec<(String, String)>,
    },
    /// Make a model read-only for good
    Publish {
        /// Id of the model
        id: u64,
        /// Publish the task that made it too
        #[arg(long)]
        with_task: bool,
    },
    /// Hide a model from lists
    Archive {
        /// Id of the model
        id: u64,
        /// Show it again
        #[arg(long)]
        undo: bool,
    },
    /// Delete a model that nothing needs
    #[command(visible_alias = "delete")]
    Rm {
        /// Id of the model
        id: u64,
        /// Although something needs it, or it is published
        #[arg(long)]
        force: bool,
    },
    /// Show who made a model of what, and what was made of it
    Lineage {
        /// Id of the model
        id: u64,
    },
    /// Download the file of a model
    Download {
        /// Id of the model
        id: u64,
        /// Where to write it [default: <name>-<id>, and .safetensors or .zip if a plugin saved it]
        #[arg(long, short, value_name = "FILE", conflicts_with = "unpack")]
        output: Option<PathBuf>,
        /// Unpack a model that is a folder into this new folder
        #[arg(long, value_name = "FOLDER")]
        unpack: Option<PathBuf>,
        /// Unpack at most so many bytes [default: a hundred times the archive and 1 GiB]
        #[arg(long, value_name = "BYTES", requires = "unpack")]
        max_bytes: Option<u64>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TuneCommand {
    /// Start a search over a task, or one whose trials run elsewhere
    ///
    /// FILE has the body of `POST /experiments`: `name`, `hyperparameters`, `tune_config` and so
    /// on. With a task to clone, hyperparameters are called as its parameters are, e.g.
    /// `General/lr`: agents run the trials if a plugin runs that task, and otherwise whoever asks
    /// for them. Prints the id of the search.
    Start {
        /// What is searched and how, as JSON
        #[arg(value_name = "FILE")]
        space: PathBuf,
        /// Id of the task whose clones the trials are
        #[arg(long, value_name = "TASK")]
        base: Option<String>,
        /// Name of the search, instead of that in the file
        #[arg(long)]
        name: Option<String>,
    },
    /// Show how a search stands, and its trials
    Show {
        /// Id of the task
        id: String,
    },
    /// Print the best trial so far as JSON
    ///
    /// Its `config` can be given as `hyperparameter` to a train action. Exits with 1 while no
    /// trial has a value of the metric.
    Best {
        /// Id of the task
        id: String,
        /// Say that this trial is the best one, whatever the metric says
        #[arg(long, value_name = "TRIAL")]
        choose: Option<String>,
        /// Leave it to the metric again which trial is the best one
        #[arg(long, conflicts_with = "choose")]
        by_metric: bool,
    },
    /// Let a search that was stopped, or has failed, go on
    ///
    /// Trials that were stopped go on from their checkpoints; the others are those that there
    /// would have been without the stop.
    Resume {
        /// Id of the task
        id: String,
        /// Also try trials again that failed
        #[arg(long)]
        failed: bool,
    },
    /// Print every trial as one JSON object a line
    Export {
        /// Id of the task
        id: String,
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

/// A place that files can be written to.
fn place(text: &str) -> Result<Address, String> {
    let address = readable(text)?;
    if !address.is_writable() {
        return Err("a web server is only read from".to_owned());
    }
    Ok(address)
}

fn readable(text: &str) -> Result<Address, String> {
    text.parse()
        .map_err(|error: trainshed_core::address::InvalidAddress| error.to_string())
}

fn artifact_type(name: &str) -> Result<ArtifactType, String> {
    let kind = ArtifactType::parse(name);
    let kind = kind.filter(|kind| !matches!(kind, ArtifactType::Link | ArtifactType::Folder));
    kind.ok_or_else(|| "must be json, yaml, csv.gz, parquet, npz, png or file".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be written KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn label(text: &str) -> Result<(String, i64), String> {
    let (name, number) = pair(text)?;
    let number = number.parse();
    Ok((name, number.map_err(|_| "must be written NAME=NUMBER")?))
}
