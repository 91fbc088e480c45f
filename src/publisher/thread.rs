//! The publisher's thread: the sender, the keeper of the spool, and the log of problems.

use std::sync::Arc;

use super::outbox::Outbox;
use super::sender::{self, Sender};
use super::shared::Shared;

/// Niceness of this thread, and of the client library's threads that it starts.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Lets the callers' threads go first where both need a processor: a caller that has to wait for this thread is slow. Does nothing
/// where the system does not allow it.
pub(super) fn yield_to_callers() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
}

/// Reports the end of the thread, also after a panic.
struct ReportsEnd(Arc<Shared>);

impl Drop for ReportsEnd {
    fn drop(&mut self) {
        if self.0.ended.borrow().is_none() {
            tracing::error!("the publisher's thread panicked, nothing is published any more: this is a bug");
            let left = self.0.buffer.take(usize::MAX, usize::MAX);
            self.0.ended.send_replace(Some(left.iter().map(|message| message.event_id.clone()).collect()));
        }
        self.0.buffer.close();
        self.0.set_outage(Some("the publisher has ended".to_owned()));
    }
}

/// Runs until the publisher is closed, or dropped and empty.
pub(super) async fn run(outbox: Outbox, sender: Sender) {
    let shared = outbox.shared.clone();
    let _end = ReportsEnd(shared.clone());
    let connecting = tokio::select! {
        connecting = sender.run(&outbox) => connecting,
        () = outbox.keep() => None,
        () = shared.log_problems() => None,
    };
    let lost = outbox.finish();
    shared.log_now();
    shared.ended.send_replace(Some(lost));
    // Callers do not wait for this.
    if let Some(connecting) = connecting
        && let Ok(connection) = connecting.await
    {
        sender::close(&connection).await;
    }
}
