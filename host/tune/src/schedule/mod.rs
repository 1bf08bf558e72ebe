//! Schedulers: what becomes of a trial when it reports.
//!
//! A scheduler is a fold over what the trials do. It learns of new trials, reports and ends,
//! answers each report with a [`Decision`], and may have paused trials stopped or resumed.
//! Scores are what is minimised; a score that is not finite is worse than every other.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use trainshed_core::action::ActionError;

use crate::options::Options;
use crate::space::{Config, Space};

mod asha;
mod hyperband;
mod pbt;
mod rules;

use asha::Asha;
use hyperband::HyperBand;
use pbt::Pbt;
use rules::{Median, Patience, Plateau};

/// What a trial is to do after a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Go on.
    Continue,
    /// Wait until it is resumed or stopped; it holds no slot meanwhile.
    Pause,
    /// End now.
    Stop,
    /// End this attempt, which is over: another begins, perhaps from another trial's checkpoint.
    Restart,
}

/// A decision, and what else follows from a report or an end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) decision: Decision,
    /// Whether a trial that is stopped has had all that it could get, so that its last score
    /// is as good as that of a trial that ended by itself.
    pub(crate) complete: bool,
    /// The milestone that the trial reached, if the scheduler compares trials there.
    pub(crate) milestone: Option<u64>,
    /// What to do with paused trials.
    pub(crate) commands: Vec<Command>,
    /// Whom to copy, and with which configuration, when the decision is to restart.
    pub(crate) exploit: Option<(u64, Config)>,
}

impl Verdict {
    fn new(decision: Decision) -> Self {
        Self {
            decision,
            complete: false,
            milestone: None,
            commands: Vec::new(),
            exploit: None,
        }
    }

    fn go_on() -> Self {
        Self::new(Decision::Continue)
    }
}

/// What a scheduler does with a paused trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Stop(u64),
    Resume(u64),
}

/// A report as a scheduler sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) trial: u64,
    /// The value of the scheduler's time attribute.
    pub(crate) time: f64,
    pub(crate) score: f64,
}

/// What a scheduler may look at besides its own state.
pub(crate) struct Surroundings<'a> {
    pub(crate) seed: u64,
    pub(crate) space: &'a Space,
    /// Whether trials will still be added.
    pub(crate) more: bool,
    /// Trials that could run: waiting ones, and paused ones that were told to go on.
    pub(crate) ready: &'a [u64],
    /// The configurations of trials, and whether a checkpoint of them exists.
    pub(crate) config: &'a dyn Fn(u64) -> Option<(Config, bool)>,
}

/// What to run next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pick {
    /// A trial of those that are ready.
    Ready(u64),
    /// A trial that is yet to be created.
    New,
}

/// A scheduler with its options and its state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scheduler {
    /// Its name, as the settings have it.
    pub(crate) name: &'static str,
    /// The metric that counts as time.
    pub(crate) time_attr: String,
    rule: Rule,
}

#[derive(Debug, Clone, Default)]
enum Rule {
    #[default]
    Fifo,
    Asha(Asha),
    HyperBand(HyperBand),
    Median(Median),
    Pbt(Pbt),
    Patience(Patience),
    Plateau(Plateau),
}

const NAMES: [&str; 9] = [
    "fifo",
    "asha",
    "hyperband",
    "bohb",
    "median",
    "pbt",
    "pb2",
    "patience",
    "plateau",
];

impl Scheduler {
    /// Parses `name` or `{"name": …, "options": {…}}`.
    ///
    /// `epochs` is the largest number of epochs that the space allows, the default of `max_t`.
    ///
    /// # Errors
    /// An unknown name, an unknown option, or an option out of range.
    pub(crate) fn parse(
        submitted: Option<&Value>,
        pointer: &str,
        space: &Space,
        epochs: Option<f64>,
    ) -> Result<Self, ActionError> {
        let nothing = Map::new();
        let (name, options) = named(submitted, pointer, "scheduler", "fifo", &nothing)?;
        let lower = name.to_lowercase();
        let Some(name) = NAMES.iter().copied().find(|known| match *known {
            "asha" => matches!(
                lower.as_str(),
                "asha" | "asynchyperband" | "async_hyperband"
            ),
            "median" => matches!(
                lower.as_str(),
                "median" | "medianstopping" | "median_stopping_rule"
            ),
            known => lower == known,
        }) else {
            return Err(ActionError::new(
                format!("{pointer}/name"),
                format!(
                    "Unsupported scheduler: '{name}'. Supported: {}",
                    NAMES.join(", ")
                ),
            ));
        };
        let owner = format!("scheduler {name}");
        let mut options = Options::new(options, &owner, format!("{pointer}/options"));
        let time_attr = match name {
            "median" | "pbt" | "pb2" => options.text("time_attr", "time_total_s")?,
            _ => options.text("time_attr", "training_iteration")?,
        };
        let epochs = epochs.filter(|_| time_attr == "training_iteration");
        let rule = match name {
            "asha" => Rule::Asha(Asha::parse(&mut options, epochs)?),
            "hyperband" | "bohb" => {
                Rule::HyperBand(HyperBand::parse(&mut options, epochs, name == "bohb")?)
            }
            "median" => Rule::Median(Median::parse(&mut options)?),
            "pbt" | "pb2" => Rule::Pbt(Pbt::parse(&mut options, space, name == "pb2", pointer)?),
            "patience" => Rule::Patience(Patience::parse(&mut options)?),
            "plateau" => Rule::Plateau(Plateau::parse(&mut options)?),
            _ => Rule::Fifo,
        };
        options.finish()?;
        Ok(Self {
            name,
            time_attr,
            rule,
        })
    }

    /// Whether it goes together with searchers that learn from results.
    pub(crate) fn changes_configurations(&self) -> bool {
        matches!(self.rule, Rule::Pbt(_))
    }

    /// Whether a decision may take more than some milliseconds.
    pub(crate) fn thinks_long(&self) -> bool {
        matches!(&self.rule, Rule::Pbt(pbt) if pbt.asks_a_model())
    }

    /// Learns of a new trial.
    pub(crate) fn add(&mut self, trial: u64, seed: u64) {
        match &mut self.rule {
            Rule::Asha(asha) => asha.add(trial, seed),
            Rule::HyperBand(bands) => bands.add(trial),
            Rule::Pbt(pbt) => pbt.add(trial),
            Rule::Fifo | Rule::Median(_) | Rule::Patience(_) | Rule::Plateau(_) => {}
        }
    }

    /// Decides on a report.
    pub(crate) fn report(&mut self, seen: Seen, around: &Surroundings<'_>) -> Verdict {
        match &mut self.rule {
            Rule::Fifo => Verdict::go_on(),
            Rule::Asha(asha) => asha.report(seen),
            Rule::HyperBand(bands) => bands.report(seen, around.more),
            Rule::Median(median) => median.report(seen),
            Rule::Pbt(pbt) => pbt.report(seen, around),
            Rule::Patience(patience) => patience.report(seen),
            Rule::Plateau(plateau) => plateau.report(seen),
        }
    }

    /// Learns that a trial ended, by itself (then with its last report), failed or stopped.
    pub(crate) fn end(&mut self, trial: u64, last: Option<Seen>, more: bool) -> Vec<Command> {
        match &mut self.rule {
            Rule::Asha(asha) => {
                asha.end(trial, last);
                Vec::new()
            }
            Rule::HyperBand(bands) => bands.end(trial, more),
            Rule::Pbt(pbt) => {
                pbt.end(trial);
                Vec::new()
            }
            Rule::Fifo | Rule::Median(_) | Rule::Patience(_) | Rule::Plateau(_) => Vec::new(),
        }
    }

    /// Learns that no trial will be added any more.
    pub(crate) fn close(&mut self) -> Vec<Command> {
        match &mut self.rule {
            Rule::HyperBand(bands) => bands.close(),
            _ => Vec::new(),
        }
    }

    /// Picks what to run next.
    pub(crate) fn pick(&self, around: &Surroundings<'_>) -> Option<Pick> {
        match &self.rule {
            Rule::HyperBand(bands) => bands.pick(around),
            Rule::Pbt(pbt) => pbt.pick(around),
            _ => match around.ready.first() {
                Some(trial) => Some(Pick::Ready(*trial)),
                None => around.more.then_some(Pick::New),
            },
        }
    }
}

/// Reads `"name"` or `{"name": "…", "options": {…}}`.
pub(crate) fn named<'a>(
    submitted: Option<&'a Value>,
    pointer: &str,
    subject: &str,
    default: &'static str,
    nothing: &'a Map<String, Value>,
) -> Result<(&'a str, &'a Map<String, Value>), ActionError> {
    let fields = match submitted {
        None | Some(Value::Null) => return Ok((default, nothing)),
        Some(Value::String(name)) => return Ok((name, nothing)),
        Some(Value::Object(fields)) => fields,
        Some(other) => {
            return Err(ActionError::wrong_type(
                pointer,
                subject,
                "a name or a dict with a `name`",
                other,
            ));
        }
    };
    let name = match fields.get("name") {
        None | Some(Value::Null) => default,
        Some(Value::String(name)) => name,
        Some(other) => {
            return Err(ActionError::wrong_type(
                &format!("{pointer}/name"),
                &format!("`name` of {subject}"),
                "a text",
                other,
            ));
        }
    };
    let allowed = ["name", "options", "points_to_evaluate"];
    if let Some(key) = fields
        .keys()
        .find(|key| !allowed[..if subject == "scheduler" { 2 } else { 3 }].contains(&key.as_str()))
    {
        return Err(ActionError::new(
            format!("{pointer}/{key}"),
            format!("{subject} has no field `{key}`"),
        )
        .with_hint("Options belong into `options`."));
    }
    let options = match fields.get("options") {
        None | Some(Value::Null) => nothing,
        Some(Value::Object(options)) => options,
        Some(other) => {
            return Err(ActionError::wrong_type(
                &format!("{pointer}/options"),
                &format!("`options` of {subject}"),
                "a dict",
                other,
            ));
        }
    };
    Ok((name, options))
}
