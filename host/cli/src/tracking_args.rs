//! The command line of `trainshed task` and `trainshed project`, as far as they change something.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum TaskChange {
    /// Make a draft: a task to be edited, and enqueued or started later
    ///
    /// Prints its id on standard output.
    Create(CreateArgs),
    /// Change the name, comment or tags of a task, and of a draft also the rest
    Edit(EditArgs),
    /// Put tasks into a queue
    Enqueue {
        /// Ids of the tasks
        #[arg(required = true)]
        ids: Vec<String>,
        /// Name of the queue
        #[arg(long, default_value = "default", conflicts_with = "queue_id")]
        queue: String,
        /// Id of the queue, instead of its name
        #[arg(long, value_name = "ID")]
        queue_id: Option<String>,
        #[command(flatten)]
        force: ForceArgs,
    },
    /// Take tasks out of their queues; they are drafts again
    Dequeue {
        /// Ids of the tasks
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Say that a program of yours runs tasks now
    Start {
        /// Ids of the tasks
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        force: ForceArgs,
    },
    /// Say that tasks which a program of yours runs have ended well
    Complete {
        /// Ids of the tasks
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        end: EndArgs,
    },
    /// Say that tasks which a program of yours runs have failed
    Fail {
        /// Ids of the tasks
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        end: EndArgs,
    },
    /// Say how far a task has come
    Progress {
        /// Id of the task
        id: String,
        /// 0 to 100
        percent: f64,
    },
    /// Make an editable copy of a task, without what its run reported and made
    ///
    /// Prints the id of the copy on standard output.
    Clone {
        /// Id of the task
        id: String,
        /// Name of the copy [default: `Clone Of` and the name of the task]
        #[arg(long)]
        name: Option<String>,
        /// Comment of the copy [default: that of the task]
        #[arg(long)]
        comment: Option<String>,
        /// Project of the copy, made if it is not there [default: that of the task]
        #[arg(long, value_name = "PATH")]
        project: Option<String>,
    },
    /// Make drafts of tasks: what their runs reported and made is deleted
    Reset {
        /// Ids of the tasks
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        force: ForceArgs,
    },
    /// Make tasks and their models read-only, for good
    Publish {
        /// Ids of the tasks
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        force: ForceArgs,
    },
    /// Hide tasks from lists
    Archive {
        /// Ids of the tasks
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Show archived tasks in lists again
    Unarchive {
        /// Ids of the tasks
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Delete drafts and archived tasks with what they reported and made
    #[command(visible_alias = "rm")]
    Delete {
        /// Ids of the tasks
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        force: ForceArgs,
    },
    /// Move a task to another project
    Move {
        /// Id of the task
        id: String,
        /// Path of the project, made if it is not there
        project: String,
    },
    /// Show, set and remove parameters
    ///
    /// Those of the section `General` are what the plugin is given.
    Params(ParamsArgs),
    /// Show, write and remove configuration objects
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Show, set and remove user properties; allowed in every state
    Property {
        /// Id of the task
        id: String,
        /// Properties to set; a value that is JSON has its type, any other is a text
        #[arg(value_name = "NAME=VALUE")]
        set: Vec<String>,
        /// Property to remove (can be repeated)
        #[arg(long, value_name = "NAME")]
        remove: Vec<String>,
    },
}

/// For what the state of a task forbids.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ForceArgs {
    /// Do it although the state of the task forbids it
    #[arg(long)]
    pub(crate) force: bool,
}

/// How a task ended.
#[derive(Debug, Args)]
pub(crate) struct EndArgs {
    /// Why, in a few words, for the task's status reason
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// More about it, for the task's status message
    #[arg(long)]
    pub(crate) message: Option<String>,
    #[command(flatten)]
    pub(crate) force: ForceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Name of the task
    pub(crate) name: String,
    /// Path of the project, made if it is not there
    #[arg(long, value_name = "PATH")]
    pub(crate) project: Option<String>,
    /// What kind of work it is, e.g. `testing` [default: training]
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) task_type: Option<String>,
    /// File with an action as JSON that an agent is to run, `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) action: Option<PathBuf>,
    /// Parameter, in the section `General` unless it names one (can be repeated)
    #[arg(long, value_name = "SECTION/NAME=VALUE")]
    pub(crate) param: Vec<String>,
    #[command(flatten)]
    pub(crate) texts: TextArgs,
    #[command(flatten)]
    pub(crate) script: ScriptArgs,
}

#[derive(Debug, Args)]
pub(crate) struct EditArgs {
    /// Id of the task
    pub(crate) id: String,
    /// Another name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// What kind of work it is
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) task_type: Option<String>,
    /// File with another action as JSON, `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) action: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) texts: TextArgs,
    #[command(flatten)]
    pub(crate) script: ScriptArgs,
    #[command(flatten)]
    pub(crate) force: ForceArgs,
}

/// What tasks are found and understood by.
#[derive(Debug, Args)]
pub(crate) struct TextArgs {
    /// What it is, for people
    #[arg(long)]
    pub(crate) comment: Option<String>,
    /// Tag (can be repeated); all tags of the task are those given
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// Task that it came from
    #[arg(long, value_name = "ID")]
    pub(crate) parent: Option<String>,
    /// Where its files go
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) output_destination: Option<String>,
}

/// The program of a task that no plugin runs.
#[derive(Debug, Args)]
pub(crate) struct ScriptArgs {
    /// Address of the git repository
    #[arg(long, value_name = "URL")]
    pub(crate) repository: Option<String>,
    /// Branch of the repository
    #[arg(long)]
    pub(crate) branch: Option<String>,
    /// Commit of the repository
    #[arg(long)]
    pub(crate) commit: Option<String>,
    /// Program to run, relative to the working folder
    #[arg(long, value_name = "PATH")]
    pub(crate) entry_point: Option<String>,
    /// Folder to run it in, relative to the root of the repository
    #[arg(long, value_name = "PATH")]
    pub(crate) working_dir: Option<String>,
    /// File with what must be installed, in the form of `requirements.txt`
    #[arg(long, value_name = "FILE")]
    pub(crate) requirements: Option<PathBuf>,
    /// File with what was not committed
    #[arg(long, value_name = "FILE")]
    pub(crate) diff: Option<PathBuf>,
    /// Container image to run it in
    #[arg(long, value_name = "NAME")]
    pub(crate) image: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ParamsArgs {
    /// Id of the task
    pub(crate) id: String,
    /// Parameters to set, in the section `General` unless they name one; a value that is JSON
    /// has its type, any other is a text
    #[arg(value_name = "SECTION/NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// Remove all parameters that are not given
    #[arg(long)]
    pub(crate) replace: bool,
    /// Parameter to remove (can be repeated)
    #[arg(long, value_name = "SECTION/NAME")]
    pub(crate) remove: Vec<String>,
    #[command(flatten)]
    pub(crate) force: ForceArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// List the configuration objects of a task
    Ls {
        /// Id of the task
        id: String,
    },
    /// Print a configuration object, byte for byte
    Get {
        /// Id of the task
        id: String,
        /// Name of the configuration object
        #[arg(default_value = "General")]
        name: String,
    },
    /// Write a configuration object, byte for byte
    Put {
        /// Id of the task
        id: String,
        /// File with the content, `-` for standard input
        file: PathBuf,
        /// Name of the configuration object
        #[arg(long, default_value = "General")]
        name: String,
        /// What the content is, e.g. `yaml`
        #[arg(long = "type", value_name = "TYPE", default_value = "")]
        kind: String,
        #[command(flatten)]
        force: ForceArgs,
    },
    /// Remove a configuration object
    Rm {
        /// Id of the task
        id: String,
        /// Name of the configuration object
        name: String,
        #[command(flatten)]
        force: ForceArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProjectCommand {
    /// List projects by path
    Ls {
        /// Only projects in this one
        parent: Option<String>,
        /// At any depth
        #[arg(long, short)]
        children: bool,
        /// Archived projects, too
        #[arg(long)]
        archived: bool,
    },
    /// Show a project
    Show {
        /// Path or id
        project: String,
    },
    /// Make a project, and those it is in
    ///
    /// Prints its id on standard output.
    Create {
        /// Path, with `/` between a project and those in it
        path: String,
        /// What it is, for people
        #[arg(long, default_value = "")]
        description: String,
        /// Tag (can be repeated)
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
        /// Where files of its tasks go
        #[arg(long, value_name = "ADDRESS")]
        default_output: Option<String>,
    },
    /// Change what is said of a project, and where files of its tasks go
    Edit {
        /// Path or id
        project: String,
        /// What it is, for people
        #[arg(long)]
        description: Option<String>,
        /// Tags instead of those it has (can be repeated)
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
        /// Where files of its tasks go; an empty text for where the server says
        #[arg(long, value_name = "ADDRESS")]
        default_output: Option<String>,
    },
    /// Change the last part of a project's path
    Rename {
        /// Path or id
        project: String,
        /// The new last part
        name: String,
    },
    /// Put a project into another one, which is made if it is not there
    Move {
        /// Path or id
        project: String,
        /// Path of the other project, `/` for none
        into: String,
    },
    /// Put all that is in a project into another one, and delete the first
    Merge {
        /// Path or id
        project: String,
        /// Path or id of the other project
        into: String,
    },
    /// Say how much is kept of what the tasks of a project report
    ///
    /// What is not given gets its default.
    Keep {
        /// Path or id
        project: String,
        /// Delete the points of curves so many days after their task ended; summaries stay
        /// [default: kept for ever]
        #[arg(long, value_name = "DAYS")]
        points_days: Option<u32>,
        /// Iterations of each series of samples that are kept [default: 100]
        #[arg(long, value_name = "N")]
        samples: Option<u32>,
        /// Iterations of each series of plots that are kept [default: 100]
        #[arg(long, value_name = "N")]
        plots: Option<u32>,
    },
    /// Delete a project and those below it
    #[command(visible_alias = "rm")]
    Delete {
        /// Path or id
        project: String,
        /// Path or id of the project that gets the tasks
        #[arg(long, value_name = "PROJECT")]
        move_to: Option<String>,
        /// Delete the tasks with it, whatever their state
        #[arg(long, conflicts_with = "move_to")]
        force: bool,
    },
}
