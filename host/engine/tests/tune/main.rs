//! What the engine promises of tune actions: whatever happens to trials drives the experiment.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod base;
mod broken;
mod elsewhere;
#[expect(dead_code, reason = "it is shared, and not all is needed here")]
#[path = "../lab/mod.rs"]
mod lab;
mod refusals;
mod reports;
mod trials;

use std::time::Duration;

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use trainshed_core::report::TrialDecision::{self, Continue, Pause, Stop};
use trainshed_core::report::TrialReport;
use trainshed_core::task::{Outcome, TaskState};
use trainshed_core::view::{
    AgentInfo, LeaseView, NewExperiment, TaskQuery, TaskView, ToldTrial, TrialReported,
};

use lab::{Lab, batch, completed, failed, model, point};

/// The `params` of a tune action on data set 1: a line of `samples` learning rates.
fn tune(name: &str, config: Value) -> Value {
    let mut tune_config = json!({"mode": "max", "metric": "accuracy", "num_samples": 3});
    let given = config.as_object().unwrap().clone();
    tune_config.as_object_mut().unwrap().extend(given);
    json!({
        "name": name, "dataset": 1, "is_tune": true,
        "hyperparameters": [{"name": "lr", "type": "uniform", "min": 0, "max": 1}],
        "tune_config": tune_config,
    })
}

impl Lab {
    async fn task(&self, task: &TaskView) -> TaskView {
        let found = self.engine.task(&self.workspace, &task.id).await.unwrap();
        found.unwrap()
    }

    /// The trials of an experiment, the first first: name and state.
    async fn trials(&self, parent: &TaskView) -> Vec<String> {
        let query = TaskQuery {
            limit: 500,
            trials: true,
            ..TaskQuery::default()
        };
        let page = self.engine.tasks(&self.workspace, query).await.unwrap();
        let mut trials: Vec<String> = page
            .items
            .into_iter()
            .filter(|task| task.parent.as_ref() == Some(&parent.id))
            .map(|task| {
                let (_, number) = task.name.rsplit_once('_').unwrap();
                let mut line = format!("{number} {}", task.status);
                if !task.status_reason.is_empty() {
                    line += &format!(": {}", task.status_reason);
                }
                line
            })
            .collect();
        trials.sort();
        trials
    }

    async fn check_trials(&self, parent: &TaskView, expected: Expect) {
        expected.assert_eq(&self.trials(parent).await.join("\n"));
    }

    /// Runs all that waits, each trial with the accuracy that `judge` gives its learning rate.
    async fn run_all(&self, judge: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut rates = Vec::new();
        while let Some(lease) = self.lease().await {
            let rate = lease.settings["lr"].as_f64().unwrap();
            rates.push(rate);
            self.end(&lease, judge(rate)).await;
        }
        rates
    }

    /// Reports as a trial does.
    async fn send(&self, lease: &LeaseView, report: TrialReport) -> Result<TrialDecision, String> {
        let (engine, workspace) = (&self.engine, &self.workspace);
        let answer = engine.report_trial(workspace, &lease.task, lease.fence, report);
        match answer.await {
            Ok(answer) => Ok(answer.decision),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn tell(
        &self,
        lease: &LeaseView,
        iteration: u64,
        metrics: Value,
    ) -> Result<TrialDecision, String> {
        let report = TrialReport {
            iteration,
            metrics: lab::object(metrics),
            checkpoint: None,
            checkpoint_sha256: None,
            elapsed_ms: iteration.saturating_mul(1000),
        };
        self.send(lease, report).await
    }

    async fn tell_saved(
        &self,
        lease: &LeaseView,
        iteration: u64,
        checkpoint: &str,
    ) -> Result<TrialDecision, String> {
        let report = TrialReport {
            iteration,
            metrics: lab::object(json!({"accuracy": 0.5})),
            checkpoint: Some(checkpoint.to_owned()),
            checkpoint_sha256: None,
            elapsed_ms: iteration.saturating_mul(1000),
        };
        self.send(lease, report).await
    }

    async fn end(&self, lease: &LeaseView, accuracy: f64) {
        let result = completed(json!({"accuracy": accuracy}));
        self.finish(lease, result).await.unwrap();
    }
}
