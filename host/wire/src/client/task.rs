//! Calls about tasks and their search.

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use reqwest::{Method, header};
use serde_json::Value;
use trainshed_core::draft::{CloneRequest, NewDraft, TaskEdit};
use trainshed_core::task::Verb;
use trainshed_core::view::{
    BestTrial, Page, Results, ResumeTune, TaskQuery, TaskView, TrialView, TuneView,
};

use super::{Client, ClientError, Result, part};
use crate::{Alive, ManyTasks, MoveRequest, MoveTo, MovedMany, NewProgress, Submitted};

#[expect(
    clippy::missing_errors_doc,
    reason = "every call fails as `ClientError` says, and as the server's page of the API says"
)]
impl Client {
    /// Submits an action; the server says what is wrong with it.
    pub async fn submit(&self, action: &Value) -> Result<Submitted> {
        self.send(Method::POST, "/actions", action).await
    }

    /// One page of tasks, newest first.
    pub async fn tasks(&self, query: &TaskQuery) -> Result<Page<TaskView>> {
        self.task_page(None, query).await
    }

    /// One page of the tasks that fit the text of a query and `query`, in the text's order.
    pub async fn tasks_by(&self, text: &str, query: &TaskQuery) -> Result<Page<TaskView>> {
        self.task_page(Some(text.to_owned()), query).await
    }

    /// One page of what fits a query about `of`: `/tasks`, `/models`, `/datasets` or
    /// `/projects`.
    pub async fn query(&self, of: &str, request: &Value) -> Result<Results> {
        self.send(Method::POST, &format!("{of}/query"), request)
            .await
    }

    /// The bytes of a file of what fits a query about `of`; the parameters are those of
    /// `GET /tasks/export`.
    pub async fn export(
        &self,
        of: &str,
        parameters: &[(&str, String)],
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
        let request = self.request(Method::GET, &format!("{of}/export"));
        let response = self.checked(request.query(parameters)).await?;
        let url = self.url.clone();
        Ok(response
            .bytes_stream()
            .map_err(move |source| ClientError::Unreachable {
                url: url.clone(),
                source,
            }))
    }

    /// One task.
    pub async fn task(&self, id: &str) -> Result<TaskView> {
        self.get(&format!("/tasks/{}", part(id))).await
    }

    /// Asks a task to stop.
    pub async fn stop(&self, id: &str, reason: Option<String>) -> Result<TaskView> {
        let request = MoveRequest {
            reason,
            ..MoveRequest::default()
        };
        self.move_task(id, Verb::Stop, &request).await
    }

    /// Makes a draft.
    pub async fn create_task(&self, draft: &NewDraft) -> Result<TaskView> {
        self.send(Method::POST, "/tasks", draft).await
    }

    /// Edits a task; with `expected`, only if that is still its tag.
    pub async fn edit_task(
        &self,
        id: &str,
        edit: &TaskEdit,
        expected: Option<&str>,
    ) -> Result<TaskView> {
        let mut request = self.request(Method::PATCH, &format!("/tasks/{}", part(id)));
        if let Some(expected) = expected {
            request = request.header(header::IF_MATCH, expected);
        }
        self.json(request.json(edit)).await
    }

    /// The task called `name` in a project that was last changed.
    pub async fn task_named(&self, project: &str, name: &str) -> Result<TaskView> {
        let request = self.request(Method::GET, "/tasks/by-name");
        self.json(request.query(&[("project", project), ("name", name)]))
            .await
    }

    /// Moves a task to another state.
    pub async fn move_task(&self, id: &str, verb: Verb, request: &MoveRequest) -> Result<TaskView> {
        let path = format!("/tasks/{}/{}", part(id), verb.as_str());
        self.send(Method::POST, &path, request).await
    }

    /// Does the same with many tasks; `deed` is a verb, `archive`, `unarchive` or `delete`.
    pub async fn move_many(&self, deed: &str, tasks: &ManyTasks) -> Result<MovedMany> {
        self.send(Method::POST, &format!("/tasks/{}", part(deed)), tasks)
            .await
    }

    /// Makes an editable copy of a task.
    pub async fn clone_task(&self, id: &str, request: &CloneRequest) -> Result<TaskView> {
        self.send(Method::POST, &format!("/tasks/{}/clone", part(id)), request)
            .await
    }

    /// Moves a task to a project.
    pub async fn move_to_project(&self, id: &str, project: &str) -> Result<TaskView> {
        let target = MoveTo {
            project: project.to_owned(),
        };
        self.send(Method::POST, &format!("/tasks/{}/move", part(id)), &target)
            .await
    }

    /// Says that a task which no agent runs is still at work.
    pub async fn ping(&self, id: &str) -> Result<Alive> {
        let path = format!("/tasks/{}/ping", part(id));
        self.json(self.request(Method::POST, &path)).await
    }

    /// Says how far a task has come, in percent.
    pub async fn set_progress(&self, id: &str, progress: f64) -> Result<TaskView> {
        let path = format!("/tasks/{}/progress", part(id));
        self.send(Method::PUT, &path, &NewProgress { progress })
            .await
    }

    /// Deletes a task.
    pub async fn delete_task(&self, id: &str, force: bool) -> Result<()> {
        let request = self.request(Method::DELETE, &format!("/tasks/{}", part(id)));
        self.checked(request.query(&[("force", force)])).await?;
        Ok(())
    }

    /// Says each time that a task changed, until it has ended or the connection breaks.
    pub async fn task_events(&self, id: &str) -> Result<impl Stream<Item = ()> + Send + use<>> {
        let response = self
            .checked(self.request(Method::GET, &format!("/tasks/{}/events", part(id))))
            .await?;
        // Each event is a few bytes and says only that something changed, so that it does
        // not matter how the stream is cut into pieces.
        let pieces = response
            .bytes_stream()
            .take_while(|piece| std::future::ready(piece.is_ok()));
        Ok(pieces.map(|_| ()))
    }

    /// Makes an experiment: a search over a task, or one whose trials run elsewhere.
    pub async fn create_experiment(&self, new: &Value) -> Result<TaskView> {
        self.send(Method::POST, "/experiments", new).await
    }

    /// How a tune action stands.
    pub async fn tuning(&self, id: &str) -> Result<TuneView> {
        self.get(&format!("/tasks/{}/tune", part(id))).await
    }

    /// A page of the trials of a tune action, by number, from number `from` on.
    pub async fn trials(&self, id: &str, from: u64) -> Result<Page<TrialView>> {
        let path = format!("/tasks/{}/trials?limit=1000&after={from}", part(id));
        self.get(&path).await
    }

    /// Says which trial of a tune action is the best.
    pub async fn choose_best(&self, id: &str, choice: &BestTrial) -> Result<TuneView> {
        let path = format!("/tasks/{}/best-trial", part(id));
        self.send(Method::PUT, &path, choice).await
    }

    /// Lets a tune action that has ended go on.
    pub async fn resume_tune(&self, id: &str, how: &ResumeTune) -> Result<TaskView> {
        let path = format!("/tasks/{}/tune/resume", part(id));
        self.send(Method::POST, &path, how).await
    }
}
