//! Calls of agents.

use std::time::Duration;

use reqwest::{Method, StatusCode, header};
use trainshed_core::report::{Batch, TrialAnswer, TrialReport};
use trainshed_core::resource::Reading;
use trainshed_core::view::{
    AgentDetails, AgentInfo, AgentView, ArtifactRequest, ArtifactView, DatasetView, LeaseState,
    LeaseView,
};
use trainshed_core::{AgentId, TaskId};

use super::{Client, Result};
use crate::{
    CommitVersion, Connect, ConnectText, Connected, ConnectedText, Finish, REPORTS_TYPE, Wait,
    encode_reports,
};

#[expect(
    clippy::missing_errors_doc,
    reason = "every call fails as `ClientError` says, and as the server's page of the API says"
)]
impl Client {
    /// Registers an agent.
    pub async fn register_agent(&self, agent: &AgentInfo) -> Result<AgentView> {
        self.send(Method::POST, "/agents", agent).await
    }

    /// Says what the machine of an agent did.
    pub async fn record_reading(&self, agent: &AgentId, reading: &Reading) -> Result<()> {
        let path = format!("/agents/{agent}/resources");
        let request = self.request(Method::POST, &path).json(reading);
        self.checked(request).await.map(|_| ())
    }

    /// The agents of the last day.
    pub async fn agents(&self) -> Result<Vec<AgentDetails>> {
        self.get("/agents").await
    }

    /// Leases the oldest queued task; waits a while for one.
    pub async fn lease(&self, agent: &AgentId, wait: Duration) -> Result<Option<LeaseView>> {
        let path = format!("/agents/{agent}/lease");
        let response = self
            .checked(self.request(Method::POST, &path).json(&waiting(wait)))
            .await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        self.understood(response).await.map(Some)
    }

    /// Keeps a lease; waits a while for the task to be stopped.
    pub async fn renew(&self, task: &TaskId, fence: i64, wait: Duration) -> Result<LeaseState> {
        self.send(
            Method::POST,
            &format!("/leases/{task}/{fence}/renew"),
            &waiting(wait),
        )
        .await
    }

    /// Reports what a task told: points as encoded frames, everything else in `batch`.
    pub async fn report(
        &self,
        task: &TaskId,
        fence: i64,
        batch: &Batch,
        frames: &[Vec<u8>],
    ) -> Result<LeaseState> {
        let path = format!("/leases/{task}/{fence}/report");
        let request = self.request(Method::POST, &path);
        let request = request.header(header::CONTENT_TYPE, REPORTS_TYPE);
        self.json(request.body(encode_reports(batch, frames))).await
    }

    /// Connects values of the plugin of a leased task with its parameters.
    pub async fn connect(&self, task: &TaskId, fence: i64, values: &Connect) -> Result<Connected> {
        let path = format!("/leases/{task}/{fence}/parameters");
        self.send(Method::POST, &path, values).await
    }

    /// Connects a text of the plugin of a leased task with a configuration object.
    pub async fn connect_text(
        &self,
        task: &TaskId,
        fence: i64,
        text: &ConnectText,
    ) -> Result<ConnectedText> {
        let path = format!("/leases/{task}/{fence}/configuration");
        self.send(Method::POST, &path, text).await
    }

    /// Records an artifact of a leased task, whose file has been uploaded.
    pub async fn put_leased_artifact(
        &self,
        task: &TaskId,
        fence: i64,
        artifact: &ArtifactRequest,
    ) -> Result<ArtifactView> {
        let path = format!("/leases/{task}/{fence}/artifacts");
        self.send(Method::POST, &path, artifact).await
    }

    /// Reports how a trial does; answers what it is to do. Status 425 says that the model which
    /// the report names has to be reported first.
    pub async fn report_trial(
        &self,
        task: &TaskId,
        fence: i64,
        report: &TrialReport,
    ) -> Result<TrialAnswer> {
        self.send(
            Method::POST,
            &format!("/leases/{task}/{fence}/trial-report"),
            report,
        )
        .await
    }

    /// What a paused trial is to do; waits a while until it may go on or is to stop.
    pub async fn await_decision(
        &self,
        task: &TaskId,
        fence: i64,
        wait: Duration,
    ) -> Result<TrialAnswer> {
        self.send(
            Method::POST,
            &format!("/leases/{task}/{fence}/trial-wait"),
            &waiting(wait),
        )
        .await
    }

    /// Makes the data set version of a preprocess task.
    pub async fn commit_version(
        &self,
        task: &TaskId,
        fence: i64,
        version: &CommitVersion,
    ) -> Result<DatasetView> {
        self.send(
            Method::POST,
            &format!("/leases/{task}/{fence}/dataset-version"),
            version,
        )
        .await
    }

    /// Ends a task, with what it reported last.
    pub async fn finish(&self, task: &TaskId, fence: i64, finish: &Finish) -> Result<()> {
        let path = format!("/leases/{task}/{fence}/finish");
        let request = self.request(Method::POST, &path).json(finish);
        self.checked(request).await.map(|_| ())
    }
}

fn waiting(wait: Duration) -> Wait {
    Wait {
        wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
    }
}
