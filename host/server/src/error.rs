//! Every error as problem details, in one place.

use axum::extract::OriginalUri;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use trainshed_core::action::ActionError;
use trainshed_core::draft::InvalidField;
use trainshed_core::error::with_causes;
use trainshed_core::query::RequestError;
use trainshed_core::task::TaskState;
use trainshed_engine::{
    AddressError, AppendError, ArtifactError, AskError, ChangeError, DatasetError, DraftError,
    EditError, ExportFailure, ExportTasksError, KeyError, LeaseError, ModelError,
    ProjectChangeError, ProjectError, PushError, PutError, QueryError, ReadingError, Refusal,
    RegistryError, ReportError, ReportsError, StoreError, SubmitError, TakeError, TransferError,
    TuneError, UploadError, VersionError,
};
use trainshed_wire::Problem;

/// An error on its way to the client.
#[derive(Debug)]
pub(crate) struct ApiError(Box<Problem>);

impl ApiError {
    pub(crate) fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem {
            kind: kind.to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            pointer: None,
            position: None,
            hint: None,
            current: None,
            wanted: None,
        }))
    }

    /// A part of the request that cannot be used: where it is and what would be right.
    pub(crate) fn invalid(pointer: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-request", detail).at(pointer)
    }

    /// Something that the path names and that is not there.
    pub(crate) fn missing(what: &str, name: &str) -> Self {
        let short: String = name.chars().take(100).collect();
        Self::new(
            StatusCode::NOT_FOUND,
            &format!("unknown-{}", what.replace(' ', "-")),
            format!("there is no {what} `{short}`"),
        )
    }

    pub(crate) fn at(mut self, pointer: &str) -> Self {
        self.0.pointer = Some(pointer.to_owned());
        self
    }

    fn maybe_at(mut self, pointer: Option<&str>) -> Self {
        self.0.pointer = pointer.map(str::to_owned);
        self
    }

    /// Where a task stands, and where it should have gone.
    fn between(mut self, current: TaskState, wanted: Option<TaskState>) -> Self {
        self.0.current = Some(current);
        self.0.wanted = wanted;
        self
    }

    /// The body of the answer.
    pub(crate) fn into_problem(self) -> Problem {
        *self.0
    }

    pub(crate) fn hint(mut self, hint: Option<String>) -> Self {
        self.0.hint = hint;
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        let body = serde_json::to_vec(&*self.0).expect("a problem is texts and numbers");
        let mut response = (status, content_type, body).into_response();
        if status == StatusCode::TOO_MANY_REQUESTS {
            let second = header::HeaderValue::from_static("1");
            response.headers_mut().insert(header::RETRY_AFTER, second);
        }
        response
    }
}

pub(crate) async fn not_found(OriginalUri(uri): OriginalUri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::new(
        StatusCode::NOT_FOUND,
        "unknown-path",
        format!("there is nothing at `{path}`"),
    )
}

pub(crate) async fn method_not_allowed(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "unknown-method",
        format!("`{path}` does not answer {method}"),
    )
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        use StatusCode as Status;
        let (status, kind) = match &error {
            StoreError::Full { .. } => (Status::INSUFFICIENT_STORAGE, "storage-full"),
            StoreError::Changed { .. } => (Status::CONFLICT, "changed-object"),
            StoreError::Misplaced { .. } => (Status::UNPROCESSABLE_ENTITY, "unusable-address"),
            StoreError::Missing { .. } | StoreError::Damaged { .. } => {
                (Status::INTERNAL_SERVER_ERROR, "storage-damaged")
            }
            StoreError::Unavailable { .. }
            | StoreError::Locked { .. }
            | StoreError::NewerSchema { .. } => (Status::SERVICE_UNAVAILABLE, "store-unavailable"),
        };
        tracing::error!(error = %with_causes(&error), "the store failed");
        let hint = error.hint();
        Self::new(status, kind, with_causes(&error)).hint(hint)
    }
}

impl From<ActionError> for ApiError {
    fn from(error: ActionError) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid-action",
            error.message,
        )
        .at(&error.pointer)
        .hint(error.hint)
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        use StatusCode as Status;
        let (status, kind) = match error {
            SubmitError::Store(source) => return source.into(),
            SubmitError::UnknownPlugin { .. } | SubmitError::NoPlugin { .. } => {
                (Status::UNPROCESSABLE_ENTITY, "unknown-plugin")
            }
            SubmitError::AmbiguousPlugin { .. } => {
                (Status::UNPROCESSABLE_ENTITY, "ambiguous-plugin")
            }
            SubmitError::UnknownAction { .. } => (Status::UNPROCESSABLE_ENTITY, "unknown-action"),
            SubmitError::UnknownDataset { .. } => {
                (Status::UNPROCESSABLE_ENTITY, "unknown-data-set")
            }
            SubmitError::UnknownCheckpoint { .. } | SubmitError::CheckpointElsewhere { .. } => {
                (Status::UNPROCESSABLE_ENTITY, "unknown-model")
            }
            SubmitError::NameTaken { .. } => (Status::CONFLICT, "name-taken"),
            SubmitError::UnknownPrevious(_) => (Status::UNPROCESSABLE_ENTITY, "unknown-task"),
            SubmitError::NotContinuable { .. } => (Status::BAD_REQUEST, "invalid-task-status"),
            SubmitError::Tune(source) => return source.into(),
            SubmitError::NoResources { .. } => (Status::UNPROCESSABLE_ENTITY, "no-resources"),
            SubmitError::Deleted { .. } => (Status::NOT_FOUND, "unknown-task"),
        };
        Self::new(status, kind, error.to_string())
            .hint(error.hint())
            .maybe_at(error.pointer())
    }
}

impl From<ReadingError> for ApiError {
    fn from(error: ReadingError) -> Self {
        match error {
            ReadingError::Store(source) => source.into(),
            ReadingError::UnknownAgent(_) => {
                Self::new(StatusCode::NOT_FOUND, "unknown-agent", error.to_string())
            }
            ReadingError::Invalid(detail) => Self::invalid("/values", detail),
        }
    }
}

impl From<ArtifactError> for ApiError {
    fn from(error: ArtifactError) -> Self {
        let (status, kind) = match error {
            ArtifactError::Store(source) => return source.into(),
            ArtifactError::Lease(source) => return source.into(),
            ArtifactError::Name(_)
            | ArtifactError::ContentType
            | ArtifactError::Source
            | ArtifactError::Uri(_)
            | ArtifactError::Link
            | ArtifactError::Display
            | ArtifactError::Preview(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid-artifact"),
            ArtifactError::UnknownTask(_) => (StatusCode::NOT_FOUND, "unknown-task"),
            ArtifactError::UnknownArtifact { .. } => (StatusCode::NOT_FOUND, "unknown-artifact"),
            ArtifactError::MissingFile(_) => (StatusCode::UNPROCESSABLE_ENTITY, "missing-file"),
            ArtifactError::Refused(_) => (StatusCode::CONFLICT, "read-only"),
        };
        Self::new(status, kind, error.to_string()).maybe_at(error.pointer())
    }
}

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        let hint = error.hint();
        let text = error.to_string();
        let error = match error {
            RegistryError::Field { field, .. } => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                return Self::new(status, "invalid-model", text).at(&format!("/{field}"));
            }
            RegistryError::Model(error) => error,
        };
        let (status, kind) = match error {
            ModelError::Store(source) => return source.into(),
            ModelError::Unknown(_) => (StatusCode::NOT_FOUND, "unknown-model"),
            ModelError::UnknownTask(_) => (StatusCode::NOT_FOUND, "unknown-task"),
            ModelError::NoInput { .. } => (StatusCode::NOT_FOUND, "unknown-model"),
            ModelError::MissingFile(_) => (StatusCode::UNPROCESSABLE_ENTITY, "missing-file"),
            ModelError::Published(_) => (StatusCode::CONFLICT, "read-only"),
            ModelError::ChangedSince(_) => (StatusCode::PRECONDITION_FAILED, "changed-since"),
            ModelError::InUse { .. } => (StatusCode::CONFLICT, "in-use"),
            ModelError::TaskRuns(_) | ModelError::NoDraft { .. } => {
                (StatusCode::CONFLICT, "wrong-state")
            }
        };
        Self::new(status, kind, text).hint(hint)
    }
}

impl From<EditError> for ApiError {
    fn from(error: EditError) -> Self {
        let error = match error {
            EditError::Field(error) => return error.into(),
            EditError::Dataset(error) => error,
        };
        let text = error.to_string();
        let (status, kind, hint) = match error {
            DatasetError::Store(source) => return source.into(),
            DatasetError::Unknown(_) => (
                StatusCode::NOT_FOUND,
                "unknown-data-set",
                Some("`trainshed dataset ls` lists them."),
            ),
            DatasetError::Published(_) => (StatusCode::CONFLICT, "read-only", None),
            DatasetError::ChangedSince(_) => {
                (StatusCode::PRECONDITION_FAILED, "changed-since", None)
            }
            DatasetError::InUse { .. } => (
                StatusCode::CONFLICT,
                "in-use",
                Some("With `force` it is deleted all the same, once no task runs with it."),
            ),
        };
        Self::new(status, kind, text).hint(hint.map(str::to_owned))
    }
}

impl From<AddressError> for ApiError {
    fn from(error: AddressError) -> Self {
        let hint = error.hint();
        let (status, kind) = match error {
            AddressError::Store(source) => return source.into(),
            AddressError::Invalid(_) | AddressError::ReadOnly(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid-address")
            }
            AddressError::NotAllowed(_) => (StatusCode::FORBIDDEN, "address-not-allowed"),
            AddressError::UnknownTask(_) => (StatusCode::NOT_FOUND, "unknown-task"),
        };
        Self::new(status, kind, error.to_string()).hint(hint)
    }
}

impl From<TakeError> for ApiError {
    fn from(error: TakeError) -> Self {
        match error {
            TakeError::Address(error) => error.into(),
            TakeError::Put(error) => error.into(),
            TakeError::Upload(error) => error.into(),
        }
    }
}

impl From<UploadError> for ApiError {
    fn from(error: UploadError) -> Self {
        let hint = error.hint();
        let (status, kind) = match error {
            UploadError::Put(error) => return error.into(),
            UploadError::Unknown(_) => (StatusCode::NOT_FOUND, "unknown-upload"),
            UploadError::Complete(_) => (StatusCode::CONFLICT, "upload-complete"),
            UploadError::Number(_) | UploadError::Beyond { .. } => {
                (StatusCode::BAD_REQUEST, "invalid-part")
            }
            UploadError::WrongChecksum { .. } => {
                (StatusCode::UNPROCESSABLE_ENTITY, "wrong-checksum")
            }
            UploadError::Gap(_) => (StatusCode::CONFLICT, "upload-incomplete"),
        };
        Self::new(status, kind, error.to_string()).hint(hint)
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let hint = error.hint();
        match error {
            QueryError::Store(source) => source.into(),
            QueryError::Cursor(cursor) => Self::invalid("after", cursor.to_string()).hint(hint),
        }
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        let kind = match error {
            RequestError::Syntax { .. } => "invalid-query-text",
            RequestError::Part(_) => "invalid-request",
        };
        let mut refusal = Self::new(StatusCode::BAD_REQUEST, kind, error.to_string());
        refusal.0.position = error.position().map(|position| position as u64);
        refusal.at(error.pointer())
    }
}

impl From<ExportFailure> for ApiError {
    fn from(error: ExportFailure) -> Self {
        match error {
            ExportFailure::Query(error) => error.into(),
            ExportFailure::File(_) => {
                tracing::error!(error = %with_causes(&error), "an export failed");
                let detail = with_causes(&error);
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "not-exported", detail)
            }
        }
    }
}

impl From<ExportTasksError> for ApiError {
    fn from(error: ExportTasksError) -> Self {
        match error {
            ExportTasksError::Request(error) => error.into(),
            ExportTasksError::Query(error) => error.into(),
            ExportTasksError::Transfer(error) => error.into(),
        }
    }
}

impl From<TransferError> for ApiError {
    fn from(error: TransferError) -> Self {
        use StatusCode as Status;
        let (hint, detail) = (error.hint(), with_causes(&error));
        let (status, kind) = match error {
            TransferError::Store(source) => return source.into(),
            TransferError::Put(source) => return source.into(),
            TransferError::Unknown(_) => (Status::NOT_FOUND, "unknown-task"),
            TransferError::Busy { .. } => (Status::BAD_REQUEST, "invalid-task-status"),
            TransferError::Nothing => (Status::NOT_FOUND, "nothing-to-export"),
            TransferError::Invalid(_) => (Status::UNPROCESSABLE_ENTITY, "invalid-archive"),
            TransferError::NotOne(_) => (Status::UNPROCESSABLE_ENTITY, "not-one-task"),
            TransferError::Published(_) => (Status::CONFLICT, "read-only"),
            TransferError::Overlap { .. } => (Status::CONFLICT, "iterations-overlap"),
            TransferError::DamagedFile(_) => (Status::INTERNAL_SERVER_ERROR, "storage-damaged"),
            TransferError::Archive { verb: "read", .. } => {
                (Status::BAD_REQUEST, "upload-broken-off")
            }
            TransferError::Archive { .. } => (Status::SERVICE_UNAVAILABLE, "store-unavailable"),
        };
        Self::new(status, kind, detail).hint(hint)
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        use StatusCode as Status;
        let (hint, detail) = (error.hint(), error.to_string());
        let refused = |status, kind| Self::new(status, kind, detail).hint(hint);
        let invalid_status = (Status::BAD_REQUEST, "invalid-task-status");
        match error {
            ChangeError::Store(source) => source.into(),
            ChangeError::UnknownTask(_) => refused(Status::NOT_FOUND, "unknown-task"),
            ChangeError::State { state, verb, .. } => {
                refused(invalid_status.0, invalid_status.1).between(state, Some(verb.target()))
            }
            ChangeError::NotEditable { state, .. } => {
                let wanted = Some(TaskState::Created);
                refused(invalid_status.0, invalid_status.1).between(state, wanted)
            }
            ChangeError::NotDeletable { state, .. } => {
                refused(invalid_status.0, invalid_status.1).between(state, None)
            }
            ChangeError::NameTaken { .. } => refused(Status::CONFLICT, "name-taken"),
            ChangeError::UnknownQueue(_) => {
                refused(Status::BAD_REQUEST, "unknown-queue").at("/queue")
            }
            ChangeError::UnknownParent(_) => {
                refused(Status::BAD_REQUEST, "unknown-task").at("/parent")
            }
            ChangeError::CircularParent { .. } => {
                refused(Status::BAD_REQUEST, "circular-parent").at("/parent")
            }
            ChangeError::ChangedSince { .. } => {
                refused(Status::PRECONDITION_FAILED, "changed-since")
            }
            ChangeError::TooMany(_) => refused(Status::UNPROCESSABLE_ENTITY, "too-many"),
        }
    }
}

impl From<InvalidField> for ApiError {
    fn from(error: InvalidField) -> Self {
        Self::invalid(&error.pointer, error.message)
    }
}

impl From<DraftError> for ApiError {
    fn from(error: DraftError) -> Self {
        match error {
            DraftError::Field(error) => error.into(),
            DraftError::Action(error) => error.into(),
            DraftError::Submit(error) => error.into(),
            DraftError::Destination(error) => Self::from(error).at("/output_destination"),
            DraftError::Change(error) => error.into(),
        }
    }
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        let (status, kind, hint) = match &error {
            KeyError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "", None),
            KeyError::Unknown(_) => (
                StatusCode::NOT_FOUND,
                "unknown-key",
                Some("`trainshed key ls` lists them."),
            ),
            KeyError::Last => (
                StatusCode::CONFLICT,
                "last-key",
                Some("Make another one first: `trainshed key create NAME`."),
            ),
            KeyError::TooMany => (
                StatusCode::CONFLICT,
                "too-many-keys",
                Some("Take those back that nobody uses: `trainshed key revoke ID`."),
            ),
        };
        match error {
            KeyError::Store(source) => source.into(),
            error => Self::new(status, kind, error.to_string()).hint(hint.map(str::to_owned)),
        }
    }
}

impl From<ProjectError> for ApiError {
    fn from(error: ProjectError) -> Self {
        let hint = error.hint();
        let (status, kind) = match error {
            ProjectError::Store(source) => return source.into(),
            ProjectError::Unknown(_) => (StatusCode::NOT_FOUND, "unknown-project"),
            ProjectError::Taken(_) => (StatusCode::CONFLICT, "name-taken"),
            ProjectError::Inside { .. } | ProjectError::TooLong(_) => {
                (StatusCode::BAD_REQUEST, "invalid-request")
            }
            ProjectError::ChangedSince(_) => (StatusCode::PRECONDITION_FAILED, "changed-since"),
            ProjectError::NotEmpty { .. } => (StatusCode::CONFLICT, "project-not-empty"),
        };
        Self::new(status, kind, error.to_string()).hint(hint)
    }
}

impl From<ProjectChangeError> for ApiError {
    fn from(error: ProjectChangeError) -> Self {
        match error {
            ProjectChangeError::Field(error) => error.into(),
            ProjectChangeError::Destination(error) => Self::from(error).at("/default_output"),
            ProjectChangeError::Project(error) => error.into(),
        }
    }
}

impl From<AskError> for ApiError {
    fn from(error: AskError) -> Self {
        use StatusCode as Status;
        let hint = error.hint();
        let detail = error.to_string();
        let refused = |status, kind| Self::new(status, kind, detail).hint(hint);
        match error {
            AskError::Store(source) => source.into(),
            AskError::Field(error) => error.into(),
            AskError::Tune(error) => error.into(),
            AskError::Submit(error) => error.into(),
            AskError::Unknown(_) => refused(Status::NOT_FOUND, "unknown-experiment"),
            AskError::OfAgents(_) => refused(Status::CONFLICT, "trials-of-agents"),
            AskError::Refused(Refusal::UnknownTrial { .. }) => {
                refused(Status::NOT_FOUND, "unknown-trial")
            }
            AskError::Refused(Refusal::StaleAttempt { .. }) => {
                refused(Status::CONFLICT, "stale-attempt")
            }
            AskError::Refused(Refusal::NoIteration { .. }) | AskError::Invalid(_) => {
                refused(Status::UNPROCESSABLE_ENTITY, "invalid-report")
            }
            AskError::Busy => refused(Status::TOO_MANY_REQUESTS, "busy"),
        }
    }
}

impl From<TuneError> for ApiError {
    fn from(error: TuneError) -> Self {
        let hint = error.hint();
        let (status, kind) = match error {
            TuneError::Store(source) => return source.into(),
            TuneError::UnknownTask(_) => (StatusCode::NOT_FOUND, "unknown-task"),
            TuneError::NotTune(_) => (StatusCode::NOT_FOUND, "no-tune-action"),
            TuneError::Definition(_) => (StatusCode::CONFLICT, "invalid-action"),
            TuneError::UnknownTrial(_) => (StatusCode::UNPROCESSABLE_ENTITY, "unknown-trial"),
            TuneError::OtherConfig { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "other-config"),
            TuneError::Published(_) => (StatusCode::CONFLICT, "published"),
            TuneError::NotResumable(_) => (StatusCode::CONFLICT, "not-resumable"),
            TuneError::Busy => (StatusCode::TOO_MANY_REQUESTS, "busy"),
        };
        Self::new(status, kind, error.to_string()).hint(hint)
    }
}

impl From<LeaseError> for ApiError {
    fn from(error: LeaseError) -> Self {
        let hint = error.hint();
        let (status, kind) = match error {
            LeaseError::Store(source) => return source.into(),
            LeaseError::UnknownTask(_) => (StatusCode::NOT_FOUND, "unknown-task"),
            LeaseError::UnknownAgent(_) => (StatusCode::NOT_FOUND, "unknown-agent"),
            LeaseError::Stale { .. } => (StatusCode::CONFLICT, "stale-lease"),
            LeaseError::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid-report"),
            LeaseError::MissingFile { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "missing-file"),
            LeaseError::NotYet(_) => (StatusCode::TOO_EARLY, "model-not-reported"),
            LeaseError::Busy => (StatusCode::TOO_MANY_REQUESTS, "busy"),
        };
        Self::new(status, kind, error.to_string()).hint(hint)
    }
}

impl From<AppendError> for ApiError {
    fn from(error: AppendError) -> Self {
        let hint = error.hint();
        let (status, kind) = match error {
            AppendError::Store(source) => return source.into(),
            AppendError::UnknownTask(_) => (StatusCode::NOT_FOUND, "unknown-task"),
            AppendError::Published(_) => (StatusCode::CONFLICT, "read-only"),
            AppendError::TooMany => (StatusCode::UNPROCESSABLE_ENTITY, "too-many-curves"),
            AppendError::Busy => (StatusCode::TOO_MANY_REQUESTS, "busy"),
        };
        Self::new(status, kind, error.to_string()).hint(hint)
    }
}

impl From<ReportsError> for ApiError {
    fn from(error: ReportsError) -> Self {
        match error {
            ReportsError::Field(error) => error.into(),
            ReportsError::Put(error) => error.into(),
            ReportsError::Store(error) => error.into(),
            ReportsError::Report(ReportError::Refused(error)) => error.into(),
            ReportsError::Report(error @ ReportError::Published(_)) => {
                let hint = error.hint();
                Self::new(StatusCode::CONFLICT, "read-only", error.to_string()).hint(hint)
            }
        }
    }
}

impl From<PutError> for ApiError {
    fn from(error: PutError) -> Self {
        let hint = error.hint();
        let (status, kind) = match error {
            PutError::Store(source) => return source.into(),
            PutError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
            PutError::WrongSize { .. } => (StatusCode::BAD_REQUEST, "wrong-size"),
            PutError::WrongDigest { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "wrong-digest"),
            PutError::BrokenOff { .. } => (StatusCode::BAD_REQUEST, "upload-broken-off"),
        };
        Self::new(status, kind, with_causes(&error)).hint(hint)
    }
}

impl From<PushError> for ApiError {
    fn from(error: PushError) -> Self {
        let hint = error.hint();
        let (status, kind) = match error {
            PushError::Store(source) => return source.into(),
            PushError::MissingFile(_) => (StatusCode::UNPROCESSABLE_ENTITY, "missing-file"),
            PushError::Refused(_) | PushError::Manifest(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid-plugin")
            }
            PushError::VersionTaken { .. } => (StatusCode::CONFLICT, "version-taken"),
            PushError::Inspection(_) => (StatusCode::SERVICE_UNAVAILABLE, "not-inspected"),
        };
        Self::new(status, kind, error.to_string()).hint(hint)
    }
}

impl From<VersionError> for ApiError {
    fn from(error: VersionError) -> Self {
        let (status, kind) = match error {
            VersionError::Store(source) => return source.into(),
            VersionError::MissingFile { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "missing-file"),
            VersionError::Name(_)
            | VersionError::Description(_)
            | VersionError::About(_)
            | VersionError::Files(_)
            | VersionError::UnknownParent(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid-data-set")
            }
        };
        Self::new(status, kind, error.to_string())
            .hint(error.hint())
            .maybe_at(error.pointer())
    }
}
