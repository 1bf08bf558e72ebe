//! Calls that outlast a server that is away.

use std::future::Future;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use trainshed_wire::ClientError;

/// Repeats `call` until the server answers it, with growing pauses of at most five seconds.
///
/// Only for calls that are harmless to repeat.
///
/// # Errors
/// What the server refused; see [`ClientError::is_passing`].
pub(crate) async fn until_answered<T, F: Future<Output = Result<T, ClientError>>>(
    call: impl FnMut() -> F,
) -> Result<T, ClientError> {
    let pauses = ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(5))
        .without_max_times();
    call.retry(pauses)
        .when(ClientError::is_passing)
        .notify(|error, pause| tracing::debug!(%error, ?pause, "the server did not answer; trying again"))
        .await
}
