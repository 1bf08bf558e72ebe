//! Watching a task until it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use trainshed_core::action::TUNE;
use trainshed_core::task::TaskState;
use trainshed_core::view::{SeriesSummary, TaskView, TrialView, TuneView};
use trainshed_wire::{Client, ClientError, Metrics};

use crate::error::CliError;
use crate::output::{Output, number, printable};
use crate::tune::{self, search_line, trial_line};

/// Lines of one look at the console.
const CONSOLE_PAGE: u64 = 1000;
/// How long to wait before asking again when the event stream broke.
const POLL: Duration = Duration::from_millis(500);

/// How the watching ended.
pub(crate) enum Followed {
    /// The task has ended.
    Ended(Box<TaskView>),
    /// The user left.
    Left,
}

/// Shows console, metrics and progress on standard error until the task has ended.
///
/// The first Ctrl-C asks the task to stop, the second leaves.
pub(crate) async fn follow(
    client: &Client,
    task: &TaskView,
    output: &Output,
) -> Result<Followed, CliError> {
    let id = task.id.as_str();
    let mut screen = Screen::new(output, task);
    let watching = watch(client, id, &mut screen);
    let mut watching = std::pin::pin!(watching);
    let mut asked = false;
    loop {
        tokio::select! {
            ended = &mut watching => return Ok(Followed::Ended(Box::new(ended?))),
            heard = tokio::signal::ctrl_c() => {
                if asked || heard.is_err() {
                    return Ok(Followed::Left);
                }
                asked = true;
                output.say("stopping the task; press Ctrl-C again to leave at once");
                client.stop(id, Some("interrupted by the user".to_owned())).await?;
            }
        }
    }
}

async fn watch(
    client: &Client,
    id: &str,
    screen: &mut Screen<'_>,
) -> Result<TaskView, ClientError> {
    loop {
        let mut events = match client.task_events(id).await {
            Ok(events) => Box::pin(events),
            Err(error) if error.is_passing() => {
                tokio::time::sleep(POLL).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        while events.next().await.is_some() {
            if let Some(ended) = look(client, id, screen).await? {
                return Ok(ended);
            }
        }
        if let Some(ended) = look(client, id, screen).await? {
            return Ok(ended);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Shows what is new; the task when it has ended.
async fn look(
    client: &Client,
    id: &str,
    screen: &mut Screen<'_>,
) -> Result<Option<TaskView>, ClientError> {
    // The state first: once it says that the task has ended, all it reported is there.
    let task = client.task(id).await?;
    loop {
        let page = client.console(id, screen.lines_shown, CONSOLE_PAGE).await?;
        for line in &page.lines {
            screen.console_line(&line.text);
        }
        screen.lines_shown += page.lines.len() as u64;
        if page.lines.is_empty() {
            break;
        }
    }
    if task.action == TUNE && task.status != TaskState::Queued {
        tune::look(client, id, screen).await?;
    }
    let metrics = client.metrics(id).await?;
    screen.show(&task, &metrics);
    if task.status.has_ended() {
        screen.end(&task, &metrics);
        return Ok(Some(task));
    }
    Ok(None)
}

/// What a person sees of the task.
pub(crate) struct Screen<'a> {
    output: &'a Output,
    bar: ProgressBar,
    lines_shown: u64,
    state: TaskState,
    /// The last iteration shown of each curve.
    iterations: BTreeMap<(String, String), u64>,
    /// Trials that have ended and were shown.
    trials: BTreeSet<u64>,
    /// The first trial that has not been shown.
    next_trial: u64,
}

impl<'a> Screen<'a> {
    fn new(output: &'a Output, task: &TaskView) -> Self {
        let target = if output.is_watched() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(100), target);
        let style = ProgressStyle::with_template(
            "{spinner} {prefix} [{bar:30}] {pos:>3}% {elapsed} {wide_msg}",
        )
        .expect("the template is a constant");
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(printable(&task.name));
        bar.enable_steady_tick(Duration::from_millis(120));
        Self {
            output,
            bar,
            lines_shown: 0,
            state: TaskState::Created,
            iterations: BTreeMap::new(),
            trials: BTreeSet::new(),
            next_trial: 0,
        }
    }

    /// Shows how a search stands, and each trial that has ended since the last look. `trials`
    /// are those from the first that was not shown on.
    pub(crate) fn search(&mut self, tuning: &TuneView, trials: &[TrialView]) {
        for trial in trials {
            if trial.ended.is_some() && self.trials.insert(trial.number) {
                let line = printable(&trial_line(trial, &tuning.metric));
                self.bar.suspend(|| self.output.say(&line));
            }
        }
        while self.trials.remove(&self.next_trial) {
            self.next_trial += 1;
        }
        self.bar.set_message(printable(&search_line(tuning)));
    }

    /// The number of the first trial that may have something new.
    pub(crate) fn next_trial(&self) -> u64 {
        self.next_trial
    }

    fn console_line(&self, text: &str) {
        self.bar
            .suspend(|| self.output.say(&format!("| {}", printable(text))));
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a percentage from 0 to 100"
    )]
    fn show(&mut self, task: &TaskView, metrics: &Metrics) {
        self.bar.set_position(task.progress as u64);
        if task.action != TUNE {
            self.bar.set_message(summary(metrics.scalars.iter()));
        }
        if self.output.is_watched() {
            return;
        }
        if task.status != self.state {
            self.state = task.status;
            self.output
                .say(&format!("{} {:>3.0}%", task.status, task.progress));
        }
        let mut news = Vec::new();
        for curve in &metrics.scalars {
            let key = (curve.title.clone(), curve.series.clone());
            if self.iterations.insert(key, curve.last_iteration) != Some(curve.last_iteration) {
                news.push(curve);
            }
        }
        if let Some(iteration) = news.iter().map(|curve| curve.last_iteration).max() {
            self.output
                .say(&format!("{iteration:>6}  {}", summary(news.into_iter())));
        }
    }

    fn end(&self, task: &TaskView, metrics: &Metrics) {
        self.bar.finish_and_clear();
        for curve in &metrics.scalars {
            self.output.say(&format!(
                "{:<28} last {:>10}   min {:>10} at {:<6} max {:>10} at {}",
                printable(&format!("{}/{}", curve.title, curve.series)),
                number(curve.last.0),
                number(curve.min.0),
                curve.min_iteration,
                number(curve.max.0),
                curve.max_iteration
            ));
        }
        for single in &metrics.singles {
            self.output.say(&format!(
                "{:<28} {:>15}",
                printable(&single.name),
                number(single.value.0)
            ));
        }
        let why = if task.status_reason.is_empty() {
            String::new()
        } else {
            format!(": {}", printable(&task.status_reason))
        };
        let started = task.started.unwrap_or(task.created);
        let ended = task.completed.unwrap_or(task.last_update);
        let milliseconds = u64::try_from(ended.as_millis() - started.as_millis()).unwrap_or(0);
        let took = Duration::from_millis(milliseconds);
        self.output
            .say(&format!("{} after {took:.2?}{why}", task.status));
    }
}

/// The last values of some curves in one line.
fn summary<'a>(curves: impl Iterator<Item = &'a SeriesSummary>) -> String {
    let parts: Vec<String> = curves
        .map(|curve| format!("{}/{} {}", curve.title, curve.series, number(curve.last.0)))
        .collect();
    printable(&parts.join("  "))
}
