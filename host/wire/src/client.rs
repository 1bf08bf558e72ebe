//! The typed client of the API.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use trainshed_core::artifact::ArtifactType;
use trainshed_core::dataset::Difference;
use trainshed_core::draft::{CloneRequest, NewDraft, Script, TaskEdit};
use trainshed_core::model::{ModelEdit, Registration};
use trainshed_core::parameter::Parameter;
use trainshed_core::report::{Batch, NewReports, TrialAnswer, TrialReport};
use trainshed_core::resource::Reading;
use trainshed_core::task::{Outcome, Verb};
use trainshed_core::view::{
    AgentDetails, AgentInfo, AgentView, ArtifactRequest, ArtifactView, ConfigurationView,
    ConsolePage, DatasetEdit, DatasetView, GarbageView, ImportedFile, LeaseState, LeaseView,
    LineageView, ListedObject, MetadataItem, ModelUses, ModelView, NewDataset, NewProject, Page,
    PlotView, PluginView, ProjectEdit, ProjectQuery, ProjectView, Results, TaskQuery, TaskView,
    TrialView, TuneView,
};
use trainshed_core::{AgentId, Digest, TaskId};

use crate::{
    Alive, CommitVersion, Connect, ConnectText, Connected, ConnectedText, ConsoleFilter, Curve,
    DeletedProject, FileQuery, Frame, GarbageRequest, ImportRequest, InputModel, ManyTasks,
    MergeInto, Metrics, MissingFiles, Models, ModelsOfTask, MoveRequest, MoveTo, MovedMany,
    NewProgress, POINTS_TYPE, Problem, PublishModel, REPORTS_TYPE, Recorded, ReportedAll,
    SampledCurve, Samples, ShownFilter, Submitted, Wait, encode_reports,
};

/// Calls one server with one key. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    key: String,
}

/// Why a call did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server refused; its answer says why.
    #[error(transparent)]
    Refused(Box<Problem>),
    /// The server did not answer, or the connection broke.
    #[error("the server at {url} did not answer")]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What happened.
        #[source]
        source: reqwest::Error,
    },
    /// Something answered that does not speak this API.
    #[error("{url} answered with status {status}, but not as a trainshed server does")]
    NotUnderstood {
        /// What was called.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// A file of ours could not be read or written.
    #[error("`{path}` could not be read or written")]
    File {
        /// Which file.
        path: String,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
    /// What was downloaded is not what its digest says.
    #[error("the file {0} arrived damaged")]
    Damaged(Digest),
}

impl ClientError {
    /// The HTTP status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(problem) => Some(problem.status),
            _ => None,
        }
    }

    /// Whether the same call may succeed later: the server was away, busy, ailing or full.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(problem) => matches!(problem.status, 429 | 502 | 503 | 504 | 507),
            Self::NotUnderstood { status, .. } => matches!(status, 502..=504),
            Self::File { .. } | Self::Damaged(_) => false,
        }
    }

    /// Whether the state of a task forbids what was asked for.
    pub fn is_about_status(&self) -> bool {
        matches!(self, Self::Refused(problem) if problem.kind == "invalid-task-status")
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(problem) => problem.hint.clone(),
            Self::Unreachable { .. } => {
                Some("Is the server running? `trainshed serve` starts one.".to_owned())
            }
            _ => None,
        }
    }
}

type Result<T> = std::result::Result<T, ClientError>;

/// Longest time between two pieces of an answer; long polls stay well below it.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest time that the server may take to read one object from beginning to end.
const IMPORT_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

#[expect(
    clippy::missing_errors_doc,
    reason = "every call fails as `ClientError` says, and as the server's page of the API says"
)]
impl Client {
    /// A client of the server at `url`, e.g. `http://127.0.0.1:8080`.
    pub fn new(url: &str, key: &str) -> Self {
        // The library of cryptography is chosen once for the process; another choice stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(READ_TIMEOUT)
            .tcp_nodelay(true)
            .build()
            .expect("with its cryptography chosen, a client has nothing that can fail");
        Self {
            http,
            url: url.trim_end_matches('/').to_owned(),
            key: key.to_owned(),
        }
    }

    /// The server's address.
    pub fn url(&self) -> &str {
        &self.url
    }

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

    async fn task_page(&self, text: Option<String>, query: &TaskQuery) -> Result<Page<TaskView>> {
        let states: Vec<&str> = query.state.iter().map(|state| state.as_str()).collect();
        let mut parameters = vec![
            ("limit", query.limit.to_string()),
            ("status", states.join(",")),
        ];
        let optional = [
            ("project", &query.project),
            ("name", &query.name),
            ("after", &query.after),
            ("q", &text),
        ];
        parameters.extend(
            optional
                .into_iter()
                .filter_map(|(name, value)| Some((name, value.clone()?))),
        );
        if query.trials {
            parameters.push(("trials", "true".to_owned()));
        }
        parameters.retain(|(_, value)| !value.is_empty());
        self.json(self.request(Method::GET, "/tasks").query(&parameters))
            .await
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

    /// The parameters of a task, with their types.
    pub async fn parameters(&self, id: &str) -> Result<Vec<Parameter>> {
        let request = self.request(Method::GET, &format!("/tasks/{}/params", part(id)));
        self.json(request.query(&[("form", "list")])).await
    }

    /// Writes parameters of a task, in place of all former ones or beside them.
    pub async fn set_parameters(
        &self,
        id: &str,
        parameters: &[Parameter],
        replace: bool,
        force: bool,
    ) -> Result<TaskView> {
        let method = if replace { Method::PUT } else { Method::PATCH };
        let request = self.request(method, &format!("/tasks/{}/params", part(id)));
        let query = [
            ("form", "list"),
            ("force", if force { "true" } else { "false" }),
        ];
        self.json(request.query(&query).json(parameters)).await
    }

    /// Removes a parameter of a task.
    pub async fn delete_parameter(
        &self,
        id: &str,
        section: &str,
        name: &str,
        force: bool,
    ) -> Result<()> {
        let path = format!(
            "/tasks/{}/params/{}/{}",
            part(id),
            part(section),
            part(name)
        );
        let request = self.request(Method::DELETE, &path);
        self.checked(request.query(&[("force", force)])).await?;
        Ok(())
    }

    /// The user properties of a task.
    pub async fn properties(&self, id: &str) -> Result<Vec<Parameter>> {
        self.get(&format!("/tasks/{}/properties", part(id))).await
    }

    /// Writes user properties of a task, by name.
    pub async fn set_properties(&self, id: &str, properties: &Value) -> Result<Vec<Parameter>> {
        let path = format!("/tasks/{}/properties", part(id));
        self.send(Method::PATCH, &path, properties).await
    }

    /// Removes a user property of a task.
    pub async fn delete_property(&self, id: &str, name: &str) -> Result<()> {
        let path = format!("/tasks/{}/properties/{}", part(id), part(name));
        self.checked(self.request(Method::DELETE, &path)).await?;
        Ok(())
    }

    /// The configuration objects of a task, without their contents.
    pub async fn configurations(&self, id: &str) -> Result<Vec<ConfigurationView>> {
        self.get(&format!("/tasks/{}/configuration", part(id)))
            .await
    }

    /// The content of a configuration object.
    pub async fn configuration(&self, id: &str, name: &str) -> Result<Bytes> {
        let path = format!("/tasks/{}/configuration/{}", part(id), part(name));
        let response = self.checked(self.request(Method::GET, &path)).await?;
        response
            .bytes()
            .await
            .map_err(|source| self.unreachable(source))
    }

    /// Writes a configuration object of a task.
    pub async fn put_configuration(
        &self,
        id: &str,
        name: &str,
        kind: &str,
        content: Vec<u8>,
        force: bool,
    ) -> Result<()> {
        let path = format!("/tasks/{}/configuration/{}", part(id), part(name));
        let request = self.request(Method::PUT, &path);
        let query = [
            ("type", kind),
            ("force", if force { "true" } else { "false" }),
        ];
        self.checked(request.query(&query).body(content)).await?;
        Ok(())
    }

    /// Removes a configuration object of a task.
    pub async fn delete_configuration(&self, id: &str, name: &str, force: bool) -> Result<()> {
        let path = format!("/tasks/{}/configuration/{}", part(id), part(name));
        let request = self.request(Method::DELETE, &path);
        self.checked(request.query(&[("force", force)])).await?;
        Ok(())
    }

    /// One page of projects, by path.
    pub async fn projects(&self, query: &ProjectQuery) -> Result<Page<ProjectView>> {
        self.json(self.request(Method::GET, "/projects").query(query))
            .await
    }

    /// A project, by its id or path.
    pub async fn project(&self, reference: &str) -> Result<ProjectView> {
        self.get(&format!("/projects/{}", part(reference))).await
    }

    /// Makes a project.
    pub async fn create_project(&self, project: &NewProject) -> Result<ProjectView> {
        self.send(Method::POST, "/projects", project).await
    }

    /// Changes, renames or moves a project.
    pub async fn edit_project(&self, reference: &str, edit: &ProjectEdit) -> Result<ProjectView> {
        let path = format!("/projects/{}", part(reference));
        self.send(Method::PATCH, &path, edit).await
    }

    /// Puts all that is in a project into another.
    pub async fn merge_projects(&self, reference: &str, into: &str) -> Result<ProjectView> {
        let path = format!("/projects/{}/merge", part(reference));
        let into = into.to_owned();
        self.send(Method::POST, &path, &MergeInto { into }).await
    }

    /// Deletes a project; its tasks move to another, or are deleted by `force`.
    pub async fn delete_project(
        &self,
        reference: &str,
        move_to: Option<&str>,
        force: bool,
    ) -> Result<DeletedProject> {
        let request = self.request(Method::DELETE, &format!("/projects/{}", part(reference)));
        let mut request = request.query(&[("force", force)]);
        if let Some(target) = move_to {
            request = request.query(&[("move_to", target)]);
        }
        self.json(request).await
    }

    /// Curves and single values of a task.
    pub async fn metrics(&self, id: &str) -> Result<Metrics> {
        self.get(&format!("/tasks/{}/scalars", part(id))).await
    }

    /// The points of one curve, from the iteration `from` on; the answer says where to go on.
    pub async fn curve(&self, id: &str, title: &str, series: &str, from: u64) -> Result<Curve> {
        let path = format!("/tasks/{}/scalars/points", part(id));
        let request = self.request(Method::GET, &path);
        let from = from.to_string();
        self.json(request.query(&[("title", title), ("series", series), ("from", &from)]))
            .await
    }

    /// At most `most` samples of one curve; `x` is `iter`, `timestamp` or `iso_time`.
    pub async fn sampled_curve(
        &self,
        id: &str,
        (title, series): (&str, &str),
        most: u32,
        x: &str,
    ) -> Result<SampledCurve> {
        let path = format!("/tasks/{}/scalars/points", part(id));
        let most = most.to_string();
        let query = [
            ("title", title),
            ("series", series),
            ("max_samples", &most),
            ("x", x),
        ];
        self.json(self.request(Method::GET, &path).query(&query))
            .await
    }

    /// Records points of a task; under a key, sending them again is harmless.
    pub async fn append_points(
        &self,
        id: &str,
        key: Option<&str>,
        points: &Frame<'_>,
    ) -> Result<Recorded> {
        let mut request = self
            .request(Method::POST, &format!("/tasks/{}/metrics", part(id)))
            .header(header::CONTENT_TYPE, POINTS_TYPE);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.json(request.body(points.encode())).await
    }

    /// At most `limit` console lines from line `after` on.
    pub async fn console(&self, id: &str, after: u64, limit: u64) -> Result<ConsolePage> {
        let path = format!("/tasks/{}/console", part(id));
        self.json(
            self.request(Method::GET, &path)
                .query(&[("after", after), ("limit", limit)]),
        )
        .await
    }

    /// Lines of the console of a task from either end, all or those that are looked for.
    pub async fn console_by(&self, id: &str, filter: &ConsoleFilter) -> Result<ConsolePage> {
        let path = format!("/tasks/{}/console", part(id));
        self.json(self.request(Method::GET, &path).query(filter))
            .await
    }

    /// The first samples of a task.
    pub async fn samples(&self, id: &str) -> Result<Samples> {
        self.samples_by(id, &ShownFilter::default()).await
    }

    /// A page of the samples of a task.
    pub async fn samples_by(&self, id: &str, filter: &ShownFilter) -> Result<Samples> {
        let path = format!("/tasks/{}/samples", part(id));
        self.json(self.request(Method::GET, &path).query(filter))
            .await
    }

    /// A page of the plots of a task, with their figures where they are asked for.
    pub async fn plots_by(
        &self,
        id: &str,
        filter: &ShownFilter,
        figures: bool,
    ) -> Result<Page<PlotView>> {
        let request = self.request(Method::GET, &format!("/tasks/{}/plots", part(id)));
        self.json(request.query(filter).query(&[("figures", figures)]))
            .await
    }

    /// Records lines, plots, samples and single values of a task that the caller runs; under a
    /// key, sending them again is harmless.
    pub async fn append_reports(&self, id: &str, reports: &NewReports) -> Result<ReportedAll> {
        let path = format!("/tasks/{}/reports", part(id));
        self.send(Method::POST, &path, reports).await
    }

    /// The models of a task.
    pub async fn task_models(&self, id: &str) -> Result<ModelsOfTask> {
        self.get(&format!("/tasks/{}/models", part(id))).await
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

    /// How a tune action stands.
    pub async fn tuning(&self, id: &str) -> Result<TuneView> {
        self.get(&format!("/tasks/{}/tune", part(id))).await
    }

    /// A page of the trials of a tune action, by number, from number `from` on.
    pub async fn trials(&self, id: &str, from: u64) -> Result<Page<TrialView>> {
        let path = format!("/tasks/{}/trials?limit=1000&after={from}", part(id));
        self.get(&path).await
    }

    /// All plugins.
    pub async fn plugins(&self) -> Result<Vec<PluginView>> {
        self.get("/plugins").await
    }

    /// The plugin that `reference` (`name`, `name@version`, `sha256:…`) names.
    pub async fn plugin(&self, reference: &str) -> Result<PluginView> {
        self.get(&format!("/plugins/{}", part(reference))).await
    }

    /// Installs the component in a file.
    pub async fn push_plugin(&self, component: &Path) -> Result<PluginView> {
        let body = file_body(component).await?;
        self.json(
            self.request(Method::POST, "/plugins")
                .header(header::CONTENT_TYPE, "application/wasm")
                .body(body),
        )
        .await
    }

    /// Records where a component came from.
    pub async fn set_plugin_source(&self, reference: &str, source: &Script) -> Result<PluginView> {
        let path = format!("/plugins/{}/source", part(reference));
        self.send(Method::PUT, &path, source).await
    }

    /// All data set versions, newest first; archived ones where asked for.
    pub async fn datasets(&self, archived: bool) -> Result<Vec<DatasetView>> {
        self.json(
            self.request(Method::GET, "/datasets")
                .query(&[("archived", archived)]),
        )
        .await
    }

    /// One data set version with its files.
    pub async fn dataset(&self, id: u64) -> Result<DatasetView> {
        self.get(&format!("/datasets/{id}")).await
    }

    /// Makes a data set version of files that were uploaded.
    pub async fn create_dataset(&self, new: &NewDataset) -> Result<DatasetView> {
        self.send(Method::POST, "/datasets", new).await
    }

    /// How a version differs from another, or from its parent.
    pub async fn dataset_difference(&self, id: u64, with: Option<u64>) -> Result<Difference> {
        self.json(
            self.request(Method::GET, &format!("/datasets/{id}/diff"))
                .query(&[("with", with)]),
        )
        .await
    }

    /// Changes what is said of a version.
    pub async fn edit_dataset(&self, id: u64, edit: &DatasetEdit) -> Result<DatasetView> {
        self.send(Method::PATCH, &format!("/datasets/{id}"), edit)
            .await
    }

    /// Makes a version read-only for good.
    pub async fn publish_dataset(&self, id: u64) -> Result<DatasetView> {
        let path = format!("/datasets/{id}/publish");
        self.json(self.request(Method::POST, &path)).await
    }

    /// Hides a version from lists, or shows it again.
    pub async fn archive_dataset(&self, id: u64, archived: bool) -> Result<DatasetView> {
        let verb = if archived { "archive" } else { "unarchive" };
        let path = format!("/datasets/{id}/{verb}");
        self.json(self.request(Method::POST, &path)).await
    }

    /// Deletes a version, with `force` although something needs it.
    pub async fn delete_dataset(&self, id: u64, force: bool) -> Result<()> {
        let path = format!("/datasets/{id}");
        self.checked(
            self.request(Method::DELETE, &path)
                .query(&[("force", force)]),
        )
        .await?;
        Ok(())
    }

    /// All models, newest first.
    pub async fn models(&self) -> Result<Models> {
        self.get("/models").await
    }

    /// One model.
    pub async fn model(&self, id: u64) -> Result<ModelView> {
        self.get(&format!("/models/{id}")).await
    }

    /// Which of `files` the server does not have.
    pub async fn missing_files(&self, files: &[Digest]) -> Result<Vec<Digest>> {
        let answer: MissingFiles = self
            .send(
                Method::POST,
                "/files/missing",
                &FileQuery {
                    sha256: files.to_vec(),
                },
            )
            .await?;
        Ok(answer.missing)
    }

    /// Uploads a file of known content. Uploading it again is harmless.
    pub async fn put_file(&self, digest: &Digest, path: &Path) -> Result<()> {
        let body = file_body(path).await?;
        self.checked(
            self.request(Method::PUT, &format!("/files/{digest}"))
                .body(body),
        )
        .await?;
        Ok(())
    }

    /// Uploads a file of known content that a task made; it goes where the task's files go.
    pub async fn put_output(&self, task: &TaskId, digest: &Digest, path: &Path) -> Result<()> {
        let body = file_body(path).await?;
        self.checked(
            self.request(Method::PUT, &format!("/files/{digest}"))
                .query(&[("task", task.as_str())])
                .body(body),
        )
        .await?;
        Ok(())
    }

    /// The artifacts of a task; with `history`, former versions too.
    pub async fn artifacts(&self, task: &str, history: bool) -> Result<Vec<ArtifactView>> {
        let path = format!("/tasks/{}/artifacts", part(task));
        self.json(
            self.request(Method::GET, &path)
                .query(&[("history", history)]),
        )
        .await
    }

    /// Keeps a file as an artifact of a task.
    pub async fn put_artifact(
        &self,
        task: &str,
        name: &str,
        kind: Option<ArtifactType>,
        path: &Path,
    ) -> Result<ArtifactView> {
        let address = format!("/tasks/{}/artifacts/{}", part(task), part(name));
        let kind = kind.map(ArtifactType::as_str);
        self.json(
            self.request(Method::PUT, &address)
                .query(&[("type", kind)])
                .body(file_body(path).await?),
        )
        .await
    }

    /// Records an artifact whose content is there already, or elsewhere.
    pub async fn register_artifact(
        &self,
        task: &str,
        artifact: &ArtifactRequest,
    ) -> Result<ArtifactView> {
        let path = format!("/tasks/{}/artifacts", part(task));
        self.send(Method::POST, &path, artifact).await
    }

    /// Forgets an artifact with its history.
    pub async fn delete_artifact(&self, task: &str, name: &str) -> Result<()> {
        let path = format!("/tasks/{}/artifacts/{}", part(task), part(name));
        self.checked(self.request(Method::DELETE, &path)).await?;
        Ok(())
    }

    /// Registers a model.
    pub async fn register_model(&self, model: &Registration) -> Result<ModelView> {
        self.send(Method::POST, "/models", model).await
    }

    /// Changes what is said of a model.
    pub async fn edit_model(&self, id: u64, edit: &ModelEdit) -> Result<ModelView> {
        self.send(Method::PATCH, &format!("/models/{id}"), edit)
            .await
    }

    /// Publishes a model, and with `with_task` the task that made it.
    pub async fn publish_model(&self, id: u64, with_task: bool) -> Result<ModelView> {
        let path = format!("/models/{id}/publish");
        self.send(Method::POST, &path, &PublishModel { with_task })
            .await
    }

    /// Hides a model from lists, or shows it again.
    pub async fn archive_model(&self, id: u64, archived: bool) -> Result<ModelView> {
        let verb = if archived { "archive" } else { "unarchive" };
        let path = format!("/models/{id}/{verb}");
        self.json(self.request(Method::POST, &path)).await
    }

    /// Deletes a model, with `force` although somebody needs it.
    pub async fn delete_model(&self, id: u64, force: bool) -> Result<()> {
        let path = format!("/models/{id}");
        self.checked(
            self.request(Method::DELETE, &path)
                .query(&[("force", force)]),
        )
        .await?;
        Ok(())
    }

    /// Adds to what is kept with a model.
    pub async fn add_metadata(&self, id: u64, items: &[MetadataItem]) -> Result<Vec<MetadataItem>> {
        self.send(Method::PATCH, &format!("/models/{id}/metadata"), &items)
            .await
    }

    /// Who made a model of what, and what was made of it.
    pub async fn lineage(&self, id: u64) -> Result<LineageView> {
        self.get(&format!("/models/{id}/lineage")).await
    }

    /// Makes a model an input of a draft.
    pub async fn set_input_model(&self, task: &str, name: &str, model: u64) -> Result<ModelUses> {
        let path = format!("/tasks/{}/models/input/{}", part(task), part(name));
        self.send(Method::PUT, &path, &InputModel { model }).await
    }

    /// Removes what nobody refers to, or counts it.
    pub async fn collect_garbage(&self, request: &GarbageRequest) -> Result<GarbageView> {
        self.send(Method::POST, "/gc", request).await
    }

    /// The objects at and below an address that the server may read.
    pub async fn list_objects(&self, uri: &str) -> Result<Vec<ListedObject>> {
        self.json(
            self.request(Method::GET, "/files/listing")
                .query(&[("uri", uri)]),
        )
        .await
    }

    /// Makes a file of an object elsewhere. Waits for as long as reading it takes.
    pub async fn import_object(&self, uri: &str, link: bool) -> Result<ImportedFile> {
        // Nothing comes back until all of it has been read, so that silence means nothing.
        let patient = reqwest::Client::builder()
            .timeout(IMPORT_TIMEOUT)
            .build()
            .expect("with its cryptography chosen, a client has nothing that can fail");
        let uri = uri.to_owned();
        let request = patient
            .post(format!("{}/api/v1/files/import", self.url))
            .bearer_auth(&self.key)
            .json(&ImportRequest { uri, link });
        self.json(request).await
    }

    /// The content of a file.
    pub async fn open_file(
        &self,
        digest: &Digest,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
        let response = self
            .checked(self.request(Method::GET, &format!("/files/{digest}")))
            .await?;
        let url = self.url.clone();
        Ok(response
            .bytes_stream()
            .map_err(move |source| ClientError::Unreachable {
                url: url.clone(),
                source,
            }))
    }

    /// Downloads a file and verifies it. `to` appears whole or not at all.
    pub async fn download(&self, digest: &Digest, to: &Path) -> Result<()> {
        let failed = |source| ClientError::File {
            path: to.display().to_string(),
            source,
        };
        // Two downloads of one file at a time must not write into each other's.
        static DOWNLOADS: AtomicU64 = AtomicU64::new(0);
        let number = DOWNLOADS.fetch_add(1, Ordering::Relaxed);
        let mut partial = to.as_os_str().to_owned();
        partial.push(format!(".{}-{number}.part", std::process::id()));
        let partial = PathBuf::from(partial);
        let done = self.download_to(digest, &partial).await;
        match done {
            Ok(()) => tokio::fs::rename(&partial, to).await.map_err(failed),
            Err(error) => {
                // What is left of a failed download is of no use, and neither is a second error.
                let _ = tokio::fs::remove_file(&partial).await;
                Err(error)
            }
        }
    }

    async fn download_to(&self, digest: &Digest, path: &Path) -> Result<()> {
        use tokio::io::AsyncWriteExt;
        let failed = |source| ClientError::File {
            path: path.display().to_string(),
            source,
        };
        let mut content = std::pin::pin!(self.open_file(digest).await?);
        let mut file = tokio::fs::File::create(path).await.map_err(failed)?;
        let mut hasher = trainshed_core::digest::Hasher::default();
        while let Some(piece) = content.next().await {
            let piece = piece?;
            hasher.update(&piece);
            file.write_all(&piece).await.map_err(failed)?;
        }
        file.sync_all().await.map_err(failed)?;
        if hasher.finish() == *digest {
            Ok(())
        } else {
            Err(ClientError::Damaged(*digest))
        }
    }

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

    /// Ends a task.
    pub async fn finish(&self, task: &TaskId, fence: i64, outcome: &Outcome) -> Result<TaskView> {
        self.send(
            Method::POST,
            &format!("/leases/{task}/{fence}/finish"),
            outcome,
        )
        .await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}/api/v1{path}", self.url))
            .bearer_auth(&self.key)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.json(self.request(Method::GET, path)).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T> {
        self.json(self.request(method, path).json(body)).await
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        let response = self.checked(request).await?;
        self.understood(response).await
    }

    async fn understood<T: DeserializeOwned>(&self, response: Response) -> Result<T> {
        let (url, status) = (response.url().to_string(), response.status().as_u16());
        let body = response
            .bytes()
            .await
            .map_err(|source| self.unreachable(source))?;
        serde_json::from_slice(&body).map_err(|_| ClientError::NotUnderstood { url, status })
    }

    /// Sends the request and turns an error status into the server's own words.
    async fn checked(&self, request: RequestBuilder) -> Result<Response> {
        let response = request
            .send()
            .await
            .map_err(|source| self.unreachable(source))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (url, status) = (response.url().to_string(), response.status().as_u16());
        let body = response
            .bytes()
            .await
            .map_err(|source| self.unreachable(source))?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(ClientError::Refused(Box::new(problem))),
            Err(_) => Err(ClientError::NotUnderstood { url, status }),
        }
    }

    fn unreachable(&self, source: reqwest::Error) -> ClientError {
        ClientError::Unreachable {
            url: self.url.clone(),
            source,
        }
    }
}

fn waiting(wait: Duration) -> Wait {
    Wait {
        wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
    }
}

/// A file as a request body that is streamed.
async fn file_body(path: &Path) -> Result<reqwest::Body> {
    let file = tokio::fs::File::open(path).await;
    let file = file.map_err(|source| ClientError::File {
        path: path.display().to_string(),
        source,
    })?;
    Ok(reqwest::Body::wrap_stream(
        tokio_util::io::ReaderStream::with_capacity(file, 1 << 16),
    ))
}

/// Escapes one part of a path, so that no text from outside can change which call it is.
fn part(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' | b'@' | b':' => {
                escaped.push(char::from(byte));
            }
            b'.' if text != "." && text != ".." => escaped.push('.'),
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_can_leave_its_part_of_the_path() {
        assert_eq!(part("digits-mlp@0.1.0"), "digits-mlp@0.1.0");
        assert_eq!(part("../tasks?x=1"), "..%2Ftasks%3Fx%3D1");
        assert_eq!(part(".."), "%2E%2E");
    }
}
