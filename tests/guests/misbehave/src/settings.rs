use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// What to do.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Settings {
    /// The deed.
    #[serde(rename = "do")]
    pub(crate) deed: Deed,
    /// How many times, for deeds that have a number.
    #[serde(default = "default_count")]
    pub(crate) count: u64,
    /// How long each step of `slow-steps` takes.
    #[serde(default = "default_milliseconds")]
    pub(crate) milliseconds: u64,
    /// What `return` returns.
    #[serde(default)]
    pub(crate) value: Value,
}

/// What a plugin must not do, or may do in a way that the host must not trust.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Deed {
    /// Returns `value`.
    Return,
    /// Returns a failure.
    Fail,
    /// Returns that a parameter cannot be used.
    InvalidParameter,
    /// Says that it was stopped although it was not.
    SayStopped,
    /// Returns 16 MiB of JSON.
    HugeResult,
    /// Returns what is no JSON.
    InvalidJson,
    /// Panics, which traps.
    Panic,
    /// Panics behind an unfinished line on the console.
    PanicInALine,
    /// Ends the process with status 3.
    Exit,
    /// Never returns, never calls the host, never looks whether it should stop.
    Loop,
    /// Never returns, but calls the host.
    LoopWithHostCalls,
    /// Waits in the host for an hour.
    Sleep,
    /// Waits until it is asked to stop, and does.
    ObeyStop,
    /// Takes `count` steps of `milliseconds`, with a metric each, and stops when asked.
    SlowSteps,
    /// Calls itself `count` times.
    Recursion,
    /// Takes memory until there is none.
    Memory,
    /// Prints for ever.
    FloodConsole,
    /// Reports measurements until one is refused.
    FloodMetrics,
    /// Reports measurements for ever.
    FloodMetricsAndIgnoreErrors,
    /// Calls the host with arguments that break each rule.
    BadArguments,
    /// Writes until there is no room.
    FillScratch,
    /// Makes files until there is no room.
    ManyFiles,
    /// Tries to leave its folders.
    Escape,
    /// Lists its environment variables and arguments.
    Environment,
    /// Draws random numbers.
    Random,
    /// Reads the clocks.
    Clock,
    /// Says what it was given.
    Describe,
    /// Loads every column of every table.
    LoadTables,
    /// Makes tensors of 64 MiB until there is no room.
    LargeTensors,
    /// Makes `count` small tensors and keeps them.
    ManyTensors,
    /// Hands over programs that break each rule.
    MalformedPrograms,
    /// Hands over `count` programs of random instructions.
    RandomPrograms,
    /// Runs a program of `count` large products.
    HeavyProgram,
}

fn default_count() -> u64 {
    1_000_000
}

fn default_milliseconds() -> u64 {
    10
}
