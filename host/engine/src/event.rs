//! Events: they say *that* a task changed, never what.

use tokio::sync::{Notify, broadcast};
use trainshed_core::{TaskId, WorkspaceId};

/// Events that a slow listener may be behind before it misses some; it then asks for the
/// state as it would have anyway, so the number only has to be small.
const WAITING_EVENTS: usize = 1024;

/// A task changed. A lost or doubled event is harmless: whoever hears it asks for the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Where the task is.
    pub workspace: WorkspaceId,
    /// Which task.
    pub task: TaskId,
}

/// Wakes those who wait for a change. Sleepers look for themselves now and then, too.
#[derive(Debug)]
pub(crate) struct Changes {
    tasks: broadcast::Sender<Event>,
    queued: Notify,
}

impl Changes {
    pub(crate) fn new() -> Self {
        Self {
            tasks: broadcast::Sender::new(WAITING_EVENTS),
            queued: Notify::new(),
        }
    }

    /// Says that a task changed.
    pub(crate) fn task_changed(&self, workspace: &WorkspaceId, task: &TaskId) {
        let event = Event {
            workspace: workspace.clone(),
            task: task.clone(),
        };
        // An error means that nobody listens, which is fine.
        let _ = self.tasks.send(event);
    }

    /// Says that a task waits for an agent.
    pub(crate) fn task_queued(&self) {
        self.queued.notify_waiters();
    }

    /// What is woken when a task begins to wait.
    pub(crate) fn queued(&self) -> &Notify {
        &self.queued
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.tasks.subscribe()
    }
}
