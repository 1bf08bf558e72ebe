//! What tests do with tasks and projects, beside agents.

use trainshed_core::draft::{CloneRequest, TaskEdit};
use trainshed_core::task::{TaskState, Verb};
use trainshed_core::view::{ProjectQuery, TaskView};
use trainshed_core::{ProjectId, TaskId};
use trainshed_store::{ChangeError, Move, NewTask, QueueName};

use crate::lab::{Lab, NOW, draft};

impl Lab {
    pub(crate) async fn insert(&self, task: NewTask) -> TaskId {
        let inserted = self.store.insert_task(&self.workspace, &task, NOW).await;
        inserted.unwrap();
        task.id
    }

    pub(crate) async fn draft(&self, name: &str) -> TaskId {
        self.insert(draft(name, "default")).await
    }

    pub(crate) async fn act(&self, task: &TaskId, verb: Verb) -> Result<bool, ChangeError> {
        self.act_on(task, Move::new(verb)).await
    }

    pub(crate) async fn act_on(
        &self,
        task: &TaskId,
        wanted: Move<'_>,
    ) -> Result<bool, ChangeError> {
        let wanted = match wanted.verb {
            Verb::Enqueue => wanted.into_queue(QueueName::Name("default")),
            _ => wanted,
        };
        self.store
            .move_task(&self.workspace, task, &wanted, NOW)
            .await
    }

    pub(crate) async fn view(&self, task: &TaskId) -> TaskView {
        let task = self.store.task(&self.workspace, task).await.unwrap();
        task.unwrap()
    }

    pub(crate) async fn edit(
        &self,
        task: &TaskId,
        edit: serde_json::Value,
    ) -> Result<(), ChangeError> {
        let edit: TaskEdit = serde_json::from_value(edit).unwrap();
        self.store
            .edit_task(&self.workspace, task, &edit, None, None, NOW)
            .await
    }

    pub(crate) async fn clone(&self, task: &TaskId, request: CloneRequest) -> TaskId {
        let clone = TaskId::from_u128(uuid::Uuid::now_v7().as_u128());
        self.store
            .clone_task(&self.workspace, task, &clone, "a clone", &request, NOW)
            .await
            .unwrap();
        clone
    }

    /// A draft that has been moved to `state`.
    pub(crate) async fn task_in(&self, state: TaskState) -> TaskId {
        let task = self.draft("a task").await;
        let verb = match state {
            TaskState::Created => return task,
            TaskState::Queued => Verb::Enqueue,
            TaskState::InProgress => Verb::Start,
            TaskState::Completed => Verb::Complete,
            TaskState::Failed => Verb::Fail,
            TaskState::Stopped => Verb::Stop,
            TaskState::Published => Verb::Publish,
        };
        self.act_on(&task, Move::new(verb).forced()).await.unwrap();
        assert_eq!(self.state(&task).await, state);
        task
    }

    pub(crate) async fn project_id(&self, path: &str) -> ProjectId {
        let project = self.store.project_at(&self.workspace, path).await.unwrap();
        project.unwrap().id
    }

    /// Paths and numbers of tasks of all projects.
    pub(crate) async fn projects(&self) -> String {
        let query = ProjectQuery {
            children: true,
            limit: 100,
            ..ProjectQuery::default()
        };
        let page = self.store.projects(&self.workspace, &query).await.unwrap();
        let text = |project: &trainshed_core::view::ProjectView| {
            format!("{}:{}", project.name, project.task_count)
        };
        page.items.iter().map(text).collect::<Vec<_>>().join(" ")
    }
}
